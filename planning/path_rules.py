"""The rules of a plan that need the CT: entries on the skin, clear paths, seeds in the CTV; and needles' clearances.

Paths are followed by the same kernel that the planner uses (``planning.clearance.trace``), each needle along its own
axis and at the samples the planner took, so what the planner allowed passes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from planning.anatomy import Anatomy
from planning.bundle import SKIN_BEHIND_TIP_MM
from planning.clearance import (
    LEAVES_BODY,
    NEVER_IN_BODY,
    NO_ENTRY,
    NO_SKIN,
    STEP_MM,
    ClearanceMap,
    clearance_of,
    nearest_mm,
    trace,
)
from planning.frame import Floats, angle_between_deg
from planning.plan import Plan, PlannedNeedle
from planning.plan_rules import ROUNDING_MM, BrokenRule, needle_distances_mm
from planning.site_protocol import SiteProtocol
from planning.target_depth import Target, target_of

ON_SKIN_MM = 1.0  # an entry lies this near to the skin that the CT shows: two steps of the trace
ROUNDED_MM = 0.01  # a path that was clear by less than this may be off by the rounding of its ends
SEEN_MM = 15.0  # clearances are told up to this distance


@dataclass(frozen=True)
class NeedleFigures:
    """What is told of one needle.

    Attributes:
        nearest_structure, clearance_mm: the forbidden structure that it comes nearest to, of those within 15 mm
            ("" and infinity when there is none), measured from its axis to voxel boxes.
        nearest_needle, apart_mm: the needle next to it ("" and infinity when alone).
    """

    name: str
    hole: str
    depth_mm: float
    seeds: int
    nearest_structure: str
    clearance_mm: float
    nearest_needle: str
    apart_mm: float


def broken_in_patient(
    plan: Plan, anatomy: Anatomy, protocol: SiteProtocol
) -> tuple[tuple[BrokenRule, ...], tuple[NeedleFigures, ...]]:
    """The broken rules that show on the CT, and the figures of every needle."""
    clearance, edge = clearance_of(anatomy, protocol.entry), protocol.entry.scan_edge_mm
    lenient = replace(
        clearance,
        clearance_mm=np.maximum(clearance.clearance_mm - ROUNDED_MM, 0.0),
        scan_edge_mm=max(0.0, edge - ROUNDED_MM),
    )
    target = target_of(anatomy.ctv, anatomy.grid)
    broken: list[BrokenRule] = [*_identity(plan, anatomy)]
    figures = []
    distances = needle_distances_mm(plan)
    for n, needle in enumerate(plan.needles):
        broken += _entry_and_path(needle, lenient, anatomy, protocol)
        figures.append(_figures(needle, plan, clearance, distances[n]))
    broken += _inside(plan, target, protocol.needle.seed_inside_mm)
    return tuple(broken), tuple(figures)


def _identity(plan: Plan, anatomy: Anatomy) -> Iterator[BrokenRule]:
    ct = anatomy.ct
    for what, stated, found in (
        ("patient", plan.patient_id, ct.patient_id),
        ("study", plan.study_uid, ct.study_uid),
        ("CT series", plan.series_uid, ct.series_uid),
        ("frame of reference", plan.frame_of_reference_uid, ct.frame_of_reference_uid),
    ):
        if stated != found:
            yield BrokenRule("ct", "plan", f"the plan states the {what} '{stated}'; the CT's is '{found}'.")


def _entry_and_path(
    needle: PlannedNeedle, clearance: ClearanceMap, anatomy: Anatomy, protocol: SiteProtocol
) -> Iterator[BrokenRule]:
    name, direction, depth = needle.name, needle.direction, needle.depth_mm
    to_couch = angle_between_deg(direction, -anatomy.couch)
    if to_couch < protocol.entry.couch_keep_out_deg - 1e-3:
        yield BrokenRule(
            "entry",
            name,
            f"needle {name} goes in {to_couch:.0f} degrees from straight up off the couch; "
            f"{protocol.entry.couch_keep_out_deg:g} are kept.",
        )
    entry = np.asarray(needle.entry_mm)
    ahead = STEP_MM * np.ceil(_way_out_mm(anatomy, entry, direction) / STEP_MM)
    length = ahead + depth + SKIN_BEHIND_TIP_MM + 4 * STEP_MM
    ray = trace(clearance, (entry - ahead * direction)[None], direction, float(length))
    stop, found_mm = int(ray.stop[0]), float(ray.entry_t[0] - ahead)
    reached = float(ray.reach_t[0] - ahead)
    if stop == NEVER_IN_BODY:
        yield BrokenRule("entry", name, f"needle {name} does not enter the body.")
        return
    if stop == NO_SKIN:
        yield BrokenRule(
            "entry",
            name,
            f"needle {name}: its skin lies outside the scan or within {protocol.entry.scan_edge_mm:g} mm of its edge.",
        )
        return
    if stop == NO_ENTRY:
        zone = clearance.no_entry_names[int(ray.zone[0]) - 1]
        yield BrokenRule(
            "entry", name, f"needle {name} enters the skin within {clearance.no_entry_mm:g} mm of {zone}."
        )
    if abs(found_mm) > ON_SKIN_MM:
        where = "before" if found_mm < 0.0 else "behind"
        yield BrokenRule(
            "entry",
            name,
            f"needle {name}: the skin is met {abs(found_mm):.1f} mm {where} the entry that the plan states.",
        )
    if stop == LEAVES_BODY and reached < depth + SKIN_BEHIND_TIP_MM - STEP_MM:
        yield BrokenRule(
            "far-skin",
            name,
            f"needle {name} leaves the body {reached:.0f} mm behind its entry; its tip is {depth:.0f} mm deep and "
            f"keeps {SKIN_BEHIND_TIP_MM:g} mm.",
        )
    if stop > 0 and reached < depth - ROUNDING_MM:
        structure = clearance.names[stop - 1]
        keep = anatomy.forbidden[structure]
        yield BrokenRule(
            "clearance",
            name,
            f"needle {name} comes within {keep:g} mm of {structure} {max(reached, 0.0):.0f} mm behind the skin.",
        )


def _way_out_mm(anatomy: Anatomy, entry_mm: Floats, direction: Floats) -> float:
    """How far back from the entry the axis is outside the CT."""
    grid = anatomy.grid
    corners = grid.point_of(np.array(list(product((0, 1), repeat=3))) * (np.array(grid.shape) - 1))
    return float(max(0.0, -((corners - entry_mm) @ direction).min()) + 2.0)


def _inside(plan: Plan, target: Target, inside_mm: float) -> Iterator[BrokenRule]:
    nudges = ROUNDING_MM * (np.array(list(product((-0.5, 0.0, 0.5), repeat=3))))
    for needle in plan.needles:
        for seed in needle.seeds:
            # The place was judged before it was rounded; a voxel's boundary may lie between.
            depth = float(target.depth_at(np.asarray(seed.centre_mm) + nudges).max())
            if not depth > inside_mm:
                where = "outside the CTV" if depth <= 0.0 else f"{depth:.1f} mm inside the CTV"
                yield BrokenRule(
                    "seed-inside",
                    f"seed {seed.number}",
                    f"seed {seed.number} of needle {needle.name} lies {where}; more than {inside_mm:g} mm inside "
                    "are asked for.",
                )


def _figures(needle: PlannedNeedle, plan: Plan, clearance: ClearanceMap, distances: Floats) -> NeedleFigures:
    distance = nearest_mm(clearance, np.asarray(needle.entry_mm), np.asarray(needle.tip_mm), SEEN_MM)
    near = int(np.argmin(distance)) if len(distance) and np.isfinite(distance.min()) else None
    others = [
        (float(apart), other.name)
        for apart, other in zip(distances, plan.needles, strict=True)
        if other is not needle
    ]
    apart, beside = min(others, default=(float("inf"), ""))
    return NeedleFigures(
        needle.name,
        needle.hole,
        needle.depth_mm,
        len(needle.seeds),
        "" if near is None else clearance.names[near],
        float("inf") if near is None else float(distance[near]),
        beside,
        apart,
    )
