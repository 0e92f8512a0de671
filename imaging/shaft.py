"""A needle's shaft as a scan shows it along its line, and where that ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats

SKIN_HU = -300.0
MOST_GAP_MM = 45.0
STRONG_SHARE = 0.45  # of a shaft's usual height: what bone and haze do not reach

# Contrast of a shaft by slice thickness (CLINIC.md, "What CT shows of metal"; thick slices average the log).
_THICKNESS_MM = (1.25, 2.5, 5.0)
_SHAFT_HU = (3000.0, 1300.0, 530.0)


def expected_contrast_hu(slice_mm: float) -> float:
    """Contrast a shaft in the slice plane usually has at this slice thickness."""
    return float(np.interp(slice_mm, _THICKNESS_MM, _SHAFT_HU))


@dataclass(frozen=True, eq=False)
class Shaft:
    """How one needle looks along its line.

    Attributes:
        ws: ``(n,)`` depths, mm.
        peak_hu: ``(n,)`` brightness above its background, unclipped; 0 where it isn't seen, or can't be told from
            a neighbour's.
        ground_hu: ``(n,)`` its background.
    """

    ws: Floats
    peak_hu: Floats
    ground_hu: Floats

    def up_to(self, end_mm: float) -> Shaft:
        used = self.ws <= end_mm + 1e-6
        return Shaft(self.ws[used], self.peak_hu[used], self.ground_hu[used])


@dataclass(frozen=True)
class End:
    """Where a followed shaft ends, as ``w`` in mm.

    Attributes:
        w_mm: its deepest bright place.
        sharp: whether it drops there as a tip does; a shaft that fades may go on unseen.
        dim_mm: how far something dim goes on in its line: starved shaft, or the haze between needles.
        usual_hu: its usual height.
    """

    w_mm: float
    sharp: bool
    dim_mm: float
    usual_hu: float


def visible_end(shaft: Shaft, furthest_mm: float) -> End:
    """Find the deepest place at which a followed shaft is still seen, bridging gaps in which it is starved.

    A shaft that comes back after a gap comes back bright: what is short or dim is bone, an edge, or the haze between
    starved needles. Nothing beyond ``furthest_mm`` is believed.
    """
    step = float(shaft.ws[1] - shaft.ws[0])
    height = np.where(shaft.ws <= furthest_mm, shaft.peak_hu, 0.0)
    bright = np.sort(height[height > 0.0])
    if not len(bright):
        return End(float(shaft.ws[0]), False, float(shaft.ws[0]), 0.0)
    usual = float(np.median(bright[len(bright) // 3 :]))
    strong = height > STRONG_SHARE * usual
    last, run = int(np.argmax(strong)), 0
    for k, seen in enumerate(strong):
        run = run + 1 if seen else 0
        gap = (k - run - last) * step
        if run and gap < MOST_GAP_MM and (gap < 1.0 or (run - 1) * step > 1.5 + 0.1 * gap):
            last = k
    after = height[min(last + 2, len(height) - 1)]
    sharp = bool(after < 0.35 * height[max(last - 2, 0) : last + 1].max())
    dim = height > np.maximum(0.05 * usual, 0.5 * shaft.ground_hu)
    tail = last
    while tail + 1 < len(dim) and dim[tail + 1]:
        tail += 1
    return End(float(shaft.ws[last]), sharp, float(shaft.ws[tail]), usual)
