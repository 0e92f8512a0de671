"""Follow shafts plane by plane towards their tips, all together, by fitting what they look like.

Two shafts nearer than about 3.3 mm are one clipped blob in a 12-bit CT, and a starved shaft is hardly there at
all, so neither peaks nor thresholds can follow them. Here every plane is explained as a sum of Gaussian spots of
known shape, clipped as the scanner clips, one per shaft, by Gauss-Newton over all spots at once; each
shaft brings its own expectation (a Kalman state: place and slope, with covariance) from the plane before, so a
shaft that is not seen simply goes on nearly straight with growing uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planning.frame import Floats

REACH_MM = 2.8  # samples this near to a shaft take part
SLOPE_STEP = 0.003  # 1 sigma change of slope per plane: a bend of R = 500 mm over 1.5 mm
MODEL_SHARE = 0.12  # of the slice thickness: 1 sigma of a spot's place by what the model leaves out
WIDTHS_MM = (0.6, 0.75, 0.9, 1.05, 1.2)
MOST_PEAK_HU = 15000.0
LEADING_SHARE = 0.2  # of its usual height a spot needs to lead its track: haze and streaks have less
NOISE_HU = 40.0
SPILL = 0.6


@dataclass(frozen=True, eq=False)
class Slab:
    """The scan resampled along a rough needle direction.

    Attributes:
        hu: ``(w, v, u)`` float32, never below -150 (air looks like fat: only what is brighter matters).
        us, vs, ws: coordinates of the samples, mm, along the rows of ``frame``.
        frame: ``(3, 3)`` rows u, v, w in the patient frame; ``point @ frame.T`` gives (u, v, w).
    """

    hu: NDArray[np.float32]
    us: Floats
    vs: Floats
    ws: Floats
    frame: Floats


@dataclass(frozen=True, eq=False)
class Track:
    """One shaft followed through the planes.

    Attributes:
        ws: ``(n,)`` planes, mm.
        uv: ``(n, 2)`` places, mm.
        sigma_mm: ``(n,)`` 1 sigma of the place, per coordinate.
        peak_hu: ``(n,)`` height of the spot above its background, unclipped; 0 where it isn't seen, or can't be
            told from another shaft's spot.
        ground_hu: ``(n,)`` its background.
    """

    ws: Floats
    uv: Floats
    sigma_mm: Floats
    peak_hu: Floats
    ground_hu: Floats

    def up_to(self, end_mm: float) -> Track:
        used = self.ws <= end_mm + 1e-6
        parts = (self.ws, self.uv, self.sigma_mm, self.peak_hu, self.ground_hu)
        return Track(*(part[used] for part in parts))


def spot_covariance(frame: Floats, sigma_xy_mm: float, sigma_z_mm: float) -> Floats:
    """``(2, 2)`` covariance of a shaft's spot in the planes across it, from the scanner's blur."""
    blur = np.diag([sigma_xy_mm**2, sigma_xy_mm**2, sigma_z_mm**2])
    return np.asarray(frame[:2] @ blur @ frame[:2].T)


def follow(
    slab: Slab, starts: Floats, covariance: Floats, slice_mm: float, clip_hu: float, least_hu: float
) -> list[Track]:
    """Follow shafts from where they start to the end of the slab.

    Args:
        slab: the resampled scan.
        starts: ``(k, 5)``: w, u, v (mm) and slopes du/dw, dv/dw of each shaft where it is first seen.
        covariance: ``(2, 2)`` of a spot, mm2.
        slice_mm: thickness of the slices.
        clip_hu: level at which the scanner clipped.
        least_hu: least height of a spot that counts as seen.
    """
    count = len(starts)
    model_mm = MODEL_SHARE * slice_mm
    step = float(slab.ws[1] - slab.ws[0])
    inverse = np.asarray(np.linalg.inv(covariance), dtype=float)
    state = starts[:, 1:5].copy()
    spread = np.tile(np.diag([0.3**2, 0.3**2, 0.03**2, 0.03**2]), (count, 1, 1))
    move = np.eye(4)
    move[0, 2] = move[1, 3] = step
    jitter = SLOPE_STEP**2 * np.array([[step**2 / 4, step / 2], [step / 2, 1.0]])
    process = np.kron(jitter, np.eye(2))
    peak = np.full(count, 2000.0)
    kept: list[list[tuple[float, ...]]] = [[] for _ in range(count)]
    began = np.zeros(count, dtype=bool)
    seen = np.ones(count, dtype=bool)
    usual = np.zeros(count)
    for k, w in enumerate(slab.ws):
        fresh = ~began & (starts[:, 0] <= w + 0.5 * step)
        on = np.flatnonzero(began | fresh)
        moved = on[began[on]]
        state[moved] = state[moved] @ move.T
        spread[moved] = move @ spread[moved] @ move.T + process
        began[on] = True
        if not len(on):
            continue
        loose = spread[on, :2, :2] + model_mm**2 * np.eye(2)
        height, height_sigma = peak[on], 150.0 + 0.5 * peak[on]  # it changes gradually
        # Those seen up to here explain the plane first; one that has ended, or is starved, may then come back
        # only on what they leave over: else it would take over the spot of a shaft it happens to pass.
        alive = seen[on]
        if alive.any() and not alive.all():
            first = fit_plane(
                slab,
                k,
                state[on[alive], :2],
                loose[alive],
                height[alive],
                height_sigma[alive],
                inverse,
                clip_hu,
            )
            expected, prior = state[on, :2].copy(), loose.copy()
            expected[alive], prior[alive] = first.place, 1e-4 * np.eye(2)
            height[alive], height_sigma[alive] = first.height, 0.01 * first.height + 1.0
            fit = fit_plane(slab, k, expected, prior, height, height_sigma, inverse, clip_hu)
            fit.place[alive], fit.covariance[alive], fit.height[alive] = (
                first.place,
                first.covariance,
                first.height,
            )
            fit.ground[alive] = first.ground
        else:
            fit = fit_plane(slab, k, state[on, :2], loose, height, height_sigma, inverse, clip_hu)
        spill = spill_hu(fit.place, fit.height, inverse)
        for i, n in enumerate(on):
            height_hu = fit.height[i] if fit.height[i] >= max(least_hu, spill[i]) else 0.0
            seen[n] = height_hu > LEADING_SHARE * usual[n]
            peak[n] = fit.height[i] if seen[n] else min(fit.height[i], least_hu)
            if seen[n]:  # else nothing of its own to be led by: straight on
                usual[n] = max(0.97 * usual[n], height_hu)
                state[n], spread[n] = _led_by(
                    state[n], spread[n], loose[i], fit.place[i], fit.covariance[i], model_mm
                )
            sigma = float(np.sqrt(0.5 * np.trace(spread[n][:2, :2])))
            kept[n].append((w, state[n, 0], state[n, 1], sigma, height_hu, fit.ground[i]))
    tracks = []
    for rows in kept:
        table = np.array(rows).reshape(-1, 6)
        tracks.append(Track(table[:, 0], table[:, 1:3], *table[:, 3:].T))
    return tracks


def _led_by(
    state: Floats, spread: Floats, prior: Floats, place: Floats, covariance: Floats, model_mm: float
) -> tuple[Floats, Floats]:
    """Kalman update with what the plane alone says; its error is the fit's and the model's together."""
    information = np.linalg.inv(covariance) - np.linalg.inv(prior) + 1e-3 * np.eye(2)
    alone = np.linalg.inv(information)
    measured = state[:2] + alone @ np.linalg.solve(covariance, place - state[:2])
    total = spread[:2, :2] + alone + model_mm**2 * np.eye(2)
    gain = spread[:, :2] @ np.linalg.inv(total)
    return state + gain @ (measured - state[:2]), spread - gain @ spread[:2, :]


def spot_width_mm(slab: Slab, starts: Floats, slice_mm: float, clip_hu: float) -> float:
    """The scanner's in-plane blur (1 sigma), by which of a few widths the first planes are explained best."""
    step = float(slab.ws[1] - slab.ws[0])
    planes = [k for k, w in enumerate(slab.ws) if np.sum(np.abs(starts[:, 0] + 8.0 - w) < 7.0) > 0][::2]
    misfit = np.zeros(len(WIDTHS_MM))
    for m, width in enumerate(WIDTHS_MM):
        shape = spot_covariance(slab.frame, width, slice_sigma_mm(slice_mm))
        inverse = np.asarray(np.linalg.inv(shape), dtype=float)
        for k in planes[:12]:
            ahead = slab.ws[k] - starts[:, 0]
            on = np.flatnonzero((ahead > -0.5 * step) & (ahead < 20.0))
            if len(on):
                places = starts[on, 1:3] + ahead[on, None] * starts[on, 3:5]
                spread = np.tile(0.5**2 * np.eye(2), (len(on), 1, 1))
                height = np.full(len(on), 2500.0)
                fit = fit_plane(slab, k, places, spread, height, 0.6 * height, inverse, clip_hu)
                misfit[m] += fit.misfit
    return WIDTHS_MM[int(misfit.argmin())]


