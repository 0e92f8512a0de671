"""Where a shaft ends: the image of a half-infinite thin rod, fitted to the voxels around its end.

The rod has a Gaussian cross-section and a soft edge at its end, and is averaged over the slice: a slanting needle often
ends just within a slice and brightens it little, and its end is sought there all the same (1.0 to 1.6 mm deeper than
without). Because the fit knows that the scanner clips at 12 bits, a clipped plateau does not push the half-maximum
beyond the tip; because it allows a dark flame ahead of the tip, the flame does not pull it back. Brightness may change
along the last millimetres (starvation), as a smooth curve through four knots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from scipy.optimize import leastsq

from imaging.sample import across
from planning.frame import Floats
from planning.volume import CtVolume

KNOT_MM = 3.0
MOST_LOG_HU = 9.6  # 15 kHU: more than a shaft across the slices has (CLINIC.md)
BEHIND_MM, AHEAD_MM = 9.0, 5.0
THROUGH_MM = (
    0.45  # 1 sigma of a thin slice's image across it: the needle's own radius, a little reconstruction
)
CUT_MM = 0.6  # apart, at most: thin slices that a slice is made of
_PARAMETER_SCALE = np.array([1.0, 1.0, 1.0, 0.3, 0.3, 0.3, 100.0, 100.0] + [0.3] * 4)


@dataclass(frozen=True, eq=False)
class Tip:
    """The end of a shaft.

    Attributes:
        point_mm: ``(3,)`` patient frame of the CT.
        direction: ``(3,)`` unit vector towards the tip, there.
        sigma_mm: 1 sigma of the tip's 3-D position from the fit alone.
        shaft_hu: peak HU of the shaft near its end, as it would be without clipping.
        good: whether the fit explains the voxels.
    """

    point_mm: Floats
    direction: Floats
    sigma_mm: float
    shaft_hu: float
    good: bool


def _cuts(axes: Floats, blur: Floats, slice_mm: float) -> Floats:
    """Thin slices ``(c, 4)`` whose weighted sum is a slice; the weights make a rod in its middle as bright as it is."""
    at, weight = np.polynomial.legendre.leggauss(max(2, math.ceil(slice_mm / CUT_MM)))
    places = 0.5 * slice_mm * at[:, None] * axes[:, 2]
    covariance = axes[:2] @ np.diag(blur[[0, 0, 1]] ** 2) @ axes[:2].T
    bright = np.exp(-0.5 * np.einsum("ci,ij,cj->c", places[:, :2], np.linalg.inv(covariance), places[:, :2]))
    return np.column_stack([places, weight / float(weight @ bright)])


def fit_tip(
    ct: CtVolume,
    start_mm: Floats,
    direction: Floats,
    others_hu: Callable[[Floats], Floats],
    width_mm: float,
    clip_hu: float,
    beside_sigma_mm: float = 1.0,
) -> Tip:
    """Fit the end of a shaft.

    Args:
        ct: the scan.
        start_mm: ``(3,)`` where it seems to end, patient frame of the CT.
        direction: unit vector of the axis there, towards the tip.
        others_hu: what the other shafts add at points ``(n, 3)``.
        width_mm: the scanner's in-plane blur, 1 sigma.
        clip_hu: level at which the scanner clipped.
        beside_sigma_mm: 1 sigma of the axis there, per coordinate: how far the end may lie beside it.

    Returns:
        The end; if the voxels can't be explained, ``start_mm`` and ``good=False``.
    """
    sought = start_mm
    for _ in range(3):  # again around the fitted end, when it lies far from where it was sought
        tip = _fit(ct, start_mm, direction, others_hu, width_mm, clip_hu, beside_sigma_mm)
        moved = float((tip.point_mm - start_mm) @ direction)
        if abs(moved + 1.0) < 2.0:
            break
        start_mm = start_mm + float(np.clip(moved + 1.0, -4.0, 4.0)) * direction
    return tip if tip.good else replace(tip, point_mm=sought)


def _voxels(ct: CtVolume, start: Floats, direction: Floats) -> tuple[Floats, Floats]:
    reach = 2.3 + 0.7 * ct.grid.spacing_mm[2]
    ends = np.stack([start - BEHIND_MM * direction, start + AHEAD_MM * direction])
    box = ct.grid.box(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
    part = ct.grid.cropped(box)
    # finer pixels than the kernel tell nothing more, and sigma is calibrated for about 0.9 mm
    dx, dy, _ = ct.grid.spacing_mm
    thin = (slice(None), *(slice(None, None, max(1, round(0.9 / d))) for d in (dy, dx)))
    index = np.moveaxis(np.indices(part.shape), 0, -1)[thin].reshape(-1, 3)
    points = part.point_of(index)
    values = ct.hu[box][thin].reshape(-1).astype(float)
    offset = points - start
    s = offset @ direction
    lateral = np.linalg.norm(offset - s[:, None] * direction, axis=1)
    used = (lateral < reach) & (s > -BEHIND_MM) & (s < AHEAD_MM)
    return points[used], values[used]


def _fit(
    ct: CtVolume,
    start: Floats,
    direction: Floats,
    others_hu: Callable[[Floats], Floats],
    width_mm: float,
    clip_hu: float,
    beside_sigma_mm: float,
) -> Tip:
    u, v = across(direction)
    points, values = _voxels(ct, start, direction)
    if len(points) < 40:
        return Tip(start, direction, 3.0, 0.0, False)
    offset = (points - start) @ np.stack([u, v, direction]).T
    beside = others_hu(points)
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    blur = np.array([width_mm, THROUGH_MM])
    axes = np.stack([u, v, direction])
    ahead = (offset[:, 2] > 2.0) & (beside < 100.0)
    ground = float(np.clip(np.median(values[ahead]), -300.0, 300.0)) if ahead.any() else 0.0
    top = max(float(np.percentile(values, 97)) - ground, 300.0)
    scale = 25.0 + 0.04 * top + 0.1 * beside
    edge = float(np.sqrt((direction**2) @ (blur[[0, 0, 1]] ** 2)))

    # what is known beforehand of the parameters, as rows ``prior @ p - expected`` of 1 sigma each
    prior, expected = np.zeros((10, 12)), np.zeros(10)
    sigmas = (beside_sigma_mm, beside_sigma_mm, 0.3, 0.2, 0.3, 150.0, 400.0)
    prior[np.arange(7), np.arange(1, 8)] = 1.0 / np.array(sigmas)
    expected[2:6] = np.array([*np.log(blur), np.log(0.8 * edge), ground]) / sigmas[2:6]
    for row, knot, sigma in ((7, 8, 0.5), (8, 9, 0.4), (9, 10, 0.15)):
        prior[row, knot : knot + 2] = np.array((-1.0, 1.0)) / sigma
    seen = (offset, beside, values, scale, axes, _cuts(axes, blur, slice_mm), clip_hu, prior, expected)

    # The end that is just seen lies about 1 mm beyond the tip. Two starts, because a brightness that
    # fades at the last knot can imitate an end.
    answers = []
    for shift in (-1.0, 0.7):
        first = np.array(
            [shift, 0.0, 0.0, *np.log(blur), np.log(0.8 * edge), ground, 0.0, *[np.log(1.2 * top)] * 4]
        )
        with np.errstate(
            all="ignore"
        ):  # its own covariance, not used here, overflows where there is no needle
            answer = leastsq(
                _misses, first, seen, _slopes, full_output=True, col_deriv=True, maxfev=150,
                ftol=1e-8, xtol=1e-8, gtol=1e-8, diag=1.0 / _PARAMETER_SCALE,
            )  # fmt: skip
        answers.append(answer)
    p, _, details, _, ended = min(answers, key=lambda answer: float(np.sum(answer[2]["fvec"] ** 2)))
    count = len(values)
    chi2 = float(np.sum(details["fvec"][:count] ** 2) / max(count - 12, 1))
    jacobian = _slopes(p, *seen)
    covariance = np.linalg.pinv(jacobian @ jacobian.T) * max(chi2, 1.0)
    # neighbouring voxels share their errors (kernel, streaks): about six of them count as one (measured)
    spread = float(np.sqrt(6.0 * np.trace(covariance[:3, :3])))
    point = start + p[0] * direction + p[1] * u + p[2] * v
    peak = float(np.exp(np.clip(np.max(p[9:12]), 0.0, 10.0)))
    good = bool(1 <= ended <= 4 and abs(p[0]) < AHEAD_MM and np.hypot(p[1], p[2]) < 1.5 and peak > 150.0)
    return Tip(point, direction, min(spread, 3.0), peak + float(p[6]), good)


@njit(cache=True)
def _misses(
    p: Floats,
    offset: Floats,
    beside: Floats,
    values: Floats,
    scale: Floats,
    axes: Floats,
    cuts: Floats,
    clip_hu: float,
    prior: Floats,
    expected: Floats,
) -> Floats:
    """``(n + k,)``: by how much each voxel misses the clipped image of a rod's end, robustly, and the prior's rows.

    Args:
        p: ``(12,)`` shift along, u, v; log of the blur in plane, across slices, of the edge along the rod; background;
            what lies ahead of the end in the rod's own line (a dark flame); log height at the knots.
        offset: ``(n, 3)`` voxels (u, v, along) from the start, mm.
        beside: ``(n,)`` what other rods add, HU.
        values, scale: ``(n,)`` HU, and how far they may miss.
        axes: ``(3, 3)`` rows u, v, along, in the patient frame.
        cuts: ``(c, 4)`` thin slices that a slice is made of: u, v, along from its middle, and weight.
        clip_hu: level at which the scanner clipped.
        prior, expected: ``(k, 12)``, ``(k,)``.
    """
    count = len(offset)
    out = np.empty(count + len(expected))
    for row in range(len(expected)):
        out[count + row] = -expected[row]
        for k in range(12):
            out[count + row] += prior[row, k] * p[k]
    c00, c01, c11 = _blur(p, axes)
    det = c00 * c11 - c01 * c01
    edge = math.exp(p[5]) * math.sqrt(2.0)
    for m in range(count):
        value = p[6] + beside[m]
        for cut in cuts:
            du, dv = offset[m, 0] + cut[0] - p[1], offset[m, 1] + cut[1] - p[2]
            s = offset[m, 2] + cut[2] - p[0]
            spot = cut[3] * math.exp(-0.5 * (c11 * du * du - 2.0 * c01 * du * dv + c00 * dv * dv) / det)
            height, _, _, _ = _height(p, s)
            inside = 0.5 * math.erfc(s / edge)
            value += spot * (height * inside + p[7] * (1.0 - inside))
        miss = (min(value, clip_hu) - values[m]) / scale[m]
        out[m] = miss * math.sqrt(2.0 / (1.0 + math.sqrt(1.0 + miss * miss / 9.0)))
    return out


@njit(cache=True)
def _slopes(
    p: Floats,
    offset: Floats,
    beside: Floats,
    values: Floats,
    scale: Floats,
    axes: Floats,
    cuts: Floats,
    clip_hu: float,
    prior: Floats,
    expected: Floats,
) -> Floats:
    """``(12, n + k)``: derivatives of :func:`_misses` by each parameter."""
    count = len(offset)
    out = np.zeros((12, count + len(expected)))
    for row in range(len(expected)):
        for k in range(12):
            out[k, count + row] = prior[row, k]
    c00, c01, c11 = _blur(p, axes)
    det = c00 * c11 - c01 * c01
    in_plane, across_slices = math.exp(2.0 * p[3]), math.exp(2.0 * p[4])
    edge = math.exp(p[5]) * math.sqrt(2.0)
    for m in range(count):
        value = p[6] + beside[m]
        by = np.zeros(12)
        by[6] = 1.0
        for cut in cuts:
            du, dv = offset[m, 0] + cut[0] - p[1], offset[m, 1] + cut[1] - p[2]
            s = offset[m, 2] + cut[2] - p[0]
            yu, yv = (c11 * du - c01 * dv) / det, (c00 * dv - c01 * du) / det
            spot = cut[3] * math.exp(-0.5 * (du * yu + dv * yv))
            height, by_log, knot, share = _height(p, s)
            inside = 0.5 * math.erfc(s / edge)
            bright = height * inside + p[7] * (1.0 - inside)
            value += spot * bright
            drop = (height - p[7]) * math.exp(-((s / edge) ** 2)) / math.sqrt(math.pi)
            log_slope = (p[9 + knot] - p[8 + knot]) / KNOT_MM if 0.0 < s + BEHIND_MM < 3.0 * KNOT_MM else 0.0
            by[0] += spot * (drop / edge - by_log * inside * log_slope)
            by[1] += spot * bright * yu
            by[2] += spot * bright * yv
            y_slices = yu * axes[0, 2] + yv * axes[1, 2]
            by[3] += spot * bright * in_plane * (yu * yu + yv * yv - y_slices**2)
            by[4] += spot * bright * across_slices * y_slices**2
            by[5] += spot * drop * s / edge
            by[7] += spot * (1.0 - inside)
            by[8 + knot] += spot * by_log * inside * (1.0 - share)
            by[9 + knot] += spot * by_log * inside * share
        if value >= clip_hu:
            continue
        miss = (value - values[m]) / scale[m]
        root = math.sqrt(1.0 + miss * miss / 9.0)
        out[:, m] = by * (math.sqrt(0.5 * (1.0 + root)) / (root * scale[m]))
    return out


@njit(cache=True)
def _blur(p: Floats, axes: Floats) -> tuple[float, float, float]:
    """Covariance of the rod's image across it: uu, uv, vv, mm^2."""
    in_plane, across_slices = math.exp(2.0 * p[3]), math.exp(2.0 * p[4])
    more = across_slices - in_plane
    return (
        in_plane + more * axes[0, 2] ** 2,
        more * axes[0, 2] * axes[1, 2],
        in_plane + more * axes[1, 2] ** 2,
    )


@njit(cache=True)
def _height(p: Floats, s: float) -> tuple[float, float, int, float]:
    """The rod's height ``s`` from its end, its derivative by its own log, the knot before, the next one's share."""
    place = min(max((s + BEHIND_MM) / KNOT_MM, 0.0), 3.0)
    knot = min(int(place), 2)
    share = place - knot
    log_height = (1.0 - share) * p[8 + knot] + share * p[9 + knot]
    height = math.exp(min(max(log_height, 0.0), MOST_LOG_HU))
    return height, height if 0.0 < log_height < MOST_LOG_HU else 0.0, knot, share
