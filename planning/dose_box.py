"""Where the dose grid of a plan lies: every n-th voxel of a box of the CT around the target."""

from __future__ import annotations

import numpy as np

from planning.anatomy import Anatomy
from planning.distance import box_of
from planning.volume import Grid

DOSE_ROOM_MM = 30.0  # the dose grid covers the CTV and this much around it,
SMALL_ORGAN_CC = 100.0  # and the whole of every organ up to this size that it would cut,
FARTHEST_MM = 100.0  # but nothing farther than this from the CTV
VOXEL_MM = 1.0  # the dose grid takes every n-th voxel of the CT so that its voxels are about this wide


def dose_box(anatomy: Anatomy) -> tuple[tuple[slice, slice, slice], tuple[int, int, int]]:
    """The box (z, y, x slices) of the CT that the dose grid covers, and its step in voxels per axis."""
    near = box_of(anatomy.ctv, anatomy.grid, DOSE_ROOM_MM)
    limit = box_of(anatomy.ctv, anatomy.grid, FARTHEST_MM)
    low, high = [s.start for s in near], [s.stop for s in near]
    for mask in anatomy.organs.values():
        if np.count_nonzero(mask) * anatomy.grid.voxel_cc <= SMALL_ORGAN_CC and mask[near].any():
            organ = box_of(mask, anatomy.grid)
            low = [min(a, s.start) for a, s in zip(low, organ, strict=True)]
            high = [max(b, s.stop) for b, s in zip(high, organ, strict=True)]
    z, y, x = (slice(max(a, s.start), min(b, s.stop)) for a, b, s in zip(low, high, limit, strict=True))
    sz, sy, sx = (max(1, round(VOXEL_MM / step)) for step in anatomy.grid.spacing_mm[::-1])
    return (z, y, x), (sz, sy, sx)


def thinned(grid: Grid, stride: tuple[int, int, int]) -> Grid:
    """The grid of ``array[::sz, ::sy, ::sx]``."""
    nz, ny, nx = (-(-n // s) for n, s in zip(grid.shape, stride, strict=True))
    dx, dy, dz = (d * s for d, s in zip(grid.spacing_mm, stride[::-1], strict=True))
    return Grid((nz, ny, nx), grid.origin_mm, (dx, dy, dz))
