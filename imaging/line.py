"""Needles as lines in a slab: each straight outside the skin, with one gentle bend inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.axis import basis
from planning.frame import Floats


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines in the coordinates of a slab (u, v across, w along, mm).

    Attributes:
        skin_w_mm: where the bend begins.
        curves: ``(n, 3, 2)``, see :class:`imaging.axis.Axis`.
        ends_w_mm: ``(n,)`` how far each is believed; beyond, it says nothing about its curve.
    """

    skin_w_mm: float
    curves: Floats
    ends_w_mm: Floats

    def places(self, ws_mm: Floats) -> Floats:
        """``(n, len(ws), 2)``: where each line is at these depths, mm."""
        return np.asarray(basis(ws_mm, self.skin_w_mm) @ self.curves)

    def only(self, which: NDArray[np.bool_]) -> Lines:
        """Some of them: ``which`` is ``(n,)``."""
        return Lines(self.skin_w_mm, self.curves[which].copy(), self.ends_w_mm[which].copy())


def ends_apart_mm(lines: Lines, others: Lines, from_w_mm: float) -> Floats:
    """How far beside each line's end ``(n,)`` that other line lies which is nearest to it on the way there.

    0 where there are no others: then nothing tells.
    """
    apart = np.zeros(len(lines.curves))
    if len(others.curves):
        for n, end in enumerate(lines.ends_w_mm):
            ws = np.linspace(from_w_mm, end, 8)
            off = np.linalg.norm(others.places(ws) - lines.places(ws)[n], axis=2)
            apart[n] = off[np.argmin(off.mean(axis=1)), -1]
    return apart
