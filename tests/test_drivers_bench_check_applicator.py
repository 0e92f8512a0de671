"""The self-test finds what is wrong with an applicator, says it in the right words, and leaves it at rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench_room import MS, ApplicatorOnBench, VirtualLine, failed
from firmware_bench import JAM, LOOP_OPEN, UNSEATED, HostDevice, host_device

from drivers.applicator_language import ApplicatorConfig
from drivers.bench_check import Bench, Finding, Tap
from drivers.bench_check_applicator import ApplicatorCheck
from simulator.applicator_board import ApplicatorBoard, ApplicatorIdentity
from simulator.applicator_firmware import ApplicatorFirmware


def applicator(fault: Callable[[ApplicatorOnBench], None], **options: Any) -> dict[str, Finding]:
    room = ApplicatorOnBench(**options)
    fault(room)
    return room.run()


def test_lost_steps_in_a_motion_are_named() -> None:
    def fault(room: ApplicatorOnBench) -> None:
        def later() -> None:
            drive, moves = room.mechanics.drive_z, [0]

            def slips(target_um: int, speed_um_s: int, now_ns: int) -> int:
                end_ns = drive(target_um, speed_um_s, now_ns)
                moves[0] += 1
                if moves[0] == 3:
                    room.mechanics.lose_steps_z(1.0, now_ns)
                return end_ns

            room.mechanics.drive_z = slips  # type: ignore[method-assign]

        room.at["step accuracy"] = later

    found = applicator(fault)
    assert "step accuracy" in failed(found)
    assert "latched AXIS" in found["step accuracy"].words
    assert "lost steps" in found["step accuracy"].remedy
    assert found["stop latency"].verdict == "not tested"
    assert "left stopped and disarmed" in failed(found)  # what latched by itself is for the person


def test_a_stuck_seed_sensor_is_named_and_the_jam_cleared() -> None:
    room = ApplicatorOnBench(with_seeds=True)
    room.mechanics.is_sensor_stuck = True
    found = room.run()
    assert {"seed 1: pulses of the seed sensor", "seed 1: outcome"} <= failed(found)
    assert "stuck" in found["seed 1: pulses of the seed sensor"].remedy
    assert "seed 2: outcome" not in found
    assert room.mechanics.seeds_spilled == 1
    assert room.device.board.latch == "NONE"


@pytest.mark.parametrize(
    ("fault", "name", "word"),
    [
        ("jam_next", "seed 1: peak force", "jam"),
        ("push_nothing_next", "seed 1: peak force", "weak"),
        ("take_two_next", "seed 1: pulses of the seed sensor", "pulse"),
    ],
)
def test_faults_of_a_stroke_are_named(fault: str, name: str, word: str) -> None:
    room = ApplicatorOnBench(with_seeds=True)
    getattr(room.mechanics, fault)()
    found = room.run()
    assert name in failed(found)
    assert word in found[name].remedy


@pytest.mark.parametrize(
    ("board", "options", "name", "word"),
    [
        (ApplicatorIdentity(capacity=20), {}, "settings", "capacity is 20, the configuration demands 15"),
        (ApplicatorIdentity(gauge=17), {}, "settings", "gauge is 17"),
        (ApplicatorIdentity(firmware=99), {}, "firmware", "firmware 99"),
        (ApplicatorIdentity(), {"identity": "SG-MICK/7"}, "identity", "SG-MICK/7 was demanded"),
    ],
)
def test_another_device_is_not_moved(
    board: ApplicatorIdentity, options: dict[str, str], name: str, word: str
) -> None:
    room = ApplicatorOnBench(board=board, identity=options.get("identity"))
    found = room.run()
    assert failed(found) == {name}
    assert word in found[name].words
    assert found["homing"].verdict == "not tested"
    assert b":MOVE " not in room.line.said


def test_a_missing_watchdog_is_stopped_by_the_stop_byte() -> None:
    class Careless(ApplicatorBoard):
        @property
        def heard_ns(self) -> int:  # type: ignore[override]
            return self._now_ns

        @heard_ns.setter
        def heard_ns(self, _value: int) -> None: ...

    room = ApplicatorOnBench()
    room.device.board.__class__ = Careless
    found = room.run()
    assert failed(found) == {"watchdog"}
    assert "WATCHDOG MISSING" in found["watchdog"].remedy
    assert (room.device.board.state, room.device.board.latch) == ("IDLE", "NONE")


class LateStop:
    """An applicator that obeys the stop byte of the latency test 120 ms late."""

    def __init__(self, room: ApplicatorOnBench) -> None:
        self.room, self.inner, self.due_ns = room, room.device, list[int]()

    def receive(self, data: bytes, now_ns: int) -> None:
        if data == b"\x18" and self.room.told[-1].endswith("stop latency"):
            self.due_ns.append(now_ns + 120 * MS)
        else:
            self.inner.receive(data, now_ns)

    def take(self) -> bytes:
        return self.inner.take()

    def next_wake(self) -> int | None:
        inner_ns = self.inner.next_wake()
        return min([*self.due_ns, *([] if inner_ns is None else [inner_ns])], default=None)

    def wake(self, now_ns: int) -> None:
        while self.due_ns and self.due_ns[0] <= now_ns:
            self.inner.receive(b"\x18", self.due_ns.pop(0))
        self.inner.wake(now_ns)


def test_a_slow_stop_is_measured() -> None:
    room = ApplicatorOnBench()
    room.line.device = LateStop(room)
    found = room.run()
    assert failed(found) == {"stop latency"}
    assert float(found["stop latency"].measured) == pytest.approx(120, abs=2)


def test_a_missing_stop_is_failed_loudly_and_tested_no_further() -> None:
    room = ApplicatorOnBench()
    room.line.down = lambda data: data.replace(b"\x18", b"")
    found = room.run()
    assert failed(found) == {"stop latency", "left stopped and disarmed"}  # its watchdog stopped it
    assert "STOP DOES NOT WORK" in found["stop latency"].remedy
    assert found["watchdog"].verdict == "not tested"
    assert room.device.board.latch == "WATCH"


def test_a_device_that_acts_twice_is_found_out() -> None:
    class Forgetful(ApplicatorFirmware):
        """Acts on each line it hears, whatever its number."""

        def receive(self, data: bytes, now_ns: int) -> None:
            self._last_line = b""
            if self._session is not None and data.startswith(b">") and b":HELLO" not in data:
                number = int(data.split(b":")[1])
                self._last_number = number - 1
            super().receive(data, now_ns)

    found = applicator(lambda _room: None, firmware=Forgetful)
    assert {"numbers: at most once", "same motion again: no action"} <= failed(found)
    assert "2 times" in found["same motion again: no action"].words


def test_a_stuck_cartridge_switch_is_named() -> None:
    class Stuck(ApplicatorBoard):
        def status(self) -> dict[str, int | str]:
            return {**super().status(), "seat": 1}

    room = ApplicatorOnBench()
    room.device.board.__class__ = Stuck
    room.mechanics.insert_cartridge(0)
    found = room.run()
    assert failed(found) == {"cartridge switch"}
    assert "stuck" in found["cartridge switch"].remedy


def test_an_open_estop_loop_and_a_latched_seed_end_the_test_before_it_moves() -> None:
    room = ApplicatorOnBench()
    room.mechanics.set_estop(True, 0)
    found = room.run()
    assert "e-stop loop is open" in found["state at the beginning"].words
    assert b":MOVE " not in room.line.said


def test_a_latched_device_that_nobody_lets_move_is_left_as_it_was() -> None:
    room = ApplicatorOnBench(refuses="travel its whole")
    room.device.board.stop("HOST", "STOP")
    found = room.run()
    assert failed(found) == set()
    assert "not touched" in found["left stopped and disarmed"].words
    assert room.device.board.latch == "STOP"


# ---------------------------------------------------------------- the reference firmware in C


class InC:
    """The compiled firmware as an endpoint of a virtual line; and the hands at its switches."""

    def __init__(self, device: HostDevice) -> None:
        self.device, self.faults = device, 0
        device.inputs(UNSEATED)

    def receive(self, data: bytes, now_ns: int) -> None:
        self.wake(now_ns)
        self.device.put(data)

    def take(self) -> bytes:
        return self.device.take(0)

    def next_wake(self) -> int:
        return (int(self.device.now_ms()) + 1) * MS

    def wake(self, now_ns: int) -> None:
        self.device.run(max(0, now_ns // MS - int(self.device.now_ms())))

    def agrees(self, _question: str) -> bool:
        return True

    def does(self, task: str, _words: str, *, count: int = 0, returned: int = 0) -> bool:
        switches = {"seat_cartridge": 0, "open_estop": LOOP_OPEN | UNSEATED}.get(task, UNSEATED)
        self.device.inputs(switches | self.faults)
        return count >= 0 <= returned


@pytest.mark.parametrize("faults", [0, JAM], ids=["sound", "jammed"])
def test_a_firmware_of_other_hands_passes_and_its_jam_is_found(faults: int) -> None:
    firmware, tap = InC(host_device()), Tap()
    firmware.faults = faults
    bench = Bench("applicator", tap, VirtualLine(tap, firmware), firmware)
    ApplicatorCheck(bench, ApplicatorConfig(15, 5000, 18), "5A17", with_seeds=True).run()
    found = {finding.check: finding for finding in bench.findings}
    if not faults:
        assert failed(found) == set()
        assert found["lost reply to FIRE and resend"].verdict == "pass"
        return
    assert "seed 1: peak force" in failed(found)
    assert "jam" in found["seed 1: peak force"].remedy
    assert found["left stopped and disarmed"].verdict == "pass"
