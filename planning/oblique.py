"""Oblique needle paths: through the holes of one lattice in the template's face, each hole at angles of its own.

All directions lie within half of ``needle.max_angle_deg`` of the rig's z (and within what the rig tilts), so no two
needles differ by more than the whole. A hole is named as in a coplanar template; it carries one needle, whose angle
follows from entry and tip. Of all paths that reach the target a few hundred are kept for the loading: every parallel
one, and then those that show most of what the kept ones reach least.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from planning.bundle import follow
from planning.clearance import NEVER_IN_BODY, NO_SKIN, ClearanceMap
from planning.frame import Floats, unit
from planning.needle_gap import all_distances_mm
from planning.needles import (
    PARALLEL,
    NeedlePath,
    NeedleSet,
    RejectedHole,
    RigReach,
    TemplatePose,
    hole_name,
    out_of_reach,
)
from planning.site_protocol import NeedleRules
from planning.target_depth import Target

RINGS = ((0.35, 6), (0.7, 12), (1.0, 16))  # parts of the greatest tilt, and how many directions at each
PATHS = 180  # kept for the loading
SEEN_MM = 5.0  # a path shows the target's points within this distance of its places for seeds
TUBES_MM = 20.0  # guides of a printed template may reach this far outside the face,
TUBES_APART_MM = 3.0  # where axes keep this: bore, wall and a little
OUT = "the skin stands out to the template's face there"
BESIDE = "out of reach: beyond the rig's sideways travel"
MISSES = "misses the target"


def greatest_tilt_deg(rules: NeedleRules, rig: RigReach) -> float:
    """Between a needle and the rig's z."""
    return min(0.5 * rules.max_angle_deg, rig.angle_deg)


def cone_of_directions(axes: Floats, tilt_deg: float) -> Floats:
    """``(n, 3)`` unit vectors within ``tilt_deg`` of the last row of ``axes``, that one first."""
    found = [axes[2]]
    for part, count in RINGS:
        tilt = np.radians(part * tilt_deg)
        for turn in 2.0 * np.pi * np.arange(count) / count:
            across = np.cos(turn) * axes[0] + np.sin(turn) * axes[1]
            found.append(unit(np.cos(tilt) * axes[2] + np.sin(tilt) * across))
    return np.array(found)


@dataclass(frozen=True, eq=False)
class _Line:
    """One open path, by its cell of the lattice (not yet counted from the first one in use)."""

    cell: tuple[int, int]
    entry_mm: Floats
    direction: Floats
    along_mm: float
    reach_mm: float
    depths_mm: Floats


def oblique_set(
    clearance: ClearanceMap,
    target: Target,
    pose: TemplatePose,
    rules: NeedleRules,
    rig: RigReach,
    *,
    up: Floats,
    couch_keep_out_deg: float,
) -> NeedleSet:
    """Paths through the lattice of ``pose``, which is moved along its direction into the template's face.

    The rig's origin is the hole of column and row 0 there: what it can reach is judged from it.

    Args:
        up, couch_keep_out_deg: directions of insertion within this angle of ``up`` are not offered.
    """
    tilt = greatest_tilt_deg(rules, rig)
    pose = _in_the_face(clearance, target, pose, rules, tilt)
    lines: list[_Line] = []
    refused: dict[tuple[int, int], Counter[tuple[str, str | None]]] = defaultdict(Counter)
    for direction in cone_of_directions(pose.axes, tilt):
        if direction @ up > np.cos(np.radians(couch_keep_out_deg)):
            continue
        cells = _cells_over(target, pose, direction)
        bundle = follow(clearance, target, pose.hole_mm(cells), direction, rules)
        slant = float(direction @ pose.direction)
        for n, cell in enumerate(map(tuple, cells.tolist())):
            depths, t = bundle.seed_depths(n), float(bundle.rays.entry_t[n])
            if not len(depths):
                words, structure = bundle.why_not(n)
                refused[cell][structure or words, structure] += 1
                continue
            entry = bundle.point(n, t)
            along = float((entry - pose.centre_mm) @ pose.direction)
            before = along / slant
            deepest = min(rig.deepest_along_mm(slant), rules.length_mm) - before
            longest = min(rules.max_depth_mm, deepest, float(bundle.rays.reach_t[n] - t))
            usable = depths[depths + rules.tip_beyond_seed_mm <= longest]
            if beside := _why_not_set(cell, direction, pose, rig):
                refused[cell][beside, None] += 1
            elif along < rules.template_gap_mm - 1e-6:
                refused[cell][OUT, None] += 1
            elif not len(usable):
                refused[cell][out_of_reach(depths[0] + rules.tip_beyond_seed_mm, longest), None] += 1
            else:
                lines.append(_Line(cell, entry, direction, along, float(longest), usable))
    return _assemble(_chosen(lines, target, pose), lines, refused, pose)


def gaps_mm(needles: NeedleSet, rules: NeedleRules) -> Floats:
    """``(n, n)`` least distance of every two paths from the template's face to the deepest tip each could have.

    Zero where their guides outside the face would run into each other, or both use one hole.
    """
    face, pose = needles.face_along_mm or 0.0, needles.pose
    starts = np.array([path.at_mm(face, pose) for path in needles.paths])
    outer = np.array([path.at_mm(face - TUBES_MM, pose) for path in needles.paths])
    tips = np.array(
        [
            path.entry_mm + (path.seed_depths_mm[-1] + rules.tip_beyond_seed_mm) * path.direction
            for path in needles.paths
        ]
    )
    found = all_distances_mm(starts, tips)
    found[all_distances_mm(outer, starts) < TUBES_APART_MM] = 0.0
    return found


