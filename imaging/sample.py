"""HU at points between the voxels, and the pieces of space that are looked at around a needle's axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from planning.frame import Floats, unit
from planning.volume import CtVolume

AIR_HU = -1024.0


def sample_hu(ct: CtVolume, points_mm: ArrayLike) -> NDArray[np.float32]:
    """Trilinear HU ``(...)`` at points ``(..., 3)`` in the CT's patient frame; air outside the volume."""
    points = np.asarray(points_mm, dtype=float)
    index = ct.grid.index_of(points.reshape(-1, 3)).T
    values = map_coordinates(ct.hu, index, output=np.float32, order=1, mode="constant", cval=AIR_HU)
    return np.asarray(values.reshape(points.shape[:-1]))


def inside(ct: CtVolume, points_mm: ArrayLike) -> NDArray[np.bool_]:
    """Which points ``(..., 3)`` lie in the scanned volume (up to the outermost voxel centres)."""
    index = ct.grid.index_of(points_mm)
    return np.asarray(np.all((index >= 0) & (index <= np.asarray(ct.grid.shape) - 1), axis=-1))


def across(direction: ArrayLike) -> tuple[Floats, Floats]:
    """Two unit vectors that complete ``direction`` to a right-handed frame (u, v, direction)."""
    w = unit(direction)
    u = unit(np.cross(np.eye(3)[int(np.argmin(np.abs(w)))], w))
    return u, np.cross(w, u)


def ring_hu(ct: CtVolume, points_mm: Floats, direction: Floats, radius_mm: float) -> Floats:
    """Median HU ``(n,)`` on a ring around each point: what a line runs through, the metal left out."""
    u, v = across(direction)
    angle = np.arange(12) * np.pi / 6
    ring = radius_mm * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)
    return np.asarray(np.median(sample_hu(ct, points_mm[:, None] + ring), axis=1), dtype=float)


def clip_level_hu(ct: CtVolume) -> float:
    """The HU at which the scanner clipped (several voxels share the greatest value), or infinity."""
    top = int(ct.hu.max())
    return float(top) if top >= 2000 and int(np.count_nonzero(ct.hu == top)) >= 6 else float("inf")
