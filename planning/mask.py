"""Drawn contours -> the voxels they enclose.

A voxel belongs to a structure when its centre lies inside the contours of its slice by the even-odd rule, so
a second contour inside the first is a hole, and a keyhole's bridge cancels itself. Between the planes that
were drawn the shape is interpolated by signed distance (Raya and Udupa 1990, IEEE Trans Med Imaging 9:32).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from planning.dicom import Structure
from planning.frame import Floats
from planning.refusal import AskedWrongly
from planning.volume import Grid

Mask = NDArray[np.bool_]
PLANAR_MM = 0.5  # a contour that spans more than this along z is not drawn in an axial plane
SAME_PLANE_MM = 0.05
SAME_SLICE = 0.05  # of the slice spacing: nearer than this, a plane is a slice's own


def mask_of(structure: Structure, grid: Grid) -> Mask:
    """``bool (nz, ny, nx)`` on ``grid``; parts of the structure that lie outside the grid are cut off.

    A slice between two drawn planes is interpolated when the planes are neighbours, that is no further
    apart than 1.5 times the structure's usual spacing or one omitted slice. The last plane at either end
    stands for half a spacing beyond it.

    Raises:
        AskedWrongly: a contour that is not axial.
    """
    mask = np.zeros(grid.shape, dtype=np.bool_)
    heights, planes = drawn_planes(structure)
    if not planes:
        return mask
    low = np.min([np.min(contour, axis=0) for contours in planes for contour in contours], axis=0)
    high = np.max([np.max(contour, axis=0) for contours in planes for contour in contours], axis=0)
    _, rows, columns = grid.box(
        [*(low[:2] - grid.spacing_mm[:2]), 0.0], [*(high[:2] + grid.spacing_mm[:2]), 0.0]
    )
    window = grid.cropped((slice(0, 1), rows, columns))
    if 0 in window.shape:
        return mask

    slice_spacing = grid.spacing_mm[2]
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2]) if len(steps) else slice_spacing
    bridged = max(1.5 * usual, 2.05 * slice_spacing)
    cap = 0.5 * max(usual, slice_spacing)
    shapes: dict[int, Mask] = {}

    def shape(number: int) -> Mask:
        if number not in shapes:
            shapes[number] = rasterise(planes[number], window)
        return shapes[number]

    for k, z in enumerate(grid.centres_mm(2)):
        above = int(np.searchsorted(heights, z))
        below = above - 1
        near = min((n for n in (below, above) if 0 <= n < len(planes)), key=lambda n: abs(heights[n] - z))
        offset = z - heights[near]
        if abs(offset) <= SAME_SLICE * slice_spacing:
            mask[k, rows, columns] = shape(near)
        elif below >= 0 and above < len(planes) and heights[above] - heights[below] <= bridged:
            part = (z - heights[below]) / (heights[above] - heights[below])
            mask[k, rows, columns] = _between(shape(below), shape(above), float(part), grid)
        elif -cap - 1e-6 <= offset < cap - 1e-6:  # half-open: each plane stands for one spacing
            mask[k, rows, columns] = shape(near)
    return mask


def drawn_planes(structure: Structure) -> tuple[Floats, list[list[Floats]]]:
    """Heights (mm, rising) and the contours ``(n, 2)`` drawn at each."""
    found: list[tuple[float, Floats]] = []
    for contour in structure.contours:
        if np.ptp(contour[:, 2]) > PLANAR_MM:
            raise AskedWrongly(
                f"structure '{structure.name}': a contour does not lie in an axial plane "
                f"(z = {contour[:, 2].min():.1f} to {contour[:, 2].max():.1f} mm); draw it on axial slices."
            )
        found.append((float(contour[:, 2].mean()), contour[:, :2]))
    found.sort(key=lambda item: item[0])
    heights: list[float] = []
    planes: list[list[Floats]] = []
    for z, contour in found:
        if not heights or z - heights[-1] > SAME_PLANE_MM:
            heights.append(z)
            planes.append([])
        # A contour stored twice would cancel itself.
        if not any(np.array_equal(contour, other) for other in planes[-1]):
            planes[-1].append(contour)
    return np.array(heights), planes


def rasterise(contours: list[Floats], grid: Grid) -> Mask:
    """``bool (ny, nx)``: pixel centres inside the closed contours ``(n, 2)`` by the even-odd rule."""
    _, ny, nx = grid.shape
    start = np.concatenate(contours)
    stop = np.concatenate([np.roll(contour, -1, axis=0) for contour in contours])
    x1, y1 = ((start - grid.origin_mm[:2]) / grid.spacing_mm[:2]).T
    x2, y2 = ((stop - grid.origin_mm[:2]) / grid.spacing_mm[:2]).T
    # Rows whose centre line an edge crosses, half-open so that a corner on the line counts once.
    first = np.clip(np.ceil(np.minimum(y1, y2)), 0, ny).astype(int)
    count = np.clip(np.ceil(np.maximum(y1, y2)), 0, ny).astype(int) - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = x1[edge] + (row - y1[edge]) / (y2 - y1)[edge] * (x2 - x1)[edge]
    column = np.clip(np.ceil(crossing), 0, nx).astype(int)
    toggles = np.bincount(row * (nx + 1) + column, minlength=ny * (nx + 1)).reshape(ny, nx + 1)
    return np.asarray(np.cumsum(toggles[:, :nx], axis=1) % 2 == 1)


def _between(lower: Mask, upper: Mask, part: float, grid: Grid) -> Mask:
    """The shape at ``part`` (0..1) of the way from one plane to the next."""
    if not (lower.any() and upper.any()):
        return lower if part < 0.5 else upper
    return np.asarray((1.0 - part) * _inside_mm(lower, grid) + part * _inside_mm(upper, grid) > 0.0)


def _inside_mm(shape: Mask, grid: Grid) -> Floats:
    """Signed distance to the edge, positive inside; the frame of zeros keeps a full window finite."""
    sampling = (grid.spacing_mm[1], grid.spacing_mm[0])
    framed = np.pad(shape, 1)
    inside = ndimage.distance_transform_edt(framed, sampling=sampling)
    outside = ndimage.distance_transform_edt(~framed, sampling=sampling)
    # Both maps end at the centres across the edge; the edge itself lies half a pixel before.
    half = 0.25 * sum(sampling)
    signed = np.where(framed, inside - half, half - outside)
    return np.asarray(signed[1:-1, 1:-1], dtype=float)
