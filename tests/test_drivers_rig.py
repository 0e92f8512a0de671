"""The rig's driver against written conversations with stock Grbl 1.1h, quirks included."""

from __future__ import annotations

from typing import Any

import pytest
from transcript import Transcript

from drivers.kinematics import demanded_settings
from drivers.rig import (
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    OpenGrip,
    ReadRig,
    RigAdvanced,
    RigAlarmed,
    RigCommand,
    RigConfig,
    RigConnected,
    RigDone,
    RigDriver,
    RigFailed,
    RigLinkLost,
    RigRefused,
    RigReset,
    RigStopped,
)

BANNER = b"\r\nGrbl 1.1h ['$' for help]\r\n"
OK = b"ok\r\n"
OFFSETS = b"".join(b"[G%d:0.000,0.000,0.000]\r\n" % n for n in (54, 55, 56, 57, 58, 59, 28, 30, 92))
OFFSETS += b"[TLO:0.000]\r\n[PRB:0.000,0.000,0.000:0]\r\n"
HOME = (-1.0, -1.0, -1.0)


def settings_text(**changed: str) -> bytes:
    values = {f"${n}": f"{value:g}" for n, value in demanded_settings().items()}
    values |= {f"${key[1:]}": value for key, value in changed.items()}
    return b"".join(f"{key}={value}\r\n".encode() for key, value in values.items())


def identity(text: str = "SIM-RIG-0007", version: str = "1.1h") -> bytes:
    return f"[VER:{version}.20190830:{text}]\r\n[OPT:V,15,128]\r\n".encode()


class Talk(Transcript):
    def __init__(self, config: RigConfig | None = None) -> None:
        self.rig = RigDriver(config or RigConfig())
        super().__init__(self.rig)

    def is_at(self, axes_mm: tuple[float, float, float], word: str = "Idle", rest: str = "|FS:0,0") -> None:
        """The host asks where the rig is, and this is it."""
        self.host(b"?")
        self.device("<{}|MPos:{:.3f},{:.3f},{:.3f}{}>\r\n".format(word, *axes_mm, rest).encode())

    def says(self, line: str, *answer: bytes) -> None:
        """The host says this line, and the board answers."""
        self.host(line.encode() + b"\n")
        self.device(*(answer or (OK,)))

    def only(self, kind: type) -> Any:
        (event,) = self.events()
        assert type(event) is kind
        return event

    def connect(self, **changed: str) -> None:
        self.start(ConnectRig())
        self.host(b"\x18")
        self.device(BANNER)
        self.after(100)
        self.says("$I", identity(), OK)
        self.says("$$", settings_text(**changed), OK)

    def connect_whole(self) -> None:
        self.connect()
        self.says("$#", OFFSETS, OK)
        self.is_at((0.0, 0.0, 0.0), "Alarm")
        assert isinstance(self.only(RigConnected), RigConnected)

    def home(self) -> None:
        self.start(HomeRig())
        self.says("$H")
        self.is_at(HOME)
        self.after(100)
        self.says("G21G90G94")
        self.says("M9")
        self.only(RigDone)


@pytest.fixture
def talk() -> Talk:
    """Connected and homed."""
    talk = Talk()
    talk.connect_whole()
    assert not talk.rig.state.position_known
    talk.home()
    assert talk.rig.state.position_known
    assert talk.rig.state.at_home
    return talk


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
