"""The one loop: events in, commands out, each judged and written down before it leaves.

The session joins procedure, interlocks, journal and drivers with three things from outside: a transport (bytes and
time), an operator (people) and a scanner (CTs and what they show). One command at a time. People and scanner
may be waited for aside (a thread) while both links are served; nothing else here knows threads.
Order around every command: interlocks -> intention committed -> sent -> outcome committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from typing import Protocol

from controller.adapting import automatic_answer, implant_now
from controller.commands import (
    APPLICATOR_COMMANDS,
    RIG_COMMANDS,
    AskOperator,
    Command,
    EvaluateNeedles,
    RequestScan,
)
from controller.device_words import (
    applicator_command,
    applicator_events,
    device_facts,
    rig_command,
    rig_events,
)
from controller.events import (
    CommandRefused,
    DeviceFaulted,
    Event,
    NeedlesEvaluated,
    OperatorConfirmed,
    OperatorDecided,
    OperatorDeclined,
    ProcedureStarted,
    ScanAnalysed,
    ScanUnusable,
    StopPressed,
    WorkLost,
)
from controller.interlocks import judge
from controller.journal import Journal, Record
from controller.procedure import Procedure
from controller.snapshot import Snapshot
from controller.worker import HeavyWorkLost
from drivers.applicator_language import ApplicatorCommand, ApplicatorEvent, ApplicatorState
from drivers.rig_language import RigCommand, RigEvent, RigState
from planning.adaptation import Implant

_STANDING = ("Idle", "Hold", "Alarm")


class Transport(Protocol):
    """Where bytes go and what time it is.

    ``exchange`` moves waiting bytes both ways and says whether there were any; ``wait`` lets time pass until
    ``wake_ns`` (None: until something arrives), or less when bytes arrive first. ``lost`` tells, once each, which
    device's port has gone, and why, in words.
    """

    def now_ns(self) -> int: ...
    def exchange(self) -> bool: ...
    def lost(self) -> list[tuple[str, str]]: ...
    def wait(self, wake_ns: int | None) -> None: ...


class Led(Protocol):
    """What a session leads: a driver, or people in its place (``by_hand``)."""

    @property
    def is_busy(self) -> bool: ...
    def stop(self, now_ns: int, /) -> None: ...
    def next_wake(self) -> int | None: ...
    def wake(self, now_ns: int) -> None: ...


class Rig(Led, Protocol):
    """``drivers.rig.RigDriver``, or ``by_hand.RigByHand``."""

    @property
    def state(self) -> RigState: ...
    def start(self, command: RigCommand, now_ns: int) -> None: ...
    def events(self) -> list[RigEvent]: ...


class Applicator(Led, Protocol):
    """``drivers.applicator.ApplicatorDriver``, or ``by_hand.ApplicatorByHand``."""

    @property
    def state(self) -> ApplicatorState: ...
    def start(self, command: ApplicatorCommand, now_ns: int) -> None: ...
    def events(self) -> list[ApplicatorEvent]: ...


class Operator(Protocol):
    """Who answers. ``is_automatic``: nobody; accepted only when every device says that it is simulated."""

    is_automatic: bool
    name: str

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        """The answer, and how many ns of the procedure's clock it took."""


class Scanner(Protocol):
    """Where CTs come from, and their analysis."""

    def scan(self, command: RequestScan, procedure: Procedure, /) -> tuple[ScanAnalysed | ScanUnusable, int]:
        """What the CT shows, and how many ns of the procedure's clock it took."""


class Evaluator(Protocol):
    """Computes the dose with the needles as they stand."""

    def evaluate(self, command: EvaluateNeedles, implant: Implant, /) -> tuple[NeedlesEvaluated, int]:
        """Figures and proposal, and how many ns of the procedure's clock it took."""


def why_real_is_refused(is_automatic: bool, only_simulated: bool) -> str | None:
    """Why a device that is real must not be led, in words; None: it may be."""
    if is_automatic:
        return "it is real hardware: a person must confirm each step (--operator terminal)"
    if only_simulated:
        return "it is real hardware, but devices.toml has a table [simulated], whose hands and clock are a bench's"
    return None


@dataclass(frozen=True)
class _Intention:
    """A command that the interlocks let pass, and the record that says that it is meant."""

    command: Command
    record: Record


