"""Whole procedures without bytes and images: the real controller decides, the simulated patient is true.

Procedure, protocol table, guidance and every interlock are the controller's own; each command is judged and then done
at once by devices that have no wire and no fault but the jam. A CT makes no image: it shows each true position with an
error from the vary file, and states a sigma. The dose is that of the seeds as they truly lie. Not played: journal,
links, firmware, the adaptation of the plan, what people decide after a hold (a held run ends there, as held).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from controller.events import CommandRefused, ProcedureStarted
from controller.interlocks import judge
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from planning.plan import Plan
from planning.sampled_figures import SampledFigures
from simulator.ct_reader import PatientCt
from simulator.patient import Patient
from simulator.rehearsal.campaign.dose_run import FAR_AWAY_MM, chance_of, figure_names
from simulator.rehearsal.campaign.quick_room import QuickRoom
from simulator.rehearsal.campaign.variation import Variation

MOST_COMMANDS = 100_000
"""Of one procedure; more is a loop without an end, which is our own fault."""


@dataclass(frozen=True)
class ProcedureRuns:
    """Plays whole procedures; each run's chance is that of its number.

    Attributes:
        figures: dose figures taken of each run.
        ct: the patient.
        seed: of the campaign.
    """

    plan: Plan
    figures: SampledFigures
    ct: PatientCt
    variation: Variation
    seed: int

    kind = "procedure"
    chunk = 20

    @cached_property
    def _settings(self) -> ProcedureSettings:
        rules = self.variation.rules
        return ProcedureSettings(tolerance_mm=rules.tolerance_mm, max_attempts=rules.max_attempts)

    def play(self, runs: Sequence[int]) -> list[dict[str, Any]]:
        """One row a run, with a list of its needles' rows."""
        return [self._play(run) for run in runs]

    def _play(self, run: int) -> dict[str, Any]:
        chance = chance_of(self.seed, run)
        world = int(chance.integers(1 << 62))
        patient = Patient(self.ct, self.plan.patient_from_rig, self.variation.population(), world)
        room = QuickRoom(self.plan, patient, self.variation, chance)
        procedure = Procedure(self.plan, self._settings)
        commands = procedure.handle(ProcedureStarted("campaign"))
        for _ in range(MOST_COMMANDS):
            if not commands:
                break
            (command,) = commands
            refused = judge(command, procedure.known, room.facts)
            if refused is None:
                event = room.carry_out(command, procedure)
            else:
                event = CommandRefused(command.number, refused.interlock, refused.reason)
            commands = procedure.handle(event)
        else:
            raise RuntimeError(f"run {run}: no end after {MOST_COMMANDS} commands")
        return self._row(run, procedure, room)

    def _row(self, run: int, procedure: Procedure, room: QuickRoom) -> dict[str, Any]:
        known = procedure.known
        is_lost = room.chance.random(len(room.patient.true_seeds)) < self.variation.seed.lost_share
        row: dict[str, Any] = {
            "run": run,
            "outcome": procedure.state.lower(),
            "held_in": known.held_in.lower() if procedure.is_held else "",
            "reason": known.held_because,
            "scans": known.scans,
            "corrections": sum(needle.corrections for needle in room.needles.values()),
            "insertions": sum(needle.insertions for needle in room.needles.values()),
            "seeds": len(room.patient.true_seeds),
            "seeds_lost": int(is_lost.sum()),
            "time_s": room.now_s,
        }
        row |= dict.fromkeys(figure_names(self.figures))
        if procedure.state == "COMPLETED":
            centres = np.array([seed.centre_mm for seed in room.patient.true_seeds])
            centres[is_lost] = FAR_AWAY_MM
            axes = np.array([seed.direction for seed in room.patient.true_seeds])
            found = self.figures.of(centres[None], axes[None])[0].tolist()
            row |= dict(zip(figure_names(self.figures), found, strict=True))
        row["needles"] = [
            {"needle": name, **needle.row(known.needles[name])} for name, needle in room.needles.items()
        ]
        return row
