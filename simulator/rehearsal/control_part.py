"""The control part of one implantation, fast: no bytes, no images, tens of procedures a second.

The controller's side is the real one (procedure, interlocks, session, journal). People stand in for both devices
(``controller.by_hand``), so that the same commands are judged, journaled and carried out in the same order without a
wire; simulated hands do what they are asked, and a scanner tells the truth with a little noise. What is left out:
motion profiles, drivers, links, imaging. One procedure::

    procedure = ControlPart(plan, tissue, seed=7).play(Journal(folder / "journal.sqlite"))
    procedure.known.judged        # what each CT showed; tissue.true_seeds: where the seeds truly lie

``tissue`` is a ``Patient`` (CT, error population) or ``PlainTissue``. The same seed gives the same procedure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace

import numpy as np

from controller.by_hand import Answer, ApplicatorByHand, RigByHand
from controller.commands import AskOperator
from controller.events import Event
from controller.journal import Journal
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.recovery import Verdict, compare, confirm, look
from controller.replay import Replayed
from controller.session import Evaluator, Operator, Scanner, Session
from controller.snapshot import Snapshot
from planning.plan import Plan
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.patient import Patient
from simulator.physics import Template
from simulator.rehearsal.people import AutomaticOperator
from simulator.rehearsal.truthful_scanner import SeenTissue, TruthfulScanner
from simulator.rig_mechanics import RigMechanics
from simulator.theatre import Theatre

Listener = Callable[[Snapshot], None]


class Clock:
    """A transport that carries nothing: only virtual time passes."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def exchange(self) -> bool:
        return False

    def lost(self) -> list[tuple[str, str]]:
        return []

    def wait(self, wake_ns: int | None) -> None:
        if wake_ns is None:
            raise RuntimeError("deadlock: nobody waits for anything")
        self._now_ns = max(self._now_ns, wake_ns)


class ControlPart:
    """People, scanner and patient of one procedure; they live on when the controller doesn't.

    Args:
        tissue: the patient, untouched.
        seed: of the scanner's noise and of the mechanics' small errors.
        settings: as in any procedure; both devices are absent.
        operator, scanner: who answers, and what CTs show; None: people who do what is asked, and the truth.
        evaluator: of the dose with the needles as they stand; None: the plan is kept.
    """

    def __init__(
        self,
        plan: Plan,
        tissue: SeenTissue,
        *,
        seed: int = 1,
        settings: ProcedureSettings | None = None,
        operator: Operator | None = None,
        scanner: Scanner | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        def chance(purpose: int) -> np.random.Generator:
            return np.random.default_rng([seed, purpose])

        self.plan, self.tissue = plan, tissue
        self.settings = replace(settings or ProcedureSettings(), rig_by_hand=True, applicator_by_hand=True)
        self.template = Template(tissue)
        self.applicator = ApplicatorMechanics(chance(3), self.template)
        patient = tissue if isinstance(tissue, Patient) else None
        self.theatre = Theatre(patient, RigMechanics(chance(1), self.template), self.applicator)
        self.operator = operator or AutomaticOperator(self.theatre.handle)
        self.scanner = scanner or TruthfulScanner(plan, tissue, chance(4))
        self._evaluator = evaluator
        self.now_ns = 0

    def play(self, journal: Journal, listener: Listener = lambda _snapshot: None) -> Procedure:
        """From the first step until it is over (completed, or held); the journal is closed then."""
        procedure = Procedure(self.plan, self.settings)
        try:
            journal.append(0, "opened", {"plan": self.plan.content_hash, "settings": asdict(self.settings)})
            self._run(self._parts(procedure, journal, listener), ())
        finally:
            journal.close()
        return procedure

    def take_up(
        self,
        replayed: Replayed,
        journal: Journal,
        later_ns: int,
        listener: Listener = lambda _snapshot: None,
    ) -> Verdict | None:
        """Go on after a kill or a hold as ``seedguide resume`` does, until it is over; the journal is closed then.

        Args:
            replayed: of ``journal``; its procedure is played on.
            later_ns: so much later than it was left.

        Returns:
            Journal against people; None when it had not begun: then it begins.
        """
        procedure = replayed.procedure
        self.now_ns = max(self.now_ns, replayed.last_ns) + later_ns
        try:
            parts = self._parts(procedure, journal, listener)
            if procedure.state == "READY":
                self._run(parts, ())
                return None
            verdict = compare(replayed, look(parts.rig, parts.applicator, parts.clock, procedure))
            begin_with = confirm(verdict, self.operator, journal, parts.clock.now_ns()).begin_with
            if begin_with:
                self._run(parts, begin_with)
            return verdict
        finally:
            journal.close()

    def _run(self, parts: _Parts, begin_with: Sequence[Event]) -> None:
        try:
            parts.session.run(begin_with)
        finally:
            self.now_ns = parts.clock.now_ns()

    def _parts(self, procedure: Procedure, journal: Journal, listener: Listener) -> _Parts:
        rig = RigByHand(procedure, self._ask, simulated=True)
        applicator = ApplicatorByHand(procedure, self._ask, simulated=True)
        clock = Clock(self.now_ns)
        session = Session(
            procedure,
            journal,
            rig=rig,
            applicator=applicator,
            transport=clock,
            operator=self.operator,
            scanner=self.scanner,
            evaluator=self._evaluator,
            listener=listener,
        )
        return _Parts(session, rig, applicator, clock)

    def _ask(self, question: AskOperator) -> Future[tuple[Answer, int]]:
        """In virtual time the answer is there at once."""
        answered: Future[tuple[Answer, int]] = Future()
        answered.set_result(self.operator.answer(question))
        return answered


@dataclass(frozen=True)
class _Parts:
    """One start of the controller."""

    session: Session
    rig: RigByHand
    applicator: ApplicatorByHand
    clock: Clock
