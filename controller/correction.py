"""What a correction will do to a needle, told before it is done.  Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Correction:
    """From where the rig holds the tip to have been put, to where it will put it next.

    Attributes:
        is_new_path: withdrawn to before the skin and in again; else only deeper, or less deep, on its own path.
        across_mm: x and y in the template's plane (rig frame); 0 on its own path.
        deeper_mm: along the needle; negative: less deep.
    """

    is_new_path: bool
    across_mm: tuple[float, float]
    deeper_mm: float


def in_words(correction: Correction) -> str:
    """For a screen."""
    depth = f"{abs(correction.deeper_mm):.1f} mm {'deeper' if correction.deeper_mm >= 0 else 'less deep'}"
    if not correction.is_new_path:
        return depth
    return f"out and in again, {math.hypot(*correction.across_mm):.1f} mm across, {depth}"
