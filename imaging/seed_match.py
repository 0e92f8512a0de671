"""Which seeds are which planned ones, and which bright rods are no seeds after all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from imaging.sample import sample_hu
from imaging.seed_rod import Rods
from imaging.seed_spot import SPHERE
from imaging.straight_metal import lone_needles
from planning.frame import Floats, RigidTransform
from planning.volume import CtVolume

MATCH_GATE_MM = 8.0
# two parallel rods this near are one broad spot (3.0 mm was the widest seen)
HALVES_MM, HALVES_ALONG_MM = 3.4, 1.5
WAS_SHARE, LEAST_METAL_HU = 0.6, 400.0  # of its brightness now, and at least: filling or bone (assumed)
LEAST_PIECES = 3  # unplanned rods, before a standing needle is looked for
BESIDE_SHAFT_MM = 2.5


def match_seeds(
    found_mm: Floats, planned_mm: Floats | None, gate_mm: float = MATCH_GATE_MM
) -> list[int | None]:
    """For each found seed the index of the planned one, jointly nearest, never further than the gate."""
    if planned_mm is None or not len(planned_mm) or not len(found_mm):
        return [None] * len(found_mm)
    found, planned = len(found_mm), len(planned_mm)
    cost = np.sum((found_mm[:, None] - planned_mm[None]) ** 2, axis=2)
    padded = np.full((found + planned, planned + found), gate_mm**2)
    padded[:found, :planned] = np.minimum(cost, 1e6)
    padded[found:, planned:] = 0.0
    rows, columns = linear_sum_assignment(padded)
    partner: list[int | None] = [None] * found
    for r, c in zip(rows, columns, strict=True):
        if r < found and c < planned and cost[r, c] <= gate_mm**2:
            partner[r] = int(c)
    return partner


def was_there(
    ct: CtVolume, before: CtVolume, before_from_scan: RigidTransform, places: Floats
) -> NDArray[np.bool_]:
    """Which places were nearly as bright before, within what registration and slices leave open."""
    around = places[:, None] + np.concatenate([np.zeros((1, 3)), 0.6 * SPHERE, 1.4 * SPHERE])
    now = sample_hu(ct, around).max(axis=1)
    then = (
        sample_hu(before, before_from_scan.apply(around.reshape(-1, 3))).reshape(len(places), -1).max(axis=1)
    )
    return np.asarray((then > WAS_SHARE * now) & (then > LEAST_METAL_HU))


def in_a_shaft(ct: CtVolume, rods: Rods, partner: list[int | None]) -> NDArray[np.bool_]:
    """Which unplanned rods are pieces of a needle that still stands: several on one line out through the skin."""
    strange = np.array([number is None for number in partner], dtype=bool)
    out = np.zeros(len(partner), dtype=bool)
    if np.count_nonzero(strange) < LEAST_PIECES:
        return out
    for needle in lone_needles(ct):
        offset = rods.places - needle.tip_mm
        along = offset @ needle.direction
        beside = np.linalg.norm(offset - along[:, None] * needle.direction, axis=1)
        out |= strange & (beside < BESIDE_SHAFT_MM) & (along < 1.0)
    return out


def halves_joined(rods: Rods, partner: list[int | None]) -> tuple[Rods, list[int | None]]:
    """Take a rod that nobody planned, side by side with a planned one, for the other half of one broad spot.

    A clipped, bloomed seed that lies in the image plane is broader than the model, and two parallel rods explain
    it as well as one. The joined place is the middle, weighted by brightness. A rod in line with a planned seed
    and nearer than its length is no seed either, for two rigid seeds can't overlap: it is dropped. A second seed of the
    same needle lies in line a whole length further on; seeds of two needles are both planned.
    """
    places = rods.places.copy()
    keep = np.ones(len(places), dtype=bool)
    planned = [k for k, number in enumerate(partner) if number is not None]
    for half in (k for k, number in enumerate(partner) if number is None):
        for seed in planned:
            offset = rods.places[half] - rods.places[seed]
            along = abs(float(offset @ rods.directions[seed]))
            if np.linalg.norm(offset) <= HALVES_MM:
                keep[half] = False
                if along <= HALVES_ALONG_MM:
                    weights = rods.heights[[half, seed]]
                    places[seed] = np.average(rods.places[[half, seed]], axis=0, weights=weights)
                break
    joined = Rods(places[keep], rods.directions[keep], rods.heights[keep])
    return joined, [number for number, kept in zip(partner, keep, strict=True) if kept]
