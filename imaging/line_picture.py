"""The part of a scan that a comb of lines is fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imaging.line import Lines
from imaging.line_fit import FINE, FREE, Fit, fit_lines
from imaging.line_voxel import Voxels, voxels_near
from imaging.rod_image import OWN_RADIUS_MM, Blur, rendered_hu
from imaging.shaft import expected_contrast_hu
from imaging.slab import Slab, resample
from planning.frame import Floats
from planning.volume import CtVolume

RIM_MM = 15.0  # around the slab: lines may leave it a little
BIN_MM = 3.0
STRAY = np.array(
    [0.8, 0.015, 0.0003]
)  # 1 sigma of a curve beside its planned line, of so many voxels' weight (assumed)
BEFORE_SKIN_MM = 30.0  # so far outside the skin hardly anything but needles is bright
DOT_SHARE = 0.4  # of the usual contrast: the most that a place counts in a search
END_STRAY_MM = 8.0  # a tip lies this near to its planned depth, as far as its curve is concerned


class Picture:
    """The part of a scan that lines are fitted to, and what is asked of it again and again.

    Attributes:
        ct: the slab's part of the scan, and a rim for lines that leave it a little.
        slab: the same, resampled along the needles.
        corners_mm: ``(k, 3)``, their box is the slab.
        clip_hu: level at which the scanner clipped.
        slice_mm: thickness of the slices, or their distance if that is more.
        usual_hu: contrast that a shaft usually has in such slices.
        low_w_mm, high_w_mm: between which depths along the slab lines are fitted.
    """

    def __init__(
        self, ct: CtVolume, direction: Floats, corners_mm: Floats, clip_hu: float, furthest_w_mm: float
    ) -> None:
        self.slab = resample(ct, direction, corners_mm)
        self.ct, self.corners_mm, self.clip_hu = _around(ct, self.slab), corners_mm, clip_hu
        self.slice_mm = float(max(ct.grid.spacing_mm[2], ct.slice_thickness_mm))
        self.usual_hu = expected_contrast_hu(self.slice_mm)
        self.low_w_mm, self.high_w_mm = float(self.slab.ws[0]), furthest_w_mm

    def near(self, lines: Lines, bin_mm: float = BIN_MM, to_w_mm: float = np.inf) -> Voxels:
        """Voxels near any of the lines, up to a depth."""
        high = min(self.high_w_mm, to_w_mm)
        return voxels_near(self.ct, self.slab.frame, lines, self.low_w_mm, high, bin_mm, self.slice_mm)

    def blur(self, in_plane_mm: float, own_mm: float = OWN_RADIUS_MM) -> Blur:
        return Blur(in_plane_mm, self.slice_mm, self.slab.frame, own_mm)

    def fit(
        self,
        lines: Lines,
        blur: Blur,
        rounds: int,
        *,
        near: Voxels | None = None,
        noise: Floats = FINE,
        middle: Floats | None = None,
        damped: bool = True,
    ) -> Fit:
        """All lines fitted from usual heights on.

        Args:
            near: the voxels; None: those near any of the lines.
            middle: ``(n, 3, 2)`` the planned curves, near which lines are held.
            damped: see :func:`imaging.line_fit.fit_lines`.
        """
        if near is None:
            near = self.near(lines)
        heights = np.full((len(lines.curves), len(near.bin_w_mm)), self.usual_hu)
        prior = FREE if middle is None else STRAY
        return fit_lines(
            near, lines, heights, blur, self.clip_hu, self.usual_hu, rounds,
            noise=noise, prior=prior, middle=middle, damped=damped,
        )  # fmt: skip

    def ended(self, fit: Fit, about_w_mm: Floats) -> Lines:
        """The same lines, believed as far as they are bright, about where their ends were sought ``(n,)``."""
        ends = []
        for heights, about in zip(fit.heights, about_w_mm, strict=True):
            bright = np.flatnonzero((heights > 0.25 * self.usual_hu) & (fit.bin_w_mm < about + END_STRAY_MM))
            end = fit.bin_w_mm[bright[-1]] if len(bright) else about
            ends.append(max(end, about - END_STRAY_MM))
        return Lines(fit.lines.skin_w_mm, fit.lines.curves, np.array(ends))

    def left_over(self, fit: Fit, blur: Blur) -> Slab:
        """The slab without what the lines explain."""
        near = self.near(fit.lines)
        model = rendered_hu(near.at, fit.lines, fit.heights, fit.bin_w_mm, blur)
        hu = self.ct.hu.copy()
        hu[tuple(near.index.T)] = np.rint(near.hu - np.minimum(model, self.clip_hu - 50.0))
        return resample(replace(self.ct, hu=hu), self.slab.frame[2], self.corners_mm)


def _around(ct: CtVolume, slab: Slab) -> CtVolume:
    """The part of a scan that a slab is taken from, and a rim for lines that leave it a little."""
    ends = (slab.us[[0, -1]], slab.vs[[0, -1]], slab.ws[[0, -1]])
    corners = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3) @ slab.frame
    box = ct.grid.box(corners.min(axis=0) - RIM_MM, corners.max(axis=0) + RIM_MM)
    return replace(ct, hu=ct.hu[box], grid=ct.grid.cropped(box))
