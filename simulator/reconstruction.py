"""From rods to the HU they add to a slice: project, filter, project back.

The image of the anatomy is not reconstructed anew: filtered back-projection is linear, so the image of what
the rays measure *beyond* the anatomy is computed and added to it. That makes the fast mode fast; SCANNER.md
says what it leaves out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.geometry import Floats
from simulator.metal import BONE_PER_MM, METAL_PER_MM, SPECTRUM, WATER_PER_MM, Rods, view_angles, water_per_mm
from simulator.projection import (
    Body,
    Detector,
    Matter,
    RodTable,
    Singles,
    backproject,
    body_lengths,
    enlarged,
    filtered,
    metal_sinogram,
)

BIN_MM = 0.5
RAYS_PER_BIN = 2
HEIGHT_STEP_MM = 0.32
SCATTER = 0.001  # of the unhindered rays, after the scanner's own correction (assumed)
PHOTONS_PER_RAY = 2e5  # per detector row in air (assumed)
_BODY_STEP_MM = 4.0
_COARSE_PIXEL_MM = 2.0
_NEAR_MM = 8.0

Spans = NDArray[np.int64]
MATTER = Matter(SPECTRUM, WATER_PER_MM, BONE_PER_MM, METAL_PER_MM)


def kernel_sigma_mm(slice_thickness_mm: float) -> float:
    """Blur of the reconstruction kernel: sharp for thin slices, soft for thick ones (fitted to CLINIC.md)."""
    return float(np.interp(slice_thickness_mm, (1.25, 2.5), (0.41, 0.72)))


def detector_row_mm(slice_thickness_mm: float) -> float:
    """Height over which intensities are averaged before the logarithm (assumed)."""
    return min(slice_thickness_mm, max(0.625, slice_thickness_mm / 4.0))


def rods_touching(rods: Rods, w_mm: float, thickness_mm: float, margin_mm: float = 0.0) -> Rods:
    """The rods that a slice at height ``w_mm`` may touch."""
    reach_mm = thickness_mm / 2.0 + rods.radius_mm + margin_mm
    low_mm, high_mm = rods.ends_mm[:, :, 2].min(axis=1), rods.ends_mm[:, :, 2].max(axis=1)
    near = (low_mm < w_mm + reach_mm) & (high_mm > w_mm - reach_mm)
    return Rods(rods.ends_mm[near], rods.radius_mm[near], rods.material[near], rods.sign[near])


def table_of(rods: Rods) -> RodTable:
    """The same rods, for compiled code."""
    return RodTable(rods.ends_mm, rods.radius_mm, rods.material, rods.sign)


def detector_over(
    shape: tuple[int, int],
    pixel_mm: tuple[float, float],
    cosine: Floats,
    sine: Floats,
    *,
    bin_mm: float,
    rays: int,
) -> Detector:
    """One that sees all of a slice of ``shape (rows, columns)`` from every view."""
    (rows, columns), (du_mm, dv_mm) = shape, pixel_mm
    corners = [u * cosine + v * sine for u in (0, columns * du_mm) for v in (0, rows * dv_mm)]
    t_low_mm = float(np.min(corners)) - 10.0
    return Detector(t_low_mm, bin_mm, int((float(np.max(corners)) + 10.0 - t_low_mm) / bin_mm) + 1, rays)


def coarse_bins_mm(detector: Detector, step_mm: float) -> Floats:
    """Where a coarser detector over the same width has its bins."""
    return detector.t_low_mm + step_mm * np.arange(int(detector.bins * detector.bin_mm / step_mm) + 2.0)


def heights_mm(w_mm: float, thickness_mm: float, row_count: int, step_mm: float) -> Floats:
    """``(rows, heights per row)`` at which rays run through a slice, about ``step_mm`` apart."""
    per_row = max(1, round(thickness_mm / row_count / step_mm))
    parts = (np.arange(row_count * per_row) + 0.5) / (row_count * per_row) - 0.5
    return np.asarray((w_mm + thickness_mm * parts).reshape(row_count, per_row))


class MetalImager:
    """What rods add to the slices of one scan.

    Args:
        rods: in gantry coordinates; at least one.
        shape: ``(rows, columns)`` of a slice.
        pixel_mm: ``(du, dv)`` spacing along a row and along a column.
        slice_thickness_mm: of every slice.
    """

    def __init__(
        self, rods: Rods, shape: tuple[int, int], pixel_mm: tuple[float, float], slice_thickness_mm: float
    ) -> None:
        angles, weights = view_angles(rods)
        self.rods, self._shape, self._pixel_mm, self._thickness_mm = rods, shape, pixel_mm, slice_thickness_mm
        self._cosine, self._sine = np.cos(angles), np.sin(angles)
        self._weights = weights.astype(np.float32)
        self._detector = detector_over(
            shape, pixel_mm, self._cosine, self._sine, bin_mm=BIN_MM, rays=RAYS_PER_BIN
        )

    def touching(self, w_mm: float) -> Rods:
        """The rods that the slice at height ``w_mm`` may touch."""
        return rods_touching(self.rods, w_mm, self._thickness_mm)

    def body_mm(self, anatomy_hu: Singles) -> Singles:
        """Water-equivalent path of every view through a slice ``(rows, columns)``, on a coarse detector."""
        steps = [max(1, round(_BODY_STEP_MM / pixel)) for pixel in self._pixel_mm]
        water = np.maximum(0.0, 1.0 + anatomy_hu[:: steps[1], :: steps[0]] / 1000.0).astype(np.float32)
        t_mm = coarse_bins_mm(self._detector, _BODY_STEP_MM)
        pixel_u_mm, pixel_v_mm = (step * pixel for step, pixel in zip(steps, self._pixel_mm, strict=True))
        return body_lengths(water, pixel_u_mm, pixel_v_mm, self._cosine, self._sine, t_mm)

    def excess_hu(self, w_mm: float, body_mm: Singles, random: np.random.Generator) -> Singles:
        """HU to add to the slice at height ``w_mm``: ``(rows, columns)``."""
        rods = self.touching(w_mm)
        if not len(rods):
            return np.zeros(self._shape, dtype=np.float32)
        detector_rows = max(1, round(self._thickness_mm / detector_row_mm(self._thickness_mm)))
        sinogram = metal_sinogram(
            table_of(rods),
            heights_mm(w_mm, self._thickness_mm, detector_rows, HEIGHT_STEP_MM),
            self._cosine,
            self._sine,
            self._detector,
            Body(body_mm, body_mm, self._detector.t_low_mm, _BODY_STEP_MM),
            MATTER,
            SCATTER,
            PHOTONS_PER_RAY * detector_rows,
            random.standard_normal((len(self._cosine), self._detector.bins), dtype=np.float32),
        )
        views = filtered(sinogram, BIN_MM, kernel_sigma_mm(self._thickness_mm))
        return self._image(views, self._near(rods)) * np.float32(1000.0 / water_per_mm())

    def _image(self, views: Singles, near: Spans) -> Singles:
        """Back-projected finely where ``near`` metal, where shapes matter, and coarsely where only streaks run."""
        times = max(1, round(_COARSE_PIXEL_MM / max(self._pixel_mm)))
        rows, columns = self._shape
        coarse = np.zeros((rows // times + 2, columns // times + 2), dtype=np.float32)
        everywhere = np.tile(np.array([0, coarse.shape[1]]), (coarse.shape[0], 1))
        self._backproject(coarse, everywhere, views, times)
        image = enlarged(coarse, times, rows, columns)
        if times > 1:
            self._backproject(image, near, views, 1)
        return image

    def _backproject(self, image: Singles, spans: Spans, views: Singles, times: int) -> None:
        backproject(
            image,
            spans,
            views,
            self._weights,
            self._cosine.astype(np.float32),
            self._sine.astype(np.float32),
            self._pixel_mm[0] * times,
            self._pixel_mm[1] * times,
            self._detector.t_low_mm,
            BIN_MM,
        )

    def _near(self, rods: Rods) -> Spans:
        """Per row of the image the first and past-the-last column that lies near a rod."""
        rows, columns = self._shape
        spans = np.tile(np.array([columns, 0]), (rows, 1))
        for first, last in rods.ends_mm[:, :, :2]:
            count = int(np.linalg.norm(last - first) / _NEAR_MM) + 2
            for u_mm, v_mm in np.linspace(first, last, count):
                left, right = (int((u_mm + side * 1.5 * _NEAR_MM) / self._pixel_mm[0]) for side in (-1, 1))
                top, bottom = (int((v_mm + side * 1.5 * _NEAR_MM) / self._pixel_mm[1]) for side in (-1, 1))
                part = spans[max(top, 0) : max(bottom + 1, 0)]
                part[:, 0] = np.minimum(part[:, 0], max(left, 0))
                part[:, 1] = np.maximum(part[:, 1], min(right + 1, columns))
        return spans
