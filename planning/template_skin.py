"""The patient's skin as heights over the template's plane, and the surfaces that keep a distance from it.

Every field is ``float (ny, nx)`` on one square lattice of the rig frame: how far along the rig's +z (into the
patient) a surface lies over each (x, y). A surface of heights has no undercut, so a template bounded by such
surfaces can be put on and taken off along z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from planning.frame import Floats, RigidTransform, unit
from planning.mask import Mask
from planning.refusal import AskedWrongly
from planning.volume import Grid

LATTICE_MM = 1.0
STEP_MM = 1.0  # along z, when looking for the skin; finer than the blurred edge, which is interpolated
SMOOTH_MM = (
    0.8  # least blur of the voxels' stairs; at a skin of radius 60 mm it shifts the surface by 0.01 mm
)
SMOOTH_SLICES = 0.6  # the same in parts of the coarsest voxel side
FOLD_MM = 6.0  # assumed: the template does not dip into folds that a ball of this radius can't enter
CONTINUED_MM = 8.0  # assumed: beyond the first and last slice the skin goes on as in that slice for this far
STEEPEST = 4.0  # rise over run that offsets along the normal are followed up to (76 degrees)


@dataclass(frozen=True, eq=False)
class HeightField:
    """A surface z(x, y) in the rig frame.

    Attributes:
        x_mm, y_mm: ``(nx,)``, ``(ny,)``, rising, ``LATTICE_MM`` apart.
        z_mm: ``(ny, nx)``.
    """

    x_mm: Floats
    y_mm: Floats
    z_mm: Floats

    def at(self, xy_mm: Floats) -> Floats:
        """Height ``(...)`` at points ``(..., 2)``, linear between the lattice's points."""
        xy = np.asarray(xy_mm, dtype=float)
        rows, columns = (xy[..., 1] - self.y_mm[0]) / LATTICE_MM, (xy[..., 0] - self.x_mm[0]) / LATTICE_MM
        places = np.stack((rows.ravel(), columns.ravel()))
        heights = ndimage.map_coordinates(self.z_mm, places, order=1, mode="nearest")
        return np.asarray(heights).reshape(rows.shape)

    def normal_at(self, xy_mm: Floats) -> Floats:
        """Unit normal ``(3,)`` into the patient at one point ``(2,)``, from differences over two lattice steps."""
        step = LATTICE_MM * np.array([[1.0, 0.0], [0.0, 1.0]])
        rise = (self.at(xy_mm + step) - self.at(xy_mm - step)) / (2.0 * LATTICE_MM)
        return unit([-rise[0], -rise[1], 1.0])

    def rise(self) -> Floats:
        """``(ny, nx)`` length of the gradient, rise over run."""
        down, across = np.gradient(self.z_mm, LATTICE_MM)
        return np.asarray(np.hypot(down, across))

    def slope_deg(self) -> Floats:
        """``(ny, nx)`` angle between the surface's normal and z."""
        return np.degrees(np.arctan(self.rise()))

    def outwards(self, distance_mm: float) -> HeightField:
        """The surface ``distance_mm`` nearer to the operator, measured square to this one.

        It is the farther of two: this one shifted along its own normal, and the envelope of balls around the
        lattice's points; the second keeps the distance also where the surface bends inwards.
        """
        shifted = self.z_mm - distance_mm * np.sqrt(1.0 + np.minimum(self.rise(), STEEPEST) ** 2)
        return HeightField(self.x_mm, self.y_mm, np.minimum(shifted, _balls(self.z_mm, distance_mm)))

    def inwards(self, distance_mm: float) -> HeightField:
        """The surface ``distance_mm`` nearer to the patient, along this one's normal (for shallow engraving)."""
        shifted = self.z_mm + distance_mm * np.sqrt(1.0 + np.minimum(self.rise(), STEEPEST) ** 2)
        return HeightField(self.x_mm, self.y_mm, shifted)


@dataclass(frozen=True, eq=False)
class Skin:
    """What is known of the skin under a template.

    Attributes:
        surface: the skin where it is met first on the way in, unsmoothed by ``FOLD_MM``; filled from the
            nearest known place where it is not known.
        bridged: the same with folds closed.
        known: ``bool (ny, nx)``.
    """

    surface: HeightField
    bridged: HeightField
    known: Mask


