"""The applicator's packets as the device reads and writes them, from drivers/WIRE.md 1.1 alone.

Knows bytes and CRC; does not know what a command means. The host has a codec of its own.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

STOP_BYTE = 0x18
LONGEST_LINE = 96  # bytes, with the LF
LONGEST_REPLY = 128
SIGILS = ">", "<", "!", "~"
_LF = 0x0A
_FRAMED = re.compile(rb"([><!~][\x20-\x7b\x7d\x7e]*)\|([0-9A-F]{4})\Z")
_HEAD = re.compile(r"([0-9A-F]{4}):(0|[1-9][0-9]{0,9}):([^ ]*)( .*)?\Z")
_PAIRS = re.compile(r"(?: [a-z]+=[0-9A-Za-z.+-]+)*\Z")
_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]{0,8})\Z")


class MalformedError(ValueError):
    """A line that can't be decoded: discarded, counted, never answered."""


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE of ``data``; b"123456789" gives 0x29B1."""
    return binascii.crc_hqx(data, 0xFFFF)


@dataclass(frozen=True)
class Packet:
    """One decoded packet.

    Attributes:
        sigil: ">" host to device, "<" reply, "!" event, "~" telemetry.
        boot: the boot counter as written, four upper-case hex digits.
        pairs: key and value as text, in the order of the line; None when they break the form although the
            CRC was right, which is the sender's fault and is answered.
    """

    sigil: str
    boot: str
    number: int
    name: str
    pairs: Mapping[str, str] | None


def encode(sigil: str, boot: str, number: int, name: str, **pairs: int | str) -> bytes:
    """One line with its CRC and LF.

    Raises:
        ValueError: the line would be longer than any of the page's (a mistake in the firmware).
    """
    words = "".join([f" {key}={value}" for key, value in pairs.items()])
    body = f"{sigil}{boot}:{number}:{name}{words}".encode("ascii")
    line = b"%s|%04X\n" % (body, crc16(body))
    if len(line) > LONGEST_REPLY:
        raise ValueError(f"a line of {len(line)} bytes: {line!r}")
    return line


def decode(line: bytes) -> Packet:
    """The packet in one line, given without its LF.

    Raises:
        MalformedError: not printable, no sigil, no head or a wrong CRC.
    """
    framed = _FRAMED.match(line) if len(line) < LONGEST_REPLY else None
    if framed is None or int(framed[2], 16) != crc16(framed[1]):
        raise MalformedError(f"not a packet: {line!r}")
    text = framed[1].decode("ascii")
    head = _HEAD.match(text, 1)
    if head is None:
        raise MalformedError(f"no boot and number: {line!r}")
    return Packet(text[0], head[1], int(head[2]), head[3], _pairs(head[4] or ""))


def _pairs(text: str) -> Mapping[str, str] | None:
    if not _PAIRS.match(text):
        return None
    words = [word.split("=") for word in text.split()]
    pairs = dict(words)
    return pairs if len(pairs) == len(words) else None


def integer(text: str) -> int | None:
    """The integer in a value; None when it isn't one as the wire writes it (decimal, no leading zeros)."""
    return int(text) if _INTEGER.match(text) else None


class LineReader:
    """Cuts a byte stream into lines and stop bytes, however it was split on its way.

    Attributes:
        discarded: how many runs were thrown away for their length or for a stop byte in their middle.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._is_too_long = False
        self.discarded = 0

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Lines without their LF, and None for a stop byte, in the order in which they end.

        A stop byte empties the line before it; what the host writes on of that line has no sigil and fails.
        """
        for byte in data:
            if byte == STOP_BYTE:
                self.discarded += bool(self._line)
                self._line.clear()
                self._is_too_long = False
                yield None
            elif byte == _LF:
                if not self._is_too_long:
                    yield bytes(self._line)
                self._line.clear()
                self._is_too_long = False
            elif not self._is_too_long:
                self._line.append(byte)
                if len(self._line) >= LONGEST_LINE:  # with its LF it would be longer than allowed
                    self._is_too_long = True
                    self.discarded += 1
                    self._line.clear()
