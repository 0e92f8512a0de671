"""The one loop: events in, commands out, each judged and written down before it leaves.

The session joins procedure, interlocks, journal and drivers with three things from outside: a transport (bytes and
time), an operator (people) and a scanner (CTs and what they show). One command at a time; no threads.
Order around every command: interlocks -> intention committed -> sent -> outcome committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from controller.commands import (
    APPLICATOR_COMMANDS,
    RIG_COMMANDS,
    AskOperator,
    Command,
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
    OperatorConfirmed,
    OperatorDeclined,
    ProcedureStarted,
    ScanAnalysed,
    ScanUnusable,
    StopPressed,
)
from controller.interlocks import judge
from controller.journal import Journal
from controller.procedure import Procedure
from controller.snapshot import Snapshot
from drivers.applicator import ApplicatorDriver
from drivers.rig import RigDriver


class Transport(Protocol):
    """Where bytes go and what time it is.

    ``exchange`` moves waiting bytes both ways and says whether there were any; ``wait`` lets time pass until
    ``wake_ns`` (None: until something arrives), or less when bytes arrive first.
    """

    def now_ns(self) -> int: ...
    def exchange(self) -> bool: ...
    def wait(self, wake_ns: int | None) -> None: ...


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


class Session:
    """Run one procedure to its end (completed, held or stopped)."""

    def __init__(
        self,
        procedure: Procedure,
        journal: Journal,
        *,
        rig: RigDriver,
        applicator: ApplicatorDriver,
        transport: Transport,
        operator: Operator,
        scanner: Scanner,
        listener: Callable[[Snapshot], None] = lambda _snapshot: None,
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
        self._inbox: deque[Event] = deque()

    def run(self) -> None:
        """Until the procedure is over. The journal is complete when this returns or raises."""
        self._inbox.append(ProcedureStarted(self._operator.name))
        while not self.procedure.is_over:
            if self._inbox:
                self._take_in(self._inbox.popleft())
            else:
                self._let_time_pass(None)
        self._come_to_rest()

    def stop(self, who: str) -> None:
        """Stop bytes first, everything else after."""
        now = self._transport.now_ns()
        self._rig.stop(now)
        self._applicator.stop(now)
        self._transport.exchange()
        self._inbox.appendleft(StopPressed(who))

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
        before = self.procedure.state
        under_way = self.procedure.pending
        self.journal.append(self._transport.now_ns(), "event", event.to_json())
        commands = self.procedure.handle(event)
        after = self.procedure.state
        if after != before:
            reason = self.procedure.known.held_because or self.procedure.known.message
            self.journal.append(
                self._transport.now_ns(), "decision", {"from": before, "to": after, "because": reason}
            )
            if after == "HELD":
                self.faults.append(reason)
                if under_way is not None and self.procedure.pending is under_way:
                    self._rig.stop(self._transport.now_ns())
                    self._applicator.stop(self._transport.now_ns())
        self._listener(self.snapshot())
        for command in commands:
            self._send(command)

    # --- one command out --------------------------------------------------------------------------------

    def _send(self, command: Command) -> None:
        now = self._transport.now_ns()
        refused = judge(command, self.procedure.known, device_facts(self._rig.state, self._applicator.state))
        if refused is not None:
            body = {**command.to_json(), "interlock": refused.interlock, "reason": refused.reason}
            self.journal.append(now, "refusal", body)
            self._inbox.append(CommandRefused(command.number, refused.interlock, refused.reason))
            return
        self.journal.append(now, "intention", command.to_json())
        match command:
            case AskOperator():
                answer, took_ns = self._operator.answer(command)
                self._let_time_pass(now + took_ns)
                self._inbox.append(answer)
            case RequestScan():
                seen, took_ns = self._scanner.scan(command, self.procedure)
                self._let_time_pass(now + took_ns)
                self._inbox.append(seen)
            case _ if isinstance(command, RIG_COMMANDS):
                self._rig.start(rig_command(command, self.procedure.known), now)
            case _ if isinstance(command, APPLICATOR_COMMANDS):
                self._applicator.start(applicator_command(command), now)
            case _:
                raise TypeError(f"no device takes {type(command).__name__}")

    # --- bytes and time ---------------------------------------------------------------------------------

    def _let_time_pass(self, until_ns: int | None) -> None:
        """Serve both links until ``until_ns``, or (None) until an event has come."""
        while True:
            self._transport.exchange()
            self._hear()
            now = self._transport.now_ns()
            if self._inbox and until_ns is None:
                return
            if until_ns is not None and now >= until_ns:
                return
            wakes = [self._rig.next_wake(), self._applicator.next_wake(), until_ns]
            due = [wake for wake in wakes if wake is not None]
            self._transport.wait(min(due) if due else None)
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
        if self._operator.is_automatic:
            for name, state in (("rig", self._rig.state), ("applicator", self._applicator.state)):
                if state.linked and state.identity and not state.simulated:
                    self._inbox.append(
                        DeviceFaulted(name, "real hardware needs a person to confirm each step")
                    )

    def _come_to_rest(self) -> None:
        """Let the last words of the devices arrive; nothing is commanded any more."""
        self._let_time_pass(self._transport.now_ns() + 1_000_000_000)
        while self._inbox:
            self.journal.append(self._transport.now_ns(), "event", self._inbox.popleft().to_json())
        self.journal.append(
            self._transport.now_ns(),
            "decision",
            {
                "ended": self.procedure.state,
                "because": self.procedure.known.held_because,
                "devices": {"rig": asdict(self._rig.state), "applicator": asdict(self._applicator.state)},
            },
        )
        self._listener(self.snapshot())
