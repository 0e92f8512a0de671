"""OpenIGTLink messages as bytes, and bytes as messages, however they were split on the way.

Source: the protocol's own pages (openigtlink/OpenIGTLink, Documents/Protocol: header, v3_proposal, timestamp).
Written are headers of version 1, which every peer reads. Read are versions 1 to 3: in a body of header version 2
or 3 the content stands between an extended header, whose first two bytes are its size, and the metadata.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from console.igtl.crc import crc64

HEADER = struct.Struct(">H12s20sQQQ")
"""Version, type, device name, time stamp, body size, CRC-64 of the body: 58 bytes, big endian."""
EXTENDED = struct.Struct(">HHII")
"""Size of the extended header, of the metadata's header and of the metadata; message identity."""
MOST_BODY = 131_072
"""Longest body that is read: twice the longest STRING (65,535 bytes). Images are not for us."""
_ONE_SECOND_NS = 1_000_000_000


class MalformedError(ValueError):
    """A peer that sends no OpenIGTLink; one sentence says what."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: type in the header, at most 12 ASCII characters: ``TRANSFORM``, ``GET_STATUS`` ...
        name: device name, at most 20 ASCII characters.
        content: body without extended header and metadata.
        time_ns: since 1970-01-01 UTC; 0: not told.
    """

    kind: str
    name: str
    content: bytes
    time_ns: int = 0


@dataclass(frozen=True)
class Body:
    """A body with its CRC, computed once however often it is sent."""

    kind: str
    name: str
    content: bytes
    crc: int

    @staticmethod
    def of(kind: str, name: str, content: bytes) -> Body:
        """Raises ValueError: the name or kind does not fit the header."""
        for field, longest in ((kind, 12), (name, 20)):
            if not (field.isascii() and field.isprintable() and len(field) <= longest):
                raise ValueError(f"'{field}' is not at most {longest} printable ASCII characters")
        return Body(kind, name, content, crc64(content))

    def packed(self, time_ns: int) -> bytes:
        """The whole message, header version 1."""
        head = (self.kind.encode(), self.name.encode(), stamp_of(time_ns), len(self.content), self.crc)
        return HEADER.pack(1, *head) + self.content


def stamp_of(time_ns: int) -> int:
    """Seconds since 1970 in the upper 32 bits, the fraction of a second in the lower."""
    seconds, rest_ns = divmod(time_ns, _ONE_SECOND_NS)
    return (seconds & 0xFFFFFFFF) << 32 | (rest_ns << 32) // _ONE_SECOND_NS


def time_ns_of(stamp: int) -> int:
    """The inverse of ``stamp_of``, to the ns that the fraction can hold."""
    return (stamp >> 32) * _ONE_SECOND_NS + (((stamp & 0xFFFFFFFF) * _ONE_SECOND_NS + (1 << 31)) >> 32)


class Reader:
    """Bytes in, messages out: any split of the same bytes gives the same messages."""

    def __init__(self) -> None:
        self._heard = bytearray()

    def read(self, data: bytes) -> list[Message]:
        """Every message that is whole now.

        Raises:
            MalformedError: these bytes are no OpenIGTLink, or a body is not what its CRC says. Nothing after them
                can be read: where the next message begins is not known. Messages before are in ``args[1]``.
        """
        self._heard += data
        messages: list[Message] = []
        try:
            while len(self._heard) >= HEADER.size:
                version, kind, name, stamp, size, crc = HEADER.unpack_from(self._heard)
                self._check_header(version, kind, name, size)
                end = HEADER.size + size
                if len(self._heard) < end:
                    break
                body = bytes(self._heard[HEADER.size : end])
                if crc64(body) != crc:
                    raise MalformedError(f"the body of {_text(kind)} {_text(name)} is not what its CRC says")
                content = body if version == 1 else _content(body)
                del self._heard[:end]
                messages.append(Message(_text(kind), _text(name), content, time_ns_of(stamp)))
        except MalformedError as problem:
            self._heard.clear()
            raise MalformedError(str(problem), messages) from None
        return messages

    @staticmethod
    def _check_header(version: int, kind: bytes, name: bytes, size: int) -> None:
        if version not in (1, 2, 3):
            raise MalformedError(f"header version {version} is none of 1, 2, 3")
        for field in (kind, name):
            text = field.rstrip(b"\0")
            if not text.isascii() or not text.decode().isprintable():
                raise MalformedError("type or device name in the header is not printable ASCII")
        if not kind.rstrip(b"\0"):
            raise MalformedError("the header names no type")
        if size > MOST_BODY:
            raise MalformedError(f"a body of {size} bytes; at most {MOST_BODY} are taken")


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()


def _content(body: bytes) -> bytes:
    """Between extended header and metadata."""
    if len(body) < EXTENDED.size:
        raise MalformedError("a body of header version 2 or 3 is too short for its extended header")
    size, index_size, metadata_size, _ = EXTENDED.unpack_from(body)
    end = len(body) - index_size - metadata_size
    if size < EXTENDED.size or size > end:
        raise MalformedError("the sizes in an extended header do not fit its body")
    return body[size:end]
