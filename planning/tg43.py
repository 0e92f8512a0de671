"""TG-43U1 / U1S1: dose rate in water around one seed, in TG-43's own centimetres.

Positions are given as ``along`` (along the seed's axis from its centre, positive towards theta = 0, the
direction of insertion) and ``away`` (distance from the axis). Where the tables end:

* between radii g_L is log-linear, F bilinear in radius and angle (TG-43U1S1);
* F and phi_an outside their radii: nearest; g_L below its first radius: nearest; beyond its last one a single
  exponential through the last two points (TG-43U1S1);
* inside the seed's own cylinder, where the formalism says nothing, a point gets the dose at its radial
  projection onto the seed's surface: finite, and higher than anything outside at the same height.

Other programs interpolate g_L linearly or extrapolate F; both can be asked for by name to compare with them.

Rivard et al., Med Phys 31:633 (2004) and 34:2187 (2007).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from planning.frame import Floats
from planning.sources import Formalism, SeedSource

Between = Literal["log-linear", "linear"]
Beyond = Literal["nearest", "linear"]

_ON_AXIS_CM = 1e-9  # closer to the axis than this nothing changes, and beta / (L away) stays defined


def geometry_function(active_length_cm: float, along_cm: ArrayLike, away_cm: ArrayLike) -> Floats:
    """G_L of a line source, 1/cm2: ``beta / (L r sin theta)``, on the axis ``1 / (r2 - L2/4)``."""
    along = np.asarray(along_cm, dtype=float)
    away = np.maximum(np.abs(np.asarray(away_cm, dtype=float)), _ON_AXIS_CM)
    # beta, the angle the line subtends, from one arctangent: exact near the axis too, where a difference of
    # two angles would cancel.
    base = active_length_cm * away
    beta = np.arctan2(base, away**2 + along**2 - active_length_cm**2 / 4.0)
    return np.asarray(beta / base)


def radial_dose_function(source: SeedSource, r_cm: ArrayLike, between: Between = "log-linear") -> Floats:
    """g_L(r)."""
    r = np.asarray(r_cm, dtype=float)
    radii, log_g = source.g_l_r_cm, np.log(source.g_l)
    within = (
        np.exp(np.interp(r, radii, log_g)) if between == "log-linear" else np.interp(r, radii, source.g_l)
    )
    slope = (log_g[-1] - log_g[-2]) / (radii[-1] - radii[-2])
    return np.asarray(np.where(r > radii[-1], np.exp(log_g[-1] + slope * (r - radii[-1])), within))


def anisotropy_function(
    source: SeedSource, r_cm: ArrayLike, theta_deg: ArrayLike, beyond: Beyond = "nearest"
) -> Floats:
    """F(r, theta), theta 0..180 degrees from the direction of insertion.

    Args:
        beyond: what to do outside F's radii: ``nearest``, or ``linear`` extrapolation from the last two radii
            (never below the smallest tabulated value).
    """
    r, theta = np.broadcast_arrays(np.asarray(r_cm, dtype=float), np.asarray(theta_deg, dtype=float))
    if source.f_theta_deg[-1] == 90.0:
        theta = np.where(theta > 90.0, 180.0 - theta, theta)
    i, u = _cell(source.f_theta_deg, theta, clip=True)
    j, v = _cell(source.f_r_cm, r, clip=beyond == "nearest")
    f = source.f
    value = (1 - u) * ((1 - v) * f[i, j] + v * f[i, j + 1]) + u * (
        (1 - v) * f[i + 1, j] + v * f[i + 1, j + 1]
    )
    return np.asarray(np.maximum(value, f.min()))


def anisotropy_factor(source: SeedSource, r_cm: ArrayLike) -> Floats:
    """phi_an(r) of the 1-D formalism: tabulated, or by its definition from F where no table is."""
    r = np.asarray(r_cm, dtype=float)
    if source.phi_an.size:
        return np.asarray(np.interp(r, source.phi_an_r_cm, source.phi_an))
    return np.asarray(np.interp(r, source.f_r_cm, anisotropy_factor_from_f(source, source.f_r_cm)))


def anisotropy_factor_from_f(source: SeedSource, r_cm: ArrayLike) -> Floats:
    """phi_an(r) by definition: dose rate averaged over the sphere / dose rate on the transverse axis."""
    theta = np.radians(np.linspace(0.0, 180.0, 1441))
    r = np.atleast_1d(np.asarray(r_cm, dtype=float))[:, None]
    length = source.active_length_cm
    around = anisotropy_function(source, r, np.degrees(theta)) * geometry_function(
        length, r * np.cos(theta), r * np.sin(theta)
    )
    mean = np.trapezoid(around * np.sin(theta), theta, axis=1) / 2.0
    return np.asarray(mean / geometry_function(length, 0.0, r[:, 0]))


def dose_rate(
    source: SeedSource,
    along_cm: ArrayLike,
    away_cm: ArrayLike,
    *,
    formalism: Formalism | None = None,
    between: Between = "log-linear",
    beyond: Beyond = "nearest",
) -> Floats:
    """Dose rate in water per unit strength, cGy/h/U; finite and positive everywhere.

    Args:
        along_cm, away_cm: positions, of shapes that broadcast.
        formalism: ``2d`` (line source, F) or ``1d`` (line source on the transverse axis, phi_an; the seed's
            direction does not matter outside it); the source's own when None.
        between, beyond: how g_L is interpolated and F extrapolated, see above.
    """
    along, away = np.broadcast_arrays(
        np.asarray(along_cm, dtype=float), np.abs(np.asarray(away_cm, dtype=float))
    )
    radius = source.diameter_mm / 20.0
    away = np.where((np.abs(along) <= source.length_mm / 20.0) & (away < radius), radius, away)
    r = np.hypot(along, away)
    length = source.active_length_cm
    rate = source.dose_rate_constant * radial_dose_function(source, r, between)
    if (formalism or source.formalism) == "1d":
        shape = geometry_function(length, 0.0, r) * anisotropy_factor(source, r)
    else:
        theta = np.degrees(np.arctan2(away, along))
        shape = geometry_function(length, along, away) * anisotropy_function(source, r, theta, beyond)
    return np.asarray(rate * shape / geometry_function(length, 0.0, 1.0))


def _cell(
    nodes: Floats, x: Floats, *, clip: bool
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.intp]], Floats]:
    """Index of the cell of ``nodes`` and the position in it, 0..1 (outside that range if not ``clip``)."""
    if len(nodes) == 1:
        raise ValueError("a table of one node can't be interpolated")
    index = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    part = (x - nodes[index]) / (nodes[index + 1] - nodes[index])
    return index, np.clip(part, 0.0, 1.0) if clip else part
