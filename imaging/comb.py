"""The plan's needles laid over the picture like a comb, then each fitted, then put right where the picture disagrees.

1. The whole comb is shifted until it lies on as much brightness as possible.
2. All lines are fitted together, with a wide blur first, so that each is drawn to its own needle and neighbours hold
   what is theirs (``line_fit``).
3. What the lines leave over is searched for lines (``line_search``): a needle that is brighter than its line explains
   means that a line went astray, or that a needle stands there which nobody planned. A line is led there, or added, if
   all voxels together are then explained better.
4. A line that explains nothing is taken away: that needle isn't there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from imaging.axis import Axis
from imaging.line import Lines
from imaging.line_fit import FINE, FREE, ROUGH, Fit, fit_lines
from imaging.line_search import dots, search_lines
from imaging.line_voxel import REACH_MM, Voxels, voxels_near
from imaging.rod_image import Blur, rendered_hu, shares
from imaging.shaft import Shaft, expected_contrast_hu
from imaging.slab import Slab, resample
from planning.frame import Floats
from planning.volume import CtVolume

RIM_MM = 15.0  # around the slab: lines may leave it a little
BIN_MM = 3.0
END_BIN_MM = 1.5
SHIFT_MM, SHIFT_STEP_MM = 8.4, 0.7
SHIFT_SIGMA_MM = 3.5  # of the comb as a whole
WIDE_MM = 1.2  # of the blur, while lines are led to their needles
GROWN = (  # how deep lines are believed, step by step: share of the way from skin to tip
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0),
)
STRAY = np.array(
    [0.8, 0.015, 0.0003]
)  # 1 sigma of a curve beside its planned line, of so many voxels' weight (assumed)
WIDTHS_MM = (0.7, 0.85, 1.0, 1.25, 1.5, 1.8)
BEFORE_SKIN_MM = 30.0  # the comb is laid on what is outside the skin, where hardly anything else is bright
DOT_SHARE = 0.4  # of the usual contrast: the most that a place counts in a search
LEFT_OVER_SHARE = 0.13  # of it, on average along a line: worth a try (noise and streaks leave less)
ADDED_SHARE = 0.2  # of it: worth an additional line
BETTER = 300.0  # by how much the misfit must fall for a line to be led elsewhere
ADDED_BETTER = 0.35  # of what a usual line explains: for a line more than planned
GONE = 0.2  # of what a usual line explains: below it there is no needle
NEIGHBOUR_MM = 8.0
TRIES = 4
END_STRAY_MM = 8.0  # a tip lies this near to its planned depth, as far as its curve is concerned
SPILL = 0.4  # of a neighbour's image, which isn't quite what the model says
ALIKE_VOXELS = 6.0  # neighbours share their errors (kernel, streaks): so many count as one (measured)
STREAKS_MM = 0.1  # 1 sigma by which streaks move a whole line (measured)


@dataclass(frozen=True, eq=False)
class Comb:
    """Lines fitted to a scan's needles.

    Attributes:
        lines, heights, grounds: as fitted, in fine bins.
        bin_w_mm: the bins' middles.
        blur: of the scanner, fitted too.
        covariance: ``(n, 6, 6)`` of the curves, as if voxels were independent.
        slab: the resampled scan that they were searched in.
    """

    lines: Lines
    heights: Floats
    grounds: Floats
    bin_w_mm: Floats
    blur: Blur
    covariance: Floats
    slab: Slab

    def __len__(self) -> int:
        return len(self.lines.curves)

    @property
    def axes(self) -> list[Axis]:
        alike = np.diag((STREAKS_MM**2, 0.0, 0.0))
        return [
            Axis(self.lines.skin_w_mm, curve, ALIKE_VOXELS * 0.5 * (c[:3, :3] + c[3:, 3:]) + alike)
            for curve, c in zip(self.lines.curves, self.covariance, strict=True)
        ]

    def shafts(self, least_hu: float) -> list[Shaft]:
        """How each needle looks along its line; height 0 where it isn't seen or may be a neighbour's."""
        ws = self.bin_w_mm
        uv = self.lines.places(ws)
        tables = self.blur.tables(self.lines.curves[:, 1])
        shafts = []
        for n in range(len(self)):
            spill = np.zeros(len(ws))
            for m in range(len(self)):
                if m != n:
                    beside = self.heights[m] * shares(uv[n] - uv[m], tables[m])
                    spill = np.maximum(spill, SPILL * beside)
            seen = self.heights[n] >= np.maximum(least_hu, spill)
            shafts.append(Shaft(ws, np.where(seen, self.heights[n], 0.0), self.grounds[n]))
        return shafts

    def others_hu(self, n: int, points_mm: Floats) -> Floats:
        """What all lines but one add at points ``(m, 3)`` of the patient frame."""
        others = np.arange(len(self)) != n
        local = points_mm @ self.slab.frame.T
        lines = self.lines.only(others)
        return np.asarray(rendered_hu(local, lines, self.heights[others], self.bin_w_mm, self.blur))


def fitted_comb(
    ct: CtVolume,
    corners_mm: Floats,
    direction: Floats,
    planned_entry_mm: Floats,
    planned_tip_mm: Floats,
    clip_hu: float,
    furthest_mm: float,
) -> Comb:
    """Fit the needles of a scan, beginning at the planned ones.

    Args:
        ct: the scan.
        corners_mm: ``(k, 3)``, their box is looked at.
        direction: unit vector along the needles.
        planned_entry_mm, planned_tip_mm: ``(n, 3)``; all entries at one depth along ``direction``.
        clip_hu: level at which the scanner clipped.
        furthest_mm: deeper than this along ``direction`` nothing is believed.
    """
    slab = resample(ct, direction, corners_mm)
    picture = _Picture(_around(ct, slab), slab, corners_mm, clip_hu, furthest_mm)
    entry, tip = planned_entry_mm @ slab.frame.T, planned_tip_mm @ slab.frame.T
    laid = _laid(picture, entry, tip)
    lines, blur = _drawn(picture, laid)
    lines, blur = _repaired(picture, lines, blur, len(entry))
    near = picture.near(lines, END_BIN_MM)
    last = picture.fit(lines, blur, 3)
    heights = _in_bins(last.heights, picture.near(lines).bin_w_mm, near.bin_w_mm)
    fine = fit_lines(near, last.lines, heights, blur, clip_hu, picture.usual_hu, 0)
    return Comb(last.lines, fine.heights, fine.grounds, near.bin_w_mm, blur, last.covariance, slab)


def _around(ct: CtVolume, slab: Slab) -> CtVolume:
    """The part of a scan that a slab is taken from, and a rim for lines that leave it a little."""
    ends = (slab.us[[0, -1]], slab.vs[[0, -1]], slab.ws[[0, -1]])
    corners = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3) @ slab.frame
    box = ct.grid.box(corners.min(axis=0) - RIM_MM, corners.max(axis=0) + RIM_MM)
    return replace(ct, hu=ct.hu[box], grid=ct.grid.cropped(box))


def _in_bins(heights: Floats, from_w: Floats, to_w: Floats) -> Floats:
    return np.array([np.interp(to_w, from_w, row) for row in heights]).reshape(-1, len(to_w))


class _Picture:
    """A scan, and what is asked of it again and again."""

    def __init__(
        self, ct: CtVolume, slab: Slab, corners_mm: Floats, clip_hu: float, furthest_w_mm: float
    ) -> None:
        self.ct, self.slab, self.corners_mm, self.clip_hu = ct, slab, corners_mm, clip_hu
        self.slice_mm = float(max(ct.grid.spacing_mm[2], ct.slice_thickness_mm))
        self.usual_hu = expected_contrast_hu(self.slice_mm)
        self.low_w_mm, self.high_w_mm = float(slab.ws[0]), furthest_w_mm

    def near(
        self, lines: Lines, bin_mm: float = BIN_MM, reach_mm: float = REACH_MM, to_w_mm: float = np.inf
    ) -> Voxels:
        """Voxels near any of the lines."""
        low, high = self.low_w_mm, min(self.high_w_mm, to_w_mm)
        return voxels_near(self.ct, self.slab.frame, lines, low, high, bin_mm, self.slice_mm, reach_mm)

    def blur(self, in_plane_mm: float) -> Blur:
        return Blur(in_plane_mm, self.slice_mm, self.slab.frame)

    def fit(
        self,
        lines: Lines,
        blur: Blur,
        rounds: int,
        *,
        bin_mm: float = BIN_MM,
        to_w_mm: float = np.inf,
        noise: Floats = FINE,
        middle: Floats | None = None,
    ) -> Fit:
        """All lines on all voxels near any; ``middle``: the planned curves, near which they are held."""
        near = self.near(lines, bin_mm, to_w_mm=to_w_mm)
        heights = np.full((len(lines.curves), len(near.bin_w_mm)), self.usual_hu)
        prior = FREE if middle is None else STRAY
        return fit_lines(
            near,
            lines,
            heights,
            blur,
            self.clip_hu,
            self.usual_hu,
            rounds,
            noise=noise,
            prior=prior,
            middle=middle,
        )

    def ended(self, fit: Fit, about_w_mm: Floats) -> Lines:
        """The same lines, believed as far as they are bright, about where their ends were sought."""
        bins = self.near(fit.lines).bin_w_mm
        ends = []
        for heights, about in zip(fit.heights, about_w_mm, strict=True):
            bright = np.flatnonzero((heights > 0.25 * self.usual_hu) & (bins < about + END_STRAY_MM))
            end = bins[bright[-1]] if len(bright) else about
            ends.append(max(end, about - END_STRAY_MM))
        return Lines(fit.lines.skin_w_mm, fit.lines.curves, np.array(ends))

    def left_over(self, fit: Fit, blur: Blur) -> Slab:
        """The slab without what the lines explain."""
        near = self.near(fit.lines)
        model = rendered_hu(near.at, fit.lines, fit.heights, near.bin_w_mm, blur)
        hu = self.ct.hu.copy()
        hu[tuple(near.index.T)] = np.rint(near.hu - np.minimum(model, self.clip_hu - 50.0))
        return resample(replace(self.ct, hu=hu), self.slab.frame[2], self.corners_mm)


def _laid(picture: _Picture, entry: Floats, tip: Floats) -> Lines:
    """The planned lines, shifted together to where they lie on most brightness outside the skin."""
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


def _grown(picture: _Picture, laid: Lines, depths: tuple[float, ...]) -> tuple[Fit, Lines]:
    """Each line led to its needle from outside the skin inwards, all together, and how well that explains."""
    skin, tip = laid.skin_w_mm, float(np.median(laid.ends_w_mm))
    blur, lines = picture.blur(WIDE_MM), laid
    for k, depth in enumerate(depths):
        ends = np.minimum(laid.ends_w_mm, skin + depth * (tip - skin)) if depth < 1.0 else laid.ends_w_mm
        lines = Lines(skin, lines.curves, ends)
        fit = picture.fit(
            lines,
            blur,
            3 if k else 5,
            bin_mm=4.0,
            to_w_mm=float(ends.max()) + 3.0,
            noise=ROUGH,
            middle=laid.curves,
        )
        lines = fit.lines
    return fit, lines


def _drawn(picture: _Picture, laid: Lines) -> tuple[Lines, Blur]:
    """Lines on their needles (the better of a few ways to get there), and the scanner's blur."""
    ways = [_grown(picture, laid, depths) for depths in GROWN]
    _, lines = min(ways, key=lambda way: way[0].misfit)
    widths = [(picture.fit(lines, picture.blur(w), 1, noise=ROUGH).misfit, w) for w in WIDTHS_MM]
    blur = picture.blur(min(widths)[1])
    fit = picture.fit(lines, blur, 4, noise=ROUGH, middle=laid.curves)
    return picture.ended(fit, laid.ends_w_mm), blur


