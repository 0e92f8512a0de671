"""The oblique rig's geometry: laws, limits, and the coplanar rig as its straight case."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.kinematics import RigConfig, machine_from_rig
from drivers.kinematics_oblique import (
    GuideLine,
    ObliqueConfig,
    line_from_machine,
    machine_from_line,
    plates_from_line,
    tip_mm,
    why_not_depth_along,
    why_not_line,
)

CONFIG = ObliqueConfig()


def tilted(x_mm: float, y_mm: float, angle_deg: float, towards_deg: float) -> GuideLine:
    angle, towards = math.radians(angle_deg), math.radians(towards_deg)
    side = math.sin(angle)
    return GuideLine(x_mm, y_mm, (side * math.cos(towards), side * math.sin(towards), math.cos(angle)))


lines = st.builds(tilted, st.floats(-60, 60), st.floats(-60, 60), st.floats(0, 20), st.floats(0, 360))
depths = st.floats(-18, 170)
gaps = st.builds(ObliqueConfig, front_mm=st.floats(0, 40), gap_mm=st.floats(20, 150))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(gaps, lines, depths)
def test_there_and_back(config: ObliqueConfig, line: GuideLine, depth_mm: float) -> None:
    back, depth_back_mm = line_from_machine(config, machine_from_line(config, line, depth_mm))
    assert (back.x_mm, back.y_mm) == pytest.approx((line.x_mm, line.y_mm), abs=1e-9)
    assert back.direction == pytest.approx(line.direction, abs=1e-12)
    assert depth_back_mm == pytest.approx(depth_mm, abs=1e-9)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(gaps, lines, depths)
def test_joints_and_tip_lie_on_one_line_and_the_needle_is_as_long_as_the_carriage_says(
    config: ObliqueConfig, line: GuideLine, depth_mm: float
) -> None:
    front_x, front_y, back_x, back_y = plates_from_line(config, line)
    back = (back_x, back_y, -config.front_mm - config.gap_mm)
    front = (front_x, front_y, -config.front_mm)
    tip = tip_mm(line, depth_mm)
    z_axis_mm = machine_from_line(config, line, depth_mm)[2]
    # from the back joint to the tip: what the carriage has pushed through it
    assert math.dist(back, tip) == pytest.approx(
        abs(config.offset_z_mm - z_axis_mm + config.front_mm + config.gap_mm), abs=1e-9
    )
    along = [(f - b) / math.dist(front, back) for f, b in zip(front, back, strict=True)]
    assert along == pytest.approx(list(line.direction), abs=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-95, 95), st.floats(-95, 95), depths)
def test_a_straight_line_is_the_coplanar_rig(x_mm: float, y_mm: float, depth_mm: float) -> None:
    x, y, z = machine_from_rig(RigConfig(), (x_mm, y_mm, depth_mm))
    assert machine_from_line(CONFIG, GuideLine(x_mm, y_mm), depth_mm) == pytest.approx((x, y, z, x, y))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.builds(tilted, st.floats(-120, 120), st.floats(-120, 120), st.floats(0, 60), st.floats(0, 360)))
def test_a_line_is_refused_exactly_when_it_is_out_of_angle_or_reach(line: GuideLine) -> None:
    within = line.angle_deg <= 20.0 and all(abs(v) <= 95.0 for v in plates_from_line(CONFIG, line))
    why = why_not_line(CONFIG, line)
    if within:
        assert why is None
        for value in machine_from_line(CONFIG, line, 0.0)[:2] + machine_from_line(CONFIG, line, 0.0)[3:]:
            assert -200.0 <= value <= 0.0
    elif line.angle_deg > 20.001 or any(abs(v) > 95.001 for v in plates_from_line(CONFIG, line)):
        assert why is not None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (tilted(0, 0, 25, 0), "tilted by 25.0 deg"),
        (tilted(90, 0, 15, 180), "back plate's x"),
        (GuideLine(96.0, 0.0), "front plate's x"),
        (GuideLine(math.nan, 0.0), "not made of numbers"),
        (GuideLine(0.0, 0.0, (0.0, 0.0, -1.0)), "into the patient"),
        (GuideLine(0.0, 0.0, (0.0, 0.5, 1.0)), "length 1"),
    ],
)
def test_refusals_in_words(line: GuideLine, word: str) -> None:
    why = why_not_line(CONFIG, line)
    assert why is not None
    assert word in why


@settings(max_examples=100, deadline=None, derandomize=True)
@given(lines, st.floats(-40, 250))
def test_an_allowed_depth_stays_within_the_carriages_travel(line: GuideLine, depth_mm: float) -> None:
    if why_not_depth_along(CONFIG, line, depth_mm) is None:
        assert -200.0 <= machine_from_line(CONFIG, line, depth_mm)[2] <= -1.0
    else:
        assert depth_mm < -18.0 or machine_from_line(CONFIG, line, depth_mm)[2] < -198.0 + 1e-9


def test_a_tilted_line_has_less_depth_and_says_so() -> None:
    why = why_not_depth_along(CONFIG, tilted(0, 0, 20, 0), 178.0)
    assert why is not None
    assert "173.508" in why
    assert why_not_depth_along(CONFIG, GuideLine(0.0, 0.0), 178.0) is None
    assert why_not_depth_along(CONFIG, GuideLine(0.0, 0.0), math.nan) is not None
