"""Straight lines of bright dots in a slab: where needles may be that nothing explains yet.

All lines within a cone around the slab's direction are tried (a Hough transform in four parameters: place and slope),
each judged by the mean over its planes of a band-passed, clipped picture. Clipping makes many dim places count more
than a few bright ones: a starved needle is dim everywhere, a piece of bone bright in one place.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from imaging.slab import Slab
from planning.frame import Floats

MOST_SLOPE = 0.14
PLANES_MM = 3.0  # apart: every second plane of the slab tells enough
APART_MM = 1.6  # two lines nearer than this all along are one


def dots(slab: Slab) -> NDArray[np.float32]:
    """The slab's planes, band-passed for spots of a needle's width."""
    step = float(slab.us[1] - slab.us[0])
    fine = gaussian_filter(slab.hu, (0.8, 0.8 / step, 0.8 / step), truncate=3.0)
    fine -= gaussian_filter(slab.hu, (0.8, 2.8 / step, 2.8 / step), truncate=2.5)
    return np.asarray(fine, dtype=np.float32)


def search_lines(
    slab: Slab,
    picture: NDArray[np.float32],
    low_w_mm: float,
    high_w_mm: float,
    middle_w_mm: float,
    most_hu: float,
    count: int,
) -> tuple[Floats, Floats]:
    """The ``count`` best lines of a band-passed slab.

    Args:
        picture: as :func:`dots` gives it.
        low_w_mm, high_w_mm: between which planes the mean is taken.
        middle_w_mm: where places are told.
        most_hu: more than this counts as this.

    Returns:
        ``(m, 4)`` place u, v at ``middle_w_mm`` and slopes; ``(m,)`` their means, best first.
    """
    step = float(slab.us[1] - slab.us[0])
    used = np.flatnonzero((slab.ws >= low_w_mm) & (slab.ws <= high_w_mm))[::2]
    arm = slab.ws[used] - middle_w_mm
    reach = float(np.abs(arm).max())
    slopes = np.arange(-MOST_SLOPE, MOST_SLOPE + 1e-9, 1.4 * step / reach)
    values = np.clip(picture[used], -0.5 * most_hu, most_hu)
    score, best = _search(values, arm / step, slopes)
    found: list[list[float]] = []
    means: list[float] = []
    for k in np.argsort(-score, axis=None)[: 60 * count]:
        j, i = np.unravel_index(int(k), score.shape)
        if score[j, i] <= 0.0:
            break
        su, sv = slopes[best[j, i] // len(slopes)], slopes[best[j, i] % len(slopes)]
        line = [float(slab.us[i]), float(slab.vs[j]), float(su), float(sv)]
        if all(_apart_mm(line, other, reach) > APART_MM for other in found):
            found.append(line)
            means.append(float(score[j, i]))
        if len(found) == count:
            break
    return np.array(found).reshape(-1, 4), np.array(means)


def _apart_mm(one: list[float], other: list[float], reach: float) -> float:
    off = np.subtract(one, other)
    return float(max(np.hypot(*(off[:2] + s * off[2:])) for s in (-0.7 * reach, 0.0, 0.7 * reach)))


@njit(cache=True)
def _search(values: NDArray[np.float32], arm: Floats, slopes: Floats) -> tuple[Floats, NDArray[np.int64]]:
    planes, rows, columns = values.shape
    score = np.full((rows, columns), -1e9)
    best = np.zeros((rows, columns), dtype=np.int64)
    count = len(slopes)
    total = np.empty((rows, columns), dtype=np.float32)
    for a in range(count):
        for b in range(count):
            total[:] = 0.0
            for k in range(planes):
                di, dj = round(arm[k] * slopes[a]), round(arm[k] * slopes[b])
                j0, j1 = max(0, -dj), min(rows, rows - dj)
                i0, i1 = max(0, -di), min(columns, columns - di)
                for j in range(j0, j1):
                    for i in range(i0, i1):
                        total[j, i] += values[k, j + dj, i + di]
            for j in range(rows):
                for i in range(columns):
                    if total[j, i] > score[j, i]:
                        score[j, i] = total[j, i]
                        best[j, i] = a * count + b
    return score / planes, best
