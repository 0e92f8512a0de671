"""Grbl's lines and the rig's geometry."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.grbl import (
    Alarm,
    Banner,
    Bracket,
    LineSplitter,
    Ok,
    Refused,
    Setting,
    Status,
    alarm_in_words,
    error_in_words,
    parse,
)
from drivers.kinematics import (
    RigConfig,
    depth_home_mm,
    depth_steps_mm,
    machine_from_rig,
    rig_from_machine,
    why_not_across,
    why_not_depth,
)

CONFIG = RigConfig()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ok", Ok()),
        ("error:9", Refused(9)),
        ("ALARM:1", Alarm(1)),
        ("Grbl 1.1h ['$' for help]", Banner("1.1h")),
        ("$110=3000.000", Setting(110, 3000.0)),
        ("[VER:1.1h.20190830:RIG-7]", Bracket("VER", "1.1h.20190830:RIG-7")),
        ("[MSG:'$H'|'$X' to unlock]", Bracket("MSG", "'$H'|'$X' to unlock")),
        (
            "<Idle|MPos:-100.000,-90.000,-21.000|FS:0,0>",
            Status("Idle", None, (-100.0, -90.0, -21.0), None),
        ),
        (
            "<Hold:0|MPos:-1.000,-1.000,-1.000|FS:0,0|Ov:100,100,100|A:F>",
            Status("Hold", 0, (-1.0, -1.0, -1.0), True),
        ),
        (
            "<Run|MPos:-1.000,-1.000,-1.000|FS:500,0|Ov:100,100,100>",
            Status("Run", None, (-1.0, -1.0, -1.0), False),
        ),
        ("<Idle|WPos:0.000,0.000,0.000|FS:0,0>", None),
        ("<Idle|MPos:-100.0x0,-90.000,-21.000|FS:0,0>", None),
        ("okok", None),
        ("", None),
    ],
)
def test_lines(text: str, meaning: object) -> None:
    assert parse(text) == meaning


@given(st.binary(max_size=600), st.lists(st.integers(0, 700), max_size=6))
def test_any_bytes_in_any_pieces_give_the_same_lines(data: bytes, cuts: list[int]) -> None:
    whole = LineSplitter()
    pieces = LineSplitter()
    stream = data + b"\r\n<Idle|MPos:1.000,2.000,3.000|FS:0,0>\r\nok\r\n"
    edges = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    heard = [line for i in range(len(edges) - 1) for line in pieces.receive(stream[edges[i] : edges[i + 1]])]
    assert heard == whole.receive(stream)
    assert heard[-2:] == [Status("Idle", None, (1.0, 2.0, 3.0), None), Ok()]


def test_numbers_in_words() -> None:
    assert "travel" in alarm_in_words(2)
    assert "home first" in error_in_words(9)
    assert "unknown" in error_in_words(999)


@pytest.mark.parametrize(
    ("point_mm", "axes_mm"),
    [
        ((0.0, 0.0, 0.0), (-100.0, -100.0, -20.0)),
        ((95.0, -95.0, 178.0), (-5.0, -195.0, -198.0)),
        ((0.0, 10.0, 1.0), (-100.0, -90.0, -21.0)),
    ],
)
def test_axes_of_the_page(point_mm: tuple[float, float, float], axes_mm: tuple[float, float, float]) -> None:
    assert machine_from_rig(CONFIG, point_mm) == pytest.approx(axes_mm)


@given(st.tuples(*[st.floats(-200, 200)] * 3))
def test_kinematics_invert(point_mm: tuple[float, float, float]) -> None:
    assert rig_from_machine(CONFIG, machine_from_rig(CONFIG, point_mm)) == pytest.approx(point_mm, abs=1e-9)


def test_carriage_home_is_19_mm_before_the_template() -> None:
    assert depth_home_mm(CONFIG) == pytest.approx(-19.0)
    assert machine_from_rig(CONFIG, (0, 0, depth_home_mm(CONFIG)))[2] == pytest.approx(-1.0)


def test_reach() -> None:
    assert why_not_across(CONFIG, 95.0, -95.0) is None
    assert why_not_depth(CONFIG, -18.0) is None
    assert why_not_depth(CONFIG, 178.0) is None
    assert "95.100" in str(why_not_across(CONFIG, 0.0, 95.1))
    assert "178.5" in str(why_not_depth(CONFIG, 178.5))
    assert why_not_across(CONFIG, float("nan"), 0.0) is not None
    assert why_not_depth(CONFIG, float("inf")) is not None


@given(st.floats(-18, 178), st.floats(-18, 178))
def test_no_step_in_tissue_is_longer_than_1_mm(start_mm: float, end_mm: float) -> None:
    depths_mm = (start_mm, *depth_steps_mm(start_mm, end_mm, 1.0))
    assert depths_mm[-1] == end_mm
    steps_mm = [b - a for a, b in pairwise(depths_mm)]
    assert max(map(abs, steps_mm)) <= 1.0 + 1e-6
    assert all(step * (end_mm - start_mm) >= 0 for step in steps_mm)
