"""A second opinion on a journal: the interlocks' demands, read from its records alone and by other means.

Knows neither ``interlocks`` nor ``procedure``: where those let something pass that must not pass, this finds it.
``audit`` gives one sentence for each record that breaks a law; nothing when all hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from controller.journal import Record
from planning.plan import Plan

MOVES_A_NEEDLE = ("CloseGrip", "MoveDepth", "OpenGrip")
OF_THE_RIG = ("MoveAcross", "MoveDepth", "CloseGrip", "OpenGrip", "HomeRig")
TOUCHES_THE_PATIENT = (*OF_THE_RIG[:4], "RetractNeedle", "DropSeed")


class _Reader:
    """What the records so far tell."""

    def __init__(self, plan: Plan, tolerance_mm: float) -> None:
        self.plan, self.tolerance_mm = plan, tolerance_mm
        self.wrong: list[str] = []
        self.open: Record | None = None
        self.time_out: set[str] = set()
        self.moved: dict[str, int] = {}
        self.seen: dict[str, tuple[int, float]] = {}
        self.drawn_um: dict[str, int] = {}
        self.intended: dict[int, Record] = {}
        self.passed: list[int] = []
        self.left: int | None = None
        self.in_doubt = 0
        self.homed = self.counting = False
        self.by_hand = False

    def read(self, record: Record) -> None:
        match record.kind:
            case "opened":
                self.by_hand = bool(record.body["settings"]["rig_by_hand"])
            case "recovery":
                self.open, self.homed = None, False
            case "intention":
                self._intended(record, str(record.body["command"]))
            case "event":
                self._happened(record, str(record.body["event"]))

    def _amiss(self, record: Record, what: str) -> None:
        self.wrong.append(f"record {record.number}: {what}")

    def _intended(self, record: Record, command: str) -> None:
        body, needle = record.body, record.body.get("needle")
        if self.open is not None:
            self._amiss(record, f"{command} before record {self.open.number} had an outcome")
        self.open = record
        self.intended[int(body["number"])] = record
        if command in TOUCHES_THE_PATIENT and self.time_out != {"patient", "plan", "seeds", "cartridges"}:
            self._amiss(record, f"{command} with only {sorted(self.time_out)} of the time-out confirmed")
        if command in OF_THE_RIG and self.counting:
            self._amiss(record, f"{command} while seeds are delivered")
        if command in OF_THE_RIG[:4] and not (self.homed or self.by_hand):
            self._amiss(record, f"{command} before the rig was homed")
        if command in MOVES_A_NEEDLE:
            self.moved[str(needle)] = record.number
        if command == "BeginLedger":
            self.counting = True
        if command == "RetractNeedle":
            if body["z_um"] < self.drawn_um.get(str(needle), 0):
                self._amiss(record, f"needle {needle} would advance")
            self.drawn_um[str(needle)] = body["z_um"]
        if command == "DropSeed":
            self._seed_intended(record, str(needle))

    def _seed_intended(self, record: Record, needle: str) -> None:
        scan, away_mm = self.seen.get(needle, (0, math.inf))
        if scan < self.moved.get(needle, 0) or away_mm > self.tolerance_mm:
            self._amiss(record, f"needle {needle} was last seen in record {scan}, {away_mm:.2f} mm off")
        if self.left is None or self.left < 1:
            self._amiss(record, "no seed is left in the cartridge")
        if record.body["seed"] in self.passed:
            self._amiss(record, f"seed {record.body['seed']} is delivered already")
        if record.body["z_um"] != self.drawn_um.get(needle, 0):
            self._amiss(record, f"needle {needle} was drawn to {self.drawn_um.get(needle, 0)} um")

    def _happened(self, record: Record, event: str) -> None:
        body = record.body
        asked = self.intended.get(int(body.get("number", 0)))
        if asked is not None and self.open is not None and asked.number == self.open.number:
            self.open = None
        if event in ("DeviceFaulted", "StopPressed", "ProcedureResumed"):
            self.open = None  # what became of it is asked when it goes on
        command = "" if asked is None else str(asked.body["command"])
        if event == "OperatorConfirmed" and asked is not None and asked.body.get("item"):
            self.time_out.add(str(asked.body["item"]))
        if event == "CommandDone" and command == "HomeRig":
            self.homed = True
        if event == "CommandDone" and command == "DeclareCartridge" and asked is not None:
            self.left = int(asked.body["count"])
        if event == "ScanAnalysed":
            for found in body["findings"]["needles"]:
                if found["planned"] is None:
                    continue
                planned = self.plan.needle(found["planned"])
                self.seen[planned.name] = record.number, math.dist(found["tip_mm"], planned.tip_mm)
        if event == "OperatorDecided" and body["where"] == "cartridge" and self.left is not None:
            self.left += self.in_doubt
        if event == "SeedDropped":
            self._seed_dropped(record, asked)

    def _seed_dropped(self, record: Record, asked: Record | None) -> None:
        seed = int(record.body["seed"])
        if asked is None or asked.body["command"] != "DropSeed" or asked.body["seed"] != seed:
            self._amiss(record, f"nobody had asked for seed {seed}")
        if record.body["outcome"] == "PASS":
            if seed in self.passed:
                self._amiss(record, f"seed {seed} was delivered before")
            self.passed.append(seed)
        self.in_doubt = (
            0 if record.body["outcome"] == "PASS" else 2 if record.body["outcome"] == "DOUBLE" else 1
        )
        if self.left is not None:
            self.left -= self.in_doubt or 1


def audit(records: Sequence[Record], plan: Plan, tolerance_mm: float = 2.0) -> list[str]:
    """What in the journal breaks a law; ``plan`` not adapted on the way."""
    reader = _Reader(plan, tolerance_mm)
    for record in records:
        reader.read(record)
    return reader.wrong
