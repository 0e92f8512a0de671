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
