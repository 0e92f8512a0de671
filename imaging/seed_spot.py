"""Compact bright spots of a CT: where a seed may lie, and how it may point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from imaging.sample import sample_hu
from planning.frame import Floats, unit
from planning.volume import CtVolume, Grid

PEAK_SHARE = 0.45  # of the usual height of a seed: what counts as bright
SOFT_HU = 350.0  # seeds lie in soft tissue: half of what is around them is below this
# Peak of a seed above tissue by slice thickness (CLINIC.md; 12 bits clip the first)
_THICKNESS_MM = (1.25, 2.5, 5.0)
_SEED_HU = (3000.0, 2100.0, 1150.0)


def expected_seed_hu(slice_mm: float) -> float:
    """Peak of a seed above tissue at this slice thickness."""
    return float(np.interp(slice_mm, _THICKNESS_MM, _SEED_HU))


def bright_box(ct: CtVolume) -> tuple[slice, slice, slice]:
    """The part of the scan that holds everything brighter than bone."""
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    bright = ct.hu > PEAK_SHARE * expected_seed_hu(slice_mm)
    box = []
    for axis in range(3):
        hit = np.flatnonzero(bright.any(axis=tuple(k for k in range(3) if k != axis)))
        if not len(hit):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        margin = int(np.ceil(8.0 / ct.grid.spacing_mm[2 - axis]))
        box.append(slice(max(0, int(hit[0]) - margin), int(hit[-1]) + margin + 1))
    return box[0], box[1], box[2]


def bright_spots(
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
    shell = shell_hu(ct, places)
    in_soft_tissue = np.median(shell, axis=1) < SOFT_HU  # teeth are not
    if not original:
        return places[in_soft_tissue]
    ground = np.clip(np.percentile(shell, 30, axis=1), -200.0, None)
    contrast = height - ground
    crowded = np.mean(shell > (ground + 0.5 * contrast)[:, None], axis=1)
    return np.asarray(places[in_soft_tissue & (contrast > 0.8 * least_hu) & (crowded < 0.3)])


def shell_hu(ct: CtVolume, places: Floats) -> NDArray[np.float32]:
    """HU ``(n, 80)`` on a sphere around each place, just outside a seed."""
    radius_mm = max(3.5, 1.2 * ct.grid.spacing_mm[2] + 2.0)
    return sample_hu(ct, places[:, None] + radius_mm * SPHERE[None])


def rod_directions(places: Floats, planned: Floats | None, hints: Floats | None, ct: CtVolume) -> Floats:
    """Of the nearest planned seed; else towards the neighbours of its chain; else where it is brightest."""
    out = np.empty((len(places), 3))
    candidates = np.concatenate([SPHERE, hints]) if hints is not None else SPHERE
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


def _sphere_of(count: int) -> Floats:
    k = np.arange(count) + 0.5
    height, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - height**2)
    return np.column_stack([flat * np.cos(angle), flat * np.sin(angle), height])


SPHERE = _sphere_of(80)
