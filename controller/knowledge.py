"""What the procedure knows: the plan, each needle's story, the cartridge, the last scan.

Only facts and questions about them; the decisions are in ``protocol`` (guards) and ``interlocks``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from controller.correction import Correction
from controller.events import NeedlesEvaluated
from controller.guidance import Landing, RigEstimate, offset_rig_mm
from imaging.deviation import Deviation
from planning.frame import Floats, RigidTransform
from planning.plan import Plan, PlannedNeedle, PlannedSeed, Point


@dataclass(frozen=True)
class ProcedureSettings:
    """What may differ from site to site.

    Attributes:
        tolerance_mm: largest accepted deviation of a tip; exactly this is within (Jiang 2021: 2 mm).
        max_attempts: insertions and corrections of one needle before a person must decide (assumed 5).
        max_scans_per_round: CTs in a row that may fail to show what was asked (assumed 3).
        cartridge_capacity: seeds in a full cartridge.
        approach_mm: the needle is moved freely to this far before the skin, then in small steps (assumed).
        home_z_mm: tip depth of the carriage at home, rig frame; nothing is in the patient there.
        seed_agreement_mm: largest accepted difference of applicator encoder and asked retraction.
        assay_tolerance_pct: largest accepted difference of a batch's measured mean activity from the planned (assumed).
        same_path_mm: a needle's aims closer than this meet the same tissue, so that its error is expected again
            (assumed; a correction moves an aim by some millimetres, and what was learnt before counts on).
        rig_by_hand, applicator_by_hand: the device is absent from the beginning; people do its part.
        person_judges: after each CT of needles a person rules about every one (``ruling``); nothing is corrected and
            no seed given before.
        slices_mm: slice thicknesses that a check CT may be asked for by who judges; () where there is no choice.
    """

    tolerance_mm: float = 2.0
    max_attempts: int = 5
    max_scans_per_round: int = 3
    cartridge_capacity: int = 15
    approach_mm: float = 10.0
    home_z_mm: float = -19.0
    seed_agreement_mm: float = 0.1
    same_path_mm: float = 15.0
    assay_tolerance_pct: float = 5.0
    rig_by_hand: bool = False
    applicator_by_hand: bool = False
    person_judges: bool = False
    slices_mm: tuple[float, ...] = ()


@dataclass
class NeedleStory:
    """One needle from the box to the last seed.

    Attributes:
        state: ``planned``, ``at reference depth``, ``in place``, ``delivered``, ``abandoned``.
        aim_rig_mm: where the rig was last commanded to put the tip; None before.
        moved: value of the motion counter at the last time the needle was held or moved by the rig.
        verified: motion counter of the scan that showed the tip within tolerance; None when not (any more).
        seen: motion counter of the last scan that showed the tip; None before.
        landings: where the tip was found, one per insertion on (about) the present path, newest last.
        is_new_path: withdrawn and aimed again since the last landing.
        off_target: the last judged scan asks for a correction.
        correction: what is done to it after the last judged scan; None: nothing.
        abandoned_because: who abandoned it and why; empty when it is not.
        attempts_granted: by a person, on top of the settings' ``max_attempts``.
        last_z_um, intended_z_um: where the applicator has drawn it back to, and was last told to.
        adapted: its seeds after an adapted plan was confirmed; None: as planned.
    """

    plan: PlannedNeedle
    state: str = "planned"
    aim_rig_mm: Floats | None = None
    moved: int = 0
    verified: int | None = None
    seen: int | None = None
    attempt: int = 0
    landings: list[Landing] = field(default_factory=list)
    is_new_path: bool = True
    first_deviation: Deviation | None = None
    deviation: Deviation | None = None
    off_target: bool = False
    correction: Correction | None = None
    seeds_delivered: int = 0
    last_z_um: int = 0
    intended_z_um: int = 0
    adapted: tuple[PlannedSeed, ...] | None = None
    attempts_granted: int = 0
    abandoned_because: str = ""

    def attempts_allowed(self, settings: ProcedureSettings) -> int:
        """Insertions and corrections before a person must decide (again)."""
        return settings.max_attempts + self.attempts_granted

    @property
    def seeds(self) -> tuple[PlannedSeed, ...]:
        """Delivered or to be, deepest first: the plan's, or those of the adapted plan."""
        return self.plan.seeds if self.adapted is None else self.adapted

    @property
    def is_accepted(self) -> bool:
        """Accepted in a scan newer than its last motion, at whatever depth it shall have now."""
        return self.verified is not None and self.verified >= self.moved

    @property
    def is_verified(self) -> bool:
        """Seen within tolerance in a scan newer than its last motion, at full depth."""
        return self.state == "in place" and self.is_accepted

    def land(self, landing: Landing, same_path_mm: float) -> None:
        """Keep where the tip was found; forget what was learnt on other paths."""
        if not self.is_new_path and self.landings:
            self.landings.pop()
        here = landing.commanded_rig_mm[:2]
        self.landings = [
            old for old in self.landings if np.linalg.norm(old.commanded_rig_mm[:2] - here) <= same_path_mm
        ]
        self.landings.append(landing)
        self.is_new_path = False

    def offsets_rig_mm(self, patient_from_rig: RigidTransform) -> list[Floats]:
        """The needle's own error in each landing on the present path, rig frame."""
        return [offset_rig_mm(patient_from_rig, landing) for landing in self.landings]

    @property
    def target_mm(self) -> Floats:
        """Where the tip shall stand now: the reference depth first, the planned tip later."""
        at_reference = self.state == "at reference depth"
        return np.asarray(self.plan.reference_tip_mm if at_reference else self.plan.tip_mm)


