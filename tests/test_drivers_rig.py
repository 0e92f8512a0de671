"""The rig's driver against written conversations with stock Grbl 1.1h: motions, grip, alarms, stop."""

from __future__ import annotations

import pytest
from rig_talk import BANNER, HOME, OK, Talk, homed_talk

from drivers.rig import (
    CloseGrip,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    OpenGrip,
    ReadRig,
    RigAdvanced,
    RigCommand,
    RigDone,
    RigFailed,
    RigLinkLost,
    RigRefused,
    RigReset,
    RigStopped,
)


@pytest.fixture
def talk() -> Talk:
    return homed_talk()


# ---------------------------------------------------------------- motions


def test_across_is_done_when_it_is_there_and_not_when_ok_comes(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    talk.says("G53G1X-100.000Y-90.000F3000")
    assert talk.events() == []
    talk.is_at(HOME)  # Grbl has not begun yet
    talk.after(100)
    talk.is_at((-50.0, -45.0, -1.0), "Run")
    talk.after(100)
    talk.is_at((-100.0, -90.005, -1.0))
    done = talk.only(RigDone)
    assert (done.x_mm, done.y_mm) == pytest.approx((0.0, 9.995))


def test_depth_in_tissue_goes_by_steps_each_read_back(talk: Talk) -> None:
    talk.start(MoveDepth(-17.0, in_tissue=True))
    talk.says("G53G1Z-2.000F600")
    talk.is_at((-1.0, -1.0, -1.5), "Run")
    assert talk.events() == []
    talk.after(100)
    talk.is_at((-1.0, -1.0, -2.0))
    assert talk.only(RigAdvanced) == RigAdvanced(-18.0)
    talk.says("G53G1Z-3.000F600")
    talk.is_at((-1.0, -1.0, -3.0))
    assert talk.only(RigDone).z_mm == -17.0


def test_depth_outside_tissue_goes_at_once(talk: Talk) -> None:
    talk.start(MoveDepth(30.0, in_tissue=False))
    talk.says("G53G1Z-50.000F600")


def test_wrong_position_stops_and_counts_as_unknown(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    talk.says("G53G1X-100.000Y-90.000F3000")
    for _ in range(3):  # a flipped bit: -90 became -80, and Grbl is content
        assert talk.events() == []
        talk.is_at((-100.0, -80.0, -1.0))
        talk.after(100)
    failed = talk.only(RigFailed)
    assert not failed.position_known
    assert "-80.000" in failed.reason
    talk.host(b"!?!?")
    talk.device(b"<Hold:0|MPos:-100.000,-80.000,-1.000|FS:0,0>\r\n")
    talk.host(b"\x18")
    talk.device(BANNER)
    talk.after(100)
    assert isinstance(talk.only(RigStopped), RigStopped)
    talk.start(MoveAcross(0.0, 10.0))
    assert "home" in talk.only(RigRefused).reason


def test_leaving_the_path_stops_before_the_end(talk: Talk) -> None:
    talk.start(MoveDepth(-10.0, in_tissue=False))
    talk.says("G53G1Z-10.000F600")
    talk.is_at((-1.0, -1.0, -12.0), "Run")
    talk.after(100)
    talk.is_at((-1.0, -1.0, -13.0), "Run")
    assert isinstance(talk.only(RigFailed), RigFailed)
    talk.host(b"!?")


def test_a_lost_line_is_not_sent_again(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    talk.host(b"G53G1X-100.000Y-90.000F3000\n")
    talk.after(2000)
    for _ in range(3):
        talk.is_at(HOME)
        talk.after(100)
    failed = talk.only(RigFailed)
    assert failed.position_known
    assert talk.rig.state.position_known
    talk.host()


def test_a_lost_ok_is_made_good_by_reading_back(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    talk.host(b"G53G1X-100.000Y-90.000F3000\n")
    talk.after(2000)
    talk.is_at((-100.0, -90.0, -1.0))
    talk.device(OK)  # late: it must not answer the next line
    talk.after(1000)
    assert isinstance(talk.only(RigDone), RigDone)


def test_error_is_a_refusal_in_words(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    talk.says("G53G1X-100.000Y-90.000F3000", b"error:2\r\n")
    assert "malformed" in talk.only(RigRefused).reason


def test_silence_in_a_motion_is_a_lost_link_and_a_blind_stop(talk: Talk) -> None:
    talk.start(MoveDepth(30.0, in_tissue=False))
    talk.says("G53G1Z-50.000F600")
    talk.host(b"?")
    talk.after(1000)
    assert talk.driver.take().endswith(b"!\x18")
    failed, lost = talk.events()
    assert isinstance(failed, RigFailed)
    assert not failed.position_known
    assert isinstance(lost, RigLinkLost)
    talk.start(MoveDepth(30.0, in_tissue=False))
    assert "connected" in talk.only(RigRefused).reason


@pytest.mark.parametrize(
    ("command", "word"),
    [(MoveAcross(95.5, 0), "reach"), (MoveDepth(178.5, True), "depth"), (MoveDepth(float("nan"), True), "z")],
)
def test_beyond_reach(talk: Talk, command: RigCommand, word: str) -> None:
    talk.start(command)
    assert word in talk.only(RigRefused).reason
    talk.host()


def test_one_command_at_a_time(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    with pytest.raises(ValueError, match="still being carried out"):
        talk.start(ReadRig())


# ---------------------------------------------------------------- grip


def grip(talk: Talk, command: CloseGrip | OpenGrip, rest: str) -> None:
    talk.start(command)
    talk.says("M8" if isinstance(command, CloseGrip) else "M9")
    talk.is_at(HOME, rest=f"|FS:0,0|Ov:100,100,100{rest}")


def test_grip_is_confirmed_by_the_report(talk: Talk) -> None:
    grip(talk, CloseGrip(), "|A:F")
    assert isinstance(talk.only(RigDone), RigDone)
    assert talk.rig.state.grip_closed
    grip(talk, OpenGrip(), "")
    assert isinstance(talk.only(RigDone), RigDone)
    assert not talk.rig.state.grip_closed


def test_a_grip_that_did_not_open_counts_as_closed(talk: Talk) -> None:
    grip(talk, OpenGrip(), "|A:F")
    assert talk.only(RigFailed).position_known
    assert talk.rig.state.grip_closed


def test_not_across_with_a_needle_held_in_the_template(talk: Talk) -> None:
    grip(talk, CloseGrip(), "|A:F")
    talk.start(MoveDepth(-18.0, in_tissue=False))
    talk.says("G53G1Z-2.000F600")
    talk.is_at((-1.0, -1.0, -2.0))
    talk.events()
    talk.start(MoveAcross(0.0, 0.0))
    assert "grip" in talk.only(RigRefused).reason
    talk.start(MoveDepthHome(in_tissue=True))
    talk.says("G53G1Z-1.000F600")
    talk.is_at(HOME)
    talk.only(RigDone)
    talk.start(MoveAcross(0.0, 0.0))
    talk.says("G53G1X-100.000Y-100.000F3000")


# ---------------------------------------------------------------- alarms, restarts, stop


def test_after_alarm_1_only_a_reset_is_sent_before_homing(talk: Talk) -> None:
    talk.start(MoveAcross(0.0, 10.0))
    talk.says("G53G1X-100.000Y-90.000F3000", b"ALARM:1\r\n")
    alarm, failed = talk.events()
    assert alarm.code == 1
    assert not failed.position_known
    talk.after(10_000)
    talk.host()  # nothing is answered now, so nothing is asked
    talk.start(HomeRig())
    talk.host(b"\x18")
    talk.after(500)
    talk.host(b"\x18")  # the first one was swallowed
    talk.device(BANNER, b"[MSG:'$H'|'$X' to unlock]\r\n", OK)
    talk.after(100)
    talk.says("$H")
    talk.is_at(HOME)


def test_a_restart_nobody_asked_for(talk: Talk) -> None:
    grip(talk, CloseGrip(), "|A:F")
    talk.events()
    talk.device(BANNER)
    assert isinstance(talk.only(RigReset), RigReset)
    assert not talk.rig.state.position_known
    assert not talk.rig.state.grip_closed


def test_stop_holds_first_and_resets_after(talk: Talk) -> None:
    talk.start(MoveDepth(30.0, in_tissue=False))
    talk.says("G53G1Z-50.000F600")
    talk.stop()
    assert talk.only(RigFailed) == RigFailed(MoveDepth(30.0, False), "stopped", False)
    talk.host(b"!?")
    talk.device(b"<Hold:1|MPos:-1.000,-1.000,-9.000|FS:200,0>\r\n")
    talk.host()
    talk.device(b"<Hold:0|MPos:-1.000,-1.000,-9.500|FS:0,0>\r\n")
    talk.host(b"\x18")
    talk.device(b"ALARM:3\r\n", BANNER)
    talk.after(100)
    assert talk.only(RigStopped).z_mm == pytest.approx(-10.5)
    assert not talk.rig.state.position_known


def test_stop_where_hold_is_deaf_resets_after_half_a_second(talk: Talk) -> None:
    talk.start(HomeRig())
    talk.host(b"$H\n")
    talk.stop()
    talk.after(500)
    assert talk.driver.take().endswith(b"\x18")
    talk.device(b"ALARM:6\r\n", BANNER)
    talk.after(100)
    assert isinstance(talk.events()[-1], RigStopped)


def test_stop_overtakes_a_line_that_has_not_left(talk: Talk) -> None:
    talk.start(MoveDepth(30.0, in_tissue=False))
    talk.stop()
    talk.host(b"!?")


def test_a_stop_nobody_acknowledges_is_said_so(talk: Talk) -> None:
    talk.stop()
    talk.after(6000)
    assert isinstance(talk.only(RigLinkLost), RigLinkLost)


def test_idle_rig_is_looked_at_each_second_and_missed(talk: Talk) -> None:
    talk.after(1000)
    talk.is_at(HOME)
    talk.after(1000)
    talk.host(b"?")
    talk.after(1000)
    assert isinstance(talk.only(RigLinkLost), RigLinkLost)
