"""A simulated operating room without CT, for tests of the controller.

Real drivers and firmware, plain tissue, and a scanner that tells the truth with a little noise:
``Room(plan, seed=..., setup_mm=..., own_mm=...).session(folder).run()`` plays the procedure in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.journal import Journal
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.session import Evaluator, Session, Transport
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.rig import RigDriver
from imaging.rescan import RescanFindings
from planning.frame import Floats, RigidTransform
from planning.plan import Plan
from simulator.applicator_board import ApplicatorIdentity
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.physics import ImpossibleByHandError, Template
from simulator.rehearsal.plain_tissue import PlainTissue
from simulator.rehearsal.truthful_scanner import TruthfulScanner
from simulator.rehearsal.virtual_transport import VirtualTransport
from simulator.rig_mechanics import RigMechanics


class Room:
    """Devices, tissue, people and scanner around one plan."""

    def __init__(
        self,
        plan: Plan,
        *,
        seed: int = 1,
        setup_mm: float = 3.0,
        own_mm: float = 1.2,
        repeats: float = 0.8,
        noise_mm: float = 0.15,
        sigma_mm: float = 0.3,
        scan_takes_s: float = 60.0,
        settings: ProcedureSettings | None = None,
        simulated: bool = True,
    ) -> None:
        random = np.random.default_rng(seed)
        shift = random.normal(size=3)
        error = RigidTransform.from_rotation_vector(
            random.normal(0, 0.5, 3), setup_mm * shift / np.linalg.norm(shift)
        )
        self.plan = plan
        self.tissue = PlainTissue(
            plan.planned_patient_from_rig() @ error, own_mm, repeats, int(random.integers(1 << 30))
        )
        template = Template(self.tissue)
        self.rig_mechanics = RigMechanics(np.random.default_rng([seed, 1]), template)
        self.rig = GrblFirmware(self.rig_mechanics, NonVolatile(), np.random.default_rng([seed, 2]))
        self.hands_on = ApplicatorMechanics(np.random.default_rng([seed, 3]), template)
        identity = ApplicatorIdentity(is_simulated=simulated)
        self.applicator = ApplicatorFirmware(self.hands_on, NonVolatile(), identity)
        self.template = template
        self.is_automatic = True
        self.name = "test"
        self.scanner = TruthfulScanner(
            plan, self.tissue, random, tip_sigma_mm=noise_mm, stated_sigma_mm=sigma_mm
        )
        self._scan_takes_s = scan_takes_s
        self.settings = settings or ProcedureSettings()
        self.before_answer: Callable[[AskOperator], None] = lambda _command: None
        self.change_findings: Callable[[RequestScan, dict[str, Any]], None] = lambda _command, _values: None
        self.tips_at_delivery: dict[str, Floats] = {}

    def session(
        self,
        folder: Path,
        over: Callable[[RigDriver, ApplicatorDriver], Transport] | None = None,
        aside: Executor | None = None,
        evaluator: Evaluator | None = None,
        only_simulated: bool = False,
    ) -> Session:
        """A session with this room; ``over``: makes another transport than the one in this process."""
        self.procedure = Procedure(self.plan, self.settings)
        self.journal = Journal(folder / "journal.sqlite")
        rig, applicator = RigDriver(RigConfig()), ApplicatorDriver(ApplicatorConfig(15, 5000, 18), "5A17")
        return Session(
            self.procedure,
            self.journal,
            rig=rig,
            applicator=applicator,
            transport=over(rig, applicator)
            if over
            else VirtualTransport((rig, self.rig), (applicator, self.applicator)),
            operator=self,
            scanner=self,
            aside=aside,
            evaluator=evaluator,
            only_simulated=only_simulated,
        )

    # --- people -----------------------------------------------------------------------------------------

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        self.before_answer(command)
        try:
            match command.task:
                case "load_needle":
                    self.rig_mechanics.hand_needle(str(command.needle))
                case "couple_applicator":
                    self.tips_at_delivery[str(command.needle)] = self.tissue.true_tip_patient_mm(
                        str(command.needle)
                    )
                    if command.z_mm:
                        self.hands_on.draw_by_hand(command.z_mm)
                    self.hands_on.couple(str(command.needle), command.z_mm or 0.0)
                case "uncouple_applicator":
                    self.hands_on.uncouple()
                    self.template.take_out(str(command.needle))
                case "seat_cartridge":
                    self.hands_on.insert_cartridge(int(command.count or 0))
                case "remove_cartridge":
                    assert self.hands_on.remove_cartridge() == command.returned
        except ImpossibleByHandError as problem:
            return OperatorDeclined(command.number, self.name, str(problem)), 5_000_000_000
        return OperatorConfirmed(command.number, self.name), 5_000_000_000

    # --- scanner ----------------------------------------------------------------------------------------

    def scan(self, command: RequestScan, _procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        found = self.scanner.findings(command)
        values = {field.name: getattr(found, field.name) for field in fields(found)}
        self.change_findings(command, values)
        event = ScanAnalysed(command.number, f"scans/{command.scan}", RescanFindings(**values))
        return event, round(self._scan_takes_s * 1e9)
