"""Where to aim the rig so that a tip lands where the plan wants it.  Pure; mm and degrees.

Three ideas:

1. *The common part of the error* (set-up, template seat) is the pose of the rig in the patient. It is
   estimated from where needles were commanded and where the scan shows them, by rigid least squares over
   tips and axes with a prior on the pose: two or three tips 20-40 mm apart would otherwise turn their
   own millimetre of scatter into degrees of rotation, and into millimetres at depth.
2. *A needle's own part* (tissue, bend) mostly comes back when the same path is taken again, so the next
   aim is off by what was measured. The mean over attempts is used, since a part is new each time.
3. A depth error alone is corrected by depth; a lateral one needs the needle withdrawn and aimed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from planning.frame import Floats, RigidTransform

TIP_SIGMA_MM = 1.5
"""Scatter of a shallow tip about the common pose: entry 0.90 mm and 1.56 deg over 25 mm, with the depth
error (CLINIC.md, 430 needles); used as weight only."""
AXIS_SIGMA_DEG = 2.0
"""Scatter of a needle's axis (CLINIC.md: 1.56-2.08 deg)."""
PRIOR_SHIFT_SIGMA_MM = 10.0
PRIOR_TURN_SIGMA_DEG = 2.0
"""How far from its planned pose the rig may stand (assumed; set-up 3.2 +- 1.7 mm in CLINIC.md)."""
POOR_FIT_MM = 5.0
"""RMS tip residual above which the estimate is refused (assumed: three times the expected scatter)."""


@dataclass(frozen=True, eq=False)
class Landing:
    """One needle: commanded tip in the rig frame, tip and axis found in the scan (patient frame)."""

    commanded_rig_mm: Floats
    found_patient_mm: Floats
    found_direction: Floats


@dataclass(frozen=True, eq=False)
class RigEstimate:
    """The rig's pose as the needles tell it.

    Attributes:
        patient_from_rig: the pose.
        residual_mm: RMS distance of the tips from it; includes each needle's own error.
        is_usable: False when the residual says that no one pose explains the needles.
    """

    patient_from_rig: RigidTransform
    residual_mm: float
    is_usable: bool


def estimate_rig(planned_patient_from_rig: RigidTransform, landings: Sequence[Landing]) -> RigEstimate:
    """Maximum a posteriori pose of the rig from where needles landed.

    Raises:
        ValueError: no landing at all.
    """
    if not landings:
        raise ValueError("the rig's pose can't be estimated from no needle")
    commanded = np.array([landing.commanded_rig_mm for landing in landings])
    found = np.array([landing.found_patient_mm for landing in landings])
    axes = np.array([landing.found_direction for landing in landings])
    planned_tips = planned_patient_from_rig.apply(commanded)
    planned_axis = planned_patient_from_rig.turn([0.0, 0.0, 1.0])
    centre = planned_tips.mean(axis=0)

    def correction(parameters: Floats) -> RigidTransform:
        return RigidTransform.from_rotation_vector(parameters[:3], parameters[3:], centre)

    def residuals(parameters: Floats) -> Floats:
        move = correction(parameters)
        return np.concatenate(
            [
                ((move.apply(planned_tips) - found) / TIP_SIGMA_MM).ravel(),
                (np.degrees(move.turn(planned_axis) - axes) / AXIS_SIGMA_DEG).ravel(),
                parameters[:3] / PRIOR_TURN_SIGMA_DEG,
                parameters[3:] / PRIOR_SHIFT_SIGMA_MM,
            ]
        )

    # From exactly zero: the first step may be as long as the start, so that a shift of 1e-15 mm would end it there.
    solution = least_squares(residuals, np.zeros(6), x_scale="jac")
    pose = correction(solution.x) @ planned_patient_from_rig
    distance = np.linalg.norm(pose.apply(commanded) - found, axis=1)
    rms = float(np.sqrt(np.mean(distance**2)))
    return RigEstimate(pose, rms, rms <= POOR_FIT_MM)


def offset_rig_mm(patient_from_rig: RigidTransform, landing: Landing) -> Floats:
    """A needle's own error in the rig frame: where it is found, minus where it was commanded."""
    return patient_from_rig.inverse().apply(landing.found_patient_mm) - landing.commanded_rig_mm


def aim_rig_mm(patient_from_rig: RigidTransform, target_mm: Floats, offsets_mm: Sequence[Floats]) -> Floats:
    """Command ``(x, y, z)`` of the rig frame, rounded to 0.001 mm, that should bring the tip to the target."""
    aim = patient_from_rig.inverse().apply(target_mm)
    if offsets_mm:
        aim = aim - np.mean(np.asarray(offsets_mm), axis=0)
    return np.round(aim, 3) + 0.0
