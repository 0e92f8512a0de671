"""Looking into one CT, with a plan or without: what becomes a :class:`~imaging.detected.Detected`.

The plan is brought into the scan: by registering the planning CT, if it is given, else as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from imaging.detected import WHAT, Detected, DetectedNeedle, DetectedSeed, Placed, rounded_direction
from imaging.deviation import deviation
from imaging.needle import ExpectedNeedle, FoundNeedle, thickness_sigma_mm
from imaging.needle_search import find_needles
from imaging.registration import register
from imaging.rescan import registration_box_mm
from imaging.seed import find_seeds
from imaging.twin import distinct
from imaging.unplanned_needle import unplanned_needles
from imaging.unresolved import UnresolvedMetal
from planning.frame import RigidTransform
from planning.plan import Plan, rounded_point
from planning.refusal import AskedWrongly
from planning.volume import CtVolume

BESIDE_AXIS_MM = 3.0  # a "seed" this near to a needle's axis is a piece of the needle


def detect(
    scan: CtVolume,
    plan: Plan | None = None,
    reference: CtVolume | None = None,
    *,
    what: Collection[str] = WHAT,
    tell: Callable[[str, float], None] = lambda _what, _part: None,
) -> Detected:
    """Find needles and seeds in a CT.

    Args:
        scan: any CT series.
        plan: what was planned; without it everything needle-like or seed-like is reported.
        reference: the planning CT; without it the plan's places are taken as they are in the scan's frame.
        what: "needles", "seeds" or both.
        tell: hears what is done, and how far it is (0 to 1).

    Raises:
        AskedWrongly: plan, planning CT and scan don't belong together.
    """
    notes: list[str] = []
    registration = None
    scan_from_plan: RigidTransform | None = None
    tre_mm = float("nan")
    if plan is not None:
        _check_together(scan, plan, reference)
        if reference is None:
            scan_from_plan = RigidTransform.identity()
            notes.append(
                "not registered: planned places are those of the plan, as if the patient had not moved"
            )
        else:
            tell("registering to the planning CT", 0.05)
            low, high = registration_box_mm(plan)
            registration = register(scan, reference, box_low_mm=low, box_high_mm=high)
            if registration.succeeded:
                scan_from_plan, tre_mm = (
                    registration.reference_from_scan.inverse(),
                    registration.expected_tre_mm,
                )
            else:
                notes.append(f"not registered ({registration.reason}): looked at as if there were no plan")
    if scan_from_plan is None or plan is None:
        plan = None
        notes.append(
            "without a plan: what looks like a needle or a seed is reported, and false ones are likelier"
        )
    needles: list[DetectedNeedle] = []
    places: dict[str, Placed] = {}
    rest: list[UnresolvedMetal] = []
    if "needles" in what:
        if plan is None or scan_from_plan is None:
            standing, rest = unplanned_needles(scan, lambda words, part: tell(words, 0.1 + 0.7 * part))
            needles = [_reported(scan, needle, None, tre_mm) for needle in standing]
            if rest:
                notes.append(
                    f"{len(rest)} piece{'s' * (len(rest) > 1)} of metal could not be told apart into needles: "
                    "there may be more needles than are listed"
                )
        else:
            tell(f"fitting {len(plan.needles)} needles", 0.3)
            found, expected = _planned(scan, plan, scan_from_plan, notes)
            places = {
                n.name: Placed(rounded_point(n.tip_mm), rounded_direction(n.direction)) for n in expected
            }
            needles = [_reported(scan, needle, places.get(needle.name or ""), tre_mm) for needle in found]
    names = {needle.planned for needle in needles}
    seeds: list[DetectedSeed] = []
    numbers: list[int] = []
    looked_for = [word for word in WHAT if word in what]
    if "seeds" in what and "needles" in what and plan is None and (needles or rest):
        looked_for.remove("seeds")
        notes.append(
            "seeds not looked for: without a plan, pieces of needles look like seeds (--what seeds does)"
        )
    elif "seeds" in what:
        tell("seeking seeds", 0.8)
        seeds, numbers = _seeds(scan, plan, scan_from_plan)
        seeds = [seed for seed in seeds if not any(_in_needle(seed, needle) for needle in needles)]
    seen = {seed.planned for seed in seeds}
    return Detected(
        scan,
        None if plan is None else plan.content_hash,
        registration,
        tuple(looked_for),
        tuple(needles),
        tuple(name for name in places if name not in names),
        tuple(seeds),
        tuple(number for number in numbers if number not in seen),
        tuple(notes),
        places,
        tuple(rest),
    )


def _check_together(scan: CtVolume, plan: Plan, reference: CtVolume | None) -> None:
    if scan.patient_id != plan.patient_id:
        raise AskedWrongly(f"the scan is of patient '{scan.patient_id}', the plan of '{plan.patient_id}'.")
    if reference is not None and reference.series_uid != plan.series_uid:
        raise AskedWrongly(
            "the CT in the case folder is not the one the plan was made on (another series UID)."
        )
    if reference is None and scan.frame_of_reference_uid != plan.frame_of_reference_uid:
        raise AskedWrongly(
            "the scan has another frame of reference than the plan; give the planning CT with --case to register it."
        )


def _expected(plan: Plan, scan_from_plan: RigidTransform, reference_needles: bool) -> list[ExpectedNeedle]:
    standing = plan.reference_needles if reference_needles else plan.needles
    return [
        ExpectedNeedle(
            needle.name,
            scan_from_plan.apply(needle.reference_tip_mm if reference_needles else needle.tip_mm),
            scan_from_plan.turn(needle.direction),
            scan_from_plan.apply(needle.entry_mm),
        )
        for needle in standing
    ]


def _planned(
    scan: CtVolume, plan: Plan, scan_from_plan: RigidTransform, notes: list[str]
) -> tuple[list[FoundNeedle], list[ExpectedNeedle]]:
    """Found and expected needles: all planned ones, or the reference needles if those explain the picture better."""
    expected = _expected(plan, scan_from_plan, reference_needles=False)
    found = distinct(find_needles(scan, expected).found, expected)
    if found and plan.reference_needles and sum(n.name is not None for n in found) < 0.5 * len(expected):
        shallow = _expected(plan, scan_from_plan, reference_needles=True)
        at_first_depth = distinct(find_needles(scan, shallow).found, shallow)
        if _explained(at_first_depth, shallow) > _explained(found, expected):
            notes.append("only reference needles stand, at their first depth: compared with that")
            return at_first_depth, shallow
    return found, expected


def _explained(found: Sequence[FoundNeedle], expected: Sequence[ExpectedNeedle]) -> int:
    """Needles with a name, less those without one and those not seen."""
    named = sum(needle.name is not None for needle in found)
    return named - (len(found) - named) - (len(expected) - named)


def _reported(scan: CtVolume, needle: FoundNeedle, place: Placed | None, tre_mm: float) -> DetectedNeedle:
    slice_mm = max(scan.grid.spacing_mm[2], scan.slice_thickness_mm)
    sigma_mm = round(float(np.hypot(needle.sigma_mm, thickness_sigma_mm(slice_mm))), 3)
    apart = None
    if place is not None and np.isfinite(tre_mm):
        total = float(np.hypot(sigma_mm, tre_mm))
        apart = deviation(place.point_mm, place.direction, needle.tip_mm, needle.direction, total)
    return DetectedNeedle(
        needle.name if place is not None else None,
        rounded_point(needle.tip_mm),
        rounded_direction(needle.direction),
        rounded_point(needle.entry_mm),
        sigma_mm,
        place,
        apart,
    )


def _seeds(
    scan: CtVolume, plan: Plan | None, scan_from_plan: RigidTransform | None
) -> tuple[list[DetectedSeed], list[int]]:
    centres = directions = None
    numbers: list[int] = []
    if plan is not None and scan_from_plan is not None:
        numbers = [seed.number for seed in plan.seeds]
        centres = scan_from_plan.apply(plan.seed_centres_mm())
        directions = scan_from_plan.turn(plan.seed_directions())
    sigma_mm = round(0.3 + 0.1 * scan.grid.spacing_mm[2], 3)
    found = []
    for seed in find_seeds(scan, centres_mm=centres, directions=directions):
        k = seed.planned
        place = None
        if k is not None and centres is not None and directions is not None:
            place = Placed(rounded_point(centres[k]), rounded_direction(directions[k]))
        found.append(
            DetectedSeed(
                None if k is None else numbers[k],
                rounded_point(seed.centre_mm),
                rounded_direction(seed.direction),
                sigma_mm,
                place,
            )
        )
    found.sort(key=lambda seed: (seed.planned is None, seed.planned or 0))
    return found, numbers


def _in_needle(seed: DetectedSeed, needle: DetectedNeedle) -> bool:
    offset = np.subtract(seed.centre_mm, needle.tip_mm)
    along = float(offset @ np.asarray(needle.direction))
    return bool(
        along < BESIDE_AXIS_MM
        and np.linalg.norm(offset - along * np.asarray(needle.direction)) < BESIDE_AXIS_MM
    )
