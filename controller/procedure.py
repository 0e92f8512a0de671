"""One event in, the next command out: the procedure.

``handle`` updates what is known, lets the protocol's table decide on the next state, fills the agenda of that
state and hands out its commands one at a time. Nothing here does I/O, reads a clock or sends anything; whether
a command may leave is decided after it, in ``interlocks``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal

from transitions import Machine, State

from controller import adapting, agenda, expectation, insertion, protocol, resumption, ruling, time_out
from controller.commands import AskOperator, Command, DropSeed, EvaluateNeedles, RequestScan
from controller.decisions import decide
from controller.events import (
    CommandDone,
    CommandFailed,
    CommandRefused,
    DeviceFaulted,
    Event,
    NeedlesEvaluated,
    OperatorConfirmed,
    OperatorDecided,
    OperatorDeclined,
    ProcedureResumed,
    ProcedureStarted,
    ScanAnalysed,
    ScanUnusable,
    SeedDropped,
    StopPressed,
    WorkLost,
)
from controller.judging import judge_scan, why_held
from controller.knowledge import Knowledge, ProcedureSettings
from controller.learning import learn, learn_seed, prepare
from controller.picture import picture
from controller.snapshot import Snapshot
from planning.frame import Floats
from planning.plan import Plan


def _is_about_adapting(command: Command | None) -> bool:
    return isinstance(command, AskOperator) and command.task == adapting.TASK


class _Steps:
    """What ``transitions`` drives: the present state of one procedure."""

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure
        self.state = "READY"


def _bound(guard: protocol.Guard) -> str | Callable[..., bool | None]:
    return lambda event: guard(event.model.procedure.known)


@cache
def _machine() -> Machine:
    """The protocol's table as a machine, the same for every procedure: it keeps nothing of any of them."""
    machine = Machine(
        model=None,
        states=[State(name, on_enter=[_enter]) for name in protocol.STATES],
        initial="READY",
        auto_transitions=False,
        send_event=True,
    )
    for row in protocol.TABLE:
        guards = [_bound(guard) for guard in row.guards]
        machine.add_transition(row.trigger, list(row.sources), row.destination, conditions=guards)
    return machine


def _enter(event: Any) -> None:
    event.model.procedure._fill_agenda(event)


