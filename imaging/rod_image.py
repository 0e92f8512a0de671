"""What needles look like in the voxels of a CT: blurred lines, averaged over slices.

Nothing is interpolated between slices: a thick slice cuts a slanting needle into steps, and only a model that averages
over the slice as the scanner does puts the line through the middle of the steps. A needle is a line with one gentle
bend (``axis``) whose brightness is free along it, because neighbours starve it. Its image is Gaussian across, with the
scanner's blur in the image plane and the needle's own radius across it, integrated over the slice's box in closed form
(a difference of two error functions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.special import erf

from imaging.line import Lines
from planning.frame import Floats

OWN_RADIUS_MM = 0.35  # 1 sigma of a needle's cross-section across the slices
LEAST_BRIGHT = 1e-4  # of a line's brightness: what is dimmer is nothing
_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Blur:
    """How the scanner blurs.

    Attributes:
        in_plane_mm: 1 sigma in the image plane.
        slice_mm: thickness of the slices.
        frame: ``(3, 3)``, the slab's: ``point @ frame.T`` gives (u, v, w).
        own_mm: 1 sigma of a needle across the slices, before the slice.
    """

    in_plane_mm: float
    slice_mm: float
    frame: Floats
    own_mm: float = OWN_RADIUS_MM

    def tables(self, slopes: Floats) -> Floats:
        """What :func:`images` needs of lines with slopes ``(n, 2)``, and how far it reaches: ``(n, 11)``.

        M (3), the inverse of the blur's covariance in u and v; q (2), the slices' normal there; a = q M q; k; half a
        slice (mm); 1 / peak; and how far in u and v (2, mm) a line is brighter than ``LEAST_BRIGHT``.
        """
        project = self.frame[:2] - slopes[:, :, None] * self.frame[2]
        squares = np.array((self.in_plane_mm**2, self.in_plane_mm**2, self.own_mm**2))
        covariance = (project * squares) @ np.swapaxes(project, 1, 2)
        c00, c01, c11 = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
        q0, q1 = project[:, 0, 2], project[:, 1, 2]
        det = c00 * c11 - c01**2
        m00, m01, m11 = c11 / det, -c01 / det, c00 / det
        a = np.maximum(m00 * q0**2 + 2.0 * m01 * q0 * q1 + m11 * q1**2, 1e-4)
        k, half = np.sqrt(a / 2.0), self.slice_mm / 2.0
        peak = 2.0 * erf(k * half)
        # nowhere is the average over a slice more than its greatest value; at the peak it is less than that by `mean`
        mean = 0.25 * math.sqrt(math.pi) * peak / (k * half)
        sigmas = np.sqrt(-2.0 * np.log(LEAST_BRIGHT * mean))
        reach = (sigmas * np.sqrt(c) + half * np.abs(q) for c, q in ((c00, q0), (c11, q1)))
        return np.stack([m00, m01, m11, q0, q1, a, k, np.full(len(a), half), 1.0 / peak, *reach], axis=1)


def rendered_hu(points: Floats, lines: Lines, heights: Floats, bin_w_mm: Floats, blur: Blur) -> Floats:
    """What lines add together at points ``(m, 3)`` (slab coordinates): ``(m,)``, unclipped, without background.

    Args:
        heights: ``(n, bins)`` HU in bins with these (evenly spaced) middles; between them they change steadily.
    """
    if not len(heights):
        return np.zeros(len(points))
    step = float(bin_w_mm[1] - bin_w_mm[0]) if len(bin_w_mm) > 1 else 1.0
    return np.asarray(
        _rendered(
            np.ascontiguousarray(points), lines.skin_w_mm, lines.curves, np.ascontiguousarray(heights),
            float(bin_w_mm[0]), step, blur.tables(lines.curves[:, 1]),
        )
    )  # fmt: skip


@njit(cache=True, fastmath=True, error_model="numpy")
def _rendered(
    points: Floats,
    skin_w_mm: float,
    curves: Floats,
    heights: Floats,
    first_w_mm: float,
    bin_mm: float,
    tables: Floats,
) -> Floats:
    out = np.zeros(len(points))
    u, v, bright = np.empty(_AT_ONCE), np.empty(_AT_ONCE), np.empty(_AT_ONCE)
    last = heights.shape[1] - 1
    for begin in range(0, len(points), _AT_ONCE):
        size = min(_AT_ONCE, len(points) - begin)
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


def shares(offset: Floats, table: Floats) -> Floats:
    """:func:`brightness` ``(n,)`` at ``(n, 2)`` beside a line."""
    bright = np.empty(len(offset))
    u, v = np.ascontiguousarray(offset.T, dtype=float)
    brightness(u, v, table, bright)
    return bright


@njit(cache=True, fastmath=True, error_model="numpy")
def brightness(u: Floats, v: Floats, table: Floats, bright: Floats) -> None:
    """Write into ``bright`` what a line looks like at ``(u, v)`` beside it: 1 on a line in the middle of a slice.

    The loop has no branch and calls no library, so that the compiler makes vector instructions of it.
    """
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
