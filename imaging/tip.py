"""Where a shaft ends: the image of a half-infinite thin rod, fitted to the voxels around its end.

The rod has a Gaussian cross-section, wider across the slices than within them, and a soft edge at its end. Because
the fit knows that the scanner clips at 12 bits, a clipped plateau does not push the half-maximum beyond the tip;
because it allows a dark flame ahead of the tip, the flame does not pull it back. Brightness may change along
the last millimetres (starvation), as a smooth curve through four knots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from scipy.optimize import least_squares

from imaging.sample import across
from planning.frame import Floats
from planning.volume import CtVolume

KNOT_MM = 3.0
MOST_LOG_HU = 9.6  # 15 kHU: more than a shaft across the slices has (CLINIC.md)
BEHIND_MM, AHEAD_MM = 9.0, 5.0
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


def slice_sigma_mm(slice_mm: float) -> float:
    """Blur across the slices (1 sigma): the slice's box, a little reconstruction, the needle's own radius."""
    return float(np.sqrt(0.2 + slice_mm**2 / 12.0))


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
    blur = np.array([width_mm, slice_sigma_mm(slice_mm)])
    axes = np.stack([u, v, direction])
    ahead = (offset[:, 2] > 2.0) & (beside < 100.0)
    ground = float(np.clip(np.median(values[ahead]), -300.0, 300.0)) if ahead.any() else 0.0
    top = max(float(np.percentile(values, 97)) - ground, 300.0)
    scale = 25.0 + 0.04 * top + 0.1 * beside
    edge = float(np.sqrt((direction**2) @ (blur[[0, 0, 1]] ** 2)))

    steps = 1e-5 * _PARAMETER_SCALE

    def residuals(p: Floats) -> Floats:
        """One row for each row of parameters ``(m, 12)``."""
        miss = (_rods(offset, beside, axes, p, clip_hu) - values) / scale
        robust = np.sign(miss) * 3.0 * np.sqrt(2.0 * (np.sqrt(1.0 + miss**2 / 9.0) - 1.0))
        prior = [
            p[:, 1] / beside_sigma_mm,
            p[:, 2] / beside_sigma_mm,
            (p[:, 3] - np.log(blur[0])) / 0.3,
            (p[:, 4] - np.log(blur[1])) / 0.2,
            (p[:, 5] - np.log(0.8 * edge)) / 0.3,
            (p[:, 6] - ground) / 150.0,
            p[:, 7] / 400.0,
        ]
        return np.hstack([robust, np.column_stack(prior), np.diff(p[:, 8:12], axis=1) / (0.5, 0.4, 0.15)])

    def residual(p: Floats) -> Floats:
        return np.asarray(residuals(p[None])[0])

    def slopes(p: Floats) -> Floats:
        rows = residuals(p + np.diag(steps))
        return np.asarray((rows - residuals(p[None])).T / steps)

    # The end that is just seen lies about 1 mm beyond the tip. Two starts, because a brightness that
    # fades at the last knot can imitate an end.
    answers = []
    for shift in (-1.0, 0.7):
        first = np.array(
            [shift, 0.0, 0.0, *np.log(blur), np.log(0.8 * edge), ground, 0.0, *[np.log(1.2 * top)] * 4]
        )
        answers.append(
            least_squares(residual, first, slopes, method="lm", max_nfev=150, x_scale=_PARAMETER_SCALE)
        )
    answer = min(answers, key=lambda a: float(a.cost))
    p = answer.x
    count = len(values)
    chi2 = float(np.sum(answer.fun[:count] ** 2) / max(count - 12, 1))
    jacobian = np.asarray(answer.jac, dtype=float)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * max(chi2, 1.0)
    # neighbouring voxels share their errors (kernel, streaks): about six of them count as one (measured)
    spread = float(np.sqrt(6.0 * np.trace(covariance[:3, :3])))
    point = start + p[0] * direction + p[1] * u + p[2] * v
    peak = float(np.exp(np.clip(np.max(p[9:12]), 0.0, 10.0)))
    good = bool(answer.success and abs(p[0]) < AHEAD_MM and np.hypot(p[1], p[2]) < 1.5 and peak > 150.0)
    return Tip(point, direction, min(spread, 3.0), peak + float(p[6]), good)


@njit(cache=True)
def _rods(offset: Floats, beside: Floats, axes: Floats, parameters: Floats, clip_hu: float) -> Floats:
    """``(m, n)``: :func:`_rod` for each row of parameters ``(m, 12)``."""
    out = np.empty((len(parameters), len(offset)))
    for k in range(len(parameters)):
        out[k] = _rod(offset, beside, axes, parameters[k], clip_hu)
    return out


@njit(cache=True)
def _rod(offset: Floats, beside: Floats, axes: Floats, p: Floats, clip_hu: float) -> Floats:
    """The clipped image ``(n,)`` of a rod's end and what others add, at ``(n, 3)`` (u, v, along) from the start.

    Parameters ``p``: shift along, u, v; log of the blur in plane, across slices, of the edge along the rod;
    background; what lies ahead of the end in the rod's own line (a dark flame); log height at the knots.
    """
    out = np.empty(len(offset))
    inverse = np.empty((2, 2))
    in_plane, across_slices = np.exp(2.0 * p[3]), np.exp(2.0 * p[4])
    c00 = in_plane + (across_slices - in_plane) * axes[0, 2] ** 2
    c01 = (across_slices - in_plane) * axes[0, 2] * axes[1, 2]
    c11 = in_plane + (across_slices - in_plane) * axes[1, 2] ** 2
    det = c00 * c11 - c01 * c01
    inverse[0, 0], inverse[1, 1] = c11 / det, c00 / det
    inverse[0, 1] = -c01 / det
    edge = np.exp(p[5]) * np.sqrt(2.0)
    for m in range(len(offset)):
        du, dv, s = offset[m, 0] - p[1], offset[m, 1] - p[2], offset[m, 2] - p[0]
        spot = np.exp(
            -0.5 * (inverse[0, 0] * du * du + 2 * inverse[0, 1] * du * dv + inverse[1, 1] * dv * dv)
        )
        place = min(max((s + BEHIND_MM) / KNOT_MM, 0.0), 3.0)
        knot = min(int(place), 2)
        share = place - knot
        log_height = (1.0 - share) * p[8 + knot] + share * p[9 + knot]
        height = np.exp(min(max(log_height, 0.0), MOST_LOG_HU))
        inside = 0.5 * math.erfc(s / edge)
        value = p[6] + beside[m] + spot * (height * inside + p[7] * (1.0 - inside))
        out[m] = min(value, clip_hu)
    return out
