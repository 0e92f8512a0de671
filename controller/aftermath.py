"""Between a procedure and its result: CTs as they are analysed, and what is told when all is over.

Shared by a rehearsal and a real procedure; knows neither devices nor the simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from controller.commands import RequestScan
from controller.events import ScanAnalysed, ScanUnusable
from controller.heavy_work import Heavy
from controller.journal import read_journal
from controller.procedure import Procedure
from controller.replay import findings_of
from controller.result import DoseResult, FoundSeed, RoundRecord, SeedRecord
from imaging.postplan import dose_of_the_day
from imaging.rescan import RescanFindings
from planning.anatomy import Anatomy
from planning.frame import RigidTransform
from planning.plan import Plan, Point, rounded_point
from planning.refusal import AskedWrongly
from planning.sources import SeedSource

SCAN_MARGIN_MM = 25.0
"""A rescan covers target, needles in tissue and this much more."""


class ScanAnalyst:
    """What each CT of a procedure shows; remembers folders, findings and where the last one lay.

    Args:
        heavy: looks into a series.
        timed: keeps the wall time of a step.
    """

    def __init__(self, heavy: Heavy, timed: Callable[[str], AbstractContextManager[None]]) -> None:
        self._heavy, self._timed = heavy, timed
        self._start_pose: RigidTransform | None = None
        self.folders: dict[int, Path] = {}
        self.findings: dict[int, RescanFindings] = {}

    def analyse(
        self, command: RequestScan, folder: Path, label: str, procedure: Procedure
    ) -> ScanAnalysed | ScanUnusable:
        """Of the series in ``folder``, which the journal shall know as ``label``. Raises HeavyWorkLost."""
        self.folders[command.scan] = folder
        with self._timed("analysis of the CT"):
            try:
                findings = self._heavy.analyse(
                    folder,
                    "seeds" if command.kind == "seeds" else "needles",
                    procedure.expected_tips(),
                    procedure.expected_seeds(),
                    self._start_pose,
                )
            except AskedWrongly as problem:
                return ScanUnusable(command.number, str(problem))
        self.findings[command.scan] = findings
        if findings.registered:
            self._start_pose = RigidTransform.from_matrix(findings.plan_from_scan)
        return ScanAnalysed(command.number, label, findings)

    def recall(self, journal: Path, beside: Path) -> None:
        """Take over what an interrupted procedure has analysed, from its journal.

        Args:
            beside: the folder that the journaled labels of the series start from.
        """
        scan_of: dict[int, int] = {}
        for record in read_journal(journal):
            if record.body.get("command") == "RequestScan" and record.kind == "intention":
                scan_of[record.body["number"]] = record.body["scan"]
            elif record.body.get("event") == "ScanAnalysed" and record.body["number"] in scan_of:
                scan = scan_of[record.body["number"]]
                self.folders[scan] = beside / record.body["folder"]
                self.findings[scan] = findings = findings_of(record.body["findings"])
                if findings.registered:
                    self._start_pose = RigidTransform.from_matrix(findings.plan_from_scan)


def scan_range_mm(plan: Plan, anatomy: Anatomy) -> tuple[float, float]:
    """Patient z range of the rescans: target and needles in tissue, with a margin, within the planning CT."""
    z = [point[2] for needle in plan.needles for point in (needle.entry_mm, needle.tip_mm)]
    planes = anatomy.grid.centres_mm(2)
    target = planes[anatomy.ctv.any(axis=(1, 2))]
    low, high = min(*z, float(target[0])), max(*z, float(target[-1]))
    return max(low - SCAN_MARGIN_MM, float(planes[0])), min(high + SCAN_MARGIN_MM, float(planes[-1]))


class Stopwatch:
    """Wall seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def rounds_of(procedure: Procedure, analyst: ScanAnalyst) -> tuple[RoundRecord, ...]:
    """Every CT as the procedure judged it, from the procedure's own record."""
    return tuple(
        RoundRecord(
            scan_number=judged.scan,
            kind=judged.kind,
            folder=analyst.folders[judged.scan],
            slice_thickness_mm=analyst.findings[judged.scan].identity.slice_thickness_mm,
            deviations=judged.deviations,
            found_tips_mm=judged.found_tips_mm,
            found_directions=judged.found_directions,
            corrected=judged.corrected,
            scan_from_plan=RigidTransform.from_matrix(analyst.findings[judged.scan].plan_from_scan).inverse(),
        )
        for judged in procedure.known.judged
        if judged.scan in analyst.findings
    )


def post_plan(
    procedure: Procedure, analyst: ScanAnalyst, anatomy: Anatomy, source: SeedSource
) -> tuple[tuple[SeedRecord, ...], tuple[Point, ...], DoseResult | None]:
    """Each planned seed's fate, seeds nobody planned, and the dose of what was found."""
    plan, known = procedure.known.plan, procedure.known
    findings = analyst.findings.get(known.scans) if procedure.state == "COMPLETED" else None
    found = {} if findings is None else {s.number: s for s in findings.seeds if s.number is not None}
    records = []
    for needle in plan.needles:
        for seed in needle.seeds:
            match = found.get(seed.number)
            at = None if match is None else rounded_point(match.centre_mm)
            records.append(
                SeedRecord(
                    number=seed.number,
                    needle=needle.name,
                    planned_mm=seed.centre_mm,
                    outcome="PASS" if seed.number in known.seeds_delivered else "not delivered",
                    found_mm=at,
                    distance_mm=None
                    if at is None
                    else float(np.linalg.norm(np.subtract(at, seed.centre_mm))),
                )
            )
    if findings is None:
        return tuple(records), (), None
    extra = tuple(rounded_point(s.centre_mm) for s in findings.seeds if s.number is None)
    centres = np.array([s.centre_mm for s in findings.seeds]).reshape(-1, 3)
    axes = np.array([s.direction for s in findings.seeds]).reshape(-1, 3)
    dose, grid, statistics = dose_of_the_day(
        source, centres, axes, plan.air_kerma_strength_u, anatomy, plan.prescription_gy
    )
    seen = tuple(
        FoundSeed(s.number, rounded_point(s.centre_mm), (float(axis[0]), float(axis[1]), float(axis[2])))
        for s, axis in zip(findings.seeds, axes, strict=True)
    )
    return tuple(records), extra, DoseResult(dose, grid, statistics, seen)


def count_in_journal(path: Path) -> int:
    """Seeds whose delivery the journal tells as PASS: counted from the file, not from memory."""
    return sum(
        record.body.get("event") == "SeedDropped" and record.body.get("outcome") == "PASS"
        for record in read_journal(path)
        if record.kind == "event"
    )


def holds_in_journal(path: Path) -> tuple[str, ...]:
    """Why the procedure was held, each time, in order."""
    return tuple(
        str(record.body.get("because", ""))
        for record in read_journal(path)
        if record.kind == "decision" and record.body.get("to") == "HELD"
    )
