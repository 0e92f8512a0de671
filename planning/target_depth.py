"""The target as needles see it: how deep inside it any point lies, and an even sample of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from planning.distance import box_of
from planning.frame import Floats
from planning.mask import Mask
from planning.spread import spread_points
from planning.volume import Grid


@dataclass(frozen=True, eq=False)
class Target:
    """What the needles shall reach.

    Attributes:
        grid, depth_mm: a box of the CT around the CTV with the signed depth of each voxel: positive inside
            (distance to the nearest voxel outside), negative outside (float32).
        points_mm: ``(n, 3)`` an even sample of the CTV.
    """

    grid: Grid
    depth_mm: NDArray[np.float32]
    points_mm: Floats

    def depth_at(self, points_mm: Floats) -> Floats:
        """Depth of the voxel each point ``(..., 3)`` lies in; -inf outside the box."""
        index = np.floor(self.grid.index_of(points_mm) + 0.5).astype(int)
        inside = np.all((index >= 0) & (index < self.grid.shape), axis=-1)
        k, j, i = np.moveaxis(np.where(inside[..., None], index, 0), -1, 0)
        return np.where(inside, self.depth_mm[k, j, i], -np.inf)


def target_of(ctv: Mask, grid: Grid, *, room_mm: float = 12.0, points: int = 700) -> Target:
    """The target's box, depth map and sample points; ``ctv``: bool on ``grid``, at least one voxel."""
    box = box_of(ctv, grid, room_mm)
    inside, spacing = np.pad(ctv[box], 1), grid.spacing_mm[::-1]
    depth = distance_transform_edt(inside, sampling=spacing) - distance_transform_edt(
        ~inside, sampling=spacing
    )
    return Target(
        grid.cropped(box), depth[1:-1, 1:-1, 1:-1].astype(np.float32), spread_points(ctv, grid, points)
    )
