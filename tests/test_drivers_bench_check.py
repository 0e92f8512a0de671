"""The self-test of either device: good ones pass, the person is asked first, and a bad line is blamed itself."""

from __future__ import annotations

from typing import Any

import pytest
from bench_room import ApplicatorOnBench, RigOnBench, failed

from drivers.bench_check import Tap

# ---------------------------------------------------------------- all well


def test_a_good_applicator_passes_and_pushes_no_seed() -> None:
    room = ApplicatorOnBench()
    found = room.run()
    assert failed(found) == set()
    assert room.mechanics.seeds_spilled == 0
    assert b":ARM " not in room.line.said
    assert b":FIRE " not in room.line.said
    assert float(found["watchdog"].measured) == pytest.approx(500, abs=5)
    assert float(found["speed over the travel"].measured) == pytest.approx(
        150 / (150 / 20 + 20 / 500), abs=0.1
    )
    assert found["seeds: sensor, force, stroke"].verdict == "not tested"
    assert (room.device.board.state, room.device.board.latch) == ("IDLE", "NONE")


def test_with_seeds_two_are_pushed_and_a_lost_reply_pushes_no_third() -> None:
    room = ApplicatorOnBench(with_seeds=True)
    found = room.run()
    assert failed(found) == set()
    assert room.mechanics.seeds_spilled == 2
    assert found["lost reply to FIRE and resend"].verdict == "pass"
    assert found["counted seed fired again"].verdict == "pass"
    assert found["cartridge switch"].verdict == "pass"
    assert not room.device.board.memory.now.is_open


def test_a_good_rig_passes_and_its_soft_limits_are_on_again() -> None:
    room = RigOnBench()
    found = room.run()
    assert failed(found) == set()
    assert room.device.settings[20] == 1
    assert room.device.state == "Idle"
    assert room.line.said.count(b"$20=0") == room.line.said.count(b"$20=1") == 9


def test_every_finding_that_fails_says_what_to_do() -> None:
    room = RigOnBench()
    room.mechanics.lose_steps(0, 1.0)
    room.at["axis X: travel and lost steps"] = lambda: room.mechanics.stall(0)
    for finding in [*room.run().values()]:
        assert (finding.verdict == "fail") == bool(finding.remedy), finding


# ---------------------------------------------------------------- the person


def test_nothing_moves_before_the_person_agrees() -> None:
    room = ApplicatorOnBench(refuses="travel its whole")
    found = room.run()
    assert failed(found) == set()
    assert found["homing"].verdict == "not tested"
    assert "the person said no" in found["homing"].words
    assert b":MOVE " not in room.line.said
    assert b":HOME " not in room.line.said
    rig = RigOnBench(refuses="will be reset")
    found = rig.run()
    assert failed(found) == set()
    assert found["identity"].verdict == "pass"
    assert b"G53" not in rig.line.said
    assert b"\x18" not in rig.line.said


def test_a_latch_by_design_is_cleared_with_the_persons_word_only() -> None:
    room = ApplicatorOnBench(refuses="latched WATCH on purpose")
    found = room.run()
    assert found["watchdog"].verdict == "not tested" or "no to" in found["e-stop loop"].words
    assert room.device.board.latch == "WATCH"
    assert failed(found) == {"left stopped and disarmed"}


def test_seeds_are_not_pushed_when_the_person_says_no() -> None:
    room = ApplicatorOnBench(with_seeds=True, refuses="PUSHED OUT")
    found = room.run()
    assert found["seeds"].verdict == "not tested"
    assert b":FIRE " not in room.line.said


# ---------------------------------------------------------------- the line


@pytest.mark.parametrize("room", [ApplicatorOnBench, RigOnBench])
def test_a_noisy_line_is_blamed_itself_and_nothing_moves_on_it(room: Any) -> None:
    bench = room()
    count = [0]

    def spoil(data: bytes) -> bytes:
        count[0] += 1
        return data.replace(b"=", b"~", 1).replace(b"<Alarm", b"<Al~rm") if count[0] % 9 == 0 else data

    bench.line.up = spoil
    found = bench.run()
    assert failed(found) == {"answers lost", "line quality"}
    assert "cable" in found["answers lost"].remedy
    assert found["homing"].verdict == "not tested"
    assert b"G53" not in bench.line.said
    assert b":MOVE " not in bench.line.said


@pytest.mark.parametrize("room", [ApplicatorOnBench, RigOnBench])
def test_a_line_that_goes_away_is_told_and_nothing_hangs(room: Any) -> None:
    bench = room()
    bench.at["homing repeatability"] = lambda: setattr(bench.line, "gone", "the port is gone")
    found = bench.run()
    assert "the port is gone" in found["homing repeatability"].words
    assert found["stop latency"].verdict == "not tested"


def test_a_silent_device_is_told() -> None:
    for room in (ApplicatorOnBench(), RigOnBench()):
        room.line.up = lambda _data: b""
        found = room.run()  # type: ignore[attr-defined]
        assert "identity" in failed(found)


def test_the_tap_loses_one_line_and_no_other() -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard = b""

        def receive(self, data: bytes, _now_ns: int) -> None:
            self.heard += data

        def take(self) -> bytes:
            return b""

        def next_wake(self) -> int | None:
            return None

        def wake(self, _now_ns: int) -> None: ...

    tap, listener = Tap(), Listener()
    tap.speaker = listener
    tap.swallow(lambda text: text == b"ok")
    for byte in b"a\nok\nok\nb":
        tap.receive(bytes([byte]), 0)
    assert (listener.heard, tap.swallowed) == (b"a\nok\nb", b"ok")
