"""How near needles come to each other: straight segments in space, singly or all against all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planning.frame import Floats

PAIRS_AT_ONCE = 1 << 16  # pairs handled at a time


def segment_distances_mm(p1: Floats, q1: Floats, p2: Floats, q2: Floats) -> Floats:
    """Least distance between the segments p1-q1 and p2-q2, each ``(n, 3)`` mm; no segment may be a point.

    Inside both, or from an end of one to the other: the least of these is exact, parallel segments included.
    """
    u, v, w = q1 - p1, q2 - p2, p1 - p2
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    across = uu * vv - uv * uv
    skew = across > 1e-12 * uu * vv
    safe = np.where(skew, across, 1.0)
    s, t = (uv * vw - vv * uw) / safe, (uu * vw - uv * uw) / safe
    inside = skew & (s >= 0.0) & (s <= 1.0) & (t >= 0.0) & (t <= 1.0)
    between = np.linalg.norm(w + s[..., None] * u - t[..., None] * v, axis=-1)
    ends = [_to_segments(p, p2, q2) for p in (p1, q1)] + [_to_segments(p, p1, q1) for p in (p2, q2)]
    return np.asarray(np.minimum(np.where(inside, between, np.inf), np.min(ends, axis=0)))


def all_distances_mm(starts_mm: Floats, stops_mm: Floats) -> Floats:
    """``(n, n)`` least distances between ``n`` segments; zero on the diagonal, rounded to 1e-6 mm."""
    n = len(starts_mm)
    found = np.zeros((n, n))
    first, second = np.triu_indices(n, 1)
    for begin in range(0, len(first), PAIRS_AT_ONCE):
        i, j = first[begin : begin + PAIRS_AT_ONCE], second[begin : begin + PAIRS_AT_ONCE]
        found[i, j] = segment_distances_mm(starts_mm[i], stops_mm[i], starts_mm[j], stops_mm[j])
    rounded: NDArray[np.float64] = np.round(found + found.T, 6)
    return rounded


def _to_segments(points: Floats, starts: Floats, stops: Floats) -> Floats:
    along, offset = stops - starts, points - starts
    part = np.clip((offset * along).sum(-1) / (along * along).sum(-1), 0.0, 1.0)
    return np.asarray(np.linalg.norm(offset - part[..., None] * along, axis=-1))
