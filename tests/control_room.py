"""The control part under chance, kills included, and the laws that hold in each procedure.

``simulator.rehearsal.control_part`` plays it: real procedure, interlocks, journal, replay and recovery, no bytes
(``fault_room`` plays those). People refuse, aren't sure of a seed, hand in a stranger's CT or one that hides a needle;
the controller is killed at journal writes. People then decide as people would: where the seed is, more attempts, at
last to give up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from controller.advice import what_to_do
from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.journal import Journal, inspect, read_journal, verify
from controller.procedure import Procedure
from controller.replay import replay
from imaging.rescan import RescanFindings
from planning.frame import RigidTransform
from planning.plan import Plan
from simulator.rehearsal.control_part import ControlPart
from simulator.rehearsal.people import AutomaticOperator
from simulator.rehearsal.plain_tissue import PlainTissue
from simulator.rehearsal.truthful_scanner import TruthfulScanner
from tests.audit import audit
from tests.killed_room import Killed, KilledJournal, Killing

SETUP_MM, OWN_MM = 2.0, 0.8
TOLERANCE_MM, UNSURE_MM = 2.0, 0.8
MOST_HOLDS = 12
LAST_POINT = 320
"""Of an undisturbed procedure of four seeds: two a record."""


class ErringPeople(AutomaticOperator):
    """They say no by chance; ``rate``: of each answer."""

    def __init__(self, people: AutomaticOperator, chance: np.random.Generator, rate: float) -> None:
        self._people, self._chance, self._rate = people, chance, rate
        self.happened: list[str] = []

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if command.task != "confirm_resume" and self._chance.random() < self._rate:
            self.happened.append(command.task)
            return OperatorDeclined(command.number, self.name, "not so"), 1_000_000_000
        return self._people.answer(command)


class ErringScanner(TruthfulScanner):
    """CTs that are somebody else's, hide something or match nothing, by chance; ``rate``: of each CT."""

    chance: np.random.Generator
    rate: float
    happened: list[str]

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        event, took_ns = super().scan(command, procedure)
        assert isinstance(event, ScanAnalysed)
        if self.chance.random() < self.rate:
            event = replace(event, findings=self._spoilt(event.findings))
        return event, took_ns

    def _spoilt(self, found: RescanFindings) -> RescanFindings:
        what = str(self.chance.choice(["stranger", "hidden", "unmatched"]))
        self.happened.append(what)
        match what:
            case "stranger":
                return replace(found, identity=replace(found.identity, patient_id="SOMEBODY-ELSE"))
            case "hidden":
                return replace(found, needles=found.needles[1:], seeds=found.seeds[1:])
        return replace(found, registered=False, problem="too little in common")


class ControlRoom:
    """One procedure's people, scanner and tissue, and where its journal lies."""

    def __init__(self, plan: Plan, folder: Path, seed: int, rate: float) -> None:
        random = np.random.default_rng(seed)
        shift = random.normal(size=3)
        error = RigidTransform.from_rotation_vector(
            random.normal(0, 0.5, 3), SETUP_MM * shift / np.linalg.norm(shift)
        )
        pose = plan.planned_patient_from_rig() @ error
        self.tissue = PlainTissue(pose, OWN_MM, 0.8, int(random.integers(1 << 30)))
        self.plan, self.path = plan, folder / "journal.sqlite"
        self.part = ControlPart(plan, self.tissue, seed=seed)
        self.chance = np.random.default_rng([seed, 77])
        assert isinstance(self.part.operator, AutomaticOperator)
        people = ErringPeople(self.part.operator, self.chance, rate)
        scanner = ErringScanner(plan, self.tissue, random)
        scanner.chance, scanner.rate, scanner.happened = self.chance, 3 * rate, people.happened
        self.part.operator, self.part.scanner = people, scanner
        self.happened, self.who = people.happened, people.name

    def play(self, kills: list[int]) -> tuple[Procedure, int]:
        """Killed at these points of its journal, each after the last start; how often it was."""
        for killed, at in enumerate((*kills, None)):
            killing = Killing(at)
            try:
                return self._start(killing), killed
            except Killed:
                if not inspect(self.path).records:  # before its first commit
                    for left in self.path.parent.glob("journal.sqlite*"):
                        left.unlink()
        raise AssertionError("not reached")

    def _start(self, killing: Killing) -> Procedure:
        if not self.path.exists():
            journal = KilledJournal(self.path)
            journal.killing = killing
            return self.part.play(journal)
        replayed = replay(self.path, self.plan)
        if not replayed.procedure.is_over:
            continued = KilledJournal.continued(self.path)
            assert isinstance(continued, KilledJournal)
            continued.killing = killing
            self.part.take_up(replayed, continued, 2_000_000_000)
        return replayed.procedure

    def go_on(self, decisions: list[OperatorDecided]) -> Procedure:
        """What people decided, then journal and people compared and (if they agree) taken back and played on."""
        replayed = replay(self.path, self.plan)
        journal = Journal.continued(self.path)
        for decision in decisions:
            journal.append(self.part.now_ns, "event", decision.to_json())
            replayed.procedure.handle(decision)
        self.part.take_up(replayed, journal, 120_000_000_000)
        return replayed.procedure


