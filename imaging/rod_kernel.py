"""What voxels say of blurred lines: the compiled part of ``rod_image`` and ``line_fit``.

In a bin along the lines each line has a height and a background of its own and is displaced by (du, dv); nothing else
of its curve matters there, so a bin's equations are few (4 per line). The gradient in the curves is exact; the
curvature takes a bin's voxels as if all lay at its middle, which moves no solution.

What is fast: voxels come in patches (``line_voxel``) that few lines brighten, so a patch's equations are a small dense
matrix, and every loop over its voxels is free of branches and library calls, so that the compiler makes vector
instructions of it. All of it is one file because numba notices a change of a compiled function only in its own file.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planning.frame import Floats

LEAST_BRIGHT = 1e-4  # of a line's brightness: what is dimmer is nothing
FAR_SIGMAS = 4.0  # from here on a voxel is an outlier (Cauchy)
GROUND_HU, GROUND_SIGMA_HU = 50.0, 250.0
MOST_NOISY_HU = 3000.0  # what is brighter is no noisier
_LOG_AT_ONCE = 16  # logs are taken of products of so many: they can't overflow
_POINTS_AT_ONCE = 128


@njit(cache=True, inline="always")
def _exp_minus(e: float) -> float:
    """``exp(-e)`` to 2e-7 of itself, never below ``exp(-20)``: Taylor's series of ``-e / 64``, six times squared."""
    x = min(e, 20.0) * (-1.0 / 64.0)
    p = 1.0 + x * (
        1.0 + x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040))))))
    )
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@njit(cache=True, inline="always")
def _erf(x: float) -> float:
    """The error function to 3e-7 (Abramowitz & Stegun 7.1.28)."""
    y = abs(x)
    p = y * (0.0092705272 + y * (0.0001520143 + y * (0.0002765672 + y * 0.0000430638)))
    p = 1.0 + y * (0.0705230784 + y * (0.0422820123 + p))
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return math.copysign(1.0 - 1.0 / p, x)


@njit(cache=True, fastmath=True, error_model="numpy")
def brightness(u: Floats, v: Floats, table: Floats, bright: Floats) -> None:
    """Write into ``bright`` what a line looks like at ``(u, v)`` beside it: 1 on a line in the middle of a slice."""
    m00, m01, m11, q0, q1, a = table[0], table[1], table[2], table[3], table[4], table[5]
    k, half, scale = table[6], table[7], table[8]
    for m in range(len(u)):
        mu, mv = m00 * u[m] + m01 * v[m], m01 * u[m] + m11 * v[m]
        near = (q0 * mu + q1 * mv) / a
        across = _exp_minus(0.5 * (u[m] * mu + v[m] * mv - a * near * near)) * scale
        value = across * (_erf(k * (half + near)) - _erf(k * (near - half)))
        bright[m] = value if value >= LEAST_BRIGHT else 0.0


@njit(cache=True, fastmath=True, error_model="numpy")
def images(
    u: Floats, v: Floats, table: Floats, height: float, bright: Floats, by_u: Floats, by_v: Floats
) -> None:
    """:func:`brightness`, and what a line of this height adds per mm that it is displaced by in u and v."""
    m00, m01, m11, q0, q1, a = table[0], table[1], table[2], table[3], table[4], table[5]
    k, half, scale = table[6], table[7], table[8]
    nu, nv = m00 * q0 + m01 * q1, m01 * q0 + m11 * q1
    to_edge = 2.0 / math.sqrt(math.pi) * k / a
    for m in range(len(u)):
        mu, mv = m00 * u[m] + m01 * v[m], m01 * u[m] + m11 * v[m]
        near = (q0 * mu + q1 * mv) / a
        across = _exp_minus(0.5 * (u[m] * mu + v[m] * mv - a * near * near)) * scale
        one, two = k * (half + near), k * (near - half)
        width = _erf(one) - _erf(two)
        edge = to_edge * (_exp_minus(one * one) - _exp_minus(two * two))
        value = across * width
        high = across * height if value >= LEAST_BRIGHT else 0.0
        bright[m] = value if value >= LEAST_BRIGHT else 0.0
        by_u[m] = high * (width * (mu - near * nu) - edge * nu)
        by_v[m] = high * (width * (mv - near * nv) - edge * nv)


