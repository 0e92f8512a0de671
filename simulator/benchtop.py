"""Both simulated devices as they stand on a bench: each with its power supply and its cable, and what can go wrong.

Faults are words, the same from a file and from a keyboard: see ``HELP`` and DEVICES.md.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.cable import PERFECT, Cable, Faults
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.physics import Template
from simulator.power import Powered
from simulator.rig_mechanics import RigMechanics

DEVICES = ("rig", "applicator")
LISTENING = ("HOMING", "MOVING", "ARMED", "FIRING")
"""States of the applicator in which its watchdog runs."""
HELP = {
    "jam": "the next stroke of the stylet blocks",
    "clear": "a person clears the seeds' path",
    "empty": "the next stroke takes no seed",
    "double": "the next stroke takes two seeds",
    "estop": "the e-stop loop opens",
    "estop off": "the e-stop loop closes",
    "reset DEVICE": "brown-out: off and on again",
    "lose rig AXIS MM": "the load of axis x, y or z slips by this much, once",
    "lose applicator MM": "the retraction carriage slips behind its motor, once",
    "stall rig AXIS": "the motor of axis x, y or z hums and does not turn",
    "free rig AXIS": "it turns again",
    "noise DEVICE SHARE": "this share of the bytes arrives with a bit turned, and as many are lost",
    "silence DEVICE": "nothing gets through the cable",
    "mend DEVICE": "the cable is perfect again",
    "unplug DEVICE": "the port is gone",
    "refuse DEVICE": "no new connection",
    "plug DEVICE": "the port is there again",
}


class FaultError(ValueError):
    """A fault that can't be understood; one sentence says why."""


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
    """

    def __init__(
        self, seed: int, rig: RigMechanics | None = None, applicator: ApplicatorMechanics | None = None
    ) -> None:
        def chance(purpose: int) -> np.random.Generator:
            return np.random.default_rng([seed, purpose])

        template = Template()
        self.rig_mechanics = rig or RigMechanics(chance(1), template)
        self.applicator_mechanics = applicator or ApplicatorMechanics(chance(3), template)
        rig_store, applicator_store = NonVolatile(), NonVolatile()
        self._rig = Powered(
            lambda now_ns: GrblFirmware(self.rig_mechanics, rig_store, chance(2), start_ns=now_ns)
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
        match words.lower().split():
            case ["jam"]:
                self.applicator_mechanics.jam_next()
            case ["clear"]:
                self.applicator_mechanics.clear_path()
            case ["empty"]:
                self.applicator_mechanics.push_nothing_next()
            case ["double"]:
                self.applicator_mechanics.take_two_next()
            case ["estop"]:
                self.applicator_mechanics.set_estop(True, now_ns)
            case ["estop", "off"]:
                self.applicator_mechanics.set_estop(False, now_ns)
            case ["reset", device] if device in DEVICES:
                self._power[device].brown_out(now_ns)
            case ["lose", "rig", axis, way] if axis in ("x", "y", "z"):
                self.rig_mechanics.lose_steps("xyz".index(axis), _number(way))
            case ["lose", "applicator", way]:
                self.applicator_mechanics.lose_steps_z(_number(way), now_ns)
            case ["stall" | "free" as what, "rig", axis] if axis in ("x", "y", "z"):
                self.rig_mechanics.stall("xyz".index(axis), what == "stall")
            case ["noise", device, share] if device in DEVICES and 0.0 <= _number(share) <= 1.0:
                faults = Faults(flip=_number(share), loss=_number(share))
                self.cables[device].down.faults = self.cables[device].up.faults = faults
            case ["silence", device] if device in DEVICES:
                self.cables[device].cut()
            case ["mend", device] if device in DEVICES:
                self.cables[device].mend()
                self.cables[device].down.faults = self.cables[device].up.faults = PERFECT
            case ["unplug" | "refuse" | "plug" as action, device] if device in DEVICES:
                return Plug(device, action)
            case _:
                raise FaultError(f"'{words}' is no fault; known are: {', '.join(HELP)}.")
        return None


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise FaultError(f"'{text}' is not a number.") from None
    if not np.isfinite(number):
        raise FaultError(f"'{text}' is not a finite number.")
    return number


def read_faults(path: Path) -> list[tuple[float, str]]:
    """When (s of the devices' time) and what, in order, from ``[[fault]]`` tables with ``at_s`` and ``do``.

    Raises:
        FaultError: not readable, not TOML, or a fault that isn't one; one sentence.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("fault", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise FaultError(f"{path}: can't be read as TOML ({problem}).") from problem
    if not isinstance(tables, list) or not tables:
        raise FaultError(f"{path}: holds no [[fault]] table with at_s and do.")
    faults = []
    for place, table in enumerate(tables, 1):
        if not isinstance(table, dict) or set(table) != {"at_s", "do"}:
            raise FaultError(f"{path}: fault {place} needs exactly at_s and do.")
        at_s, words = table["at_s"], table["do"]
        if isinstance(at_s, bool) or not isinstance(at_s, int | float) or at_s < 0:
            raise FaultError(f"{path}: fault {place}: at_s is a time in s, 0 or more.")
        try:
            Benchtop(0).do(str(words), 0)
        except FaultError as problem:
            raise FaultError(f"{path}: fault {place}: {problem}") from problem
        faults.append((float(at_s), str(words)))
    return sorted(faults, key=lambda fault: fault[0])
