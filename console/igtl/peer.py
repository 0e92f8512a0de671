"""One client of the server: bytes in, bytes out, time as an argument, no socket.

A client is told of the run from ``QUIET_NS`` after it came on, 10 times a second. One that speaks the robot protocol
(its first ``CMD_``) is from then on told what that protocol says and no more, since such clients expect one message
after another; ``STT_TRANS`` brings the rest back, ``STP_TRANS`` ends it. What a client does not read it misses:
nothing is queued for it but answers to what it said, and those only up to ``MOST_ANSWERS``.
"""

from __future__ import annotations

from collections.abc import Callable

from console.igtl.body import pack_kinds
from console.igtl.message import Body, MalformedError, Message, Reader
from console.igtl.robot import Robot, Wish
from console.igtl.told import CURRENT_POSITION, SharedTick, Told

TICK_NS = 100_000_000
QUIET_NS = 300_000_000
"""A robot-protocol client says its first command in so long, before anything it does not expect (assumed)."""
MOST_ANSWERS = 262_144
"""Bytes of answers that wait for a client; one that asks more and reads nothing is sent away."""
MOST_MESSAGES = 1000
"""In a second, from one client: more than any tracker sends; one that floods must not keep this process busy."""
KINDS = ("TRANSFORM", "POSITION", "POINT", "STATUS", "STRING", "CAPABILITY")
_ASKED = {
    "GET_TRANS": "TRANSFORM",
    "GET_TRANSFOR": "TRANSFORM",  # GET_TRANSFORM, cut to the 12 bytes of the field
    **{f"GET_{kind}": kind for kind in ("POSITION", "POINT", "STATUS", "STRING")},
}
_STREAMED = ("TRANS", "TRANSFOR", "POSITION")


class Peer:
    """One client.

    Attributes:
        over: why it is sent away, in words; "" while it may stay.
        not_understood: messages that were whole and sound and are none of ours.
    """

    def __init__(
        self, told: Told, tick: SharedTick, robot: Robot, wall_ns: Callable[[], int], now_ns: int
    ) -> None:
        self._told, self._tick, self._robot, self._wall_ns = told, tick, robot, wall_ns
        self._reader = Reader()
        self._answers = bytearray()
        self._due: int | None = None
        self._next_ns = now_ns + QUIET_NS
        self._is_told = True
        self._strings: list[Body] = []
        self._second, self._heard = 0, 0
        self.over = ""
        self.not_understood = 0

    # --- the four verbs ---------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes of the client, split as they came."""
        if self.over:
            return
        try:
            messages = self._reader.read(data)
        except MalformedError as problem:
            messages = problem.args[1]
            self.over = str(problem.args[0])
        if now_ns // 1_000_000_000 != self._second:
            self._second, self._heard = now_ns // 1_000_000_000, 0
        try:
            for message in messages:
                self._heard += 1
                if self._heard > MOST_MESSAGES:
                    raise MalformedError(f"more than {MOST_MESSAGES} messages a second")
                self._hear(message, now_ns)
        except MalformedError as problem:
            self.over = str(problem.args[0])
        self._collect()

    def take(self) -> bytes:
        """What is to be sent now: answers, then the tick that is due, as things are at this moment."""
        self._collect()
        out = bytes(self._answers)
        self._answers.clear()
        if self._due is not None:
            number, self._due = self._due, None
            out += self._news(number)
        return out

    def next_wake(self) -> int | None:
        """When ``wake`` is wanted."""
        wakes = [self._next_ns if self._is_told or self._robot.is_moving else None, self._robot.next_wake_ns]
        due = [wake for wake in wakes if wake is not None]
        return min(due) if due else None

    def wake(self, now_ns: int) -> None:
        """Time has come; ticks that were missed are not made up for."""
        if (self._is_told or self._robot.is_moving) and now_ns >= self._next_ns:
            self._due = now_ns // TICK_NS
            self._next_ns = (self._due + 1) * TICK_NS
        self.look(now_ns)

    # --- beside them ------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """The run has changed."""
        self._robot.look(now_ns)
        self._collect()

    def wishes(self) -> list[Wish]:
        """For the door, each once."""
        wishes, self._robot.wishes = self._robot.wishes, []
        return wishes

    def leave(self) -> None:
        """It has gone; what it had wished is taken back (``wishes``), also what the door has not answered yet."""
        self._robot.leave()

    @property
    def awaits_door(self) -> bool:
        """Something may still have to be taken back."""
        return bool(self._robot.awaits_reply or self._robot.wishes)

    # --- what it says -----------------------------------------------------------------------------------

    def _hear(self, message: Message, now_ns: int) -> None:
        was_robot = bool(self._robot.phase)
        if self._robot.hear(message, now_ns):
            if not was_robot:
                self._is_told, self._due, self._next_ns = False, None, now_ns
            self._collect()
            return
        head, _, kind = message.kind.partition("_")
        if message.kind in _ASKED:
            found = self._told.find(_ASKED[message.kind], message.name)
            self._answer(found or [Body.of(_ASKED[message.kind], message.name, b"")])
        elif message.kind in ("GET_CAPABIL", "GET_CAPABILI"):
            self._answer([Body.of("CAPABILITY", message.name, pack_kinds(KINDS))])
        elif head in ("STT", "STP") and kind in _STREAMED:
            self._is_told = head == "STT"
            self._next_ns = max(self._next_ns, now_ns)
            self._answer([Body.of(f"RTS_{kind}"[:12], message.name, b"\0")])
        else:
            self.not_understood += 1

    def _answer(self, bodies: list[Body]) -> None:
        now_ns = self._wall_ns()
        for body in bodies:
            self._answers += body.packed(now_ns)
        if len(self._answers) > MOST_ANSWERS:
            self._answers.clear()
            self.over = self.over or "it asks and does not read"

    def _collect(self) -> None:
        said, self._robot.said = self._robot.said, []
        if said:
            self._answer(said)

    def _news(self, number: int) -> bytes:
        if not self._is_told:
            now_ns = self._wall_ns()
            there = self._told.find("TRANSFORM", CURRENT_POSITION) if self._robot.is_moving else []
            return b"".join(body.packed(now_ns) for body in there)
        strings, now_ns = self._told.strings(), self._wall_ns()
        changed = [body for body in strings if body not in self._strings]
        self._strings = strings
        return b"".join(body.packed(now_ns) for body in changed) + self._tick.bytes_of(number)
