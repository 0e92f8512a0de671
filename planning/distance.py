"""Distances in a box of voxels, with voxels that are no cubes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from planning.dicom import Structure
from planning.mask import Mask, mask_of
from planning.volume import Grid

FINE_MM = 0.7


def distance_mm(
    mask: Mask, grid: Grid, box: tuple[slice, slice, slice], *, reach_mm: float = 0.0
) -> NDArray[np.float32]:
    """Distance in mm from each voxel of ``box`` to the nearest voxel of ``mask``, centre to centre.

    Exact Euclidean for the mask's voxels in the box grown by ``reach_mm`` on all sides, so distances up to
    ``reach_mm`` are exact whatever lies outside; infinite where no voxel of the mask is seen.
    """
    spacing = grid.spacing_mm[::-1]
    bounds = [span.indices(count)[:2] for span, count in zip(box, grid.shape, strict=True)]
    grown = tuple(
        slice(max(0, a - int(np.ceil(reach_mm / step))), min(count, b + int(np.ceil(reach_mm / step))))
        for (a, b), step, count in zip(bounds, spacing, grid.shape, strict=True)
    )
    inner = tuple(slice(a - g.start, b - g.start) for (a, b), g in zip(bounds, grown, strict=True))
    seen = mask[grown]
    if not seen.any():
        return np.full(tuple(b - a for a, b in bounds), np.inf, dtype=np.float32)
    return ndimage.distance_transform_edt(~seen, sampling=spacing)[inner].astype(np.float32)


def grown(structure: Structure, mask: Mask, grid: Grid, margin_mm: float) -> Mask:
    """The voxels whose centre is at most ``margin_mm`` from the structure; ``mask`` is its own ``mask_of``.

    Distances are taken from a lattice of at most ``FINE_MM``: measured from the centres of the CT's voxels a
    5 mm margin would come out half a voxel, or one tenth of the volume, short.
    """
    if margin_mm == 0.0:
        return mask.copy()
    box = box_of(mask, grid, margin_mm)
    coarse = grid.cropped(box)
    parts = [max(1, math.ceil(step / FINE_MM)) for step in grid.spacing_mm]
    (px, py, pz), (dx, dy, dz), (nz, ny, nx) = parts, grid.spacing_mm, coarse.shape
    fine = Grid(
        ((nz - 1) * pz + 1, (ny - 1) * py + 1, (nx - 1) * px + 1),
        coarse.origin_mm,
        (dx / px, dy / py, dz / pz),
    )
    inside = mask_of(structure, fine)
    inside[::pz, ::py, ::px] |= mask[box]
    distance = ndimage.distance_transform_edt(~inside, sampling=fine.spacing_mm[::-1])
    result = np.zeros_like(mask)
    result[box] = distance[::pz, ::py, ::px] <= margin_mm + 1e-4
    return result


def box_of(mask: Mask, grid: Grid, margin_mm: float = 0.0) -> tuple[slice, slice, slice]:
    """The smallest box (z, y, x slices) of the mask's voxels, grown by a margin and cut to the grid."""
    spans = []
    for axis, step in enumerate(grid.spacing_mm[::-1]):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        grow = int(np.ceil(margin_mm / step))
        spans.append(slice(max(0, int(hit[0]) - grow), min(grid.shape[axis], int(hit[-1]) + 1 + grow)))
    return spans[0], spans[1], spans[2]