def slice_sigma_mm(slice_mm: float) -> float:
    """Blur across the slices (1 sigma): the slice's box, a little reconstruction, the needle's own radius."""
    return float(np.sqrt(0.2 + slice_mm**2 / 12.0))


def spill_hu(place: Floats, heights: Floats, inverse: Floats) -> Floats:
    """What a spot must exceed, for it may be only what others' spots, being not quite Gaussian, leave over."""
    offset = place[:, None] - place[None]
    share = np.exp(-0.5 * np.einsum("abi,ij,abj->ab", offset, inverse, offset))
    np.fill_diagonal(share, 0.0)
    return np.asarray(SPILL * np.max(share * heights[None], axis=1, initial=0.0))


@dataclass(frozen=True, eq=False)
class PlaneFit:
    place: Floats  # (k, 2)
    covariance: Floats  # (k, 2, 2)
    height: Floats  # (k,)
    ground: Floats  # (k,)
    misfit: float


def fit_plane(
    slab: Slab,
    k: int,
    expected: Floats,
    spread: Floats,
    peak: Floats,
    peak_sigma: Floats,
    inverse: Floats,
    clip_hu: float,
) -> PlaneFit:
    """All spots of plane ``k`` together: Gauss-Newton from expected places ``(n, 2)`` and heights ``(n,)``."""
    count = len(expected)
    us, vs = slab.us, slab.vs
    near = np.zeros(slab.hu.shape[1:], dtype=bool)
    for u, v in expected:
        i0, i1 = np.searchsorted(us, (u - REACH_MM, u + REACH_MM))
        j0, j1 = np.searchsorted(vs, (v - REACH_MM, v + REACH_MM))
        near[j0:j1, i0:i1] |= ((us[i0:i1] - u)[None, :] ** 2 + (vs[j0:j1] - v)[:, None] ** 2) < REACH_MM**2
    j, i = np.nonzero(near)
    if not len(j):
        return PlaneFit(expected, spread, np.zeros(count), np.zeros(count), 0.0)
    at = np.column_stack([us[i], vs[j]])
    values = slab.hu[k, j, i].astype(float)
    nearest = np.sum((at[:, None] - expected[None]) ** 2, axis=2).argmin(axis=1)
    # parameters: u, v, height, background of each spot; the prior of a place is its expectation
    x = np.zeros((count, 4))
    x[:, :2] = expected
    x[:, 2] = np.clip(peak, 300.0, MOST_PEAK_HU)  # a spot of height 0 would have no slope to go by
    x[:, 3] = 50.0
    prior = np.zeros((4 * count, 4 * count))
    information = np.linalg.inv(spread)
    for n in range(count):
        prior[4 * n : 4 * n + 2, 4 * n : 4 * n + 2] = information[n]
        prior[4 * n + 2, 4 * n + 2] = 1.0 / peak_sigma[n] ** 2
        prior[4 * n + 3, 4 * n + 3] = 1.0 / 250.0**2
    middle = x.copy()
    middle[:, 2] = np.clip(peak, 0.0, MOST_PEAK_HU)
    for _ in range(3):
        hessian, pullback, misfit = _normal_equations(at, values, nearest, x, inverse, clip_hu)
        hessian += prior
        pullback += prior @ (middle - x).ravel()
        change = np.linalg.solve(hessian, pullback).reshape(count, 4)
        change[:, :2] = np.clip(change[:, :2], -0.5, 0.5)
        x = x + change
        x[:, 2] = np.clip(x[:, 2], 0.0, MOST_PEAK_HU)
    covariance = np.linalg.inv(hessian)
    blocks = np.stack([covariance[4 * n : 4 * n + 2, 4 * n : 4 * n + 2] for n in range(count)])
    return PlaneFit(x[:, :2], blocks, x[:, 2], x[:, 3], misfit)