@dataclass
class Controlled:
    """What became of one procedure."""

    state: str
    holds: int
    kills: int
    happened: list[str]
    violations: list[str]


def control(plan: Plan, seed: int, folder: Path, rate: float = 0.01, *, kills: bool = True) -> Controlled:
    """Play one procedure to its end in ``folder``."""
    room = ControlRoom(plan, folder, seed, rate)
    at = [int(it) for it in room.chance.integers(1, LAST_POINT, size=int(room.chance.integers(0, 3)))]
    procedure, killed = room.play(at if kills else [])
    holds = 0
    while not procedure.is_ended and holds < MOST_HOLDS:
        holds += 1
        procedure = room.go_on(_decided(room, procedure, is_last=holds > MOST_HOLDS // 2))
    return Controlled(procedure.state, holds, killed, room.happened, _laws(room, procedure))


def _decided(room: ControlRoom, procedure: Procedure, *, is_last: bool) -> list[OperatorDecided]:
    """What people say to a hold: first what is asked of them, at last that they give up."""
    known, who = procedure.known, room.who
    if not procedure.is_held:
        return []
    decisions = []
    if known.doubt is not None and not known.doubt.where:
        pushed = known.doubt.stroke in room.part.theatre._pushed_by_hand
        where = "patient" if pushed else "cartridge"
        decisions.append(OperatorDecided("seed_is", who, "counted, and seen", where=where))
    if known.held_in == "AWAITING_SEED_SCAN" and known.seeds_seen > known.implanted:
        decisions.append(OperatorDecided("accept_seed_count", who, "told apart", count=known.seeds_seen))
    decisions += [
        OperatorDecided("grant_attempts", who, "again", needle=story.plan.name, count=2)
        for story in known.off_target
    ]
    return decisions + ([OperatorDecided("abort", who, "given up")] if is_last else [])


def _laws(room: ControlRoom, procedure: Procedure) -> list[str]:
    known, wrong = procedure.known, []
    dropped = room.part.template.seeds_dropped
    planned = {needle.name: len(needle.seeds) for needle in room.plan.needles}
    if not procedure.is_ended:
        wrong.append(f"no end: {procedure.state} ({known.held_because})")
    if procedure.is_held and not (known.held_because and what_to_do(known.held_because)):
        wrong.append("held without a reason")
    if known.doubt is None and sum(dropped.values()) != known.implanted:
        wrong.append(f"{sum(dropped.values())} seeds in the patient, {known.implanted} counted")
    if any(count > planned[name] for name, count in dropped.items()):
        wrong.append(f"dropped {dropped}, planned {planned}")
    if procedure.state == "COMPLETED" and dropped != planned:
        wrong.append(f"completed with {dropped}, planned {planned}")
    for seed in room.tissue.true_seeds:
        places = [
            np.asarray(s.centre_mm) for n in room.plan.needles if n.name == seed.needle for s in n.seeds
        ]
        away_mm = min(float(np.linalg.norm(place - seed.centre_mm)) for place in places)
        if away_mm > TOLERANCE_MM + UNSURE_MM:
            wrong.append(f"a seed of needle {seed.needle} lies {away_mm:.1f} mm from its place")
    broken = verify(room.path)
    if broken is not None:
        return [*wrong, broken]
    return wrong + audit(list(read_journal(room.path)), room.plan)
