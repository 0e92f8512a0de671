"""A needle as it is expected in a CT and as it is found there."""

from __future__ import annotations

from dataclasses import dataclass

from planning.frame import Floats

THICK_MM = 1.27  # 18 G
TWIN_MM = 1.5  # two tips cannot stand nearer: the needles are 1.27 mm thick
SLICE_SIGMA_5_MM = 2.0  # 1 sigma of a tip in 5 mm slices: CLINIC.md, 1.4-2.6 mm
SLICE_POWER = 1.71  # gives 0.19 mm at 1.25 mm and 0.61 mm at 2.5 mm, which the benchmark bears out
THICKEST_MM = 2.5  # thicker slices cannot decide 2 mm


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
    """What slices of this thickness hide of a tip's position from any fit, 1 sigma, mm."""
    sigma = float(SLICE_SIGMA_5_MM * (slice_mm / 5.0) ** SLICE_POWER)
    return sigma if slice_mm <= THICKEST_MM else max(sigma, SLICE_SIGMA_5_MM)
