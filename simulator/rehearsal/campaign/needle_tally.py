"""What is counted and measured of one needle of a run, in truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.knowledge import NeedleStory
from planning.frame import Floats, angle_between_deg
from planning.plan import PlannedNeedle


@dataclass(frozen=True)
class TrueDeviation:
    """One needle against its plan, in truth (mm, degrees); ``depth_mm`` > 0: too deep."""

    tip_mm: float
    lateral_mm: float
    depth_mm: float
    entry_mm: float
    angle_deg: float


@dataclass
class NeedleTally:
    """What is counted and measured of one needle."""

    insertions: int = 0
    corrections: int = 0
    first: TrueDeviation | None = None
    final: TrueDeviation | None = None

    def row(self, story: NeedleStory) -> dict[str, Any]:
        """As columns; ``story`` is what the controller knows of the needle."""
        first, final = story.first_deviation, story.deviation
        row: dict[str, Any] = {
            "is_reference": story.plan.is_reference,
            "insertions": self.insertions,
            "corrections": self.corrections,
        }
        for when, found in (("first", self.first), ("final", self.final)):
            for name in ("tip_mm", "lateral_mm", "depth_mm", "entry_mm", "angle_deg"):
                row[f"{when}_{name}"] = None if found is None else getattr(found, name)
        row |= {
            "first_measured_mm": None if self.first is None or first is None else first.total_mm,
            "first_verdict": "" if self.first is None or first is None else first.verdict.value,
            "final_measured_mm": None if final is None else final.total_mm,
            "accepted": story.state in ("in place", "delivered"),
        }
        return row


def true_deviation(planned: PlannedNeedle, tip_mm: Floats, entry_mm: Floats) -> TrueDeviation:
    """Where a needle truly runs against its plan: tip, chord from skin to tip, and where it crosses the skin."""
    direction = planned.direction
    offset = tip_mm - np.asarray(planned.tip_mm)
    depth = float(offset @ direction)
    aside = entry_mm - np.asarray(planned.entry_mm)
    aside = aside - (aside @ direction) * direction
    return TrueDeviation(
        float(np.linalg.norm(offset)),
        float(np.linalg.norm(offset - depth * direction)),
        depth,
        float(np.linalg.norm(aside)),
        angle_between_deg(direction, tip_mm - entry_mm),
    )
