"""Devices, people and scanner that do at once what the controller asks, on the simulated patient.

Keeps what the devices say of themselves for the interlocks (``facts``), the procedure's clock, and each needle's true
deviations: at its first full-depth CT and at the last before its first seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controller import commands as c
from controller.events import (
    CommandDone,
    Event,
    NeedlesEvaluated,
    OperatorConfirmed,
    ScanAnalysed,
    ScanUnusable,
    SeedDropped,
)
from controller.interlocks import DeviceFacts
from controller.knowledge import Knowledge
from controller.procedure import Procedure
from planning.plan import Plan
from simulator.patient import Patient
from simulator.rehearsal.campaign.needle_tally import NeedleTally, TrueDeviation, true_deviation
from simulator.rehearsal.campaign.variation import Variation
from simulator.rehearsal.truthful_scanner import TruthfulScanner

OUT_MM = 400.0  # more than any needle's length


class QuickRoom:
    """Everything that is not the controller.

    Args:
        chance: of scans and devices; the patient has a chance of his own.
    """

    def __init__(
        self, plan: Plan, patient: Patient, variation: Variation, chance: np.random.Generator
    ) -> None:
        self.plan, self.patient, self.chance = plan, patient, chance
        self.facts = DeviceFacts()
        self.now_s = 0.0
        self.needles = {needle.name: NeedleTally() for needle in plan.needles}
        self._planned = {needle.name: needle for needle in plan.needles}
        self._variation = variation
        self._carriage: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self._gripped: str | None = None
        self._coupled: str | None = None
        scan = variation.scan
        self._scanner = TruthfulScanner(
            plan,
            patient,
            chance,
            tip_sigma_mm=scan.tip_error_sigma_mm,
            angle_sigma_deg=scan.angle_error_sigma_deg,
            stated_sigma_mm=scan.stated_sigma_mm,
            unseen_share=scan.unseen_share,
            unusable_share=scan.unusable_share,
        )

    def carry_out(self, command: c.Command, procedure: Procedure) -> Event:
        """Do it, let time pass, say what happened."""
        times, known = self._variation.times, procedure.known
        match command:
            case c.AskOperator(task="confirm_time_out"):
                self.now_s += times.time_out_s
                return OperatorConfirmed(command.number, "campaign")
            case c.AskOperator():
                self.now_s += times.hand_s
                self._by_hand(command)
                return OperatorConfirmed(command.number, "campaign")
            case c.RequestScan():
                self.now_s += times.scan_s
                return self._scan(command, procedure)
            case c.EvaluateNeedles():
                return NeedlesEvaluated(command.number, skipped="a campaign keeps the plan")
            case c.DropSeed():
                self.now_s += times.seed_s
                return self._drop(command)
            case c.OpenGrip():
                tally = self.needles[command.needle]
                tally.insertions += 1
                tally.corrections += procedure.state.startswith("CORRECTING")
                self.now_s += times.needle_s
        self._move(command, known)
        return CommandDone(command.number, {})

    # --- devices ----------------------------------------------------------------------------------------

    def _move(self, command: c.Command, known: Knowledge) -> None:
        x_mm, y_mm, z_mm = self._carriage
        match command:
            case c.ConnectRig():
                self.facts = replace(self.facts, rig_is_live=True)
            case c.HomeRig():
                self.facts = replace(self.facts, rig_knows_position=True)
                self._carriage = (0.0, 0.0, known.settings.home_z_mm)
            case c.MoveAcross():
                self._carry(command.x_mm, command.y_mm, z_mm)
            case c.MoveDepth():
                self._carry(x_mm, y_mm, command.z_mm)
            case c.CloseGrip():
                if known.loaded != command.needle and self.patient.grip(x_mm, y_mm) != command.needle:
                    raise RuntimeError(f"needle {command.needle} does not stand where the rig grips")
                self._gripped = command.needle
                self._carry(x_mm, y_mm, z_mm)
            case c.OpenGrip():
                self.patient.release()
                self._gripped = None
            case c.ConnectApplicator():
                self.facts = replace(self.facts, applicator_is_live=True)
            case c.HomeApplicator(axis="retraction"):
                self.facts = replace(self.facts, needle_z_um=0)
            case c.DeclareCartridge():
                self.facts = replace(self.facts, cartridge_left=command.count)
            case c.RetractNeedle():
                self.patient.retract(command.needle, (command.z_um - self.facts.needle_z_um) / 1000.0)
                self.facts = replace(self.facts, needle_z_um=command.z_um)
            case c.EndLedger():
                self.facts = replace(self.facts, cartridge_left=0)

    def _carry(self, x_mm: float, y_mm: float, z_mm: float) -> None:
        self._carriage = (x_mm, y_mm, z_mm)
        if self._gripped is not None:
            self.patient.insert(self._gripped, x_mm, y_mm, z_mm)

    def _drop(self, command: c.DropSeed) -> SeedDropped:
        is_jam = bool(self.chance.random() < self._variation.devices.jam_share)
        if not is_jam:
            self.patient.drop_seed(command.needle)
        left = self.facts.cartridge_left - 1
        latch = "JAM" if is_jam else "NONE"
        self.facts = replace(self.facts, seed_counter=command.stroke, cartridge_left=left, latch=latch)
        outcome = "NOPASS" if is_jam else "PASS"
        return SeedDropped(command.number, command.seed, outcome, False, command.z_um, 0, 0, 0)

    # --- people -----------------------------------------------------------------------------------------

    def _by_hand(self, command: c.AskOperator) -> None:
        name = str(command.needle)
        match command.task:
            case "couple_applicator":
                self.needles[name].final = self._deviation(name)
            case "uncouple_applicator" | "take_out_needle":
                self.patient.retract(name, OUT_MM)
            case "seat_cartridge":
                self.facts = replace(self.facts, cartridge_is_seated=True)
            case "remove_cartridge":
                self.facts = replace(self.facts, cartridge_is_seated=False)

    # --- scanner ----------------------------------------------------------------------------------------

    def _scan(self, command: c.RequestScan, procedure: Procedure) -> ScanAnalysed | ScanUnusable:
        event, _ = self._scanner.scan(command, procedure)
        if command.kind == "needles" and isinstance(event, ScanAnalysed):
            self._keep_deviations()
        return event

    def _keep_deviations(self) -> None:
        for name in self.patient.needles:
            tally = self.needles[name]
            if tally.first is None:
                tally.first = self._deviation(name)

    def _deviation(self, name: str) -> TrueDeviation:
        planned = self._planned[name]
        tip, _ = self.patient.true_tip_and_direction_mm(name)
        return true_deviation(planned, tip, self.patient.true_entry_patient_mm(name))
