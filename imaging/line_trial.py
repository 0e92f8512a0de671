"""How well the picture is explained with a line elsewhere, one line more, or one less."""

from __future__ import annotations

import numpy as np

from imaging.line import Lines
from imaging.line_fit import Fit, fit_lines
from imaging.line_picture import BEFORE_SKIN_MM, Picture
from imaging.rod_image import Blur, rendered_hu
from planning.frame import Floats

NEIGHBOUR_MM = 8.0


def tried_line(
    picture: Picture, fit: Fit, lines: Lines, blur: Blur, n: int | None, curve: Floats
) -> tuple[float, Lines]:
    """By how much the misfit falls when line ``n`` (or a new one) begins at ``curve``, and the lines then.

    Only it and its neighbours are fitted, on the voxels near them; the others stay.
    """
    count = len(lines.curves)
    end = (
        float(np.median(lines.ends_w_mm))
        if n is None
        else max(lines.ends_w_mm[n], float(np.median(lines.ends_w_mm)))
    )
    changed = Lines(
        lines.skin_w_mm,
        np.concatenate([lines.curves, curve[None]]) if n is None else lines.curves.copy(),
        np.append(lines.ends_w_mm, end) if n is None else lines.ends_w_mm.copy(),
    )
    k = count if n is None else n
    changed.curves[k], changed.ends_w_mm[k] = curve, end
    ws = np.linspace(lines.skin_w_mm - BEFORE_SKIN_MM, float(lines.ends_w_mm.max()), 8)
    moved = [changed.places(ws)[k]] + ([] if n is None else [lines.places(ws)[n]])
    gap = np.min([np.linalg.norm(lines.places(ws) - way, axis=2).min(axis=1) for way in moved], axis=0)
    with_it = gap < NEIGHBOUR_MM
    if n is not None:
        with_it[n] = True
    near = picture.near(
        Lines(
            lines.skin_w_mm,
            np.concatenate([lines.curves[with_it], curve[None]]),
            np.append(lines.ends_w_mm[with_it], end),
        )
    )
    far = ~with_it
    others = rendered_hu(near.at, fit.lines.only(far), fit.heights[far], near.bin_w_mm, blur)

    def fitted(lines: Lines, rounds: int) -> Fit:
        heights = np.full((len(lines.curves), len(near.bin_w_mm)), picture.usual_hu)
        return fit_lines(
            near, lines, heights, blur, picture.clip_hu, picture.usual_hu, rounds, others_hu=others
        )

    before = fitted(lines.only(with_it), 1)
    some = np.append(with_it, True) if n is None else with_it
    after = fitted(changed.only(some), 6)
    changed.curves[some] = after.lines.curves
    return before.misfit - after.misfit, changed


def line_gains(picture: Picture, fit: Fit, blur: Blur) -> Floats:
    """By how much the misfit rises without each line in turn."""
    near = picture.near(fit.lines)
    gains = []
    for n in range(len(fit.heights)):
        kept = np.arange(len(fit.heights)) != n
        without = fit_lines(
            near, fit.lines.only(kept), fit.heights[kept], blur, picture.clip_hu, picture.usual_hu, 0
        )
        gains.append(without.misfit - fit.misfit)
    return np.array(gains)
