"""What Grbl 1.1 says, line by line, and its numbers in words.

Knows: the form of replies, status reports, settings, offsets, banner, alarms and errors of stock Grbl 1.1h (its
own documents, "Grbl v1.1 Interface"). Does not know: the rig, what was asked, time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 256
"""A longer run without a line end is discarded; Grbl's longest line is well below."""

Axes = tuple[float, ...]
"""A machine position, one value per axis in the order of the board's reports."""


@dataclass(frozen=True)
class Ok:
    """The line was parsed (not: done)."""


@dataclass(frozen=True)
class Refused:
    """``error:n``: the line was not executed."""

    code: int


@dataclass(frozen=True)
class Alarm:
    """``ALARM:n``: whatever moved has stopped; the position isn't to be trusted."""

    code: int


@dataclass(frozen=True)
class Banner:
    """The board has (re)started."""

    version: str


@dataclass(frozen=True)
class Status:
    """Answer to ``?``.

    Attributes:
        word: Idle Run Hold Jog Alarm Door Check Home Sleep.
        substate: the digit after the colon (``Hold:0`` = hold complete), or None.
        axes_mm: machine position X, Y, Z, and of a five-axis board A, B.
        flood: coolant (the needle grip), where this report tells it; Grbl does so now and then.
    """

    word: str
    substate: int | None
    axes_mm: Axes
    flood: bool | None


@dataclass(frozen=True)
class Setting:
    """``$n=value``."""

    number: int
    value: float


@dataclass(frozen=True)
class Bracket:
    """``[TAG:text]``: version, options, offsets, messages."""

    tag: str
    text: str


Line = Ok | Refused | Alarm | Banner | Status | Setting | Bracket

_NUMBER = r"-?\d+(?:\.\d+)?"
_BANNER = re.compile(r"(Grbl|GrblHAL) (\d[0-9A-Za-z.]*) \['\$'.*")
_STATUS = re.compile(rf"<([A-Z][a-z]+)(?::(\d))?\|MPos:({_NUMBER}(?:,{_NUMBER}){{2,5}})((?:\|[^|<>]*)*)>")
_SETTING = re.compile(rf"\$(\d+)=({_NUMBER})(?: .*)?")
_BRACKET = re.compile(r"\[([0-9A-Za-z]+):([^\]]*)\]")
_CODE = re.compile(r"(error|ALARM):(\d+)")


def parse(text: str) -> Line | None:
    """One line without its end; None for what Grbl doesn't say."""
    if text == "ok":
        return Ok()
    if match := _STATUS.fullmatch(text):
        fields = dict(part.partition(":")[::2] for part in match[4].split("|") if part)
        flood = ("F" in fields.get("A", "")) if "Ov" in fields or "A" in fields else None
        axes_mm = tuple(float(number) for number in match[3].split(","))
        return Status(match[1], int(match[2]) if match[2] else None, axes_mm, flood)
    if match := _CODE.fullmatch(text):
        return Refused(int(match[2])) if match[1] == "error" else Alarm(int(match[2]))
    if match := _SETTING.fullmatch(text):
        return Setting(int(match[1]), float(match[2]))
    if match := _BRACKET.fullmatch(text):
        return Bracket(match[1], match[2])
    if match := _BANNER.fullmatch(text):
        return Banner(match[2])
    return None


class LineSplitter:
    """Cuts a stream of bytes, however it comes in pieces, into Grbl's lines; what can't be read is counted.

    A port may be opened while the device speaks: a first line that can't be read is the end of one, and not counted.
    """

    def __init__(self) -> None:
        self.garbage = 0
        self._rest = bytearray()
        self._skipping = False
        self._joining = True

    def receive(self, data: bytes) -> list[Line]:
        """The lines completed by ``data``."""
        lines: list[Line] = []
        *ended, rest = data.replace(b"\r", b"\n").split(b"\n")
        for piece in ended:
            self._rest += piece
            raw, self._rest = bytes(self._rest), bytearray()
            if self._skipping or not raw:
                self._skipping = False
                continue
            joining, self._joining = self._joining, False
            line = parse(raw.decode("ascii", "replace"))
            if line is not None:
                lines.append(line)
            elif not joining:
                self.garbage += 1
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > LONGEST:
                self.garbage += 1
                self._rest.clear()
                self._skipping = True
        return lines

    def flush(self) -> None:
        """Forget an unfinished line."""
        self._rest.clear()
        self._skipping = False


_ALARMS = {
    1: "a limit switch was hit",
    2: "the target lies outside the machine's travel",
    3: "reset while moving",
    4: "the probe was not in its starting state",
    5: "the probe did not touch",
    6: "homing was interrupted by a reset",
    7: "homing was interrupted by the door switch",
    8: "homing failed: the limit switch did not release at pull-off",
    9: "homing failed: the limit switch was not found",
}
_ERRORS = {
    1: "a word without its letter",
    2: "a number is malformed",
    3: "an unknown $ command",
    4: "a negative value",
    5: "homing is not enabled",
    8: "this $ command needs the machine idle",
    9: "locked after an alarm or reset: home first",
    10: "soft limits need homing",
    11: "the line is too long",
    15: "the target lies outside the travel",
    20: "an unsupported command",
    21: "two commands of one group in a line",
    22: "no feed rate",
    24: "two commands want the axis words",
    25: "a word twice in a line",
    26: "no axis word",
    31: "an axis word is missing",
    33: "the motion has no valid target",
}


def alarm_in_words(code: int) -> str:
    return f"ALARM:{code}, {_ALARMS.get(code, 'unknown alarm')}"


def error_in_words(code: int) -> str:
    return f"error:{code}, {_ERRORS.get(code, 'unknown error')}"
