"""Needles in a CT: which are there, where their tips are and how sure that is.

The plan says roughly where to look and along which direction; what is found there is found from the voxels. A
needle that isn't seen is reported as unseen, one that nobody planned as unplanned; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from imaging.assignment import assign
from imaging.comb import fitted_comb
from imaging.sample import clip_level_hu
from imaging.shaft import End, Shaft, expected_contrast_hu, visible_end
from imaging.tip import Tip, fit_tip
from planning.frame import Floats, unit
from planning.volume import CtVolume

SIDE_MM = 14.0  # looked at beside the outermost expected axis
BEYOND_MM = 16.0  # looked at beyond the deepest expected tip
OUTSIDE_MM = 40.0  # looked at outside the skin
FADED_MM = 1.5  # 1 sigma (assumed) of the end of a shaft that fades out instead of ending
BRIDGED_SIGMA = 0.3  # 1 sigma of a tip per mm of its shaft inside the skin that isn't seen (assumed)
FAR_SHALLOW_MM = 6.0  # further than this from its depth, a needle is thought starved before misplaced
FAR_MM = 8.0  # further than this from its depth, an end is believed only if it looks like one
UNPLANNED_SHARE = 0.5  # of the usual height of the planned ones, for a needle nobody planned
TWIN_MM = 1.5  # two tips cannot stand nearer: the needles are 1.27 mm thick
THICK_MM = 1.27  # 18 G
GROUP_DEG = 15.0  # needles this parallel are followed together, a bent one with its straight neighbours
UNPLANNED_LENGTH_MM = 30.0  # of steel seen: shorter is a piece of bone, tooth or shaft (assumed)
SLICE_SIGMA_5_MM = 2.0  # 1 sigma of a tip in 5 mm slices: CLINIC.md, 1.4-2.6 mm
SLICE_POWER = 1.71  # gives 0.19 mm at 1.25 mm and 0.61 mm at 2.5 mm, which the benchmark bears out
THICKEST_MM = 2.5  # thicker slices cannot decide 2 mm
THICK_DOUBT, USUAL_DEPTH_MM = (
    0.9,
    3.0,
)  # in them a depth further off than needles usually are is doubted (assumed)


@dataclass(frozen=True, eq=False)
class ExpectedNeedle:
    """Where a needle should be, in the patient frame of the scan.

    Attributes:
        name: as in the plan.
        tip_mm: ``(3,)`` where its tip should be.
        direction: ``(3,)`` unit vector towards the tip.
        entry_mm: ``(3,)`` where it crosses the skin.
    """

    name: str
    tip_mm: Floats
    direction: Floats
    entry_mm: Floats


@dataclass(frozen=True, eq=False)
class FoundNeedle:
    """A needle seen in the scan, in the scan's patient frame.

    Attributes:
        name: of the expected needle, or None when nobody planned it.
        tip_mm: ``(3,)``.
        direction: ``(3,)`` unit vector of the axis at the tip, towards the tip.
        entry_mm: ``(3,)`` on its axis at the depth of the expected skin point.
        outside: ``(3,)`` unit vector of the straight axis outside the skin, inwards.
        sigma_mm: 1 sigma of the tip's 3-D position, from detection (not registration, not slice thickness).
        shaft_hu: peak of the shaft near its end (above clipping if clipped).
        seen_share: share of the length from entry to tip on which the shaft was seen.
    """

    name: str | None
    tip_mm: Floats
    direction: Floats
    entry_mm: Floats
    outside: Floats
    sigma_mm: float
    shaft_hu: float
    seen_share: float


@dataclass(frozen=True, eq=False)
class NeedleFindings:
    """All needles of a scan: those found (planned or not) and the names of those not seen."""

    found: tuple[FoundNeedle, ...]
    unseen: tuple[str, ...]

    @property
    def unplanned(self) -> tuple[FoundNeedle, ...]:
        return tuple(needle for needle in self.found if needle.name is None)

    def needle(self, name: str) -> FoundNeedle | None:
        return next((needle for needle in self.found if needle.name == name), None)


def thickness_sigma_mm(slice_mm: float) -> float:
    """What slices of this thickness hide of a tip's position from any fit, 1 sigma, mm."""
    sigma = float(SLICE_SIGMA_5_MM * (slice_mm / 5.0) ** SLICE_POWER)
    return sigma if slice_mm <= THICKEST_MM else max(sigma, SLICE_SIGMA_5_MM)


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
        with threadpool_limits(
            limits=1, user_api="blas"
        ):  # for small matrices, threads cost more than they save
            needles = _find_group(ct, group, planned=planned)
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


