"""The AccuSeed encoder's packets, as WIRE.md part 3 has them: STX, hex digits, ETX, a checksum that is the byte sum.

Knows: framing, length, checksum, the three answers. Does not know: what a count means, time, ports.
"""

from __future__ import annotations

from dataclasses import dataclass

STX, ETX = 0x02, 0x03
VERSION, STATUS, POSITION, ACKNOWLEDGE = 0x51, 0x21, 0x19, 0xFA
_ANSWERED_BY = {0x37: VERSION, 0x22: STATUS, 0x07: POSITION, 0x47: POSITION, 0x67: POSITION, 0x29: POSITION}
_BUTTON = {0x07: "up", 0x47: "pressed", 0x67: "latched"}
_LONGEST_DIGITS = 16
_DIGITS = frozenset(b"0123456789ABCDEF")


@dataclass(frozen=True)
class EncoderVersion:
    """``37``."""

    version: str
    model: int
    serial: int


@dataclass(frozen=True)
class EncoderStatus:
    """``22``."""

    status: int


@dataclass(frozen=True)
class EncoderCounts:
    """``07 47 67``: signed counts of probe carriage, grid and rotation."""

    probe: int
    grid: int
    rotation: int
    button: str


@dataclass(frozen=True)
class CountersInvalid:
    """``29``."""


@dataclass(frozen=True)
class Acknowledged:
    """``FA``: the packet with this code has arrived."""

    code: int


Answer = EncoderVersion | EncoderStatus | EncoderCounts | CountersInvalid | Acknowledged


@dataclass(frozen=True)
class Heard:
    """One good packet: its code and what it says (None: a code that WIRE.md does not have)."""

    code: int
    answer: Answer | None

    @property
    def question(self) -> int | None:
        """The code of the question that it answers."""
        return _ANSWERED_BY.get(self.code)


def encode(code: int, data: bytes = b"") -> bytes:
    """One packet; ValueError where code and length do not agree."""
    if code & 7 != len(data) + 1:
        raise ValueError(f"code {code:02X} is followed by {code & 7} bytes, not {len(data) + 1}")
    body = bytes([code]) + data
    return bytes([STX]) + (body + bytes([sum(body) & 0xFF])).hex().upper().encode() + bytes([ETX])


def decode(digits: bytes) -> Heard | None:
    """What stands between STX and ETX; None where digits, length or checksum are wrong."""
    if len(digits) % 2 or not 4 <= len(digits) <= _LONGEST_DIGITS or not _DIGITS.issuperset(digits):
        return None
    *body, checksum = bytes.fromhex(digits.decode("ascii"))
    if len(body) != body[0] & 7 or sum(body) & 0xFF != checksum:
        return None
    return Heard(body[0], _meaning(body[0], bytes(body[1:])))


def _meaning(code: int, data: bytes) -> Answer | None:
    if code == 0x37:
        model, serial = (int.from_bytes(data[i : i + 2], "big") for i in (2, 4))
        return EncoderVersion(f"{data[0]}.{data[1]}", model, serial)
    if code == 0x22:
        return EncoderStatus(data[0])
    if code in _BUTTON:
        p, g, r = (int.from_bytes(data[i : i + 2], "big", signed=True) for i in (0, 2, 4))
        return EncoderCounts(p, g, r, _BUTTON[code])
    if code == 0x29:
        return CountersInvalid()
    return Acknowledged(data[0]) if code == ACKNOWLEDGE else None


class PacketSplitter:
    """Cuts a stream, however it comes in pieces, into good packets; the rest is counted."""

    def __init__(self) -> None:
        self.garbage = 0
        self._digits: bytearray | None = None

    def receive(self, data: bytes) -> list[Heard]:
        """The packets completed by ``data``."""
        packets: list[Heard] = []
        for byte in data:
            if byte == STX:
                self.garbage += self._digits is not None
                self._digits = bytearray()
            elif self._digits is None:
                self.garbage += 1
            elif byte == ETX:
                packet, self._digits = decode(bytes(self._digits)), None
                if packet is None:
                    self.garbage += 1
                else:
                    packets.append(packet)
            elif len(self._digits) >= _LONGEST_DIGITS:
                self._digits = None
                self.garbage += 1
            else:
                self._digits.append(byte)
        return packets