class Procedure:
    """The state of one implantation.

    Args:
        plan: what was planned, and (by its hash) confirmed.
        settings: tolerance, attempts, geometry of the carriage.
    """

    def __init__(self, plan: Plan, settings: ProcedureSettings) -> None:
        self.known = Knowledge.of(plan, settings)
        self._steps = _Steps(self)
        self._agenda: deque[Command] = deque()
        self._issued = 0
        self._pending: Command | None = None
        self._interrupted: Command | None = None

    # --- what others may ask ----------------------------------------------------------------------------

    @property
    def state(self) -> str:
        return self._steps.state

    @property
    def pending(self) -> Command | None:
        """The command that was handed out and not yet answered."""
        return self._pending

    @property
    def interrupted(self) -> Command | None:
        """The command under way, or (HELD) the one that was under way or failed when the procedure was held.

        Held after a CT: the CT that is taken when it goes on. What became of it is for ``recovery`` to find out.
        """
        return self._interrupted if self.is_held else self._pending

    @property
    def working_state(self) -> str:
        """The state; in HELD or PAUSED the one it was in, and goes back to."""
        return self.known.held_in if self.is_held or self.state == "PAUSED" else self.state

    @property
    def is_held(self) -> bool:
        """It waits for a person: ``ProcedureResumed`` takes it back, ``OperatorDecided`` changes what may follow.

        ``ProcedureResumed`` may be made only from ``recovery.compare``'s verdict on ``replay`` of the journal and
        a fresh ``look`` at the devices (which opens the rig's grip): what follows relies on both.
        """
        return self.state == "HELD"

    @property
    def is_ended(self) -> bool:
        """Nothing takes it back."""
        return self.state in protocol.ENDED

    @property
    def is_over(self) -> bool:
        """It asks for nothing by itself any more: held or ended."""
        return self.is_held or self.is_ended

    def expected_tips(self) -> dict[str, tuple[Floats, Floats]]:
        return expectation.expected_tips(self.known)

    def expected_seeds(self) -> dict[int, tuple[Floats, Floats]]:
        return expectation.expected_seeds(self.known)

    def snapshot(self, now_ns: int, *, rig: str = "", applicator: str = "") -> Snapshot:
        return picture(self.known, self.state, self._pending, now_ns, rig=rig, applicator=applicator)

    # --- the one step -----------------------------------------------------------------------------------

    def handle(self, event: Event) -> tuple[Command, ...]:
        """Take in what happened; return what to do next (no command, or one)."""
        if self.is_held and not isinstance(event, ProcedureResumed | OperatorDecided | StopPressed):
            return self._hear_while_held(event)
        answered = self._pending
        number = getattr(event, "number", None)
        if number is not None:
            if answered is None or answered.number != number:
                return self._fire("fault_seen", f"an answer to command {number}, which is not under way")
            self._pending = None
        if not self.is_held:
            self._interrupted = answered
        match event:
            case ProcedureStarted():
                return self._fire("procedure_started", f"started by {event.who}")
            case ProcedureResumed():
                return self._resume(event)
            case OperatorDecided():
                return self._decide(event)
            case StopPressed():
                return self._fire("stop_pressed", f"stopped by {event.who}")
            case DeviceFaulted():
                return self._fire("fault_seen", f"{event.device}: {event.reason}")
            case CommandFailed() | ScanUnusable() if isinstance(answered, RequestScan):
                self.known.scan_is_usable, self.known.scan_problem = False, event.reason
                return self._fire("scan_judged", f"CT {answered.scan} can't be used: {event.reason}")
            case CommandFailed() | ScanUnusable() | WorkLost():
                return self._fire("fault_seen", event.reason)
            case CommandRefused():
                return self._fire("fault_seen", f"held back by {event.interlock}: {event.reason}")
            case OperatorConfirmed() | OperatorDeclined() if _is_about_adapting(answered):
                adapting.settle(self.known, event)
                return self._next()
            case OperatorConfirmed() if isinstance(answered, AskOperator) and answered.task == ruling.TASK:
                problem, commands = ruling.take_in(self.known, answered, event)
                if problem is not None:
                    return self._fire("fault_seen", f"the word of {event.who} can't count: {problem}")
                self._agenda.extend(commands)
                return self._next()
            case NeedlesEvaluated() if isinstance(answered, EvaluateNeedles):
                self._agenda.extend(adapting.take_in(self.known, event))
                return self._next()
            case OperatorDeclined():
                return self._fire("fault_seen", f"declined by {event.who}: {event.reason}")
            case SeedDropped() if isinstance(answered, DropSeed):
                self._interrupted = None
                problem = learn_seed(self.known, answered, event)
                return self._next() if problem is None else self._fire("fault_seen", problem)
            case ScanAnalysed() if isinstance(answered, RequestScan):
                return self._fire(*judge_scan(self.known, answered, event.findings))
            case OperatorConfirmed() if isinstance(answered, AskOperator) and answered.item is not None:
                problem = time_out.take_in(self.known, answered.item, event.values)
                if problem is not None:
                    return self._fire("fault_seen", problem)
                self.known.message = f"Time-out: {answered.item} confirmed by {event.who}"
                return self._next()
            case CommandDone() | OperatorConfirmed() if answered is not None:
                learn(self.known, answered)
                return self._next()
        return self._fire("fault_seen", f"{type(event).__name__} can't be understood here")

    def _hear_while_held(self, event: Event) -> tuple[Command, ...]:
        """Journaled and no more: when it goes on the devices are asked. But a seed's outcome is what it is."""
        dropped = self._interrupted
        if (
            isinstance(event, SeedDropped)
            and isinstance(dropped, DropSeed)
            and event.number == dropped.number
        ):
            problem = learn_seed(self.known, dropped, event)
            self._interrupted = self._pending = None
            if problem is not None:
                self.known.held_because = problem
        return ()

    def _resume(self, event: ProcedureResumed) -> tuple[Command, ...]:
        """Go on where the journal ends, or in the state it was held in; an answer that is known is awaited first."""
        if self.is_ended or self.state == "READY":
            return self._fire("fault_seen", "nothing is there to be resumed")
        interrupted = self.interrupted
        again = None if event.is_answered else interrupted
        rest = resumption.agenda_after(self.working_state, self.known, again, tuple(self._agenda), event)
        self._pending = interrupted if event.is_answered else None
        self._agenda = deque(rest)
        if self.is_held:
            return self._fire("procedure_resumed", f"taken back by {event.who}")
        if self.state == "PAUSED":
            return self._fire("pause_ended", f"resumed by {event.who}")
        self.known.message = f"resumed by {event.who}"
        return self._next()

    def _decide(self, event: OperatorDecided) -> tuple[Command, ...]:
        """What a person decides beside confirming; a held procedure goes on only when it is resumed."""
        trigger, message = decide(self.known, self.state, event)
        self.known.message = message
        if trigger is None:
            return ()
        if trigger == "abort_decided":
            self._pending = self._interrupted = None
            self.known.held_because = message
        elif self.known.delivery_changed and self.working_state == "DELIVERING_SEEDS":
            self._agenda.clear()
        return self._fire(trigger, message)

    def _fire(self, trigger: str, message: str) -> tuple[Command, ...]:
        self.known.message = message
        if self.is_over and trigger not in ("stop_pressed", "procedure_resumed", "abort_decided"):
            return ()
        if trigger == "procedure_resumed" and self.known.held_in != "ABORTING":
            self.known.held_because = ""
        if trigger in ("fault_seen", "stop_pressed"):
            is_aborting = self.state == "ABORTING"
            self.known.held_because = f"{self.known.held_because}; {message}" if is_aborting else message
        taken = any(row.trigger == trigger and self.state in row.sources for row in protocol.TABLE)
        if not (taken and _machine().events[trigger].trigger(self._steps)):
            self.known.message = f"{message} (nothing to do in {self.state})"
            return ()
        if self.state == "HELD" and not self.known.held_because:
            self.known.held_because = why_held(self.known, message)
        return self._next()

    def _next(self) -> tuple[Command, ...]:
        """Hand out the next command of the agenda; an empty one means that the state's work is done."""
        known = self.known
        if self.is_over or self.state == "PAUSED" or self._pending is not None:
            return ()
        if known.pause_wished and known.gripped is None:
            known.pause_wished = False
            return self._fire("pause_reached", "paused at a person's wish")
        if not self._agenda and self.state == "DELIVERING_SEEDS" and known.delivery_changed:
            if known.evaluation_due:
                self._agenda.append(EvaluateNeedles(0))
            else:
                known.delivery_changed = False
                self._agenda.extend(agenda.deliver(known))
        if not self._agenda:
            return self._fire("work_done", self.known.message)
        self._issued += 1
        command = replace(self._agenda.popleft(), number=self._issued)
        prepare(self.known, command)
        self._pending = command
        return (command,)

    def _ct(self, kind: Literal["reference", "needles", "seeds"]) -> RequestScan:
        known = self.known
        return RequestScan(0, known.scans + 1, kind, known.motion, known.slice_wished_mm)

    # --- entering a state: what is to be done there -----------------------------------------------------

    def _fill_agenda(self, event: Any) -> None:
        known, state = self.known, event.transition.dest
        if event.event.name in ("procedure_resumed", "pause_ended"):
            known.scans_in_round = 1 if event.event.name == "procedure_resumed" else known.scans_in_round
            return
        if state in ("HELD", "PAUSED"):
            if event.transition.source != "PAUSED":
                known.held_in = event.transition.source
            if event.event.name == "scan_judged":
                kind = protocol.SCANNED_IN[known.held_in]
                self._interrupted = self._ct(kind)
            return
        self._agenda.clear()
        if state == event.transition.source:
            known.scans_in_round += 1
        elif state.startswith("AWAITING_") and state.endswith("_SCAN"):
            known.scans_in_round = 1
        match state:
            case "CHECKING_DEVICES":
                self._agenda.extend(agenda.device_check())
            case "AWAITING_TIME_OUT":
                self._agenda.extend(time_out.checklist(known))
            case "INSERTING_REFERENCE_NEEDLES":
                for needle in known.plan.reference_needles:
                    story = known.needles[needle.name]
                    if story.state == "abandoned":
                        continue
                    story.state = "at reference depth"
                    self._agenda.extend(insertion.insert_fresh(known, story))
            case "CORRECTING_REFERENCE_NEEDLES" | "CORRECTING_NEEDLES" if known.settings.person_judges:
                self._agenda.append(ruling.question(known))
            case "CORRECTING_REFERENCE_NEEDLES" | "CORRECTING_NEEDLES":
                for story in known.off_target:
                    self._agenda.extend(insertion.correct(known, story))
            case "INSERTING_SEED_NEEDLES":
                self._agenda.extend(insertion.insert_all(known))
            case "DELIVERING_SEEDS":
                known.delivery_changed = known.evaluation_due = True  # the rest follows from what that gives
            case "ABORTING":
                self._agenda.extend(agenda.abort(known))
            case _ if state in protocol.SCANNED_IN:
                self._agenda.append(self._ct(protocol.SCANNED_IN[state]))
            case _:
                pass
