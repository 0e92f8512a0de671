"""Iodine-125 seeds in a CT: where each lies, how it points, which planned one it is.

What a CT shows of a seed is its 3 mm silver rod. Seeds of one needle nearly touch (0.5 mm gap), so bright voxels
do not fall apart into seeds; here each seed is a blurred rod of its own, all fitted together, clipped as the
scanner clips. Rods are added where something seed-like is left over and taken away where two explain one. The number of
planned seeds helps nowhere to force one: what isn't seen is not found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import linear_sum_assignment

from imaging.sample import clip_level_hu, sample_hu
from imaging.straight_metal import lone_needles
from planning.frame import Floats, RigidTransform, unit
from planning.volume import CtVolume, Grid

ROD_MM = 3.0  # silver rod of a 6711-type seed (TG-43U1)
REACH_MM = 3.2
NEAREST_MM = 2.0  # two rods nearer than this are one;
BESIDE_MM = 3.4  # nearer than this they are one if together they are no brighter than one
MATCH_GATE_MM = 8.0
# two parallel rods this near are one broad spot (3.0 mm was the widest seen)
HALVES_MM, HALVES_ALONG_MM = 3.4, 1.5
WAS_SHARE, LEAST_METAL_HU = 0.6, 400.0  # of its brightness now, and at least: filling or bone (assumed)
LEAST_PIECES = 3  # unplanned rods, before a standing needle is looked for
BESIDE_SHAFT_MM = 2.5
PEAK_SHARE = 0.45  # of the usual height of a seed: what counts as bright
SOFT_HU = 350.0  # seeds lie in soft tissue: half of what is around them is below this
# Peak of a seed above tissue by slice thickness (CLINIC.md; 12 bits clip the first)
_THICKNESS_MM = (1.25, 2.5, 5.0)
_SEED_HU = (3000.0, 2100.0, 1150.0)


@dataclass(frozen=True, eq=False)
class FoundSeed:
    """A seed seen in a CT, in the CT's patient frame.

    Attributes:
        centre_mm: ``(3,)``.
        direction: ``(3,)`` unit vector along the seed (its sign means nothing unless it was planned).
        peak_hu: peak above its surroundings, unclipped.
        planned: index of the planned seed it is, or None.
    """

    centre_mm: Floats
    direction: Floats
    peak_hu: float
    planned: int | None


def find_seeds(
    ct: CtVolume,
    *,
    centres_mm: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    around_mm: float = 20.0,
    before: CtVolume | None = None,
    before_from_scan: RigidTransform | None = None,
) -> tuple[FoundSeed, ...]:
    """Find the seeds of a CT.

    Args:
        ct: the scan, slices preferably <= 1.25 mm.
        centres_mm, directions: ``(n, 3)`` planned seeds in the scan's frame, or None to search the whole scan.
        around_mm: with a plan, how far from the box of the planned seeds to look.
        before: a CT of the patient without seeds, such as the planning CT: what is as bright in it (a filling) is no
            seed, unless one is planned there.
        before_from_scan: takes points of the scan to it.
    """
    planned = None if centres_mm is None else np.asarray(centres_mm, dtype=float).reshape(-1, 3)
    hints = None if directions is None else unit(np.asarray(directions, dtype=float).reshape(-1, 3))
    box = (slice(None), slice(None), slice(None))
    if planned is not None:
        if not len(planned):
            return ()
        box = ct.grid.box(planned.min(axis=0) - around_mm, planned.max(axis=0) + around_mm)
    else:
        box = _bright_box(ct)
    grid = ct.grid.cropped(box)
    if 0 in grid.shape:
        return ()
    hu = np.clip(ct.hu[box], -200, None).astype(np.float32)
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    typical = float(np.interp(slice_mm, _THICKNESS_MM, _SEED_HU))
    clip_hu = clip_level_hu(ct)
    blur = np.array([0.9**2 + 0.03, 0.9**2 + 0.03, 0.12 + slice_mm**2 / 12])
    places = _peaks(ct, hu, grid, PEAK_SHARE * typical)
    rods = _Rods(places, _directions(places, planned, hints, ct), np.full(len(places), typical))
    for _ in range(2):
        rods = _fit(hu, grid, rods, blur, clip_hu, sweeps=8).pruned(0.3 * typical)
        rest = hu - np.minimum(rods.render(grid, blur) + 50.0, clip_hu)
        rest[(hu >= clip_hu) & (rest < 0)] = 0.0
        more = _peaks(ct, rest.astype(np.float32), grid, PEAK_SHARE * typical, original=False)
        if not len(more):
            break
        places = np.concatenate([rods.places, more])
        heights = np.concatenate([rods.heights, np.full(len(more), 0.6 * typical)])
        rods = _Rods(places, _directions(places, planned, hints, ct), heights)
    rods = _Rods(rods.places, _directions(rods.places, planned, hints, ct), rods.heights)
    rods = _fit(hu, grid, rods, blur, clip_hu, sweeps=6).pruned(0.3 * typical)
    rods = rods.seed_like(ct, typical)
    partner = match_seeds(rods.places, planned)
    rods, partner = _halves_joined(rods, partner)
    strange = np.array([number is None for number in partner], dtype=bool)
    if before is not None and before_from_scan is not None and strange.any():
        strange &= _was_there(ct, before, before_from_scan, rods.places)
    else:
        strange[:] = False
    strange |= _in_a_shaft(ct, rods, partner)
    rods = _Rods(rods.places[~strange], rods.directions[~strange], rods.heights[~strange])
    partner = [number for number, gone in zip(partner, strange, strict=True) if not gone]
    return tuple(
        FoundSeed(rods.places[k], rods.directions[k], float(rods.heights[k]), partner[k])
        for k in range(len(rods.places))
    )


def _was_there(
    ct: CtVolume, before: CtVolume, before_from_scan: RigidTransform, places: Floats
) -> NDArray[np.bool_]:
    """Which places were nearly as bright before, within what registration and slices leave open."""
    around = places[:, None] + np.concatenate([np.zeros((1, 3)), 0.6 * _SPHERE, 1.4 * _SPHERE])
    now = sample_hu(ct, around).max(axis=1)
    then = (
        sample_hu(before, before_from_scan.apply(around.reshape(-1, 3))).reshape(len(places), -1).max(axis=1)
    )
    return np.asarray((then > WAS_SHARE * now) & (then > LEAST_METAL_HU))


def _in_a_shaft(ct: CtVolume, rods: _Rods, partner: list[int | None]) -> NDArray[np.bool_]:
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


def _halves_joined(rods: _Rods, partner: list[int | None]) -> tuple[_Rods, list[int | None]]:
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
    joined = _Rods(places[keep], rods.directions[keep], rods.heights[keep])
    return joined, [number for number, kept in zip(partner, keep, strict=True) if kept]


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


def _bright_box(ct: CtVolume) -> tuple[slice, slice, slice]:
    """The part of the scan that holds everything brighter than bone."""
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    bright = ct.hu > PEAK_SHARE * float(np.interp(slice_mm, _THICKNESS_MM, _SEED_HU))
    box = []
    for axis in range(3):
        hit = np.flatnonzero(bright.any(axis=tuple(k for k in range(3) if k != axis)))
        if not len(hit):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        margin = int(np.ceil(8.0 / ct.grid.spacing_mm[2 - axis]))
        box.append(slice(max(0, int(hit[0]) - margin), int(hit[-1]) + margin + 1))
    return box[0], box[1], box[2]


def _peaks(
    ct: CtVolume, hu: NDArray[np.float32], grid: Grid, least_hu: float, original: bool = True
) -> Floats:
    """Places ``(n, 3)`` of compact bright spots: bright in the middle, dark almost everywhere 3.5 mm around."""
    spacing = np.array(grid.spacing_mm)[::-1]
    smooth = gaussian_filter(hu, 0.55 / spacing, truncate=3.0)
    size = np.maximum(2 * np.rint(1.2 / spacing).astype(int) + 1, 3)
    k, j, i = np.nonzero((smooth == maximum_filter(smooth, size=tuple(size))) & (smooth > 0.8 * least_hu))
    if not len(k):
        return np.empty((0, 3))
    index = np.stack([k, j, i], axis=1).astype(float)
    size_limit = np.array(grid.shape) - 1
    for axis in range(3):  # a parabola through the peak and its two neighbours
        before, after = np.stack([k, j, i]), np.stack([k, j, i])
        before[axis] = np.maximum(before[axis] - 1, 0)
        after[axis] = np.minimum(after[axis] + 1, size_limit[axis])
        a, b, c = smooth[tuple(before)], smooth[k, j, i], smooth[tuple(after)]
        bend = a + c - 2 * b
        index[:, axis] += np.where(
            bend < 0, np.clip(0.5 * (a - c) / np.where(bend < 0, bend, 1), -0.5, 0.5), 0.0
        )
    places = grid.point_of(index)
    height = smooth[k, j, i]
    shell = _shell(ct, places)
    in_soft_tissue = np.median(shell, axis=1) < SOFT_HU  # teeth are not
    if not original:
        return places[in_soft_tissue]
    ground = np.clip(np.percentile(shell, 30, axis=1), -200.0, None)
    contrast = height - ground
    crowded = np.mean(shell > (ground + 0.5 * contrast)[:, None], axis=1)
    return np.asarray(places[in_soft_tissue & (contrast > 0.8 * least_hu) & (crowded < 0.3)])


def _shell(ct: CtVolume, places: Floats) -> NDArray[np.float32]:
    """HU ``(n, 80)`` on a sphere around each place, just outside a seed."""
    radius_mm = max(3.5, 1.2 * ct.grid.spacing_mm[2] + 2.0)
    return sample_hu(ct, places[:, None] + radius_mm * _SPHERE[None])


def _directions(places: Floats, planned: Floats | None, hints: Floats | None, ct: CtVolume) -> Floats:
    """Of the nearest planned seed; else towards the neighbours of its chain; else where it is brightest."""
    out = np.empty((len(places), 3))
    candidates = np.concatenate([_SPHERE, hints]) if hints is not None else _SPHERE
    for n, place in enumerate(places):
        if planned is not None and hints is not None:
            nearest = int(np.linalg.norm(planned - place, axis=1).argmin())
            out[n] = hints[nearest]
            continue
        offset = places - place
        distance = np.linalg.norm(offset, axis=1)
        near = offset[(distance > 3.5) & (distance < 7.0)]
        shine = sample_hu(
            ct, place + np.array([-1.6, -1.1, 1.1, 1.6])[:, None, None] * candidates[None]
        ).mean(axis=0)
        best = candidates[int(shine.argmax())]
        for side in near:  # a chain: a neighbour that lies roughly where the spot is longest
            if abs(unit(side) @ best) > 0.8:
                best = unit(side)
                break
        out[n] = best
    return out


def _sphere(count: int) -> Floats:
    k = np.arange(count) + 0.5
    height, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - height**2)
    return np.column_stack([flat * np.cos(angle), flat * np.sin(angle), height])


_SPHERE = _sphere(80)


@dataclass(frozen=True, eq=False)
class _Rods:
    places: Floats
    directions: Floats
    heights: Floats

    def inverse_covariances(self, blur: Floats) -> Floats:
        """``(n, 3, 3)``: a rod of length L blurred, as the Gaussian of the same second moments."""
        along = self.directions[:, :, None] * self.directions[:, None, :] * (ROD_MM**2 / 12.0)
        return np.asarray(np.linalg.inv(np.diag(blur)[None] + along))

    def render(self, grid: Grid, blur: Floats) -> NDArray[np.float64]:
        out = np.zeros(grid.shape)
        for place, inverse, height in zip(
            self.places, self.inverse_covariances(blur), self.heights, strict=True
        ):
            box = grid.box(place - 5.0, place + 5.0)
            part = grid.cropped(box)
            offset = part.point_of(np.indices(part.shape).reshape(3, -1).T) - place
            spot = height * np.exp(-0.5 * np.einsum("ni,ij,nj->n", offset, inverse, offset))
            out[box] += spot.reshape(part.shape)
        return out

    def pruned(self, least_hu: float) -> _Rods:
        """Without what is too faint, and with one rod where two explain a single seed."""
        places, heights = self.places.copy(), self.heights.copy()
        usual = float(np.median(heights)) if len(heights) else 0.0
        keep = heights > least_hu
        for n in np.argsort(-heights):
            near = np.linalg.norm(places - places[n], axis=1) if keep[n] else np.full(len(places), np.inf)
            near[n] = np.inf
            for m in np.flatnonzero(keep & (near < BESIDE_MM) & (heights <= heights[n])):
                together = heights[n] + heights[m]
                if near[m] < NEAREST_MM or together < 1.4 * usual:
                    places[n] = (heights[n] * places[n] + heights[m] * places[m]) / together
                    keep[m] = False
        return _Rods(places[keep], self.directions[keep], heights[keep])

    def seed_like(self, ct: CtVolume, typical_hu: float) -> _Rods:
        """Without what is no brighter, or not in softer surroundings, than bone and teeth."""
        if not len(self.places):
            return self
        ground = np.median(_shell(ct, self.places), axis=1)
        bright = sample_hu(ct, self.places) - ground > 0.4 * typical_hu
        keep = bright & (ground < SOFT_HU)
        return _Rods(self.places[keep], self.directions[keep], self.heights[keep])


def _fit(
    hu: NDArray[np.float32], grid: Grid, rods: _Rods, blur: Floats, clip_hu: float, sweeps: int
) -> _Rods:
    """Fit place and height of every rod, each in turn with the others as they are (Gauss-Seidel)."""
    places, heights = rods.places.copy(), rods.heights.copy()
    grounds = np.full(len(places), 50.0)
    inverses = rods.inverse_covariances(blur)
    reach = REACH_MM + 0.4 * grid.spacing_mm[2]
    windows = []
    for place, direction in zip(places, rods.directions, strict=True):
        box = grid.box(place - reach, place + reach)
        part = grid.cropped(box)
        points = part.point_of(np.indices(part.shape).reshape(3, -1).T)
        offset = points - place
        along = np.abs(offset @ direction)
        used = (np.linalg.norm(offset, axis=1) < reach) & (along < 2.5 + 0.3 * grid.spacing_mm[2])
        near = np.flatnonzero(
            (np.linalg.norm(places - place, axis=1) < 9.0) & np.any(places != place, axis=1)
        )
        windows.append((points[used], hu[box].reshape(-1)[used].astype(float), near))
    for _ in range(sweeps):
        for n, (points, values, near) in enumerate(windows):
            if len(points) < 8:
                heights[n] = 0.0
                continue
            others = np.zeros(len(points))
            for m in near:
                offset = points - places[m]
                others += heights[m] * np.exp(-0.5 * np.sum((offset @ inverses[m]) * offset, axis=1))
            offset = points - places[n]
            pull = offset @ inverses[n]
            spot = np.exp(-0.5 * np.sum(pull * offset, axis=1))
            model = grounds[n] + others + heights[n] * spot
            miss = values - np.minimum(model, clip_hu)
            use = (model < clip_hu) | (miss < -1.0)
            J = np.column_stack([pull * (heights[n] * spot)[:, None], spot, np.ones(len(points))])[use]
            sigma = 60.0 + 0.08 * np.minimum(model[use], clip_hu).clip(0.0)
            weight = 1.0 / (sigma**2 * (1 + (miss[use] / (4 * sigma)) ** 2))
            prior = np.diag([0.25, 0.25, 0.25, 1e-8, 1 / 300.0**2])
            gradient = J.T @ (weight * miss[use]) + np.array([0, 0, 0, 0, (50.0 - grounds[n]) / 300.0**2])
            change = np.linalg.solve((J * weight[:, None]).T @ J + prior, gradient)
            places[n] += np.clip(change[:3], -0.6, 0.6)
            heights[n] = np.clip(heights[n] + change[3], 0.0, 9000.0)
            grounds[n] += change[4]
    return _Rods(places, rods.directions, heights)
