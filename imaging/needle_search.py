"""Needles in a CT: which are there, where their tips are and how sure that is.

The plan says roughly where to look and along which direction; what is found there is found from the voxels. A
needle that isn't seen is reported as unseen, one that nobody planned as unplanned; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from imaging.needle import TWIN_MM, ExpectedNeedle, FoundNeedle, NeedleFindings
from imaging.needle_group import needles_of_group
from planning.frame import unit
from planning.volume import CtVolume

GROUP_DEG = 15.0  # needles this parallel are followed together, a bent one with its straight neighbours


def find_needles(ct: CtVolume, expected: Sequence[ExpectedNeedle], *, planned: bool = True) -> NeedleFindings:
    """Find the needles of a scan.

    Args:
        ct: the scan; needles of 18 G steel, any direction, slices preferably <= 1.25 mm.
        expected: where needles should be, in the scan's own patient frame.
        planned: whether a plan says so; else they are guesses, whose depths tell nothing about where a needle ends.
    """
    found: list[FoundNeedle] = []
    unseen: list[str] = []
    for group in _parallel_groups(expected):
        with threadpool_limits(limits=1, user_api="blas"):  # threads cost more than small matrices gain
            needles = needles_of_group(ct, group, planned=planned)
        seen = {needle.name for needle in needles}
        found += needles
        unseen += [needle.name for needle in group if needle.name not in seen]
    order = {needle.name: k for k, needle in enumerate(expected)}
    found = _without_images(found, slice_mm=max(ct.grid.spacing_mm[2], ct.slice_thickness_mm))
    found.sort(key=lambda needle: order.get(needle.name or "", len(order)))
    return NeedleFindings(tuple(found), tuple(sorted(unseen, key=lambda name: order[name])))


def _parallel_groups(expected: Sequence[ExpectedNeedle]) -> list[list[ExpectedNeedle]]:
    groups: list[list[ExpectedNeedle]] = []
    for needle in expected:
        for group in groups:
            if needle.direction @ group[0].direction > np.cos(np.radians(GROUP_DEG)):
                group.append(needle)
                break
        else:
            groups.append([needle])
    return groups


def _without_images(found: list[FoundNeedle], slice_mm: float) -> list[FoundNeedle]:
    """Without nameless needles that are only a needle already listed, seen again by another group or in part."""
    kept = [needle for needle in found if needle.name is not None]
    for stranger in (needle for needle in found if needle.name is None):
        if all(_beside_mm(stranger, other) > _apart_mm(other, slice_mm) for other in kept):
            kept.append(stranger)
    return kept


def _apart_mm(needle: FoundNeedle, slice_mm: float) -> float:
    return max(TWIN_MM, 2.0 * slice_mm * float(np.hypot(*needle.direction[:2])))


def _beside_mm(stranger: FoundNeedle, other: FoundNeedle) -> float:
    """How far the last 25 mm of a shaft lie beside another one's line, on average over both ends."""
    line = unit(other.tip_mm - other.entry_mm)
    ends = np.stack([stranger.tip_mm, stranger.tip_mm - 25.0 * stranger.direction]) - other.tip_mm
    along = ends @ line
    return float(np.mean(np.linalg.norm(ends - along[:, None] * line, axis=1)))
