"""A technician's self-test of one device: what a check finds, and the bench on which it is made.

Knows: findings with limit, unit and remedy; how to let time pass while a driver or a bare conversation speaks on the
line. Does not know: ports, clocks (a transport brings both), who the person is, and what is checked of which device
(``bench_check_applicator``, ``bench_check_rig``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

MS = 1_000_000
Verdict = Literal["pass", "fail", "not tested"]


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        measured, limit, unit: in words; ``measured`` is empty where nothing was measured.
        words: what was seen, or why it was not tested.
        remedy: what to do on failure.
    """

    device: str
    check: str
    verdict: Verdict
    measured: str = ""
    limit: str = ""
    unit: str = ""
    words: str = ""
    remedy: str = ""


class Transport(Protocol):
    """The line with its clock, as ``controller.ports.PortTransport`` is one."""

    def now_ns(self) -> int: ...
    def exchange(self) -> bool: ...
    def wait(self, wake_ns: int | None) -> None: ...
    def lost(self) -> list[tuple[str, str]]: ...


class Speaker(Protocol):
    """A driver, or a bare conversation: the four verbs."""

    def receive(self, data: bytes, now_ns: int) -> None: ...
    def take(self) -> bytes: ...
    def next_wake(self) -> int | None: ...
    def wake(self, now_ns: int) -> None: ...


class Person(Protocol):
    """Who stands at the device."""

    def agrees(self, question: str) -> bool:
        """Yes or no to a question; asked before anything moves and before a latch is cleared."""

    def does(self, task: str, words: str, *, count: int = 0, returned: int = 0) -> bool:
        """A thing done by hand (``seat_cartridge``, ``remove_cartridge``, ``open_estop`` ...); False: not done."""


class LineGone(Exception):
    """The port is gone; the message says why."""


class Declined(Exception):
    """The person said no; the message says to what."""


class Broken(Exception):
    """A check can't go on, and so none that comes after it; its failure is on the table already."""


class Tap:
    """Whoever speaks on the line at present, with a record, and with a finger on what comes back."""

    def __init__(self) -> None:
        self.speaker: Speaker | None = None
        self.sent = bytearray()
        self.swallowed = b""
        self._swallow: Callable[[bytes], bool] | None = None
        self._held = bytearray()

    def swallow(self, is_it: Callable[[bytes], bool]) -> None:
        """Lose the next line that comes in and is it."""
        self._swallow, self.swallowed = is_it, b""

    def receive(self, data: bytes, now_ns: int) -> None:
        if self._swallow is not None:
            *lines, rest = (bytes(self._held) + data).split(b"\n")
            self._held = bytearray(rest)
            data = b""
            for line in lines:
                if self._swallow is not None and self._swallow(line):
                    self._swallow, self.swallowed = None, line
                    continue
                data += line + b"\n"
            if self._swallow is None:
                data, self._held = data + bytes(self._held), bytearray()
        if self.speaker is not None and data:
            self.speaker.receive(data, now_ns)

    def take(self) -> bytes:
        data = b"" if self.speaker is None else self.speaker.take()
        self.sent += data
        return data


class Bench:
    """One device on the bench.

    Args:
        tap: stands between speaker and transport.
        transport: joined with ``tap``.
        told: gets a line for the screen now and then.
    """

    def __init__(
        self,
        device: str,
        tap: Tap,
        transport: Transport,
        person: Person,
        told: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.device, self.tap, self.transport, self.person, self.told = device, tap, transport, person, told
        self.findings: list[Finding] = []

    def now_ns(self) -> int:
        return self.transport.now_ns()

    def until(self, is_over: Callable[[], bool], longest_ms: float) -> bool:
        """Serve the line until it is so; False when the time is up. LineGone when the port is."""
        end_ns = self.now_ns() + round(longest_ms * MS)
        while True:
            moved = self.transport.exchange()
            for _, why in self.transport.lost():
                raise LineGone(why)
            if is_over():
                return True
            now_ns, speaker = self.now_ns(), self.tap.speaker
            if now_ns >= end_ns:
                return False
            wake_ns = None if speaker is None else speaker.next_wake()
            if speaker is not None and wake_ns is not None and wake_ns <= now_ns:
                speaker.wake(now_ns)
            elif not moved:
                self.transport.wait(end_ns if wake_ns is None else min(end_ns, wake_ns))

    def rest(self, milliseconds: float) -> None:
        """Serve the line for so long."""
        self.until(lambda: False, milliseconds)

    # ------------------------------------------------------------ findings

    def passed(self, check: str, words: str = "") -> None:
        self.findings.append(Finding(self.device, check, "pass", words=words))

    def failed(self, check: str, words: str, remedy: str) -> None:
        self.findings.append(Finding(self.device, check, "fail", words=words, remedy=remedy))

    def not_tested(self, check: str, why: str) -> None:
        self.findings.append(Finding(self.device, check, "not tested", words=why))

    def require(self, check: str, is_so: bool, words: str, remedy: str) -> bool:
        """Passed or failed by a yes or no; gives it back."""
        if is_so:
            self.passed(check, words)
        else:
            self.failed(check, words, remedy)
        return is_so

    def measure(
        self,
        check: str,
        value: float,
        most: float,
        unit: str,
        remedy: str,
        *,
        least: float | None = None,
        digits: int = 2,
        words: str = "",
    ) -> bool:
        """Passed when ``least <= value <= most``; gives that back."""
        is_within = value <= most and (least is None or value >= least)
        limit = f"<= {most:.{digits}f}" if least is None else f"{least:.{digits}f} to {most:.{digits}f}"
        self.findings.append(
            Finding(
                self.device,
                check,
                "pass" if is_within else "fail",
                f"{value:.{digits}f}",
                limit,
                unit,
                words,
                "" if is_within else remedy,
            )
        )
        return is_within

    def may(self, question: str) -> None:
        """Ask the person. Raises Declined."""
        if not self.person.agrees(question):
            raise Declined(f"the person said no to: {question}")

    def run(self, checks: list[tuple[str, Callable[[], None]]]) -> None:
        """One check after the other. What can't be made any more is on the table as not tested, with the reason."""
        why = ""
        for name, check in checks:
            if why:
                self.not_tested(name, why)
                continue
            self.told(f"{self.device}: {name}")
            before = len(self.findings)
            try:
                check()
            except Declined as no:
                why = str(no)
                self.not_tested(name, why)
            except Broken as problem:
                why = f"not after the failure of '{name}'"
                if not any(finding.verdict == "fail" for finding in self.findings[before:]):
                    self.failed(name, str(problem), "See the words; then test again from the beginning.")
            except LineGone as problem:
                why = f"the line is gone: {problem}"
                self.failed(name, str(problem), "Check cable, plug and supply; then test again.")
