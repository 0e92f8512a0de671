"""Where the patient lies in a rescan: rigid registration of a box around target and needles to the planning CT.

Own small solver: intensities of both scans, clipped to soft tissue and bone, compared at the points of the
reference where they tell most (steep gradients); inverse-compositional Gauss-Newton with robust weights
(Baker & Matthews 2004: the reference's gradients are computed once), coarse to fine. Metal and what surrounds
it are left out. A box, not the whole head: jaw and neck move against each other.

The expected target registration error does not come from the residual (which does not predict it) but from
solving again without each part of the box in turn (a delete-a-group jackknife): if the parts disagree, because
tissue deformed, the spread shows it. What no part tells (a neck is much like a cylinder) shows in the inverse of the
normal matrix; such a direction is held near the start by a wide prior instead of wandering.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter
from scipy.spatial.transform import Rotation

from planning.frame import Floats, RigidTransform
from planning.volume import CtVolume, Grid

AIR_HU, LOW_HU, HIGH_HU = -1000.0, -250.0, 700.0
METAL_HU = 1700
METAL_MARGIN_MM = 4.0
LEVELS = ((5.0, 6000, 40), (2.5, 20000, 25), (1.2, 40000, 20))  # blur mm, points, iterations
PARTS = 8
# Of 40 rescans and moved copies (0.6 to 5 mm, noise to 90 HU, needles, phantoms) the least was 0.979; the example's
# head mirrored left to right reaches 0.84, another patient 0.4 (measured). A real rescan is less like than a copy.
LEAST_SIMILARITY = 0.90
MOST_SHIFT_MM, MOST_TURN_DEG = 40.0, 15.0
MOST_TRE_MM = 1.5
CELL_BLURS = 4.0  # points within this many blurs of each other see the same error (assumed)
EDGE_MISS = 0.4  # of the blur: by how far an edge may lie beside itself before it counts less (assumed)
# An expected error is at least this, and this share of the thicker slices (measured: 0.06 mm at 1.25 mm, 0.19 at 5).
LEAST_TRE_MM, SLICE_SHARE = 0.1, 0.04


@dataclass(frozen=True, eq=False)
class Registration:
    """Result of :func:`register`.

    Attributes:
        reference_from_scan: takes points of the rescan's patient frame to the reference's.
        succeeded: False when the transform must not be used.
        similarity: correlation of the intensities compared, 0..1, at the end.
        expected_tre_mm: 1 sigma of the 3-D error to expect in the middle half of the box.
        reason: why it failed; empty when it succeeded.
    """

    reference_from_scan: RigidTransform
    succeeded: bool
    similarity: float
    expected_tre_mm: float
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Picture:
    """A blurred, clipped piece of a scan; ``trusted`` is False near metal."""

    hu: NDArray[np.float32]
    trusted: NDArray[np.bool_]
    grid: Grid


def register(
    rescan: CtVolume,
    reference: CtVolume,
    *,
    box_low_mm: ArrayLike,
    box_high_mm: ArrayLike,
    start: RigidTransform | None = None,
) -> Registration:
    """Register a rescan to the planning CT on a box.

    Args:
        rescan: may have other slices, cover less, and show metal that is new.
        reference: the planning CT.
        box_low_mm, box_high_mm: corners ``(3,)`` of the box, patient frame of the reference.
        start: first guess of ``reference_from_scan``; up to about 15 mm and 5 degrees off.
    """
    low, high = np.asarray(box_low_mm, dtype=float), np.asarray(box_high_mm, dtype=float)
    first = scan_from_reference = (start or RigidTransform.identity()).inverse()
    slice_mm = max(reference.grid.spacing_mm[2], rescan.grid.spacing_mm[2])
    system: _System | None = None
    for blur, count, iterations in LEVELS:
        margin = 25.0 if blur > 2.0 else 12.0
        fixed = _picture(reference, low - 3 * blur, high + 3 * blur, blur, slice_mm)
        corners = scan_from_reference.apply(_corners(low, high))
        moving = _picture(rescan, corners.min(axis=0) - margin, corners.max(axis=0) + margin, blur, slice_mm)
        if min(*fixed.grid.shape, *moving.grid.shape) < 4:
            return _failed(start, "the rescan does not cover the region of the needles")
        system = _System.at_steep_points(fixed, moving, low, high, count, blur, first)
        if len(system.points) < 300:
            return _failed(start, "too few structures in the region of the needles")
        starts = (
            _coarse_starts(system, scan_from_reference) if blur == LEVELS[0][0] else [scan_from_reference]
        )
        tried = [system.solve(guess, iterations) for guess in starts]
        scan_from_reference = max(tried, key=system.similarity)
    assert system is not None
    return _judged(system, scan_from_reference, start or RigidTransform.identity(), slice_mm)


def _coarse_starts(system: _System, guess: RigidTransform) -> list[RigidTransform]:
    """The few best of a coarse lattice of shifts: a descent alone may stop in the wrong valley."""
    steps = (-12.0, 0.0, 12.0)
    shifted = [
        RigidTransform(guess.rotation, guess.translation_mm + np.array((x, y, z)))
        for x in steps
        for y in steps
        for z in steps
    ]
    shifted.sort(key=system.similarity, reverse=True)
    return [guess, *shifted[:3]]


def _judged(system: _System, found: RigidTransform, start: RigidTransform, slice_mm: float) -> Registration:
    similarity = system.similarity(found)
    size = np.ptp(system.points, axis=0)
    target = system.centre + 0.25 * size * (_corners(np.zeros(3), np.ones(3)) * 2.0 - 1.0)
    shifts = [
        system.without(part).solve(found, 4).apply(target) - found.apply(target) for part in range(PARTS)
    ]
    spread = np.array(shifts)
    disagree = (PARTS - 1) / PARTS * np.sum((spread - spread.mean(axis=0)) ** 2) / len(target)
    left_open = _mean_variance(system.covariance(found), target - system.centre)
    tre = float(np.sqrt(disagree + left_open + max(LEAST_TRE_MM, SLICE_SHARE * slice_mm) ** 2))
    move = start @ found
    moved = float(np.linalg.norm(move.apply(system.centre) - system.centre))
    seen = system.seen_share(found)
    reason = ""
    if seen < 0.3:
        reason = "the rescan covers too little of the region of the needles"
    elif similarity < LEAST_SIMILARITY:
        reason = f"the rescan does not look like the planning CT (correlation {similarity:.2f})"
    elif moved > MOST_SHIFT_MM or move.rotation_angle_deg() > MOST_TURN_DEG:
        reason = f"an unlikely movement of {moved:.0f} mm and {move.rotation_angle_deg():.0f} degrees"
    elif tre > MOST_TRE_MM and disagree > left_open:
        reason = f"parts of the region disagree by {tre:.1f} mm"
    elif tre > MOST_TRE_MM:
        reason = f"the region shows too little to tell the position: {tre:.1f} mm stay open"
    return Registration(found.inverse(), not reason, similarity, tre, reason)


def _mean_variance(covariance: Floats, arms: Floats) -> float:
    """Mean squared error (mm2) at points ``(n, 3)`` from the centre, for a covariance of shift and turn."""
    total = 0.0
    for x, y, z in arms:
        turn = np.array(
            ((0.0, z, -y), (-z, 0.0, x), (y, -x, 0.0))
        )  # turn vector -> movement of the arm's end
        jacobian = np.hstack([np.eye(3), turn])
        total += float(np.trace(jacobian @ covariance @ jacobian.T))
    return total / len(arms)


def _failed(start: RigidTransform | None, reason: str) -> Registration:
    return Registration(start or RigidTransform.identity(), False, 0.0, float("inf"), reason)


def _corners(low: Floats, high: Floats) -> Floats:
    return np.array(
        [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    )


def _picture(ct: CtVolume, low: Floats, high: Floats, blur_mm: float, slice_mm: float) -> _Picture:
    box = ct.grid.box(low, high)
    grid = ct.grid.cropped(box)
    if 0 in grid.shape:
        return _Picture(np.zeros(grid.shape, np.float32), np.zeros(grid.shape, bool), grid)
    # a strong blur needs no fine lattice: blocks of voxels are averaged first
    block = [max(1, int(0.45 * blur_mm / spacing)) for spacing in ct.grid.spacing_mm[::-1]]
    metal = ct.hu[box] > METAL_HU
    near_metal = metal.any()
    hu, grid = _in_blocks(np.clip(ct.hu[box], AIR_HU, HIGH_HU).astype(np.float32), grid, block)
    spacing = np.array(grid.spacing_mm)[::-1]
    # the thinner scan is blurred along z until both have the slices of the thicker one
    extra = max(slice_mm**2 - ct.grid.spacing_mm[2] ** 2, 0.0) / 12.0
    sigma = np.sqrt(np.array([blur_mm**2 + extra, blur_mm**2, blur_mm**2])) / spacing
    if not near_metal:
        return _Picture(
            _flattened(gaussian_filter(hu, sigma, truncate=2.5)), np.ones(hu.shape, dtype=bool), grid
        )
    share, _ = _in_blocks(metal.astype(np.float32), ct.grid.cropped(box), block)
    reach = 2 * np.maximum(np.rint(METAL_MARGIN_MM / spacing).astype(int), 1) + 1
    weight = (maximum_filter(share, size=tuple(int(n) for n in reach)) == 0.0).astype(np.float32)
    # normalised convolution: metal must not bleed into what surrounds it
    clear = gaussian_filter(weight, sigma, truncate=2.5)
    blurred = gaussian_filter(hu * weight, sigma, truncate=2.5) / np.maximum(clear, 1e-3)
    return _Picture(_flattened(blurred.astype(np.float32)), clear > 0.7, grid)


def _flattened(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the depth of air, after blurring: before, it would move the edge of a voxel half in air."""
    return np.clip(hu, LOW_HU, None, out=hu)


