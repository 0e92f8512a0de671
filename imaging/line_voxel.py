"""The voxels near lines, sorted so that those which few lines brighten lie together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.line import Lines
from planning.frame import Floats
from planning.volume import CtVolume

REACH_MM = 3.2  # in the image plane: voxels this near to a line take part
COARSEST_PIXEL_MM = 1.0  # finer are left out while this isn't exceeded: they tell hardly more about a line
LEAST_HU = -150.0  # air looks like fat: only what is brighter matters


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels near lines, sorted by bin, and in a bin by the line whose patch they are in (the first that marked them).

    Attributes:
        at: ``(m, 3)`` in slab coordinates, mm.
        hu: ``(m,)``.
        bin_w_mm: ``(bins,)`` middles of the bins, mm along the slab.
        first_patch: ``(bins + 1,)`` where each bin's patches begin.
        first: ``(patches + 1,)`` where each patch's voxels begin.
        index: ``(m, 3)`` (slice, row, column).
    """

    at: Floats
    hu: Floats
    bin_w_mm: Floats
    first_patch: NDArray[np.int64]
    first: NDArray[np.int64]
    index: NDArray[np.int64]


def voxels_near(
    ct: CtVolume,
    frame: Floats,
    lines: Lines,
    low_w_mm: float,
    high_w_mm: float,
    bin_mm: float,
    slice_mm: float,
    reach_mm: float = REACH_MM,
) -> Voxels:
    """The voxels that any of the lines may brighten, between two depths, in bins of ``bin_mm``.

    Args:
        frame: ``(3, 3)`` the slab's: ``point @ frame.T`` gives (u, v, w).
        reach_mm: how near to a line, in the image plane.
    """
    count = max(int(np.ceil((high_w_mm - low_w_mm) / bin_mm)), 1)
    middles = np.asarray(low_w_mm + bin_mm * (np.arange(count) + 0.5), dtype=float)
    ws = np.arange(low_w_mm, high_w_mm + 0.5, 1.0)
    places = lines.places(ws)
    local = np.concatenate([places, np.broadcast_to(ws[:, None], (*places.shape[:2], 1))], axis=2)
    centres = local @ frame
    flat = centres.reshape(-1, 3)
    box = ct.grid.box(flat.min(axis=0) - reach_mm - slice_mm, flat.max(axis=0) + reach_mm + slice_mm)
    part = ct.grid.cropped(box)
    owner = np.full(part.shape, -1, dtype=np.int16)
    dx, dy, dz = ct.grid.spacing_mm
    if owner.size:
        steps = np.array([max(1, int(COARSEST_PIXEL_MM / d)) for d in (dy, dx)])
        reach = np.array((slice_mm / 2.0 + reach_mm - 2.2, reach_mm, reach_mm)) / (dz, dy, dx)
        _mark(owner, np.asarray(part.index_of(centres), dtype=float), reach, steps)
    affine = np.array(((0.0, 0.0, dz), (0.0, dy, 0.0), (dx, 0.0, 0.0))) @ frame.T  # of slice, row, column
    origin = np.asarray(part.origin_mm) @ frame.T
    at, hu, index, held = _sorted(owner, ct.hu[box], affine, origin, low_w_mm, bin_mm, count, len(places))
    filled = held > 0  # patches without a voxel are none
    first = np.append(0, np.cumsum(held[filled]))
    first_patch = np.append(0, np.cumsum(filled.reshape(count, -1).sum(axis=1)))
    return Voxels(at, hu, middles, first_patch, first, index + [side.start for side in box])


@njit(cache=True)
def _mark(owner: NDArray[np.int16], centres: Floats, reach: Floats, steps: NDArray[np.int64]) -> None:
    """Write into ``owner`` the first line near each voxel; ``centres`` ``(n, k, 3)`` and ``reach`` are indices."""
    nz, ny, nx = owner.shape
    for n in range(centres.shape[0]):
        for m in range(centres.shape[1]):
            z, y, x = centres[n, m]
            i0, i1 = max(math.ceil(x - reach[2]), 0), min(math.floor(x + reach[2]), nx - 1)
            i0 += -i0 % steps[1]
            j0, j1 = max(math.ceil(y - reach[1]), 0), min(math.floor(y + reach[1]), ny - 1)
            j0 += -j0 % steps[0]
            for k in range(max(math.ceil(z - reach[0]), 0), min(math.floor(z + reach[0]), nz - 1) + 1):
                for j in range(j0, j1 + 1, steps[0]):
                    for i in range(i0, i1 + 1, steps[1]):
                        if owner[k, j, i] < 0:
                            owner[k, j, i] = n


@njit(cache=True)
def _sorted(
    owner: NDArray[np.int16],
    hu: NDArray[np.int16],
    affine: Floats,
    origin: Floats,
    low_w_mm: float,
    bin_mm: float,
    bins: int,
    lines: int,
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The owned voxels sorted by bin and owner: places in the slab, HU, indices, and how many each patch holds."""
    nz, ny, nx = owner.shape
    held = np.zeros(bins * lines, dtype=np.int64)
    patch = np.empty(owner.shape, dtype=np.int32)
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                patch[k, j, i] = -1
                if owner[k, j, i] >= 0:
                    w = origin[2] + k * affine[0, 2] + j * affine[1, 2] + i * affine[2, 2]
                    b = math.floor((w - low_w_mm) / bin_mm)
                    if 0 <= b < bins:
                        patch[k, j, i] = b * lines + owner[k, j, i]
                        held[patch[k, j, i]] += 1
    following, count = np.empty_like(held), 0
    for p in range(len(held)):
        following[p] = count
        count += held[p]
    at, values, index = np.empty((count, 3)), np.empty(count), np.empty((count, 3), dtype=np.int64)
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                p = patch[k, j, i]
                if p >= 0:
                    m = following[p]
                    following[p] += 1
                    for a in range(3):
                        at[m, a] = origin[a] + k * affine[0, a] + j * affine[1, a] + i * affine[2, a]
                    values[m] = max(float(hu[k, j, i]), LEAST_HU)
                    index[m, 0], index[m, 1], index[m, 2] = k, j, i
    return at, values, index, held
