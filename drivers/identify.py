"""Which of the two devices hangs on a port, by what it answers and not by the port's name.

Knows: the few bytes that may be said to a device nobody knows yet, and what either device answers to them. Does not
know: ports, clocks (four verbs, time is an integer in ns).

What is sent, in this order, and why it harms nobody as far as that can be known:

1. nothing, for 300 ms: a board that starts when its port is opened says its name by itself.
2. ``?``: to Grbl a real-time request that moves nothing; to the applicator the beginning of a line that it discards.
3. ``$I``, twice at most, only to who answered ``?`` as Grbl at rest does. Half a line that a crashed host has left
   (``X-1``) becomes one that Grbl refuses as a whole (``X-1$I``: error:1), so nothing is carried out.
4. ``>0000:1:PING``, twice at most, only to who did not: no device has boot 0000, so an applicator answers
   ``ERR code=BOOT``, whatever it is doing, and nothing else happens.
5. ``HELLO``, only to who answered that: it disarms and ends motion. No host was heard for longer than the watchdog's
   500 ms by then, so nothing can still be armed or moving.

Printable ASCII throughout. What can't be avoided: opening a port resets boards with auto-reset; a rig's grip opens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from drivers.fault import DeviceMisbehaved
from drivers.packet import LONGEST_FROM_DEVICE, Packet, decode

Kind = Literal["rig", "applicator", "other", "silent"]

MS = 1_000_000
LISTEN_MS = 300
ANSWER_MS = 250
_STATUS = re.compile(r"<([A-Z][a-z]+)[:|].*MPos:.*>")
_VERSION = re.compile(r"\[VER:([0-9.a-z]+?)\.\d{8}:(.*)\]")
_RIG_NAME = re.compile(r"(SIM-)?RIG-[0-9A-Za-z-]+")
PING = Packet(">", "0000", 1, "PING").encode()


@dataclass(frozen=True)
class Seen:
    """What answers at a port.

    Attributes:
        kind: ``rig`` is Grbl under a rig's name; ``other`` answers, but as neither; ``silent`` says nothing.
        identity: ``SIM-RIG-1007``, ``SG-MICK/1042``; else the first words heard.
        simulated: as the device says of itself.
        firmware: ``Grbl 1.1h``, ``100``.
        note: a sentence for a person where something is unusual.
    """

    kind: Kind
    identity: str = ""
    simulated: bool = False
    firmware: str = ""
    note: str = ""

    def in_words(self) -> str:
        if self.kind == "silent":
            return "nothing answers"
        if self.kind == "other":
            return f"something answers that is neither device ({self.note or repr(self.identity)})"
        return f"the {'simulated ' if self.simulated else ''}{self.kind} {self.identity}"


class Prober:
    """Asks one port who is there; ``seen`` is set when it knows. ``sid``: four upper-case hex digits."""

    def __init__(self, sid: str) -> None:
        self.seen: Seen | None = None
        self._hello = Packet(">", "0000", 0, "HELLO", (("v", "1"), ("sid", sid))).encode()
        self._out = bytearray()
        self._rest = bytearray()
        self._lines: list[str] = []
        self._due_ns: int | None = None
        self._steps = self._ask()

    def receive(self, data: bytes, now_ns: int) -> None:
        *lines, rest = (bytes(self._rest) + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(rest[-2 * LONGEST_FROM_DEVICE :])
        self._lines += [line.decode("ascii", "replace") for line in lines if line]
        del self._lines[:-200]  # a device that chatters must not fill the memory
        if self._due_ns is not None and self._answered():
            self._go(now_ns)

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        return None if self.seen else self._due_ns

    def wake(self, now_ns: int) -> None:
        if self.seen is None and (self._due_ns is None or now_ns >= self._due_ns):
            self._go(now_ns)

    # ------------------------------------------------------------ the questions

    def _go(self, now_ns: int) -> None:
        pause_ms = next(self._steps, None)
        self._due_ns = None if pause_ms is None else now_ns + pause_ms * MS
        if pause_ms is None and self.seen is None:
            self.seen = self._other()

    def _answered(self) -> bool:
        return self._wanted is not None and any(self._wanted.match(line) for line in self._lines)

    def _ask(self) -> Iterator[int]:
        """Puts bytes into ``_out``, yields how long to wait (ms), and ends with ``seen`` set."""
        self._wanted: re.Pattern[str] | None = None
        yield LISTEN_MS
        self._out += b"?"
        self._wanted = _STATUS
        yield ANSWER_MS
        if (status := self._found(_STATUS)) or any(line.startswith("Grbl") for line in self._lines):
            word = status[1] if status else ""
            yield from self._ask_grbl(word)
            return
        self._wanted = re.compile(r"<[0-9A-F]{4}:1:ERR code=BOOT\|")
        for _ in range(2):
            self._out += PING
            yield ANSWER_MS
            if self._answered():
                break
        else:
            return
        self._wanted = re.compile(r"<[0-9A-F]{4}:0:HELLO ")
        for _ in range(2):
            self._out += self._hello
            yield ANSWER_MS
            for line in self._lines:
                if self._wanted.match(line) and (seen := _applicator(line)) is not None:
                    self.seen = seen
                    return
        self.seen = Seen("applicator", "?", note="it answers PING, but not HELLO of version 1")

    def _ask_grbl(self, word: str) -> Iterator[int]:
        if word not in ("Idle", "Alarm", ""):
            note = f"Grbl that says {word}: it is at work, so it was not asked for its name"
            self.seen = Seen("other", "Grbl", note=note)
            return
        self._wanted = re.compile(r"\[VER:")
        for _ in range(2):
            self._out += b"$I\n"
            yield ANSWER_MS
            if found := self._found(_VERSION):
                name = found[2]
                is_rig = bool(_RIG_NAME.fullmatch(name))
                note = "" if is_rig else f"Grbl that calls itself {name!r}, not RIG-<serial>"
                firmware = f"Grbl {found[1]}"
                self.seen = Seen("rig" if is_rig else "other", name, name.startswith("SIM-"), firmware, note)
                return
        self.seen = Seen("other", "Grbl", note="Grbl that does not tell its name, perhaps after an alarm")

    def _found(self, form: re.Pattern[str]) -> re.Match[str] | None:
        return next((match for line in reversed(self._lines) if (match := form.match(line))), None)

    def _other(self) -> Seen:
        heard = " ".join(self._lines)[:60] or self._rest.decode("ascii", "replace")[:60]
        return Seen("other", heard) if heard else Seen("silent")


def _applicator(line: str) -> Seen | None:
    try:
        values = decode(line.encode("ascii", "replace")).values
        return Seen("applicator", f"{values['id']}/{values['sn']}", values["sim"] == "1", values["fw"])
    except (DeviceMisbehaved, KeyError):
        return None


def choose(wanted: str, seen: Mapping[str, Seen]) -> str:
    """The one URL at which a ``wanted`` ("rig" or "applicator") answers.

    Raises:
        ValueError: none or several; one sentence says what was seen where.
    """
    found = [url for url, what in seen.items() if what.kind == wanted]
    if len(found) == 1:
        return found[0]
    told = "; ".join(f"{url}: {what.in_words()}" for url, what in seen.items()) or "there is no serial port"
    if not found:
        raise ValueError(f"no {wanted} was found ({told}); is it plugged in and switched on?")
    raise ValueError(f"{len(found)} devices answer as {wanted} ({told}); give the port of the one to use.")


def why_not_that_one(wanted: str, url: str, seen: Seen) -> str | None:
    """Why the device at ``url`` is certainly not the ``wanted`` one (it is the other kind), or None."""
    other = "applicator" if wanted == "rig" else "rig"
    if seen.kind != other:
        return None
    return f"{url} was given as the {wanted}, but {seen.in_words()} answers there; are the two ports swapped?"
