"""The template rig's driver: one command at a time in, bytes out; bytes in, events out.

Knows: which script is under way and what it listens for, alarms and restarts at any time, the stop (hold, then
reset). Does not know: whether a command is wise (the controller's interlocks), ports, clocks, the patient.

No I/O and no clock: the four verbs ``receive``, ``take``, ``next_wake``, ``wake``; time is an integer in ns.
One line is in flight; a line is never sent twice; the position counts as unknown after any reset, alarm or lost
link, until homed again. A depth encoder on the carriage, where one is fitted, is a second port of the same rig
(``encoder_end``): each motion of the carriage ends only when both agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from drivers.accuseed import AccuSeedConfig, AccuSeedDriver
from drivers.grbl import Alarm, Banner, Line, LineSplitter, Status, alarm_in_words
from drivers.kinematics import RigConfig
from drivers.rig_language import (
    AimGuide,
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    OpenGrip,
    ReadRig,
    RigAdvanced,
    RigAlarmed,
    RigCommand,
    RigConnected,
    RigDone,
    RigEvent,
    RigFailed,
    RigLinkLost,
    RigRefused,
    RigReset,
    RigState,
    RigStopped,
)
from drivers.rig_script import (
    HOLD,
    RESET,
    script_for,
    stop_script,
    watch_script,
    why_not,
)
from drivers.rig_turn import Board, BrokenOff, NotDone, Script, Silent, Turn

__all__ = [
    "AimGuide",
    "CloseGrip",
    "ConnectRig",
    "HomeRig",
    "MoveAcross",
    "MoveDepth",
    "MoveDepthHome",
    "OpenGrip",
    "ReadRig",
    "RigAdvanced",
    "RigAlarmed",
    "RigCommand",
    "RigConfig",
    "RigConnected",
    "RigDone",
    "RigDriver",
    "RigEvent",
    "RigFailed",
    "RigLinkLost",
    "RigRefused",
    "RigReset",
    "RigState",
    "RigStopped",
]

MS = 1_000_000
WATCH_NS = 1_000 * MS


class RigDriver:
    """One template rig, one command at a time.

    Args:
        encoder: of the depth encoder on its carriage; None: none is fitted.
    """

    def __init__(self, config: RigConfig, encoder: AccuSeedConfig | None = None) -> None:
        self.config = config
        self._encoder = None if encoder is None else AccuSeedDriver(encoder)
        self._board = Board(config, encoder=self._encoder)
        self.encoder_end = EncoderEnd(self)
        self._splitter = LineSplitter()
        self._events: list[RigEvent] = []
        self._command: RigCommand | None = None
        self._script: Script | None = None
        self._turn: Turn | None = None
        self._heard: list[Line] = []
        self._over_ns = 0
        self._again_ns: int | None = None
        self._watch_ns = 0
        self._stopping = False
        self._out = bytearray()

    @property
    def state(self) -> RigState:
        """The rig as last heard of."""
        return self._board.state

    @property
    def is_busy(self) -> bool:
        """A command or a stop is being carried out."""
        return self._command is not None or self._stopping

    @property
    def garbage(self) -> int:
        """Lines from the board that could not be read."""
        return self._splitter.garbage

    def events(self) -> list[RigEvent]:
        """What happened since the last call, in order."""
        drained, self._events = self._events, []
        return drained

    def start(self, command: RigCommand, now_ns: int) -> None:
        """Begin one command; its end comes as an event. ValueError while another is under way."""
        if self.is_busy:
            raise ValueError(f"{self._command or 'a stop'} is still being carried out")
        why = why_not(command, self._board)
        if why is not None:
            self._tell(RigRefused(command, why))
            return
        self._command = command
        self._run(script_for(command, self._board), now_ns)

    def stop(self, now_ns: int) -> None:
        """Hold, then reset: ``!`` goes before anything else; acknowledged by ``RigStopped``."""
        self._out.clear()
        if self._encoder is not None:
            self._encoder.abandon()
        self._board.forget_position()
        self._fail("stopped")
        self._stopping = True
        self._run(stop_script(self._board), now_ns)

    # ------------------------------------------------------------ the four verbs

    def receive(self, data: bytes, now_ns: int) -> None:
        for line in self._splitter.receive(data):
            if isinstance(line, Status) and len(line.axes_mm) != len(self.config.axes):
                continue  # half a report, or of another board: it says nothing of where this rig is
            self._hear(line, now_ns)

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        if self._turn is not None:
            asks_again_ns = None if self._encoder is None else self._encoder.next_wake()
            return min(w for w in (self._over_ns, self._again_ns, asks_again_ns) if w is not None)
        return self._watch_ns if self._may_watch else None

    def wake(self, now_ns: int) -> None:
        if self._encoder is not None:
            self._encoder.wake(now_ns)
            self._hear_encoder(now_ns)
        turn = self._turn
        if turn is None:
            if self._may_watch and now_ns >= self._watch_ns:
                self._run(watch_script(self._board), now_ns)
        elif now_ns >= self._over_ns:
            self._advance(now_ns)
        elif turn.again_ms is not None and self._again_ns is not None and now_ns >= self._again_ns:
            self._out += turn.send
            self._again_ns = now_ns + turn.again_ms * MS

    @property
    def _may_watch(self) -> bool:
        return self._board.state.linked and not self._board.needs_reset

    # ------------------------------------------------------------ the depth encoder's port

    def receive_from_encoder(self, data: bytes, now_ns: int) -> None:
        """Bytes from the depth encoder; thrown away where none is fitted."""
        if self._encoder is not None:
            self._encoder.receive(data, now_ns)
            self._hear_encoder(now_ns)

    def take_for_encoder(self) -> bytes:
        """Bytes for the depth encoder."""
        return b"" if self._encoder is None else self._encoder.take()

    def _hear_encoder(self, now_ns: int) -> None:
        assert self._encoder is not None
        for event in self._encoder.events():
            self._board.encoder_said = event
            if self._turn is not None and self._turn.encoder:
                self._advance(now_ns)

    # ------------------------------------------------------------ the script under way

    def _hear(self, line: Line, now_ns: int) -> None:
        expects_restart = self._turn is not None and self._turn.expects_restart
        if isinstance(line, Alarm):
            self._board.forget_position()
            self._board.needs_reset |= line.code in (1, 2)
            if not expects_restart:
                self._tell(RigAlarmed(line.code, alarm_in_words(line.code)))
                self._fail(alarm_in_words(line.code))
        elif isinstance(line, Banner) and not expects_restart:
            if self._board.state.linked:
                self._board.forget_position()
                self._board.state = replace(self._board.state, grip_closed=False)
                self._tell(RigReset("the board restarted though nobody asked"))
            self._fail("the board restarted")
        elif isinstance(line, Status) and line.word == "Alarm":
            self._board.forget_position()
        if self._turn is not None:
            self._heard.append(line)
            if self._turn.is_over(self._heard):
                self._advance(now_ns)

    def _run(self, script: Script, now_ns: int) -> None:
        self._script = script
        self._step(lambda: next(script), now_ns)

    def _advance(self, now_ns: int) -> None:
        script, heard = self._script, self._heard
        assert script is not None
        self._step(lambda: script.send(heard), now_ns)

    def _step(self, go: Callable[[], Turn], now_ns: int) -> None:
        self._turn = None
        self._watch_ns = now_ns + WATCH_NS
        try:
            turn = go()
        except StopIteration as end:
            self._end(end.value)
        except NotDone as problem:
            assert self._command is not None
            self._end(RigRefused(self._command, str(problem)))
        except BrokenOff as problem:
            if problem.stop:
                self._board.forget_position()
            self._fail(str(problem))
            if problem.stop:
                self.stop(now_ns)
        except Silent as problem:
            self._lose(str(problem))
        else:
            self._turn, self._heard = turn, []
            self._over_ns = now_ns + round(turn.longest_ms * MS)
            self._again_ns = None if turn.again_ms is None else now_ns + turn.again_ms * MS
            self._out += turn.send
            if turn.encoder and self._encoder is not None:
                self._encoder.abandon()
                (self._encoder.connect if turn.encoder == "connect" else self._encoder.read)(now_ns)
        self._tell()

    def _tell(self, *events: RigEvent) -> None:
        self._events += [*self._board.progress, *events]
        self._board.progress.clear()

    def _end(self, event: RigEvent) -> None:
        watching = self._command is None and not self._stopping
        self._command = self._script = self._turn = None
        self._stopping = False
        if not watching:
            self._tell(event)

    def _fail(self, reason: str) -> None:
        """Break off whatever is under way; a stop is not broken off by what it causes."""
        if self._stopping:
            return
        command = self._command
        self._command = self._script = self._turn = None
        if command is not None:
            self._tell(RigFailed(command, reason, self._board.state.position_known))

    def _lose(self, sentence: str) -> None:
        """Nobody answers: whatever may still move is told to hold and reset, should it hear."""
        board = self._board
        board.forget_position()
        board.state = replace(board.state, linked=False)
        self._out += HOLD + RESET
        self._stopping = False
        self._fail(sentence)
        self._script = self._turn = None
        self._tell(RigLinkLost(sentence))


class EncoderEnd:
    """The depth encoder's side of a rig's driver, for whoever joins drivers with ports; time is told to the rig."""

    def __init__(self, rig: RigDriver) -> None:
        self._rig = rig

    def receive(self, data: bytes, now_ns: int) -> None:
        self._rig.receive_from_encoder(data, now_ns)

    def take(self) -> bytes:
        return self._rig.take_for_encoder()
