"""Needles that stand so close that a CT shows one piece of metal: where each of them may be, without a plan.

Outside the body nothing else is bright, so the metal there tells the common direction. Along it, straight lines are
sought from outside the skin to a little inside (``line_search``), one after the other: what a line explains counts for
no other. First guesses only, as in ``straight_metal``; which of them are needles the joint fit decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label, uniform_filter

from imaging.line import Lines
from imaging.line_fit import ROUGH, Fit, fit_lines
from imaging.line_search import dots, search_lines
from imaging.line_voxel import Voxels, voxels_near
from imaging.rod_image import Blur
from imaging.sample import AIR_HU, across, clip_level_hu, inside, ring_hu
from imaging.shaft import SKIN_HU, expected_contrast_hu
from imaging.slab import Slab, resample
from planning.frame import Floats, unit
from planning.volume import CtVolume

LEAST_HU, MOST_HU, LEAST_SHARE = 200.0, 900.0, 0.9  # metal in air: of a shaft's usual contrast above it
AROUND_MM = 40.0  # a square of the slice in which most is air around what lies outside
LEAST_LENGTH_MM = 20.0
BONE_HU, EDGE_SHARE, SLIM = 900.0, 0.45, 4.0  # of metal of which no outside is seen
# Needles that touch are no slim piece, but brighter as a whole than bone (of 60 pieces of bone the median was at most
# 1160 HU, of jaw with teeth 1530; of bundles at least 1450 at 2.5 mm, 2100 at 1.25 mm).
TOUCHING_SLIM, TOUCHING_SHARE, TOUCHING_HU = 1.9, 1.0, 1900.0
MOST_DEG, NEIGHBOUR_MM = 8.0, 14.0  # pieces of one bundle
SURE_DEG = 1.5
LEAST_ROOM_MM = 5.0  # between a piece's inner end and the picture's edge, more than at its outer end
BODY_RING_MM = 15.0
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
EXPLAINED_MM, EXPLAINED_SLICES = 2.0, 0.8  # from a needle's line: metal that is its image


@dataclass(frozen=True, eq=False)
class Metal:
    """A long piece of metal outside the body.

    Attributes:
        points_mm: ``(n, 3)`` its voxels, patient frame.
        direction: ``(3,)`` unit vector along it, either way.
        in_body: whether the picture's edge cuts it before the skin.
    """

    points_mm: Floats
    direction: Floats
    in_body: bool = False

    @property
    def length_mm(self) -> float:
        return float(np.ptp(self.points_mm @ self.direction))

    def gap_mm(self, other: Metal) -> float:
        """How far two pieces' lines are apart, halfway along this one."""
        offset = self.points_mm.mean(axis=0) - other.points_mm.mean(axis=0)
        return float(np.linalg.norm(offset - (offset @ other.direction) * other.direction))

    def holds(self, point_mm: Floats, direction: Floats) -> bool:
        """Whether a line along it lies among its voxels."""
        if abs(direction @ self.direction) < np.cos(np.radians(MOST_DEG)):
            return False
        offset = self.points_mm - point_mm
        return bool(np.linalg.norm(offset - np.outer(offset @ direction, direction), axis=1).min() < OWN_MM)

    def without(self, lines: Sequence[tuple[Floats, Floats]], slice_mm: float) -> NDArray[np.bool_]:
        """Which voxels no line (a point, a direction) explains: they lie on none."""
        free = np.ones(len(self.points_mm), dtype=np.bool_)
        explained_mm = EXPLAINED_MM + EXPLAINED_SLICES * slice_mm
        for entry, line in lines:
            offset = self.points_mm - entry
            free &= np.linalg.norm(offset - np.outer(offset @ line, line), axis=1) > explained_mm
        return free