def _in_blocks(hu: NDArray[np.float32], grid: Grid, block: list[int]) -> tuple[NDArray[np.float32], Grid]:
    """Means over blocks of ``block`` (z, y, x) voxels, and where they lie; a rest at the far side is left off."""
    if max(block) == 1 or any(n < b for n, b in zip(hu.shape, block, strict=True)):
        return hu, grid
    nz, ny, nx = (n // b for n, b in zip(hu.shape, block, strict=True))
    whole = hu[: nz * block[0], : ny * block[1], : nx * block[2]]
    mean = whole.reshape(nz, block[0], ny, block[1], nx, block[2]).mean(axis=(1, 3, 5))
    x, y, z = (
        o + 0.5 * (b - 1) * d for o, b, d in zip(grid.origin_mm, block[::-1], grid.spacing_mm, strict=True)
    )
    dx, dy, dz = (b * d for b, d in zip(block[::-1], grid.spacing_mm, strict=True))
    return mean.astype(np.float32), Grid((nz, ny, nx), (x, y, z), (dx, dy, dz))


@dataclass(frozen=True, eq=False)
class _System:
    """Points of the reference, what it shows there, how that changes with the six parameters."""

    points: Floats
    hu: Floats
    jacobian: Floats  # (n, 6): shift x, y, z (per mm), turn about x, y, z through the centre (per rad)
    part: NDArray[np.int64]
    cell: NDArray[np.int64]  # neighbours that share their errors have the same number
    centre: Floats
    moving: _Picture
    blur_mm: float
    start: RigidTransform  # scan_from_reference to which a direction stays that nothing tells

    @staticmethod
    def at_steep_points(
        fixed: _Picture,
        moving: _Picture,
        low: Floats,
        high: Floats,
        count: int,
        blur_mm: float,
        start: RigidTransform,
    ) -> _System:
        centre = 0.5 * (low + high)
        spacing = np.array(fixed.grid.spacing_mm)[::-1]
        gradient = np.stack(list(np.gradient(fixed.hu, *spacing)), axis=-1)[..., ::-1]
        inner = np.zeros(fixed.grid.shape, dtype=bool)
        inner[fixed.grid.box(low, high)] = True
        steep = np.linalg.norm(gradient, axis=-1)
        usable = np.flatnonzero(inner & fixed.trusted)
        if len(usable) > count:  # a share of every steepness above the median, evenly through the box
            level = np.quantile(steep.ravel()[usable], 0.5)
            usable = usable[steep.ravel()[usable] >= level]
            usable = usable[:: max(1, len(usable) // count)]
        points = fixed.grid.point_of(np.stack(np.unravel_index(usable, fixed.grid.shape), axis=-1))
        slope = gradient.reshape(-1, 3)[usable].astype(float)
        turn = np.cross(points - centre, slope)
        octant = (points > centre) @ np.array([1, 2, 4])
        hu = fixed.hu.ravel()[usable].astype(float)
        at = np.floor(points / (CELL_BLURS * blur_mm)).astype(np.int64)
        at -= at.min(axis=0, initial=0)
        cells = at.max(axis=0, initial=0) + 1
        cell = np.asarray((at[:, 0] * cells[1] + at[:, 1]) * cells[2] + at[:, 2], dtype=np.int64)
        return _System(points, hu, np.hstack([slope, turn]), octant, cell, centre, moving, blur_mm, start)

    def without(self, part: int) -> _System:
        keep = self.part != part
        return replace(
            self,
            points=self.points[keep],
            hu=self.hu[keep],
            jacobian=self.jacobian[keep],
            part=self.part[keep],
            cell=self.cell[keep],
        )

    def _seen(self, transform: RigidTransform) -> tuple[Floats, NDArray[np.bool_]]:
        index = self.moving.grid.index_of(transform.apply(self.points)).T
        size = np.array(self.moving.grid.shape)[:, None]
        seen = np.all((index >= 0) & (index <= size - 1), axis=0)
        nearest = np.clip(np.rint(index), 0, size - 1).astype(int)
        seen &= self.moving.trusted[tuple(nearest)]
        return map_coordinates(self.moving.hu, index, order=1, mode="nearest").astype(float), seen

    def seen_share(self, transform: RigidTransform) -> float:
        return float(np.mean(self._seen(transform)[1]))

    def similarity(self, transform: RigidTransform) -> float:
        """Correlation of the two scans at the points seen in both."""
        values, seen = self._seen(transform)
        if np.count_nonzero(seen) < 200:
            return 0.0
        a, b = values[seen], self.hu[seen]
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.sqrt((a @ a) * (b @ b)))
        return float(a @ b) / norm if norm > 0 else 0.0

    def solve(self, transform: RigidTransform, iterations: int) -> RigidTransform:
        """Refine ``scan_from_reference``."""
        for _ in range(iterations):
            equations = self._equations(transform)
            if equations is None:
                break
            normal, gradient, noise = equations
            pull = noise * _PRIOR
            gradient = gradient + pull * self._off_start(transform)
            change = np.linalg.solve(normal + np.diag(pull), gradient)
            change[:3] = np.clip(change[:3], -4.0, 4.0)
            change[3:] = np.clip(change[3:], -0.05, 0.05)
            step = RigidTransform.from_rotation_vector(np.degrees(change[3:]), change[:3], self.centre)
            transform = transform @ step.inverse()
            if np.abs(change[:3]).max() < 2e-3 and np.abs(change[3:]).max() < 4e-5:
                break
        return transform

    def covariance(self, transform: RigidTransform) -> Floats:
        """Of the six parameters, ``(6, 6)`` in mm and rad: what noise and start together leave open."""
        equations = self._equations(transform)
        if equations is None:
            return np.diag(1.0 / _PRIOR)
        normal, _, noise = equations
        return np.asarray(np.linalg.inv(normal / noise + np.diag(_PRIOR)))

    def _equations(self, transform: RigidTransform) -> tuple[Floats, Floats, float] | None:
        """Normal matrix, gradient and the variance (HU2) that one of its points brings, or None."""
        values, seen = self._seen(transform)
        if np.count_nonzero(seen) < 100:
            return None
        miss = values[seen] - self.hu[seen]
        miss = miss - np.median(miss)
        J = self.jacobian[seen]
        # where nearly everything is flat the usual miss is only noise: a steep place may miss by more, or
        # the very edges that tell would be taken for outliers
        steep = np.linalg.norm(J[:, :3], axis=1)
        scale = 2.5 * 1.4826 * float(np.median(np.abs(miss))) + 5.0 + EDGE_MISS * self.blur_mm * steep
        weight = 1.0 / (1.0 + (miss / scale) ** 2) ** 2
        JW = J * weight[:, None]
        # Edges miss together, over a neighbourhood, and by more than the flat places between them: what counts
        # is the miss where it matters, and neighbours as one.
        matters = weight * steep**2
        variance = float(matters @ miss**2 / max(float(matters.sum()), 1e-9)) + 1.0
        cells = np.count_nonzero(np.bincount(self.cell[seen]))
        return JW.T @ J, JW.T @ miss, variance * len(miss) / cells

    def _off_start(self, transform: RigidTransform) -> Floats:
        moved = self.start.inverse() @ transform
        turn = Rotation.from_matrix(moved.rotation).as_rotvec()
        return np.concatenate([moved.apply(self.centre) - self.centre, turn])


# What is known before looking: 1 sigma 5 mm and 3 degrees from the start (assumed; CLINIC.md's couch shifts are
# smaller). It weighs nothing where the picture tells, and holds what the picture leaves open.
PRIOR_SHIFT_MM, PRIOR_TURN_DEG = 5.0, 3.0
_PRIOR = np.array([PRIOR_SHIFT_MM] * 3 + [np.radians(PRIOR_TURN_DEG)] * 3) ** -2.0
