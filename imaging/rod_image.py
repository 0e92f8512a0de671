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
from scipy.special import erf

from imaging.line import Lines
from imaging.rod_kernel import LEAST_BRIGHT, brightness, rendered
from planning.frame import Floats

# 1 sigma of a needle's cross-section across the slices. Less than its 0.32, because a slice that a needle only touches
# shows less of it than its share: beside the edge even a dark line (measured).
OWN_RADIUS_MM = 0.28


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
        """What ``rod_kernel.images`` needs of lines with slopes ``(n, 2)``, and how far it reaches: ``(n, 11)``.

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
        rendered(
            np.ascontiguousarray(points), lines.skin_w_mm, lines.curves, np.ascontiguousarray(heights),
            float(bin_w_mm[0]), step, blur.tables(lines.curves[:, 1]),
        )
    )  # fmt: skip


def shares(offset: Floats, table: Floats) -> Floats:
    """How bright a line is ``(n,)`` at ``(n, 2)`` beside it, mm in u and v: 1 on a line in the middle of a slice."""
    bright = np.empty(len(offset))
    u, v = np.ascontiguousarray(offset.T, dtype=float)
    brightness(u, v, table, bright)
    return bright