@njit(cache=True, fastmath=True, error_model="numpy")
def rendered(
    points: Floats,
    skin_w_mm: float,
    curves: Floats,
    heights: Floats,
    first_w_mm: float,
    bin_mm: float,
    tables: Floats,
) -> Floats:
    """:func:`imaging.rod_image.rendered_hu`, of lines with these tables, in bins from ``first_w_mm`` on."""
    out = np.zeros(len(points))
    u, v, bright = np.empty(_POINTS_AT_ONCE), np.empty(_POINTS_AT_ONCE), np.empty(_POINTS_AT_ONCE)
    last = heights.shape[1] - 1
    for begin in range(0, len(points), _POINTS_AT_ONCE):
        size = min(_POINTS_AT_ONCE, len(points) - begin)
        for n in range(len(curves)):
            near = False
            for m in range(size):
                x = points[begin + m, 2] - skin_w_mm
                bent = 0.5 * max(x, 0.0) ** 2
                u[m] = points[begin + m, 0] - (curves[n, 0, 0] + x * curves[n, 1, 0] + bent * curves[n, 2, 0])
                v[m] = points[begin + m, 1] - (curves[n, 0, 1] + x * curves[n, 1, 1] + bent * curves[n, 2, 1])
                near |= abs(u[m]) <= tables[n, 9] and abs(v[m]) <= tables[n, 10]
            if not near:
                continue
            brightness(u[:size], v[:size], tables[n], bright[:size])
            for m in range(size):
                if bright[m] > 0.0:
                    place = min(max((points[begin + m, 2] - first_w_mm) / bin_mm, 0.0), float(last))
                    k = min(int(place), max(last - 1, 0))
                    share = place - k
                    height = (1.0 - share) * heights[n, k] + share * heights[n, min(k + 1, last)]
                    out[begin + m] += bright[m] * height
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def line_equations(
    at: Floats,
    hu: Floats,
    others_hu: Floats,
    first_patch: NDArray[np.int64],
    first: NDArray[np.int64],
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
    """The equations of a Gauss-Newton step, bin by bin.

    Args:
        at, hu, first_patch, first: see :class:`imaging.line_voxel.Voxels`.
        others_hu: ``(m,)`` what lines add that are not fitted here.
        believed: ``(bins, n)`` whether a line's curve is told by a bin.
        curves: ``(n, 3, 2)``.
        heights, grounds: ``(bins, n)`` HU.
        tables: ``(n, 11)``, see :meth:`imaging.rod_image.Blur.tables`.
        clip_hu: level at which the scanner clipped, finite.
        usual_hu: what is expected of a height where the picture does not tell.
        noise: ``(2,)`` 1 sigma of a voxel, HU and share of the model.
        moving: whether lines can be displaced; else only heights and grounds are told.

    Returns:
        Per bin, of heights and grounds by turns and of displacements in u and v by turns: ``(bins, 2n, 2n)`` lower half
        of the curvature in heights and grounds; ``(bins, 2n, 2n + 1)`` how they couple to displacements, and their
        gradient; ``(bins, 2n, 2n)`` lower half of the curvature in displacements. ``(6n,)`` gradient in the curves (per
        line place, slope, bend in u, then in v). Misfit.
    """
    bins, count = heights.shape
    size = 2 * count
    wide = size if moving else 0
    local, right = np.zeros((bins, size, size)), np.zeros((bins, size, wide + 1))
    curvature, gradient = np.zeros((bins, wide, wide)), np.zeros(3 * wide)
    longest = 1
    for p in range(len(first) - 1):
        longest = max(longest, first[p + 1] - first[p])
    scratch, rows = np.empty((12, longest)), np.empty((4 * count, longest))
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
    at_u, at_v = scratch[10, :size], scratch[11, :size]
    for m in range(size):
        at_u[m], at_v[m], x[m] = at[m, 0], at[m, 1], at[m, 2] - skin_w_mm
    low_u = low_v = low_x = 1e18
    high_u = high_v = high_x = -1e18
    for m in range(size):
        low_u, high_u = min(low_u, at_u[m]), max(high_u, at_u[m])
        low_v, high_v = min(low_v, at_v[m]), max(high_v, at_v[m])
        low_x, high_x = min(low_x, x[m]), max(high_x, x[m])
    for m in range(size):
        inwards = max(x[m], 0.0)
        bent[m] = 0.5 * inwards * inwards
    far[:], closest[:], model[:] = 1e18, 0.0, others_hu
    # lines that may brighten the patch's box, and those that may be the closest to some of it
    middle, half = 0.5 * (low_x + high_x), 0.5 * (high_x - low_x)
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
        place, slope, bend = curves[n, 0, 0], curves[n, 1, 0], curves[n, 2, 0]
        for m in range(size):
            u[m] = at_u[m] - (place + x[m] * slope + bent[m] * bend)
        place, slope, bend = curves[n, 0, 1], curves[n, 1, 1], curves[n, 2, 1]
        for m in range(size):
            v[m] = at_v[m] - (place + x[m] * slope + bent[m] * bend)
        name = float(n)
        for m in range(size):
            far2 = u[m] * u[m] + v[m] * v[m]
            closest[m] = name if far2 < far[m] else closest[m]
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
        height = heights[n]
        for m in range(size):
            model[m] += height * share[m]
    told = own
    for n in range(count):
        if nearest[n] > least_far:
            continue
        cell, held, name, ground = rows[told, :size], 0.0, float(n), grounds[n]
        for m in range(size):
            cell[m] = 1.0 if closest[m] == name else 0.0
            held += cell[m]
        if held > 0.0:
            for m in range(size):
                model[m] += ground * cell[m]
            names[told] = 2 * n + 1
            told += 1
    least_sigma, share_sigma = noise[0], noise[1]
    for m in range(size):
        residual = hu[m] - min(model[m], clip_hu)
        clipped = 1.0 if model[m] >= clip_hu else 0.0
        clipped *= 1.0 if residual > -1.0 else 0.0  # as it should be: tells nothing more
        pull[m] = residual * (1.0 - clipped)
        weight[m] = least_sigma + share_sigma * max(0.0, min(model[m], MOST_NOISY_HU)) + 1e9 * clipped
    for m in range(size):
        sigma = weight[m]
        ratio = pull[m] / (FAR_SIGMAS * sigma)
        one[m] = 1.0 + ratio * ratio
        weight[m] = 1.0 / (sigma * sigma * one[m])
        pull[m] *= weight[m]
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
