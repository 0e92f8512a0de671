"""Needles of about one direction, found together: fitted, named, and each followed to its end.

All depths are mm along the group's direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imaging.assignment import assign
from imaging.comb import Comb, fitted_comb
from imaging.needle import THICKEST_MM, TWIN_MM, ExpectedNeedle, FoundNeedle
from imaging.sample import clip_level_hu
from imaging.shaft import (
    FADED_MM,
    FAR_MM,
    Shaft,
    believed_end,
    expected_contrast_hu,
    nearer_end,
    visible_end,
)
from imaging.shared_end import shared_mm
from imaging.tip import Tip, fit_tip
from planning.frame import Floats, unit
from planning.volume import CtVolume

SIDE_MM = 14.0  # looked at beside the outermost expected axis
BEYOND_MM = 16.0  # looked at beyond the deepest expected tip
OUTSIDE_MM = 40.0  # looked at outside the skin
RIVAL_MM = 1.0  # a line that explains nearly as well, so far away: it may be the true one (assumed)
BRIDGED_SIGMA = 0.3  # 1 sigma of a tip per mm of its shaft inside the skin that isn't seen (assumed)
UNPLANNED_SHARE = 0.5  # of the usual height of the planned ones, for a needle nobody planned
UNPLANNED_LENGTH_MM = 30.0  # of steel seen: shorter is a piece of bone, tooth or shaft (assumed)
THICK_DOUBT = 0.9  # in slices that cannot decide, a depth further off ...
USUAL_DEPTH_MM = 3.0  # ... than needles usually are is doubted (assumed)


def needles_of_group(ct: CtVolume, expected: list[ExpectedNeedle], *, planned: bool) -> list[FoundNeedle]:
    """The needles of a scan that stand about as these should, named or not; see ``needle_search.find_needles``."""
    group = _Group(ct, expected, planned)
    if not len(group.comb):
        return []
    names = group.named(list(range(len(group.comb))))
    ends = group.followed(names)
    sure = [k for k, end in enumerate(ends) if end.tip.good]
    if any(n is not None and not end.tip.good for n, end in zip(names, ends, strict=True)):
        # what does not look like a needle's end may have taken the name of one that does
        again = group.named(sure)
        told = [n if n not in again else None for n in names]
        for k, n in zip(sure, again, strict=True):
            told[k] = n
        if told != names:
            names, ends = told, group.followed(told)
    return group.believed(names, ends)


@dataclass(frozen=True, eq=False)
class _Followed:
    """A shaft up to its end, the end, and what the choice of the end adds to sigma (mm)."""

    shaft: Shaft
    tip: Tip
    chosen_mm: float


class _Group:
    """A group's needles in a scan: expected ones (``n``) and fitted ones (``k``)."""

    def __init__(self, ct: CtVolume, expected: list[ExpectedNeedle], planned: bool) -> None:
        self.ct, self.expected, self.planned = ct, expected, planned
        self.direction = w = unit(np.sum([needle.direction for needle in expected], axis=0))
        self.clip_hu = clip_level_hu(ct)
        self.slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
        self.least_hu = max(90.0, 0.045 * expected_contrast_hu(self.slice_mm))
        self.entry_w = float(np.median([needle.entry_mm @ w for needle in expected]))
        self.entry_mm = np.array(
            [
                n.entry_mm + n.direction * ((self.entry_w - n.entry_mm @ w) / (n.direction @ w))
                for n in expected
            ]
        )
        self.tip_mm = np.array([needle.tip_mm for needle in expected])
        furthest = float((self.tip_mm @ w).max()) + BEYOND_MM
        self.comb: Comb = fitted_comb(
            ct, _corners(expected, w), w, self.entry_mm, self.tip_mm, self.clip_hu, furthest, planned=planned
        )
        self.axes, self.shafts = self.comb.axes, self.comb.shafts(self.least_hu)
        self.ends = [visible_end(shaft, furthest) for shaft in self.shafts]

    def named(self, which: list[int]) -> list[int | None]:
        """Which expected needle each of these fitted ones is."""
        slab = self.comb.slab
        entries = np.array([self.axes[k].point(slab, self.entry_w) for k in which]).reshape(-1, 3)
        ends = np.array([self.axes[k].point(slab, self.ends[k].w_mm) for k in which]).reshape(-1, 3)
        return assign(self.entry_mm, self.tip_mm, entries, ends, self.direction)

    def followed(self, names: list[int | None]) -> list[_Followed]:
        """Each fitted needle followed to its end, which what is expected of one with its name may tell."""
        return [self._followed(k, n) for k, n in enumerate(names)]

    def _followed(self, k: int, n: int | None) -> _Followed:
        slab, axis, shaft = self.comb.slab, self.axes[k], self.shafts[k]
        depth = float(self.tip_mm[n] @ self.direction) if self.planned and n is not None else None
        w, chosen_mm = believed_end(nearer_end(shaft, self.ends[k], depth), depth)

        def beside(points: Floats) -> Floats:
            return self.comb.others_hu(k, points)

        width_mm = self.comb.blur.in_plane_mm
        start, towards = axis.point(slab, w), axis.towards(slab, w)
        tip = fit_tip(self.ct, start, towards, beside, width_mm, self.clip_hu, axis.sigma_mm(w))
        return _Followed(shaft.up_to(w), tip, chosen_mm)

    def believed(self, names: list[int | None], ends: list[_Followed]) -> list[FoundNeedle]:
        """Those that were seen well enough; nameless ones only if they are needles for certain."""
        usual = [end.usual_hu for end, n in zip(self.ends, names, strict=True) if n is not None]
        usual_hu = float(np.median(usual)) if usual else expected_contrast_hu(self.slice_mm)
        step_mm = float(self.comb.slab.ws[1] - self.comb.slab.ws[0])
        needles = []
        for k, (n, end) in enumerate(zip(names, ends, strict=True)):
            steel_mm = step_mm * float(np.count_nonzero(end.shaft.peak_hu > self.least_hu))
            if n is None and (
                self.ends[k].usual_hu < UNPLANNED_SHARE * usual_hu or steel_mm < UNPLANNED_LENGTH_MM
            ):
                continue
            if end.tip.good or self.ends[k].sharp:  # else where it ends was not seen
                needles.append(self._needle(k, n, end, self._shared_mm(k, ends)))
        return [needle for needle in needles if needle.name is not None or _is_certain(needle, needles)]

    def _shared_mm(self, k: int, ends: list[_Followed]) -> float:
        """How much of the end of a needle may be a neighbour's."""
        tip_w = [float(end.tip.point_mm @ self.direction) for end in ends]
        shaft, across = ends[k].shaft, self.comb.slab.frame[:2]
        own = self.axes[k].uv(shaft.ws)
        others = [(tip_w[m], axis.uv(shaft.ws) - own) for m, axis in enumerate(self.axes) if m != k]
        return shared_mm(shaft, tip_w[k], others, across, self.slice_mm)

    def _needle(self, k: int, n: int | None, end: _Followed, shared_end_mm: float) -> FoundNeedle:
        slab, axis, shaft, tip = self.comb.slab, self.axes[k], end.shaft, end.tip
        inside = shaft.ws >= self.entry_w
        seen_share = float(np.mean(shaft.peak_hu[inside] > self.least_hu)) if inside.any() else 1.0
        # beyond a stretch that was bridged, what is seen may be another needle's
        bridged_mm = (1.0 - seen_share) * max(float(shaft.ws[-1]) - self.entry_w, 0.0)
        end_mm = tip.sigma_mm if tip.good else 2.0 * FADED_MM
        rival_mm = float(self.comb.rival_mm[k])
        parts_mm = [end_mm, end.chosen_mm, BRIDGED_SIGMA * bridged_mm, shared_end_mm]
        if rival_mm > RIVAL_MM:
            parts_mm.append(0.5 * rival_mm)
        if self.planned and n is not None:
            off_mm = abs(float((tip.point_mm - self.tip_mm[n]) @ self.direction))
            if not tip.good:  # what does not look like an end, far from the plan
                parts_mm.append(max(off_mm - FAR_MM, 0.0))
            if self.slice_mm > THICKEST_MM:  # there, far from the plan is likelier a mistake than true
                parts_mm.append(THICK_DOUBT * max(off_mm - USUAL_DEPTH_MM, 0.0))
        return FoundNeedle(
            None if n is None else self.expected[n].name,
            tip.point_mm,
            axis.towards(slab, shaft.ws[-1]),
            axis.point(slab, self.entry_w),
            axis.towards(slab, self.entry_w),
            float(np.linalg.norm(parts_mm)),
            tip.shaft_hu,
            seen_share,
        )


def _is_certain(stranger: FoundNeedle, needles: list[FoundNeedle]) -> bool:
    """Whether a needle nobody planned is really one more: well seen, and not the image of a planned one."""
    twins = [n for n in needles if n.name and np.linalg.norm(n.tip_mm - stranger.tip_mm) < TWIN_MM]
    return not twins and stranger.sigma_mm < TWIN_MM


def _corners(group: list[ExpectedNeedle], direction: Floats) -> Floats:
    """``(k, 3)``: their box is looked at."""
    ends = np.array(
        [
            p
            for n in group
            for p in (n.entry_mm - OUTSIDE_MM * n.direction, n.tip_mm + BEYOND_MM * n.direction)
        ]
    )
    sides = np.linalg.svd(np.eye(3) - np.outer(direction, direction))[0][:, :2].T
    return np.concatenate([ends + SIDE_MM * (a * sides[0] + b * sides[1]) for a in (-1, 1) for b in (-1, 1)])
