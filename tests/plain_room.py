"""A simulated operating room without CT, for tests of the controller.

Real drivers and firmware, plain tissue, and a scanner that tells the truth with a little noise:
``Room(plan, seed=..., setup_mm=..., own_mm=...).session(folder).run()`` plays the procedure in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
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
from imaging.rescan import RescanFindings, ScanIdentity, SeenNeedle, SeenSeed
from planning.frame import Floats, RigidTransform
from planning.plan import Plan
from simulator.applicator_board import ApplicatorIdentity
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.physics import ImpossibleByHandError, Template
from simulator.rehearsal.virtual_transport import VirtualTransport
from simulator.rig_mechanics import RigMechanics

SKIN_Z_MM = 20.0


class PlainTissue:
    """Skin is a plane at rig z = 20 mm; every insertion is off by a shift that grows to full size at 80 mm.

    Args:
        repeats: share of the shift's variance that the same needle shows again at its next insertion.
    """

    def __init__(self, pose: RigidTransform, own_mm: float, repeats: float, seed: int) -> None:
        self.pose = pose
        self._own_mm, self._repeats = own_mm, repeats
        self._random = np.random.default_rng(seed)
        self._of_path: dict[str, Floats] = {}
        self._shift: dict[str, Floats] = {}
        self.at: dict[str, Floats] = {}
        self._held: str | None = None
        self.seeds: list[tuple[str, Floats]] = []

    def insert(self, needle: str, x_mm: float, y_mm: float, tip_z_mm: float) -> None:
        was_inside = needle in self.at and self.at[needle][2] > SKIN_Z_MM
        if tip_z_mm > SKIN_Z_MM and not was_inside:
            path = self._of_path.setdefault(needle, self._random.normal(size=3))
            new = self._random.normal(size=3)
            self._shift[needle] = self._own_mm * (
                np.sqrt(self._repeats) * path + np.sqrt(1.0 - self._repeats) * new
            )
        self.at[needle] = np.array([x_mm, y_mm, tip_z_mm])
        self._held = needle

    def retract(self, needle: str, distance_mm: float) -> None:
        self.at[needle][2] -= distance_mm

    def release(self) -> None:
        self._held = None

    def grip(self, x_mm: float, y_mm: float) -> str | None:
        for name, at in self.at.items():
            if at[2] > SKIN_Z_MM and np.hypot(at[0] - x_mm, at[1] - y_mm) <= 1.0:
                self._held = name
                return name
        return None

    def tip_mm(self, needle: str) -> Floats:
        """True tip, patient frame."""
        at = self.at[needle]
        grown = np.clip((at[2] - SKIN_Z_MM) / 60.0, 0.0, 1.2)
        return self.pose.apply(at + grown * self._shift.get(needle, np.zeros(3)))

    def drop_seed(self, needle: str) -> None:
        ahead = self.pose.turn((0.0, 0.0, 2.25))
        self.seeds.append((needle, self.tip_mm(needle) + ahead))


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
        self._random = random
        self._noise_mm, self._sigma_mm = noise_mm, sigma_mm
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
                    self.tips_at_delivery[str(command.needle)] = self.tissue.tip_mm(str(command.needle))
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
        needles = []
        direction = self.tissue.pose.turn((0.0, 0.0, 1.0))
        for name, at in self.tissue.at.items():
            if at[2] > SKIN_Z_MM:
                tip = self.tissue.tip_mm(name) + self._random.normal(0.0, self._noise_mm, 3)
                needles.append(
                    SeenNeedle(name, _point(tip), _point(direction), (0, 0, 0), self._sigma_mm, 3000)
                )
        seeds = [
            SeenSeed(number + 1, _point(at), _point(direction), 0.3)
            for number, (_, at) in enumerate(self.tissue.seeds)
        ]
        values: dict[str, Any] = {
            "kind": command.kind,
            "identity": ScanIdentity(
                self.plan.patient_id, "1", f"1.{command.scan}", self.plan.frame_of_reference_uid, 1.25, 90
            ),
            "plan_from_scan": tuple(map(tuple, np.eye(4).tolist())),
            "registered": True,
            "problem": "",
            "similarity": 1.0,
            "expected_tre_mm": 0.2,
            "needles": tuple(needles) if command.kind != "seeds" else (),
            "seeds": tuple(seeds) if command.kind == "seeds" else (),
        }
        self.change_findings(command, values)
        return ScanAnalysed(command.number, f"scans/{command.scan}", RescanFindings(**values)), 60_000_000_000


def _point(values: Floats) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
