"""What only the simulator knew of a training run: for the debrief, after its end. Nothing of it is written before.

Patient frame of the plan (DICOM LPS, mm); times on the procedure's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats
from planning.plan import Plan, Point


@dataclass(frozen=True)
class TrueNeedles:
    """Where the tips truly stood while a CT was taken."""

    scan: int
    tips_mm: dict[str, Point]


@dataclass(frozen=True)
class TrueSeed:
    """Where a seed truly lies; ``needle``: it left this one."""

    needle: str
    centre_mm: Point
    direction: Point


@dataclass(frozen=True, eq=False)
class Pose:
    """One needle at one moment: ``patient_from_needle`` ``(4, 4)``, its tip at the origin, z towards the tip."""

    needle: str
    t_ns: int
    patient_from_needle: Floats


@dataclass(frozen=True, eq=False)
class Truth:
    """One run.

    Attributes:
        at_scans: in order.
        at_delivery_mm: tips when the applicator was put on them.
        seeds: in the patient, in order.
        poses: of every needle each time that it moved, in order.
        punctures: needle -> how often it went through the skin.
        happened: what was played, when (s) and in which words.
        setup_mm: how far the rig stood from where it was planned, at the beginning.
    """

    at_scans: tuple[TrueNeedles, ...]
    at_delivery_mm: dict[str, Point]
    seeds: tuple[TrueSeed, ...]
    poses: tuple[Pose, ...]
    punctures: dict[str, int]
    happened: tuple[tuple[float, str], ...]
    setup_mm: float

    def deviation_mm(self, plan: Plan, needle: str, scan: int, *, at_reference: bool) -> float | None:
        """True distance of a tip from its place at that CT; None: it did not stand in the patient."""
        tips = next((it.tips_mm for it in self.at_scans if it.scan == scan), {})
        if needle not in tips:
            return None
        planned = plan.needle(needle)
        target = planned.reference_tip_mm if at_reference else planned.tip_mm
        return float(np.linalg.norm(np.subtract(tips[needle], target)))
