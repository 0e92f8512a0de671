"""The simulated applicator at its serial line: packets in, packets out. From drivers/WIRE.md 1.1-1.6.

Knows sessions, numbers and stored replies; what a command does is the board's (applicator_board.py). The same
object answers in a test on a virtual clock, behind a pseudo-terminal or behind a TCP port.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from simulator import line
from simulator.applicator_board import ApplicatorBoard, ApplicatorIdentity, RefusedError
from simulator.applicator_ledger import Memory
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.nonvolatile import NonVolatile

_BUSY_TELEMETRY_NS = 200_000_000
_IDLE_TELEMETRY_NS = 1_000_000_000
_LATCHES = "NONE|JAM|DOUBLE|UNKNOWN|AXIS|ESTOP|STOP|WATCH"
_INTEGER = "-?[0-9]+"  # line.integer() then looks for leading zeros and size
_FORMS: Final = {
    "sid": "[0-9A-F]{4}",
    "tok": "[0-9A-F]{4}",
    "p": "[0-9A-F]{8}",
    "ax": "z|s",
    "la": _LATCHES,
    "as": "IN|WA|LF|NO",
}
_PATTERNS = {key: re.compile(f"(?:{form})\\Z") for key, form in _FORMS.items()}

Pairs = dict[str, int | str]
Values = Mapping[str, str]


class ApplicatorFirmware:
    """One powered-up applicator; a reset is a new object on the same store.

    Args:
        mechanics: motors, sensors and what truly happens.
        store: the non-volatile memory; its boot counter goes up by one.
        identity: what HELLO tells.
        start_ns: when the power came on.
    """

    def __init__(
        self,
        mechanics: ApplicatorMechanics,
        store: NonVolatile,
        identity: ApplicatorIdentity | None = None,
        *,
        start_ns: int = 0,
    ) -> None:
        self._identity = identity or ApplicatorIdentity()
        self._mechanics = mechanics
        memory = Memory(store)
        self._boot = f"{memory.now.boot:04X}"
        self.board = ApplicatorBoard(mechanics, memory, self._identity, start_ns)
        self._reader = line.LineReader()
        self._out = bytearray()
        self._now_ns = start_ns
        self._is_dead = False
        self._session: str | None = None
        self._last_number, self._last_line, self._last_reply = 0, b"", b""
        self._hello_reply = b""
        self._events = self._telegrams = 0
        self._telemetry_ns: int | None = None
        self._undecoded = 0
        self._commands: Final[dict[str, tuple[tuple[str, ...], Callable[[Values], Pairs]]]] = {
            "PING": ((), lambda _: {"st": self.board.state}),
            "STAT": ((), lambda _: self.board.status()),
            "HOME": (("ax",), self._home),
            "MOVE": (("z", "v"), self._move),
            "BEGIN": (("p",), self._begin),
            "CART": (("k", "c", "w"), self._cartridge),
            "ARM": (("n", "z", "tok"), self._arm),
            "FIRE": (("n", "tok"), self._fire),
            "DISARM": ((), self._disarm),
            "RES": (("n",), lambda v: self.board.result(int(v["n"]))),
            "CLEAR": (("la", "n", "as"), self._clear),
            "LEDGER": ((), lambda _: self.board.ledger()),
            "END": (("w",), self._end),
        }
        self._event("BOOTED", {"v": 1, "id": self._identity.id})

    # -- the four verbs -------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host. Nothing that arrives raises; a planned power cut does (PowerCutError)."""
        if self._is_dead:
            return
        self.wake(now_ns)
        for text in self._reader.feed(data):
            if text is None:
                self.board.stop("HOST", "STOP")
            else:
                self._hear(text)
            self._tell_events()

    def take(self) -> bytes:
        """Bytes for the host since the last call."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        if self._is_dead:
            return None
        due = [when for when in (self.board.next_wake(), self._telemetry_due()) if when is not None]
        return min(due, default=None)

    def wake(self, now_ns: int) -> None:
        """Do all that is due until ``now_ns``, each at its own time."""
        while not self._is_dead and (due_ns := self.next_wake()) is not None and due_ns <= now_ns:
            self._step(max(due_ns, self._now_ns))
        if not self._is_dead and self._now_ns < now_ns:
            self._step(now_ns)

    def power_cut(self, now_ns: int | None = None) -> None:
        """The power goes: motors stop where they are, what was not sent is lost, this object is dead.

        A new object on the same store is the next boot.
        """
        if now_ns is not None and not self._is_dead:
            self.wake(now_ns)
        self._is_dead = True
        self._out.clear()
        self._mechanics.halt(self._now_ns)

    @property
    def discarded(self) -> int:
        """Lines that could not be decoded."""
        return self._undecoded + self._reader.discarded

    # -- time -----------------------------------------------------------------------------------------

    def _step(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self.board.step(now_ns)
        self._tell_events()
        due_ns = self._telemetry_due()
        if due_ns is not None and due_ns <= now_ns:
            self._telemetry_ns = now_ns
            self._telegrams += 1
            self._send("~", self._telegrams, "T", self.board.telemetry())

    def _telemetry_due(self) -> int | None:
        """Counted from the last one, so that a motion that begins is soon told."""
        if self._telemetry_ns is None:
            return None
        is_quiet = self.board.state in ("IDLE", "LATCHED")
        return self._telemetry_ns + (_IDLE_TELEMETRY_NS if is_quiet else _BUSY_TELEMETRY_NS)

    # -- packets --------------------------------------------------------------------------------------

    def _send(self, sigil: str, number: int, name: str, pairs: Pairs) -> bytes:
        packet = line.encode(sigil, self._boot, number, name, **pairs)
        self._out += packet
        return packet

    def _event(self, name: str, pairs: Pairs) -> None:
        self._events += 1
        self._send("!", self._events, name, pairs)

    def _tell_events(self) -> None:
        events, self.board.events = self.board.events, []
        for name, pairs in events:
            self._event(name, pairs)

    def _error(self, number: int, code: str, **extra: int | str) -> bytes:
        return self._send("<", number, "ERR", {"code": code, **extra})

    def _hear(self, text: bytes) -> None:
        """One line from the host: at most once."""
        try:
            packet = line.decode(text)
        except line.MalformedError:
            self._undecoded += 1
            return
        number, following = packet.number, self._last_number + 1
        if packet.sigil != ">":
            self._undecoded += 1
        elif packet.name == "HELLO":
            self._hello(text, packet)
        elif packet.boot != self._boot:
            self._error(number, "BOOT")
        elif self._session is None:
            self._error(number, "GAP", want=0)
        elif number == self._last_number:
            if text == self._last_line:
                self.board.heard_ns = self._now_ns
                self._out += self._last_reply
            else:
                self._error(number, "SEQ")
        elif number != following:
            self._error(number, "GAP", want=following)
        else:
            self.board.heard_ns = self._now_ns
            self._last_number, self._last_line = number, text
            self._last_reply = self._answer(packet)

    def _hello(self, text: bytes, packet: line.Packet) -> None:
        values = _values(packet, ("v", "sid"))
        if values is None or values["v"] != "1" or (packet.boot, packet.number) != ("0000", 0):
            self._error(packet.number, "FORM")
            return
        self.board.heard_ns = self._now_ns
        if values["sid"] == self._session:
            self._out += self._hello_reply
            return
        self.board.new_session()
        self._session = values["sid"]
        it = self._identity
        self._hello_reply = self._send(
            "<",
            0,
            "HELLO",
            {
                "v": 1,
                "sid": self._session,
                "id": it.id,
                "sn": it.serial,
                "fw": it.firmware,
                "sim": int(it.is_simulated),
                "cap": it.capacity,
                "det": it.detent_um,
                "ga": it.gauge,
            },
        )
        self._last_number, self._last_line, self._last_reply = 0, text, self._hello_reply
        self._telemetry_ns = self._now_ns

    def _answer(self, packet: line.Packet) -> bytes:
        """Do the command; its reply, which is sent and stored."""
        known = self._commands.get(packet.name)
        values = None if known is None else _values(packet, known[0])
        if known is None or values is None:
            return self._error(packet.number, "FORM")
        try:
            pairs = known[1](values)
        except RefusedError as refused:
            return self._error(packet.number, refused.code, **refused.extra)
        return self._send("<", packet.number, packet.name, pairs)

    # -- commands: text to the board and back ---------------------------------------------------------

    def _home(self, v: Values) -> Pairs:
        self.board.home(v["ax"])
        return {"ax": v["ax"]}

    def _move(self, v: Values) -> Pairs:
        self.board.move(int(v["z"]), int(v["v"]))
        return {"z": int(v["z"])}

    def _begin(self, v: Values) -> Pairs:
        again = self.board.begin(v["p"])
        return {"p": v["p"], "n": self.board.memory.now.counter, "dup": again}

    def _cartridge(self, v: Values) -> Pairs:
        number, seeds = int(v["k"]), int(v["c"])
        self.board.cartridge(number, seeds, int(v["w"]))
        return {"k": number, "c": seeds, "left": self.board.memory.now.left}

    def _arm(self, v: Values) -> Pairs:
        encoder_um = self.board.arm(int(v["n"]), int(v["z"]), v["tok"])
        return {"n": int(v["n"]), "z": encoder_um, "tok": v["tok"]}

    def _fire(self, v: Values) -> Pairs:
        n = int(v["n"])
        out = self.board.fire(n, v["tok"])
        return {"n": n, "dup": 0} if out is None else {"n": n, "dup": 1, "out": out}

    def _disarm(self, _: Values) -> Pairs:
        self.board.disarm()
        return {}

    def _clear(self, v: Values) -> Pairs:
        self.board.clear(v["la"], int(v["n"]), v["as"])
        return {"la": self.board.latch}

    def _end(self, v: Values) -> Pairs:
        self.board.end(int(v["w"]))
        return {"p": self.board.memory.now.procedure}


def _values(packet: line.Packet, keys: tuple[str, ...]) -> Values | None:
    """The packet's pairs, if they are these keys in this order and each value has its form."""
    pairs = packet.pairs
    if pairs is None or tuple(pairs) != keys:
        return None
    for key, text in pairs.items():
        pattern = _PATTERNS.get(key)
        is_right = line.integer(text) is not None if pattern is None else bool(pattern.match(text))
        if not is_right or (key == "n" and int(text) < 0):
            return None
    return pairs