def _in_the_face(
    clearance: ClearanceMap, target: Target, pose: TemplatePose, rules: NeedleRules, tilt_deg: float
) -> TemplatePose:
    """The pose with its lattice in the outer face: ``template_gap_mm`` outside the outermost skin it stands over."""
    local = (target.points_mm - pose.centre_mm) @ pose.axes.T

    def outermost(room_mm: float) -> float | None:
        low = np.floor((local[:, :2].min(axis=0) - room_mm) / pose.pitch_mm).astype(int)
        high = np.ceil((local[:, :2].max(axis=0) + room_mm) / pose.pitch_mm).astype(int)
        columns, rows = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
        cells = np.stack(np.meshgrid(columns, rows, indexing="ij"), axis=-1).reshape(-1, 2)
        bundle = follow(clearance, target, pose.hole_mm(cells), pose.direction, rules)
        seen = ~np.isin(bundle.rays.stop, (NO_SKIN, NEVER_IN_BODY))
        along = (bundle.starts_mm - pose.centre_mm) @ pose.direction + bundle.rays.entry_t
        return float(along[seen].min()) if seen.any() else None

    over = outermost(0.0)
    if over is None:
        return pose
    deep = max(0.0, float(np.median(local[:, 2])) - over)
    wide = outermost(deep * float(np.tan(np.radians(tilt_deg))))
    face = (over if wide is None else wide) - rules.template_gap_mm
    return TemplatePose(pose.axes, pose.centre_mm + face * pose.direction, pose.pitch_mm)


def _cells_over(target: Target, pose: TemplatePose, direction: Floats) -> np.ndarray:
    """Cells ``(n, 2)`` whose line along ``direction`` passes over the target, or just beside it."""
    local = (target.points_mm - pose.centre_mm) @ pose.axes.T
    run = direction @ pose.axes.T
    shadow = local[:, :2] - local[:, 2:] * (run[:2] / run[2])
    low = np.floor(shadow.min(axis=0) / pose.pitch_mm).astype(int)
    high = np.ceil(shadow.max(axis=0) / pose.pitch_mm).astype(int)
    columns, rows = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
    cells = np.stack(np.meshgrid(columns, rows, indexing="ij"), axis=-1).reshape(-1, 2)
    near, _ = cKDTree(shadow).query(cells * pose.pitch_mm, distance_upper_bound=pose.pitch_mm)
    return np.asarray(cells[np.isfinite(near)])


def _why_not_set(cell: tuple[int, int], direction: Floats, pose: TemplatePose, rig: RigReach) -> str | None:
    """Why the rig, whose origin stands at ``pose.centre_mm``, can't set its guide so; None when it can."""
    run = direction @ pose.axes.T
    at = [np.array(cell) * pose.pitch_mm + z * run[:2] / run[2] for z in (0.0, rig.front_mm, rig.back_mm)]
    return BESIDE if np.abs(at).max() > rig.lateral_mm else None


def _chosen(lines: list[_Line], target: Target, pose: TemplatePose) -> list[_Line]:
    """At most ``PATHS`` of the lines: the parallel ones, then by what each adds to what is shown least."""
    if len(lines) <= PATHS:
        return lines
    shows = np.array([_shown(line, target.points_mm) for line in lines], dtype=np.float32)
    parallel = np.array([float(line.direction @ pose.direction) >= PARALLEL for line in lines])
    kept = np.flatnonzero(parallel).tolist()[:PATHS]
    times = shows[kept].sum(axis=0)
    left = ~parallel
    while len(kept) < PATHS:
        gain = shows @ (1.0 / (1.0 + times) ** 2)
        pick = int(np.where(left, gain, -1.0).argmax())
        kept.append(pick)
        left[pick] = False
        times = times + shows[pick]
    return [lines[n] for n in sorted(kept)]


def _shown(line: _Line, points_mm: Floats) -> np.ndarray:
    offset = points_mm - line.entry_mm
    along = np.clip(offset @ line.direction, line.depths_mm[0], line.depths_mm[-1])
    return np.asarray(np.linalg.norm(offset - along[:, None] * line.direction, axis=1) <= SEEN_MM)


def _assemble(
    chosen: list[_Line],
    lines: list[_Line],
    refused: dict[tuple[int, int], Counter[tuple[str, str | None]]],
    pose: TemplatePose,
) -> NeedleSet:
    cells = sorted({*refused, *(line.cell for line in lines)})
    first = np.array(cells).min(axis=0) if cells else np.zeros(2, dtype=int)
    names = {cell: hole_name(int(cell[0] - first[0]), int(cell[1] - first[1])) for cell in cells}
    paths = [
        NeedlePath(
            names[line.cell],
            int(line.cell[0] - first[0]),
            int(line.cell[1] - first[1]),
            line.entry_mm,
            line.direction,
            line.along_mm,
            line.reach_mm,
            line.depths_mm,
        )
        for line in sorted(chosen, key=lambda line: line.cell)
    ]
    open_cells = {line.cell for line in lines}
    rejected = [
        RejectedHole(names[cell], *_in_words(refused[cell])) for cell in cells if cell not in open_cells
    ]
    return NeedleSet(pose, tuple(paths), tuple(rejected), face_along_mm=0.0)


def _in_words(reasons: Counter[tuple[str, str | None]]) -> tuple[str, str | None]:
    """Why none of a hole's directions is open."""
    tried = sum(reasons.values())
    stopped = [(words, structure, n) for (words, structure), n in reasons.most_common() if words != MISSES]
    if not stopped:
        return MISSES, None
    parts = ", ".join(f"{words} ({n})" for words, _, n in stopped)
    return f"none of {tried} directions is open: {parts}", stopped[0][1]
