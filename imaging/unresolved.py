"""Metal in which no needle could be told: said with its extent, because none found is not none there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import label

from imaging.metal import LEAST_LENGTH_MM, Metal
from planning.frame import Floats
from planning.plan import Point, rounded_point
from planning.volume import CtVolume


@dataclass(frozen=True)
class UnresolvedMetal:
    """A piece of metal that no found needle explains, in the scan's patient frame.

    Attributes:
        low_mm, high_mm: opposite corners of the box around it.
        length_mm: along it.
    """

    low_mm: Point
    high_mm: Point
    length_mm: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"low_mm": list(self.low_mm), "high_mm": list(self.high_mm), "length_mm": self.length_mm}


def unresolved(scan: CtVolume, piece: Metal, lines: Sequence[tuple[Floats, Floats]]) -> list[UnresolvedMetal]:
    """What of a piece is further than a needle's image from all lines (a point, a direction), if it is long."""
    slice_mm = max(scan.grid.spacing_mm[2], scan.slice_thickness_mm)
    rest = piece.points_mm[piece.without(lines, slice_mm)]
    if not len(rest):
        return []
    index = np.rint(scan.grid.index_of(rest)).astype(int)
    mask = np.zeros(np.ptp(index, axis=0) + 1, dtype=np.bool_)
    mask[tuple((index - index.min(axis=0)).T)] = True
    marks, count = label(mask, structure=np.ones((3, 3, 3)))
    belongs = marks[tuple((index - index.min(axis=0)).T)]
    found = []
    for number in range(1, count + 1):
        points = rest[belongs == number]
        length = float(np.ptp(points @ piece.direction))
        if length >= LEAST_LENGTH_MM:
            low, high = points.min(axis=0), points.max(axis=0)
            found.append(UnresolvedMetal(rounded_point(low), rounded_point(high), round(length, 1)))
    return found