def skin_over(
    body: Mask, grid: Grid, rig_from_patient: RigidTransform, low_mm: Floats, high_mm: Floats
) -> Skin:
    """The skin over a rectangle of the rig's plane.

    Args:
        body: ``bool (nz, ny, nx)`` on ``grid``, the patient's outline filled.
        low_mm, high_mm: corners ``(3,)`` of a box in the rig frame; the skin is looked for from its low z on.

    Raises:
        AskedWrongly: no skin in the box.
    """
    x = np.arange(np.floor(low_mm[0]), high_mm[0] + LATTICE_MM, LATTICE_MM)
    y = np.arange(np.floor(low_mm[1]), high_mm[1] + LATTICE_MM, LATTICE_MM)
    z = np.arange(low_mm[2], high_mm[2] + STEP_MM, STEP_MM)
    inside = _occupancy(body, grid, rig_from_patient.inverse(), x, y, z)

    seen = inside >= 0.0
    enters = (inside >= 0.5) & seen
    enters[1:] &= seen[:-1] & (inside[:-1] < 0.5)
    enters[0] = False
    first = np.argmax(enters, axis=0)
    # A ray that begins inside the body, or comes into the scan inside it, has no skin to show.
    dark = np.argmax(inside >= 0.5, axis=0)
    known = enters.any(axis=0) & (dark == first)
    if not known.any():
        raise AskedWrongly(
            "template: no skin is seen in the CT above the needles; check the plan and its CT."
        )
    rows, columns = np.nonzero(known)
    below = inside[first[known], rows, columns]
    above = inside[first[known] - 1, rows, columns]
    raw = np.zeros(known.shape)
    raw[known] = z[first[known]] - STEP_MM * (below - 0.5) / (below - above)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = raw[tuple(nearest)]
    surface = HeightField(x, y, ndimage.gaussian_filter(filled, 0.7))
    closed = -_balls(-_balls(surface.z_mm, FOLD_MM), FOLD_MM)
    bridged = HeightField(x, y, ndimage.gaussian_filter(closed, 0.7))
    return Skin(surface, bridged, known)


def _occupancy(
    body: Mask, grid: Grid, patient_from_rig: RigidTransform, x: Floats, y: Floats, z: Floats
) -> Floats:
    """Blurred body, 0..1, at the box's lattice ``(nz, ny, nx)`` of the rig frame; -1 outside the scan.

    The outermost slices are continued by ``CONTINUED_MM``, else no guide could stand at the scan's edge.
    """
    corners = np.array([[a, b, c] for a in (x[0], x[-1]) for b in (y[0], y[-1]) for c in (z[0], z[-1])])
    ends = patient_from_rig.apply(corners)
    room = 3.0 * max(grid.spacing_mm)
    box = grid.box(ends.min(axis=0) - room, ends.max(axis=0) + room)
    crop = grid.cropped(box)
    if 0 in crop.shape:
        return np.full((len(z), len(y), len(x)), -1.0)
    sigma = max(SMOOTH_MM, SMOOTH_SLICES * max(grid.spacing_mm))
    blurred = ndimage.gaussian_filter(
        body[box].astype(np.float32), [sigma / step for step in grid.spacing_mm[::-1]], mode="nearest"
    )
    more = int(np.ceil(CONTINUED_MM / grid.spacing_mm[2]))
    before, after = more * (box[0].start == 0), more * (box[0].stop == grid.shape[0])
    blurred = np.pad(blurred, ((before, after), (0, 0), (0, 0)), mode="edge")
    # Fractional index (z, y, x) of a lattice point: one row per patient axis, all of it affine.
    start = crop.index_of(patient_from_rig.translation_mm) + np.array([before, 0.0, 0.0])
    along = crop.index_of(patient_from_rig.rotation.T + np.array(crop.origin_mm))
    index = np.stack(
        [
            start[k] + along[2, k] * z[:, None, None] + along[1, k] * y[:, None] + along[0, k] * x
            for k in range(3)
        ]
    )
    sampled = ndimage.map_coordinates(blurred, index, order=1, mode="constant", cval=-1.0)
    return np.asarray(sampled, dtype=float)


def _balls(z_mm: Floats, radius_mm: float) -> Floats:
    """Lower envelope (towards -z) of balls of this radius around the points of a surface."""
    reach = int(radius_mm / LATTICE_MM)
    offset = LATTICE_MM * np.arange(-reach, reach + 1)
    rest = radius_mm**2 - offset[:, None] ** 2 - offset[None, :] ** 2
    footprint = rest >= 0.0
    heights = np.sqrt(np.where(footprint, rest, 0.0))
    return np.asarray(ndimage.grey_erosion(z_mm, footprint=footprint, structure=heights, mode="nearest"))
