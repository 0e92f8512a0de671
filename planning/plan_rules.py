"""Which of planning's own rules a plan keeps: each broken one is a sentence that names the needle or the seed.

The planner makes no plan that breaks one; a plan edited by hand can. The rules here need the plan, its site protocol
and its source alone; those that need the CT are in ``planning.path_rules``. Tolerances are those of rounding to
0.001 mm (``ROUNDING_MM``), not of clinical judgement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from planning.frame import Floats, angle_between_deg
from planning.needle_gap import all_distances_mm
from planning.needles import RigReach, hole_cell
from planning.plan import Plan
from planning.site_protocol import NeedleRules, SiteProtocol
from planning.sources import U_PER_MCI, SeedSource

ROUNDING_MM = 0.0025  # of two rounded points against each other
ASIDE_MM = 0.02  # a straight line through two rounded points
PARALLEL_DEG = 0.02
HOLE_OBLIQUE_MM = 0.05  # an oblique axis is carried on from two rounded points to the face
ANGLE_SLACK_DEG = 0.02  # of two lines through rounded points


@dataclass(frozen=True)
class BrokenRule:
    """One broken rule.

    Attributes:
        rule: its short name, for ``--despite``; subject: the needle, the seed, or "plan"; words: a sentence.
    """

    rule: str
    subject: str
    words: str


RULES = {
    "protocol": "the site protocol is the one the plan was made with",
    "source": "seed length, half-life and strength are those of the source's data and of the stated activity",
    "numbering": "needle names and holes are unique, seeds are numbered 1, 2, ... in order of delivery",
    "count": "no more needles and seeds than the site protocol allows, at least one seed in each needle",
    "references": "as many reference needles as the site protocol asks for, none deeper than its own tip",
    "parallel": "needles of a coplanar set run along the rig's z",
    "angle": "needles of an oblique set stand within the rig's tilt of its z and needle.max_angle_deg of each other",
    "hole": "each needle goes through the hole it names, on the template's grid",
    "reach": "tips lie within the rig's travel and the needle's length, entries behind the template",
    "depth": "no tip is deeper behind the skin than needle.max_depth_mm",
    "needle-distance": "needles keep needle.min_distance_mm from each other along their whole paths",
    "seed-on-needle": "seeds lie on their needle's axis, deepest first, behind the skin and before the tip",
    "seed-spacing": "seeds of a needle are whole steps of needle.seed_spacing_mm apart, and none is nearer to another",
    "retraction": "each seed's retraction brings it to its place",
    "ct": "the plan was made on this CT",
    "seed-inside": "each seed lies in the CTV, needle.seed_inside_mm from its boundary",
    "entry": "each entry lies on the skin, in free air, away from the scan's edge and the couch",
    "clearance": "no needle comes nearer to a forbidden structure than its clearance",
    "far-skin": "no tip comes near the skin on the far side",
}
"""Every rule, by its short name, as it reads when kept."""


def broken_in_plan(
    plan: Plan, protocol: SiteProtocol, source: SeedSource, rig: RigReach
) -> tuple[BrokenRule, ...]:
    """The broken rules that show without the CT; the plan's rig pose must be rigid."""
    return (
        *_of_the_whole(plan, protocol, source),
        *_of_the_grid(plan, protocol.needle, rig),
        *_of_the_seeds(plan, protocol.needle),
    )


