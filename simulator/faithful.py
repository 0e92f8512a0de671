"""The faithful mode: a slice measured by a polychromatic scanner, photon by photon, and reconstructed.

Every view of the half turn is simulated: body (water and bone) and metal attenuate each line of the spectrum, what
comes through is averaged over focal spot, aperture and detector row, counted (Poisson) and read out (electronic
noise), corrected for beam hardening in water, filtered and projected back onto every pixel. What the same
scanner would have measured of the planning CT's own contents (body, teeth's metal), without noise, is taken off
before: the planning CT is already that image, so it isn't blurred twice and its streaks aren't added twice.
SCANNER.md says what is left out.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from simulator.geometry import Floats
from simulator.metal import BONE_PER_MM, SPECTRUM, WATER_PER_MM, Rods, water_per_mm
from simulator.projection import Body, Singles, backproject, body_lengths, filtered, intensities
from simulator.reconstruction import (
    MATTER,
    coarse_bins_mm,
    detector_over,
    heights_mm,
    rods_touching,
    table_of,
)

VIEWS = 720  # of the half turn
BIN_MM = 0.5
RAYS_PER_BIN = 4
DETECTOR_ROW_MM = 0.625  # at the axis; a slice is the mean of as many as it is thick (assumed)
HEIGHT_STEP_MM = 0.16
SCATTER = 0.001  # of the unhindered rays, after the scanner's own correction (assumed)
PHOTONS_PER_MM = 5.3e4  # per ray and mm of detector row in air; gives the fast mode's noise (assumed)
ELECTRONIC_QUANTA = 5.0  # standard deviation of a reading, in photons (assumed)
LEAST_QUANTA = (
    5.0  # a reading below the electronics' noise is taken as this: no logarithm of nothing (assumed)
)
SMOOTHED_QUANTA = (
    20.0  # a reading below this is mixed with its neighbours, the more the smaller it is (assumed)
)
BONE_HU = (150.0, 450.0)  # from soft tissue to wholly bone, in between a mixture (assumed)
METAL_IN_CT_HU = (
    2500.0  # the planning CT's own metal: it stands in the rods, so not in the body too (assumed)
)
_BODY_STEP_MM = 2.0
_WATER_TABLE_MM = np.arange(0.0, 1500.0, 2.0)


def kernel_mm(slice_thickness_mm: float) -> float:
    """Sigma of the reconstruction kernel: sharp for thin slices, soft for thick ones (fitted to CLINIC.md)."""
    return float(np.interp(slice_thickness_mm, (1.25, 2.5), (0.36, 0.72)))


class FaithfulImager:
    """What noise and rods add to the slices of one scan.

    Args:
        rods: in gantry coordinates, what the planning CT does not show; may be none.
        own_rods: what it shows already, such as the patient's fillings.
        shape: ``(rows, columns)`` of a slice.
        pixel_mm: ``(du, dv)`` spacing along a row and along a column.
        slice_thickness_mm: of every slice.
        noise_times: the noise of the photons, in multiples of the usual one (fewer photons).
    """

    def __init__(
        self,
        rods: Rods,
        own_rods: Rods,
        shape: tuple[int, int],
        pixel_mm: tuple[float, float],
        slice_thickness_mm: float,
        noise_times: float = 1.0,
    ) -> None:
        self._photons_per_mm = PHOTONS_PER_MM / noise_times**2
        angles = np.pi * np.arange(VIEWS) / VIEWS
        self._rods, self._own_rods, self._thickness_mm = rods, own_rods, slice_thickness_mm
        self._shape, self._pixel_mm = shape, pixel_mm
        self._cosine, self._sine = np.cos(angles), np.sin(angles)
        self._detector = detector_over(
            shape, pixel_mm, self._cosine, self._sine, bin_mm=BIN_MM, rays=RAYS_PER_BIN
        )
        self._water_mm_of, self._line_of = _water_correction()

    def needs_body(self, w_mm: float) -> bool:
        """Always: without metal, too, the noise comes from the photons that the body lets through."""
        del w_mm
        return True

    def added_hu(
        self, w_mm: float, body_mm: tuple[Singles, ...], swing_mm: Floats, random: np.random.Generator
    ) -> Singles:
        """HU to add to the anatomy's slice at height ``w_mm``, its noise included.

        Args:
            w_mm: middle of the slice.
            body_mm: as ``body_mm`` gives them.
            swing_mm: ``(VIEWS,)`` how much higher each view cuts the patient than ``w_mm``.
            random: of photons and electronics.

        Returns:
            ``(rows, columns)``.
        """
        own = self._near(self._own_rods, w_mm, swing_mm)
        rods = self._near(self._rods, w_mm, swing_mm) + own
        row_count = max(1, round(self._thickness_mm / DETECTOR_ROW_MM))
        photons = self._photons_per_mm * self._thickness_mm / row_count
        seen, without = self._intensities(rods, w_mm, row_count, body_mm, swing_mm)
        sinogram = np.zeros(without.shape, dtype=np.float32)
        for row in seen:
            counted = random.poisson(photons * row.astype(np.float64)).astype(np.float32)
            counted += ELECTRONIC_QUANTA * random.standard_normal(counted.shape, dtype=np.float32)
            sinogram += self._water_mm(np.maximum(_calmed(counted), LEAST_QUANTA) / np.float32(photons))
        if len(own):
            shown, _ = self._intensities(own, w_mm, row_count, body_mm, swing_mm)
            for row in shown:
                expected = np.maximum(_calmed(row * np.float32(photons)), LEAST_QUANTA)
                sinogram -= self._water_mm(expected / np.float32(photons))
        else:
            sinogram -= np.float32(row_count) * self._water_mm(without)
        sinogram /= np.float32(row_count)
        return self._image(filtered(sinogram, BIN_MM, kernel_mm(self._thickness_mm))) * np.float32(1e3)

    def body_mm(self, anatomy_hu: Singles) -> tuple[Singles, ...]:
        """Ways through water and bone along each view of the slice ``anatomy_hu (rows, columns)``, coarsely."""
        steps = [max(1, round(_BODY_STEP_MM / pixel)) for pixel in self._pixel_mm]
        hu = _thinned(np.where(anatomy_hu >= METAL_IN_CT_HU, 0.0, anatomy_hu), steps[1], steps[0])
        low, high = BONE_HU
        bone_share = np.clip((hu - low) / (high - low), 0.0, 1.0)
        density = np.maximum(0.0, 1.0 + hu / 1000.0)
        # bone is told by its HU, so it must attenuate as much as that says
        per_hu = water_per_mm() / _behind_water(BONE_PER_MM)
        t_mm = coarse_bins_mm(self._detector, _BODY_STEP_MM)
        pixel_u_mm, pixel_v_mm = (step * pixel for step, pixel in zip(steps, self._pixel_mm, strict=True))
        water, bone = (
            body_lengths(
                np.asarray(part, dtype=np.float32), pixel_u_mm, pixel_v_mm, self._cosine, self._sine, t_mm
            )
            for part in (density * (1.0 - bone_share), density * bone_share * per_hu)
        )
        return water, bone

    def _near(self, rods: Rods, w_mm: float, swing_mm: Floats) -> Rods:
        return rods_touching(rods, w_mm, self._thickness_mm, float(np.abs(swing_mm).max()))

    def _intensities(
        self, rods: Rods, w_mm: float, row_count: int, body_mm: tuple[Singles, ...], swing_mm: Floats
    ) -> tuple[Singles, Singles]:
        """``(rows, views, bins)`` with these rods and ``(views, bins)`` without any; 1 is air."""
        seen, without = intensities(
            table_of(rods),
            heights_mm(w_mm, self._thickness_mm, row_count, HEIGHT_STEP_MM),
            swing_mm,
            self._cosine,
            self._sine,
            self._detector,
            Body(body_mm[0], body_mm[1], self._detector.t_low_mm, _BODY_STEP_MM),
            MATTER,
            SCATTER,
        )
        return seen, without

    def _water_mm(self, transmitted: Singles | Floats) -> Singles:
        """The way in water, in units of its effective attenuation, that lets as much through."""
        return np.interp(-np.log(transmitted), self._line_of, self._water_mm_of).astype(np.float32)

    def _image(self, views: Singles) -> Singles:
        image = np.zeros(self._shape, dtype=np.float32)
        backproject(
            image,
            np.tile(np.array([0, self._shape[1]]), (self._shape[0], 1)),
            views,
            np.full(VIEWS, np.pi / VIEWS, dtype=np.float32),
            self._cosine.astype(np.float32),
            self._sine.astype(np.float32),
            *self._pixel_mm,
            self._detector.t_low_mm,
            BIN_MM,
        )
        return image


def _calmed(counted: Singles) -> Singles:
    """Starved readings ``(views, bins)`` mixed with the mean of their neighbours, as scanners do against streaks."""
    share = np.clip(1.0 - counted / np.float32(SMOOTHED_QUANTA), 0.0, 1.0)
    if not share.any():
        return counted
    return np.asarray(counted + share * (uniform_filter(counted, 3) - counted), dtype=np.float32)


def _thinned(hu: Singles, rows: int, columns: int) -> Singles:
    """Means of blocks of ``rows`` x ``columns`` pixels; what is over at the ends is left out."""
    height, width = hu.shape[0] // rows, hu.shape[1] // columns
    blocks = hu[: height * rows, : width * columns].reshape(height, rows, width, columns)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _behind_water(per_mm: Floats) -> float:
    """Effective attenuation of a material behind 15 cm of water."""
    behind = SPECTRUM * np.exp(-WATER_PER_MM * 150.0)
    return float(behind @ per_mm / behind.sum())


def _water_correction() -> tuple[Floats, Floats]:
    """Lengths of water in mm and the line integrals that the spectrum gives for them, both rising.

    Above and below the table's ends a reading is taken as the end's; air's noise may read below nothing.
    """
    through = np.exp(-_WATER_TABLE_MM[:, None] * WATER_PER_MM) @ SPECTRUM * (1.0 + SCATTER)
    line = -np.log(through)
    slope = (line[1] - line[0]) / (_WATER_TABLE_MM[1] - _WATER_TABLE_MM[0])
    return np.append(-50.0, _WATER_TABLE_MM), np.append(line[0] - 50.0 * slope, line)
