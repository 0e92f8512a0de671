"""A needle's shaft as a scan shows it along its line, and where it is taken to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats

SKIN_HU = -300.0
MOST_GAP_MM = 45.0
STRONG_SHARE = 0.45  # of a shaft's usual height: what bone and haze do not reach
FADED_MM = 1.5  # 1 sigma (assumed) of the end of a shaft that fades out instead of ending
FAR_SHALLOW_MM = 6.0  # further than this from its depth, a needle is thought starved before misplaced
FAR_MM = 8.0  # further than this from its depth, an end is believed only if it looks like one

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


def nearer_end(shaft: Shaft, end: End, planned_w: float | None) -> End:
    """The end before a gap, when beyond it there is something far deeper than planned: bone, or another needle."""
    if planned_w is None or end.w_mm <= planned_w + FAR_MM:
        return end
    nearer = visible_end(shaft, planned_w + FAR_MM)
    gap = np.count_nonzero(
        shaft.peak_hu[(shaft.ws > nearer.w_mm) & (shaft.ws < end.w_mm)] < 0.35 * nearer.usual_hu
    )
    return nearer if nearer.sharp and gap and nearer.w_mm > planned_w - FAR_MM else end


def believed_end(end: End, planned_w: float | None) -> tuple[float, float]:
    """Where a shaft is taken to end, and the sigma that choice adds, mm.

    A sharp end is the tip. Only if it lies far too shallow, and something dim leads on from it to where the tip should
    be, the dim part is taken for starved shaft. A shaft that fades ends somewhere in its dim part, likeliest where
    it was planned. In both cases the depth is not sure, and sigma says so.
    """
    if planned_w is not None and planned_w - end.w_mm > FAR_SHALLOW_MM and end.dim_mm - end.w_mm > 4.0:
        return min(end.dim_mm, planned_w + 4.0), 2.0 * FADED_MM
    if end.sharp:
        return end.w_mm, 0.0
    likely = end.dim_mm if planned_w is None else float(np.clip(planned_w, end.w_mm, end.dim_mm))
    return likely, max(FADED_MM, 0.3 * (end.dim_mm - end.w_mm))
