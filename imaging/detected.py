"""What one CT shows, in the CT's own patient frame, with a plan or without: ``detected.json`` (``DETECTED.md``).

``rescan`` takes what it finds into the plan's frame, for the procedure; here everything stays where the scanner saw
it, and the plan is brought there instead. A plan is optional; so is the planning CT, which alone tells how the patient
lies now against then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imaging.deviation import Deviation, deviation
from imaging.needle import THICK_MM, TWIN_MM, ExpectedNeedle, FoundNeedle, thickness_sigma_mm
from imaging.needle_search import find_needles
from imaging.registration import Registration, register
from imaging.rescan import registration_box_mm
from imaging.seed import find_seeds
from imaging.straight_metal import ends_in_air, guess_needles, leaves_the_body
from imaging.unresolved import UnresolvedMetal, unresolved
from planning.frame import Floats, RigidTransform, unit
from planning.plan import Plan, Point, rounded_point
from planning.refusal import AskedWrongly
from planning.volume import CtVolume

FORMAT = "seedguide-detected/1"
LEAST_SEEN = 0.5  # of a needle between skin and tip, when no plan vouches for it
MOST_SIGMA_MM = 3.0  # of a needle for which no plan vouches
BESIDE_AXIS_MM = 3.0  # a "seed" this near to a needle's axis is a piece of the needle
GUESS_MM = 5.0  # a guessed depth further off than this is guessed again
NEEDLES_WORTH_MM = 20.0  # of unresolved metal that one needle more may leave
WHAT = ("needles", "seeds")


@dataclass(frozen=True)
class Placed:
    """A planned place in the scan's frame: tip of a needle or centre of a seed."""

    point_mm: Point
    direction: Point


@dataclass(frozen=True)
class DetectedNeedle:
    """A needle; ``sigma_mm`` (1 sigma of the tip, 3-D) leaves registration out, ``apart.sigma_mm`` has it in."""

    planned: str | None
    tip_mm: Point
    direction: Point
    entry_mm: Point
    sigma_mm: float
    place: Placed | None = None
    apart: Deviation | None = None


@dataclass(frozen=True)
class DetectedSeed:
    """A seed; without a plan the sign of ``direction`` means nothing."""

    planned: int | None
    centre_mm: Point
    direction: Point
    sigma_mm: float
    place: Placed | None = None


