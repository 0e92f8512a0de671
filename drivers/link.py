"""The session with the applicator: at most once, over a line that may lose anything.

Knows: boot, session ids, command numbers, the one line in flight and when to send *the same line* again, the
keep-alive, the stop byte, the events' counter (WIRE.md 1.2, 1.5). Does not know: what a command does, seeds.

No I/O and no clock: ``receive``, ``take``, ``next_wake``, ``wake``; time is an integer in ns.

A stop goes before everything. Until the device shows that it stands latched, nothing but the stop byte is
sent (so that its watchdog stops it should the stop byte get lost): a line in flight is sent again only
afterwards, when the latch refuses what was not begun before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from drivers.fault import DeviceMisbehaved
from drivers.packet import STOP, Packet, Splitter
from drivers.vocabulary import why_not_of_form

MS = 1_000_000
RESEND_NS = 100 * MS
RESENDS = 5
BRISK_PING_NS = 200 * MS
IDLE_PING_NS = 1000 * MS
STOPS = 15
MOVING = frozenset({"HOME", "MOVE", "ARM", "FIRE"})


@dataclass(frozen=True)
class Opened:
    """A session is open; the device's HELLO."""

    packet: Packet


@dataclass(frozen=True)
class Answered:
    """The reply to the oldest ``ask`` not answered yet (ERR too)."""

    packet: Packet


@dataclass(frozen=True)
class Withheld:
    """The oldest ``ask`` not answered yet was not sent and won't be: a stop came first."""

    name: str


@dataclass(frozen=True)
class Heard:
    """An event, telemetry, or the answer to a keep-alive."""

    packet: Packet


@dataclass(frozen=True)
class Missed:
    """Events were lost on the way."""

    count: int


@dataclass(frozen=True)
class StopHeard:
    """After a stop: the device stands latched, as this packet shows."""

    packet: Packet


@dataclass(frozen=True)
class Restarted:
    """The device was reset; the session is over."""

    old_boot: str
    new_boot: str


@dataclass(frozen=True)
class Lost:
    """The session is over; why."""

    sentence: str


Notice = Opened | Answered | Withheld | Heard | Missed | StopHeard | Restarted | Lost


@dataclass
class _InFlight:
    packet: Packet
    line: bytes
    sent: int
    due_ns: int


