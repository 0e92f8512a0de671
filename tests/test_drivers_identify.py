"""Who hangs on a port: told by answers, with bytes that move nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated_bench import ApplicatorBench, RigBench

from drivers.identify import PING, Prober, Seen, choose, why_not_that_one
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import RigMechanics

MS = 1_000_000


class Scripted:
    """A device that answers certain lines, and says ``first`` by itself."""

    def __init__(self, answers: dict[bytes, bytes], first: bytes = b"") -> None:
        self._answers, self._out, self._heard = answers, bytearray(first), b""

    def receive(self, data: bytes, _now_ns: int) -> None:
        self._heard += data
        for said, answer in self._answers.items():
            if said in self._heard:
                self._heard = self._heard.replace(said, b"", 1)
                self._out += answer

    def take(self) -> bytes:
        out, self._out = bytes(self._out), bytearray()
        return out

    def wake(self, _now_ns: int) -> None: ...


def probe(device: Any, start_ns: int = 0) -> tuple[Seen, bytes]:
    """What the prober sees, and all that it said."""
    prober, said, now_ns = Prober("5A17"), b"", start_ns
    for _ in range(400):
        prober.wake(now_ns)
        out = prober.take()
        said += out
        if out:
            device.receive(out, now_ns)
        device.wake(now_ns)
        if back := device.take():
            prober.receive(back, now_ns)
        if prober.seen is not None:
            return prober.seen, said
        now_ns += 10 * MS
    raise AssertionError("it never knows")


def a_rig(serial: str = "1007") -> GrblFirmware:
    return GrblFirmware(
        RigMechanics(np.random.default_rng(1)), NonVolatile(), np.random.default_rng(2), serial=serial
    )


def test_the_rig_is_known_by_its_name_and_nothing_but_two_questions_is_said() -> None:
    seen, said = probe(a_rig())
    assert seen == Seen("rig", "SIM-RIG-1007", True, "Grbl 1.1h")
    assert said == b"?$I\n"


def test_the_applicator_is_known_by_an_error_that_changes_nothing_and_then_greeted() -> None:
    bench = ApplicatorBench()
    seen, said = probe(bench.firmware)
    assert seen == Seen("applicator", "SG-MICK/1042", True, "100")
    assert said.startswith(b"?" + PING)  # the first is spoilt by "?", the second is answered


def test_neither_device_moves_latches_or_books_anything() -> None:
    bench = ApplicatorBench()
    bench.make_ready()
    before = bench.ask("STAT")
    bench.pass_time(600)
    probe(bench.firmware, bench.now_ns)
    bench.now_ns += 5_000 * MS
    bench.hello()
    assert bench.ask("STAT") == before
    rig = RigBench()
    rig.home()
    place = rig.place()
    probe(rig.firmware, rig.now_ns)
    rig.now_ns += 5_000 * MS
    assert (rig.state(), rig.place()) == ("Idle", place)


def test_half_a_line_of_a_crashed_host_is_not_carried_out() -> None:
    rig = RigBench()
    rig.home()
    place = rig.place()
    rig.say("G53G1F600X-1")  # of X-100
    seen, said = probe(rig.firmware, rig.now_ns)
    assert (seen.kind, said) == ("rig", b"?$I\n$I\n")
    rig.now_ns += 5_000 * MS
    assert (rig.state(), rig.place()) == ("Idle", place)


def test_a_rig_at_work_is_left_alone() -> None:
    seen, said = probe(Scripted({b"?": b"<Run|MPos:1.000,2.000,3.000|FS:100,0>\r\n"}))
    assert seen.kind == "other"
    assert "at work" in seen.in_words()
    assert said == b"?"


@pytest.mark.parametrize(
    ("device", "kind", "word"),
    [
        (Scripted({}), "silent", "nothing answers"),
        (Scripted({}, b"+++ MODEM READY\r\n"), "other", "MODEM"),
        (Scripted({b"?": b"<Idle|MPos:0,0,0|FS:0,0>\r\n", b"$I\n": b"[VER:1.1h.20190830:LASER]\r\nok\r\n"}),
         "other", "LASER"),
        (Scripted({}, b"\xff\x00" * 4000), "other", "neither"),
    ],
    ids=["silent", "modem", "another Grbl", "noise"],
)  # fmt: skip
def test_other_things_are_named_and_not_taken(device: Scripted, kind: str, word: str) -> None:
    seen, said = probe(device)
    assert seen.kind == kind
    assert word in seen.in_words()
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in said)
    assert b"HELLO" not in said


def test_one_is_chosen_none_or_two_are_refused_with_what_was_seen() -> None:
    rig, mick, quiet = Seen("rig", "RIG-1"), Seen("applicator", "SG-MICK/7"), Seen("silent")
    assert choose("rig", {"a": mick, "b": rig, "c": quiet}) == "b"
    with pytest.raises(ValueError, match=r"no rig was found \(a: the applicator SG-MICK/7 answers|no rig"):
        choose("rig", {"a": mick, "c": quiet})
    with pytest.raises(ValueError, match=r"2 devices answer as rig .*a: the rig RIG-1; b: the rig RIG-1"):
        choose("rig", {"a": rig, "b": rig})
    with pytest.raises(ValueError, match="there is no serial port"):
        choose("applicator", {})


def test_the_other_kind_is_refused_by_name_a_silent_one_is_left_to_the_driver() -> None:
    why = why_not_that_one("rig", "/dev/ttyUSB0", Seen("applicator", "SG-MICK/7"))
    assert why is not None
    assert "/dev/ttyUSB0" in why
    assert "SG-MICK/7" in why
    assert why_not_that_one("rig", "x", Seen("silent")) is None
    assert why_not_that_one("rig", "x", Seen("rig", "RIG-1")) is None


def test_a_noisy_first_answer_is_asked_for_again() -> None:
    class Noisy:
        def __init__(self) -> None:
            self.inner = ApplicatorFirmware(ApplicatorBench().mechanics, NonVolatile())
            self.spoilt = 0

        def receive(self, data: bytes, now_ns: int) -> None:
            self.inner.receive(data, now_ns)

        def wake(self, now_ns: int) -> None:
            self.inner.wake(now_ns)

        def take(self) -> bytes:
            out = self.inner.take()
            if b"HELLO" in out and not self.spoilt:
                self.spoilt += 1
                return out.replace(b"cap=15", b"cap=95")
            return out

    assert probe(Noisy())[0].identity == "SG-MICK/1042"
