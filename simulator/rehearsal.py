"""A whole implantation against the simulated world: the one file where controller and simulator meet.

The controller's side is the real one (procedure, interlocks, journal, drivers); across the wires stand simulated
firmware, patient and scanner. In-process, time is virtual and every run with the same seed is the same run.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.journal import Journal, read_journal
from controller.knowledge import ProcedureSettings
from controller.ports import Aside, PortTransport
from controller.procedure import Procedure
from controller.result import DoseResult, ProcedureResult, Progress, RoundRecord, SeedRecord
from controller.session import Session
from controller.snapshot import Snapshot
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.port import Port
from drivers.rig import RigDriver
from imaging.postplan import dose_of_the_day
from imaging.rescan import RescanFindings, analyse_rescan
from planning.anatomy import Anatomy, build_anatomy
from planning.dicom import Case, read_case
from planning.frame import RigidTransform
from planning.plan import Plan, Point, rounded_point
from planning.plan_folder import insertion_day, write_plan_folder
from planning.planner import make_plan
from planning.refusal import AskedWrongly
from planning.site_protocol import load_site_protocol
from planning.sources import SeedSource, load_source
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.error_population import ErrorPopulation
from simulator.grbl_firmware import GrblFirmware
from simulator.world import World

SCAN_TAKES_S = 120.0
"""From the request of a CT to its analysis, on the procedure's clock (assumed)."""
HANDS_TAKE_S = {"confirm_time_out": 60.0, "seat_cartridge": 20.0, "couple_applicator": 15.0}
"""How long people take for what they are asked (assumed); 8 s for anything else."""
CARTRIDGE_CAPACITY, DETENT_UM, GAUGE = 15, 5000, 18
"""Of the simulated applicator (assumed; published capacities are 15 and 20)."""
SCAN_MARGIN_MM = 25.0
"""A rescan covers target, needles in tissue and this much more."""


@dataclass(frozen=True)
class RehearsalOptions:
    """What ``seedguide rehearse`` was asked for; None = what the site protocol or chance says."""

    case: Path
    out: Path
    seed: int = 1
    target: str | None = None
    margin_mm: float | None = None
    rx_gy: float | None = None
    activity_mci: float | None = None
    protocol: str = "head-and-neck"
    slice_mm: float = 1.25
    door: str = "inprocess"
    speed: float | None = None
    max_attempts: int = 5
    setup_error_mm: float | None = None
    population: ErrorPopulation | None = None


class VirtualTransport:
    """Both wires in this process: time jumps to the next moment at which somebody wants to be woken."""

    def __init__(
        self,
        rig: tuple[RigDriver, GrblFirmware],
        applicator: tuple[ApplicatorDriver, ApplicatorFirmware],
    ) -> None:
        self._pairs: tuple[tuple[Any, Any], ...] = (rig, applicator)
        self._now_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def exchange(self) -> bool:
        moved = False
        for driver, device in self._pairs:
            while True:
                out = driver.take()
                if out:
                    device.receive(out, self._now_ns)
                back = device.take()
                if back:
                    driver.receive(back, self._now_ns)
                if not out and not back:
                    break
                moved = True
        return moved

    def lost(self) -> list[tuple[str, str]]:
        return []

    def wait(self, wake_ns: int | None) -> None:
        wakes = [device.next_wake() for _, device in self._pairs]
        due = [wake for wake in (*wakes, wake_ns) if wake is not None]
        if not due:
            raise RuntimeError("deadlock: nobody in the simulated world waits for anything")
        self._now_ns = max(self._now_ns, min(due))
        for _, device in self._pairs:
            wake = device.next_wake()
            if wake is not None and wake <= self._now_ns:
                device.wake(self._now_ns)


Hands = Callable[[dict[str, Any]], dict[str, Any]]


class AutomaticOperator:
    """Does at once what the screen asks for, with the theatre's hands. For simulated devices only."""

    is_automatic = True
    name = "auto"

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        request = {
            "do": command.task,
            "needle": command.needle,
            "count": command.count,
            "returned": command.returned,
        }
        answer = self._hands(request)
        took_ns = round(HANDS_TAKE_S.get(command.task, 8.0) * 1e9)
        if answer.get("done"):
            return OperatorConfirmed(command.number, self.name), took_ns
        return OperatorDeclined(command.number, self.name, _why(answer)), took_ns


def _why(answer: dict[str, Any]) -> str:
    return str(answer.get("why") or answer.get("error") or "no reason given")


