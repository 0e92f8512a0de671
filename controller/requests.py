"""Asking people's hands and the scanner by files in a folder, and the real procedure's operators and scanner.

``NNNN-what.request.json`` appears whole; what answers writes ``NNNN-what.answer.json`` (``done``; ``why`` when not).
A CT is there when the folder that its request names is there and has not grown for a while, or was answered, or
when ``seedguide scans`` has received a complete series into the folder since.
Called aside of the procedure's loop: everything here may wait.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from controller.aftermath import ScanAnalyst
from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.procedure import Procedure
from controller.received_series import ReceivedSeries
from planning.plan import Plan
from planning.refusal import AskedWrongly

_LOOK_EVERY_S = 0.1
SETTLED_S = 3.0
"""A folder that has not grown for so long is complete (assumed)."""
HANDS_S = 30.0
"""Hands behind a bench answer at once; after so long nobody is there (assumed)."""
PATIENT_S = 120.0
"""The bench reads a whole CT before its patient lies on the couch (assumed)."""


class RequestFolder:
    """The folder; names are numbered on from what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.name[:4]) for path in folder.iterdir() if path.name[:4].isdigit()]
        self._last = max(numbers, default=0)

    def ask(self, request: dict[str, Any], what: str) -> str:
        """Put the request there; its name. A CT's request names its folder after it."""
        self._last += 1
        name = f"{self._last:04d}-{what}"
        if request["do"] == "scan":
            request = {**request, "folder": name}
        growing = self.folder / f".{name}.growing"
        growing.write_text(json.dumps(request, indent=1), encoding="utf-8")
        os.replace(growing, self.folder / f"{name}.request.json")
        return name

    def answer(self, name: str) -> dict[str, Any] | None:
        """The answer, once it is there."""
        try:
            answer = json.loads((self.folder / f"{name}.answer.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            return {"done": False, "why": f"{name}: the answer can't be read ({problem})"}
        return (
            answer if isinstance(answer, dict) else {"done": False, "why": f"{name}: the answer is malformed"}
        )

    def size(self, name: str) -> tuple[int, int]:
        """Files in the folder ``name``, and their bytes; (0, 0) when it is not there."""
        try:
            sizes = [path.stat().st_size for path in (self.folder / name).iterdir() if path.is_file()]
        except OSError:
            return 0, 0
        return len(sizes), sum(sizes)


class FolderScanner:
    """CTs that appear in the folder, and their analysis."""

    def __init__(
        self,
        requests: RequestFolder,
        analyst: ScanAnalyst,
        range_mm: tuple[float, float],
        slice_mm: float,
        told: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._requests, self._told = requests, told
        self.analyst, self._range_mm, self._slice_mm = analyst, range_mm, slice_mm

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        low_mm, high_mm = self._range_mm
        slice_mm = self._slice_mm if command.slice_mm is None else command.slice_mm
        request = {
            "do": "scan",
            "number": command.scan,
            "kind": command.kind,
            "slice_mm": slice_mm,
            "z_low_mm": low_mm,
            "z_high_mm": high_mm,
            "when": datetime.now().isoformat(timespec="milliseconds"),
        }
        received = ReceivedSeries(self._requests.folder, self._told)
        name = self._requests.ask(request, command.kind)
        folder = self._requests.folder
        self._told(
            f"CT {command.scan} ({command.kind}), z {low_mm:.0f} to {high_mm:.0f} mm, slices of "
            f"{slice_mm:g} mm: put the series into {folder / name}, or send it to "
            f"seedguide scans --into {folder}"
        )
        why, series = self._wait_for(name, received)
        if why is not None:
            return ScanUnusable(command.number, why), 0
        return self.analyst.analyse(command, folder / series, f"{folder.name}/{series}", procedure), 0

    def _wait_for(self, name: str, received: ReceivedSeries) -> tuple[str | None, str]:
        """Why there is no CT, or None and the name of its folder."""
        last, since_s = (0, 0), time.monotonic()
        while True:
            answer = self._requests.answer(name)
            if answer is not None:
                done = answer.get("done") is True
                return None if done else str(answer.get("why", "no reason given")), name
            series = received.look()
            if series is not None:
                return None, series
            size = self._requests.size(name)
            if size != last:
                last, since_s = size, time.monotonic()
            elif size[0] and time.monotonic() - since_s >= SETTLED_S:
                return None, name
            time.sleep(_LOOK_EVERY_S)


class BenchHands:
    """Answers at once, with the hands behind a bench. For simulated devices only."""

    is_automatic = True
    name = "auto"

    def __init__(self, requests: RequestFolder) -> None:
        self._requests = requests

    def lay_patient(self, case: Path, plan: Plan) -> None:
        """The planning CT's patient onto the bench's couch, unless it lies there.

        Raises:
            AskedWrongly: nobody answers, or somebody else lies there.
        """
        request = {"do": "lay_patient", "case": str(case), "patient_from_rig": plan.patient_from_rig}
        why = self._do(request, PATIENT_S)
        if why is not None:
            raise AskedWrongly(f"the bench's patient: {why}.")

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        why = self.help(command)
        if why is None:
            return OperatorConfirmed(command.number, self.name), 0
        return OperatorDeclined(command.number, self.name, why), 0

    def help(self, command: AskOperator) -> str | None:
        """Have it done; why not, when it was not."""
        if command.task == "adapt_plan":
            return None  # a decision: there is nothing to be done by hand
        return self._do(command.to_hands(), HANDS_S)

    def _do(self, request: dict[str, Any], within_s: float) -> str | None:
        name = self._requests.ask(request, str(request["do"]))
        until_s = time.monotonic() + within_s
        while (answer := self._requests.answer(name)) is None:
            if time.monotonic() > until_s:
                return f"nobody answers requests in {self._requests.folder}; is the bench's DIR/scans given?"
            time.sleep(_LOOK_EVERY_S / 5)
        return None if answer.get("done") is True else str(answer.get("why", "no reason given"))


class TerminalOperator:
    """Asks a person at the terminal; the answer is y or n.

    Args:
        ask: gives the typed line. Raises EOFError when nobody is there (any more).
        hands: of a bench, which do what the person has confirmed; None where people have hands of their own.
    """

    is_automatic = False

    def __init__(self, name: str, ask: Callable[[str], str], hands: BenchHands | None = None) -> None:
        self.name = name
        self._ask, self._hands = ask, hands

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        while True:
            try:
                typed = self._ask(f"{command.text} [y/n] ").strip().lower()
            except EOFError:
                return OperatorDeclined(command.number, self.name, "nobody is at the terminal"), 0
            if typed in ("y", "yes"):
                why = None if self._hands is None else self._hands.help(command)
                if why is None:
                    return OperatorConfirmed(command.number, self.name), 0
                return OperatorDeclined(command.number, self.name, why), 0
            if typed in ("n", "no"):
                return OperatorDeclined(command.number, self.name, f"no to: {command.text}"), 0
