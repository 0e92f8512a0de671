"""Both simulated devices as they stand on a bench: each with its power supply and its cable, and what can go wrong.

Faults are words, the same from a file and from a keyboard: see ``HELP`` and DEVICES.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.cable import PERFECT, Cable
from simulator.faults import DEVICE_HELP, FaultError, checked_words
from simulator.grbl_firmware import GrblFirmware
from simulator.grbl_kind import STOCK, GrblKind
from simulator.nonvolatile import NonVolatile
from simulator.physics import Template
from simulator.power import Powered
from simulator.rig_mechanics import RigMechanics

LISTENING = ("HOMING", "MOVING", "ARMED", "FIRING")
"""States of the applicator in which its watchdog runs."""
HELP = DEVICE_HELP


@dataclass(frozen=True)
class Plug:
    """What is to be done to a device's port, by whoever holds the doors."""

    device: str
    action: str


class Benchtop:
    """Two devices, their supplies and cables.

    Args:
        seed: of chance.
        rig, applicator: mechanics made elsewhere (with a patient); None: of their own, in air.
        kind: of the rig's board.
    """

    def __init__(
        self,
        seed: int,
        rig: RigMechanics | None = None,
        applicator: ApplicatorMechanics | None = None,
        kind: GrblKind = STOCK,
    ) -> None:
        def chance(purpose: int) -> np.random.Generator:
            return np.random.default_rng([seed, purpose])

        template = Template()
        self.rig_mechanics = rig or RigMechanics(chance(1), template)
        self.applicator_mechanics = applicator or ApplicatorMechanics(chance(3), template)
        rig_store, applicator_store = NonVolatile(), NonVolatile()
        self._rig = Powered(
            lambda now_ns: GrblFirmware(self.rig_mechanics, rig_store, chance(2), start_ns=now_ns, kind=kind)
        )
        self._applicator = Powered(
            lambda now_ns: ApplicatorFirmware(self.applicator_mechanics, applicator_store, start_ns=now_ns)
        )
        self._power = {"rig": self._rig, "applicator": self._applicator}
        self.cables = {
            name: Cable(power, chance(10 + i)) for i, (name, power) in enumerate(self._power.items())
        }

    @property
    def rig(self) -> GrblFirmware | None:
        """Its firmware; None without power."""
        firmware = self._rig.firmware
        return firmware if isinstance(firmware, GrblFirmware) else None

    @property
    def applicator(self) -> ApplicatorFirmware | None:
        """As ``rig``."""
        firmware = self._applicator.firmware
        return firmware if isinstance(firmware, ApplicatorFirmware) else None

    def listens(self) -> bool:
        """The applicator's watchdog runs."""
        return self.applicator is not None and self.applicator.board.state in LISTENING

    def do(self, words: str, now_ns: int) -> Plug | None:
        """Let the fault happen. Raises FaultError: words that ``HELP`` does not know."""
        match checked_words(words):
            case ["jam"]:
                self.applicator_mechanics.jam_next()
            case ["clear"]:
                self.applicator_mechanics.clear_path()
            case ["empty"]:
                self.applicator_mechanics.push_nothing_next()
            case ["double"]:
                self.applicator_mechanics.take_two_next()
            case ["miscount", by]:
                self.applicator_mechanics.miscount_cartridge(int(float(by)))
            case ["blind" | "sees" as what]:
                self.applicator_mechanics.is_sensor_stuck = what == "blind"
            case ["estop"]:
                self.applicator_mechanics.set_estop(True, now_ns)
            case ["estop", "off"]:
                self.applicator_mechanics.set_estop(False, now_ns)
            case ["reset", device]:
                self._power[device].brown_out(now_ns)
            case ["lose", "rig", axis, way]:
                self.rig_mechanics.lose_steps("xyz".index(axis), float(way))
            case ["lose", "applicator", way]:
                self.applicator_mechanics.lose_steps_z(float(way), now_ns)
            case ["stick" | "free" as what, "applicator"]:
                self.applicator_mechanics.stick_z(what == "stick", now_ns)
            case ["stall" | "free" as what, "rig", axis]:
                self.rig_mechanics.stall("xyz".index(axis), what == "stall")
            case ["weaken", "rig", newtons]:
                self.rig_mechanics.weaken(float(newtons))
            case ["strengthen", "rig"]:
                self.rig_mechanics.weaken(self.rig_mechanics.parameters.pull_out_n)
            case ["press" | "release" as what, "rig", axis]:
                self.rig_mechanics.push_switch("xyz".index(axis), what == "press")
            case ["break" | "repair" as what, "rig", axis]:
                self.rig_mechanics.break_switch("xyz".index(axis), what == "break")
            case ["noise" | "loss" | "flips" | "duplicates" | "delay" as what, device, much]:
                self._spoil(device, what, float(much))
            case ["silence", device]:
                self.cables[device].cut()
            case ["mend", device]:
                self.cables[device].mend()
                self.cables[device].down.faults = self.cables[device].up.faults = PERFECT
            case ["unplug" | "refuse" | "plug" as action, device]:
                return Plug(device, action)
            case _:
                raise FaultError(f"'{words}' needs a procedure: it can't be done on the bench alone.")
        return None

    def _spoil(self, device: str, what: str, much: float) -> None:
        changes: dict[str, dict[str, Any]] = {
            "noise": {"flip": much, "loss": much},
            "loss": {"loss": much},
            "flips": {"flip": much},
            "duplicates": {"duplicate": much},
            "delay": {"delay_ns": (0, round(much * 1e6))},
        }
        for lane in (self.cables[device].down, self.cables[device].up):
            lane.faults = replace(lane.faults, **changes[what])
