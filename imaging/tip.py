"""Where a shaft ends: the image of a half-infinite thin rod, fitted to the voxels around its end.

A rod that ends at ``t`` and comes from ``-d``, seen through a Gaussian of covariance ``C = diag(sxy2, sxy2,
sz2)``, has at ``x`` the value ``A exp(-q2/2) Phi(-s sqrt(a))`` with ``a = d C^-1 d``, ``s = d C^-1 (x-t) / a`` and
``q2 = (x-t) C^-1 (x-t) - a s2``: derived by completing the square. Because the fit knows that the scanner clips at
12 bits, a clipped plateau does not push the half-maximum beyond the tip. Brightness may change along the
last millimetres (starvation), as a smooth curve through four knots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtr

from imaging.sample import across
from planning.frame import Floats, unit
from planning.volume import CtVolume

KNOTS_MM = np.array([-9.0, -6.0, -3.0, 0.0])
BEHIND_MM, AHEAD_MM = 9.0, 5.0
_PARAMETER_SCALE = np.array([1.0, 1.0, 1.0, 0.03, 0.03] + [0.3] * 7)
MOST_GAP_MM = 45.0


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


def visible_end(ws: Floats, peak_hu: Floats, least_hu: float) -> float:
    """Deepest ``w`` at which a followed shaft is still seen, bridging gaps in which it is starved.

    A short island far from the rest is noise or an edge: the wider the gap, the longer it must be.
    """
    step = float(ws[1] - ws[0])
    last, run = float(ws[0]), 0
    for k, seen in enumerate(peak_hu > least_hu):
        run = run + 1 if seen else 0
        gap = float(ws[k]) - run * step - last
        if run and gap < MOST_GAP_MM and (gap < 1.0 or (run - 1) * step > 1.5 + 0.12 * gap):
            last = float(ws[k])
    return last


def fit_tip(
    ct: CtVolume,
    start_mm: Floats,
    direction: Floats,
    others_hu: Callable[[Floats], Floats],
    clip_hu: float,
) -> Tip:
    """Fit the end of a shaft.

    Args:
        ct: the scan.
        start_mm: ``(3,)`` where it seems to end, patient frame of the CT.
        direction: unit vector of the axis there, towards the tip.
        others_hu: what the other shafts add at points ``(n, 3)``.
        clip_hu: level at which the scanner clipped.
    """
    for _ in range(3):  # again around the fitted end, when it lies far from where it was sought
        tip = _fit(ct, start_mm, direction, others_hu, clip_hu)
        moved = float((tip.point_mm - start_mm) @ direction)
        if abs(moved + 1.0) < 2.0:
            break
        start_mm = start_mm + float(np.clip(moved + 1.0, -4.0, 4.0)) * direction
    return tip


def _voxels(ct: CtVolume, start: Floats, direction: Floats) -> tuple[Floats, Floats]:
    reach = 2.3 + 0.7 * ct.grid.spacing_mm[2]
    ends = np.stack([start - BEHIND_MM * direction, start + AHEAD_MM * direction])
    box = ct.grid.box(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
    part = ct.grid.cropped(box)
    index = np.indices(part.shape).reshape(3, -1).T
    points = part.point_of(index)
    values = ct.hu[box].reshape(-1).astype(float)
    offset = points - start
    s = offset @ direction
    lateral = np.linalg.norm(offset - s[:, None] * direction, axis=1)
    used = (lateral < reach) & (s > -BEHIND_MM) & (s < AHEAD_MM)
    return points[used], values[used]


def _fit(
    ct: CtVolume, start: Floats, direction: Floats, others_hu: Callable[[Floats], Floats], clip_hu: float
) -> Tip:
    u, v = across(direction)
    points, values = _voxels(ct, start, direction)
    beside = others_hu(points)
    if len(points) < 40:
        return Tip(start, direction, 3.0, 0.0, False)
    offset = points - start
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    guess = np.log([0.95, np.sqrt(0.2 + slice_mm**2 / 12)])
    ground = float(np.median(values[offset @ direction > 2.0])) if np.any(offset @ direction > 2.0) else 0.0
    ground = float(np.clip(ground, -300.0, 300.0))
    top = max(float(np.percentile(values, 97)) - ground, 300.0)

    def model(p: Floats) -> Floats:
        tilted = unit(direction + p[3] * u + p[4] * v)
        r = offset - (p[0] * direction + p[1] * u + p[2] * v)
        inverse = np.exp(-2.0 * np.array([p[5], p[5], p[6]]))
        a = float(tilted @ (inverse * tilted))
        s = (r * inverse) @ tilted / a
        q2 = (r * r) @ inverse - a * s * s
        amplitude = np.exp(np.clip(np.interp(s, KNOTS_MM, p[8:12]), 0.0, 10.0))
        value = p[7] + beside + amplitude * np.exp(-0.5 * q2) * ndtr(-s * np.sqrt(a))
        return np.asarray(np.minimum(value, clip_hu))

    scale = 25.0 + 0.04 * top + 0.1 * beside

    def residual(p: Floats) -> Floats:
        shape = (p[5:7] - guess) / (0.15, 0.2)
        fading = np.diff(p[8:12]) / (0.5, 0.5, 0.3)
        prior = np.concatenate([p[3:5] / 0.01, shape, [(p[7] - ground) / 150.0], fading])
        miss = (model(p) - values) / scale
        return np.concatenate(
            [np.sign(miss) * np.sqrt(2.0 * (np.sqrt(1.0 + miss**2 / 9) - 1.0)) * 3.0, prior]
        )

    # The end that is just seen lies about 1.3 mm beyond the tip. Two starts, because a brightness that
    # fades at the last knot can imitate an end.
    answers = []
    for shift in (-1.3, 0.5):
        first = np.concatenate([[shift], np.zeros(4), guess, [ground], np.full(4, np.log(1.2 * top))])
        answers.append(least_squares(residual, first, method="lm", max_nfev=300, x_scale=_PARAMETER_SCALE))
    answer = min(answers, key=lambda a: float(a.cost))
    p = answer.x
    count = len(values)
    chi2 = float(np.sum(answer.fun[:count] ** 2) / max(count - 12, 1))
    jacobian = np.asarray(answer.jac, dtype=float)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * max(chi2, 1.0)
    # neighbouring voxels share their errors (kernel, streaks): about eight of them count as one
    spread = float(np.sqrt(8.0 * np.trace(covariance[:3, :3])))
    tilted = unit(direction + p[3] * u + p[4] * v)
    point = start + p[0] * direction + p[1] * u + p[2] * v
    peak = float(np.exp(np.clip(np.max(p[9:12]), 0.0, 10.0)))
    good = bool(answer.success and abs(p[0]) < AHEAD_MM and np.hypot(p[1], p[2]) < 1.5 and peak > 150.0)
    return Tip(point, tilted, min(spread, 3.0), peak + float(p[7]), good)
