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
from planning.needles import NeedleSet, RigReach, Target, needle_set, template_pose
from planning.refusal import AskedWrongly
from planning.site_protocol import NeedleRules

DIRECTIONS = 1000  # over the whole sphere: neighbours about 6.4 degrees apart
FAN_DEG = (3.0, 1.5)
REFINED = 6  # directions that get a finer fan
TRACED = 3  # directions whose lattices are traced
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


def find_approach(
    clearance: ClearanceMap,
    target: Target,
    rules: NeedleRules,
    rig: RigReach,
    *,
    up: Floats,
    couch_keep_out_deg: float,
    target_name: str,
) -> Approach:
    """The needle set that reaches most of the target on short paths.

    Args:
        up: unit vector, patient frame, straight off the couch; directions of insertion within
            ``couch_keep_out_deg`` of it would come through the couch.

    Raises:
        AskedWrongly: no direction reaches enough of it; says what is in the way.
    """
    steepest = np.cos(np.radians(couch_keep_out_deg))
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

    middle = target.points_mm.mean(axis=0)
    found: list[tuple[float, float, NeedleSet]] = []
    for direction in _apart(directions[np.argsort(-score, kind="stable")], TRACED, 2.0):
        for turn in TURNS_DEG:
            for shift in SHIFTS:
                pose = template_pose(direction, middle, rules.pitch_mm, turn_deg=turn, shift=shift)
                needles = needle_set(clearance, target, pose, rules, rig)
                cover, depth = _coverage(needles, target)
                found.append((cover - PRICE_PER_MM * depth, cover, needles))
    _, cover, needles = max(found, key=lambda item: item[0])
    if cover < LEAST_COVER:
        raise AskedWrongly(
            f"target '{target_name}': no needle direction reaches enough of it ({100 * cover:.0f} % at best, "
            f"{100 * LEAST_COVER:.0f} % needed); of the holes over the target "
            f"{_why(clearance, target, directions[np.argsort(-score, kind='stable')], rules, rig)}; "
            "change the target, the clearances or the structures' roles in the site protocol."
        )
    return Approach(needles, cover, tried)


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
