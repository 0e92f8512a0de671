"""The device's codec against the page, and the laws of a line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import golden_lines

from simulator.line import LineReader, MalformedError, crc16, decode, encode, integer

LINES = golden_lines()
quick = settings(max_examples=60, deadline=None, derandomize=True)


def test_crc_of_the_check_string() -> None:
    assert crc16(b"123456789") == 0x29B1


def test_the_page_has_its_golden_lines() -> None:
    assert len(LINES) >= 28
    assert {text[:1] for text in LINES} == {b">", b"<", b"!", b"~"}


@pytest.mark.parametrize("golden", LINES, ids=lambda text: text.decode().strip())
def test_golden_bytes_decode_and_encode(golden: bytes) -> None:
    packet = decode(golden[:-1])
    assert packet.pairs is not None
    assert encode(packet.sigil, packet.boot, packet.number, packet.name, **packet.pairs) == golden


@quick
@given(st.data())
def test_any_split_of_the_stream_gives_the_same_lines(data: st.DataObject) -> None:
    stream = b"".join(LINES)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    reader = LineReader()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [text for piece in pieces for text in reader.feed(piece)] == [text[:-1] for text in LINES]


@quick
@given(st.sampled_from(LINES), st.data())
def test_a_flipped_bit_is_never_taken_for_a_packet(golden: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(golden) - 2))
    spoiled = bytearray(golden[:-1])
    spoiled[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MalformedError):
        decode(bytes(spoiled))


@quick
@given(st.sampled_from(LINES), st.data())
def test_a_stop_byte_is_heard_anywhere_and_spoils_the_line_it_cuts(
    golden: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(1, len(golden) - 1))
    rest, following = list(LineReader().feed(golden[:place] + b"\x18" + golden[place:] + LINES[0])), LINES[0]
    assert rest[0] is None
    assert rest[-1] == following[:-1]
    for text in rest[1:-1]:
        assert text is not None
        with pytest.raises(MalformedError):
            decode(text)


@quick
@given(st.binary(max_size=300))
def test_noise_raises_nothing_and_the_next_line_is_heard(noise: bytes) -> None:
    reader = LineReader()
    for text in reader.feed(noise):
        if text is not None:
            with pytest.raises(MalformedError):
                decode(text)
    assert list(reader.feed(b"\n" + LINES[0]))[-1] == LINES[0][:-1]


def test_a_longer_run_is_discarded_up_to_its_end() -> None:
    reader = LineReader()
    assert list(reader.feed(b">" + b"x" * 400 + b"\n" + LINES[0])) == [LINES[0][:-1]]
    assert reader.discarded == 1
    assert list(reader.feed(b"y" * 95 + b"\n")) == [b"y" * 95]  # 96 with its LF: just short enough


def test_a_carriage_return_makes_a_line_malformed() -> None:
    with pytest.raises(MalformedError):
        decode(LINES[0][:-1] + b"\r")


@pytest.mark.parametrize(
    "body", ["PING x", "PING a=1 a=2", "PING a=", "PING  a=1", "PING A=1", "PING a=1 ", "PING a=1=2"]
)
def test_broken_pairs_are_the_senders_fault_but_still_a_packet(body: str) -> None:
    head = f">0007:3:{body}".encode()
    packet = decode(head + b"|%04X" % crc16(head))
    assert packet.pairs is None
    assert packet.number == 3


@pytest.mark.parametrize("head", [b">7:1:PING", b">0007:01:PING", b">0007:1", b"0007:1:PING"])
def test_a_line_without_a_head_is_no_packet(head: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(head + b"|%04X" % crc16(head))


def test_integers_have_one_way_to_be_written() -> None:
    assert [integer(text) for text in ("0", "-7", "205000")] == [0, -7, 205000]
    assert [integer(text) for text in ("00", "07", "+7", "-0", "1.0", "", "0x1", "12345678901")] == [None] * 8
