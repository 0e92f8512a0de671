"""The depth encoder: golden bytes on both sides, the driver against its device, and lost steps seen by it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig_pair import Pair

from drivers.accuseed import (
    AccuSeedConfig,
    AccuSeedDriver,
    EncoderConnected,
    EncoderEvent,
    EncoderLost,
    EncoderRead,
    EncoderRefused,
)
from drivers.accuseed_packet import (
    Acknowledged,
    CountersInvalid,
    EncoderCounts,
    EncoderStatus,
    EncoderVersion,
    Heard,
    PacketSplitter,
    decode,
    encode,
)
from drivers.depth_check import judge_depth
from drivers.rig import CloseGrip, MoveAcross, MoveDepth, RigDone
from simulator.accuseed import AccuSeedFirmware, sealed, unsealed
from simulator.cable import Cable, Faults
from simulator.physics import Template
from simulator.rig_mechanics import RigParameters, Z

PAGE = (Path(__file__).parents[1] / "drivers" / "WIRE.md").read_text(encoding="utf-8")
GOLDEN = re.findall(r"^([0-9A-F]{4,16}) ", PAGE.split("## 3.1")[1], re.MULTILINE)
MEANT = {
    "370302000003F231": EncoderVersion("3.2", 0, 1010),
    "220022": EncoderStatus(0),
    "07FE840000000089": EncoderCounts(-380, 0, 0, "up"),
    "4704D8FFFF005A7B": EncoderCounts(1240, -1, 90, "pressed"),
    "6780007FFFFFFF63": EncoderCounts(-32768, 32767, -1, "latched"),
    "2929": CountersInvalid(),
    "FA0701": Acknowledged(7),
}


@pytest.mark.parametrize("digits", GOLDEN)
def test_golden_bytes_on_both_sides(digits: str) -> None:
    values = list(bytes.fromhex(digits))
    packet = decode(digits.encode())
    assert packet is not None
    assert packet.code == values[0]
    assert encode(values[0], bytes(values[1:-1])) == b"\x02" + digits.encode() + b"\x03"
    assert unsealed(digits) == values[:-1]
    assert sealed(values[:-1]) == encode(values[0], bytes(values[1:-1]))
    if digits in MEANT:
        assert packet.answer == MEANT[digits]


def test_the_page_has_its_golden_bytes() -> None:
    assert len(GOLDEN) == 16
    assert set(MEANT) <= set(GOLDEN)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(GOLDEN), st.integers(0, 15), st.sampled_from(b"0123456789ABCDEFagG \x00"))
def test_one_wrong_digit_is_never_taken_for_good(digits: str, place: int, byte: int) -> None:
    place %= len(digits)
    wrong = bytearray(digits.encode())
    if wrong[place] == byte:
        return
    wrong[place] = byte
    assert decode(bytes(wrong)) is None
    assert unsealed(wrong.decode("latin-1")) is None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(GOLDEN), max_size=6), st.lists(st.integers(1, 7), max_size=40))
def test_any_pieces_give_the_same_packets(packets: list[str], cuts: list[int]) -> None:
    data = b"".join(b"\x02" + digits.encode() + b"\x03" for digits in packets)
    splitter, heard, place = PacketSplitter(), list[Heard](), 0
    for cut in [*cuts, len(data)]:
        heard += splitter.receive(data[place : place + cut])
        place += cut
    assert [f"{packet.code:02X}" for packet in heard] == [digits[:2] for digits in packets]
    assert splitter.garbage == 0


class Encoder:
    """Driver and device on a virtual clock, with a cable."""

    def __init__(
        self, firmware: AccuSeedFirmware, counts_per_mm: float = 20.0, serial: int | None = None
    ) -> None:
        self.firmware = firmware
        self.driver = AccuSeedDriver(AccuSeedConfig(counts_per_mm, serial))
        self.cable = Cable(firmware, np.random.default_rng(5))
        self.now_ns = 0
        self.sent = b""

    def connect(self) -> EncoderEvent:
        self.driver.connect(self.now_ns)
        return self._end()

    def read(self) -> EncoderEvent:
        self.driver.read(self.now_ns)
        return self._end()

    def _end(self) -> EncoderEvent:
        for _ in range(1000):
            while True:
                out = self.driver.take()
                self.sent += out
                self.cable.receive(out, self.now_ns)
                back = self.cable.take()
                self.driver.receive(back, self.now_ns)
                if not out and not back:
                    break
            if not self.driver.is_busy:
                (event,) = self.driver.events()
                return event
            due = [wake for wake in (self.driver.next_wake(), self.cable.next_wake()) if wake is not None]
            self.now_ns = max(self.now_ns, min(due))
            self.cable.wake(self.now_ns)
            self.driver.wake(self.now_ns)
        raise AssertionError("never ends")


@pytest.mark.parametrize("answers_first", [False, True])
@pytest.mark.parametrize("counts_per_mm", [20.0, -20.0])
def test_depth_is_read_in_mm_after_its_reference(answers_first: bool, counts_per_mm: float) -> None:
    depth = [-19.0]
    firmware = AccuSeedFirmware(lambda: depth[0], counts_per_mm=counts_per_mm, answers_first=answers_first)
    encoder = Encoder(firmware, counts_per_mm)
    assert encoder.connect() == EncoderConnected("3.2", 0, 1010, 0, True)
    assert encoder.read() == EncoderRead(0, None, "up")
    encoder.driver.reference(-19.0)
    depth[0], firmware.button = 62.5, "pressed"
    assert encoder.read() == EncoderRead(round(81.5 * counts_per_mm), 62.5, "pressed")
    assert {0x37, 0x22, 0x07, 0x47} == set(firmware.acknowledged)
    assert set(re.findall(rb"\x02(..)", encoder.sent)) == {b"51", b"21", b"19", b"FA"}, "it only reads"


def test_invalid_counters_void_the_reference() -> None:
    firmware = AccuSeedFirmware(lambda: 3.0)
    encoder = Encoder(firmware)
    encoder.connect()
    encoder.read()
    encoder.driver.reference(3.0)
    firmware.is_valid = False
    refused = encoder.read()
    assert isinstance(refused, EncoderRefused)
    assert "step it to its home" in refused.reason
    firmware.is_valid = True
    assert encoder.read() == EncoderRead(0, None, "up")


def test_another_serial_number_is_refused() -> None:
    refused = Encoder(AccuSeedFirmware(lambda: 0.0), serial=7).connect()
    assert refused == EncoderRefused("depth encoder: it is number 1010, the configuration demands 7")


def test_a_silent_encoder_is_lost_after_three_questions() -> None:
    encoder = Encoder(AccuSeedFirmware(lambda: 0.0))
    encoder.cable.cut()
    assert isinstance(encoder.connect(), EncoderLost)
    assert encoder.sent.count(b"\x025151\x03") == 3
    assert encoder.now_ns == 900_000_000


@pytest.mark.parametrize("seed", range(20))
def test_noise_gives_the_true_depth_or_none(seed: int) -> None:
    depth = [0.0]
    encoder = Encoder(AccuSeedFirmware(lambda: depth[0]))
    encoder.cable = Cable(encoder.firmware, np.random.default_rng(seed))
    encoder.connect()
    encoder.read()
    encoder.driver.reference(0.0)
    encoder.cable.down.faults = encoder.cable.up.faults = Faults(flip=0.02, loss=0.02, duplicate=0.02)
    for place in (1.0, 20.0, 63.5):
        depth[0] = place
        event = encoder.read()
        if isinstance(event, EncoderLost):
            return
        assert isinstance(event, EncoderRead)
        assert event.depth_mm == pytest.approx(place)


@pytest.mark.parametrize("counts", [0.0, float("nan"), float("inf"), 164.0, -164.0])
def test_counts_per_mm_must_be_usable(counts: float) -> None:
    with pytest.raises(ValueError, match="counts per mm"):
        AccuSeedConfig(counts)


class _Hard:
    """Tissue that pushes back with 1 N per mm beyond 20 mm."""

    def __init__(self) -> None:
        self.z_mm = 0.0

    def insert(self, _needle: str, _x_mm: float, _y_mm: float, tip_z_mm: float) -> None:
        self.z_mm = tip_z_mm

    def resistance_n(self, _needle: str) -> float:
        return max(0.0, self.z_mm - 20.0)

    def retract(self, needle: str, distance_mm: float) -> None: ...
    def release(self) -> None: ...
    def drop_seed(self, needle: str) -> object: ...
    def grip(self, _x_mm: float, _y_mm: float) -> str | None:
        return "C3"


def test_steps_lost_in_tissue_are_seen_by_the_encoder_and_not_by_grbl() -> None:
    pair = Pair(template=Template(_Hard()), parameters=RigParameters(pull_out_n=30.0)).ready()
    encoder = Encoder(AccuSeedFirmware(lambda: pair.mechanics.carriage_mm[Z]))
    encoder.connect()
    encoder.read()
    encoder.driver.reference(-19.0)
    pair.do(MoveAcross(0.0, 0.0))
    pair.mechanics.hand_needle("C3")
    pair.do(CloseGrip())
    for depth_mm, agrees in ((45.0, True), (60.0, False)):
        done = pair.do(MoveDepth(depth_mm, True))
        assert isinstance(done, RigDone), "Grbl sees nothing"
        reading = encoder.read()
        assert isinstance(reading, EncoderRead)
        verdict = judge_depth(depth_mm, done.z_mm, reading.depth_mm)
        assert verdict.agrees == agrees
    assert verdict.steps_lost
    assert verdict.off_mm == pytest.approx(-9.5, abs=0.7)
    assert "steps were lost" in verdict.sentence


def test_the_verdict_at_its_borders() -> None:
    assert judge_depth(50.0, 50.0, 50.25).agrees
    assert not judge_depth(50.0, 50.0, 50.26).agrees
    assert judge_depth(50.0, 50.01, 50.0).agrees
    moved = judge_depth(50.0, 50.5, 50.5)
    assert (moved.agrees, moved.steps_lost) == (False, False)
    blind = judge_depth(50.0, 50.0, None)
    assert not blind.agrees
    assert "no reading" in blind.sentence
