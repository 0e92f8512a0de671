"""Needles that stand so close that a CT shows one piece of metal: where each of them may be, without a plan.

Metal outside the body tells the common direction. Along it, straight lines are sought from outside the skin to a
little inside (``line_search``), one after the other: what a line explains counts for no other. First guesses only, as
in ``straight_metal``; which of them are needles the joint fit decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imaging.line import Lines
from imaging.line_fit import ROUGH, Fit, fit_lines
from imaging.line_search import dots, search_lines
from imaging.line_voxel import Voxels, voxels_near
from imaging.metal import Metal
from imaging.rod_image import Blur
from imaging.sample import across, clip_level_hu
from imaging.shaft import expected_contrast_hu
from imaging.slab import Slab, resample
from planning.frame import Floats, unit
from planning.volume import CtVolume

SURE_DEG = 1.5
SIDE_MM = 8.0
INSIDE_MM = 25.0  # lines are sought up to here inside the skin, where needles have not bent far
OUTSIDE_MM = 70.0
OUTER_MM = 20.0  # of a piece cut by the picture's edge: straight, like what is outside the skin
DEEPEST_MM = 130.0
MOST_NEEDLES = 40
MOST_SHARE = 0.4  # of the usual contrast: the most that a place counts
DIM, DIMMEST_SHARE = 0.35, 0.06  # a line's mean against the best one's, and against the usual contrast
OWN_MM = 1.6  # around a line: its own
WIDE_MM = 1.0  # of the blur
GONE = 0.3  # of what a usual line explains: below it there is no needle
NEIGHBOUR_LINE_MM = 7.0
BENT_MM = 2.5
GAP_MM = 25.0


def needles_of(ct: CtVolume, piece: Metal, direction: Floats) -> tuple[Floats, Floats]:
    """Straight lines that a bundle may consist of.

    Args:
        piece: what of it lies outside the body.
        direction: ``(3,)`` along it, into the body.

    Returns:
        ``(m, 3)`` entries (all at the depth of the metal's inner end) and ``(m, 3)`` where they seem to end.
    """
    entries, ends = _lines_along(ct, piece, direction)
    if len(entries):
        common = unit(np.median(ends - entries, axis=0))
        if common @ direction < np.cos(
            np.radians(SURE_DEG)
        ):  # a bundle's outline isn't its needles' direction
            return _lines_along(ct, piece, common)
    return entries, ends


def _lines_along(ct: CtVolume, piece: Metal, inwards: Floats) -> tuple[Floats, Floats]:
    along = piece.points_mm @ inwards
    first, last = float(along.min()), float(np.percentile(along, 99.0))
    skin = min(first + OUTER_MM, last) if piece.in_body else last
    low = max(first, skin - OUTSIDE_MM)
    ends = piece.points_mm[along > low]
    sides = np.array([a * u + b * v for u, v in (across(inwards),) for a in (-1, 1) for b in (-1, 1)])
    corners = np.concatenate(
        [ends + SIDE_MM * side + far * inwards for side in sides for far in (0.0, DEEPEST_MM)]
    )
    slab = resample(ct, inwards, corners)
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    usual_hu = expected_contrast_hu(slice_mm)
    spots = dots(slab)
    lines = _sought(slab, spots, low, skin, usual_hu)
    if len(lines.curves):
        lines = _thinned(ct, slab, lines, low, slice_mm, usual_hu)
    ws = np.array([skin, _end(slab, spots, lines, skin, usual_hu)])
    places = lines.places(ws)
    points = np.concatenate([places, np.broadcast_to(ws[:, None], (len(places), 2, 1))], axis=2) @ slab.frame
    return points[:, 0], points[:, 1]


def _sought(slab: Slab, spots: NDArray[np.float32], low: float, skin: float, usual_hu: float) -> Lines:
    """Line after line, the best first; more than there are needles."""
    bright = np.clip(spots, 0.0, MOST_SHARE * usual_hu)
    curves: list[Floats] = []
    best = 0.0
    for _ in range(MOST_NEEDLES):
        found, means = search_lines(slab, bright, low, skin + INSIDE_MM, skin, MOST_SHARE * usual_hu, 1)
        if not len(found) or means[0] < max(DIM * best, DIMMEST_SHARE * usual_hu):
            break
        best = max(best, float(means[0]))
        curves.append(np.array([found[0][:2], found[0][2:], (0.0, 0.0)]))
        for plane, w in zip(bright, slab.ws, strict=True):
            u, v = found[0][:2] + (w - skin) * found[0][2:]
            plane[(slab.us - u) ** 2 + ((slab.vs - v) ** 2)[:, None] < OWN_MM**2] = 0.0
    return Lines(skin, np.array(curves).reshape(-1, 3, 2), np.full(len(curves), skin + INSIDE_MM))


def _thinned(ct: CtVolume, slab: Slab, lines: Lines, low: float, slice_mm: float, usual_hu: float) -> Lines:
    """Without those that explain little beside the others: between needles that touch, and two on one needle."""
    blur, clip_hu = Blur(WIDE_MM, slice_mm, slab.frame), clip_level_hu(ct)

    def fit(lines: Lines, rounds: int) -> Fit:
        near = voxels_near(ct, slab.frame, lines, low, lines.skin_w_mm + INSIDE_MM, 6.0, slice_mm)
        heights = np.full((len(lines.curves), len(near.bin_w_mm)), usual_hu)
        return fit_lines(near, lines, heights, blur, clip_hu, usual_hu, rounds, noise=ROUGH)

    while len(lines.curves) > 1:
        whole = fit(lines, 3)
        near = voxels_near(ct, slab.frame, whole.lines, low, lines.skin_w_mm + INSIDE_MM, 6.0, slice_mm)
        kept = np.ones(len(lines.curves), dtype=np.bool_)
        lines = whole.lines

        def misfit(some: NDArray[np.bool_], whole: Fit = whole, near: Voxels = near) -> float:
            return fit_lines(
                near, whole.lines.only(some), whole.heights[some], blur, clip_hu, usual_hu, 0, noise=ROUGH
            ).misfit

        all_of_them = misfit(kept)
        gains = np.array([misfit(np.arange(len(kept)) != n) - all_of_them for n in range(len(kept))])
        usual = float(np.median(np.sort(gains)[len(gains) // 2 :]))
        # the least of each neighbourhood goes; then its neighbours may be needed after all
        gone = False
        places = lines.places(np.array([low, lines.skin_w_mm]))
        for n in np.argsort(gains):
            if gains[n] >= GONE * usual:
                break
            beside = np.linalg.norm(places - places[n], axis=2).min(axis=1)
            if kept[beside < NEIGHBOUR_LINE_MM].all():
                kept[n], gone = False, True
        lines = lines.only(kept)
        if not gone:
            break
    return lines


def _end(slab: Slab, spots: NDArray[np.float32], lines: Lines, skin: float, usual_hu: float) -> float:
    """How deep most of the lines go on, roughly: needles bend, so anything bright near their line counts."""
    if not len(lines.curves):
        return skin
    step = float(slab.us[1] - slab.us[0])
    reach = round(BENT_MM / step)
    at = np.rint((lines.places(slab.ws) - (slab.us[0], slab.vs[0])) / step).astype(int)
    along = np.zeros(len(slab.ws))
    for k, plane in enumerate(spots):
        peaks = [
            plane[max(j - reach, 0) : max(j + reach + 1, 0), max(i - reach, 0) : max(i + reach + 1, 0)].max(
                initial=0.0
            )
            for i, j in at[:, k]
        ]
        along[k] = np.mean(np.clip(peaks, 0.0, MOST_SHARE * usual_hu))
    near_skin = along[(slab.ws > skin) & (slab.ws < skin + INSIDE_MM)]
    bright = along > 0.5 * np.median(near_skin)
    last = skin
    for w, seen in zip(slab.ws[slab.ws > skin], bright[slab.ws > skin], strict=True):
        if seen:
            last = float(w)
        elif w - last > GAP_MM:
            break
    return max(last, skin + INSIDE_MM)
