"""One packet of the applicator's wire: a line to bytes and back, and a stream of bytes into lines.

Knows: sigil, boot, number, name, pairs, CRC, the longest lines (WIRE.md 1.1). Does not know: what a name means,
what was asked, time.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from dataclasses import dataclass

from drivers.fault import DeviceMisbehaved

LONGEST = 96  # bytes with the LF, from the host
LONGEST_FROM_DEVICE = 128
"""Bytes of the longest packet, LF included."""

STOP = b"\x18"

_LINE = re.compile(
    rb"([><!~])([0-9A-F]{4}):(0|[1-9][0-9]{0,9}):([A-Z]+)((?: [a-z]+=[0-9A-Za-z.+-]+)*)\|([0-9A-F]{4})"
)

_SIGILS = (b">", b"<", b"!", b"~")


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF, nothing reflected; "123456789" gives 0x29B1."""
    return crc_hqx(data, 0xFFFF)


@dataclass(frozen=True)
class Packet:
    """One packet.

    Attributes:
        sigil: ``>`` command, ``<`` reply, ``!`` event, ``~`` telemetry.
        boot: four upper-case hex digits.
        number: counts commands (replies carry their command's), events or telemetry.
        name: upper-case letters.
        pairs: keys and values in the order of the wire.
    """

    sigil: str
    boot: str
    number: int
    name: str
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, str]:
        return dict(self.pairs)

    def integer(self, key: str) -> int:
        """A value as an integer; KeyError if there is none, ValueError if it is no number."""
        return int(self.values[key])

    def encode(self) -> bytes:
        """The line with its CRC and LF; ValueError if it isn't a packet the other side could decode."""
        body = f"{self.sigil}{self.boot}:{self.number}:{self.name}"
        body += "".join(f" {key}={value}" for key, value in self.pairs)
        line = body.encode("ascii", "replace")
        line += b"|%04X" % crc16(line)
        longest = LONGEST if self.sigil == ">" else LONGEST_FROM_DEVICE
        if not _LINE.fullmatch(line) or len(line) >= longest:
            raise ValueError(f"not a packet of the wire: {line!r}")
        return line + b"\n"


def decode(line: bytes, port: str = "applicator") -> Packet:
    """The packet of one line (without its LF).

    Raises:
        DeviceMisbehaved: too long, not of the form, or the CRC is wrong.
    """
    if len(line) >= (LONGEST if line[:1] == b">" else LONGEST_FROM_DEVICE):
        raise DeviceMisbehaved(port, line, "a line longer than the wire allows")
    match = _LINE.fullmatch(line)
    if match is None:
        raise DeviceMisbehaved(port, line, "a line that isn't of the packet's form")
    if crc16(line[:-5]) != int(match[6], 16):
        raise DeviceMisbehaved(port, line, "a line whose checksum is wrong")
    sigil, boot, number, name, pairs = (part.decode("ascii") for part in match.groups()[:5])
    split = tuple((key, value) for key, _, value in (pair.partition("=") for pair in pairs.split()))
    return Packet(sigil, boot, int(number), name, split)


class Splitter:
    """Cuts a stream of bytes, however it comes in pieces, into packets; what can't be decoded is counted.

    A port may be opened while the device speaks: the end of a line whose beginning passed before is not counted.

    Attributes:
        garbage: lines discarded so far.
        last_fault: why the last one was.
    """

    def __init__(self, port: str = "applicator") -> None:
        self.garbage = 0
        self.last_fault: DeviceMisbehaved | None = None
        self._port = port
        self._rest = bytearray()
        self._skipping = False
        self._joining = True

    def receive(self, data: bytes) -> list[Packet]:
        """The packets completed by ``data``."""
        packets: list[Packet] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._rest += line
            whole, self._rest = bytes(self._rest), bytearray()
            if self._skipping:
                self._skipping = False
                continue
            joining, self._joining = self._joining, False
            try:
                packets.append(decode(whole, self._port))
            except DeviceMisbehaved as fault:
                if not joining or whole[:1] in _SIGILS:
                    self.discard(fault)
        if self._skipping:
            return packets
        self._rest += rest
        if len(self._rest) >= LONGEST_FROM_DEVICE:  # without its LF it is too long already
            self.discard(DeviceMisbehaved(self._port, bytes(self._rest), "a line without an end"))
            self._rest.clear()
            self._skipping = True
        return packets

    def discard(self, fault: DeviceMisbehaved) -> None:
        """Count one more line that is of no use."""
        self.garbage += 1
        self.last_fault = fault
