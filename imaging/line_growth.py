"""Planned lines led to their needles: laid over the picture together, then grown from outside the skin inwards.

Outside the skin hardly anything else is bright, so each line finds its needle there; step by step it is then believed
deeper, while its neighbours hold what is theirs. The blur is wide at first, so that a line is drawn from afar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imaging.line import Lines
from imaging.line_fit import ROUGH, Fit
from imaging.line_picture import BEFORE_SKIN_MM, DOT_SHARE, Picture
from imaging.line_search import dots
from imaging.rod_image import Blur
from planning.frame import Floats

SHIFT_MM, SHIFT_STEP_MM = 8.4, 0.7
SHIFT_SIGMA_MM = 3.5  # of the comb as a whole
WIDE_MM, WIDE_OWN_MM = 1.2, 0.35  # of the blur in and across the slices, while lines are led to their needles
GROWN_BIN_MM = 4.0
GROWN = (  # how deep lines are believed, step by step: share of the way from skin to tip
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0),
)
WIDTHS_MM = (0.7, 0.85, 1.0, 1.25, 1.5, 1.8)


def laid_lines(picture: Picture, entry: Floats, tip: Floats) -> Lines:
    """The planned lines, shifted together to where they lie on most brightness outside the skin.

    Args:
        entry, tip: ``(n, 3)`` planned, in the slab; all entries at one depth.
    """
    slab, skin = picture.slab, float(entry[0, 2])
    slope = (tip - entry)[:, :2] / (tip - entry)[:, 2:]
    curves = np.stack([entry[:, :2], slope, np.zeros_like(slope)], axis=1)
    lines = Lines(skin, curves, tip[:, 2] - 4.0)
    usual = DOT_SHARE * picture.usual_hu
    deepest = max(float(tip[:, 2].min()), skin)  # of what all of them reach
    planes = np.flatnonzero((slab.ws > skin - BEFORE_SKIN_MM) & (slab.ws < deepest))[::2]
    bright = np.clip(dots(slab)[planes], -0.5 * usual, usual)
    step = float(slab.us[1] - slab.us[0])
    at = (lines.places(slab.ws[planes]) - (slab.us[0], slab.vs[0])) / step
    most = np.array((len(slab.us), len(slab.vs))) - 1
    reach = np.arange(-SHIFT_MM, SHIFT_MM + 1e-9, SHIFT_STEP_MM)
    shifts = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    value = -0.03 * usual * np.sum(shifts**2, axis=1) / SHIFT_SIGMA_MM**2
    for k, shift in enumerate(shifts):
        i, j = np.moveaxis(np.clip(np.rint(at + shift / step), 0, most).astype(int), 2, 0)
        value[k] += bright[np.arange(len(planes)), j, i].mean()
    curves[:, 0] += shifts[np.argmax(value)]
    return lines


def drawn_lines(
    picture: Picture,
    laid: Lines,
    ways_there: Sequence[tuple[float, ...]] = GROWN,
    *,
    damped: bool = False,
) -> tuple[Lines, Blur]:
    """Lines led to their needles (by the better of a few ways), and the scanner's blur."""
    ways = [_grown(picture, laid, depths, damped=damped) for depths in ways_there]
    _, lines = min(ways, key=lambda way: way[0].misfit)
    near = picture.near(lines)
    widths = [(picture.fit(lines, picture.blur(w), 1, near=near, noise=ROUGH).misfit, w) for w in WIDTHS_MM]
    blur = picture.blur(min(widths)[1])
    fit = picture.fit(lines, blur, 4, near=near, noise=ROUGH, middle=laid.curves, damped=False)
    return picture.ended(fit, laid.ends_w_mm), blur


def _grown(picture: Picture, laid: Lines, depths: tuple[float, ...], *, damped: bool) -> tuple[Fit, Lines]:
    """Each line led to its needle from outside the skin inwards, all together, and how well that explains."""
    skin, tip = laid.skin_w_mm, float(np.median(laid.ends_w_mm))
    blur, lines = picture.blur(WIDE_MM, WIDE_OWN_MM), laid
    for k, depth in enumerate(depths):
        ends = np.minimum(laid.ends_w_mm, skin + depth * (tip - skin)) if depth < 1.0 else laid.ends_w_mm
        lines = Lines(skin, lines.curves, ends)
        near = picture.near(lines, GROWN_BIN_MM, to_w_mm=float(ends.max()) + 3.0)
        fit = picture.fit(
            lines, blur, 3 if k else 5, near=near, noise=ROUGH, middle=laid.curves, damped=damped
        )
        lines = fit.lines
    return fit, lines
