"""Where the loading's price of dose is taken: sampled points of target, organs and the tissue around.

Doses are relative to the prescription. The weights of the site protocol are prices per *mean* over a
structure's points, so a structure counts the same however many points it has.
"""

from __future__ import annotations

import numpy as np

from planning.anatomy import Anatomy
from planning.distance import box_of, distance_mm
from planning.frame import Floats
from planning.mask import Mask
from planning.placement import DosePoints, PointGroup
from planning.site_protocol import SiteProtocol
from planning.spread import spread_points

NEAR_MM = 25.0  # organ voxels farther from the CTV get no dose worth a price
RIM_MM = (6.0, 14.0)  # tissue around the CTV whose excess dose is priced as "outside"
ORGAN_POINTS = 120
MEAN_POINTS = 4000  # near seeds dose is steep, so a mean needs many,
MEAN_SHARE = 0.97  # and is held this far below its limit, for the points are not the whole organ
RIM_POINTS = 300
_HOTTEST_CC = {"d2cc_gy": 2.0, "d1cc_gy": 1.0, "d01cc_gy": 0.1}


def dose_points(
    anatomy: Anatomy, protocol: SiteProtocol, target_points_mm: Floats, prescription_gy: float, reserve: float
) -> DosePoints:
    """Points and prices, the target's own points first.

    Args:
        target_points_mm: ``(n, 3)`` even sample of the CTV.
        reserve: the target's deficit is counted from this multiple of the prescription.
    """
    weights = protocol.objective
    box = box_of(anatomy.ctv, anatomy.grid, NEAR_MM)
    grid = anatomy.grid.cropped(box)
    away = distance_mm(anatomy.ctv, anatomy.grid, box)

    points = [target_points_mm]
    levels = [(reserve, 1.5, 2.0)]
    prices = [(weights.target_underdose, weights.target_over_150, weights.target_over_200)]
    groups: list[PointGroup] = []

    def avoid(region: Mask, count: int, level: float, price: float) -> None:
        points.append(spread_points(region, grid, count))
        levels.append((0.0, level, level))
        prices.append((0.0, price, 0.0))

    avoid(anatomy.body[box] & (away > RIM_MM[0]) & (away <= RIM_MM[1]), RIM_POINTS, 1.0, weights.outside)
    means: list[tuple[Mask, float]] = []
    for name, mask in anatomy.organs.items():
        # What lies in the CTV itself must get its dose, so its voxels are not priced one by one.
        near = mask[box] & (away > 0.0) & (away <= NEAR_MM)
        for limit in protocol.limits_for(name):
            if limit.bound == "at_least" or limit.unit == "pct" or not near.any():
                continue
            level = limit.limit(prescription_gy) / prescription_gy
            if limit.metric not in _HOTTEST_CC:
                means.append((mask, MEAN_SHARE * level))
                continue
            start = sum(map(len, points))
            avoid(near, ORGAN_POINTS, level, weights.organ_overdose)
            part = min(1.0, _HOTTEST_CC[limit.metric] / (np.count_nonzero(near) * grid.voxel_cc))
            groups.append(PointGroup(start, sum(map(len, points)), part, level))

    counts = [len(part) for part in points]
    averaged = []
    for mask, level in means:
        # A mean is one figure: one column, whatever the number of points it is taken from.
        start = sum(map(len, points))
        organ = box_of(mask, anatomy.grid)
        points.append(spread_points(mask[organ], anatomy.grid.cropped(organ), MEAN_POINTS))
        averaged.append((start, start + len(points[-1])))
        column = sum(counts)
        groups.append(PointGroup(column, column + 1, None, level))
        levels.append((0.0, level, level))
        prices.append((0.0, weights.organ_overdose, 0.0))
        counts.append(1)
    low, high, hot = np.repeat(levels, counts, axis=0).T
    share = np.repeat(np.maximum(counts, 1), counts)
    under, over, over_hot = np.repeat(prices, counts, axis=0).T / share
    table = np.array([low, under, high, over, hot, over_hot], dtype=np.float32)
    return DosePoints(np.concatenate(points), len(target_points_mm), table, tuple(groups), tuple(averaged))