def _find_group(ct: CtVolume, group: list[ExpectedNeedle], *, planned: bool) -> list[FoundNeedle]:
    direction = unit(np.sum([needle.direction for needle in group], axis=0))
    clip_hu = clip_level_hu(ct)
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    least_hu = max(90.0, 0.045 * expected_contrast_hu(slice_mm))
    furthest = max(float(needle.tip_mm @ direction) for needle in group) + BEYOND_MM
    entry_w = float(np.median([needle.entry_mm @ direction for needle in group]))
    planned_entry = np.array(
        [
            n.entry_mm + n.direction * ((entry_w - n.entry_mm @ direction) / (n.direction @ direction))
            for n in group
        ]
    )
    planned_tip = np.array([needle.tip_mm for needle in group])
    comb = fitted_comb(
        ct,
        _corners(group, direction),
        direction,
        planned_entry,
        planned_tip,
        clip_hu,
        furthest,
        planned=planned,
    )
    if not len(comb):
        return []
    slab, axes, shafts = comb.slab, comb.axes, comb.shafts(least_hu)
    width_mm = comb.blur.in_plane_mm
    ends = [visible_end(shaft, furthest) for shaft in shafts]
    entries = np.array([axis.point(slab, entry_w) for axis in axes])
    places = np.array([axis.point(slab, end.w_mm) for axis, end in zip(axes, ends, strict=True)])
    partner = assign(planned_entry, planned_tip, entries, places, direction)

    def looked_at(names: list[int | None]) -> tuple[list[Shaft], list[Tip], list[float]]:
        """Shafts up to their ends, the ends, and what the choice of the end adds to sigma."""
        reach = []
        for shaft, end, n in zip(shafts, ends, names, strict=True):
            depth = float(planned_tip[n] @ direction) if planned and n is not None else None
            reach.append(_believed_end(_nearer_end(shaft, end, depth), depth))
        seen = [shaft.up_to(w) for shaft, (w, _) in zip(shafts, reach, strict=True)]
        tips = []
        for k, (axis, (w, _)) in enumerate(zip(axes, reach, strict=True)):

            def beside(points: Floats, k: int = k) -> Floats:
                return comb.others_hu(k, points)

            start, towards = axis.point(slab, w), axis.towards(slab, w)
            tips.append(fit_tip(ct, start, towards, beside, width_mm, clip_hu, axis.sigma_mm(w)))
        return seen, tips, [sigma for _, sigma in reach]

    seen, tips, chosen_mm = looked_at(partner)
    sure = [k for k, tip in enumerate(tips) if tip.good]
    if any(n is not None and not tips[k].good for k, n in enumerate(partner)):
        # what does not look like a needle's end may have taken the name of one that does
        again = assign(planned_entry, planned_tip, entries[sure], places[sure], direction)
        told: list[int | None] = [n if n not in again else None for n in partner]
        for k, n in zip(sure, again, strict=True):
            told[k] = n
        if told != partner:
            partner = told
            seen, tips, chosen_mm = looked_at(partner)
    usual = [end.usual_hu for end, n in zip(ends, partner, strict=True) if n is not None]
    least_usual = UNPLANNED_SHARE * (float(np.median(usual)) if usual else expected_contrast_hu(slice_mm))
    needles = []
    for k, (shaft, axis, tip, n) in enumerate(zip(seen, axes, tips, partner, strict=True)):
        steel_mm = float(np.count_nonzero(shaft.peak_hu > least_hu)) * float(slab.ws[1] - slab.ws[0])
        if n is None and (ends[k].usual_hu < least_usual or steel_mm < UNPLANNED_LENGTH_MM):
            continue
        if not tip.good and not ends[k].sharp:
            continue  # neither a drop nor the image of an end: where it ends was not seen
        parts_mm = [tip.sigma_mm if tip.good else 2.0 * FADED_MM, chosen_mm[k]]
        if planned and n is not None and not tip.good:  # what does not look like an end, far from the plan
            parts_mm.append(max(abs(float((tip.point_mm - planned_tip[n]) @ direction)) - FAR_MM, 0.0))
        if planned and n is not None and slice_mm > THICKEST_MM:
            parts_mm.append(_thick_mm(float((tip.point_mm - planned_tip[n]) @ direction)))
        inside = shaft.ws >= entry_w
        seen_share = float(np.mean(shaft.peak_hu[inside] > least_hu)) if inside.any() else 1.0
        # beyond a stretch that was bridged, what is seen may be another needle's
        bridged_mm = (1.0 - seen_share) * max(float(shaft.ws[-1]) - entry_w, 0.0)
        parts_mm.append(BRIDGED_SIGMA * bridged_mm)
        needles.append(
            FoundNeedle(
                None if n is None else group[n].name,
                tip.point_mm,
                axis.towards(slab, shaft.ws[-1]),
                entries[k],
                axis.towards(slab, entry_w),
                float(np.linalg.norm(parts_mm)),
                tip.shaft_hu,
                seen_share,
            )
        )
    return [n for n in needles if n.name is not None or _is_certain(n, needles)]