class Link:
    """One session after the other with one device.

    Args:
        port: how the port is called in messages.
        session_id: four upper-case hex digits. Each greeting takes the next one.
    """

    def __init__(self, port: str, session_id: str) -> None:
        self.port = port
        self.boot = "0000"
        self.is_open = False
        self.brisk = False
        """Ping every 200 ms (something is armed or moves) instead of every second."""
        self._next_sid = int(session_id, 16)
        if len(session_id) != 4 or session_id != f"{self._next_sid:04X}":
            raise ValueError(f"a session id is four upper-case hex digits, not {session_id!r}")
        self._splitter = Splitter(port)
        self._notices: list[Notice] = []
        self._out = bytearray()
        self._number = 0
        self._flight: _InFlight | None = None
        self._waiting: deque[tuple[str, tuple[tuple[str, str], ...]]] = deque()
        self._greetings_left = 0
        self._sid = ""
        self._last_sent_ns = 0
        self._events_seen: tuple[str, int] | None = None  # boot, last counter
        self._telemetry_seen = 0
        self._stops_left = 0
        self._stop_due_ns: int | None = None

    # ------------------------------------------------------------ what the driver asks for

    @property
    def garbage(self) -> int:
        """Lines discarded so far."""
        return self._splitter.garbage

    @property
    def is_free(self) -> bool:
        """Nothing in flight and nothing waiting."""
        return self._flight is None and not self._waiting

    @property
    def is_stopping(self) -> bool:
        """A stop byte has been sent and nothing shows yet that the device obeyed."""
        return self._stop_due_ns is not None

    def notices(self) -> list[Notice]:
        """What happened since the last call."""
        drained, self._notices = self._notices, []
        return drained

    def open_session(self, now_ns: int) -> None:
        """Greet the device; ends in ``Opened`` or ``Lost``.

        Greets twice, with different ids: should the first be that of the present session (a host that was
        restarted), the second is certainly not, so no stored reply of old can answer a new command.
        """
        self._end_session()
        self._greetings_left = 2
        self._greet(now_ns)

    def close(self) -> None:
        """Say and hear nothing more in this session."""
        self._end_session()

    def ask(self, name: str, pairs: tuple[tuple[str, str], ...], now_ns: int) -> None:
        """Send one command as soon as the one before is answered; ends in ``Answered`` (or session's end)."""
        if not self.is_open:
            raise ValueError("no session is open")
        if self.is_stopping and name in MOVING:
            self._notices.append(Withheld(name))
            return
        self._waiting.append((name, pairs))
        self._send_next(now_ns)

    def stop(self, now_ns: int) -> None:
        """Put the stop byte in front of everything, and repeat it until the device shows that it obeyed."""
        if self._flight and self._flight.sent == 1 and self._flight.line in self._out:
            packet = self._flight.packet  # it never left, so its number isn't taken
            if packet.name != "HELLO":
                self._waiting.appendleft((packet.name, packet.pairs))
                self._number -= 1
                self._flight = None
        self._out[:] = STOP
        for _ in range(len(self._waiting)):
            name, pairs = self._waiting.popleft()
            if name in MOVING:
                self._notices.append(Withheld(name))
            elif name != "PING":
                self._waiting.append((name, pairs))
        self._stops_left = STOPS
        self._stop_due_ns = now_ns + RESEND_NS

    # ------------------------------------------------------------ the four verbs

    def receive(self, data: bytes, now_ns: int) -> None:
        for packet in self._splitter.receive(data):
            why = why_not_of_form(packet)
            if why is not None:
                self._splitter.discard(DeviceMisbehaved(self.port, packet.encode(), why))
                continue
            self._hear(packet, now_ns)

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        if self._stop_due_ns is not None:
            return self._stop_due_ns
        if self._flight is not None:
            return self._flight.due_ns
        if self.is_open:
            return self._last_sent_ns + (BRISK_PING_NS if self.brisk else IDLE_PING_NS)
        return None

    def wake(self, now_ns: int) -> None:
        due_ns = self.next_wake()
        if due_ns is None or now_ns < due_ns:
            return
        if self.is_stopping:
            self._stop_again(now_ns)
        elif self._flight is not None:
            self._send_again(self._flight, now_ns)
        else:
            self._waiting.append(("PING", ()))
            self._send_next(now_ns)

    # ------------------------------------------------------------ sending

    def _greet(self, now_ns: int) -> None:
        self._sid = f"{self._next_sid:04X}"
        self._next_sid = (self._next_sid + 1) % 0x10000
        self._send(Packet(">", "0000", 0, "HELLO", (("v", "1"), ("sid", self._sid))), now_ns)

    def _send_next(self, now_ns: int) -> None:
        if self._flight is None and self._waiting and not self.is_stopping:
            name, pairs = self._waiting.popleft()
            self._number += 1
            self._send(Packet(">", self.boot, self._number, name, pairs), now_ns)

    def _send(self, packet: Packet, now_ns: int) -> None:
        line = packet.encode()
        self._flight = _InFlight(packet, line, 1, now_ns + RESEND_NS)
        self._out += line
        self._last_sent_ns = now_ns

    def _send_again(self, flight: _InFlight, now_ns: int) -> None:
        if flight.sent > RESENDS:
            fault = self._splitter.last_fault
            heard = f"; last unusable line: {fault.sentence}" if fault and self.garbage else ""
            self._lose(f"no answer to {flight.packet.name} sent {flight.sent} times{heard}")
            return
        flight.sent += 1
        flight.due_ns = now_ns + RESEND_NS
        if flight.line not in self._out:  # else nobody took it yet
            self._out += flight.line
        self._last_sent_ns = now_ns

    def _stop_again(self, now_ns: int) -> None:
        self._stops_left -= 1
        if self._stops_left == 0:
            self._stop_due_ns = None
            self._lose("the stop byte was sent again and again and not acknowledged")
            return
        self._out[:0] = STOP
        self._stop_due_ns = now_ns + RESEND_NS

    # ------------------------------------------------------------ hearing

    def _hear(self, packet: Packet, now_ns: int) -> None:
        if self.is_stopping and _shows_latched(packet):
            self._stop_obeyed(packet, now_ns)
        if self._flight is not None and self._flight.packet.name == "HELLO":
            self._hear_greeted(packet, now_ns)
        elif not self.is_open:
            self._note_event_counter(packet)
        elif packet.boot != self.boot:
            old_boot = self.boot
            self._end_session()
            self._note_event_counter(packet)
            self._notices.append(Restarted(old_boot, packet.boot))
        elif packet.sigil == "<":
            self._hear_reply(packet, now_ns)
        elif packet.sigil == "~":
            if packet.number > self._telemetry_seen:
                self._telemetry_seen = packet.number
                self._notices.append(Heard(packet))
        else:
            self._hear_event(packet)

    def _hear_greeted(self, packet: Packet, now_ns: int) -> None:
        if packet.sigil != "<":
            self._note_event_counter(packet)
            return
        if packet.number != 0 or packet.name not in ("HELLO", "ERR"):
            return
        if packet.name == "ERR":
            self._lose("the device refuses this version of the wire")
            return
        if packet.values["sid"] != self._sid:
            return
        self._greetings_left -= 1
        self._flight = None
        if self._greetings_left:
            self._greet(now_ns)
            return
        self.boot = packet.boot
        self.is_open = True
        self._number = 0
        self._telemetry_seen = 0
        self._notices.append(Opened(packet))

    def _hear_reply(self, packet: Packet, now_ns: int) -> None:
        flight = self._flight
        if flight is None or packet.number != flight.packet.number:
            return  # a second answer to a line sent twice
        if packet.name == "ERR" and packet.values["code"] in ("GAP", "SEQ", "BOOT"):
            self._lose(f"the session is out of step ({packet.values['code']}); has another host spoken?")
            return
        if packet.name not in ("ERR", flight.packet.name):
            self._lose(f"{flight.packet.name} was answered by {packet.name}")
            return
        self._flight = None
        self._notices.append(Heard(packet) if flight.packet.name == "PING" else Answered(packet))
        self._send_next(now_ns)

    def _hear_event(self, packet: Packet) -> None:
        seen = self._events_seen
        if seen is not None and seen[0] == packet.boot:
            if packet.number <= seen[1]:
                return  # the cable said it twice
            if packet.number > seen[1] + 1:
                self._notices.append(Missed(packet.number - seen[1] - 1))
        self._note_event_counter(packet)
        self._notices.append(Heard(packet))

    def _note_event_counter(self, packet: Packet) -> None:
        if packet.sigil == "!":
            self._events_seen = (packet.boot, packet.number)

    def _stop_obeyed(self, packet: Packet, now_ns: int) -> None:
        self._stop_due_ns = None
        self._notices.append(StopHeard(packet))
        flight = self._flight
        if flight is not None and flight.packet.name == "CLEAR":
            # Sent again it could clear the very latch that this stop has set.
            self._lose("stopped while a latch was being cleared")
        elif flight is not None:
            flight.due_ns = now_ns + RESEND_NS
        else:
            self._send_next(now_ns)

    def _lose(self, sentence: str) -> None:
        self._end_session()
        self._notices.append(Lost(sentence))

    def _end_session(self) -> None:
        self.is_open = False
        self.brisk = False
        self._greetings_left = 0
        self._flight = None
        self._waiting.clear()
        kept = STOP if self.is_stopping and STOP in self._out else b""
        self._out[:] = kept


def _shows_latched(packet: Packet) -> bool:
    values = packet.values
    if packet.name == "ERR":
        return values["code"] in ("LATCH", "ESTOP")
    return packet.name == "STOPPED" or values.get("st") == "LATCHED" or values.get("la", "NONE") != "NONE"
