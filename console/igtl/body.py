"""Contents of the OpenIGTLink messages that this server sends and takes, to and from values.

Source: openigtlink/OpenIGTLink, Documents/Protocol: transform, position, point, status, string, capability. Matrices
and points are as they stand on the wire; ``ras`` says in which frame.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from console.igtl.message import MalformedError
from planning.frame import Floats

LONGEST_STRING = 65_535
US_ASCII = 3
"""MIBenum of IANA's character sets; UTF-8 is 106."""
UTF_8 = 106
_MATRIX = struct.Struct(">12f")
_POSITION = struct.Struct(">7f")
_POINT = struct.Struct(">64s32s4B3ff20s")
_STATUS = struct.Struct(">Hq20s")
_STRING = struct.Struct(">HH")


class Code(IntEnum):
    """Status codes that are used here (Documents/Protocol/status.md)."""

    OK = 1
    UNKNOWN_ERROR = 2
    EMERGENCY = 3
    ACCESS_DENIED = 5
    BUSY = 6
    TIME_OUT = 7
    CONFIGURATION_ERROR = 10
    ILLEGAL_INSTRUCTION = 12
    NOT_READY = 13
    MANUAL_MODE = 14
    HARDWARE_FAILURE = 18
    SHUT_DOWN = 19


@dataclass(frozen=True)
class Status:
    """A STATUS message's content. ``subcode`` is ours to define: always 0. ``error`` holds 19 characters.

    Both texts end with a zero byte, as the C++ library writes them: it reads on until it finds one.
    """

    code: int
    error: str = ""
    text: str = ""
    subcode: int = 0

    def pack(self) -> bytes:
        head = _STATUS.pack(self.code, self.subcode, _ascii(self.error)[:19])
        return head + _ascii(self.text)[:LONGEST_STRING] + b"\0"

    @staticmethod
    def unpack(content: bytes) -> Status:
        """Raises MalformedError."""
        if len(content) < _STATUS.size:
            raise MalformedError(f"a STATUS of {len(content)} bytes; it has at least {_STATUS.size}")
        code, subcode, error = _STATUS.unpack_from(content)
        return Status(code, _read(error), _read(content[_STATUS.size :]), subcode)


@dataclass(frozen=True)
class PointItem:
    """One point of a POINT message, mm."""

    name: str
    group: str
    rgba: tuple[int, int, int, int]
    place_mm: tuple[float, float, float]
    diameter_mm: float = 0.0
    owner: str = ""


def pack_transform(matrix: Floats) -> bytes:
    """Of a homogeneous ``(4, 4)`` matrix: three columns of rotation, then the translation in mm, as 32-bit floats."""
    return _MATRIX.pack(*(float(v) for v in matrix[:3, :].T.ravel()))


def unpack_transform(content: bytes) -> Floats:
    """``(4, 4)``, not further looked at but for being finite.

    Raises:
        MalformedError: another length, or a number that is none.
    """
    values = _numbers("TRANSFORM", _MATRIX, content)
    return np.vstack([np.reshape(values, (4, 3)).T, [0.0, 0.0, 0.0, 1.0]])


def pack_position(matrix: Floats) -> bytes:
    """Of a rigid ``(4, 4)`` matrix: place in mm and a unit quaternion (x, y, z, w)."""
    r = matrix[:3, :3]
    # Bar-Itzhack's way: the quaternion is the eigenvector of the greatest eigenvalue; stable for every turn.
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    quaternion = np.linalg.eigh(k)[1][:, -1]
    quaternion = quaternion if quaternion[3] >= 0 else -quaternion
    return _POSITION.pack(*(float(v) for v in matrix[:3, 3]), *(float(v) for v in quaternion))


def pack_points(points: Sequence[PointItem]) -> bytes:
    """136 bytes a point."""
    return b"".join(
        _POINT.pack(
            _ascii(point.name)[:64],
            _ascii(point.group)[:32],
            *point.rgba,
            *point.place_mm,
            point.diameter_mm,
            _ascii(point.owner)[:20],
        )
        for point in points
    )


def unpack_points(content: bytes) -> list[PointItem]:
    """Raises MalformedError."""
    if len(content) % _POINT.size:
        raise MalformedError(f"a POINT of {len(content)} bytes; a point has {_POINT.size}")
    points = []
    for name, group, r, g, b, a, x, y, z, diameter, owner in _POINT.iter_unpack(content):
        if not all(math.isfinite(value) for value in (x, y, z, diameter)):
            raise MalformedError("a POINT holds a number that is none")
        points.append(PointItem(_read(name), _read(group), (r, g, b, a), (x, y, z), diameter, _read(owner)))
    return points


def pack_string(text: str) -> bytes:
    """In US-ASCII where it is that, else in UTF-8; cut at 65,535 bytes."""
    encoding = US_ASCII if text.isascii() else UTF_8
    said = text.encode()[:LONGEST_STRING]
    said = said.decode(errors="ignore").encode()  # no half sign at the end
    return _STRING.pack(encoding, len(said)) + said


def unpack_string(content: bytes) -> str:
    """Raises MalformedError: lengths that disagree, or another encoding than US-ASCII and UTF-8."""
    if len(content) < _STRING.size:
        raise MalformedError("a STRING without encoding and length")
    encoding, length = _STRING.unpack_from(content)
    said = content[_STRING.size :]
    if len(said) != length:
        raise MalformedError(f"a STRING says {length} bytes and has {len(said)}")
    if encoding not in (US_ASCII, UTF_8):
        raise MalformedError(f"a STRING in encoding {encoding}; 3 (US-ASCII) and 106 (UTF-8) are read")
    try:
        return said.decode("ascii" if encoding == US_ASCII else "utf-8")
    except UnicodeDecodeError:
        raise MalformedError(f"a STRING is not in the encoding that it names ({encoding})") from None


def pack_kinds(kinds: Sequence[str]) -> bytes:
    """Content of CAPABILITY: message types, 12 bytes each."""
    return b"".join(kind.encode().ljust(12, b"\0") for kind in kinds)


def _numbers(kind: str, form: struct.Struct, content: bytes) -> tuple[float, ...]:
    if len(content) != form.size:
        raise MalformedError(f"a {kind} of {len(content)} bytes; it has {form.size}")
    values = form.unpack(content)
    if not all(math.isfinite(value) for value in values):
        raise MalformedError(f"a {kind} holds a number that is none")
    return values


def _ascii(text: str) -> bytes:
    """The char fields of the protocol are ASCII; another sign becomes a question mark."""
    return text.encode("ascii", errors="replace")


def _read(field: bytes) -> str:
    """Up to the first zero, as C reads it."""
    return field.partition(b"\0")[0].decode("ascii", errors="replace")