def metal_outside(ct: CtVolume) -> list[Metal]:
    """Long pieces of metal in the air around the body, longest first."""
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    bright = ct.hu > np.clip(AIR_HU + LEAST_SHARE * expected_contrast_hu(slice_mm), LEAST_HU, MOST_HU)
    index = np.argwhere(bright)
    if not len(index):
        return []
    dx, dy, _ = ct.grid.spacing_mm
    coarse = (ct.hu[:, ::2, ::2] < SKIN_HU).astype(np.float32)
    size = (1, max(1, round(AROUND_MM / dy / 2.0)), max(1, round(AROUND_MM / dx / 2.0)))
    air = uniform_filter(coarse, size, mode="nearest")
    within = index[air[index[:, 0], index[:, 1] // 2, index[:, 2] // 2] < 0.5]
    bright[tuple(within.T)] = False
    return sorted(_long_pieces(ct, bright), key=lambda piece: -piece.length_mm)


def metal_at_edge(ct: CtVolume) -> list[Metal]:
    """Long pieces that run out of a picture which does not show where the body ends: slim ones brighter than bone may be,
    thicker ones (needles that touch) brighter than bone is as a whole."""
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    usual_hu = expected_contrast_hu(slice_mm)
    bright = ct.hu > max(BONE_HU, EDGE_SHARE * usual_hu)
    thin, thick = [], []
    for piece in _long_pieces(ct, bright):
        index = ct.grid.index_of(piece.points_mm)
        at_side = (index[:, 1:] < 1.5) | (index[:, 1:] > np.array(ct.grid.shape[1:]) - 2.5)
        variance = np.linalg.eigvalsh(np.cov(piece.points_mm.T))
        slim = float(np.sqrt(variance[2] / variance[1]))
        usually_hu = float(np.median(ct.hu[tuple(np.rint(index).astype(int).T)]))
        steel = usually_hu > min(TOUCHING_SHARE * usual_hu, TOUCHING_HU)
        if at_side.any() and slim > SLIM:
            thin.append(replace(piece, in_body=True))
        elif at_side.any() and slim > TOUCHING_SLIM and steel:
            thick.append(replace(piece, in_body=True))
    if thin:  # a thick one's long axis may lie across its needles
        thick = [replace(piece, direction=_pooled(thin)) for piece in thick]
    return thin + thick


def _long_pieces(ct: CtVolume, mask: NDArray[np.bool_]) -> Iterator[Metal]:
    marks, _ = label(mask, structure=np.ones((3, 3, 3)))
    for number, box in enumerate(find_objects(marks), start=1):
        extent = [(s.stop - s.start) * d for s, d in zip(box, ct.grid.spacing_mm[::-1], strict=True)]
        if np.linalg.norm(extent) >= LEAST_LENGTH_MM:
            index = np.argwhere(marks[box] == number) + [s.start for s in box]
            points = ct.grid.point_of(index)
            offset = points - points.mean(axis=0)
            piece = Metal(points, np.asarray(np.linalg.eigh(offset.T @ offset)[1][:, 2]))
            if piece.length_mm >= LEAST_LENGTH_MM:
                yield piece


def bundles(pieces: Sequence[Metal]) -> list[Metal]:
    """Parallel pieces that stand beside each other, taken together; of the longest ones first."""
    left = sorted(pieces, key=lambda piece: -piece.length_mm)
    together = []
    while left:
        first, *left = left
        group = [first]
        for piece in list(left):
            if abs(piece.direction @ first.direction) > np.cos(np.radians(MOST_DEG)) and any(
                piece.gap_mm(other) < NEIGHBOUR_MM for other in group
            ):
                group.append(piece)
                left = [other for other in left if other is not piece]
        together.append(
            Metal(np.concatenate([piece.points_mm for piece in group]), _pooled(group), first.in_body)
        )
    return together


def _pooled(group: Sequence[Metal]) -> Floats:
    """The common long axis, wherever each of them stands."""
    scatter = np.zeros((3, 3))
    for piece in group:
        offset = piece.points_mm - piece.points_mm.mean(axis=0)
        scatter += offset.T @ offset
    return np.asarray(np.linalg.eigh(scatter)[1][:, 2])


def inwards(ct: CtVolume, piece: Metal) -> Floats | None:
    """Its direction into the body; None when neither end, or both, lead there."""
    along = piece.points_mm @ piece.direction
    share, room_mm = [], []
    for way in (1.0, -1.0):
        end = piece.points_mm[way * along >= np.percentile(way * along, 97.0)].mean(axis=0)
        room_mm.append(float(np.sum(inside(ct, end + way * np.arange(1.0, 45.1)[:, None] * piece.direction))))
        points = end + way * np.arange(6.0, 45.1, 3.0)[:, None] * piece.direction
        tissue = ring_hu(ct, points, piece.direction, BODY_RING_MM) > SKIN_HU
        share.append(float(np.mean(tissue & inside(ct, points))))
    if abs(share[0] - share[1]) < 0.3:
        if not piece.in_body or abs(room_mm[0] - room_mm[1]) < LEAST_ROOM_MM:
            return None
        share = room_mm  # the end that the edge cuts off is the outer one: a tight crop may show little beyond the tips
    return piece.direction if share[0] > share[1] else -piece.direction


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
