"""All needles' curves fitted at once to the voxels around them.

Gauss-Newton over the curves of all lines together. Brightness and background of each bin along each line are eliminated
from the equations (Schur complement; Golub & Pereyra's variable projection, linearised), so that a starved needle may
be as dim as it is wherever it is, and neighbours explain what is theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.axis import BEND_SIGMA_PER_MM, MOST_SLOPE_SIGMA, basis
from imaging.rod_image import Blur, Lines, Voxels, share
from planning.frame import Floats

# How far a voxel may miss, HU and share of what is modelled: while lines are still led to their needles (streaks and
# starvation must not outweigh where needles can be), and at the end.
ROUGH, FINE = np.array((100.0, 0.25)), np.array((60.0, 0.12))
FAR_SIGMAS = 4.0  # from here on a voxel is an outlier (Cauchy)
MOST_HU = 15000.0
GROUND_HU, GROUND_SIGMA_HU = 50.0, 250.0
FREE = np.array([3.0, MOST_SLOPE_SIGMA, BEND_SIGMA_PER_MM])
MOST_STEP_MM = 1.5


@dataclass(frozen=True, eq=False)
class Fit:
    """Lines fitted to voxels.

    Attributes:
        lines: the curves.
        heights, grounds: ``(n, bins)`` HU of each line and beside it.
        covariance: ``(n, 6, 6)`` of each curve (place, slope, bend in u, then in v), as if voxels were independent.
        misfit: robust, over all voxels.
    """

    lines: Lines
    heights: Floats
    grounds: Floats
    covariance: Floats
    misfit: float


def fit_lines(
    voxels: Voxels,
    lines: Lines,
    heights: Floats,
    blur: Blur,
    clip_hu: float,
    usual_hu: float,
    rounds: int,
    *,
    noise: Floats = FINE,
    prior: Floats = FREE,
    middle: Floats | None = None,
    others_hu: Floats | None = None,
) -> Fit:
    """Fit the curves, with ``rounds`` of Gauss-Newton (0: they stay), and the heights of all bins.

    Args:
        heights: ``(n, bins)`` to begin with.
        clip_hu: level at which the scanner clipped.
        usual_hu: what is expected of a height where the picture does not tell.
        noise: 1 sigma of a voxel, HU and share.
        prior: ``(3,)`` 1 sigma of a curve's place, slope and bend about ``middle``.
        middle: ``(n, 3, 2)``; None: places as they are, no slope, no bend.
        others_hu: ``(voxels,)`` what lines add that are not fitted here.
    """
    count = len(lines.curves)
    curves, heights = lines.curves.copy(), np.ascontiguousarray(heights.T)
    grounds = np.full(heights.shape, GROUND_HU)
    others = np.zeros(len(voxels.hu)) if others_hu is None else others_hu
    basis_of = np.asarray(basis(voxels.at[:, 2], lines.skin_w_mm))
    believed = np.ascontiguousarray((voxels.bin_w_mm[None] <= lines.ends_w_mm[:, None]).T)
    pull = np.diag(np.tile(1.0 / np.square(prior), 2 * count))
    if middle is None:
        middle = curves * np.array((1.0, 0.0, 0.0))[:, None]
    whole = np.zeros((6 * count, 6 * count))
    misfit = 0.0
    for turn in range(rounds + 2):
        moving = 1 <= turn <= rounds
        tables = blur.tables(curves[:, 1])
        normal, gradient, solved, misfit = _all_bins(
            voxels.at, voxels.hu, others, basis_of, voxels.first, believed,
            curves, heights, grounds, tables, clip_hu, usual_hu, noise, moving,
        )  # fmt: skip
        taken = np.zeros(solved.shape[2] - 1)
        if moving:
            whole = normal + pull
            change = np.linalg.solve(whole, gradient - pull @ _flat(curves - middle))
            step = np.transpose(change.reshape(count, 2, 3), (0, 2, 1))
            far = np.max(np.abs(step) * np.array((1.0, 40.0, 800.0))[:, None], axis=(1, 2))
            step = step * np.minimum(1.0, MOST_STEP_MM / np.maximum(far, 1e-9))[:, None, None]
            curves = curves + step
            taken = _flat(step)
        follow = solved[:, :, -1] - solved[:, :, :-1] @ taken
        heights = np.clip(heights + follow[:, 0::2], 0.0, MOST_HU)
        grounds = grounds + follow[:, 1::2]
    inverse: Floats = np.asarray(np.linalg.inv(whole) if rounds else whole, dtype=float)
    blocks = inverse.reshape(count, 6, count, 6)[np.arange(count), :, np.arange(count)]
    fitted = Lines(lines.skin_w_mm, curves, lines.ends_w_mm)
    return Fit(fitted, np.ascontiguousarray(heights.T), np.asarray(grounds.T), blocks, misfit)


def _flat(curves: Floats) -> Floats:
    """``(n, 3, 2)`` in the order of the equations: per line first u's three, then v's."""
    return np.transpose(curves, (0, 2, 1)).reshape(-1)


@njit(cache=True)
def _all_bins(
    at: Floats,
    values: Floats,
    others: Floats,
    basis_of: Floats,
    first: NDArray[np.int64],
    believed: NDArray[np.bool_],
    curves: Floats,
    heights: Floats,
    grounds: Floats,
    tables: Floats,
    clip_hu: float,
    usual_hu: float,
    noise: Floats,
    moving: bool,
) -> tuple[Floats, Floats, Floats, float]:
    """The curves' equations ``(6n, 6n)``, ``(6n,)``; how heights and grounds follow ``(bins, 2n, 6n + 1)``; misfit."""
    bins, count = heights.shape
    size = 6 * count if moving else 0
    normal, gradient = np.zeros((size, size)), np.zeros(size)
    solved = np.zeros((bins, 2 * count, size + 1))
    height_weight = 1.0 / (150.0 + 0.6 * usual_hu) ** 2
    ground_weight = 1.0 / GROUND_SIGMA_HU**2
    misfit = 0.0
    for k in range(bins):
        a, b = first[k], first[k + 1]
        if a == b:
            continue
        local, mixed, own, g_local, g_curve, miss = _equations(
            at[a:b], values[a:b], others[a:b], basis_of[a:b], curves, heights[k], grounds[k],
            tables, clip_hu, noise, moving,
        )  # fmt: skip
        misfit += miss
        right = np.zeros((2 * count, size + 1))
        for n in range(count):
            local[2 * n, 2 * n] += height_weight
            g_local[2 * n] += height_weight * (usual_hu - heights[k, n])
            local[2 * n + 1, 2 * n + 1] += ground_weight
            g_local[2 * n + 1] += ground_weight * (GROUND_HU - grounds[k, n])
            if moving and not believed[k, n]:
                for i in range(6 * n, 6 * n + 6):
                    mixed[:, i] = 0.0
                    own[i, :] = 0.0
                    own[:, i] = 0.0
                    g_curve[i] = 0.0
        if moving:
            right[:, :size] = mixed
        right[:, size] = g_local
        answer = np.linalg.solve(local, right)
        solved[k] = answer
        if moving:
            normal += own - mixed.T @ np.ascontiguousarray(answer[:, :size])
            gradient += g_curve - mixed.T @ np.ascontiguousarray(answer[:, size])
    return normal, gradient, solved, misfit


