"""One simulated operating room: patient, template, both devices with their firmware, people and scanner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.error_population import ErrorPopulation
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.patient import Patient
from simulator.physics import Template
from simulator.rig_mechanics import RigMechanics
from simulator.theatre import Theatre


class World:
    """Everything across the wires, made from one seed.

    Args:
        case_folder: holds the planning CT of the patient on the couch.
        patient_from_rig: ``(4, 4)`` planned pose of the rig; where it truly stands is drawn.
        population: what set-up, needle and seed errors are drawn from.
        seed: of chance.
    """

    def __init__(
        self, case_folder: Path, patient_from_rig: ArrayLike, population: ErrorPopulation, seed: int
    ) -> None:
        def chance(purpose: int) -> np.random.Generator:
            return np.random.default_rng([seed, purpose])

        self.patient = Patient(case_folder, patient_from_rig, population, seed)
        self.template = Template(self.patient)
        self.rig_mechanics = RigMechanics(chance(1), self.template)
        self.rig = GrblFirmware(self.rig_mechanics, NonVolatile(), chance(2))
        self.applicator_mechanics = ApplicatorMechanics(chance(3), self.template)
        self.applicator = ApplicatorFirmware(self.applicator_mechanics, NonVolatile())
        here = (str(case_folder.resolve()), np.asarray(patient_from_rig, dtype=float).tolist())
        self.theatre = Theatre(self.patient, self.rig_mechanics, self.applicator_mechanics, lies_there=here)
