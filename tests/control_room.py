"""The control part alone, fast: one procedure by hand under chance, kills included, and the laws that hold in each.

Real procedure, interlocks, journal, replay and recovery; people stand in for both devices, so no bytes cross a wire
(``fault_room`` plays those). They refuse, aren't sure of a seed, hand in a stranger's CT or one that hides a needle;
the controller is killed. People then decide as people would: where the seed is, more attempts, at last to give up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.advice import what_to_do
from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.journal import verify
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.replay import replay
from planning.plan import Plan
from tests.held_room import go_on
from tests.killed_room import KilledRoom, play

TOLERANCE_MM, UNSURE_MM = 2.0, 0.8
MOST_HOLDS = 12
LAST_POINT = 320
"""Of an undisturbed procedure of four seeds: two a record."""


class ControlRoom(KilledRoom):
    """People and CTs that do wrong by chance; ``rate``: of each answer and each CT."""

    def __init__(self, plan: Plan, seed: int, rate: float) -> None:
        settings = ProcedureSettings(rig_by_hand=True, applicator_by_hand=True)
        super().__init__(plan, seed=seed, setup_mm=2.0, own_mm=0.8, settings=settings)
        self.chance = np.random.default_rng([seed, 77])
        self.rate = rate
        self.happened: list[str] = []
        self.change_findings = self._spoil

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if command.task != "confirm_resume" and self.chance.random() < self.rate:
            self.happened.append(command.task)
            return OperatorDeclined(command.number, self.name, "not so"), 1_000_000_000
        return super().answer(command)

    def _spoil(self, _command: RequestScan, values: dict[str, Any]) -> None:
        if self.chance.random() >= 3 * self.rate:
            return
        what = str(self.chance.choice(["stranger", "hidden", "unmatched"]))
        self.happened.append(what)
        if what == "stranger":
            values["identity"] = replace(values["identity"], patient_id="SOMEBODY-ELSE")
        elif what == "hidden":
            values["needles"] = values["needles"][1:]
            values["seeds"] = values["seeds"][1:]
        else:
            values.update(registered=False, problem="too little in common")


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
    room = ControlRoom(plan, seed, rate)
    at = [int(it) for it in room.chance.integers(1, LAST_POINT, size=int(room.chance.integers(0, 3)))]
    outcome = play(room, folder, at if kills else [])
    procedure = replay(folder / "journal.sqlite", plan).procedure
    holds = 0
    while not procedure.is_ended and holds < MOST_HOLDS:
        holds += 1
        decisions = _decided(room, procedure, is_last=holds > MOST_HOLDS // 2)
        procedure, _ = go_on(room, folder, decisions)
    wrong = _laws(room, procedure, folder)
    return Controlled(procedure.state, holds, len(outcome.where), room.happened, wrong)


def _decided(room: ControlRoom, procedure: Procedure, *, is_last: bool) -> list[OperatorDecided]:
    """What people say to a hold: first what is asked of them, at last that they give up."""
    known = procedure.known
    if not procedure.is_held:
        return []
    decisions = []
    if known.doubt is not None and not known.doubt.where:
        pushed = known.doubt.stroke in room.theatre._pushed_by_hand
        where = "patient" if pushed else "cartridge"
        decisions.append(OperatorDecided("seed_is", room.name, "counted, and seen", where=where))
    if known.held_in == "AWAITING_SEED_SCAN" and known.seeds_seen > known.implanted:
        decisions.append(
            OperatorDecided("accept_seed_count", room.name, "told apart", count=known.seeds_seen)
        )
    decisions += [
        OperatorDecided("grant_attempts", room.name, "again", needle=story.plan.name, count=2)
        for story in known.off_target
    ]
    return decisions + ([OperatorDecided("abort", room.name, "given up")] if is_last else [])


def _laws(room: ControlRoom, procedure: Procedure, folder: Path) -> list[str]:
    known, wrong = procedure.known, []
    dropped = room.template.seeds_dropped
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
    for needle, at in room.tissue.seeds:
        places = [np.asarray(s.centre_mm) for n in room.plan.needles if n.name == needle for s in n.seeds]
        away_mm = min(float(np.linalg.norm(place - at)) for place in places)
        if away_mm > TOLERANCE_MM + UNSURE_MM:
            wrong.append(f"a seed of needle {needle} lies {away_mm:.1f} mm from its place")
    broken = verify(folder / "journal.sqlite")
    return [*wrong, *([broken] if broken is not None else [])]
