"""What a finished (or held) procedure leaves behind for the table, the report and the exit status."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controller.snapshot import Snapshot
from imaging.deviation import Deviation
from planning.anatomy import Anatomy
from planning.dvh import StructureStatistics
from planning.frame import RigidTransform
from planning.plan import Plan, Point
from planning.volume import CtVolume, Grid


@dataclass(frozen=True)
class Progress:
    """News for a live view: ``step`` is a short key, ``text`` what goes on, ``snapshot`` the whole."""

    step: str
    text: str
    snapshot: Snapshot | None = None
    fraction: float | None = None


@dataclass(frozen=True)
class RoundRecord:
    """One CT and what it led to.

    Attributes:
        scan_number: 1.. in order.
        kind: ``reference``, ``needles`` or ``seeds``.
        folder: of the DICOM series.
        deviations: per needle seen, in the plan's patient frame.
        found_tips_mm, found_directions: what the scan showed, by needle name, plan's patient frame.
        corrected: names of the needles corrected after this scan.
        scan_from_plan: where the plan's patient frame lies in the scan, as registered.
    """

    scan_number: int
    kind: Literal["reference", "needles", "seeds"]
    folder: Path
    slice_thickness_mm: float
    deviations: tuple[tuple[str, Deviation], ...]
    found_tips_mm: dict[str, Point]
    found_directions: dict[str, Point]
    corrected: tuple[str, ...]
    scan_from_plan: RigidTransform


@dataclass(frozen=True)
class SeedRecord:
    """One planned seed's fate: where it was planned, whether dropped, where the last CT shows it.

    ``found_mm`` and ``distance_mm`` are None for a seed that the CT did not show.
    """

    number: int
    needle: str
    planned_mm: Point
    outcome: str
    found_mm: Point | None
    distance_mm: float | None


@dataclass(frozen=True)
class FoundSeed:
    """A seed as the last CT shows it, in the plan's patient frame; ``number`` None: nobody planned it."""

    number: int | None
    centre_mm: Point
    direction: Point


@dataclass(frozen=True, eq=False)
class DoseResult:
    """A dose on a grid and its statistics by structure name (GTV and CTV first, then organs).

    ``seeds``: those that it is the dose of, where they were found in a CT.
    """

    dose_gy: NDArray[np.float32]
    grid: Grid
    statistics: dict[str, StructureStatistics]
    seeds: tuple[FoundSeed, ...] = ()


@dataclass(frozen=True, eq=False)
class ProcedureResult:
    """The outcome of a procedure.

    Attributes:
        status: ``completed`` or ``held`` (stopped for a person).
        reason: why held; empty when completed.
        planned, delivered: dose; ``delivered`` is None when held before the last scan.
        rounds: every CT in order.
        seeds: one record per planned seed.
        unplanned_seeds_mm: seeds in the last CT that match no planned one.
        seeds_in_journal: seeds whose delivery the journal records as PASS.
        digest: the journal's last hash.
        seconds: wall time by step.
        faults: in words, in order.
        is_simulated: the devices were simulated, in a rehearsal or on a bench.
        true_tips_mm: the simulator's truth, for the debrief only (None outside a rehearsal).
    """

    status: Literal["completed", "held"]
    reason: str
    folder: Path
    ct: CtVolume
    anatomy: Anatomy
    plan: Plan
    planned: DoseResult
    delivered: DoseResult | None
    rounds: tuple[RoundRecord, ...]
    seeds: tuple[SeedRecord, ...]
    unplanned_seeds_mm: tuple[Point, ...]
    seeds_in_journal: int
    digest: str
    seconds: dict[str, float]
    faults: tuple[str, ...]
    final: Snapshot
    true_tips_mm: dict[str, Point] | None = None
    is_simulated: bool = False
