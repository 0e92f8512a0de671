"""A needle as it is expected in a CT and as it is found there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planning.frame import Floats

THICK_MM = 1.27  # 18 G
TWIN_MM = 1.5  # two tips cannot stand nearer: the needles are 1.27 mm thick
LEAST_SLICE_SIGMA_MM = 0.1  # (assumed)
THICKEST_MM, THICKER_SIGMA_MM = 2.5, 2.0  # thicker slices cannot decide 2 mm: CLINIC.md, 1.4-2.6 mm at 5 mm


@dataclass(frozen=True, eq=False)
class ExpectedNeedle:
    """Where a needle should be, in the patient frame of the scan.

    Attributes:
        name: as in the plan.
        tip_mm: ``(3,)`` where its tip should be.
        direction: ``(3,)`` unit vector towards the tip.
        entry_mm: ``(3,)`` where it crosses the skin.
    """

    name: str
    tip_mm: Floats
    direction: Floats
    entry_mm: Floats


@dataclass(frozen=True, eq=False)
class FoundNeedle:
    """A needle seen in the scan, in the scan's patient frame.

    Attributes:
        name: of the expected needle, or None when nobody planned it.
        tip_mm: ``(3,)``.
        direction: ``(3,)`` unit vector of the axis at the tip, towards the tip.
        entry_mm: ``(3,)`` on its axis at the depth of the expected skin point.
        outside: ``(3,)`` unit vector of the straight axis outside the skin, inwards.
        sigma_mm: 1 sigma of the tip's 3-D position, from detection (not registration, not slice thickness).
        shaft_hu: peak of the shaft near its end (above clipping if clipped).
        seen_share: share of the length from entry to tip on which the shaft was seen.
    """

    name: str | None
    tip_mm: Floats
    direction: Floats
    entry_mm: Floats
    outside: Floats
    sigma_mm: float
    shaft_hu: float
    seen_share: float


@dataclass(frozen=True, eq=False)
class NeedleFindings:
    """All needles of a scan: those found (planned or not) and the names of those not seen."""

    found: tuple[FoundNeedle, ...]
    unseen: tuple[str, ...]

    @property
    def unplanned(self) -> tuple[FoundNeedle, ...]:
        return tuple(needle for needle in self.found if needle.name is None)

    def needle(self, name: str) -> FoundNeedle | None:
        return next((needle for needle in self.found if needle.name == name), None)


def thickness_sigma_mm(slice_mm: float) -> float:
    """What slices of this thickness hide of a tip's position from any fit, 1 sigma, mm.

    A needle that lies wholly inside one slice looks alike anywhere in it (a uniform distribution). The benchmark's
    errors agree up to 2.5 mm; thicker slices are not trusted with a decision.
    """
    sigma = max((slice_mm - THICK_MM) / math.sqrt(12.0), LEAST_SLICE_SIGMA_MM)
    return sigma if slice_mm <= THICKEST_MM else max(sigma, THICKER_SIGMA_MM)
