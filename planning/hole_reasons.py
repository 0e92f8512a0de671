"""Why a hole of a plan's template carries no needle: asked of the plan and its CT, hole by hole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from planning.anatomy import Anatomy
from planning.bundle import Bundle, follow
from planning.clearance import clearance_of
from planning.frame import Floats
from planning.needles import RigReach, TemplatePose, hole_cell, hole_name, out_of_reach
from planning.oblique import MISSES, cone_of_directions, greatest_tilt_deg
from planning.plan import Plan
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol
from planning.target_depth import Target, target_of


@dataclass(frozen=True)
class HoleAnswer:
    """A hole's name, and why it carries a needle or none."""

    hole: str
    words: str


def why_holes(
    plan: Plan,
    anatomy: Anatomy,
    protocol: SiteProtocol,
    asked: tuple[str, ...] = (),
    rig: RigReach | None = None,
) -> tuple[HoleAnswer, ...]:
    """The answer for each hole asked for, or for all holes whose needle would meet the target.

    Raises:
        AskedWrongly: what is no hole's name; a plan whose needles' holes are not on one grid.
    """
    rig = rig or RigReach()
    pose = _pose(plan)
    target = target_of(anatomy.ctv, anatomy.grid)
    clearance = clearance_of(anatomy, protocol.entry)
    directions = pose.axes[2:]
    if plan.is_oblique:
        directions = cone_of_directions(pose.axes, greatest_tilt_deg(protocol.needle, rig))
        directions = directions[
            directions @ -anatomy.couch <= np.cos(np.radians(protocol.entry.couch_keep_out_deg))
        ]
    cells = _cells(asked, target, pose)
    reasons: list[Counter[str]] = [Counter() for _ in cells]
    ways = [0] * len(cells)
    for direction in directions:
        bundle = follow(clearance, target, pose.hole_mm(cells), direction, protocol.needle)
        for n in range(len(cells)):
            reason = _reason(bundle, n, pose, rig)
            if reason is None:
                ways[n] += 1
            else:
                reasons[n][reason] += 1
    answers = tuple(
        HoleAnswer(hole_name(*cell), _words(cell, ways[n], reasons[n], len(directions), plan, protocol))
        for n, cell in enumerate(map(tuple, cells.tolist()))
    )
    return answers if asked else tuple(answer for answer in answers if answer.words != MISSES)


def _pose(plan: Plan) -> TemplatePose:
    """The plan's lattice in the template's face, hole A1 at its centre."""
    rig = plan.planned_patient_from_rig()
    crossings = rig.inverse().apply(plan.face_crossings_mm())
    cells = [hole_cell(needle.hole) for needle in plan.needles]
    offsets = [
        crossings[n, :2] - plan.pitch_mm * np.array(cell) for n, cell in enumerate(cells) if cell is not None
    ]
    if not offsets:
        raise AskedWrongly(
            "plan: no needle names a hole of the grid, so it can't be told where the holes are."
        )
    x, y = np.median(offsets, axis=0)
    return TemplatePose(rig.rotation.T, rig.apply([x, y, 0.0]), plan.pitch_mm)


def _cells(asked: tuple[str, ...], target: Target, pose: TemplatePose) -> np.ndarray:
    if asked:
        found = [(name, hole_cell(name.upper())) for name in asked]
        for name, cell in found:
            if cell is None:
                raise AskedWrongly(f"{name}: no hole's name; letters, then a number from 1, as in C4.")
        return np.array([cell for _, cell in found])
    local = (target.points_mm - pose.centre_mm) @ pose.axes.T
    low = np.maximum(np.floor(local[:, :2].min(axis=0) / pose.pitch_mm).astype(int), 0)
    high = np.ceil(local[:, :2].max(axis=0) / pose.pitch_mm).astype(int)
    grid = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 2)


def _reason(bundle: Bundle, n: int, pose: TemplatePose, rig: RigReach) -> str | None:
    """Why nothing goes along ray ``n``; None when something can."""
    depths, rules = bundle.seed_depths(n), bundle.rules
    if not len(depths):
        return bundle.why_not(n)[0]
    entry: Floats = bundle.point(n, float(bundle.rays.entry_t[n]))
    slant = float(bundle.direction @ pose.direction)
    before = float((entry - pose.centre_mm) @ pose.direction) / slant
    longest = min(rules.max_depth_mm, min(rig.deepest_along_mm(slant), rules.length_mm) - before)
    needed = float(depths[0]) + rules.tip_beyond_seed_mm
    return out_of_reach(needed, longest) if needed > longest else None


def _words(
    cell: tuple[int, int],
    ways: int,
    reasons: Counter[str],
    tried: int,
    plan: Plan,
    protocol: SiteProtocol,
) -> str:
    here = hole_name(*cell)
    used = [needle.name for needle in plan.needles if needle.hole == here]
    if used:
        return f"carries {', '.join(used)}"
    if not ways and tried == 1:
        return next(iter(reasons))
    if not ways:
        what: Counter[str] = Counter()
        for words, n in reasons.items():
            what[words.split(":")[0]] += n
        stopped = [f"{words} ({n})" for words, n in what.most_common(5) if words != MISSES]
        return f"none of {tried} directions is open: {', '.join(stopped)}" if stopped else MISSES
    of = "" if tried == 1 else f" in {ways} of {tried} directions"
    near = [
        (plan.pitch_mm * float(np.hypot(cell[0] - other[0], cell[1] - other[1])), needle.name)
        for needle in plan.needles
        if (other := hole_cell(needle.hole)) is not None
    ]
    apart, name = min(near, default=(np.inf, ""))
    if apart < protocol.needle.min_distance_mm:
        return f"open{of}, but {name} is {apart:.1f} mm away; {protocol.needle.min_distance_mm:g} mm are kept"
    return f"open{of}; a needle there would cost more than its seeds are worth"
