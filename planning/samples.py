"""Points spread through a structure, finer than voxels, each standing for the same volume: for figures of dose.

A drawn slice stands for half the way to its neighbours, and the outermost ones for half a slice beyond (the
treatment of contours as slabs: of balls and tubes it gives volume and D90 within 1 % where slices are a tenth of the
radius or thinner; shapes interpolated between slices fall short by up to 2 % there). A slice is rasterised at the
cell's width, which is chosen so that a structure gets about ``CELLS`` points, however small it is.

A structure that nobody drew (bone, airway, skin of the CT's own numbers) is what its voxels are: no finer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from planning.anatomy import Anatomy
from planning.dicom import Structure
from planning.frame import Floats
from planning.mask import SAME_SLICE, Mask, drawn_planes, mask_of, rasterise
from planning.volume import Grid

CELLS = 40_000  # of one structure, about
FINEST_MM = 0.12
COARSEST_MM = 1.0
COARSEST_OF_WHOLE_MM = (
    5.0  # where a structure reaches beyond the dose grid, for what is far from the implant too
)
GROWN_MM = 0.6  # cells in which a margin is measured


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of a structure.

    Attributes:
        points_mm: ``(n, 3)`` patient frame.
        cell_cc: volume that each stands for.
        whole: where these are only of the part of a structure that lies in the dose grid, coarser ones of all of it:
            for its mean dose and whatever else is a share of the whole.
    """

    points_mm: Floats
    cell_cc: float
    whole: Samples | None = None

    @property
    def volume_cc(self) -> float:
        return len(self.points_mm) * self.cell_cc

    def thinned(self, count: int) -> Samples:
        """About ``count`` of the points at most, spread evenly, for the same volume."""
        every = len(self.points_mm) // count
        if every < 2:
            return self
        # The points run in rows; odd steps never fall in with the rows of a lattice for long.
        kept = self.points_mm[:: every | 1]
        return Samples(kept, self.volume_cc / len(kept), self.whole)


def samples_of_anatomy(anatomy: Anatomy, grid: Grid, box: tuple[slice, slice, slice]) -> dict[str, Samples]:
    """Of every structure that the dose grid touches: organs, CTV, GTV, each cut to the grid (see ``Samples.whole``).

    Args:
        grid: of the dose; box: the slices (z, y, x) with a step that cut its voxels out of the CT.
    """
    found = {}
    for name, mask in {**anatomy.organs, "CTV": anatomy.ctv, "GTV": anatomy.gtv}.items():
        if not mask[box].any():
            continue
        drawn = anatomy.target if name == "GTV" else anatomy.drawn.get(name)
        if name == "CTV" and anatomy.target is not None and anatomy.margin_mm > 0.0:
            samples = samples_of_margin(anatomy)
        elif drawn is not None and name != "CTV":
            samples = samples_of_structure(drawn, anatomy.grid.spacing_mm[2], grid)
            if _reaches_beyond(mask, box):
                whole = samples_of_structure(
                    drawn, anatomy.grid.spacing_mm[2], coarsest_mm=COARSEST_OF_WHOLE_MM
                )
                samples = replace(samples, whole=whole)
        else:
            samples = samples_of_mask(mask[box], grid)
        # A shape so thin that only a voxel's centre lies in it is still reported.
        found[name] = samples if len(samples.points_mm) else samples_of_mask(mask[box], grid)
    return found


def samples_of_mask(mask: Mask, grid: Grid) -> Samples:
    """The voxel centres of a mask ``(nz, ny, nx)`` on ``grid``."""
    return Samples(grid.point_of(np.argwhere(mask)), grid.voxel_cc)


def _reaches_beyond(mask: Mask, box: tuple[slice, slice, slice]) -> bool:
    """More than a two hundredth of it lies outside the box (whose step counts nothing)."""
    z, y, x = (slice(s.start, s.stop) for s in box)
    return bool(np.count_nonzero(mask[z, y, x]) < 0.995 * np.count_nonzero(mask))


