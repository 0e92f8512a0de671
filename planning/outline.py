"""Body, bone, air and skin as the CT's own numbers show them, for where nobody drew them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from planning.volume import CtVolume, Grid

Mask = NDArray[np.bool_]
COARSE_MM = 3.0  # cell in which couch and patient are told apart
OPEN_CELLS = 1  # what is thinner than (2 n + 1) cells, a couch top or a mask, falls off
REGROW_CELLS = 2


def body_of(ct: CtVolume, threshold_hu: float, holding: Mask | None = None) -> Mask:
    """The patient: the largest connected body above ``threshold_hu``, filled slice by slice, without the couch.

    Args:
        holding: a mask (the target); the component that holds most of it is kept too.
    """
    tissue = ct.hu > threshold_hu
    step_y, step_x = (max(1, round(COARSE_MM / ct.grid.spacing_mm[axis])) for axis in (1, 0))
    coarse = tissue[:, ::step_y, ::step_x]
    in_plane = np.array([[[False, True, False], [True, True, True], [False, True, False]]])
    opened = ndimage.binary_opening(coarse, in_plane, iterations=OPEN_CELLS)
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = labels == int(sizes.argmax())
    if holding is not None:
        inside = np.bincount(labels[holding[:, ::step_y, ::step_x]], minlength=count + 1)
        inside[0] = 0
        if inside.any():
            kept |= labels == int(inside.argmax())
    gate = ndimage.binary_dilation(kept, in_plane, iterations=REGROW_CELLS)
    gate = gate.repeat(step_y, axis=1).repeat(step_x, axis=2)
    half_y, half_x = step_y // 2, step_x // 2  # a cell's sample stands at its corner; centre it
    gate = gate[:, half_y:, half_x:]
    body = np.zeros_like(tissue)
    rows, columns = min(gate.shape[1], tissue.shape[1]), min(gate.shape[2], tissue.shape[2])
    body[:, :rows, :columns] = tissue[:, :rows, :columns] & gate[:, :rows, :columns]
    for plane in body:
        _fill(plane)
    return body


def _fill(plane: Mask) -> None:
    """Fill, in place, what the outside can't reach."""
    labels, _ = ndimage.label(np.pad(~plane, 1, constant_values=True))
    plane |= labels[1:-1, 1:-1] != labels[0, 0]


def bone_of(ct: CtVolume, body: Mask, threshold_hu: float, min_cc: float) -> Mask:
    """Connected pieces above ``threshold_hu`` in the body of at least ``min_cc``."""
    return _large_pieces((ct.hu > threshold_hu) & body, min_cc, ct.grid)


def airway_of(ct: CtVolume, body: Mask, threshold_hu: float, min_cc: float) -> Mask:
    """Connected pieces of air inside the (filled) body of at least ``min_cc``."""
    return _large_pieces((ct.hu < threshold_hu) & body, min_cc, ct.grid)


def _large_pieces(mask: Mask, min_cc: float, grid: Grid) -> Mask:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes * grid.voxel_cc >= min_cc
    keep[0] = False
    return np.asarray(keep[labels])


def skin_of(body: Mask, grid: Grid, thickness_mm: float) -> Mask:
    """The part of the body less than ``thickness_mm`` from outside; the scan's own edge is no skin."""
    return body & ~_eroded(body, grid, thickness_mm)


def _eroded(mask: Mask, grid: Grid, radius_mm: float) -> Mask:
    """Erosion with an exact ellipsoid of voxels; what lies beyond the grid counts as inside.

    The ball is taken row by row: one running minimum along x for each half-width, then the rows are laid
    over one another. For the few voxels of a skin this is many times faster than a distance map.
    """
    dx, dy, dz = grid.spacing_mm
    result = mask.copy()
    along_x: dict[int, Mask] = {}
    reach_z, reach_y = int(radius_mm / dz), int(radius_mm / dy)
    for step_z in range(-reach_z, reach_z + 1):
        for step_y in range(-reach_y, reach_y + 1):
            rest = radius_mm**2 - (step_z * dz) ** 2 - (step_y * dy) ** 2
            if rest < 0.0:
                continue
            width = int(np.sqrt(rest) / dx + 1e-9)
            if width not in along_x:
                shrunk = ndimage.minimum_filter1d(
                    mask.view(np.uint8), 2 * width + 1, axis=2, mode="constant", cval=1
                )
                along_x[width] = shrunk.view(np.bool_)
            to_z, from_z = _overlap(step_z, mask.shape[0])
            to_y, from_y = _overlap(step_y, mask.shape[1])
            result[to_z, to_y] &= along_x[width][from_z, from_y]
    return result


def _overlap(step: int, count: int) -> tuple[slice, slice]:
    return slice(max(0, -step), min(count, count - step)), slice(max(0, step), min(count, count + step))
