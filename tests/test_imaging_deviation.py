"""The arithmetic on which a procedure goes on or a needle is moved."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.deviation import Verdict, deviation
from planning.frame import RigidTransform

coordinates = st.floats(-200.0, 200.0)
points = st.tuples(coordinates, coordinates, coordinates)
offsets = st.tuples(*[st.floats(-10.0, 10.0)] * 3)


@pytest.mark.parametrize(
    ("offset", "lateral", "depth"),
    [((0, 0, 1.5), 0.0, 1.5), ((0, 0, -1.5), 0.0, -1.5), ((3, 4, 0), 5.0, 0.0), ((0, 2, 1), 2.0, 1.0)],
)
def test_parts_lie_along_and_across_the_planned_direction(
    offset: tuple[float, float, float], lateral: float, depth: float
) -> None:
    found = deviation((10, 20, 30), (0, 0, 2), np.add((10, 20, 30), offset), (0, 0, 1), 0.0)
    assert (found.lateral_mm, found.depth_mm) == pytest.approx((lateral, depth))
    assert found.total_mm == pytest.approx(np.linalg.norm(offset))


def test_angle_is_that_of_the_axes() -> None:
    assert deviation((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 1, 1), 0.0).angle_deg == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("total", "sigma", "verdict"),
    [
        (2.0, 0.0, Verdict.WITHIN),
        (2.0001, 0.0, Verdict.BEYOND),
        (0.0, 0.5, Verdict.WITHIN),
        (1.4, 0.5, Verdict.WITHIN),
        (1.5, 0.5, Verdict.WITHIN),
        (1.6, 0.5, Verdict.CANNOT_TELL),
        (2.4, 0.5, Verdict.CANNOT_TELL),
        (2.6, 0.5, Verdict.BEYOND),
        (0.1, 3.0, Verdict.CANNOT_TELL),
        (1.0, float("nan"), Verdict.CANNOT_TELL),
        (1.0, float("inf"), Verdict.CANNOT_TELL),
    ],
)
def test_exactly_the_tolerance_is_within_and_doubt_is_told(
    total: float, sigma: float, verdict: Verdict
) -> None:
    assert deviation((0, 0, 0), (0, 0, 1), (0, total, 0), (0, 0, 1), sigma).verdict is verdict


def test_two_millimetres_in_decimals_are_two_millimetres() -> None:
    found = deviation((-14.1, 0.3, -60.2), (0, 0, 1), (-14.1, 0.3, -58.2), (0, 0, 1), 0.0)
    assert found.verdict is Verdict.WITHIN


def test_the_band_is_a_parameter() -> None:
    assert (
        deviation((0, 0, 0), (0, 0, 1), (0, 1.6, 0), (0, 0, 1), 0.5, band_sigmas=0.5).verdict
        is Verdict.WITHIN
    )
    assert (
        deviation((0, 0, 0), (0, 0, 1), (0, 1.6, 0), (0, 0, 1), 0.1, tolerance_mm=1.0).verdict
        is Verdict.BEYOND
    )


@given(points, offsets, points, offsets)
def test_the_frame_does_not_matter(
    tip: tuple[float, ...], offset: tuple[float, ...], shift: tuple[float, ...], turn: tuple[float, ...]
) -> None:
    found = np.add(tip, offset)
    here = deviation(tip, (0, 0.6, 0.8), found, (0, 0, 1), 0.3)
    moved = RigidTransform.from_rotation_vector(np.multiply(turn, 10.0), shift)
    there = deviation(
        moved.apply(tip), moved.turn((0, 0.6, 0.8)), moved.apply(found), moved.turn((0, 0, 1)), 0.3
    )
    assert here.total_mm**2 == pytest.approx(here.lateral_mm**2 + here.depth_mm**2, abs=1e-6)
    for part in ("total_mm", "lateral_mm", "depth_mm", "angle_deg"):
        assert getattr(here, part) == pytest.approx(getattr(there, part), abs=1e-5)


def test_it_goes_into_json() -> None:
    body = json.loads(json.dumps(deviation((0, 0, 0), (0, 0, 1), (1, 0, 2), (0, 0, 1), 0.1).to_json()))
    assert body["verdict"] == "beyond"
    assert body["depth_mm"] == 2.0
