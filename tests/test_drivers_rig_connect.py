"""The rig's driver against written conversations with stock Grbl 1.1h: connecting and homing."""

from __future__ import annotations

import pytest
from rig_talk import BANNER, HOME, OFFSETS, OK, Talk, homed_talk, identity

from drivers.rig import (
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    RigAlarmed,
    RigConfig,
    RigFailed,
    RigLinkLost,
    RigRefused,
)


@pytest.fixture
def talk() -> Talk:
    return homed_talk()


# ---------------------------------------------------------------- connecting


def test_identity_and_state(talk: Talk) -> None:
    state = talk.rig.state
    assert (state.identity, state.simulated, state.linked) == ("SIM-RIG-0007", True, True)
    assert (state.x_mm, state.y_mm, state.z_mm) == (99.0, 99.0, -19.0)


def test_a_different_setting_is_refused_by_name() -> None:
    talk = Talk()
    talk.connect(_102="250.000")
    refused = talk.only(RigRefused)
    assert "$102" in refused.reason
    assert "$101" not in refused.reason
    assert not talk.rig.state.linked


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (identity("ENGRAVER"), "ENGRAVER"),
        (identity("SIM-RIG-0008"), "SIM-RIG-0008"),
        (identity(version="0.9j"), "0.9j"),
    ],
)
def test_another_device_is_refused(said: bytes, word: str) -> None:
    talk = Talk(RigConfig(serial="SIM-RIG-0007"))
    talk.start(ConnectRig())
    talk.host(b"\x18")
    talk.device(BANNER)
    talk.after(100)
    talk.says("$I", said, OK)
    assert word in talk.only(RigRefused).reason


def test_work_offsets_must_be_zero() -> None:
    talk = Talk()
    talk.connect()
    talk.says("$#", OFFSETS.replace(b"G54:0.000", b"G54:1.000"), OK)
    assert "G54" in talk.only(RigRefused).reason


def test_stale_bytes_and_a_stray_ok_at_open_are_harmless() -> None:
    talk = Talk()
    talk.device(b"ok\r\nok\r\n<Run|MPos:1.0")
    talk.start(ConnectRig())
    talk.host(b"\x18")
    talk.device(b"ok\r\n", BANNER, OK)  # leaving ALARM:2 emits an ok for the rejected move
    talk.after(100)
    talk.host(b"$I\n")
    talk.device(OK)  # one more, late
    talk.host()
    talk.device(identity(), OK)
    talk.host(b"$$\n")


def test_a_lost_reset_byte_is_sent_again() -> None:
    talk = Talk()
    talk.start(ConnectRig())
    talk.host(b"\x18")
    talk.after(500)
    talk.host(b"\x18")
    talk.device(BANNER)
    talk.after(100)
    talk.host(b"$I\n")


def test_nobody_there() -> None:
    talk = Talk()
    talk.start(ConnectRig())
    talk.after(5000)
    failed, lost = talk.events()
    assert isinstance(failed, RigFailed)
    assert isinstance(lost, RigLinkLost)
    assert talk.rig.next_wake() is None


# ---------------------------------------------------------------- homing


def test_nothing_moves_before_homing() -> None:
    talk = Talk()
    talk.connect_whole()
    for command in (MoveAcross(0, 0), MoveDepth(0, False), CloseGrip(), MoveDepthHome()):
        talk.start(command)
        assert "home" in talk.only(RigRefused).reason
    talk.host()


def test_homing_is_waited_for_though_nothing_is_answered() -> None:
    talk = Talk()
    talk.connect_whole()
    talk.start(HomeRig())
    talk.host(b"$H\n")
    talk.after(60_000)
    talk.host()
    talk.device(OK)
    talk.is_at(HOME)


def test_a_stray_ok_is_not_taken_for_homed() -> None:
    talk = Talk()
    talk.connect_whole()
    talk.start(HomeRig())
    talk.says("$H")  # the stray one: homing has only begun, so "?" is not answered
    for _ in range(20):
        talk.after(1000)
        assert set(talk.driver.take()) == set(b"?")
    assert not talk.rig.state.position_known
    talk.device(b"<Idle|MPos:-1.000,-1.000,-1.000|FS:0,0>\r\n", OK)
    talk.after(100)
    talk.host(b"G21G90G94\n")


def test_homing_that_ends_elsewhere_stops() -> None:
    talk = Talk()
    talk.connect_whole()
    talk.start(HomeRig())
    talk.says("$H")
    talk.is_at((-1.0, -1.0, -3.0))
    assert not talk.only(RigFailed).position_known
    talk.host(b"!?")


def test_homing_alarm_in_words() -> None:
    talk = Talk()
    talk.connect_whole()
    talk.start(HomeRig())
    talk.says("$H", b"ALARM:9\r\n")
    alarm, failed = talk.events()
    assert alarm == RigAlarmed(9, alarm.sentence)
    assert "not found" in alarm.sentence
    assert not failed.position_known
