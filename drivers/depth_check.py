"""Is the needle as deep as it was sent? What was commanded, what Grbl counted and what the encoder saw.

Knows: three depths and two tolerances. Pure. Grbl's count can't show lost steps or a stalled motor; the encoder can.
``depth_script`` asks ``judge_depth`` after each motion of the carriage, before the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MPOS_TOLERANCE_MM = 0.01
STEPS_LOST = "steps were lost"
"""In every sentence about a carriage that is not where the rig counts it."""
ENCODER_TOLERANCE_MM = 0.25
"""Assumed: slack of the carriage, the encoder's own step, homing's scatter."""


@dataclass(frozen=True)
class DepthVerdict:
    """``agrees``: go on. Else ``sentence`` says what to do; ``steps_lost``: only the encoder saw it."""

    agrees: bool
    steps_lost: bool
    off_mm: float
    sentence: str


def judge_depth(
    commanded_mm: float,
    mpos_mm: float,
    encoder_mm: float | None,
    tolerance_mm: float = ENCODER_TOLERANCE_MM,
    mpos_tolerance_mm: float = MPOS_TOLERANCE_MM,
) -> DepthVerdict:
    """All depths of the tip in the rig frame, mm; ``encoder_mm`` None: it could not be read, which never agrees.

    Exactly the tolerance agrees. ``off_mm`` is encoder minus commanded (NaN without a reading).
    """
    if encoder_mm is None or not math.isfinite(encoder_mm):
        sentence = "the depth encoder has no reading: stop, connect and reference it at the carriage's home"
        return DepthVerdict(False, False, math.nan, sentence)
    off_mm = encoder_mm - commanded_mm
    if abs(mpos_mm - commanded_mm) > mpos_tolerance_mm + 1e-9:
        sentence = f"sent to {commanded_mm:.2f} mm, the rig counts {mpos_mm:.2f} mm: home it again"
        return DepthVerdict(False, False, off_mm, sentence)
    if abs(off_mm) > tolerance_mm + 1e-9:
        sentence = (
            f"sent to {commanded_mm:.2f} mm, the rig counts {mpos_mm:.2f} mm but the encoder sees "
            f"{encoder_mm:.2f} mm: {STEPS_LOST}; stop, take a CT before this needle is used, home the rig"
        )
        return DepthVerdict(False, True, off_mm, sentence)
    return DepthVerdict(True, False, off_mm, f"the encoder sees {encoder_mm:.2f} mm, as commanded")
