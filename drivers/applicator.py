"""The applicator's driver: one command at a time in, bytes out; bytes in, events out.

Knows: which script is under way, what it waits for, and that a broken-off FIRE is a doubt. Does not know: the
order of a procedure, whether a command is wise (the controller's interlocks), ports, clocks, chance.

No I/O and no clock: the four verbs ``receive``, ``take``, ``next_wake``, ``wake``; time is an integer in ns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from drivers.applicator_language import (
    ApplicatorCommand,
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDisarmed,
    ApplicatorDone,
    ApplicatorEvent,
    ApplicatorFailed,
    ApplicatorLatched,
    ApplicatorLinkLost,
    ApplicatorRefused,
    ApplicatorReset,
    ApplicatorState,
    ApplicatorStopped,
    AskSeed,
    BeginLedger,
    CartridgeSwitchChanged,
    ClearLatch,
    Connect,
    DeclareCartridge,
    Disarm,
    DropSeed,
    EndLedger,
    EstopChanged,
    HomeRetraction,
    HomeStylet,
    Ledger,
    MoveNeedleTo,
    ReadLedger,
    ReadState,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
from drivers.applicator_mirror import Mirror
from drivers.applicator_script import (
    Ask,
    BrokenOff,
    Greet,
    Interrupted,
    Refusal,
    Script,
    Step,
    Wait,
    failed,
    script_for,
    why_not_asked_rightly,
)
from drivers.link import (
    MS,
    Answered,
    Heard,
    Link,
    Lost,
    Missed,
    Notice,
    Opened,
    Restarted,
    StopHeard,
    Withheld,
)
from drivers.packet import Packet
from drivers.vocabulary import refusal_in_words

__all__ = [
    "ApplicatorCommand",
    "ApplicatorConfig",
    "ApplicatorConnected",
    "ApplicatorDisarmed",
    "ApplicatorDone",
    "ApplicatorDriver",
    "ApplicatorEvent",
    "ApplicatorFailed",
    "ApplicatorLatched",
    "ApplicatorLinkLost",
    "ApplicatorRefused",
    "ApplicatorReset",
    "ApplicatorState",
    "ApplicatorStopped",
    "AskSeed",
    "BeginLedger",
    "CartridgeSwitchChanged",
    "ClearLatch",
    "Connect",
    "DeclareCartridge",
    "Disarm",
    "DropSeed",
    "EndLedger",
    "EstopChanged",
    "HomeRetraction",
    "HomeStylet",
    "Ledger",
    "MoveNeedleTo",
    "ReadLedger",
    "ReadState",
    "SeedInDoubt",
    "SeedNotFired",
    "SeedOutcome",
]


class ApplicatorDriver:
    """One applicator, one command at a time.

    Args:
        config: what the device must be.
        session_id: four upper-case hex digits, new for each driver.
    """

    def __init__(self, config: ApplicatorConfig, session_id: str) -> None:
        self.config = config
        self._link = Link(config.port, session_id)
        self._mirror = Mirror()
        self._events: list[ApplicatorEvent] = []
        self._command: ApplicatorCommand | None = None
        self._script: Script | None = None
        self._wait: Wait | None = None
        self._wait_until_ns = 0
        self._news: deque[Packet] = deque()  # events since the command began
        self._owners: deque[bool] = deque()  # of each question: the script's (True), or a look of our own
        self._asked = ""
        self._fire_left = False

    @property
    def state(self) -> ApplicatorState:
        """The device as last heard of."""
        return self._mirror.state

    @property
    def is_busy(self) -> bool:
        """A command is being carried out."""
        return self._command is not None

    @property
    def garbage(self) -> int:
        """Lines from the device that had to be discarded."""
        return self._link.garbage

    def events(self) -> list[ApplicatorEvent]:
        """What happened since the last call, in order."""
        drained, self._events = self._events, []
        return drained

    def start(self, command: ApplicatorCommand, now_ns: int) -> None:
        """Begin one command; its end comes as an event. ValueError while another is under way."""
        if self._command is not None:
            raise ValueError(f"{self._command} is still being carried out")
        why = why_not_asked_rightly(command)
        if why is not None:
            self._events.append(ApplicatorRefused(command, "FORM", why))
            return
        if not self._link.is_open and not isinstance(command, Connect):
            self._events.append(ApplicatorRefused(command, "LINK", "the applicator isn't connected"))
            return
        self._command = command
        self._news.clear()
        self._fire_left = False
        self._script = script_for(command, self.config, self._mirror)
        self._advance(None, now_ns)
        self._settle(now_ns)

    def stop(self, now_ns: int) -> None:
        """Send the stop byte before anything else; acknowledged by ``ApplicatorStopped``."""
        self._mirror.expect_stop()
        self._link.stop(now_ns)
        self._settle(now_ns)

    # ------------------------------------------------------------ the four verbs

    def receive(self, data: bytes, now_ns: int) -> None:
        self._link.receive(data, now_ns)
        self._settle(now_ns)

    def take(self) -> bytes:
        return self._link.take()

    def next_wake(self) -> int | None:
        times_ns = [self._link.next_wake(), self._wait_until_ns if self._wait else None]
        return min((time_ns for time_ns in times_ns if time_ns is not None), default=None)

    def wake(self, now_ns: int) -> None:
        self._link.wake(now_ns)
        self._settle(now_ns)
        if self._wait is not None and now_ns >= self._wait_until_ns:
            self._advance(None, now_ns)
            self._settle(now_ns)

    # ------------------------------------------------------------ what the link has to say

    def _settle(self, now_ns: int) -> None:
        while notices := self._link.notices():
            for notice in notices:
                self._handle(notice, now_ns)
        if self._mirror.wants_look and self._link.is_open and self._link.is_free:
            self._mirror.wants_look = False
            self._owners.append(False)
            self._link.ask("STAT", (), now_ns)
        self._link.brisk = self._mirror.is_active or isinstance(
            self._command, HomeStylet | HomeRetraction | MoveNeedleTo | DropSeed
        )

    def _handle(self, notice: Notice, now_ns: int) -> None:
        match notice:
            case Opened(packet):
                self._mirror.begin_session(packet)
                self._owners.clear()
                self._advance(packet, now_ns)
            case Answered(packet):
                self._events += self._mirror.learn(packet)
                if self._owners.popleft():
                    self._answer(packet, now_ns)
            case Withheld(name):
                if self._owners.popleft():
                    self._fire_left &= name != "FIRE"
                    self._throw(Interrupted(), now_ns)
            case Heard(packet):
                self._events += self._mirror.learn(packet)
                if packet.sigil == "!" and self._command is not None:
                    self._news.append(packet)
                    self._give_news(now_ns)
            case StopHeard(packet):
                self._events += self._mirror.stop_heard(packet)
            case Missed():
                self._mirror.wants_look = True
                if self._wait is not None:
                    self._advance(None, now_ns)
            case Restarted(old_boot, new_boot):
                self._events.append(ApplicatorReset(old_boot, new_boot))
                self._break_off(f"the device was reset (boot {old_boot}, now {new_boot})")
            case Lost(sentence):
                self._events.append(ApplicatorLinkLost(sentence))
                self._break_off(sentence)

    # ------------------------------------------------------------ the script under way

    def _advance(self, packet: Packet | None, now_ns: int) -> None:
        self._wait = None
        script = self._script
        if script is not None:
            self._step(lambda: script.send(packet), now_ns)

    def _answer(self, packet: Packet, now_ns: int) -> None:
        if packet.name != "ERR":
            self._advance(packet, now_ns)
            return
        self._mirror.wants_look = True
        self._fire_left &= self._asked != "FIRE"  # refused is certain: nothing was intended
        self._throw(Refusal(packet), now_ns)

    def _throw(self, exception: Exception, now_ns: int) -> None:
        self._wait = None
        script = self._script
        if script is not None:
            self._step(lambda: script.throw(exception), now_ns)

    def _step(self, go: Callable[[], Step], now_ns: int) -> None:
        command = self._command
        assert command is not None
        try:
            step = go()
        except StopIteration as end:
            self._finish(end.value)
        except Refusal as refusal:
            words = refusal_in_words(refusal.code, refusal.extra)
            if self._fire_left:
                self._finish(failed(command, words, fire_left=True))
            else:
                self._finish(ApplicatorRefused(command, refusal.code, words, refusal.extra))
        except Interrupted:
            self._finish(failed(command, "stopped before it was sent", fire_left=self._fire_left))
        except BrokenOff as problem:
            if problem.stop:
                self._mirror.expect_stop()
                self._link.stop(now_ns)
            self._finish(failed(command, str(problem), fire_left=self._fire_left))
        else:
            self._take_step(step, now_ns)

    def _take_step(self, step: Step, now_ns: int) -> None:
        match step:
            case Greet():
                self._mirror.end_session()
                self._link.open_session(now_ns)
            case Ask(name, pairs):
                self._owners.append(True)
                self._asked = name
                self._fire_left |= name == "FIRE"
                self._link.ask(name, pairs, now_ns)
            case Wait(_, longest_ms):
                self._wait = step
                self._wait_until_ns = now_ns + longest_ms * MS
                self._give_news(now_ns)

    def _give_news(self, now_ns: int) -> None:
        while self._wait is not None and self._news:
            packet = self._news.popleft()
            if packet.name in self._wait.events:
                self._advance(packet, now_ns)

    def _finish(self, event: ApplicatorEvent) -> None:
        if isinstance(event, ApplicatorRefused) and isinstance(event.command, Connect):
            self._link.close()
            self._mirror.end_session()
        self._command = None
        self._script = None
        self._wait = None
        self._events.append(event)

    def _break_off(self, sentence: str) -> None:
        """The session is over. Never repeated: after a reconnect the controller asks what happened."""
        self._mirror.end_session()
        self._owners.clear()
        command, script = self._command, self._script
        if command is not None and script is not None:
            script.close()
            self._finish(failed(command, sentence, fire_left=self._fire_left))
