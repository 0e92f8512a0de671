"""What the journal has told so far, as a page shows it: CTs, needles found, seeds and where they lie.

Fed record by record, in order; pure. Points are in the plan's patient frame, mm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.journal_command import text_of
from controller.commands import Command
from controller.journal import Record
from controller.wording import in_words
from planning.frame import Floats, RigidTransform
from planning.plan import Plan

_KINDS = {"reference": "reference needles", "needles": "needles", "seeds": "seeds"}


_COMMANDS: dict[str, type[Command]] = {kind.__name__: kind for kind in Command.__subclasses__()}


def _shall(body: dict[str, Any]) -> str:
    """A command as people call it; one of another version as it stands."""
    try:
        made = _COMMANDS[str(body["command"])](**{k: v for k, v in body.items() if k != "command"})
        return in_words(made)
    except (KeyError, TypeError, ValueError):
        return str(body.get("command"))


@dataclass(frozen=True, eq=False)
class ShownScan:
    """One CT of the run: its folder below the run's, and where the plan's frame lies in it."""

    number: int
    kind: str
    label: str
    scan_from_plan: RigidTransform

    def words(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "kind": self.kind,
            "words": f"{self.number} {_KINDS.get(self.kind, self.kind)}",
            "scan_from_plan": np.round(self.scan_from_plan.matrix(), 9).tolist(),
        }


@dataclass
class News:
    """Everything shown that a snapshot does not hold.

    Attributes:
        scans: registered CTs in order.
        needles: name -> found tip and direction, of the latest CT that shows it.
        delivered: seed number -> (needle, how far it was drawn back behind its tip's place, mm).
        found_seeds: of the last CT of the seeds; empty before.
        seeds_changed: grows with every seed that is dropped or found.
    """

    plan: Plan
    scans: list[ShownScan] = field(default_factory=list)
    needles: dict[str, dict[str, Any]] = field(default_factory=dict)
    delivered: dict[int, tuple[str, float]] = field(default_factory=dict)
    found_seeds: list[dict[str, Any]] = field(default_factory=list)
    seeds_changed: int = 0
    last: int = 0
    _shall: dict[int, dict[str, Any]] = field(default_factory=dict)

    def take(self, record: Record) -> dict[str, Any]:
        """Learn one record; what the log shows of it."""
        body = record.body
        self.last = record.number
        if record.kind == "intention":
            self._shall[int(body["number"])] = body
        match body.get("event"):
            case "ScanAnalysed":
                self._scan(body)
            case "SeedDropped" if body.get("outcome") == "PASS":
                self._seed(int(body["number"]), int(body["seed"]))
        return {
            "number": record.number,
            "t_s": record.t_ns / 1e9,
            "kind": record.kind,
            "text": text_of(record)
            if record.kind != "intention"
            else f"[{body.get('number')}] {_shall(body)}",
        }

    def _scan(self, body: dict[str, Any]) -> None:
        findings = body["findings"]
        if not findings["registration"]["succeeded"]:
            return
        asked = self._shall.get(int(body["number"]), {})
        pose = RigidTransform.from_matrix(findings["registration"]["plan_from_scan"]).inverse()
        kind = str(asked.get("kind", findings["kind"]))
        number = int(asked.get("scan", len(self.scans) + 1))
        self.scans.append(ShownScan(number, kind, str(body["folder"]), pose))
        for needle in findings["needles"]:
            if needle["planned"] is not None:
                self.needles[str(needle["planned"])] = {
                    key: needle[key] for key in ("tip_mm", "direction", "sigma_mm")
                }
        if findings["kind"] == "seeds":
            self.found_seeds = [
                {"centre_mm": seed["centre_mm"], "direction": seed["direction"], "is_found": True}
                for seed in findings["seeds"]
            ]
            self.seeds_changed += 1

    def _seed(self, number: int, seed: int) -> None:
        asked = self._shall.get(number, {})
        for needle in self.plan.needles:
            for planned in needle.seeds:
                if planned.number == seed:
                    z_um = asked.get("z_um")
                    back_mm = planned.retraction_mm if z_um is None else float(z_um) / 1000.0
                    self.delivered[seed] = (needle.name, back_mm)
        self.seeds_changed += 1

    def seeds(self) -> list[dict[str, Any]]:
        """Where the seeds lie: as the last CT shows them, else behind the tips of their needles as last seen."""
        if self.found_seeds:
            return self.found_seeds
        out = []
        for name, back_mm in self.delivered.values():
            planned = self.plan.needle(name)
            found = self.needles.get(name)
            tip = np.asarray(planned.tip_mm if found is None else found["tip_mm"])
            axis = np.asarray(planned.direction if found is None else found["direction"])
            centre = tip - axis * (back_mm - self.plan.seed_length_mm / 2.0)
            out.append({"centre_mm": centre.tolist(), "direction": axis.tolist(), "is_found": False})
        return out

    def seed_arrays(self) -> tuple[Floats, NDArray[np.float64]]:
        """Centres and directions ``(n, 3)`` of ``seeds()``, for a dose."""
        seeds = self.seeds()
        centres = np.array([seed["centre_mm"] for seed in seeds], dtype=float).reshape(-1, 3)
        axes = np.array([seed["direction"] for seed in seeds], dtype=float).reshape(-1, 3)
        return centres, axes

    def scan(self, number: int) -> ShownScan | None:
        return next((scan for scan in reversed(self.scans) if scan.number == number), None)

    def folder_of(self, number: int, run: Path) -> Path | None:
        """The folder of a CT's files. Its label comes from the journal; it must not lead out of the run."""
        scan = self.scan(number)
        if scan is None:
            return None
        folder = (run / scan.label).resolve()
        return folder if folder.is_relative_to(run.resolve()) else None

    def words(self) -> dict[str, Any]:
        """For the page."""
        return {
            "scans": [scan.words() for scan in self.scans],
            "found": {"needles": self.needles, "seeds": self.seeds()},
            "seeds_changed": self.seeds_changed,
        }
