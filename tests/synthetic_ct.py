"""CT volumes made from formulas, so that the truth is known: soft tissue, bone, air, needles and seeds.

Metal is drawn as a cloud of points inside the true cylinder, each spread by the exact integral of a
Gaussian kernel over the voxel (partial volume and slice thickness included), scaled to the peaks that
CLINIC.md gives for a slice thickness, thinned out along the shaft where parallel needles starve each other,
and clipped to 12 bits. It shares nothing with the detectors' own model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from planning.frame import Floats, RigidTransform, unit
from planning.volume import CtVolume, Grid

CLIP_HU = 3071
SHAFT_PEAK_HU = ((0.6, 1.25, 2.5, 5.0), (6000.0, 5000.0, 1700.0, 570.0))
SEED_PEAK_HU = ((0.6, 1.25, 2.5, 5.0), (5000.0, 4100.0, 2200.0, 1200.0))


def grid_around(centre_mm: ArrayLike, size_mm: ArrayLike, spacing_mm: tuple[float, float, float]) -> Grid:
    """A grid of about ``size_mm`` (x, y, z) centred on a point."""
    nx, ny, nz = (round(float(s) / d) for s, d in zip(np.asarray(size_mm), spacing_mm, strict=True))
    half = np.array([nx - 1, ny - 1, nz - 1]) * spacing_mm / 2.0
    x, y, z = (float(v) for v in np.asarray(centre_mm) - half)
    return Grid((nz, ny, nx), (x, y, z), spacing_mm)


def volume(hu: NDArray[np.floating], grid: Grid, **names: str) -> CtVolume:
    """Stored as a scanner stores it: whole HU within 12 bits."""
    stored = np.clip(np.rint(hu), -1024, CLIP_HU).astype(np.int16)
    count = grid.shape[0]
    return CtVolume(
        stored,
        grid,
        names.get("frame", "1.2.3.1"),
        names.get("series", "1.2.3.2"),
        names.get("study", "1.2.3.3"),
        names.get("patient_id", "SYN"),
        "Synthetic",
        tuple(f"1.2.3.4.{k}" for k in range(count)),
        grid.spacing_mm[2],
    )


def anatomy_hu(grid: Grid, scan_from_patient: RigidTransform | None = None) -> NDArray[np.float64]:
    """A neck-like phantom, air outside: 60 x 50 mm half axes, a jaw arch, a spine, an airway, fat and muscle.

    With ``scan_from_patient`` the patient is moved rigidly before being scanned.
    """
    inverse = (scan_from_patient or RigidTransform.identity()).inverse()
    z, y, x = np.meshgrid(*(grid.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij", sparse=True)
    rotation, shift = inverse.rotation, inverse.translation_mm
    px, py, pz = (rotation[i, 0] * x + rotation[i, 1] * y + rotation[i, 2] * z + shift[i] for i in range(3))

    def inside(signed_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1.0 / (1.0 + np.exp(np.clip(signed_mm / 0.5, -40, 40)))  # a soft edge about 1 mm wide

    body = inside((np.sqrt((px / 60) ** 2 + ((py - 0.05 * pz) / 50) ** 2) - 1) * 52)
    hu = 45.0 * np.sin(px / 7 + 0.6) * np.cos(py / 9 - pz / 11) + 35.0 * np.sin(pz / 6 + px / 13) + 20.0
    fat = inside((1 - np.sqrt((px / 60) ** 2 + ((py - 0.05 * pz) / 50) ** 2)) * 52 - 6)
    hu = hu * (1 - fat) - 95.0 * fat
    for depth in range(-60, 61, 20):  # vertebrae, separated by discs
        spine = inside(np.sqrt(px**2 + (py - 25) ** 2 + (0.9 * (pz - depth)) ** 2) - 9.5)
        hu = hu + 800.0 * spine
    arch = np.sqrt((np.sqrt(px**2 + (py + 5) ** 2) - 36) ** 2 + (0.4 * (pz - 18)) ** 2) - 3.5
    hu = hu + 1350.0 * inside(arch) * (py < 5)
    hu = hu - 1000.0 * inside(np.sqrt(((px - 3) / 1.2) ** 2 + (py - 5) ** 2) - 6) * (np.abs(pz) < 200)
    return np.asarray(body * hu + (1 - body) * -1000.0)


@dataclass(frozen=True)
class TrueNeedle:
    """A needle that is straight outside and an arc from the skin point ``entry_mm`` to its tip."""

    name: str
    entry_mm: Floats
    direction: Floats
    depth_mm: float
    bend: Floats  # 1 / R towards this side, 1/mm
    outside_mm: float = 60.0

    def at(self, s_mm: ArrayLike) -> Floats:
        """Points at ``s_mm`` behind (+) or before (-) the skin."""
        s = np.asarray(s_mm, dtype=float)[..., None]
        return np.asarray(self.entry_mm + s * self.direction + 0.5 * np.maximum(s, 0) ** 2 * self.bend)

    @property
    def tip_mm(self) -> Floats:
        return self.at(self.depth_mm)

    @property
    def tip_direction(self) -> Floats:
        return unit(self.direction + self.depth_mm * self.bend)


def _cross_section(radius_mm: float, axis: Floats) -> Floats:
    across = unit(np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))]))
    along = np.cross(axis, across)
    ring = [(0.0, 0.0)] + [
        (r * radius_mm * np.cos(a), r * radius_mm * np.sin(a))
        for r, n in ((0.45, 5), (0.85, 9))
        for a in np.arange(n) * 2 * np.pi / n
    ]
    return np.array([u * across + v * along for u, v in ring])


def splat(
    hu: NDArray[np.float64], grid: Grid, points_mm: Floats, mass: Floats, sigma_xy_mm: float, slice_mm: float
) -> None:
    """Add point masses (HU mm3), each blurred in plane, averaged over the voxel and the slice's thickness."""
    spacing = np.array(grid.spacing_mm)
    widths = (spacing[0], spacing[1], slice_mm)
    sigmas = (sigma_xy_mm, sigma_xy_mm, 0.3)
    for start in range(0, len(points_mm), 4000):
        points, part = points_mm[start : start + 4000], mass[start : start + 4000]
        centre = np.rint(grid.index_of(points)).astype(int)[:, ::-1]
        weights, indices = [], []
        for axis in range(3):
            reach = int(np.ceil((3.2 * sigmas[axis] + widths[axis] / 2) / spacing[axis]))
            index = centre[:, axis, None] + np.arange(-reach, reach + 1)
            at = grid.origin_mm[axis] + index * spacing[axis] - points[:, axis, None]
            share = (
                ndtr((at + widths[axis] / 2) / sigmas[axis]) - ndtr((at - widths[axis] / 2) / sigmas[axis])
            ) / widths[axis]
            size = grid.shape[2 - axis]
            share[(index < 0) | (index >= size)] = 0.0
            weights.append(share)
            indices.append(np.clip(index, 0, size - 1))
        wx, wy, wz = weights
        ix, iy, iz = indices
        value = (part[:, None, None, None] * wz[:, :, None, None]) * (
            wy[:, None, :, None] * wx[:, None, None, :]
        )
        ny, nx = grid.shape[1:]
        flat = (iz[:, :, None, None] * ny + iy[:, None, :, None]) * nx + ix[:, None, None, :]
        low = int(flat.min())
        block = np.bincount((flat - low).ravel(), value.ravel())
        hu.reshape(-1)[low : low + block.size] += block