class SimulatedScanner:
    """Asks the theatre for a CT, and imaging for what is in it; keeps every scan's folder."""

    def __init__(
        self,
        hands: Hands,
        case: Case,
        anatomy: Anatomy,
        plan: Plan,
        options: RehearsalOptions,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._hands = hands
        self._case = case
        self._plan = plan
        self._options = options
        self._timed = timed
        self._range_mm = _scan_range_mm(plan, anatomy)
        self._start = insertion_day(case)
        self._start_pose: RigidTransform | None = None
        self.folders: dict[int, Path] = {}
        self.findings: dict[int, RescanFindings] = {}

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        name = f"{command.scan:02d}-{command.kind}"
        folder = self._options.out / "scans" / name
        folder.parent.mkdir(exist_ok=True)
        low, high = self._range_mm
        request = {
            "do": "scan",
            "folder": str(folder),
            "number": command.scan,
            "slice_mm": self._options.slice_mm,
            "z_low_mm": low,
            "z_high_mm": high,
            "when": (self._start + timedelta(minutes=3 * command.scan)).isoformat(timespec="seconds"),
            "seed": self._options.seed,
        }
        took_ns = round(SCAN_TAKES_S * 1e9)
        with self._timed("simulated CT"):
            answer = self._hands(request)
        if not answer.get("done"):
            return ScanUnusable(command.number, _why(answer)), took_ns
        self.folders[command.scan] = folder
        with self._timed("analysis of the CT"):
            try:
                findings = analyse_rescan(
                    folder,
                    self._case.ct,
                    self._plan,
                    kind="seeds" if command.kind == "seeds" else "needles",
                    expected_tips_mm=procedure.expected_tips(),
                    expected_seeds_mm=procedure.expected_seeds(),
                    start=self._start_pose,
                )
            except AskedWrongly as problem:
                return ScanUnusable(command.number, str(problem)), took_ns
        self.findings[command.scan] = findings
        if findings.registered:
            self._start_pose = RigidTransform.from_matrix(findings.plan_from_scan)
        return ScanAnalysed(command.number, f"scans/{name}", findings), took_ns


def _scan_range_mm(plan: Plan, anatomy: Anatomy) -> tuple[float, float]:
    """Patient z range of the rescans: target and needles in tissue, with a margin, within the planning CT."""
    z = [point[2] for needle in plan.needles for point in (needle.entry_mm, needle.tip_mm)]
    planes = anatomy.grid.centres_mm(2)
    target = planes[anatomy.ctv.any(axis=(1, 2))]
    low, high = min(*z, float(target[0])), max(*z, float(target[-1]))
    return max(low - SCAN_MARGIN_MM, float(planes[0])), min(high + SCAN_MARGIN_MM, float(planes[-1]))


class _Stopwatch:
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


def rehearse(options: RehearsalOptions, listener: Callable[[Progress], None]) -> ProcedureResult:
    """Read, plan, guide, move, judge.

    Args:
        options: ``out`` must exist and be empty; everything is written there.
        listener: gets the news.

    Raises:
        AskedWrongly: anything wrong with the input; nothing is written before the input is known to be good.
    """
    watch = _Stopwatch()
    with watch.timed("read"):
        listener(Progress("read", f"Reading {options.case}"))
        protocol = load_site_protocol(options.protocol)
        source = load_source(protocol.source_model)
        case = read_case(options.case)
        margin_mm = protocol.margin_mm if options.margin_mm is None else options.margin_mm
        anatomy = build_anatomy(case, protocol, target=options.target, margin_mm=margin_mm)
    with watch.timed("plan"):
        planned = make_plan(
            case,
            anatomy,
            protocol,
            source=source,
            activity_mci=options.activity_mci,
            prescription_gy=options.rx_gy,
            margin_mm=margin_mm,
            progress=lambda text, part: listener(Progress("plan", text, fraction=part)),
        )
    with watch.timed("write the plan"):
        listener(Progress("plan", "Writing plan and RT objects"))
        write_plan_folder(options.out, case, anatomy, planned)
    with watch.timed("procedure"), ExitStack() as stack:
        session, scanner, hands = _set_up(options, case, anatomy, planned.plan, watch, listener, stack)
        try:
            session.run()
        finally:
            session.journal.close()
        truth = hands({"do": "truth"})
    procedure = session.procedure
    with watch.timed("post-plan"):
        listener(Progress("post-plan", "Dose of the day", session.snapshot()))
        rounds = _rounds(options, procedure, scanner)
        seeds, extra, delivered = _post_plan(procedure, scanner, anatomy, source)
    inside = sum(watch.seconds.get(step, 0.0) for step in ("simulated CT", "analysis of the CT"))
    watch.seconds["procedure"] = watch.seconds["procedure"] - inside
    watch.seconds = {("devices and control" if k == "procedure" else k): v for k, v in watch.seconds.items()}
    return ProcedureResult(
        status="completed" if procedure.state == "COMPLETED" else "held",
        reason=procedure.known.held_because,
        folder=options.out,
        ct=case.ct,
        anatomy=anatomy,
        plan=planned.plan,
        planned=DoseResult(planned.dose, planned.dose_grid, planned.statistics),
        delivered=delivered,
        rounds=rounds,
        seeds=seeds,
        unplanned_seeds_mm=extra,
        seeds_in_journal=_seeds_in_journal(options.out / "journal.sqlite"),
        digest=session.journal.digest,
        seconds=watch.seconds,
        faults=tuple(session.faults),
        final=session.snapshot(),
        true_tips_mm={name: rounded_point(tip) for name, tip in truth.get("verified_tips_mm", {}).items()}
        or None,
    )


def _set_up(
    options: RehearsalOptions,
    case: Case,
    anatomy: Anatomy,
    plan: Plan,
    watch: _Stopwatch,
    listener: Callable[[Progress], None],
    stack: ExitStack,
) -> tuple[Session, SimulatedScanner, Hands]:
    """Procedure and journal on this side, the simulated room on the other, wires between them."""
    population = options.population or ErrorPopulation()
    if options.setup_error_mm is not None:
        population = replace(population, setup_magnitude_mm=options.setup_error_mm)
    journal = Journal(options.out / "journal.sqlite")
    settings = ProcedureSettings(max_attempts=options.max_attempts, cartridge_capacity=CARTRIDGE_CAPACITY)
    journal.append(
        0,
        "opened",
        {
            "plan": plan.content_hash,
            "seed": options.seed,
            "settings": asdict(settings),
            "slice_mm": options.slice_mm,
            "population": asdict(population),
        },
    )
    procedure = Procedure(plan, settings)
    session_id = hashlib.sha256(f"{plan.content_hash}:{options.seed}".encode()).hexdigest()[:4].upper()
    rig = RigDriver(RigConfig())
    applicator = ApplicatorDriver(ApplicatorConfig(CARTRIDGE_CAPACITY, DETENT_UM, GAUGE), session_id)
    transport: VirtualTransport | PortTransport
    hands: Hands
    if options.door == "ports":
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seedguide-")))
        hands = _start_bench(options, plan, population, folder, stack)
        ends: dict[str, tuple[RigDriver | ApplicatorDriver, Port]] = {
            "rig": (rig, Port(str(folder / "rig"))),
            "applicator": (applicator, Port(str(folder / "applicator"))),
        }
        transport = PortTransport(ends, speed=options.speed or 1.0)
        stack.callback(transport.close)
    else:
        world = World(options.case, plan.patient_from_rig, population, options.seed)
        hands = world.theatre.handle
        transport = VirtualTransport((rig, world.rig), (applicator, world.applicator))
    scanner = SimulatedScanner(hands, case, anatomy, plan, options, watch.timed)

    def told(snapshot: Snapshot) -> None:
        listener(Progress(snapshot.state.lower(), snapshot.message, snapshot))

    session = Session(
        procedure,
        journal,
        rig=rig,
        applicator=applicator,
        transport=transport,
        operator=AutomaticOperator(hands),
        scanner=scanner,
        listener=told,
        aside=Aside() if options.door == "ports" else None,
    )
    return session, scanner, hands


def _start_bench(
    options: RehearsalOptions, plan: Plan, population: ErrorPopulation, folder: Path, stack: ExitStack
) -> Hands:
    """The simulated room as a process of its own; the returned hands reach it through its socket."""
    spec = {
        "case": str(options.case.resolve()),
        "patient_from_rig": plan.patient_from_rig,
        "population": asdict(population),
        "seed": options.seed,
        "folder": str(folder),
        "speed": options.speed or 1.0,
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    bench = subprocess.Popen([sys.executable, "-m", "simulator.bench", str(folder / "spec.json")])
    stack.callback(bench.wait)
    stack.callback(bench.terminate)
    address = folder / "theatre"
    while not address.exists():
        if bench.poll() is not None:
            raise RuntimeError(f"the simulated devices did not start (exit status {bench.returncode})")
        time.sleep(0.05)
    link = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    link.connect(str(address))
    words = stack.enter_context(link.makefile("rwb"))

    def hands(request: dict[str, Any]) -> dict[str, Any]:
        words.write(json.dumps(request).encode() + b"\n")
        words.flush()
        answer: dict[str, Any] = json.loads(words.readline())
        return answer

    return hands


def _rounds(
    options: RehearsalOptions, procedure: Procedure, scanner: SimulatedScanner
) -> tuple[RoundRecord, ...]:
    """Every CT as the procedure judged it, from the procedure's own record."""
    return tuple(
        RoundRecord(
            scan_number=judged.scan,
            kind=judged.kind,
            folder=scanner.folders[judged.scan],
            slice_thickness_mm=options.slice_mm,
            deviations=judged.deviations,
            found_tips_mm=judged.found_tips_mm,
            found_directions=judged.found_directions,
            corrected=judged.corrected,
            scan_from_plan=RigidTransform.from_matrix(scanner.findings[judged.scan].plan_from_scan).inverse(),
        )
        for judged in procedure.known.judged
        if judged.scan in scanner.folders
    )


def _post_plan(
    procedure: Procedure, scanner: SimulatedScanner, anatomy: Anatomy, source: SeedSource
) -> tuple[tuple[SeedRecord, ...], tuple[Point, ...], DoseResult | None]:
    """Each planned seed's fate, seeds nobody planned, and the dose of what was found."""
    plan, known = procedure.known.plan, procedure.known
    findings = scanner.findings.get(known.scans) if procedure.state == "COMPLETED" else None
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
    return tuple(records), extra, DoseResult(dose, grid, statistics)


def _seeds_in_journal(path: Path) -> int:
    """Seeds whose delivery the journal tells as PASS: counted from the file, not from memory."""
    return sum(
        record.body.get("event") == "SeedDropped" and record.body.get("outcome") == "PASS"
        for record in read_journal(path)
        if record.kind == "event"
    )