def _repaired(picture: _Picture, lines: Lines, blur: Blur, planned: int) -> tuple[Lines, Blur]:
    """Lines led to what the others leave over, added, taken away, until nothing is better."""
    tried: list[Floats] = []
    for _ in range(TRIES):
        fit = picture.fit(lines, blur, 4)
        lines = picture.ended(fit, lines.ends_w_mm)
        better = _led(picture, fit, lines, blur, tried)
        if better is None:
            break
        lines = better
    widths = [blur.in_plane_mm * share for share in (0.87, 1.0, 1.15)]
    blur = picture.blur(min((picture.fit(lines, picture.blur(w), 1).misfit, w) for w in widths)[1])
    fit = picture.fit(lines, blur, 3)
    gains = _gains(picture, fit, blur)
    usual = float(np.median(gains)) if len(gains) else 0.0
    there = gains > GONE * usual
    # of lines more than planned, the least are no needles unless they explain nearly as much
    order = np.argsort(-np.where(there, gains, -np.inf))
    for n in order[planned:]:
        there[n] &= gains[n] > ADDED_BETTER * usual
    return fit.lines.only(there), blur


def _led(picture: _Picture, fit: Fit, lines: Lines, blur: Blur, tried: list[Floats]) -> Lines | None:
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
                gain, moved = _tried(picture, fit, lines, blur, int(n), curve)
                if gain > best:
                    best, answer = gain, moved
        if part == 0 and means[0] > ADDED_SHARE * picture.usual_hu:
            gain, moved = _tried(picture, fit, lines, blur, None, straight)
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


def _tried(
    picture: _Picture, fit: Fit, lines: Lines, blur: Blur, n: int | None, curve: Floats
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


def _gains(picture: _Picture, fit: Fit, blur: Blur) -> Floats:
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
