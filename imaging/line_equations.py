"""The equations of a Gauss-Newton step for all lines at once.

In a bin along the lines each line has a height and a background of its own and is displaced by (du, dv); nothing else
of its curve matters there, so a bin's equations are few (4 per line). Heights and backgrounds are eliminated bin by bin
(Schur complement); the curves' six parameters then tell the displacements. The gradient is exact; the curvature takes
a bin's voxels as if all lay at its middle, which moves no solution.

What is fast: voxels come in patches (``line_voxel``) that few lines brighten, so a patch's equations are a small dense
matrix, and every loop over its voxels is one the compiler turns into vector instructions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.rod_image import brightness, images
from planning.frame import Floats

FAR_SIGMAS = 4.0  # from here on a voxel is an outlier (Cauchy)
GROUND_HU, GROUND_SIGMA_HU = 50.0, 250.0
MOST_NOISY_HU = 3000.0  # what is brighter is no noisier
_LOG_AT_ONCE = 16  # logs are taken of products of so many: they can't overflow


@njit(cache=True, fastmath=True, error_model="numpy")
def line_equations(
    at: Floats,
    hu: Floats,
    others_hu: Floats,
    first_patch: NDArray[np.int64],
    first: NDArray[np.int64],
    bin_basis: Floats,
    skin_w_mm: float,
    believed: NDArray[np.bool_],
    curves: Floats,
    heights: Floats,
    grounds: Floats,
    tables: Floats,
    clip_hu: float,
    usual_hu: float,
    noise: Floats,
    moving: bool,
) -> tuple[Floats, Floats, Floats, Floats, float]:
    """Set up the equations and eliminate heights and backgrounds.

    Args:
        at, hu, first_patch, first: see :class:`imaging.line_voxel.Voxels`.
        others_hu: ``(m,)`` what lines add that are not fitted here.
        bin_basis: ``(bins, 3)`` what place, slope and bend add in the middle of a bin.
        believed: ``(bins, n)`` whether a line's curve is told by a bin.
        curves: ``(n, 3, 2)``.
        heights, grounds: ``(bins, n)`` HU.
        tables: ``(n, 11)``, see :meth:`imaging.rod_image.Blur.tables`.
        clip_hu: level at which the scanner clipped, finite.
        usual_hu: what is expected of a height where the picture does not tell.
        noise: ``(2,)`` 1 sigma of a voxel, HU and share of the model.
        moving: whether lines can be displaced; else only heights and grounds are told.

    Returns:
        ``(bins, 2n, 2n)`` Cholesky factors (lower) of each bin's own equations, heights and grounds by turns;
        ``(bins, 2n, 2n + 1)`` how displacements (u and v by turns) couple to them, and their gradient, both divided by
        the factor; ``(bins, 2n, 2n)`` lower half of the curvature in the displacements once heights and grounds follow;
        ``(6n,)`` gradient in the curves, likewise (per line place, slope, bend in u, then in v); misfit.
    """
    bins, count = heights.shape
    size = 2 * count
    wide = size if moving else 0
    local, right = np.zeros((bins, size, size)), np.zeros((bins, size, wide + 1))
    curvature, gradient = np.zeros((bins, wide, wide)), np.zeros(3 * wide)
    longest = 1
    for p in range(len(first) - 1):
        longest = max(longest, first[p + 1] - first[p])
    scratch, rows = np.empty((10, longest)), np.empty((4 * count, longest))
    names, height_weight = np.empty(4 * count, dtype=np.int64), 1.0 / (150.0 + 0.6 * usual_hu) ** 2
    ground_weight, misfit = 1.0 / GROUND_SIGMA_HU**2, 0.0
    for k in range(bins):
        if first_patch[k] == first_patch[k + 1]:
            for i in range(size):
                local[k, i, i] = 1.0
            continue
        for n in range(count):
            local[k, 2 * n, 2 * n] = height_weight
            right[k, 2 * n, wide] = height_weight * (usual_hu - heights[k, n])
            local[k, 2 * n + 1, 2 * n + 1] = ground_weight
            right[k, 2 * n + 1, wide] = ground_weight * (GROUND_HU - grounds[k, n])
        for p in range(first_patch[k], first_patch[k + 1]):
            a, b = first[p], first[p + 1]
            misfit += _patch(
                at[a:b], hu[a:b], others_hu[a:b], skin_w_mm, believed[k], curves, heights[k], grounds[k],
                tables, clip_hu, noise, moving, scratch, rows, names,
                local[k], right[k], curvature[k], gradient,
            )  # fmt: skip
        _eliminate(local[k], right[k])
        if moving:
            _reduce(right[k], curvature[k], gradient, bin_basis[k])
    return local, right, curvature, gradient, misfit


@njit(cache=True, fastmath=True, error_model="numpy")
def _patch(
    at: Floats,
    hu: Floats,
    others_hu: Floats,
    skin_w_mm: float,
    believed: NDArray[np.bool_],
    curves: Floats,
    heights: Floats,
    grounds: Floats,
    tables: Floats,
    clip_hu: float,
    noise: Floats,
    moving: bool,
    scratch: Floats,
    rows: Floats,
    names: NDArray[np.int64],
    local: Floats,
    right: Floats,
    curvature: Floats,
    gradient: Floats,
) -> float:
    """Add one patch's voxels to its bin's equations; their misfit.

    ``rows`` are the model's derivatives: by heights, by grounds, by displacements; ``names`` say of what.
    """
    size, count = len(at), len(curves)
    x, bent, model = scratch[0, :size], scratch[1, :size], scratch[2, :size]
    u, v, far, closest = scratch[3, :size], scratch[4, :size], scratch[5, :size], scratch[6, :size]
    weight, pull, one = scratch[7, :size], scratch[8, :size], scratch[9, :size]
    low_u = low_v = low_w = 1e18
    high_u = high_v = high_w = -1e18
    for m in range(size):
        low_u, high_u = min(low_u, at[m, 0]), max(high_u, at[m, 0])
        low_v, high_v = min(low_v, at[m, 1]), max(high_v, at[m, 1])
        low_w, high_w = min(low_w, at[m, 2]), max(high_w, at[m, 2])
    for m in range(size):
        x[m] = at[m, 2] - skin_w_mm
        bent[m] = 0.5 * max(x[m], 0.0) ** 2
        far[m], closest[m], model[m] = 1e18, 0.0, others_hu[m]
    # lines that may brighten the patch's box, and those that may be the closest to some of it
    middle, half = 0.5 * (low_w + high_w) - skin_w_mm, 0.5 * (high_w - low_w)
    inwards = max(middle, 0.0)
    least_far = 1e18
    gaps, nearest = np.empty((count, 2)), np.empty(count)
    for n in range(count):
        furthest2 = nearest2 = 0.0
        for side in range(2):
            low, high = (low_u, high_u) if side == 0 else (low_v, high_v)
            place = curves[n, 0, side] + middle * curves[n, 1, side] + 0.5 * inwards**2 * curves[n, 2, side]
            slack = half * abs(curves[n, 1, side] + inwards * curves[n, 2, side]) + 0.01
            offset, extent = abs(place - 0.5 * (low + high)), 0.5 * (high - low) + slack
            gaps[n, side] = max(offset - extent, 0.0)
            nearest2 += gaps[n, side] ** 2
            furthest2 += (offset + extent) ** 2
        nearest[n] = nearest2
        least_far = min(least_far, furthest2)
    own, moved = 0, 2 * count
    for n in range(count):
        bright = gaps[n, 0] <= tables[n, 9] and gaps[n, 1] <= tables[n, 10]
        if not bright and nearest[n] > least_far:
            continue
        for m in range(size):
            u[m] = at[m, 0] - (curves[n, 0, 0] + x[m] * curves[n, 1, 0] + bent[m] * curves[n, 2, 0])
            v[m] = at[m, 1] - (curves[n, 0, 1] + x[m] * curves[n, 1, 1] + bent[m] * curves[n, 2, 1])
        for m in range(size):
            far2 = u[m] * u[m] + v[m] * v[m]
            closest[m] = float(n) if far2 < far[m] else closest[m]
            far[m] = min(far2, far[m])
        if not bright:
            continue
        share = rows[own, :size]
        names[own] = 2 * n
        own += 1
        if moving and believed[n]:
            du, dv = rows[moved, :size], rows[moved + 1, :size]
            images(u, v, tables[n], heights[n], share, du, dv)
            names[moved], names[moved + 1] = 2 * n, 2 * n + 1
            moved += 2
        else:
            brightness(u, v, tables[n], share)
        for m in range(size):
            model[m] += heights[n] * share[m]
    told = own
    for n in range(count):
        if nearest[n] > least_far:
            continue
        cell, held = rows[told, :size], 0.0
        for m in range(size):
            cell[m] = 1.0 if closest[m] == float(n) else 0.0
            held += cell[m]
        if held > 0.0:
            for m in range(size):
                model[m] += grounds[n] * cell[m]
            names[told] = 2 * n + 1
            told += 1
    for m in range(size):
        shown = min(model[m], clip_hu)
        residual = hu[m] - shown
        sigma = noise[0] + noise[1] * max(0.0, min(model[m], MOST_NOISY_HU))
        ratio = residual / (FAR_SIGMAS * sigma)
        used = (
            0.0 if model[m] >= clip_hu and residual > -1.0 else 1.0
        )  # clipped, as it should be: tells nothing more
        one[m] = 1.0 + used * ratio * ratio
        weight[m] = used / (sigma * sigma * one[m])
        pull[m] = weight[m] * residual
    misfit = 0.0
    for begin in range(0, size, _LOG_AT_ONCE):
        product = 1.0
        for m in range(begin, min(begin + _LOG_AT_ONCE, size)):
            product *= one[m]
        misfit += math.log(product)
    _gather(rows, names, told, 2 * count, moved, weight, pull, x, bent, u, local, right, curvature, gradient)
    return 0.5 * FAR_SIGMAS**2 * misfit


@njit(cache=True, fastmath=True, error_model="numpy")
def _gather(
    rows: Floats,
    names: NDArray[np.int64],
    told: int,
    moved_from: int,
    moved_to: int,
    weight: Floats,
    pull: Floats,
    x: Floats,
    bent: Floats,
    weighted: Floats,
    local: Floats,
    right: Floats,
    curvature: Floats,
    gradient: Floats,
) -> None:
    """Weighted products of the derivatives, added to the lower halves of the equations."""
    size, last = len(weight), right.shape[1] - 1
    for p in range(told):
        row = rows[p, :size]
        drawn = 0.0
        for m in range(size):
            weighted[m] = weight[m] * row[m]
            drawn += pull[m] * row[m]
        right[names[p], last] += drawn
        for r in range(p + 1):
            product = 0.0
            other = rows[r, :size]
            for m in range(size):
                product += weighted[m] * other[m]
            local[max(names[p], names[r]), min(names[p], names[r])] += product
        for r in range(moved_from, moved_to):
            product = 0.0
            other = rows[r, :size]
            for m in range(size):
                product += weighted[m] * other[m]
            right[names[p], names[r]] += product
    for p in range(moved_from, moved_to):
        row = rows[p, :size]
        place = slope = bend = 0.0
        for m in range(size):
            weighted[m] = weight[m] * row[m]
            drawn_m = pull[m] * row[m]
            place += drawn_m
            slope += drawn_m * x[m]
            bend += drawn_m * bent[m]
        gradient[3 * names[p]] += place
        gradient[3 * names[p] + 1] += slope
        gradient[3 * names[p] + 2] += bend
        for r in range(moved_from, p + 1):
            product = 0.0
            other = rows[r, :size]
            for m in range(size):
                product += weighted[m] * other[m]
            curvature[max(names[p], names[r]), min(names[p], names[r])] += product


@njit(cache=True, fastmath=True, error_model="numpy")
def _eliminate(local: Floats, right: Floats) -> None:
    """Cholesky factor of ``local`` in its place (lower half), and ``right`` divided by it.

    A row's leading zeros stay zero and are skipped: only lines that stand beside each other couple.
    """
    size, columns = right.shape
    begins = np.empty(size, dtype=np.int64)
    for i in range(size):
        begin = 0
        while local[i, begin] == 0.0:
            begin += 1
        begins[i] = begin
        for j in range(begin, i):
            total = local[i, j]
            for m in range(max(begin, begins[j]), j):
                total -= local[i, m] * local[j, m]
            local[i, j] = total / local[j, j]
        total = local[i, i]
        for m in range(begin, i):
            total -= local[i, m] ** 2
        local[i, i] = math.sqrt(total)
        for j in range(begin, i):
            factor = local[i, j]
            for c in range(columns):
                right[i, c] -= factor * right[j, c]
        factor = 1.0 / local[i, i]
        for c in range(columns):
            right[i, c] *= factor


@njit(cache=True, fastmath=True, error_model="numpy")
def _reduce(right: Floats, curvature: Floats, gradient: Floats, basis: Floats) -> None:
    """Take what heights and grounds explain out of curvature and gradient."""
    size = len(curvature)
    for i in range(size):
        for p in range(size):
            factor = right[i, p]
            if factor != 0.0:
                for r in range(p + 1):
                    curvature[p, r] -= factor * right[i, r]
                factor *= right[i, size]
                for j in range(3):
                    gradient[3 * p + j] -= factor * basis[j]


@njit(cache=True, fastmath=True, error_model="numpy")
def followed(local: Floats, right: Floats, moved_mm: Floats) -> Floats:
    """``(bins, 2n)``: how heights and grounds change, by turns, when lines move by ``moved_mm`` ``(bins, 2n)``.

    ``local`` and ``right`` as :func:`line_equations` returns them.
    """
    bins, size, columns = right.shape
    out = np.empty((bins, size))
    for k in range(bins):
        for i in range(size):
            total = right[k, i, columns - 1]
            for c in range(columns - 1):
                total -= right[k, i, c] * moved_mm[k, c]
            out[k, i] = total
        for i in range(size - 1, -1, -1):
            out[k, i] /= local[k, i, i]
            for j in range(i):
                out[k, j] -= local[k, i, j] * out[k, i]
    return out