def add_needles(
    hu: NDArray[np.float64],
    grid: Grid,
    needles: Sequence[TrueNeedle],
    rng: np.random.Generator,
    *,
    starved_share: float = 0.0,
    sigma_xy_mm: float = 0.95,
) -> None:
    """Draw the needles; a ``starved_share`` of them drops to <= 400 HU over one or two stretches."""
    slice_mm = grid.spacing_mm[2]
    peak = float(np.interp(slice_mm, *SHAFT_PEAK_HU)) * rng.uniform(0.9, 1.1)
    sigma2 = sigma_xy_mm**2 + 0.1
    sz2 = 0.09 + 0.1 + slice_mm**2 / 12
    line_mass = peak * 2 * np.pi * np.sqrt(sigma2 * sz2)  # HU mm2 of an in-plane shaft with that peak
    floor = 350.0 / peak
    starved = rng.random(len(needles)) < starved_share
    for needle, poor in zip(needles, starved, strict=True):
        s = np.arange(-needle.outside_mm, needle.depth_mm, 0.2) + 0.1
        s = s[s < needle.depth_mm]
        gain = np.ones_like(s)
        if poor:
            for _ in range(int(rng.integers(1, 3))):
                middle, half = rng.uniform(0, needle.depth_mm), rng.uniform(5, 14)
                gain = np.minimum(gain, 1 - (1 - floor) / (1 + (np.abs(s - middle) / half) ** 4))
        centre = needle.at(s)
        disc = _cross_section(0.635, needle.direction)
        points = (centre[:, None, :] + disc[None, :, :]).reshape(-1, 3)
        mass = np.repeat(line_mass * 0.2 * gain / len(disc), len(disc))
        splat(hu, grid, points, mass, sigma_xy_mm, slice_mm)
        # the dark flame ahead of the tip and the dark bands beside a starved shaft
        ahead = needle.tip_mm + np.arange(2, 12, 0.5)[:, None] * needle.tip_direction
        splat(hu, grid, ahead, np.full(len(ahead), -0.04 * line_mass * 0.5), 1.6, slice_mm)
        if poor:
            side = unit(np.cross(needle.direction, (0.0, 0.0, 1.0 + 1e-6)))
            for sign in (-2.5, 2.5):
                splat(
                    hu,
                    grid,
                    centre[::2] + sign * side,
                    -0.05 * line_mass * 0.4 * (1 - gain[::2]),
                    1.2,
                    slice_mm,
                )


def add_seeds(
    hu: NDArray[np.float64],
    grid: Grid,
    centres_mm: Floats,
    directions: Floats,
    *,
    sigma_xy_mm: float = 0.9,
) -> None:
    """Draw the 3 mm silver rods of seeds."""
    slice_mm = grid.spacing_mm[2]
    peak = float(np.interp(slice_mm, *SEED_PEAK_HU))
    for centre, direction in zip(centres_mm, directions, strict=True):
        s = np.linspace(-1.45, 1.45, 15)
        disc = _cross_section(0.25, direction)
        points = (centre + s[:, None, None] * direction + disc[None]).reshape(-1, 3)
        sz2 = 0.1 + slice_mm**2 / 12
        mass = peak * 2 * np.pi * np.sqrt((sigma_xy_mm**2 + 0.03) * sz2) * 3.0 / 0.72
        splat(hu, grid, points, np.full(len(points), mass / len(points)), sigma_xy_mm, slice_mm)


def add_noise(hu: NDArray[np.float64], rng: np.random.Generator, sigma_hu: float = 20.0) -> None:
    """Noise with the grain of a soft kernel."""
    noise = gaussian_filter(rng.standard_normal(hu.shape), (0.0, 0.7, 0.7))
    hu += noise * (sigma_hu / noise.std())
