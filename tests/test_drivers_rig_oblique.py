"""The oblique rig: the driver sends X Y Z A B to a simulated five-axis grblHAL, and the needle truly stands there."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from rig_pair import Pair

from drivers.kinematics_oblique import GuideLine, ObliqueConfig, line_from_machine, tip_mm
from drivers.rig import (
    AimGuide,
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    RigConfig,
    RigConnected,
    RigDone,
    RigDriver,
    RigFailed,
    RigRefused,
    RigStopped,
)
from simulator.cable import Faults
from simulator.grbl_firmware import GrblFirmware
from simulator.grbl_kind import OBLIQUE, STOCK
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import OBLIQUE as FIVE_AXES
from simulator.rig_mechanics import RigMechanics
from tests.transcript import Transcript

CONFIG = ObliqueConfig()
TILT = (math.sin(math.radians(12)), 0.0, math.cos(math.radians(12)))


def oblique(seed: int = 1, faults: Faults | None = None) -> Pair:
    return Pair(seed=seed, config=CONFIG, kind=OBLIQUE, parameters=FIVE_AXES, faults=faults)


def truly(pair: Pair) -> tuple[GuideLine, float]:
    x, y, z, a, b = pair.mechanics.axes_mm
    return line_from_machine(CONFIG, (x, y, z, a, b))


@pytest.fixture
def pair() -> Pair:
    return oblique().ready()


def test_it_says_who_it_is_in_five_axes() -> None:
    pair = oblique()
    event = pair.do(ConnectRig())
    assert event == RigConnected("SIM-RIG-1007", True, "1.1f")
    assert isinstance(pair.do(HomeRig()), RigDone)
    assert pair.mechanics.axes_mm == pytest.approx((-1.0,) * 5, abs=0.06)


@pytest.mark.parametrize(("x_mm", "y_mm", "towards_deg", "angle_deg"), [
    (0, 0, 0, 12), (30, -20, 200, 20), (-50, 40, 90, 5), (10, 10, 0, 0),
])  # fmt: skip
def test_guide_and_tip_truly_stand_where_they_were_sent(
    pair: Pair, x_mm: float, y_mm: float, towards_deg: float, angle_deg: float
) -> None:
    angle, towards = math.radians(angle_deg), math.radians(towards_deg)
    side = math.sin(angle)
    direction = (side * math.cos(towards), side * math.sin(towards), math.cos(angle))
    assert isinstance(pair.do(AimGuide(x_mm, y_mm, direction)), RigDone)
    pair.mechanics.hand_needle("N1")
    pair.do(CloseGrip())
    done = pair.do(MoveDepth(85.0, True))
    assert isinstance(done, RigDone)
    assert (done.x_mm, done.y_mm, done.z_mm) == pytest.approx((x_mm, y_mm, 85.0), abs=0.01)
    line, depth_mm = truly(pair)
    wanted = tip_mm(GuideLine(x_mm, y_mm, direction), 85.0)
    assert tip_mm(line, depth_mm) == pytest.approx(wanted, abs=0.2), "slack and homing of 0.02 mm, lengthened"
    assert pair.driver.state.direction == pytest.approx(direction, abs=2e-4)
    back = pair.do(MoveDepthHome(in_tissue=True))
    assert isinstance(back, RigDone)
    assert pair.driver.state.at_home


def test_in_tissue_only_the_depth_axis_moves_and_by_steps(pair: Pair) -> None:
    pair.do(AimGuide(0.0, 0.0, TILT))
    pair.mechanics.hand_needle("N1")
    pair.do(CloseGrip())
    del pair.sent[:]
    pair.do(MoveDepth(20.0, True))
    lines = re.findall(rb"G53G1([^\n]*)\n", bytes(pair.sent))
    assert all(line.startswith(b"Z") and b"A" not in line for line in lines)
    depths = [float(line[1:].split(b"F")[0]) for line in lines]
    assert max(abs(np.diff(depths))) <= 1.001
    assert isinstance(pair.do(AimGuide(5.0, 0.0, TILT)), RigRefused), "not across with a needle held"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (AimGuide(0.0, 0.0, (math.sin(0.4), 0.0, math.cos(0.4))), "tilted by 22.9 deg"),
        (AimGuide(90.0, 0.0, (-TILT[0], 0.0, TILT[2])), "back plate's x"),
        (MoveAcross(96.0, 0.0), "front plate's x"),
        (MoveDepth(178.5, False), "outside this line's"),
    ],
)
def test_beyond_reach_or_angle(pair: Pair, command: AimGuide | MoveAcross | MoveDepth, word: str) -> None:
    refused = pair.do(command)
    assert isinstance(refused, RigRefused)
    assert word in refused.reason


def test_straight_across_moves_both_plates_alike(pair: Pair) -> None:
    assert isinstance(pair.do(MoveAcross(20.0, -10.0)), RigDone)
    x, y, _, a, b = pair.mechanics.axes_mm
    assert (x, y) == pytest.approx((a, b), abs=0.06)
    assert truly(pair)[0].angle_deg < 0.1


@pytest.mark.parametrize(
    ("config", "kind", "word"),
    [(RigConfig(), OBLIQUE, "it runs Grbl 1.1f"), (CONFIG, STOCK, "it runs Grbl 1.1h")],
)
def test_the_other_rig_is_refused(config: RigConfig, kind: object, word: str) -> None:
    parameters = FIVE_AXES if kind is OBLIQUE else None
    pair = Pair(config=config, kind=OBLIQUE if kind is OBLIQUE else STOCK, parameters=parameters)
    refused = pair.do(ConnectRig())
    assert isinstance(refused, RigRefused)
    assert word in refused.reason


def test_other_settings_are_refused_by_name() -> None:
    pair = oblique()
    pair.firmware.receive(b"$104=201\n$376=1\n", 0)
    pair.firmware.take()
    refused = pair.do(ConnectRig())
    assert isinstance(refused, RigRefused)
    assert "$104=201" in refused.reason
    assert "$376=1" in refused.reason


def test_a_board_with_other_axes_is_refused() -> None:
    talk = Transcript(RigDriver(CONFIG))
    talk.start(ConnectRig())
    talk.host(b"\x18")
    talk.device(b"\r\nGrblHAL 1.1f ['$' or '$HELP' for help]\r\n")
    talk.after(100)
    talk.host(b"$I\n")
    talk.device(b"[VER:1.1f.20240101:RIG-0007]\r\n[AXS:4:XYZA]\r\nok\r\n")
    (refused,) = talk.events()
    assert isinstance(refused, RigRefused)
    assert refused.reason == "its axes are 4:XYZA, the configuration demands XYZAB"


def test_a_stop_in_a_motion_of_the_guide(pair: Pair) -> None:
    assert isinstance(pair.do(AimGuide(0.0, 0.0, TILT), stop_after_ms=700), RigStopped)
    assert not pair.driver.state.position_known
    assert isinstance(pair.do(HomeRig()), RigDone)


def test_a_limit_switch_of_the_back_plate_breaks_a_motion_off(pair: Pair) -> None:
    pair.driver.start(MoveAcross(0.0, 0.0), pair.now_ns)
    pair.run(until_ns=pair.now_ns + 500_000_000)
    pair.mechanics.push_switch(4)
    pair.run()
    assert isinstance(pair.events[-1], RigFailed)
    assert not pair.driver.state.position_known


def test_questions_are_answered_while_it_homes() -> None:
    firmware = GrblFirmware(
        RigMechanics(np.random.default_rng(1), parameters=FIVE_AXES),
        NonVolatile(),
        np.random.default_rng(2),
        kind=OBLIQUE,
    )
    assert firmware.take().startswith(b"\r\nGrblHAL 1.1f [")
    firmware.receive(b"$H\n?", 0)
    assert re.match(rb"<Home\|MPos:(-?\d+\.\d{3},){4}-?\d+\.\d{3}\|", firmware.take())
    firmware.wake(60_000_000_000)
    assert firmware.take().endswith(b"ok\r\n")
    firmware.receive(b"?$#\n", 60_000_000_000)
    assert b"[G54:0.000,0.000,0.000,0.000,0.000]" in firmware.take()


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_never_end_in_done_at_a_wrong_place(seed: int) -> None:
    pair = oblique(seed).ready()
    pair.set_faults(Faults(flip=0.02))
    for line in (GuideLine(0.0, 0.0, TILT), GuideLine(-30.0, 20.0, (0.0, TILT[0], TILT[2]))):
        event = pair.do(AimGuide(line.x_mm, line.y_mm, line.direction))
        if isinstance(event, RigDone):
            assert tip_mm(truly(pair)[0], 0.0) == pytest.approx(tip_mm(line, 0.0), abs=0.1)
        elif not pair.driver.state.position_known:
            return
