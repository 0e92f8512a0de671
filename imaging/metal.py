"""Long pieces of metal in a CT of which there is no plan: in the air around the body, or cut off by the picture's edge.

Outside the body nothing else is bright. A picture that does not show where the body ends shows bone as well, which is
told from metal by its shape and by how bright it is as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label, uniform_filter

from imaging.sample import AIR_HU, inside, ring_hu
from imaging.shaft import SKIN_HU, expected_contrast_hu
from planning.frame import Floats
from planning.volume import CtVolume

LEAST_HU, MOST_HU, LEAST_SHARE = 200.0, 900.0, 0.9  # metal in air: of a shaft's usual contrast above it
AROUND_MM = 40.0  # a square of the slice in which most is air around what lies outside
LEAST_LENGTH_MM = 20.0
BONE_HU, EDGE_SHARE, SLIM = 900.0, 0.45, 4.0  # of metal of which no outside is seen
# Needles that touch are no slim piece, but brighter as a whole than bone (of 60 pieces of bone the median was at most
# 1160 HU, of jaw with teeth 1530; of bundles at least 1450 at 2.5 mm, 2100 at 1.25 mm).
TOUCHING_SLIM, TOUCHING_SHARE, TOUCHING_HU = 1.9, 1.0, 1900.0
MOST_DEG, NEIGHBOUR_MM = 8.0, 14.0  # pieces of one bundle
LEAST_ROOM_MM = 5.0  # between a piece's inner end and the picture's edge, more than at its outer end
BODY_RING_MM = 15.0
ON_LINE_MM = 1.6
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
        return bool(
            np.linalg.norm(offset - np.outer(offset @ direction, direction), axis=1).min() < ON_LINE_MM
        )

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
    """Long pieces that run out of a picture which does not show where the body ends.

    Slim ones brighter than bone may be; thicker ones (needles that touch) brighter than bone is as a whole.
    """
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