def samples_of_structure(
    structure: Structure, slice_mm: float, within: Grid | None = None, *, coarsest_mm: float = COARSEST_MM
) -> Samples:
    """Cells of a drawn structure.

    Args:
        slice_mm: the CT's slice spacing, what a plane drawn alone stands for.
        within: what lies outside this grid's voxels is left out.
        coarsest_mm: widest cells.

    Raises:
        AskedWrongly: a contour that is not axial.
    """
    heights, planes = drawn_planes(structure)
    if not planes:
        return Samples(np.zeros((0, 3)), 1.0)
    thickness = usual_mm(heights, slice_mm)
    wide = sum(_area_mm2(contours) for contours in planes) * thickness
    side = float(np.clip((wide / CELLS) ** (1.0 / 3.0), FINEST_MM, coarsest_mm))
    layers = max(1, round(thickness / side))
    corners = np.concatenate([contour for contours in planes for contour in contours])
    low, high = corners.min(axis=0), corners.max(axis=0)
    nx, ny = (int(n) for n in np.ceil((high - low) / side))
    step = thickness / layers
    nz = round((heights[-1] - heights[0] + thickness) / step)
    x, y, z = low[0] + 0.5 * side, low[1] + 0.5 * side, heights[0] + 0.5 * (step - thickness)
    fine = Grid((max(nz, 1), max(ny, 1), max(nx, 1)), (x, y, z), (side, side, step))
    if within is not None:
        half = 0.5 * np.array(within.spacing_mm) - 1e-9
        last = within.point_of(np.array(within.shape) - 1)
        fine = fine.cropped(fine.box(np.array(within.origin_mm) - half, last + half))
    return samples_of_mask(slab_mask(structure, fine, slice_mm), fine)


def slab_mask(structure: Structure, grid: Grid, slice_mm: float) -> Mask:
    """``bool (nz, ny, nx)``: cell centres inside the slabs that the drawn planes stand for."""
    mask = np.zeros(grid.shape, dtype=np.bool_)
    heights, planes = drawn_planes(structure)
    if not planes or 0 in grid.shape:
        return mask
    flat = grid.cropped((slice(0, 1), slice(None), slice(None)))
    thickness = usual_mm(heights, slice_mm)
    bridged = max(1.5 * thickness, 2.05 * slice_mm)  # as in mask_of: one slice left out is no gap
    shapes: dict[int, Mask] = {}
    for k, z in enumerate(grid.centres_mm(2)):
        near = int(np.argmin(np.abs(heights - z)))
        beyond = near + (1 if z > heights[near] else -1)
        joined = 0 <= beyond < len(heights) and abs(heights[beyond] - heights[near]) <= bridged
        if joined or abs(z - heights[near]) <= 0.5 * thickness + SAME_SLICE * grid.spacing_mm[2]:
            if near not in shapes:
                shapes[near] = rasterise(planes[near], flat)
            mask[k] = shapes[near]
    return mask


def samples_of_margin(anatomy: Anatomy) -> Samples:
    """Cells of the CTV: within the margin of the drawn target, and where the CTV may reach."""
    assert anatomy.target is not None
    ct = anatomy.grid
    reach = anatomy.margin_mm + 2.0 * GROWN_MM
    points = np.concatenate(anatomy.target.contours)
    slice_mm = ct.spacing_mm[2]
    low = points.min(axis=0) - reach - (0.0, 0.0, slice_mm)
    high = points.max(axis=0) + reach + (0.0, 0.0, slice_mm)
    layers = max(1, round(slice_mm / GROWN_MM))
    spacing = (GROWN_MM, GROWN_MM, slice_mm / layers)
    nx, ny, nz = (int(n) + 1 for n in (high - low) / spacing)
    fine = Grid((nz, ny, nx), (float(low[0]), float(low[1]), float(low[2])), spacing)
    # Grown from the shape interpolated between slices: the edges of slabs would carry the margin outwards.
    gtv = mask_of(anatomy.target, fine)
    distance = ndimage.distance_transform_edt(~gtv, sampling=spacing[::-1])
    inside = distance <= anatomy.margin_mm + 1e-4
    where = np.argwhere(inside)
    voxel = np.floor(ct.index_of(fine.point_of(where)) + 0.5).astype(int)
    voxel = np.clip(voxel, 0, np.array(ct.shape) - 1)
    allowed = anatomy.ctv_within[tuple(voxel.T)] if anatomy.ctv_within is not None else np.True_
    kept = where[allowed | gtv[tuple(where.T)]]
    return Samples(fine.point_of(kept), fine.voxel_cc).thinned(CELLS)


def usual_mm(heights: Floats, slice_mm: float) -> float:
    """The spacing of the drawn planes: the lower median of their steps, or the CT's for a lone plane."""
    steps = np.sort(np.diff(heights))
    return float(max(steps[(len(steps) - 1) // 2], 1e-3)) if len(steps) else slice_mm


def _area_mm2(contours: list[Floats]) -> float:
    total = 0.0
    for contour in contours:
        following = np.roll(contour, -1, axis=0)
        total += abs(0.5 * float(np.sum(contour[:, 0] * following[:, 1] - following[:, 0] * contour[:, 1])))
    return total
