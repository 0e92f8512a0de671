"""The fast mode: what rods and noise add to the anatomy's slices, approximately."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from simulator.geometry import Floats
from simulator.metal import Rods
from simulator.projection import Singles
from simulator.reconstruction import MetalImager, kernel_sigma_mm

NOISE_HU = 18.0  # standard deviation at 1.25 mm slices (assumed)


class FastImager:
    """What is added to the slices of one scan; the arguments are ``FaithfulImager``'s."""

    def __init__(
        self,
        rods: Rods,
        shape: tuple[int, int],
        pixel_mm: tuple[float, float],
        slice_thickness_mm: float,
        noise_times: float = 1.0,
    ) -> None:
        self._noise_times = noise_times
        self._shape, self._pixel_mm, self._thickness_mm = shape, pixel_mm, slice_thickness_mm
        self._metal = MetalImager(rods, shape, pixel_mm, slice_thickness_mm) if len(rods) else None

    def needs_body(self, w_mm: float) -> bool:
        """Whether metal lies in the slice at ``w_mm``."""
        return self._metal is not None and len(self._metal.touching(w_mm)) > 0

    def body_mm(self, anatomy_hu: Singles) -> tuple[Singles, ...]:
        """The rays' ways through the slice ``(rows, columns)``."""
        assert self._metal is not None
        return (self._metal.body_mm(anatomy_hu),)

    def added_hu(
        self, w_mm: float, body_mm: tuple[Singles, ...], swing_mm: Floats, random: np.random.Generator
    ) -> Singles:
        """HU to add to the slice at ``w_mm``; the patient's motion within a slice is left out."""
        del swing_mm
        metal_hu = None
        if self._metal is not None and self.needs_body(w_mm):
            metal_hu = self._metal.excess_hu(w_mm, body_mm[0], random)
        noise_hu = self._noise_hu(random)
        return noise_hu if metal_hu is None else metal_hu + noise_hu

    def _noise_hu(self, random: np.random.Generator) -> Singles:
        """Noise with the grain of the kernel; less in thicker slices."""
        sigma_mm = kernel_sigma_mm(self._thickness_mm)
        white = random.standard_normal(self._shape, dtype=np.float32)
        grain = gaussian_filter(
            white, (sigma_mm / self._pixel_mm[1], sigma_mm / self._pixel_mm[0]), truncate=3.0
        )
        wanted_hu = self._noise_times * NOISE_HU * np.sqrt(1.25 / self._thickness_mm)
        return np.asarray(grain * np.float32(wanted_hu / max(float(grain.std()), 1e-6)), dtype=np.float32)
