"""One rescan, from the folder of DICOM files to what is in the patient, in the plan's own patient frame.

Reads the scan, registers it to the planning CT around the needles, finds needles or seeds in the scan as it is (not
resampled), takes them into the plan's frame and adds up what makes their positions unsure. It judges nothing:
that is ``deviation`` and the controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imaging.needle import ExpectedNeedle, thickness_sigma_mm
from imaging.needle_search import find_needles
from imaging.registration import Registration, register
from imaging.seed import find_seeds
from planning.dicom import read_ct
from planning.frame import Floats, RigidTransform, unit
from planning.plan import Plan, Point, rounded_point
from planning.volume import CtVolume

FORMAT = "seedguide-rescan/1"
BOX_MARGIN_MM = 30.0
SLICE_SHARE = 0.15  # of the slice thickness, 1 sigma: what partial volume hides of a seed (assumed)


@dataclass(frozen=True)
class ScanIdentity:
    """Which scan this was: what the interlocks compare with the plan.

    ``acquired``: first and last acquisition time by the scanner's clock (ISO 8601), None where it does not say.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    slice_thickness_mm: float
    slice_count: int
    acquired: tuple[str, str] | None = None


@dataclass(frozen=True)
class SeenNeedle:
    """A needle of the rescan in the plan's patient frame; ``name`` is None when nobody planned it."""

    name: str | None
    tip_mm: Point
    direction: Point
    entry_mm: Point
    sigma_mm: float
    shaft_hu: float


@dataclass(frozen=True)
class SeenSeed:
    """A seed of the rescan in the plan's patient frame; ``number`` is the planned seed's, or None."""

    number: int | None
    centre_mm: Point
    direction: Point
    sigma_mm: float


@dataclass(frozen=True)
class RescanFindings:
    """What a rescan shows, in the plan's patient frame.

    Attributes:
        kind: "needles" or "seeds": what was looked for.
        identity: of the scan.
        plan_from_scan: homogeneous (4, 4), rows.
        registered: False when the scan could not be registered; then nothing is reported as found.
        problem: why not; empty when registered.
        similarity, expected_tre_mm: of the registration.
        needles: found, planned ones first, in the plan's order; unplanned ones have no name.
        unseen_needles: names that were expected and not found.
        seeds: found ones.
        unseen_seeds: numbers that were expected and not found.
    """

    kind: str
    identity: ScanIdentity
    plan_from_scan: tuple[tuple[float, ...], ...]
    registered: bool
    problem: str
    similarity: float
    expected_tre_mm: float
    needles: tuple[SeenNeedle, ...] = ()
    unseen_needles: tuple[str, ...] = ()
    seeds: tuple[SeenSeed, ...] = ()
    unseen_seeds: tuple[int, ...] = ()

    def needle(self, name: str) -> SeenNeedle | None:
        return next((needle for needle in self.needles if needle.name == name), None)

    @property
    def unplanned_needles(self) -> tuple[SeenNeedle, ...]:
        return tuple(needle for needle in self.needles if needle.name is None)

    @property
    def unplanned_seeds(self) -> tuple[SeenSeed, ...]:
        return tuple(seed for seed in self.seeds if seed.number is None)

    def to_json(self) -> dict[str, Any]:
        """As JSON values (described in ``IMAGING.md``)."""
        identity = self.identity
        return {
            "format": FORMAT,
            "kind": self.kind,
            "scan": {
                "patient_id": identity.patient_id,
                "study_uid": identity.study_uid,
                "series_uid": identity.series_uid,
                "frame_of_reference_uid": identity.frame_of_reference_uid,
                "slice_thickness_mm": identity.slice_thickness_mm,
                "slice_count": identity.slice_count,
                "acquired": None if identity.acquired is None else list(identity.acquired),
            },
            "registration": {
                "succeeded": self.registered,
                "problem": self.problem,
                "similarity": round(self.similarity, 4),
                "expected_tre_mm": round(self.expected_tre_mm, 3)
                if np.isfinite(self.expected_tre_mm)
                else None,
                "plan_from_scan": [list(row) for row in self.plan_from_scan],
            },
            "needles": [
                {
                    "planned": needle.name,
                    "tip_mm": list(needle.tip_mm),
                    "direction": list(needle.direction),
                    "entry_mm": list(needle.entry_mm),
                    "sigma_mm": needle.sigma_mm,
                    "shaft_hu": needle.shaft_hu,
                }
                for needle in self.needles
            ],
            "unseen_needles": list(self.unseen_needles),
            "seeds": [
                {
                    "planned": seed.number,
                    "centre_mm": list(seed.centre_mm),
                    "direction": list(seed.direction),
                    "sigma_mm": seed.sigma_mm,
                }
                for seed in self.seeds
            ],
            "unseen_seeds": list(self.unseen_seeds),
        }


def analyse_rescan(
    scan_folder: Path,
    reference: CtVolume,
    plan: Plan,
    *,
    kind: Literal["needles", "seeds"],
    expected_tips_mm: Mapping[str, tuple[Floats, Floats]] | None = None,
    expected_seeds_mm: Mapping[int, tuple[Floats, Floats]] | None = None,
    start: RigidTransform | None = None,
) -> RescanFindings:
    """Read a rescan and say what it shows.

    Args:
        scan_folder: one CT series.
        reference: the planning CT.
        plan: the plan; its needles say where the skin is and where to register.
        kind: what to look for.
        expected_tips_mm: needle name -> (tip, direction towards it) in the plan's frame, for the needles that
            are in the patient now; None means all planned ones at their planned tips.
        expected_seeds_mm: seed number -> (centre, direction) in the plan's frame; None means all planned.
        start: first guess of plan-from-scan, usually the last scan's.

    Raises:
        AskedWrongly: the folder is not one readable CT series.
    """
    scan = read_ct(scan_folder)
    low, high = registration_box_mm(plan)
    registration = register(scan, reference, box_low_mm=low, box_high_mm=high, start=start)
    if kind == "seeds":
        return _seeds(scan, registration, expected_seeds_mm or _planned_seeds(plan), reference)
    return _needles(scan, registration, plan, expected_tips_mm or _planned_tips(plan))


