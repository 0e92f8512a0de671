"""A device on the technician's bench in virtual time: real checks, real drivers, simulated firmware, scripted hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from drivers.applicator_language import ApplicatorConfig
from drivers.bench_check import Bench, Finding, Tap
from drivers.bench_check_applicator import ApplicatorCheck
from drivers.bench_check_rig import RigCheck
from drivers.kinematics import RigConfig
from simulator.applicator_board import ApplicatorIdentity
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.physics import ImpossibleByHandError
from simulator.rig_mechanics import RigMechanics

MS = 1_000_000


class VirtualLine:
    """A tap and a device; the time jumps. ``filters`` see and change what passes."""

    def __init__(self, tap: Tap, device: Any) -> None:
        self.tap, self.device = tap, device
        self.time_ns = 0
        self.down: Callable[[bytes], bytes] = lambda data: data
        self.up: Callable[[bytes], bytes] = lambda data: data
        self.gone = ""
        self.said = bytearray()

    def now_ns(self) -> int:
        return self.time_ns

    def exchange(self) -> bool:
        moved = False
        while not self.gone:
            out = self.tap.take()
            self.said += out
            if out and (down := self.down(out)):
                self.device.receive(down, self.time_ns)
            back = self.device.take()
            if back and (up := self.up(back)):
                self.tap.receive(up, self.time_ns)
            if not out and not back:
                break
            moved = True
        return moved

    def lost(self) -> list[tuple[str, str]]:
        return [("device", self.gone)] if self.gone else []

    def wait(self, wake_ns: int | None) -> None:
        due = [ns for ns in (wake_ns, self.device.next_wake()) if ns is not None]
        self.time_ns = max(self.time_ns + 1, min(due))
        self.device.wake(self.time_ns)


class Hands:
    """Says yes to all but what holds a word of ``refuses``, and does with the mechanics what is asked."""

    def __init__(self, mechanics: Any, line: VirtualLine, refuses: str = "") -> None:
        self._mechanics, self._line, self._refuses = mechanics, line, refuses
        self.asked: list[str] = []

    def agrees(self, question: str) -> bool:
        self.asked.append(question)
        return not (self._refuses and self._refuses in question)

    def does(self, task: str, words: str, *, count: int = 0, returned: int = 0) -> bool:
        self.asked.append(words)
        mechanics = self._mechanics
        try:
            match task:
                case "seat_cartridge":
                    mechanics.insert_cartridge(count)
                case "remove_cartridge":
                    return bool(mechanics.remove_cartridge() == returned)
                case "open_estop" | "close_estop":
                    mechanics.set_estop(task == "open_estop", self._line.now_ns())
                    self._line.device.wake(self._line.now_ns())
        except ImpossibleByHandError:
            return False
        return not (self._refuses and self._refuses in task)


class ApplicatorOnBench:
    """``run()`` gives the findings by name."""

    def __init__(
        self,
        *,
        with_seeds: bool = False,
        refuses: str = "",
        identity: str | None = None,
        board: ApplicatorIdentity | None = None,
        firmware: type[ApplicatorFirmware] = ApplicatorFirmware,
    ) -> None:
        self.mechanics = ApplicatorMechanics(np.random.default_rng(1))
        self.device = firmware(self.mechanics, NonVolatile(), board)
        tap = Tap()
        self.line = VirtualLine(tap, self.device)
        self.hands = Hands(self.mechanics, self.line, refuses)
        self.told: list[str] = []
        self.bench = Bench("applicator", tap, self.line, self.hands, self._tell)
        self.at: dict[str, Callable[[], None]] = {}
        self.check = ApplicatorCheck(
            self.bench, ApplicatorConfig(15, 5000, 18), "5A17", identity=identity, with_seeds=with_seeds
        )

    def _tell(self, line: str) -> None:
        self.told.append(line)
        self.at.pop(line.partition(": ")[2], lambda: None)()

    def run(self) -> dict[str, Finding]:
        self.check.run()
        return {finding.check: finding for finding in self.bench.findings}


class RigOnBench:
    """As ``ApplicatorOnBench``."""

    def __init__(self, *, refuses: str = "", serial: str = "1007", identity: str | None = None) -> None:
        self.mechanics = RigMechanics(np.random.default_rng(3))
        self.store = NonVolatile()
        self.device = GrblFirmware(self.mechanics, self.store, np.random.default_rng(4), serial=serial)
        tap = Tap()
        self.line = VirtualLine(tap, self.device)
        self.hands = Hands(self.mechanics, self.line, refuses)
        self.told: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}
        self.bench = Bench("rig", tap, self.line, self.hands, self._tell)
        self.check = RigCheck(self.bench, RigConfig(serial=identity))

    def _tell(self, line: str) -> None:
        self.told.append(line)
        self.at.pop(line.partition(": ")[2], lambda: None)()

    def run(self) -> dict[str, Finding]:
        self.check.run()
        return {finding.check: finding for finding in self.bench.findings}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.verdict == "fail"}
