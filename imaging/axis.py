"""Axes of needles over their whole length: straight outside the skin, a gentle arc inside, all fitted together.

A shaft followed plane by plane (``track``) knows only what came before and may change over to its neighbour where the
two meet, or drift where it is starved. A steel needle can't: over its whole length it is a straight line with one
gentle bend. So each plane is explained once more by all shafts together, starting from such curves, and the curves
are fitted to what the planes say, robustly; a stretch in which a shaft isn't seen says nothing and is bridged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imaging.track import MODEL_SHARE, PlaneFit, Slab, Track, fit_plane, spill_hu
from planning.frame import Floats, unit

BEND_SIGMA_PER_MM = 0.001  # of an arc in tissue, per coordinate: CLINIC.md, radii from 700 mm (assumed)
LOOSE_MM = (0.6, 0.4, 0.25)  # how far from its curve a spot may be in each round
ALIKE_PLANES = 10.0  # neighbouring planes that share one error (slices, kernel): they count as one (assumed)
STREAKS_MM = 0.15  # 1 sigma by which dark bands of its neighbours move a spot (measured)
END_MM = 3.0  # before a shaft's end its spot is only half there
MOST_SLOPE_SIGMA = 0.06  # against the common direction; needles are looked for within 10 degrees


@dataclass(frozen=True, eq=False)
class Axis:
    """A needle's line: ``place + slope x + bend x^2 / 2``, ``x`` mm inside the skin; no bend outside.

    Attributes:
        skin_w_mm: where the skin is, mm along the slab.
        curve: ``(3, 2)``: place (mm), slope, bend (1/mm), each in u and v.
        covariance: ``(3, 3)`` of place, slope and bend, the same for both coordinates.
    """

    skin_w_mm: float
    curve: Floats
    covariance: Floats

    def uv(self, w_mm: Floats) -> Floats:
        """Places ``(n, 2)`` at ``w_mm`` ``(n,)``."""
        return np.asarray(_basis(w_mm, self.skin_w_mm) @ self.curve)

    def point(self, slab: Slab, w_mm: float) -> Floats:
        """Patient frame ``(3,)``."""
        return np.asarray(np.append(self.uv(np.array([w_mm]))[0], w_mm) @ slab.frame)

    def towards(self, slab: Slab, w_mm: float) -> Floats:
        """Unit vector of the axis at a depth, towards the tip, patient frame."""
        slope = self.curve[1] + max(w_mm - self.skin_w_mm, 0.0) * self.curve[2]
        return unit(np.append(slope, 1.0) @ slab.frame)

    def sigma_mm(self, w_mm: float) -> float:
        """1 sigma of the place at a depth, per coordinate."""
        row = _basis(np.array([w_mm]), self.skin_w_mm)[0]
        return float(np.sqrt(row @ self.covariance @ row))


def _basis(w_mm: Floats, skin_w_mm: float) -> Floats:
    x = np.asarray(w_mm, dtype=float) - skin_w_mm
    return np.column_stack([np.ones_like(x), x, 0.5 * np.maximum(x, 0.0) ** 2])


def fit_axis(ws: Floats, uv: Floats, sigma_mm: Floats, skin_w_mm: float) -> Axis:
    """Robust fit of a needle's line to places ``(n, 2)`` at ``ws`` with their sigmas ``(n,)``, mm."""
    basis = _basis(ws, skin_w_mm)
    variance = ALIKE_PLANES * np.maximum(sigma_mm, 0.02) ** 2
    prior = np.diag([1e-6, 1.0 / MOST_SLOPE_SIGMA**2, 1.0 / BEND_SIGMA_PER_MM**2])
    weight = 1.0 / variance
    curve: Floats = np.zeros((3, 2))
    for _ in range(8):
        normal = (basis * weight[:, None]).T @ basis + prior
        curve = np.asarray(np.linalg.solve(normal, (basis * weight[:, None]).T @ uv))
        miss2 = np.sum((uv - basis @ curve) ** 2, axis=1)
        scale2 = 4.0 * np.maximum(np.median(miss2), np.maximum(sigma_mm, 0.1) ** 2)
        weight = 1.0 / (variance * (1.0 + miss2 / scale2) ** 2)
    return Axis(skin_w_mm, curve, np.asarray(np.linalg.inv(normal)))


