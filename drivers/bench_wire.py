"""Bare conversations with both devices, for a self-test: what is said is exactly what a check wants said.

Knows: packets and their numbers without a driver's rules (no resending, pings only when asked for); Grbl's lines
as they come. Does not know: what a check wants with it. Both are speakers on ``bench_check.Bench``.
"""

from __future__ import annotations

from collections.abc import Mapping

from drivers.bench_check import MS, Bench, Broken
from drivers.grbl import Line, LineSplitter, Status
from drivers.packet import STOP, Packet, Splitter

REPLY_MS = 400
PING_NS = 200 * MS


class Wire:
    """A session of its own with the applicator.

    Args:
        bench: whose line it takes with ``open``.
        sid: number of the first session id; counts on from there.

    Attributes:
        heard: every packet with the time it came (ns).
        last: the last command's line.
        pinging: send a PING every 200 ms that nothing else was said.
    """

    def __init__(self, bench: Bench, sid: int) -> None:
        self._bench, self._sid = bench, sid
        self._splitter = Splitter("applicator")
        self.heard: list[tuple[int, Packet]] = []
        self.boot, self.number, self.last = "0000", 0, b""
        self.pinging = False
        self.said_ns = 0
        self._out = bytearray()

    # ------------------------------------------------------------ the four verbs

    def receive(self, data: bytes, now_ns: int) -> None:
        self.heard += [(now_ns, packet) for packet in self._splitter.receive(data)]

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        return self.said_ns + PING_NS if self.pinging else None

    def wake(self, now_ns: int) -> None:
        if self.pinging and now_ns >= self.said_ns + PING_NS:
            self.number += 1
            self.say(self.line("PING"), now_ns)

    # ------------------------------------------------------------ speaking

    @property
    def garbage(self) -> int:
        return self._splitter.garbage

    def line(
        self,
        name: str,
        pairs: Mapping[str, object] | None = None,
        *,
        number: int | None = None,
        boot: str | None = None,
    ) -> bytes:
        """A command's line; by default under the present boot and number."""
        told = tuple((key, str(value)) for key, value in (pairs or {}).items())
        n = self.number if number is None else number
        return Packet(">", self.boot if boot is None else boot, n, name, told).encode()

    def say(self, data: bytes, now_ns: int | None = None) -> int:
        """Bytes as they are; the time (ns) at which they left."""
        self._out += data
        self.said_ns = self._bench.now_ns() if now_ns is None else now_ns
        self._bench.transport.exchange()
        return self.said_ns

    def open(self) -> Packet | None:
        """Take the line and greet twice, with different ids; the HELLO, or None when nobody answers it."""
        self._bench.tap.speaker = self
        self.pinging = False
        hello = None
        for _ in range(2):
            for _ in range(3):
                self._sid = (self._sid + 1) % 0x10000
                greeting = Packet(">", "0000", 0, "HELLO", (("v", "1"), ("sid", f"{self._sid:04X}")))
                hello = self.exchange(greeting.encode(), 0)
                if hello is not None:
                    break
            if hello is None:
                return None
        assert hello is not None
        self.boot, self.number = hello.boot, 0
        return hello

    def exchange(self, data: bytes, number: int, longest_ms: float = REPLY_MS) -> Packet | None:
        """Say it; the reply with this number, or None."""
        mark = len(self.heard)
        self.say(data)
        self._bench.until(lambda: self.reply(mark, number) is not None, longest_ms)
        return self.reply(mark, number)

    def ask(self, name: str, **pairs: object) -> Packet:
        """The next command; its reply (ERR too). Broken when none comes."""
        self.number += 1
        self.last = self.line(name, pairs)
        reply = self.exchange(self.last, self.number)
        if reply is None:
            raise Broken(f"no answer to {name} within {REPLY_MS} ms")
        return reply

    def again(self) -> Packet | None:
        """The last command's line once more."""
        return self.exchange(self.last, self.number)

    def stop(self) -> int:
        """The stop byte; when it left."""
        return self.say(STOP)

    # ------------------------------------------------------------ hearing

    def reply(self, mark: int, number: int) -> Packet | None:
        return next((p for _, p in self.heard[mark:] if p.sigil == "<" and p.number == number), None)

    def event(self, mark: int, name: str, **pairs: str) -> tuple[int, Packet] | None:
        """The first event of this name and these values since ``mark`` (a length of ``heard``)."""
        for when_ns, packet in self.heard[mark:]:
            if packet.sigil == "!" and packet.name == name and pairs.items() <= packet.values.items():
                return when_ns, packet
        return None

    def wait_event(self, mark: int, name: str, longest_ms: float, **pairs: str) -> tuple[int, Packet] | None:
        self._bench.until(lambda: self.event(mark, name, **pairs) is not None, longest_ms)
        return self.event(mark, name, **pairs)

    def count(self, mark: int, name: str) -> int:
        return sum(packet.sigil == "!" and packet.name == name for _, packet in self.heard[mark:])


class GrblTalk:
    """Grbl's line without a driver.

    Attributes:
        heard: every line with the time it came (ns).
        raw: all bytes that came.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._splitter = LineSplitter()
        self.heard: list[tuple[int, Line]] = []
        self.raw = bytearray()
        self._out = bytearray()

    def receive(self, data: bytes, now_ns: int) -> None:
        self.raw += data
        self.heard += [(now_ns, line) for line in self._splitter.receive(data)]

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        return None

    def wake(self, _now_ns: int) -> None: ...

    @property
    def garbage(self) -> int:
        return self._splitter.garbage

    def open(self) -> None:
        """Take the line."""
        self._bench.tap.speaker = self
        self._splitter.flush()

    def say(self, data: bytes) -> int:
        """Bytes as they are; when they left."""
        self._out += data
        now_ns = self._bench.now_ns()
        self._bench.transport.exchange()
        return now_ns

    def until(self, mark: int, kinds: type | tuple[type, ...], longest_ms: float) -> tuple[int, Line] | None:
        """The first line of these kinds since ``mark`` (a length of ``heard``), waiting for it."""

        def found() -> tuple[int, Line] | None:
            return next(((t, line) for t, line in self.heard[mark:] if isinstance(line, kinds)), None)

        self._bench.until(lambda: found() is not None, longest_ms)
        return found()

    def ask(self, data: bytes, kinds: type | tuple[type, ...], longest_ms: float) -> Line | None:
        """Say it; the first line of these kinds that comes, or None."""
        mark = len(self.heard)
        self.say(data)
        found = self.until(mark, kinds, longest_ms)
        return None if found is None else found[1]

    def status(self) -> Status:
        """Where it says it is. Broken when it does not say."""
        for _ in range(5):
            status = self.ask(b"?", Status, 300)
            if isinstance(status, Status):
                return status
        raise Broken("the board does not answer ?")
