"""From where to go in: the direction of insertion and the lattice's place that reach most of the target.

Many directions over the sphere are judged by the coarse clearance map, point by point of the target; around
the best ones a finer fan is tried; then whole lattices of holes are traced exactly, at several turns and
shifts. All fixed counts, no chance, no clock: the same anatomy gives the same needle set.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from planning.clearance import ClearanceMap, depths_backwards
from planning.frame import Floats, unit
from planning.needles import NeedleSet, RigReach, needle_set, template_pose
from planning.oblique import cone_of_directions, greatest_tilt_deg, oblique_set
from planning.refusal import AskedWrongly
from planning.site_protocol import NeedleRules
from planning.target_depth import Target

DIRECTIONS = 1000  # over the whole sphere: neighbours about 6.4 degrees apart
FAN_DEG = (3.0, 1.5)
REFINED = 6  # directions that get a finer fan
TRACED = 3  # directions whose lattices are traced
CONES = 12  # middle directions looked at for an oblique set
ENOUGH_WAYS = 4  # directions from which a point of the target is reached; more count no further
TURNS_DEG = (0.0, 30.0, 60.0)
SHIFTS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5))
# Assumed: a seed covers what lies within this distance; in a loaded grid of 5 mm the prescribed dose of a
# 0.65 mCi seed and its neighbours goes about this far beyond the outermost seeds.
COVER_MM = 7.0
PRICE_PER_MM = 0.001  # assumed: 10 mm of longer path weigh as much as 1 % of the target
LEAST_COVER = 0.5  # assumed: with less of the target within COVER_MM of a possible seed there is no plan


@dataclass(frozen=True, eq=False)
class Approach:
    """The chosen needle set.

    Attributes:
        needles: holes with their paths, and the rejected ones with the reason.
        cover: part of the target (0..1) that lies within ``COVER_MM`` of a place for a seed.
        tried: number of directions looked at.
    """

    needles: NeedleSet
    cover: float
    tried: int


def sphere_of_directions(count: int) -> Floats:
    """``(count, 3)`` unit vectors spread evenly over the sphere (a Fibonacci spiral)."""
    n = np.arange(count) + 0.5
    z = 1.0 - 2.0 * n / count
    turn = np.pi * (3.0 - np.sqrt(5.0)) * n
    ring = np.sqrt(1.0 - z * z)
    return np.stack((ring * np.cos(turn), ring * np.sin(turn), z), axis=1)


@dataclass(frozen=True, eq=False)
class Wish:
    """What the physicist wants of the needle set.

    Attributes:
        oblique: needles at angles of their own instead of parallel ones.
        direction: of insertion (of an oblique set: its middle one), patient frame; None lets the planner choose.
        turn_deg: of the lattice about the direction, against ``template_pose``'s own; None lets the planner choose.
    """

    oblique: bool = False
    direction: Floats | None = None
    turn_deg: float | None = None


def find_approach(
    clearance: ClearanceMap,
    target: Target,
    rules: NeedleRules,
    rig: RigReach,
    *,
    up: Floats,
    couch_keep_out_deg: float,
    target_name: str,
    wish: Wish = Wish(),
) -> Approach:
    """The needle set that reaches most of the target on short paths.

    Args:
        up: unit vector, patient frame, straight off the couch; directions of insertion within
            ``couch_keep_out_deg`` of it would come through the couch.

    Raises:
        AskedWrongly: no direction reaches enough of it; says what is in the way.
    """
    steepest = np.cos(np.radians(couch_keep_out_deg))
    if wish.direction is None:
        directions, tried = _best_directions(clearance, target, rules, up, steepest)
    else:
        directions, tried = unit(wish.direction)[None], 1
        if directions[0] @ up > steepest:
            raise AskedWrongly(
                f"direction of insertion {_words(directions[0])}: it comes through the couch (within "
                f"{couch_keep_out_deg:g} degrees of straight up off it, entry.couch_keep_out_deg)."
            )
    middle = target.points_mm.mean(axis=0)
    axes = _apart(directions, TRACED, 2.0)
    if wish.oblique:
        axes = _widest(clearance, target, rules, rig, directions, up, steepest)
    turns = TURNS_DEG if wish.turn_deg is None else (wish.turn_deg,)
    found: list[tuple[float, float, NeedleSet]] = []
    for direction in axes:
        for turn, shift in [(t, s) for t in turns for s in SHIFTS][: 1 if wish.oblique else None]:
            pose = template_pose(direction, middle, rules.pitch_mm, turn_deg=turn, shift=shift)
            if wish.oblique:
                needles = oblique_set(
                    clearance, target, pose, rules, rig, up=up, couch_keep_out_deg=couch_keep_out_deg
                )
            else:
                needles = needle_set(clearance, target, pose, rules, rig)
            cover, depth = _coverage(needles, target)
            found.append((cover - PRICE_PER_MM * depth, cover, needles))
    _, cover, needles = max(found, key=lambda item: item[0])
    if cover < LEAST_COVER:
        chosen = (
            "no needle direction"
            if wish.direction is None
            else "the direction of insertion asked for does not"
        )
        verb = "reaches" if wish.direction is None else "reach"
        raise AskedWrongly(
            f"target '{target_name}': {chosen} {verb} enough of it ({100 * cover:.0f} % at best, "
            f"{100 * LEAST_COVER:.0f} % needed); of the holes over the target "
            f"{_why(clearance, target, directions, rules, rig)}; "
            "change the target, the clearances or the structures' roles in the site protocol."
        )
    return Approach(needles, cover, tried)


def _best_directions(
    clearance: ClearanceMap, target: Target, rules: NeedleRules, up: Floats, steepest: float
) -> tuple[Floats, int]:
    """Directions by what the coarse map shows that they reach, best first; how many were looked at."""
    dilate = _dilation(target.points_mm)
    directions = sphere_of_directions(DIRECTIONS)
    directions = directions[directions @ up <= steepest]
    score = _coarse_score(clearance, target, directions, dilate, rules)
    tried = len(directions)
    for fan in FAN_DEG:
        best = directions[np.argsort(-score, kind="stable")[:REFINED]]
        finer = np.concatenate([_fan(direction, fan) for direction in best])
        finer = finer[finer @ up <= steepest]
        tried += len(finer)
        directions = np.concatenate((directions, finer))
        score = np.concatenate((score, _coarse_score(clearance, target, finer, dilate, rules)))
    return directions[np.argsort(-score, kind="stable")], tried


def _widest(
    clearance: ClearanceMap,
    target: Target,
    rules: NeedleRules,
    rig: RigReach,
    directions: Floats,
    up: Floats,
    steepest: float,
) -> list[Floats]:
    """Middle directions of oblique sets: of the best for parallel needles, those whose cone reaches most points."""
    candidates = _apart(directions, CONES, 4.0)
    tilt = greatest_tilt_deg(rules, rig)
    scored = []
    for order, direction in enumerate(candidates):
        axes = template_pose(direction, target.points_mm[0], rules.pitch_mm).axes
        cone = cone_of_directions(axes, tilt)
        cone = cone[cone @ up <= steepest]
        depth = depths_backwards(clearance, target.points_mm, cone)
        ways = (depth + rules.tip_beyond_seed_mm <= rules.max_depth_mm).sum(axis=0)
        # Every point once, better more often: one way may be taken by another needle.
        scored.append((-float(np.minimum(ways, ENOUGH_WAYS).mean()), order))
    return [candidates[order] for _, order in sorted(scored)[:TRACED]]


def _words(direction: Floats) -> str:
    return "({})".format(", ".join(f"{v:g}" for v in np.round(direction, 3)))


def _dilation(points_mm: Floats) -> csr_matrix:
    """Sparse 0/1 ``(n, n)``: which points lie within ``COVER_MM`` of which."""
    pairs = cKDTree(points_mm).query_pairs(COVER_MM, output_type="ndarray")
    n = len(points_mm)
    rows = np.concatenate((pairs[:, 0], pairs[:, 1], np.arange(n)))
    columns = np.concatenate((pairs[:, 1], pairs[:, 0], np.arange(n)))
    return csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n, n))


def _coarse_score(
    clearance: ClearanceMap, target: Target, directions: Floats, dilate: csr_matrix, rules: NeedleRules
) -> Floats:
    """Per direction: the mean of reached and covered part of the target, less the price of the way there."""
    depth = depths_backwards(clearance, target.points_mm, directions)
    reached = depth + rules.tip_beyond_seed_mm <= rules.max_depth_mm  # NaN compares as False
    covered = (dilate @ reached.T.astype(np.float32)).T > 0
    count = np.maximum(reached.sum(axis=1), 1)
    mean_depth = np.where(reached, depth, 0.0).sum(axis=1) / count
    return np.asarray(0.5 * reached.mean(axis=1) + 0.5 * covered.mean(axis=1) - PRICE_PER_MM * mean_depth)


def _fan(direction: Floats, angle_deg: float) -> Floats:
    """Eight directions around one, all at the same angle from it."""
    across = unit(np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))]))
    other = np.cross(direction, across)
    turn = np.radians(45.0 * np.arange(8))[:, None]
    tilt = np.tan(np.radians(angle_deg))
    return unit(direction + tilt * (np.cos(turn) * across + np.sin(turn) * other))


def _apart(ordered: Floats, count: int, least_deg: float) -> list[Floats]:
    """The first ``count`` directions that differ from each other by at least ``least_deg``."""
    chosen: list[Floats] = []
    for direction in ordered:
        if all(direction @ other < np.cos(np.radians(least_deg)) for other in chosen):
            chosen.append(direction)
            if len(chosen) == count:
                break
    return chosen


def _coverage(needles: NeedleSet, target: Target) -> tuple[float, float]:
    """Part of the target's points near a place for a seed, and the mean depth of those places in mm."""
    centres, _, slots = needles.seed_positions()
    if not len(centres):
        return 0.0, 0.0
    distance, _ = cKDTree(centres).query(target.points_mm, distance_upper_bound=COVER_MM)
    return float(np.isfinite(distance).mean()), float(slots.mean())


def _why(clearance: ClearanceMap, target: Target, ordered: Floats, rules: NeedleRules, rig: RigReach) -> str:
    """What stops how many holes, over the best and most different directions."""
    middle = target.points_mm.mean(axis=0)
    reasons: Counter[str] = Counter()
    for direction in _apart(ordered, 40, 15.0):
        for hole in needle_set(
            clearance, target, template_pose(direction, middle, rules.pitch_mm), rules, rig
        ).rejected:
            if hole.reason != "misses the target":
                reasons[hole.structure or hole.reason.split(":")[0]] += 1
    total = sum(reasons.values())
    parts = [f"{name} {100 * count / total:.0f} %" for name, count in reasons.most_common(4)]
    return "most are stopped by " + ", ".join(parts) if parts else "none passes over it"