def straightened(
    slab: Slab,
    tracks: Sequence[Track],
    ends_w_mm: Sequence[float],
    skin_w_mm: float,
    covariance: Floats,
    slice_mm: float,
    clip_hu: float,
    least_hu: float,
) -> tuple[list[Track], list[Axis]]:
    """The axes of followed shafts, and the shafts as they look along them.

    Args:
        slab: the resampled scan.
        tracks: followed shafts.
        ends_w_mm: as far as each is believed, mm.
        skin_w_mm: where needles enter the skin, mm along the slab.
        covariance: ``(2, 2)`` of a spot, mm2.
        slice_mm, clip_hu, least_hu: as for :func:`imaging.track.follow`.

    Returns:
        Tracks from each one's first plane to the slab's end, along its axis; the axes.
    """
    inverse = np.asarray(np.linalg.inv(covariance), dtype=float)
    model_mm = float(np.hypot(STREAKS_MM, MODEL_SHARE * slice_mm))
    axes = []
    for track, end in zip(tracks, ends_w_mm, strict=True):
        used = track.up_to(max(end - END_MM, float(track.ws[min(6, len(track.ws) - 1)])))
        axes.append(fit_axis(used.ws, used.uv, np.hypot(used.sigma_mm, model_mm), skin_w_mm))
    heights = [np.interp(slab.ws, t.ws, t.peak_hu, left=0.0, right=0.0) for t in tracks]
    firsts = [float(track.ws[0]) for track in tracks]
    seen = _Seen.empty(len(tracks), len(slab.ws))
    for loose_mm in LOOSE_MM:
        seen = _look(slab, axes, heights, firsts, loose_mm, inverse, clip_hu, least_hu)
        for n, end in enumerate(ends_w_mm):
            used = (seen.height[n] > 0.0) & (slab.ws <= end - END_MM)
            if np.count_nonzero(used) >= 6:
                sigma = np.hypot(seen.sigma[n][used], model_mm)
                axes[n] = fit_axis(slab.ws[used], seen.uv[n][used], sigma, skin_w_mm)
        heights = list(seen.height)
    along = []
    for n, axis in enumerate(axes):
        k = slab.ws >= firsts[n] - 1e-6
        ws = slab.ws[k]
        sigma = np.array([axis.sigma_mm(w) for w in ws])
        along.append(Track(ws, axis.uv(ws), sigma, seen.height[n][k], seen.ground[n][k]))
    return along, axes


@dataclass(frozen=True, eq=False)
class _Seen:
    """What every plane says of every shaft by itself: ``(shafts, planes[, 2])``; height 0 where it isn't seen."""

    uv: Floats
    sigma: Floats
    height: Floats
    ground: Floats

    @staticmethod
    def empty(shafts: int, planes: int) -> _Seen:
        nothing = np.zeros((shafts, planes))
        return _Seen(np.zeros((shafts, planes, 2)), nothing + 9.0, nothing.copy(), nothing.copy())


def _look(
    slab: Slab,
    axes: Sequence[Axis],
    heights: Sequence[Floats],
    firsts_mm: Sequence[float],
    loose_mm: float,
    inverse: Floats,
    clip_hu: float,
    least_hu: float,
) -> _Seen:
    seen = _Seen.empty(len(axes), len(slab.ws))
    curves = np.array([axis.uv(slab.ws) for axis in axes])
    spread = loose_mm**2 * np.eye(2)
    for k, w in enumerate(slab.ws):
        on = np.flatnonzero(np.array(firsts_mm) <= w + 1e-6)
        if not len(on):
            continue
        near = slice(max(k - 3, 0), k + 4)
        peak = np.median(np.asarray(heights)[on, near], axis=1)
        loose = np.tile(spread, (len(on), 1, 1))
        fit: PlaneFit = fit_plane(slab, k, curves[on, k], loose, peak, 150.0 + 0.5 * peak, inverse, clip_hu)
        spill = spill_hu(fit.place, fit.height, inverse)
        seen.ground[on, k] = fit.ground
        told = np.linalg.inv(fit.covariance)
        alone = told - np.eye(2) / loose_mm**2
        # where the picture tells next to nothing beyond what was expected, the fit's own answer is taken
        weak = np.linalg.eigvalsh(alone)[:, 0] <= 0.05 / loose_mm**2
        alone[weak] = np.eye(2) / loose_mm**2
        off = np.einsum("nij,nj->ni", told, fit.place - curves[on, k])
        moved = np.einsum("nij,nj->ni", np.linalg.inv(alone), off)
        moved[weak] = fit.place[weak] - curves[on, k][weak]
        visible = fit.height >= np.maximum(least_hu, spill)
        seen.uv[on, k] = curves[on, k] + moved
        seen.sigma[on, k] = np.sqrt(0.5 * np.trace(np.linalg.inv(alone), axis1=1, axis2=2))
        seen.height[on, k] = np.where(visible, fit.height, 0.0)
    return seen
