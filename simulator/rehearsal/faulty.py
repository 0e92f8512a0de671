"""Faults of people, of CTs and of devices, played in a rehearsal when the file of faults says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.advice import what_to_do
from controller.answers import Answers
from controller.commands import APPLICATOR_COMMANDS, RIG_COMMANDS, AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.journal import Record
from controller.procedure import Procedure
from controller.protocol import STATES
from controller.session import Operator, Scanner, Session
from planning.refusal import AskedWrongly
from simulator.faults import Fault, FaultError, read_faults
from simulator.faults_director import Director
from simulator.rehearsal.options import RehearsalOptions
from simulator.rehearsal.people import SCAN_TAKES_S

NOBODY_ANSWERS_S = 600.0
"""A question that nobody answers for so long is answered with no (assumed)."""


class FaultyOperator:
    """People who do wrong when the director says so; otherwise ``people`` as they are."""

    is_automatic = True

    def __init__(self, people: Operator, director: Director) -> None:
        self._people, self._director, self.name = people, director, people.name
        self.told: list[str] = []
        """What answers that did not count were told."""
        self._answers = Answers()

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        self._answers.ask(command)
        match (self._director.for_operator() or "").split():
            case ["silent"]:
                why = f"nobody answered for {NOBODY_ANSWERS_S:.0f} s"
                return self._counts(command, why), round(NOBODY_ANSWERS_S * 1e9)
            case ["declines"]:
                return self._counts(command, f"no to: {command.text}"), round(8.0 * 1e9)
            case ["early"]:
                self._hear(self._answers.take(command.number + 1, self.name))
            case ["twice"]:
                answer, took_ns = self._people.answer(command)
                counted = self._counts(command, getattr(answer, "reason", None))
                self._hear(self._answers.take(command.number, self.name))
                return counted, took_ns
            case ["slow", seconds]:
                answer, took_ns = self._people.answer(command)
                return answer, took_ns + round(float(seconds) * 1e9)
        return self._people.answer(command)

    def _counts(self, command: AskOperator, why: str | None) -> OperatorConfirmed | OperatorDeclined:
        taken = self._answers.take(command.number, self.name, why)
        assert not isinstance(taken, str)
        return taken

    def _hear(self, taken: OperatorConfirmed | OperatorDeclined | str) -> None:
        assert isinstance(taken, str)
        self.told.append(taken)


class FaultyScanner:
    """A scanner whose CTs go wrong when the director says so; otherwise ``scanner`` as it is.

    The faults are in what the analysis hands over: findings of the CT before, of another patient, without a needle.
    """

    def __init__(self, scanner: Scanner, director: Director) -> None:
        self._scanner, self._director = scanner, director
        self._last: ScanAnalysed | None = None

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        wrong = (self._director.for_scanner() or "").split()
        took_ns = round(SCAN_TAKES_S * 1e9)
        if wrong == ["missing"] or (wrong == ["old"] and self._last is None):
            return ScanUnusable(command.number, "the CT did not come"), took_ns
        if wrong == ["old"] and self._last is not None:
            return replace(self._last, number=command.number), took_ns
        event, took_ns = self._scanner.scan(command, procedure)
        if isinstance(event, ScanAnalysed):
            self._last = event
            findings = event.findings
            match wrong:
                case ["stranger"]:
                    identity = replace(findings.identity, patient_id="SOMEBODY-ELSE")
                    event = replace(event, findings=replace(findings, identity=identity))
                case ["hides", needle]:
                    seen = tuple(it for it in findings.needles if it.name != needle)
                    event = replace(event, findings=replace(findings, needles=seen))
        return event, took_ns


def faults_of(options: RehearsalOptions) -> list[Fault]:
    """What the file of faults says. Raises AskedWrongly: it can't be read, or not be played so."""
    if options.faults is None:
        return []
    if options.door == "ports":
        raise AskedWrongly(
            "--faults needs --door inprocess (virtual time); behind ports, use seedguide simulate --faults."
        )
    try:
        faults = read_faults(options.faults, STATES)
    except FaultError as problem:
        raise AskedWrongly(str(problem)) from problem
    for place, fault in enumerate(faults, 1):
        if fault.at_command is not None and fault.at_command not in COMMAND_NAMES:
            raise AskedWrongly(
                f"{options.faults}: fault {place}: at_command {fault.at_command} is no command; known are: "
                f"{', '.join(sorted(COMMAND_NAMES))}."
            )
    return faults


COMMAND_NAMES = frozenset(
    kind.__name__ for kind in (*RIG_COMMANDS, *APPLICATOR_COMMANDS, AskOperator, RequestScan)
)


def told_by_journal(
    director: Director, others: Callable[[Record], None] = lambda _record: None
) -> Callable[[Record], None]:
    """How the director hears of states and commands: each record, before its bytes leave."""

    def told(record: Record) -> None:
        others(record)
        director.told(record.kind, record.body, record.t_ns)

    return told


def faults_told(session: Session, director: Director | None) -> tuple[str, ...]:
    """For the report: what happened when, then each hold with what to do."""
    played = [] if director is None else director.happened
    return (
        *(f"Played at {when_s:.1f} s: {words}" for when_s, words in played),
        *(f"Held: {reason} | {what_to_do(reason)}" for reason in session.faults),
    )