class Session:
    """Run one procedure to its end (completed, held or stopped).

    Args:
        aside: where people and scanner are waited for while both links are served; None: their answers are
            there at once and time passes afterwards (virtual time).
        stop_pressed: asked all the time; who presses stop, or None.
        evaluator: None: the dose is not computed with the needles as they stand, and the plan kept.
        decided: asked all the time while it goes on; what a person decides beside confirming, or None.
        devices_seen: told all the time: both states, and whether both are known to stand since the last stop.
        cancel_work: called when nobody waits any more for the work under way aside (held, stopped).
        only_simulated: people's hands or the clock belong to a bench; a device that is real holds at once.
    """

    def __init__(
        self,
        procedure: Procedure,
        journal: Journal,
        *,
        rig: Rig,
        applicator: Applicator,
        transport: Transport,
        operator: Operator,
        scanner: Scanner,
        listener: Callable[[Snapshot], None] = lambda _snapshot: None,
        aside: Executor | None = None,
        stop_pressed: Callable[[], str | None] = lambda: None,
        evaluator: Evaluator | None = None,
        decided: Callable[[], OperatorDecided | None] = lambda: None,
        devices_seen: Callable[[RigState, ApplicatorState, bool], None] | None = None,
        cancel_work: Callable[[], None] = lambda: None,
        only_simulated: bool = False,
    ) -> None:
        self.procedure = procedure
        self.journal = journal
        self.faults: list[str] = []
        self._rig = rig
        self._applicator = applicator
        self._transport = transport
        self._operator = operator
        self._scanner = scanner
        self._listener = listener
        self._aside = aside
        self._stop_pressed = stop_pressed
        self._evaluator = evaluator
        self._decided = decided
        self._devices_seen = devices_seen
        self._cancel_work = cancel_work
        self._only_simulated = only_simulated
        self._is_stopping = False
        self._awaited: Future[tuple[Event, int]] | None = None
        self._inbox: deque[Event] = deque()

    def run(self, begin_with: Sequence[Event] = ()) -> None:
        """Until the procedure is over. The journal is complete when this returns or raises.

        Args:
            begin_with: what makes an interrupted or held procedure go on: decisions of a person, then what
                ``recovery`` gives; none: it starts.
        """
        try:
            for event in begin_with or (ProcedureStarted(self._operator.name),):
                self._take_in(event)
            while not self.procedure.is_over:
                if self._inbox:
                    self._take_in(self._inbox.popleft())
                else:
                    self._let_time_pass(None)
            self._come_to_rest()
        except BaseException:  # Ctrl-C too
            self._stop_devices()  # nobody leads any more: what moves must not go on alone
            self._cancel_work()
            raise

    def stop(self, who: str) -> None:
        """Stop bytes first, everything else after."""
        self._stop_devices()
        self._inbox.appendleft(StopPressed(who))

    def _stop_devices(self) -> None:
        now = self._transport.now_ns()
        self._is_stopping = True
        self._rig.stop(now)
        self._applicator.stop(now)
        self._transport.exchange()

    def have_stopped(self) -> bool:
        """A stop was pressed, and both devices say since then that they stand; one without link never does."""
        rig, applicator = self._rig.state, self._applicator.state
        rig_stands = rig.linked and not self._rig.is_busy and rig.status.partition(":")[0] in _STANDING
        applicator_stands = applicator.linked and applicator.latch != "NONE" and applicator.st == "LATCHED"
        return self._is_stopping and rig_stands and applicator_stands

    def snapshot(self) -> Snapshot:
        rig, applicator = self._rig.state, self._applicator.state
        return self.procedure.snapshot(
            self._transport.now_ns(),
            rig=rig.status if rig.linked else "no link",
            applicator=(applicator.st if applicator.latch == "NONE" else f"latched {applicator.latch}")
            if applicator.linked
            else "no link",
        )

    # --- one event in -----------------------------------------------------------------------------------

    def _take_in(self, event: Event) -> None:
        """What happened, what is decided and what is meant next are one transaction; then screen and devices."""
        before = self.procedure.state
        under_way = self.procedure.pending
        with self.journal.together():
            self.journal.append(self._transport.now_ns(), "event", event.to_json())
            commands = self.procedure.handle(event)
            after = self.procedure.state
            if after != before:
                reason = self.procedure.known.held_because or self.procedure.known.message
                decision = {"from": before, "to": after, "because": reason}
                self.journal.append(self._transport.now_ns(), "decision", decision)
                if after == "HELD":
                    self.faults.append(reason)
                    if under_way is not None and self.procedure.pending is under_way:
                        self._is_stopping = True
                        self._rig.stop(self._transport.now_ns())
                        self._applicator.stop(self._transport.now_ns())
            meant = [self._mean(command) for command in commands]
        self._listener(self.snapshot())
        for intention in meant:
            if intention is not None:
                self._send(intention)

    # --- one command out --------------------------------------------------------------------------------

    def _mean(self, command: Command) -> _Intention | None:
        """Judge a command, and write down that it is meant, or (None) why it must not leave."""
        now = self._transport.now_ns()
        refused = judge(command, self.procedure.known, device_facts(self._rig.state, self._applicator.state))
        if refused is not None:
            body = {**command.to_json(), "interlock": refused.interlock, "reason": refused.reason}
            self.journal.append(now, "refusal", body)
            self._inbox.append(CommandRefused(command.number, refused.interlock, refused.reason))
            return None
        return _Intention(command, self.journal.append(now, "intention", command.to_json()))

    def _send(self, intention: _Intention) -> None:
        """The one way to a device: of what was judged and is on disk.

        Raises:
            RuntimeError: the intention is not committed (a mistake of whoever calls).
        """
        if not self.journal.holds(intention.record):
            raise RuntimeError(f"{intention.command} must not leave before its intention is on disk")
        command, now = intention.command, self._transport.now_ns()
        match command:
            case AskOperator(task="adapt_plan") if self._operator.is_automatic:
                self._inbox.append(automatic_answer(command, self._operator.name))
            case EvaluateNeedles():
                self._evaluate(command, now)
            case AskOperator():
                self._await(lambda: self._operator.answer(command), now)
            case RequestScan():
                self._await(lambda: self._scanner.scan(command, self.procedure), now)
            case _ if isinstance(command, RIG_COMMANDS):
                self._rig.start(rig_command(command, self.procedure.known), now)
            case _ if isinstance(command, APPLICATOR_COMMANDS):
                self._applicator.start(applicator_command(command), now)
            case _:
                raise TypeError(f"no device takes {type(command).__name__}")

    def _evaluate(self, command: EvaluateNeedles, now_ns: int) -> None:
        evaluator = self._evaluator
        if evaluator is None:
            self._inbox.append(NeedlesEvaluated(command.number, skipped="nobody here computes doses"))
            return
        implant = implant_now(self.procedure.known)  # taken here: what is known may change meanwhile
        self._await(lambda: evaluator.evaluate(command, implant), now_ns)

    def _await(self, ask: Callable[[], tuple[Event, int]], now_ns: int) -> None:
        """People and scanner take minutes: a fault or a stop meanwhile is heard all the same."""
        number = 0 if self.procedure.pending is None else self.procedure.pending.number

        def answered() -> tuple[Event, int]:
            try:
                return ask()
            except HeavyWorkLost as problem:
                return WorkLost(number, str(problem)), 0

        if self._aside is not None:
            self._awaited = self._aside.submit(answered)
            return
        answer, took_ns = answered()
        self._let_time_pass(now_ns + took_ns)
        self._inbox.append(answer)

    # --- bytes and time ---------------------------------------------------------------------------------

    def _let_time_pass(self, until_ns: int | None) -> None:
        """Serve both links until ``until_ns``, or (None) until an event has come."""
        while True:
            self._transport.exchange()
            self._hear()
            who = self._stop_pressed()
            if who is not None:
                self.stop(who)
            decision = None if self.procedure.is_over else self._decided()
            if decision is not None:
                self._inbox.append(decision)
            if self._devices_seen is not None:
                self._devices_seen(self._rig.state, self._applicator.state, self.have_stopped())
            now = self._transport.now_ns()
            if self._inbox and until_ns is None:
                return
            if until_ns is not None and now >= until_ns:
                return
            wakes = [self._rig.next_wake(), self._applicator.next_wake(), until_ns]
            due = [wake for wake in wakes if wake is not None]
            self._transport.wait(min(due) if due else None)
            self._transport.exchange()  # what has come is heard before anybody concludes that nothing came
            now = self._transport.now_ns()
            for driver in (self._rig, self._applicator):
                wake = driver.next_wake()
                if wake is not None and wake <= now:
                    driver.wake(now)

    def _hear(self) -> None:
        pending = self.procedure.pending
        for event in (
            *rig_events(self._rig.events(), pending),
            *applicator_events(self._applicator.events(), pending),
        ):
            self._inbox.append(event)
        for device, why in self._transport.lost():
            self._inbox.append(DeviceFaulted(device, why))
        if self._awaited is not None and self._awaited.done():
            answered, self._awaited = self._awaited, None
            self._inbox.append(answered.result()[0])
        if not self.procedure.is_over:
            for name, state in (("rig", self._rig.state), ("applicator", self._applicator.state)):
                if state.linked and state.identity and not state.simulated:
                    refused = why_real_is_refused(self._operator.is_automatic, self._only_simulated)
                    if (
                        refused is not None
                    ):  # before its connection is taken in, after which it would be moved
                        self._inbox.appendleft(DeviceFaulted(name, refused))

    def _come_to_rest(self) -> None:
        """Let the last words of the devices arrive; nothing is commanded any more."""
        if self._awaited is not None:
            self._cancel_work()
        self._let_time_pass(self._transport.now_ns() + 1_000_000_000)
        now = self._transport.now_ns()
        with self.journal.together():
            while self._inbox:
                self.journal.append(now, "event", self._inbox.popleft().to_json())
            ended = {
                "ended": self.procedure.state,
                "because": self.procedure.known.held_because,
                "devices": {"rig": asdict(self._rig.state), "applicator": asdict(self._applicator.state)},
            }
            self.journal.append(now, "decision", ended)
        self._listener(self.snapshot())