@dataclass(frozen=True)
class Detected:
    """All that was found; ``notes`` say what was not possible, in words."""

    scan: CtVolume
    plan_hash: str | None
    registration: Registration | None
    what: tuple[str, ...]
    needles: tuple[DetectedNeedle, ...] = ()
    unseen_needles: tuple[str, ...] = ()
    seeds: tuple[DetectedSeed, ...] = ()
    unseen_seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    places: dict[str, Placed] = field(default_factory=dict)
    unresolved_metal: tuple[UnresolvedMetal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values (described in ``DETECTED.md``)."""
        scan, seen = self.scan, self.registration
        return {
            "format": FORMAT,
            "scan": {
                "patient_id": scan.patient_id,
                "study_uid": scan.study_uid,
                "series_uid": scan.series_uid,
                "frame_of_reference_uid": scan.frame_of_reference_uid,
                "slice_thickness_mm": float(scan.slice_thickness_mm),
                "slice_count": scan.grid.shape[0],
            },
            "plan": self.plan_hash,
            "registration": None
            if seen is None
            else {
                "succeeded": seen.succeeded,
                "problem": seen.reason,
                "expected_tre_mm": round(seen.expected_tre_mm, 3)
                if np.isfinite(seen.expected_tre_mm)
                else None,
                "plan_from_scan": [
                    [round(float(v), 9) for v in row] for row in seen.reference_from_scan.matrix()
                ],
            },
            "what": list(self.what),
            "needles": [
                {
                    "tip_mm": list(needle.tip_mm),
                    "direction": list(needle.direction),
                    "entry_mm": list(needle.entry_mm),
                    "sigma_mm": needle.sigma_mm,
                    "planned": needle.planned,
                    "planned_tip_mm": None if needle.place is None else list(needle.place.point_mm),
                    "planned_direction": None if needle.place is None else list(needle.place.direction),
                    "deviation": None if needle.apart is None else needle.apart.to_json(),
                }
                for needle in self.needles
            ],
            "unseen_needles": list(self.unseen_needles),
            "unresolved_metal": [metal.to_json() for metal in self.unresolved_metal],
            "seeds": [
                {
                    "centre_mm": list(seed.centre_mm),
                    "direction": list(seed.direction),
                    "sigma_mm": seed.sigma_mm,
                    "planned": seed.planned,
                    "planned_centre_mm": None if seed.place is None else list(seed.place.point_mm),
                }
                for seed in self.seeds
            ],
            "unseen_seeds": list(self.unseen_seeds),
            "notes": list(self.notes),
        }


def detect(
    scan: CtVolume,
    plan: Plan | None = None,
    reference: CtVolume | None = None,
    *,
    what: Collection[str] = WHAT,
) -> Detected:
    """Find needles and seeds in a CT.

    Args:
        scan: any CT series.
        plan: what was planned; without it everything needle-like or seed-like is reported.
        reference: the planning CT; without it the plan's places are taken as they are in the scan's frame.
        what: "needles", "seeds" or both.

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
            standing, rest = _unplanned(scan)
            needles = [_reported(scan, needle, None, tre_mm) for needle in standing]
            if rest:
                notes.append(
                    f"{len(rest)} piece{'s' * (len(rest) > 1)} of metal could not be told apart into needles: "
                    "there may be more needles than are listed"
                )
        else:
            found, expected = _planned(scan, plan, scan_from_plan, notes)
            places = {
                n.name: Placed(rounded_point(n.tip_mm), rounded_direction(n.direction)) for n in expected
            }
            needles = [_reported(scan, needle, places.get(needle.name or ""), tre_mm) for needle in found]
    names = {needle.planned for needle in needles}
    seeds: list[DetectedSeed] = []
    numbers: list[int] = []
    if "seeds" in what and plan is None and (needles or rest):
        notes.append(
            "seeds not looked for: without a plan, pieces of needles look like seeds (--what seeds does)"
        )
    elif "seeds" in what:
        seeds, numbers = _seeds(scan, plan, scan_from_plan)
        seeds = [seed for seed in seeds if not any(_in_needle(seed, needle) for needle in needles)]
    seen = {seed.planned for seed in seeds}
    return Detected(
        scan,
        None if plan is None else plan.content_hash,
        registration,
        tuple(word for word in WHAT if word in what),
        tuple(needles),
        tuple(name for name in places if name not in names),
        tuple(seeds),
        tuple(number for number in numbers if number not in seen),
        tuple(notes),
        places,
        tuple(rest),
    )


def rounded_direction(direction: Floats) -> Point:
    x, y, z = (round(float(v), 6) + 0.0 for v in direction)
    return x, y, z


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
    found = _distinct(find_needles(scan, expected).found, expected)
    if found and plan.reference_needles and sum(n.name is not None for n in found) < 0.5 * len(expected):
        shallow = _expected(plan, scan_from_plan, reference_needles=True)
        at_first_depth = _distinct(find_needles(scan, shallow).found, shallow)
        if _explained(at_first_depth, shallow) > _explained(found, expected):
            notes.append("only reference needles stand, at their first depth: compared with that")
            return at_first_depth, shallow
    return found, expected


def _explained(found: Sequence[FoundNeedle], expected: Sequence[ExpectedNeedle]) -> int:
    """Needles with a name, less those without one and those not seen."""
    named = sum(needle.name is not None for needle in found)
    return named - (len(found) - named) - (len(expected) - named)


def _distinct(found: Sequence[FoundNeedle], expected: Sequence[ExpectedNeedle]) -> list[FoundNeedle]:
    """Without those that are another one seen twice.

    Groups of different directions may both see a needle that nobody planned, and one broad spot may have been
    taken for two planned needles: two tips can't stand nearer than the needles are thick. The one nearer to its
    planned place stays; the other one was not seen.
    """
    planned = {needle.name: needle.tip_mm for needle in expected}

    def trust(needle: FoundNeedle) -> tuple[bool, float]:
        if needle.name is None:
            return True, needle.sigma_mm
        return False, float(np.linalg.norm(needle.tip_mm - planned[needle.name]))

    kept: list[FoundNeedle] = []
    for needle in sorted(found, key=trust):
        least_mm = TWIN_MM if needle.name is None else THICK_MM
        if all(np.linalg.norm(needle.tip_mm - other.tip_mm) >= least_mm for other in kept):
            kept.append(needle)
    return [needle for needle in found if any(needle is one for one in kept)]


def _unplanned(scan: CtVolume) -> tuple[list[FoundNeedle], list[UnresolvedMetal]]:
    """What looks like a needle, and metal that no needle explains."""
    sets, metal = guess_needles(scan)
    best: list[FoundNeedle] = []
    left, least = list[UnresolvedMetal](), np.inf
    for guesses in sets or [()]:
        found = _standing(scan, guesses)
        lines = [(needle.entry_mm, needle.outside) for needle in found]
        rest = [part for piece in metal for part in unresolved(scan, piece, lines)]
        unsolved = sum(part.length_mm for part in rest) - NEEDLES_WORTH_MM * len(found)
        if unsolved < least:
            best, left, least = found, rest, unsolved
        if not rest:
            break
    return best, left


def _standing(scan: CtVolume, guesses: Sequence[ExpectedNeedle]) -> list[FoundNeedle]:
    if not guesses:
        return []
    found = _certain(scan, guesses)
    told = {needle.name: needle for needle in found}
    if any(
        abs(float((told[g.name].tip_mm - g.tip_mm) @ g.direction)) > GUESS_MM
        for g in guesses
        if g.name in told
    ):  # depths were guessed badly: once more with those that were seen
        again = [replace(g, tip_mm=told[g.name].tip_mm) if g.name in told else g for g in guesses]
        return _certain(scan, again)
    return found


def _certain(scan: CtVolume, guesses: Sequence[ExpectedNeedle]) -> list[FoundNeedle]:
    return [
        needle
        for needle in _distinct(find_needles(scan, guesses, planned=False).found, guesses)
        if needle.seen_share >= LEAST_SEEN
        and needle.sigma_mm < MOST_SIGMA_MM
        # the chord, not the direction at the tip: a bent needle's tip points past where it entered
        and not ends_in_air(scan, needle.tip_mm, needle.direction)
        and leaves_the_body(scan, needle.tip_mm, unit(needle.tip_mm - needle.entry_mm))
    ]


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
