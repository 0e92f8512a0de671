"""What one CT shows, in the CT's own patient frame, with a plan or without: ``detected.json`` (``DETECTED.md``).

``rescan`` takes what it finds into the plan's frame, for the procedure; here everything stays where the scanner saw
it, and the plan is brought there instead. A plan is optional; so is the planning CT, which alone tells how the patient
lies now against then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imaging.deviation import Deviation
from imaging.registration import Registration
from imaging.unresolved import UnresolvedMetal
from planning.frame import Floats
from planning.plan import Point
from planning.volume import CtVolume

FORMAT = "seedguide-detected/1"
WHAT = ("needles", "seeds")


@dataclass(frozen=True)
class Placed:
    """A planned place in the scan's frame: tip of a needle or centre of a seed."""

    point_mm: Point
    direction: Point


@dataclass(frozen=True)
class DetectedNeedle:
    """A needle; ``sigma_mm`` (1 sigma of the tip, 3-D) leaves registration out, ``apart.sigma_mm`` has it in."""

    planned: str | None
    tip_mm: Point
    direction: Point
    entry_mm: Point
    sigma_mm: float
    place: Placed | None = None
    apart: Deviation | None = None


@dataclass(frozen=True)
class DetectedSeed:
    """A seed; without a plan the sign of ``direction`` means nothing."""

    planned: int | None
    centre_mm: Point
    direction: Point
    sigma_mm: float
    place: Placed | None = None


@dataclass(frozen=True)
class Detected:
    """All that was found; ``notes`` say what was not possible, in words."""

    scan: CtVolume
    plan_hash: str | None
    registration: Registration | None
    what: tuple[str, ...]
    needles: tuple[DetectedNeedle, ...] = ()
    unseen_needles: tuple[str, ...] = ()
    seeds: tuple[DetectedSeed, ...] = ()
    unseen_seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    places: dict[str, Placed] = field(default_factory=dict)
    unresolved_metal: tuple[UnresolvedMetal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values (described in ``DETECTED.md``)."""
        scan, seen = self.scan, self.registration
        return {
            "format": FORMAT,
            "scan": {
                "patient_id": scan.patient_id,
                "study_uid": scan.study_uid,
                "series_uid": scan.series_uid,
                "frame_of_reference_uid": scan.frame_of_reference_uid,
                "slice_thickness_mm": float(scan.slice_thickness_mm),
                "slice_count": scan.grid.shape[0],
            },
            "plan": self.plan_hash,
            "registration": None
            if seen is None
            else {
                "succeeded": seen.succeeded,
                "problem": seen.reason,
                "expected_tre_mm": round(seen.expected_tre_mm, 3)
                if np.isfinite(seen.expected_tre_mm)
                else None,
                "plan_from_scan": [
                    [round(float(v), 9) for v in row] for row in seen.reference_from_scan.matrix()
                ],
            },
            "what": list(self.what),
            "needles": [
                {
                    "tip_mm": list(needle.tip_mm),
                    "direction": list(needle.direction),
                    "entry_mm": list(needle.entry_mm),
                    "sigma_mm": needle.sigma_mm,
                    "planned": needle.planned,
                    "planned_tip_mm": None if needle.place is None else list(needle.place.point_mm),
                    "planned_direction": None if needle.place is None else list(needle.place.direction),
                    "deviation": None if needle.apart is None else needle.apart.to_json(),
                }
                for needle in self.needles
            ],
            "unseen_needles": list(self.unseen_needles),
            "unresolved_metal": [metal.to_json() for metal in self.unresolved_metal],
            "seeds": [
                {
                    "centre_mm": list(seed.centre_mm),
                    "direction": list(seed.direction),
                    "sigma_mm": seed.sigma_mm,
                    "planned": seed.planned,
                    "planned_centre_mm": None if seed.place is None else list(seed.place.point_mm),
                }
                for seed in self.seeds
            ],
            "unseen_seeds": list(self.unseen_seeds),
            "notes": list(self.notes),
        }


def rounded_direction(direction: Floats) -> Point:
    x, y, z = (round(float(v), 6) + 0.0 for v in direction)
    return x, y, z