@njit(cache=True)
def _equations(
    at: Floats,
    values: Floats,
    others: Floats,
    basis_of: Floats,
    curves: Floats,
    heights: Floats,
    grounds: Floats,
    tables: Floats,
    clip_hu: float,
    noise: Floats,
    moving: bool,
) -> tuple[Floats, Floats, Floats, Floats, Floats, float]:
    """Gauss-Newton equations of one bin: heights and grounds (2n), their coupling to the curves (2n, 6n), curves."""
    count = len(curves)
    local, g_local = np.zeros((2 * count, 2 * count)), np.zeros(2 * count)
    size = 6 * count if moving else 1
    mixed, own, g_curve = np.zeros((2 * count, size)), np.zeros((size, size)), np.zeros(size)
    misfit = 0.0
    near = np.empty(count, dtype=np.int64)
    slope = np.empty((count, 3))
    for m in range(len(at)):
        found, closest, closest2 = 0, 0, 1e18
        model = others[m]
        for n in range(count):
            pu = pv = 0.0
            for i in range(3):
                pu += basis_of[m, i] * curves[n, i, 0]
                pv += basis_of[m, i] * curves[n, i, 1]
            u, v = at[m, 0] - pu, at[m, 1] - pv
            far2 = u * u + v * v
            if far2 < closest2:
                closest, closest2 = n, far2
            if far2 > 49.0:
                continue
            bright, du, dv = share(u, v, tables[n])
            if bright < 1e-4:
                continue
            model += heights[n] * bright
            near[found] = n
            slope[found, 0], slope[found, 1], slope[found, 2] = bright, -heights[n] * du, -heights[n] * dv
            found += 1
        model += grounds[closest]
        residual = values[m] - min(model, clip_hu)
        if model >= clip_hu and residual > -1.0:
            continue
        sigma = noise[0] + noise[1] * max(0.0, min(model, 3000.0))
        weight = 1.0 / (sigma**2 * (1.0 + (residual / (FAR_SIGMAS * sigma)) ** 2))
        misfit += 0.5 * FAR_SIGMAS**2 * math.log(1.0 + (residual / (FAR_SIGMAS * sigma)) ** 2)
        ground = 2 * closest + 1
        local[ground, ground] += weight
        g_local[ground] += weight * residual
        for p in range(found):
            row = 2 * near[p]
            s = slope[p, 0]
            g_local[row] += weight * residual * s
            local[row, ground] += weight * s
            local[ground, row] += weight * s
            for r in range(found):
                local[row, 2 * near[r]] += weight * s * slope[r, 0]
            if not moving:
                continue
            for i in range(3):
                for side in range(2):
                    d = slope[p, 1 + side] * basis_of[m, i]
                    column = 6 * near[p] + 3 * side + i
                    g_curve[column] += weight * residual * d
                    mixed[ground, column] += weight * d
                    for r in range(found):
                        mixed[2 * near[r], column] += weight * d * slope[r, 0]
                        for j in range(3):
                            other = 6 * near[r] + j
                            e = basis_of[m, j] * weight * d
                            own[column, other] += e * slope[r, 1]
                            own[column, other + 3] += e * slope[r, 2]
    return local, mixed, own, g_local, g_curve, misfit