@dataclass(frozen=True)
class JudgedScan:
    """What one CT told: deviations and places by needle (plan's patient frame), and who is corrected after it."""

    scan: int
    kind: Literal["reference", "needles", "seeds"]
    deviations: tuple[tuple[str, Deviation], ...] = ()
    found_tips_mm: dict[str, Point] = field(default_factory=dict)
    found_directions: dict[str, Point] = field(default_factory=dict)
    corrected: tuple[str, ...] = ()


BOOKED_AS: dict[str, Literal["IN", "WA", "LF"]] = {"patient": "IN", "needle": "WA", "cartridge": "LF"}
"""Where a person found a seed in doubt, as the applicator books it. One in the needle comes out with it: wasted."""
LATCH_OF = {"NOPASS": "JAM", "DOUBLE": "DOUBLE", "UNKNOWN": "UNKNOWN"}


@dataclass
class SeedInDoubt:
    """A stroke that did not end PASS: nobody knows where its seeds are until a person has looked.

    Attributes:
        seeds: how many left the cartridge, as the applicator counts.
        where: the person's answer: ``patient``, ``needle`` or ``cartridge``; empty before.
    """

    needle: str
    seed: int
    stroke: int
    latch: str
    seeds: int
    where: str = ""


@dataclass
class Knowledge:
    """Everything the guards and interlocks may look at."""

    plan: Plan
    settings: ProcedureSettings
    plan_hash: str
    confirmed_hash: str | None = None
    time_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    needles: dict[str, NeedleStory] = field(default_factory=dict)
    rig: RigEstimate | None = None
    rig_homed: bool = False
    motion: int = 0
    gripped: str | None = None
    loaded: str | None = None
    carriage_z_mm: float | None = None
    across_for: str | None = None
    across_mm: tuple[float, float] = (0.0, 0.0)
    coupled: str | None = None
    stylet_homed: bool = False
    retraction_homed: bool = False
    retraction_at_home: bool = False
    ledger_begun: bool = False
    ledger_ended: bool = False
    cartridge: int = 0
    cartridge_left: int | None = None
    seeds_delivered: list[int] = field(default_factory=list)
    strokes: int = 0
    doubt: SeedInDoubt | None = None
    wasted: int = 0
    extra_seeds: int = 0
    seated: tuple[int, int] | None = None
    cartridge_to_change: bool = False
    delivery_changed: bool = False
    evaluation_due: bool = False
    evaluations: list[NeedlesEvaluated] = field(default_factory=list)
    adopted: list[int] = field(default_factory=list)
    abort_by_hand: bool = False
    pause_wished: bool = False
    scan_wished: bool = False
    slice_wished_mm: float | None = None
    slice_seen_mm: float | None = None
    seeds_seen: int = 0
    seeds_accepted: int = 0
    scans: int = 0
    scans_in_round: int = 0
    series_used: dict[str, int] = field(default_factory=dict)
    last_acquired: tuple[str, int] | None = None
    unseen: tuple[str, ...] = ()
    scan_is_usable: bool = True
    scan_problem: str = ""
    held_because: str = ""
    held_in: str = ""
    rig_by_hand: bool = False
    rig_taken_over: bool = False
    applicator_by_hand: bool = False
    judged: list[JudgedScan] = field(default_factory=list)
    message: str = ""

    @staticmethod
    def of(plan: Plan, settings: ProcedureSettings) -> Knowledge:
        stories = {needle.name: NeedleStory(needle) for needle in plan.needles}
        return Knowledge(
            plan=plan,
            settings=settings,
            plan_hash=plan.content_hash,
            needles=stories,
            rig_by_hand=settings.rig_by_hand,
            applicator_by_hand=settings.applicator_by_hand,
        )

    @property
    def inserted(self) -> list[NeedleStory]:
        """Needles that stand in the patient, in the plan's order."""
        return [story for story in self.needles.values() if story.state in ("at reference depth", "in place")]

    @property
    def off_target(self) -> list[NeedleStory]:
        return [story for story in self.needles.values() if story.off_target]

    @property
    def carriage_is_home(self) -> bool:
        return self.carriage_z_mm is not None and self.carriage_z_mm <= self.settings.home_z_mm + 0.05

    @property
    def pose(self) -> RigidTransform:
        """Best present knowledge of where the rig stands (patient from rig)."""
        return self.plan.planned_patient_from_rig() if self.rig is None else self.rig.patient_from_rig

    def seeds_left(self, story: NeedleStory) -> list[PlannedSeed]:
        """The needle's seeds that are still to be delivered, deepest first; none of an abandoned needle."""
        if story.state in ("delivered", "abandoned"):
            return []
        return [seed for seed in story.seeds if seed.number not in self.seeds_delivered]

    def next_seed(self) -> int | None:
        """Number in the plan of the next seed to be delivered; None when none is left."""
        return next((s.number for story in self.needles.values() for s in self.seeds_left(story)), None)

    @property
    def seeds_intended(self) -> int:
        """Seeds of the whole implant: the plan's, or those of the adapted plan."""
        return sum(len(story.seeds) for story in self.needles.values())

    @property
    def implanted(self) -> int:
        """Seeds in the patient: the plan's, and any that left with them."""
        return len(self.seeds_delivered) + self.extra_seeds

    @property
    def in_body(self) -> list[NeedleStory]:
        """Needles that are, or may be, in the patient, also abandoned ones."""
        return [s for s in self.needles.values() if s.aim_rig_mm is not None and s.state != "delivered"]
