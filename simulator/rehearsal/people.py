"""Who stands in for the people of a rehearsal: hands that do what is asked, and a scanner that scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from controller.aftermath import ScanAnalyst, scan_range_mm
from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.heavy_work import Heavy
from controller.procedure import Procedure
from planning.anatomy import Anatomy
from planning.dicom import Case
from planning.plan import Plan
from planning.plan_folder import insertion_day
from simulator.rehearsal.options import RehearsalOptions

SCAN_TAKES_S = 120.0
"""From the request of a CT to its analysis, on the procedure's clock (assumed)."""
HANDS_TAKE_S = {"confirm_time_out": 60.0, "seat_cartridge": 20.0, "couple_applicator": 15.0}
"""How long people take for what they are asked (assumed); 8 s for anything else."""

Hands = Callable[[dict[str, Any]], dict[str, Any]]


class AutomaticOperator:
    """Does at once what the screen asks for, with the theatre's hands. For simulated devices only."""

    is_automatic = True
    name = "auto"

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        answer = self._hands(command.to_hands())
        took_ns = round(HANDS_TAKE_S.get(command.task, 8.0) * 1e9)
        if answer.get("done"):
            return OperatorConfirmed(command.number, self.name), took_ns
        return OperatorDeclined(command.number, self.name, _why(answer)), took_ns


def _why(answer: dict[str, Any]) -> str:
    return str(answer.get("why") or answer.get("error") or "no reason given")


class SimulatedScanner:
    """Asks the theatre for a CT, and imaging for what is in it; keeps every scan's folder."""

    def __init__(
        self,
        hands: Hands,
        case: Case,
        anatomy: Anatomy,
        plan: Plan,
        options: RehearsalOptions,
        heavy: Heavy,
        timed: Callable[[str], AbstractContextManager[None]],
        how: Mapping[str, Any] | None = None,
    ) -> None:
        """``how``: what else the theatre's scanner is told, beside what ``options`` says."""
        self._hands = hands
        self._how = dict(how or {})
        self._options = options
        self._timed = timed
        self._range_mm = scan_range_mm(plan, anatomy)
        self._start = insertion_day(case.ct)
        self.analyst = ScanAnalyst(heavy, timed)

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        name, again = f"{command.scan:02d}-{command.kind}", 0
        while (folder := self._options.out / "scans" / (f"{name}-{again + 1}" if again else name)).exists():
            again += 1  # asked for once more after a hold; the one before stays
        folder.parent.mkdir(exist_ok=True)
        low, high = self._range_mm
        request = {
            "do": "scan",
            "folder": str(folder),
            "number": command.scan,
            "slice_mm": self._options.slice_mm if command.slice_mm is None else command.slice_mm,
            "z_low_mm": low,
            "z_high_mm": high,
            "when": (self._start + timedelta(minutes=3 * command.scan + again)).isoformat(timespec="seconds"),
            "seed": self._options.seed,
            "mode": self._options.scanner,
            **self._how,
        }
        took_ns = round(SCAN_TAKES_S * 1e9)
        with self._timed("simulated CT"):
            answer = self._hands(request)
        if not answer.get("done"):
            return ScanUnusable(command.number, _why(answer)), took_ns
        return self.analyst.analyse(command, folder, f"scans/{folder.name}", procedure), took_ns