@njit(cache=True)
def _normal_equations(
    at: Floats, values: Floats, nearest: NDArray[np.int64], x: Floats, inverse: Floats, clip_hu: float
) -> tuple[Floats, Floats, float]:
    """Gauss-Newton matrix ``(4k, 4k)``, gradient and robust misfit of one plane's spots ``x`` ``(k, 4)``."""
    count = len(x)
    hessian = np.zeros((4 * count, 4 * count))
    gradient = np.zeros(4 * count)
    misfit = 0.0
    near = np.empty(count, dtype=np.int64)
    slope = np.empty((count, 3))
    for m in range(len(at)):
        n_near = 0
        model = x[nearest[m], 3]
        for n in range(count):
            du, dv = at[m, 0] - x[n, 0], at[m, 1] - x[n, 1]
            if du * du + dv * dv > 36.0 and n != nearest[m]:
                continue
            pu = inverse[0, 0] * du + inverse[0, 1] * dv
            pv = inverse[0, 1] * du + inverse[1, 1] * dv
            spot = np.exp(-0.5 * (pu * du + pv * dv))
            model += x[n, 2] * spot
            near[n_near] = n
            slope[n_near, 0], slope[n_near, 1], slope[n_near, 2] = (
                pu * spot * x[n, 2],
                pv * spot * x[n, 2],
                spot,
            )
            n_near += 1
        residual = values[m] - min(model, clip_hu)
        if model >= clip_hu and residual > -1.0:
            continue  # both clipped: nothing to learn; where only the model is, it must be able to come down
        sigma = NOISE_HU + 0.06 * max(0.0, min(model, 3000.0))
        weight = 1.0 / (sigma**2 * (1.0 + (residual / (4.0 * sigma)) ** 2))
        misfit += np.log(1.0 + (residual / (4.0 * NOISE_HU)) ** 2)
        own = 4 * nearest[m] + 3
        hessian[own, own] += weight
        gradient[own] += weight * residual
        for a in range(n_near):
            for i in range(3):
                row = 4 * near[a] + i
                gradient[row] += weight * residual * slope[a, i]
                hessian[row, own] += weight * slope[a, i]
                hessian[own, row] += weight * slope[a, i]
                for b in range(n_near):
                    for j in range(3):
                        hessian[row, 4 * near[b] + j] += weight * slope[a, i] * slope[b, j]
    return hessian, gradient, misfit


def spots_hu(tracks: list[Track], frame: Floats, covariance: Floats, points_mm: Floats) -> Floats:
    """What followed shafts add to the HU at points ``(n, 3)`` of the patient frame."""
    local = points_mm @ frame.T
    inverse = np.asarray(np.linalg.inv(covariance), dtype=float)
    total = np.zeros(len(local))
    for track in tracks:
        place = np.column_stack([np.interp(local[:, 2], track.ws, track.uv[:, k]) for k in (0, 1)])
        offset = local[:, :2] - place
        height = np.interp(local[:, 2], track.ws, track.peak_hu, left=0.0, right=0.0)
        total += height * np.exp(-0.5 * np.sum((offset @ inverse) * offset, axis=1))
    return total
