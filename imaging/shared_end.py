"""Ends that may be a neighbour's: two needles side by side that seem to end at the same depth.

Where two needles run closer than a slice is thick, the line of one that ends early can follow the image of the other
to its end. It then shows a sharp drop, but a few mm before, it became dim all at once: there its own needle may end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imaging.needle import THICK_MM
from imaging.shaft import Shaft
from planning.frame import Floats

USUAL_OVER_MM = 20.0  # before the end: what is less than DIM of the brightest there is dim
DIM = 0.5
LEAST_DIM_MM = 3.5  # a shorter dim stretch is the blur of an end (assumed)
SAME_DEPTH_MM = 2.0  # ends as near as this along the needles may be one (assumed)
BESIDE = 1.5  # needles' thickness across, or slices: nearer than this a neighbour's image reaches the line (assumed)


def shared_mm(
    shaft: Shaft, end_w_mm: float, others: Sequence[tuple[float, Floats]], across: Floats, slice_mm: float
) -> float:
    """How much of a shaft's end may be a neighbour's, mm: 0 if it is its own.

    Args:
        shaft: up to its end.
        end_w_mm: where its tip is.
        others: of each neighbour, where its tip is, and ``(n, 2)`` how far it lies in u and v from the line at the
            shaft's ``ws``.
        across: ``(2, 3)`` the axes u and v, patient frame.
        slice_mm: thickness of the slices, which lie across the patient frame's z.
    """
    last = shaft.ws > shaft.ws[-1] - USUAL_OVER_MM
    bright = shaft.ws[last & (shaft.peak_hu >= DIM * shaft.peak_hu[last].max())]
    dim_mm = end_w_mm - float(bright[-1])
    if dim_mm < LEAST_DIM_MM:
        return 0.0
    for other_w_mm, offset in others:
        off = offset[shaft.ws >= bright[-1]] @ across
        beside = np.hypot(np.linalg.norm(off[:, :2], axis=1) / THICK_MM, off[:, 2] / max(slice_mm, THICK_MM))
        if abs(other_w_mm - end_w_mm) < SAME_DEPTH_MM and beside.max() < BESIDE:
            return dim_mm
    return 0.0
