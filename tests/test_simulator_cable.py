"""Laws of the cable, the power switch and the non-volatile store."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import MS

from simulator import line
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.cable import PERFECT, Cable, Faults, Lane
from simulator.nonvolatile import NonVolatile, PowerCutError
from simulator.power import Powered

quick = settings(max_examples=50, deadline=None, derandomize=True)
CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.integers(0, 5 * MS)), max_size=12)


class _Echo:
    """Answers each byte with itself, and remembers when it came."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self._out = b""

    def receive(self, data: bytes, now_ns: int) -> None:
        self.heard.append((now_ns, data))
        self._out += data

    def take(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def next_wake(self) -> int | None:
        return None

    def wake(self, now_ns: int) -> None:
        del now_ns


def _through(faults: Faults, chunks: list[tuple[bytes, int]], seed: int = 1) -> tuple[bytes, _Echo]:
    echo = _Echo()
    cable = Cable(echo, np.random.default_rng(seed), faults, PERFECT)
    now_ns, back = 0, b""
    for data, pause_ns in chunks:
        cable.receive(data, now_ns)
        now_ns += pause_ns
        cable.wake(now_ns)
        back += cable.take()
    while (due_ns := cable.next_wake()) is not None:
        cable.wake(due_ns)
    return back + cable.take(), echo


@quick
@given(CHUNKS)
def test_a_perfect_cable_is_not_there(chunks: list[tuple[bytes, int]]) -> None:
    sent = b"".join(data for data, _ in chunks)
    back, echo = _through(PERFECT, chunks)
    assert back == sent
    assert [data for _, data in echo.heard] == [data for data, _ in chunks]


@quick
@given(CHUNKS, st.integers(0, 3 * MS), st.integers(0, 9 * MS))
def test_delay_keeps_bytes_and_order(chunks: list[tuple[bytes, int]], low: int, more: int) -> None:
    back, echo = _through(Faults(delay_ns=(low, low + more)), chunks)
    assert back == b"".join(data for data, _ in chunks)
    times = [when for when, _ in echo.heard]
    assert times == sorted(times)


@quick
@given(CHUNKS)
def test_a_slow_line_delivers_one_byte_at_a_time(chunks: list[tuple[bytes, int]]) -> None:
    back, echo = _through(Faults(byte_ns=86_806), chunks)
    assert back == b"".join(data for data, _ in chunks)
    assert all(len(data) == 1 for _, data in echo.heard)
    times = [when for when, _ in echo.heard]
    assert all(b - a >= 86_806 for a, b in pairwise(times))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["loss", "flip", "duplicate"])
def test_faults_come_as_often_as_asked(kind: str, rate: float) -> None:
    sent = bytes(np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8))
    back, _ = _through(Faults(**{kind: rate}), [(sent, 0)])
    sigma = (rate * (1 - rate) / len(sent)) ** 0.5
    if kind == "flip":
        assert len(back) == len(sent)
        turned = [(a ^ b).bit_count() for a, b in zip(sent, back, strict=True)]
        assert set(turned) == {0, 1}
        share = sum(turned) / len(sent)
    else:
        share = abs(len(back) - len(sent)) / len(sent)
    assert abs(share - rate) < 5 * sigma


def test_the_same_seed_spoils_the_same_bytes() -> None:
    chunks = [(bytes(range(200)), 1000)]
    spoiled = [_through(Faults(loss=0.1, flip=0.1, duplicate=0.1), chunks, seed)[0] for seed in (1, 1, 2)]
    assert spoiled[0] == spoiled[1] != spoiled[2]


def test_a_cut_cable_loses_what_is_under_way_and_can_be_mended() -> None:
    echo = _Echo()
    cable = Cable(echo, np.random.default_rng(1), Faults(delay_ns=(MS, MS)))
    cable.receive(b"lost", 0)
    cable.cut()
    cable.receive(b"never", 2 * MS)
    assert cable.next_wake() is None
    cable.mend()
    cable.receive(b"heard", 3 * MS)
    cable.wake(5 * MS)
    assert cable.take() == b"heard"


def test_a_lane_is_an_endpoint_of_its_own() -> None:
    lane = Lane(Faults(delay_ns=(5, 5)), np.random.default_rng(1))
    lane.receive(b"a", 10)
    assert lane.next_wake() == 15
    lane.wake(14)
    assert lane.take() == b""
    lane.wake(15)
    assert lane.take() == b"a"


def test_firmware_behind_a_slow_cable_wakes_by_itself() -> None:
    mechanics = ApplicatorMechanics(np.random.default_rng(1))
    cable = Cable(
        ApplicatorFirmware(mechanics, NonVolatile()), np.random.default_rng(2), Faults((MS, 2 * MS), 86_806)
    )
    cable.receive(line.encode(">", "0000", 0, "HELLO", v=1, sid="0001"), 0)
    cable.receive(line.encode(">", "0001", 1, "HOME", ax="s"), 1)
    while (due_ns := cable.next_wake()) is not None and due_ns < 4000 * MS:
        cable.wake(due_ns)
    names = [line.decode(text).name for text in cable.take().split(b"\n") if text]
    assert names == ["BOOTED", "HELLO", "HOME", "HOMED", "T", "T", "T"]


def test_a_brown_out_is_another_boot_and_silence_before_it() -> None:
    mechanics, store = ApplicatorMechanics(np.random.default_rng(1)), NonVolatile()
    supply = Powered(lambda now_ns: ApplicatorFirmware(mechanics, store, start_ns=now_ns))
    assert b"BOOTED" in supply.take()
    supply.brown_out(10 * MS)
    supply.receive(line.encode(">", "0000", 0, "HELLO", v=1, sid="0001"), 11 * MS)
    assert supply.take() == b""
    assert supply.next_wake() == 60 * MS
    supply.wake(60 * MS)
    assert line.decode(supply.take()[:-1]).boot == "0002"
    supply.power_off(70 * MS)
    assert supply.next_wake() is None
    store.fail_at(store.writes + 1, written=False)
    supply.power_on(80 * MS)
    supply.wake(130 * MS)
    assert supply.take() == b"", "the power failed again while it booted"
    supply.wake(180 * MS)
    assert line.decode(supply.take()[:-1]).boot == "0003"


@pytest.mark.parametrize("written", [False, True])
def test_a_write_is_all_or_nothing(written: bool) -> None:
    store = NonVolatile()
    store.write("a", {"x": 1})
    store.fail_at(2, written=written)
    with pytest.raises(PowerCutError):
        store.write("a", {"x": 2})
    assert store.read("a", None) == {"x": 2 if written else 1}
    store.write("a", {"x": 3})
    copy = store.read("a", None)
    copy["x"] = 4
    assert store.read("a", None) == {"x": 3}


def test_a_store_on_disk_outlives_its_process(tmp_path: Path) -> None:
    NonVolatile(tmp_path / "eeprom.json").write("boot", 7)
    assert NonVolatile(tmp_path / "eeprom.json").read("boot", 0) == 7
