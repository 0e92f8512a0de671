"""How far a needle's tip stands from where it was planned, and whether that is too far.

Pure arithmetic: the verdict is the point at which a procedure goes on or a needle is moved, so it can be read here
whole. Tolerance 2 mm: exactly 2.0 is within (Jiang et al. 2021: "less than 2 mm" adjusts nothing).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from planning.frame import angle_between_deg, unit

TOLERANCE_MM = 2.0
_ROUNDING_MM = 1e-9  # 2.0 computed from decimal coordinates must still be 2.0


class Verdict(Enum):
    """What the measured deviation says about the tolerance."""

    WITHIN = "within"
    BEYOND = "beyond"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Deviation:
    """A tip's deviation from its plan.

    Attributes:
        total_mm: distance of the tips, 3-D.
        lateral_mm: its part across the planned direction.
        depth_mm: its part along the planned direction; positive = too deep.
        angle_deg: between planned and found direction.
        sigma_mm: 1 sigma of the measurement.
        verdict: within, beyond or cannot tell.
    """

    total_mm: float
    lateral_mm: float
    depth_mm: float
    angle_deg: float
    sigma_mm: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As JSON values, lengths rounded to 0.001 mm."""
        return {
            "total_mm": round(self.total_mm, 3),
            "lateral_mm": round(self.lateral_mm, 3),
            "depth_mm": round(self.depth_mm, 3),
            "angle_deg": round(self.angle_deg, 3),
            "sigma_mm": round(self.sigma_mm, 3),
            "verdict": self.verdict.value,
        }


def deviation(
    planned_tip_mm: ArrayLike,
    planned_direction: ArrayLike,
    found_tip_mm: ArrayLike,
    found_direction: ArrayLike,
    sigma_mm: float,
    tolerance_mm: float = TOLERANCE_MM,
    band_sigmas: float = 1.0,
) -> Deviation:
    """Compare a found needle with its plan, both in one frame.

    Args:
        planned_tip_mm, found_tip_mm: ``(3,)``.
        planned_direction, found_direction: ``(3,)`` towards the tip, any length.
        sigma_mm: 1 sigma of the found tip's position.
        tolerance_mm: a deviation of exactly this is still within.
        band_sigmas: the verdict is "cannot tell" when the tolerance lies less than this many sigmas
            from the measured deviation. At 1 sigma a verdict is wrong at most about 1 time in 6, and
            that only for a deviation just at the edge of the band.
    """
    direction = unit(planned_direction)
    offset = np.asarray(found_tip_mm, dtype=float) - np.asarray(planned_tip_mm, dtype=float)
    depth = float(offset @ direction)
    lateral = float(np.linalg.norm(offset - depth * direction))
    total = float(np.linalg.norm(offset))
    measured = np.isfinite(total) and np.isfinite(sigma_mm) and sigma_mm >= 0.0
    if not measured or abs(total - tolerance_mm) < band_sigmas * sigma_mm:
        verdict = Verdict.CANNOT_TELL
    else:
        verdict = Verdict.WITHIN if total <= tolerance_mm + _ROUNDING_MM else Verdict.BEYOND
    angle = angle_between_deg(direction, found_direction)
    return Deviation(total, lateral, depth, angle, float(sigma_mm), verdict)