def registration_box_mm(plan: Plan) -> tuple[Floats, Floats]:
    """Corners of the box, plan frame, that is registered: tips and seeds with a margin, not the whole patient."""
    points = np.array([needle.tip_mm for needle in plan.needles] + [seed.centre_mm for seed in plan.seeds])
    return points.min(axis=0) - BOX_MARGIN_MM, points.max(axis=0) + BOX_MARGIN_MM


def _planned_tips(plan: Plan) -> dict[str, tuple[Floats, Floats]]:
    return {needle.name: (np.asarray(needle.tip_mm), needle.direction) for needle in plan.needles}


def _planned_seeds(plan: Plan) -> dict[int, tuple[Floats, Floats]]:
    directions = plan.seed_directions()
    return {seed.number: (np.asarray(seed.centre_mm), directions[k]) for k, seed in enumerate(plan.seeds)}


def _findings(scan: CtVolume, registration: Registration, kind: str, **seen: Any) -> RescanFindings:
    identity = ScanIdentity(
        scan.patient_id,
        scan.study_uid,
        scan.series_uid,
        scan.frame_of_reference_uid,
        float(scan.slice_thickness_mm),
        scan.grid.shape[0],
        scan.acquired,
    )
    rows = tuple(tuple(round(float(v), 9) for v in row) for row in registration.reference_from_scan.matrix())
    return RescanFindings(
        kind,
        identity,
        rows,
        registration.succeeded,
        registration.reason,
        registration.similarity,
        registration.expected_tre_mm,
        **seen,
    )


def _slice_mm(scan: CtVolume) -> float:
    return max(scan.grid.spacing_mm[2], scan.slice_thickness_mm)


def _sigma_mm(registration: Registration, own_mm: float, slice_part_mm: float) -> float:
    parts = (own_mm, registration.expected_tre_mm, slice_part_mm)
    return round(float(np.sqrt(np.sum(np.square(parts)))), 3)


def _needles(
    scan: CtVolume, registration: Registration, plan: Plan, tips: Mapping[str, tuple[Floats, Floats]]
) -> RescanFindings:
    if not registration.succeeded:
        return _findings(scan, registration, "needles", unseen_needles=tuple(tips))
    plan_from_scan = registration.reference_from_scan
    scan_from_plan = plan_from_scan.inverse()
    expected = []
    for name, (tip, direction) in tips.items():
        towards = unit(direction)
        depth = float((np.asarray(tip) - np.asarray(plan.needle(name).entry_mm)) @ towards)
        entry = np.asarray(tip) - depth * towards
        expected.append(
            ExpectedNeedle(
                name, scan_from_plan.apply(tip), scan_from_plan.turn(towards), scan_from_plan.apply(entry)
            )
        )
    result = find_needles(scan, expected)
    seen = tuple(
        SeenNeedle(
            needle.name,
            rounded_point(plan_from_scan.apply(needle.tip_mm)),
            _rounded_direction(plan_from_scan.turn(needle.direction)),
            rounded_point(plan_from_scan.apply(needle.entry_mm)),
            _sigma_mm(registration, needle.sigma_mm, thickness_sigma_mm(_slice_mm(scan))),
            round(needle.shaft_hu),
        )
        for needle in result.found
    )
    return _findings(scan, registration, "needles", needles=seen, unseen_needles=result.unseen)


def _seeds(
    scan: CtVolume,
    registration: Registration,
    expected: Mapping[int, tuple[Floats, Floats]],
    reference: CtVolume,
) -> RescanFindings:
    numbers = list(expected)
    if not registration.succeeded:
        return _findings(scan, registration, "seeds", unseen_seeds=tuple(numbers))
    plan_from_scan = registration.reference_from_scan
    scan_from_plan = plan_from_scan.inverse()
    centres = np.array([expected[n][0] for n in numbers]).reshape(-1, 3)
    directions = np.array([expected[n][1] for n in numbers]).reshape(-1, 3)
    found = find_seeds(
        scan,
        centres_mm=scan_from_plan.apply(centres),
        directions=scan_from_plan.turn(directions),
        before=reference,
        before_from_scan=plan_from_scan,
    )
    own = 0.3 + 0.1 * scan.grid.spacing_mm[2]
    seeds = tuple(
        SeenSeed(
            None if seed.planned is None else numbers[seed.planned],
            rounded_point(plan_from_scan.apply(seed.centre_mm)),
            _rounded_direction(plan_from_scan.turn(seed.direction)),
            _sigma_mm(registration, own, SLICE_SHARE * _slice_mm(scan)),
        )
        for seed in found
    )
    seen = {seed.number for seed in seeds}
    order = {number: k for k, number in enumerate(numbers)}
    seeds = tuple(sorted(seeds, key=lambda s: len(order) if s.number is None else order[s.number]))
    return _findings(
        scan, registration, "seeds", seeds=seeds, unseen_seeds=tuple(n for n in numbers if n not in seen)
    )


def _rounded_direction(direction: Floats) -> Point:
    x, y, z = (round(float(v), 6) + 0.0 for v in direction)
    return x, y, z
