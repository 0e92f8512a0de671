"""The packet: WIRE.md's golden bytes both ways, any split, any flipped bit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcript import crc_bit_by_bit, sealed

from drivers.fault import DeviceMisbehaved
from drivers.packet import Packet, Splitter, crc16, decode
from drivers.vocabulary import why_not_of_form

WIRE = (Path(__file__).parents[1] / "drivers" / "WIRE.md").read_text(encoding="utf-8")
GOLDEN = [line.encode() for line in re.findall(r"^    ([<>!~].*)\\n$", WIRE, flags=re.MULTILINE)]


def test_the_page_has_golden_bytes() -> None:
    assert len(GOLDEN) >= 27


def test_crc_check_value() -> None:
    assert crc16(b"123456789") == 0x29B1
    assert crc16(b"") == 0xFFFF


@given(st.binary(max_size=100))
def test_crc_is_the_one_of_the_definition(data: bytes) -> None:
    assert crc16(data) == crc_bit_by_bit(data)


@pytest.mark.parametrize("line", GOLDEN)
def test_golden_bytes_are_decoded_and_encoded(line: bytes) -> None:
    packet = decode(line)
    assert packet.encode() == line + b"\n"
    if packet.sigil != ">":
        assert why_not_of_form(packet) is None


def test_what_golden_bytes_mean() -> None:
    packet = decode(b"!0007:4:SHOT n=1 out=PASS peak=820 pulses=1 stroke=205000|CF53")
    assert packet == Packet(
        "!",
        "0007",
        4,
        "SHOT",
        (("n", "1"), ("out", "PASS"), ("peak", "820"), ("pulses", "1"), ("stroke", "205000")),
    )
    assert packet.integer("stroke") == 205_000


@given(st.lists(st.sampled_from(GOLDEN), min_size=1, max_size=6), st.data())
def test_packets_survive_any_split(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    splitter = Splitter()
    packets = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        packets += splitter.receive(stream[start:end])
    assert [packet.encode() for packet in packets] == [line + b"\n" for line in lines]
    assert splitter.garbage == 0


@given(st.sampled_from(GOLDEN), st.integers(1, 200))
def test_a_port_opened_in_the_middle_of_a_line_has_not_lost_one(line: bytes, start: int) -> None:
    splitter = Splitter()
    splitter.receive((line + b"\n")[start:])
    assert splitter.garbage == 0
    splitter.receive(line[1:] + b"\n" + line + b"\n" + line[1:] + b"\n")
    assert splitter.garbage == (2 if start <= len(line) else 1)  # only the first is the end of one


@given(st.sampled_from(GOLDEN), st.integers(0, 10_000), st.integers(0, 7))
def test_one_flipped_bit_never_decodes(line: bytes, place: int, bit: int) -> None:
    place %= len(line)
    flipped = bytearray(line)
    flipped[place] ^= 1 << bit
    if b"\n" in flipped:
        assert Splitter().receive(bytes(flipped) + b"\n") == []
        return
    with pytest.raises(DeviceMisbehaved):
        decode(bytes(flipped))


@given(st.binary(max_size=400), st.sampled_from(GOLDEN))
def test_garbage_never_hurts_the_packet_after_the_next_line_end(noise: bytes, line: bytes) -> None:
    splitter = Splitter()
    splitter.receive(noise + b"\n")
    assert [packet.encode() for packet in splitter.receive(line + b"\n")] == [line + b"\n"]


@pytest.mark.parametrize(
    "text",
    [
        "<0007:1:PING  st=IDLE",  # two spaces
        "<0007:01:PING st=IDLE",  # leading zero
        "<0007:1:PING st=",  # no value
        "<0007:1:PING ST=IDLE",  # upper-case key
        "<007:1:PING st=IDLE",  # boot too short
        "<0007:1:PING st=IDLE\r",  # carriage return
        "?0007:1:PING st=IDLE",  # no sigil
    ],
)
def test_malformed_though_the_checksum_is_right(text: str) -> None:
    with pytest.raises(DeviceMisbehaved):
        decode(sealed(text)[:-1])


def test_a_lower_case_checksum_is_malformed() -> None:
    with pytest.raises(DeviceMisbehaved):
        decode(b"<0007:1:PING st=IDLE|4f9c")


@pytest.mark.parametrize(("sigil", "longest"), [(">", 96), ("<", 128)])
def test_length_limit_with_the_line_end(sigil: str, longest: int) -> None:
    """WIRE.md 1.1: 96 bytes from the host, 128 from the device."""
    room = longest - len(sealed(f"{sigil}0007:1:X a="))
    fits = Packet(sigil, "0007", 1, "X", (("a", "1" * room),))
    assert len(fits.encode()) == longest
    assert Splitter().receive(fits.encode()) == [fits]
    with pytest.raises(ValueError, match="not a packet"):
        Packet(sigil, "0007", 1, "X", (("a", "1" * (room + 1)),)).encode()
    splitter = Splitter()
    assert splitter.receive(sealed(f"{sigil}0007:1:X a=" + "1" * (room + 1)) + GOLDEN[0] + b"\n") == [
        decode(GOLDEN[0])
    ]
    assert splitter.garbage == 1


@pytest.mark.parametrize(
    "text",
    [
        "<0007:1:PING",
        "<0007:1:PING st=IDLE z=1",
        "<0007:1:PING st=DANCING",
        "<0007:1:HOME ax=x",
        "<0000:1:PING st=IDLE",
        "!0007:1:SHOT n=1 peak=820 out=PASS pulses=1 stroke=1",
        "<0007:1:MOVE z=007",
        "<0007:1:FROBNICATE",
        ">0007:1:PING",
    ],
)
def test_what_a_device_may_not_say(text: str) -> None:
    assert why_not_of_form(decode(sealed(text)[:-1])) is not None
