"""The simulated rig's Grbl 1.1h: what is documented and what was measured on the real one."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import GRBL_GREETING as BANNER
from simulated_bench import GRBL_RESET as RESET
from simulated_bench import RigBench, homed_rig

from simulator.grbl_firmware import GrblFirmware
from simulator.grbl_parser import GcodeError, Modal, Offsets, parse, tidy
from simulator.physics import braking, trapezoid
from simulator.rig_mechanics import X, Z

_QUIRK_TESTS = (
    "test_simulator_grbl.py",
    "test_simulator_grbl_stops.py",
    "test_drivers_rig_connect.py",
    "test_drivers_rig_quirks.py",
    "test_drivers_rig.py",
)


@pytest.fixture
def rig() -> RigBench:
    return homed_rig()


# -- greeting, settings, modes ------------------------------------------------------------------------------


def test_it_is_locked_until_homed() -> None:
    bench = RigBench()
    assert bench.greeting == bench.say(RESET) == BANNER
    assert bench.state() == "Alarm"
    assert bench.say("G53G1X-5F100\n") == ["error:9"]
    assert bench.say("$X\n") == ["[MSG:Caution: Unlocked]", "ok"]
    assert bench.state() == "Idle"


def test_the_greeting_is_bit_for_bit(rig: RigBench) -> None:
    rig.firmware.receive(RESET, rig.now_ns)
    assert rig.firmware.take() == b"\r\nGrbl 1.1h ['$' for help]\r\n"


def test_identity_settings_and_offsets_as_the_page_demands(rig: RigBench) -> None:
    version, options, ok = rig.say("$I\n")
    assert version.startswith("[VER:1.1h.20190830:SIM-RIG-")
    assert (options[:5], ok) == ("[OPT:", "ok")
    lines = rig.say("$$\n")
    demanded = (
        "$0=10 $1=255 $3=0 $5=0 $6=0 $10=1 $13=0 $20=1 $21=1 $22=1 $23=0 $27=1.000 $30=1000 $32=0 "
        "$100=200.000 $101=200.000 $102=200.000 $110=3000.000 $111=3000.000 $112=1200.000 "
        "$120=200.000 $121=200.000 $122=100.000 $130=200.000 $131=200.000 $132=200.000"
    )
    assert set(demanded.split()) <= set(lines)
    assert lines[-1] == "ok"
    lines = rig.say("$#\n")
    assert lines[0] == "[G54:0.000,0.000,0.000]"
    assert lines[-2:] == ["[PRB:0.000,0.000,0.000:0]", "ok"]


def test_settings_are_kept_without_power(rig: RigBench) -> None:
    assert rig.say("$110=1500\n$N0=G91\nG10L2P1X1\n") == ["ok"] * 3
    rig.firmware.power_cut(rig.now_ns)
    rig.firmware = GrblFirmware(rig.mechanics, rig.store, np.random.default_rng(1), start_ns=rig.now_ns)
    assert rig.say("") == BANNER
    assert "$110=1500.000" in rig.say("$$\n")
    assert "[G54:1.000,0.000,0.000]" in rig.say("$#\n")
    assert rig.say("$N\n") == ["$N0=G91", "$N1=", "ok"]
    assert rig.say("$H\n", 60.0) == [">G91:ok", "ok"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("$99=1", "error:3"),
        ("$nonsense", "error:3"),
        ("$110=x", "error:2"),
        ("$110=-1", "error:4"),
        ("$0=2", "error:6"),
        ("X", "error:2"),
        ("G1XF100", "error:2"),
        ("1G", "error:1"),
        ("G1X-5", "error:22"),
        ("G5", "error:20"),
        ("M7", "error:20"),
        ("Q1", "error:20"),
        ("G0G1X-5", "error:21"),
        ("M8.5", "error:23"),
        ("G28G0X-5", "error:24"),
        ("G0X-5X-6", "error:25"),
        ("G92", "error:26"),
        ("G10L2X1", "error:28"),
        ("G4", "error:28"),
        ("G10L2P9X1", "error:29"),
        ("G53G80", "error:30"),
        ("G80X-5", "error:31"),
        ("G38.2X-1Y-1Z-1F100", "error:33"),
        ("G0X-5P3", "error:36"),
        ("G1F-5", "error:4"),
        ("G1" + "X" * 100, "error:11"),
        ("", "ok"),
        ("(a comment) ; and another", "ok"),
        ("g21 g90 g94", "ok"),
    ],
)
def test_answers_to_lines(rig: RigBench, text: str, answer: str) -> None:
    assert rig.say(text + "\n") == [answer]
    assert rig.state() == "Idle"


def test_soft_limits_need_homing(rig: RigBench) -> None:
    assert rig.say("$22=0\n") == ["ok"]
    assert {"$20=0", "$22=0"} <= set(rig.say("$$\n"))
    assert rig.say("$20=1\n") == ["error:10"]
    assert rig.say("$H\n") == ["error:5"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(alphabet="GMXYZFPLTNSIJK0123456789.-+ ()$", max_size=40))
def test_the_parser_answers_anything(text: str) -> None:
    try:
        instruction = parse(tidy(text), Modal(), Offsets(), (-1.0, -1.0, -1.0))
    except GcodeError:
        return
    assert all(math.isfinite(v) for target in instruction.targets_mm for v in target)


def test_relative_inches_and_work_offsets() -> None:
    offsets = Offsets(systems=((10.0, 0.0, 0.0), *(((0.0, 0.0, 0.0),) * 5)))
    at = (-50.0, -50.0, -50.0)
    modal = Modal(feed_mm_min=100.0)
    assert parse("G91G20G1X1", modal, offsets, at).targets_mm == ((-24.6, -50.0, -50.0),)
    assert parse("G1X1", modal, offsets, at).targets_mm == ((11.0, -50.0, -50.0),)
    assert parse("G53G1X1", modal, offsets, at).targets_mm == ((1.0, -50.0, -50.0),)


# -- motion ------------------------------------------------------------------------------------------------


def test_ok_means_parsed_not_done(rig: RigBench) -> None:
    assert rig.say("G53G1X-100.000Y-90.000F3000\n") == ["ok"]
    assert rig.state() == "Run"
    rig.say("", 60.0)
    assert rig.state() == "Idle"
    assert rig.place() == (-100.0, -90.0, -1.0)


def test_a_move_takes_the_time_of_its_trapezoid(rig: RigBench) -> None:
    rig.say("G53G1X-100.000F3000\n")
    seconds = 99.0 / 50.0 + 50.0 / 200.0  # way / speed + speed / acceleration
    rig.say("", seconds - 0.002)
    assert rig.state() == "Run"
    rig.say("", 0.004)
    assert rig.state() == "Idle"


def test_the_slowest_axis_limits_the_feed(rig: RigBench) -> None:
    rig.say("G53G1Z-101.000F9999\n")
    rig.say("", 2.0)
    (report,) = rig.say("?")
    assert "FS:1200,0" in report


def test_reports_carry_offsets_and_overrides_now_and_then(rig: RigBench) -> None:
    reports = [rig.say("?")[0] for _ in range(40)]
    with_offsets = [i for i, text in enumerate(reports) if "WCO:" in text]
    assert np.diff(with_offsets).tolist() == [10] * (len(with_offsets) - 1)
    assert sum("|Ov:100,100,100" in text for text in reports) >= 3
    assert all(text.startswith("<Idle|MPos:-1.000,-1.000,-1.000|FS:0,0") for text in reports)


def test_fifteen_blocks_are_planned_and_the_next_ok_waits(rig: RigBench) -> None:
    answers = []
    for i in range(20):
        answers += rig.say(f"G53G1X{-2 - i}.000F60\n")
        if not answers or len(answers) <= i:
            break
    assert len(answers) == 15
    assert rig.say("", 1.5) == ["ok"]


def test_lines_without_flow_control_are_lost_without_a_word(rig: RigBench) -> None:
    lines = "".join(f"G53G1X{-2 - i * 0.5:.3f}F300\n" for i in range(200))
    answers = rig.say(lines, 300.0)
    assert 15 <= answers.count("ok") < 60
    assert rig.state() == "Idle"


def test_hold_is_controlled_and_resumes_where_it_was_going(rig: RigBench) -> None:
    rig.say("G53G1X-100.000F3000\n", 1.0)
    assert rig.say("!") == []
    assert rig.state() == "Hold:1"
    rig.say("", 1.0)
    assert rig.state() == "Hold:0"
    held = rig.place()
    assert rig.say("$G\n", 5.0) == [], "no line is answered in a hold"
    assert rig.place() == held
    assert rig.say("~")[-1] == "ok"
    rig.say("", 10.0)
    assert rig.place() == (-100.0, -1.0, -1.0)
    assert rig.say("!") == []
    assert rig.state() == "Hold:0", "a hold at rest is a hold too"
    rig.say("~")
    assert rig.state() == "Idle"


def test_coolant_waits_for_the_end_of_motion(rig: RigBench) -> None:
    rig.say("G53G1X-51.000F3000\n")
    assert rig.say("M8\n") == []
    assert not rig.mechanics.is_closed
    assert rig.say("", 5.0) == ["ok"]
    assert rig.mechanics.is_closed
    assert rig.say("M9\n") == ["ok"]
    assert not rig.mechanics.is_closed


def test_a_stalled_motor_is_invisible(rig: RigBench) -> None:
    rig.mechanics.stall(X)
    rig.say("G53G1X-50.000F3000\n", 10.0)
    assert rig.place()[X] == -50.0
    assert rig.mechanics.carriage_mm[X] == pytest.approx(99.0, abs=0.1)


def test_a_flipped_top_bit_swallows_a_digit_and_the_move_goes_wrong(rig: RigBench) -> None:
    text = bytearray(b"G53G1Z-21.000F600\n")
    text[7] ^= 0x80  # the 2
    assert rig.say(bytes(text), 10.0) == ["ok"]
    assert rig.place()[Z] == -1.0


def test_wrong_steps_per_mm_move_wrongly_and_are_not_seen(rig: RigBench) -> None:
    rig.say("$102=400\n")
    rig.say("G53G1Z-11.000F600\n", 5.0)
    assert rig.place()[Z] == -11.0
    assert rig.mechanics.carriage_mm[Z] == pytest.approx(-19.0 + 20.0, abs=0.1)


# -- homing --------------------------------------------------------------------------------------------------


def test_status_is_unanswered_while_homing() -> None:
    bench = RigBench()
    bench.say("$H\n")
    for _ in range(5):
        assert bench.say("?", 0.5) == []
    report, ok = bench.say("", 60.0)
    assert report.startswith("<Home|MPos:-1.000,-1.000,-1.000")
    assert ok == "ok"
    assert bench.state() == "Idle"


def test_homing_repeats_within_its_scatter() -> None:
    bench = RigBench()
    places = []
    for _ in range(30):
        bench.home()
        places.append(bench.mechanics.carriage_mm)
    sigma = np.std(places, axis=0)
    assert ((sigma > 0.004) & (sigma < 0.02)).all()
    assert np.allclose(np.mean(places, axis=0), [99.0, 99.0, -19.0], atol=0.05)


@pytest.mark.parametrize(("fault", "alarm"), [("break_switch", 9), ("push_switch", 8)])
def test_homing_fails_without_a_good_switch(fault: str, alarm: int) -> None:
    bench = RigBench()
    getattr(bench.mechanics, fault)(Z)
    assert bench.say("$H\n", 60.0) == [f"ALARM:{alarm}", *BANNER]
    assert bench.say("G53G1X-5F100\n") == ["error:9"]


def test_a_reset_ends_homing_with_its_alarm() -> None:
    bench = RigBench()
    bench.say("$H\n", 0.5)
    assert bench.say(RESET, 1.0) == ["ALARM:6", *BANNER]


# -- laws of motion ----------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.floats(0.001, 200), st.floats(0.1, 60), st.floats(10, 2000))
def test_a_profile_arrives_never_too_fast_and_knows_when(
    way: float, speed: float, acceleration: float
) -> None:
    profile = trapezoid(1000, way, speed, acceleration)
    assert profile.travelled_mm(profile.end_ns) == pytest.approx(way)
    times = np.linspace(1000, profile.end_ns, 50).astype(int).tolist()
    ways = [profile.travelled_mm(t) for t in times]
    assert ways == sorted(ways)
    assert max(profile.speed_mm_s(t) for t in times) <= speed * (1 + 1e-9)
    when = profile.when_ns(way / 3)
    assert when is not None
    assert profile.travelled_mm(when) == pytest.approx(way / 3, rel=1e-6, abs=1e-6)
    assert profile.when_ns(way * 1.1) is None
    stop = braking(0, speed, acceleration)
    assert stop.travelled_mm(stop.end_ns) == pytest.approx(speed**2 / (2 * acceleration))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_noise_never_stops_it_answering(noise: list[bytes]) -> None:
    bench = RigBench()
    for data in noise:
        bench.say(data, 0.7)
    bench.say(b"~\n", 1.0)
    bench.say(RESET, 300.0)
    bench.say(RESET, 1.0)
    (report,) = bench.say("?")
    assert report.startswith(("<Idle", "<Alarm"))


def test_the_page_names_a_test_for_each_way_of_grbl() -> None:
    tests = Path(__file__).parent
    page = (tests.parent / "simulator" / "DEVICES.md").read_text(encoding="utf-8")
    table = page.split("| Grbl's way | shown by | survived by |")[1].split("\n\n")[0]
    known = "".join((tests / name).read_text(encoding="utf-8") for name in _QUIRK_TESTS)
    names = [word for word in re.findall(r"`([a-z][a-z0-9_]{12,})`", table) if not word.endswith("py")]
    assert len(names) >= 26
    assert [name for name in names if f"def test_{name}(" not in known] == []