def _of_the_whole(plan: Plan, protocol: SiteProtocol, source: SeedSource) -> Iterator[BrokenRule]:
    rules = protocol.needle
    if plan.site_protocol_hash != protocol.sha256:
        yield BrokenRule(
            "protocol",
            "plan",
            f"the site protocol '{protocol.name}' is not the file that the plan was made with "
            f"({plan.site_protocol_hash[:8]} stated, {protocol.sha256[:8]} found).",
        )
    for what, stated, wanted, unit in (
        ("seed length", plan.seed_length_mm, source.length_mm, "mm"),
        ("half-life", plan.half_life_d, source.half_life_d, "d"),
        ("air-kerma strength", plan.air_kerma_strength_u, plan.activity_mci * U_PER_MCI, "U"),
    ):
        if abs(stated - wanted) > 1e-4 * wanted:
            yield BrokenRule(
                "source",
                "plan",
                f"the {what} is {stated:g} {unit}; a {source.name} seed of {plan.activity_mci:g} mCi has "
                f"{wanted:g} {unit}.",
            )
    for what, names in (
        ("needle name", [needle.name for needle in plan.needles]),
        ("hole", [needle.hole for needle in plan.needles]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield BrokenRule("numbering", name, f"{what} {name} is used {names.count(name)} times.")
    for number, seed in enumerate(plan.seeds, start=1):
        if seed.number != number:
            yield BrokenRule(
                "numbering",
                f"seed {seed.number}",
                f"the seed delivered as number {number} is called seed {seed.number}.",
            )
    if len(plan.needles) > rules.max_count:
        yield BrokenRule(
            "count", "plan", f"{len(plan.needles)} needles; the protocol allows {rules.max_count}."
        )
    if len(plan.seeds) > rules.max_seeds:
        yield BrokenRule("count", "plan", f"{len(plan.seeds)} seeds; the protocol allows {rules.max_seeds}.")
    for needle in plan.needles:
        if not needle.seeds:
            yield BrokenRule("count", needle.name, f"needle {needle.name} holds no seed; leave it out.")
        shown = needle.reference_depth_mm
        if shown is not None and not 0.0 < shown <= needle.depth_mm + ROUNDING_MM:
            yield BrokenRule(
                "references",
                needle.name,
                f"needle {needle.name}: its reference depth {shown:g} mm does not lie between skin and tip "
                f"({needle.depth_mm:.1f} mm).",
            )
    wanted_references = min(rules.reference_count, len(plan.needles))
    if len(plan.reference_needles) < wanted_references:
        yield BrokenRule(
            "references",
            "plan",
            f"{len(plan.reference_needles)} reference needles; the protocol asks for {wanted_references}.",
        )


def _of_the_grid(plan: Plan, rules: NeedleRules, rig: RigReach) -> Iterator[BrokenRule]:
    if not plan.needles:
        return
    rig_from_patient = plan.planned_patient_from_rig().inverse()
    tips = rig_from_patient.apply([needle.tip_mm for needle in plan.needles])
    entries = rig_from_patient.apply([needle.entry_mm for needle in plan.needles])
    holes = rig_from_patient.apply(plan.face_crossings_mm()) if plan.is_oblique else tips
    cells = [hole_cell(needle.hole) for needle in plan.needles]
    named = [n for n, cell in enumerate(cells) if cell is not None]
    offset = np.array([holes[n, :2] - plan.pitch_mm * np.array(cells[n]) for n in named]).reshape(-1, 2)
    grid_mm = np.median(offset, axis=0) if len(offset) else np.zeros(2)  # what most of them agree on
    if plan.is_oblique:
        yield from _of_the_angles(plan, tips - entries, rules, rig)
    for n, needle in enumerate(plan.needles):
        name, aside = needle.name, float(np.linalg.norm(tips[n, :2] - entries[n, :2]))
        if not plan.is_oblique and (aside > ASIDE_MM or tips[n, 2] <= entries[n, 2]):
            angle = angle_between_deg(tips[n] - entries[n], (0.0, 0.0, 1.0))
            yield BrokenRule(
                "parallel", name, f"needle {name} is tilted {angle:.2f} degrees against the rig's z."
            )
        near = HOLE_OBLIQUE_MM if plan.is_oblique else ASIDE_MM
        if (cell := cells[n]) is None:
            yield BrokenRule(
                "hole",
                name,
                f"needle {name}: '{needle.hole}' is no hole's name; letters, then a number from 1.",
            )
        elif (off := float(np.linalg.norm(holes[n, :2] - plan.pitch_mm * np.array(cell) - grid_mm))) > near:
            digits = 1 if off > 0.5 else 3
            yield BrokenRule(
                "hole", name, f"needle {name} stands {off:.{digits}f} mm beside hole {needle.hole}."
            )
        sideways = _sideways_mm(holes[n], tips[n] - entries[n], rig) if plan.is_oblique else tips[n, :2]
        if np.abs(sideways).max() > rig.lateral_mm + ROUNDING_MM:
            yield BrokenRule(
                "reach",
                name,
                f"needle {name} stands {np.abs(sideways).max():.1f} mm aside; the rig reaches "
                f"{rig.lateral_mm:g} mm.",
            )
        deepest, deep = min(rig.deepest_tip_mm, rules.length_mm), float(tips[n, 2])
        if plan.is_oblique:
            slant = max(needle_slant(tips[n] - entries[n]), 0.1)
            deepest = min(rig.deepest_along_mm(slant), rules.length_mm)
            deep = float(np.linalg.norm(tips[n] - holes[n]))
        if deep > deepest + ROUNDING_MM:
            yield BrokenRule(
                "reach",
                name,
                f"needle {name}: its tip lies {deep:.1f} mm behind the template's face; {deepest:g} mm "
                "can be reached.",
            )
        if entries[n, 2] < rules.template_gap_mm - ROUNDING_MM:
            yield BrokenRule(
                "reach",
                name,
                f"needle {name}: its entry lies {entries[n, 2]:.1f} mm behind the template's face; "
                f"{rules.template_gap_mm:g} mm are kept.",
            )
        if needle.depth_mm > rules.max_depth_mm + ROUNDING_MM:
            yield BrokenRule(
                "depth",
                name,
                f"needle {name} is {needle.depth_mm:.1f} mm deep; {rules.max_depth_mm:g} mm are allowed.",
            )
    distances = needle_distances_mm(plan)
    for (n, one), (k, other) in combinations(enumerate(plan.needles), 2):
        apart = float(distances[n, k])
        if apart < rules.min_distance_mm - ROUNDING_MM:
            yield BrokenRule(
                "needle-distance",
                one.name,
                f"needles {one.name} and {other.name} are {apart:.1f} mm apart; {rules.min_distance_mm:g} mm are kept.",
            )


def needle_slant(direction: Floats) -> float:
    """Cosine of the angle between a direction of the rig frame and its z."""
    return float(direction[2] / np.linalg.norm(direction))


def _sideways_mm(hole_rig_mm: Floats, direction: Floats, rig: RigReach) -> Floats:
    """``(3, 2)`` where an oblique needle's guide stands in the face and in the rig's two planes."""
    run = direction[:2] / max(float(direction[2]), 1e-6)
    return np.array([hole_rig_mm[:2] + z * run for z in (0.0, rig.front_mm, rig.back_mm)])


def _of_the_angles(plan: Plan, along: Floats, rules: NeedleRules, rig: RigReach) -> Iterator[BrokenRule]:
    for needle, direction in zip(plan.needles, along, strict=True):
        if (tilt := angle_between_deg(direction, (0.0, 0.0, 1.0))) > rig.angle_deg + ANGLE_SLACK_DEG:
            yield BrokenRule(
                "angle",
                needle.name,
                f"needle {needle.name} is tilted {tilt:.1f} degrees against the rig's z; the rig tilts its guide by "
                f"{rig.angle_deg:g}.",
            )
    for (n, one), (k, other) in combinations(enumerate(plan.needles), 2):
        if (angle := angle_between_deg(along[n], along[k])) > rules.max_angle_deg + ANGLE_SLACK_DEG:
            yield BrokenRule(
                "angle",
                one.name,
                f"needles {one.name} and {other.name} stand {angle:.1f} degrees to each other; "
                f"{rules.max_angle_deg:g} are allowed.",
            )


def _of_the_seeds(plan: Plan, rules: NeedleRules) -> Iterator[BrokenRule]:
    for needle in plan.needles:
        depths = []
        for seed in needle.seeds:
            offset = np.subtract(seed.centre_mm, needle.entry_mm)
            depth = float(offset @ needle.direction)
            depths.append(depth)
            aside = float(np.linalg.norm(offset - depth * needle.direction))
            who = f"seed {seed.number} of needle {needle.name}"
            if aside > ASIDE_MM:
                yield BrokenRule(
                    "seed-on-needle",
                    f"seed {seed.number}",
                    f"{who} lies {aside:.2f} mm beside the needle's axis.",
                )
            lead = needle.depth_mm - depth
            least = rules.tip_beyond_seed_mm
            if depth < 0.5 * plan.seed_length_mm - ROUNDING_MM or lead < least - ROUNDING_MM:
                yield BrokenRule(
                    "seed-on-needle",
                    f"seed {seed.number}",
                    f"{who} lies {depth:.1f} mm behind the skin and {lead:.2f} mm before the tip; it must lie whole "
                    f"behind the skin and at least {least:g} mm before the tip.",
                )
            wanted = lead + 0.5 * plan.seed_length_mm
            if abs(seed.retraction_mm - wanted) > 2.0 * ROUNDING_MM:
                yield BrokenRule(
                    "retraction",
                    f"seed {seed.number}",
                    f"{who} states a retraction of {seed.retraction_mm:.3f} mm; its place needs {wanted:.3f} mm.",
                )
        for (near, deep), (first, second) in zip(pairwise(depths), pairwise(needle.seeds), strict=True):
            gap, step = near - deep, rules.seed_spacing_mm
            pair = f"seeds {first.number} and {second.number} of needle {needle.name}"
            if gap <= 0.0:
                yield BrokenRule(
                    "seed-on-needle", f"seed {second.number}", f"{pair} are not in order, deepest first."
                )
            elif gap < step - ROUNDING_MM or abs(gap - step * round(gap / step)) > 2.0 * ROUNDING_MM:
                yield BrokenRule(
                    "seed-spacing",
                    f"seed {second.number}",
                    f"{pair} are {gap:.2f} mm apart, not a whole number of steps of {step:g} mm.",
                )
    owner = [n for n, needle in enumerate(plan.needles) for _ in needle.seeds]
    name = [needle.name for needle in plan.needles for _ in needle.seeds]
    centres, least = plan.seed_centres_mm(), min(rules.seed_spacing_mm, rules.min_distance_mm)
    for i, j in combinations(range(len(centres)), 2):
        apart = float(np.linalg.norm(centres[i] - centres[j]))
        if owner[i] != owner[j] and apart < least - ROUNDING_MM:
            yield BrokenRule(
                "seed-spacing",
                f"seed {plan.seeds[j].number}",
                f"seeds {plan.seeds[i].number} ({name[i]}) and {plan.seeds[j].number} ({name[j]}) are {apart:.1f} mm "
                f"apart; {least:g} mm are kept.",
            )


def needle_distances_mm(plan: Plan) -> Floats:
    """``(n, n)`` distances of the needles' axes; zero on the diagonal.

    Of parallel ones those of the lines; of others the least along their paths: from the template's outer face to the
    tip in an oblique plan, from skin to tip where a needle of a coplanar plan was tilted by hand.
    """
    tips = np.array([needle.tip_mm for needle in plan.needles]).reshape(-1, 3)
    if plan.is_oblique:
        return all_distances_mm(plan.face_crossings_mm(), tips)
    entries = np.array([needle.entry_mm for needle in plan.needles]).reshape(-1, 3)
    found = all_distances_mm(entries, tips)
    for i, j in combinations(range(len(plan.needles)), 2):
        u, v = plan.needles[i].direction, plan.needles[j].direction
        if angle_between_deg(u, v) < PARALLEL_DEG:
            between = entries[j] - entries[i]
            found[i, j] = found[j, i] = float(np.linalg.norm(between - (between @ u) * u))
    return found
