"""A needle's line from what single planes say: laws of the fit."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.axis import fit_axis

WS = np.arange(-40.0, 60.0, 1.5)


def bent(place: float, slope: float, radius_mm: float) -> np.ndarray:
    """Places ``(n, 2)`` of a needle that is straight up to w = 0 and an arc from there."""
    u = place + slope * WS + np.maximum(WS, 0.0) ** 2 / (2.0 * radius_mm)
    return np.column_stack([u, -2.0 + 0.0 * WS])


@pytest.mark.parametrize("radius_mm", [700.0, 1500.0, -4000.0])
def test_straight_outside_and_an_arc_inside_come_back(radius_mm: float) -> None:
    axis = fit_axis(WS, bent(3.0, 0.02, radius_mm), np.full(len(WS), 0.05), 0.0)
    assert axis.uv(WS) == pytest.approx(bent(3.0, 0.02, radius_mm), abs=0.02)
    assert axis.curve[2, 0] == pytest.approx(1.0 / radius_mm, abs=5e-5)


def test_a_stretch_that_belongs_to_a_neighbour_moves_nothing() -> None:
    true = bent(0.0, 0.01, 1500.0)
    seen = true.copy()
    seen[20:32, 0] += 4.0
    axis = fit_axis(WS, seen, np.full(len(WS), 0.2), 0.0)
    assert np.abs(axis.uv(WS) - true).max() < 0.15


def test_what_is_not_seen_is_bridged_and_sigma_says_how_well() -> None:
    true = bent(0.0, 0.01, 1500.0)
    seen = (WS < 5.0) | (WS > 35.0)
    axis = fit_axis(WS[seen], true[seen], np.full(int(seen.sum()), 0.2), 0.0)
    assert np.abs(axis.uv(WS) - true).max() < 0.1
    short = fit_axis(WS[WS < 20.0], true[WS < 20.0], np.full(int((WS < 20.0).sum()), 0.2), 0.0)
    assert short.sigma_mm(60.0) > 2.0 * axis.sigma_mm(60.0)


def test_an_arc_no_needle_makes_is_not_believed() -> None:
    ws = np.arange(0.0, 20.0, 1.5)
    noise = np.random.default_rng(1).normal(0.0, 0.3, (len(ws), 2))
    axis = fit_axis(ws, noise, np.full(len(ws), 0.3), 0.0)
    assert np.abs(axis.curve[2]).max() < 1.0 / 700.0
