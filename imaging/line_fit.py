"""All needles' curves fitted at once to the voxels around them.

Gauss-Newton over the curves of all lines together. Brightness and background of each bin along each line are eliminated
from the equations (Schur complement; Golub & Pereyra's variable projection, linearised), so that a starved needle may
be as dim as it is wherever it is, and neighbours explain what is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from imaging.axis import BEND_SIGMA_PER_MM, MOST_SLOPE_SIGMA, basis
from imaging.bin_elimination import eliminate, followed
from imaging.line import Lines
from imaging.line_voxel import Voxels
from imaging.rod_image import Blur
from imaging.rod_kernel import GROUND_HU, line_equations
from planning.frame import Floats

# How far a voxel may miss, HU and share of what is modelled: while lines are still led to their needles (streaks and
# starvation must not outweigh where needles can be), and at the end.
ROUGH, FINE = np.array((100.0, 0.25)), np.array((60.0, 0.12))
MOST_HU = 15000.0
NEVER_HU = 1e9  # no scanner clips here
# place, slope and bend, 1 sigma, in single voxels' weight: about six of them share their errors and count as one
FREE = np.array([3.0, MOST_SLOPE_SIGMA / 6.0**0.5, BEND_SIGMA_PER_MM / 6.0**0.5])
MOST_STEP_MM = 1.5
LEAST_DAMPING = 0.03  # Marquardt's, once a step made things worse


@dataclass(frozen=True, eq=False)
class Fit:
    """Lines fitted to voxels.

    Attributes:
        lines: the curves.
        heights, grounds: ``(n, bins)`` HU of each line and beside it.
        bin_w_mm: ``(bins,)`` middles of the bins.
        normal: ``(6n, 6n)`` lower half of the last step's normal matrix (per line place, slope, bend in u, then in v).
        misfit: robust, over all voxels.
    """

    lines: Lines
    heights: Floats
    grounds: Floats
    bin_w_mm: Floats
    normal: Floats
    misfit: float

    @property
    def covariance(self) -> Floats:
        """``(n, 6, 6)`` of each curve, ordered as ``normal``, as if voxels were independent."""
        count = len(self.lines.curves)
        factor = cho_factor(self.normal, lower=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(6 * count), check_finite=False)
        return np.asarray(inverse.reshape(count, 6, count, 6)[np.arange(count), :, np.arange(count)])


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
    damped: bool = True,
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
        damped: take back a step that explains less, and try a shorter one (Marquardt). Without it lines find needles
            further off, or none.
    """
    count = len(lines.curves)
    curves, heights = lines.curves.copy(), np.ascontiguousarray(heights.T)
    grounds = np.full(heights.shape, GROUND_HU)
    others = np.zeros(len(voxels.hu)) if others_hu is None else others_hu
    at_bins = basis(voxels.bin_w_mm, lines.skin_w_mm)
    outer = (at_bins[:, :, None] * at_bins[:, None]).reshape(-1, 9)
    believed = np.ascontiguousarray((voxels.bin_w_mm[None] <= lines.ends_w_mm[:, None]).T)
    pull = np.tile(1.0 / np.square(prior), 2 * count)
    if middle is None:
        middle = curves * np.array((1.0, 0.0, 0.0))[:, None]
    normal = np.zeros((6 * count, 6 * count))
    damping, best = 0.0, np.inf
    kept: tuple[Floats, ...] = ()
    for turn in range(rounds + 2):
        moving = 1 <= turn <= rounds
        local, right, curvature, gradient, misfit = line_equations(
            voxels.at, voxels.hu, others, voxels.first_patch, voxels.first, lines.skin_w_mm, believed,
            curves, heights, grounds, blur.tables(curves[:, 1]), min(clip_hu, NEVER_HU), usual_hu, noise, moving,
        )  # fmt: skip
        off = _flat(curves - middle)
        cost = misfit + 0.5 * float(pull @ (off * off))
        if damped and turn > 1 and cost > best:  # the step went too far: again from before, shorter
            curves, heights, grounds, off, local, right, curvature, gradient = kept
            misfit, damping = best - 0.5 * float(pull @ (off * off)), max(10.0 * damping, LEAST_DAMPING)
        else:
            eliminate(local, right, curvature, gradient, at_bins)
            kept, best = (curves, heights, grounds, off, local, right, curvature, gradient), cost
            damping = 0.1 * damping if damping > LEAST_DAMPING else 0.0
        moved = np.zeros((len(local), right.shape[2] - 1))
        if moving:
            lower = (curvature.reshape(len(curvature), -1).T @ outer).reshape(2 * count, 2 * count, 3, 3)
            normal = lower.transpose(0, 2, 1, 3).reshape(6 * count, 6 * count)
            normal[np.diag_indices(6 * count)] += pull
            shorter = normal.copy()
            shorter[np.diag_indices(6 * count)] *= 1.0 + damping
            whole = cho_factor(shorter, lower=True, check_finite=False)
            change = cho_solve(whole, gradient - pull * off, check_finite=False)
            step = np.transpose(change.reshape(count, 2, 3), (0, 2, 1))
            far = np.max(np.abs(step) * np.array((1.0, 40.0, 800.0))[:, None], axis=(1, 2))
            step = step * np.minimum(1.0, MOST_STEP_MM / np.maximum(far, 1e-9))[:, None, None]
            curves = curves + step
            moved = np.einsum("ki,nis->kns", at_bins, step).reshape(len(at_bins), 2 * count)
        change = followed(local, right, moved)
        heights = np.clip(heights + change[:, 0::2], 0.0, MOST_HU)
        grounds = grounds + change[:, 1::2]
    fitted = Lines(lines.skin_w_mm, curves, lines.ends_w_mm)
    return Fit(
        fitted, np.ascontiguousarray(heights.T), np.asarray(grounds.T), voxels.bin_w_mm, normal, misfit
    )


def _flat(curves: Floats) -> Floats:
    """``(n, 3, 2)`` in the order of the equations: per line first u's three, then v's."""
    return np.transpose(curves, (0, 2, 1)).reshape(-1)
