"""Points spread evenly over a mask."""

from __future__ import annotations

import numpy as np

from planning.frame import Floats
from planning.mask import Mask
from planning.volume import Grid


def spread_points(mask: Mask, grid: Grid, count: int) -> Floats:
    """About ``count`` voxel centres spread evenly over a mask: its voxels on a body-centred lattice."""
    volume = float(mask.sum()) * grid.voxel_cc * 1000.0
    if volume == 0.0:
        return np.zeros((0, 3))
    pitch = (2.0 * volume / count) ** (1.0 / 3.0)  # two points per cube of this side
    where = np.argwhere(mask)
    low, high = grid.point_of(where.min(axis=0) - 0.5), grid.point_of(where.max(axis=0) + 0.5)
    corners = [np.arange(a + 0.25 * pitch, b, pitch) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    lattice = np.concatenate((lattice, lattice + 0.5 * pitch))
    index = np.floor(grid.index_of(lattice) + 0.5).astype(int)
    index = np.minimum(index, np.array(grid.shape) - 1)
    kept = lattice[mask[index[:, 0], index[:, 1], index[:, 2]]]
    return kept if len(kept) else grid.point_of(where[:1])