def _thick_mm(deeper_mm: float) -> float:
    """1 sigma that a depth far from the planned one adds in thick slices, where it is likelier a mistake than true."""
    return THICK_DOUBT * max(abs(deeper_mm) - USUAL_DEPTH_MM, 0.0)


def _is_certain(stranger: FoundNeedle, needles: list[FoundNeedle]) -> bool:
    """Whether a needle nobody planned is really one more: well seen, and not the image of a planned one."""
    twins = [n for n in needles if n.name and np.linalg.norm(n.tip_mm - stranger.tip_mm) < TWIN_MM]
    return not twins and stranger.sigma_mm < TWIN_MM


def _nearer_end(shaft: Shaft, end: End, planned_w: float | None) -> End:
    """The end before a gap, when beyond it there is something far deeper than planned: bone, or another needle."""
    if planned_w is None or end.w_mm <= planned_w + FAR_MM:
        return end
    nearer = visible_end(shaft, planned_w + FAR_MM)
    gap = np.count_nonzero(
        shaft.peak_hu[(shaft.ws > nearer.w_mm) & (shaft.ws < end.w_mm)] < 0.35 * nearer.usual_hu
    )
    return nearer if nearer.sharp and gap and nearer.w_mm > planned_w - FAR_MM else end


def _believed_end(end: End, planned_w: float | None) -> tuple[float, float]:
    """Where a shaft is taken to end, and the sigma that choice adds, mm.

    A sharp end is the tip. Only if it lies far too shallow, and something dim leads on from it to where the tip should
    be, the dim part is taken for starved shaft. A shaft that fades ends somewhere in its dim part, likeliest where
    it was planned. In both cases the depth is not sure, and sigma says so.
    """
    if planned_w is not None and planned_w - end.w_mm > FAR_SHALLOW_MM and end.dim_mm - end.w_mm > 4.0:
        return min(end.dim_mm, planned_w + 4.0), 2.0 * FADED_MM
    if end.sharp:
        return end.w_mm, 0.0
    likely = end.dim_mm if planned_w is None else float(np.clip(planned_w, end.w_mm, end.dim_mm))
    return likely, max(FADED_MM, 0.3 * (end.dim_mm - end.w_mm))


def _corners(group: list[ExpectedNeedle], direction: Floats) -> Floats:
    ends = np.array(
        [
            p
            for n in group
            for p in (n.entry_mm - OUTSIDE_MM * n.direction, n.tip_mm + BEYOND_MM * n.direction)
        ]
    )
    sides = np.linalg.svd(np.eye(3) - np.outer(direction, direction))[0][:, :2].T
    return np.concatenate([ends + SIDE_MM * (a * sides[0] + b * sides[1]) for a in (-1, 1) for b in (-1, 1)])
