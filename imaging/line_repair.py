"""Fitted lines put right where the picture disagrees.

What the lines leave over is searched for lines (``line_search``): a needle that is brighter than its line explains
means that a line went astray, or that a needle stands there which nobody planned. A line is led there, or added, if
all voxels together are then explained better. A line that explains nothing is taken away: that needle isn't there.
"""

from __future__ import annotations

import numpy as np

from imaging.line import Lines
from imaging.line_fit import Fit
from imaging.line_picture import BEFORE_SKIN_MM, DOT_SHARE, Picture
from imaging.line_search import dots, search_lines
from imaging.line_trial import line_gains, tried_line
from imaging.rod_image import Blur
from planning.frame import Floats

LEFT_OVER_SHARE = (
    0.13  # of the usual contrast, on average along a line: worth a try (noise and streaks leave less)
)
ADDED_SHARE = 0.2  # of it: worth an additional line
BETTER = 300.0  # by how much the misfit must fall for a line to be led elsewhere
ADDED_BETTER = 0.35  # of what a usual line explains: for a line more than planned
GONE = 0.2  # of what a usual line explains: below it there is no needle
TRIES = 4


def repaired_lines(picture: Picture, lines: Lines, blur: Blur, planned: int) -> tuple[Lines, Blur]:
    """Lines led to what the others leave over, added, taken away, until nothing is better; and the blur then.

    Args:
        planned: how many lines are planned; one more than that must explain nearly as much as they do.
    """
    tried: list[Floats] = []
    for _ in range(TRIES):
        fit = picture.fit(lines, blur, 4)
        lines = picture.ended(fit, lines.ends_w_mm)
        better = _led(picture, fit, lines, blur, tried)
        if better is None:
            break
        lines = better
    near = picture.near(lines)
    widths = [blur.in_plane_mm * share for share in (0.87, 1.0, 1.15)]
    blur = picture.blur(min((picture.fit(lines, picture.blur(w), 1, near=near).misfit, w) for w in widths)[1])
    fit = picture.fit(lines, blur, 3, near=near)
    gains = line_gains(picture, fit, blur)
    usual = float(np.median(gains)) if len(gains) else 0.0
    there = gains > GONE * usual
    # of lines more than planned, the least are no needles unless they explain nearly as much
    order = np.argsort(-np.where(there, gains, -np.inf))
    for n in order[planned:]:
        there[n] &= gains[n] > ADDED_BETTER * usual
    return fit.lines.only(there), blur


def _led(picture: Picture, fit: Fit, lines: Lines, blur: Blur, tried: list[Floats]) -> Lines | None:
    """The lines with one of them led to, or one added at, what is left over; None when nothing is better."""
    slab, skin = picture.slab, lines.skin_w_mm
    tip = float(np.median(lines.ends_w_mm))
    bright = dots(picture.left_over(fit, blur))
    least_hu = LEFT_OVER_SHARE * picture.usual_hu
    ranges = (  # the whole length, its inner part, its outer part
        (skin - BEFORE_SKIN_MM, tip - 4.0),
        (skin + 0.35 * (tip - skin), tip - 2.0),
        (skin - BEFORE_SKIN_MM, skin + 0.4 * (tip - skin)),
    )
    for part, (low, high) in enumerate(ranges):
        middle = 0.5 * (low + high)
        found, means = search_lines(slab, bright, low, high, middle, DOT_SHARE * picture.usual_hu, 1)
        if not len(found) or means[0] < least_hu:
            continue
        line = np.append(found[0], float(part))
        if any(np.all(np.abs(line - old) < (1.5, 1.5, 0.03, 0.03, 0.5)) for old in tried):
            continue
        tried.append(line)
        straight = np.array([line[:2] + (skin - middle) * line[2:4], line[2:4], (0.0, 0.0)])
        there = Lines(skin, straight[None], np.zeros(1)).places(np.array([low, high]))
        beside = np.linalg.norm(lines.places(np.array([low, high])) - there, axis=2).mean(axis=1)
        best, answer = BETTER, None
        for n in np.argsort(beside)[:2]:
            for curve in _ways(lines.curves[n], straight, skin, tip, part):
                gain, moved = tried_line(picture, fit, lines, blur, int(n), curve)
                if gain > best:
                    best, answer = gain, moved
        if part == 0 and means[0] > ADDED_SHARE * picture.usual_hu:
            gain, moved = tried_line(picture, fit, lines, blur, None, straight)
            if gain > 2.0 * best:
                best, answer = gain, moved
        if answer is not None:
            return answer
    return None


def _ways(old: Floats, straight: Floats, skin: float, tip: float, part: int) -> list[Floats]:
    """The curves that a line may take to what was left over: wholly there, or only its inner or outer part."""

    def place(curve: Floats, w: float) -> Floats:
        return np.asarray(Lines(skin, curve[None], np.zeros(1)).places(np.array([w]))[0, 0])

    def through(outer: Floats, inner: Floats) -> Floats:
        slope = (inner - outer) / (tip - (skin - 15.0))
        return np.array([outer + 15.0 * slope, slope, (0.0, 0.0)])

    out, inn = skin - 15.0, tip
    ways = [through(place(old, out), place(straight, inn)), through(place(straight, out), place(old, inn))]
    return [straight, *ways] if part == 0 else [ways[part - 1]]
