"""From chosen holes and seeds to the plan's needles, the rig's pose and the reference needles.

Geometry of the delivery (assumed, ``planning.plan``): the needle goes in until its tip stands at ``tip_mm``; a
seed then comes to lie in the channel that the needle has left, just ahead of the tip.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from planning.frame import Floats
from planning.needles import NeedlePath, NeedleSet
from planning.plan import PlannedNeedle, PlannedSeed, rounded_point
from planning.site_protocol import NeedleRules

Loaded = tuple[tuple[NeedlePath, Floats], ...]
"""Paths in use in order of their holes (column, then row), each with its seeds' depths, deepest first."""


def loaded_paths(needles: NeedleSet, chosen: NDArray[np.int64]) -> Loaded:
    """The paths that hold ``chosen`` (indices into ``needles.seed_positions()``)."""
    depths = np.concatenate([path.seed_depths_mm for path in needles.paths])
    _, path_of, _ = needles.seed_positions()
    used = sorted(
        set(path_of[chosen].tolist()), key=lambda n: (needles.paths[n].column, needles.paths[n].row)
    )
    return tuple((needles.paths[n], np.sort(depths[chosen[path_of[chosen] == n]])[::-1]) for n in used)


def planned_needles(loaded: Loaded, rules: NeedleRules, seed_length_mm: float) -> tuple[PlannedNeedle, ...]:
    """Needles N01 ... in the order of ``loaded``, seeds numbered in order of delivery, references marked."""
    places = np.array([(path.column, path.row) for path, _ in loaded]) * rules.pitch_mm
    tips = np.array([depths[0] + rules.tip_beyond_seed_mm for _, depths in loaded])
    references = choose_references(places, tips, rules.reference_count, rules.reference_depth_mm)
    result, number = [], 0
    for n, (path, depths) in enumerate(loaded):
        seeds = []
        for depth in depths:
            number += 1
            retraction = round(float(tips[n] - depth + 0.5 * seed_length_mm), 3)
            seeds.append(
                PlannedSeed(number, rounded_point(path.entry_mm + depth * path.direction), retraction)
            )
        result.append(
            PlannedNeedle(
                name=f"N{n + 1:02d}",
                hole=path.hole,
                entry_mm=rounded_point(path.entry_mm),
                tip_mm=rounded_point(path.entry_mm + tips[n] * path.direction),
                reference_depth_mm=round(min(rules.reference_depth_mm, float(tips[n])), 3)
                if n in references
                else None,
                seeds=tuple(seeds),
            )
        )
    return tuple(result)


def rig_pose(needles: NeedleSet, loaded: Loaded, rules: NeedleRules) -> tuple[tuple[float, ...], ...]:
    """``patient_from_rig`` (4, 4): origin on the middle of the holes in use, in the template's outer face.

    The face lies ``rules.template_gap_mm`` outside the skin at the outermost of the entries in use. An oblique set's
    lattice lies in the face already; origin and face are those it was made for.
    """
    pose = needles.pose
    holes = np.array([(path.column, path.row) for path, _ in loaded])
    path, hole = loaded[0][0], holes[0]
    middle = 0.5 * (holes.min(axis=0) + holes.max(axis=0))
    across = pose.pitch_mm * ((middle - hole) @ pose.axes[:2])
    face_along = min(path.entry_along_mm for path, _ in loaded) - rules.template_gap_mm
    origin = rounded_point(path.at_mm(face_along, pose) + across)
    if needles.face_along_mm is not None:
        origin = rounded_point(pose.centre_mm + needles.face_along_mm * pose.direction)
    rotation = pose.axes.T
    rows = [(*(round(float(v), 12) + 0.0 for v in rotation[r]), origin[r]) for r in range(3)]
    return (*rows, (0.0, 0.0, 0.0, 1.0))


def choose_references(xy_mm: Floats, depths_mm: Floats, count: int, depth_mm: float) -> tuple[int, ...]:
    """Indices of the needles that show best how the rig stands: wide apart and deep enough.

    Two are chosen for their distance, three or more for the area they span (the determinant of their scatter).
    Needles whose own tip is shallower than ``depth_mm`` are taken only where too few others exist.

    Args:
        xy_mm: ``(n, 2)`` holes in the template's plane; depths_mm: ``(n,)`` of the tips behind the skin.
    """
    count = min(count, len(xy_mm))
    pool = [n for n in range(len(xy_mm)) if depths_mm[n] >= depth_mm]
    if len(pool) < count:
        pool = list(range(len(xy_mm)))
    # Best pair or triple by trying all; more are added one by one, for the combinations would be millions.
    chosen = max(combinations(pool, min(count, 3)), key=lambda some: _spread(xy_mm[list(some)]))
    while len(chosen) < count:
        held = chosen
        rest = [n for n in pool if n not in held]
        chosen = (*held, max(rest, key=lambda n: _spread(xy_mm[[*held, n]])))
    return tuple(sorted(chosen))


def _spread(xy_mm: Floats) -> tuple[float, float]:
    """Area spanned, then length spanned (for pairs, and for needles all in one row)."""
    offset = xy_mm - xy_mm.mean(axis=0)
    scatter = offset.T @ offset
    return round(float(np.linalg.det(scatter)), 6), round(float(np.trace(scatter)), 6)
