"""The axis of a needle over its whole length: straight outside the skin, a gentle arc inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imaging.slab import Slab
from planning.frame import Floats, unit

BEND_SIGMA_PER_MM = 0.001  # of an arc in tissue, per coordinate: CLINIC.md, radii from 700 mm (assumed)
MOST_SLOPE_SIGMA = 0.06  # against the common direction; needles are looked for within 10 degrees


@dataclass(frozen=True, eq=False)
class Axis:
    """A needle's line: ``place + slope x + bend x^2 / 2``, ``x`` mm inside the skin; no bend outside.

    Attributes:
        skin_w_mm: where the skin is, mm along the slab.
        curve: ``(3, 2)``: place (mm), slope, bend (1/mm), each in u and v.
        covariance: ``(3, 3)`` of place, slope and bend, the same for both coordinates.
    """

    skin_w_mm: float
    curve: Floats
    covariance: Floats

    def uv(self, w_mm: Floats) -> Floats:
        """Places ``(n, 2)`` at ``w_mm`` ``(n,)``."""
        return np.asarray(basis(w_mm, self.skin_w_mm) @ self.curve)

    def point(self, slab: Slab, w_mm: float) -> Floats:
        """Patient frame ``(3,)``."""
        return np.asarray(np.append(self.uv(np.array([w_mm]))[0], w_mm) @ slab.frame)

    def towards(self, slab: Slab, w_mm: float) -> Floats:
        """Unit vector of the axis at a depth, towards the tip, patient frame."""
        slope = self.curve[1] + max(w_mm - self.skin_w_mm, 0.0) * self.curve[2]
        return unit(np.append(slope, 1.0) @ slab.frame)

    def sigma_mm(self, w_mm: float) -> float:
        """1 sigma of the place at a depth, per coordinate."""
        row = basis(np.array([w_mm]), self.skin_w_mm)[0]
        return float(np.sqrt(row @ self.covariance @ row))


def basis(w_mm: Floats, skin_w_mm: float) -> Floats:
    """``(n, 3)``: what place, slope and bend add at ``w_mm``."""
    x = np.asarray(w_mm, dtype=float) - skin_w_mm
    return np.column_stack([np.ones_like(x), x, 0.5 * np.maximum(x, 0.0) ** 2])
