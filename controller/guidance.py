"""Where to aim the rig so that a tip lands where the plan wants it.  Pure; mm and degrees.

Three ideas:

1. *The common part of the error* (set-up, template seat) is the pose of the rig in the patient. It is
   estimated from where needles were commanded and where the scan shows them, by rigid least squares over
   tips and axes with a prior on the pose: two or three tips 20-40 mm apart would otherwise turn their
   own millimetre of scatter into degrees of rotation, and into millimetres at depth.
2. *A needle's own part* (tissue, bend) mostly comes back when it goes in again beside its last path, so the
   next aim is off by what is expected to come back: across, four fifths of what one insertion showed, nearer to
   all of it the more insertions agree (``expected_again_mm``); along, all of it.
3. A depth error alone is corrected by depth; a lateral one needs the needle withdrawn and aimed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from planning.frame import Floats, RigidTransform
from planning.reference_error import PRIOR_SHIFT_SIGMA_MM, PRIOR_TURN_SIGMA_DEG

TIP_SIGMA_MM = 1.5
"""Scatter of a shallow tip about the common pose: entry 0.90 mm and 1.56 deg over 25 mm, with the depth
error (CLINIC.md, 430 needles); used as weight only."""
AXIS_SIGMA_DEG = 1.4
"""Scatter of a needle's axis about each of two directions: means of 1.56 and 2.08 deg (CLINIC.md) are 1.2 and 1.7 per
axis, and a CT tells it to 0.4."""
NEW_SHARE = 0.2
"""Share of the variance of a needle's error across that is new at each insertion (CLINIC.md, assumed). Depth comes back
within 0.5 mm of 2.1 mm (1 sigma), so of that nothing counts as new."""
POOR_FIT_MM = 5.0
"""RMS tip residual above which the estimate is refused (assumed: three times the expected scatter)."""
MOST_STEPS, CONVERGED = 50, 1e-7
"""Steps of the estimate, and the last one's size in deg and mm. 2 degrees off take 5, 15 degrees 15; else refused."""


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
    """Maximum a posteriori pose of the rig from where needles landed (Gauss-Newton from the planned pose).

    Raises:
        ValueError: no landing at all.
    """
    if not landings:
        raise ValueError("the rig's pose can't be estimated from no needle")
    commanded = np.array([landing.commanded_rig_mm for landing in landings])
    found = np.array([landing.found_patient_mm for landing in landings])
    axes = np.array([landing.found_direction for landing in landings])
    planned_tips = planned_patient_from_rig.apply(commanded)
    axis = planned_patient_from_rig.turn([0.0, 0.0, 1.0])
    centre = planned_tips.mean(axis=0)
    arms = planned_tips - centre
    turn_deg, shift_mm = np.zeros(3), np.zeros(3)
    has_converged = False
    for _ in range(MOST_STEPS):
        rotation = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix()
        arms_now, axis_now = arms @ rotation.T, rotation @ axis
        residuals = np.concatenate(
            [
                ((arms_now + centre + shift_mm - found) / TIP_SIGMA_MM).ravel(),
                (np.degrees(axis_now - axes) / AXIS_SIGMA_DEG).ravel(),
                turn_deg / PRIOR_TURN_SIGMA_DEG,
                shift_mm / PRIOR_SHIFT_SIGMA_MM,
            ]
        )
        per_deg = np.radians(_turned_per(np.radians(turn_deg)))
        by_turn = [
            *(_cross(arm).T @ per_deg / TIP_SIGMA_MM for arm in arms_now),
            *([np.degrees(_cross(axis_now).T @ per_deg) / AXIS_SIGMA_DEG] * len(axes)),
            np.eye(3) / PRIOR_TURN_SIGMA_DEG,
            np.zeros((3, 3)),
        ]
        by_shift = [
            *([np.eye(3) / TIP_SIGMA_MM] * len(arms)),
            *([np.zeros((3, 3))] * (len(axes) + 1)),
            np.eye(3) / PRIOR_SHIFT_SIGMA_MM,
        ]
        jacobian = np.hstack([np.vstack(by_turn), np.vstack(by_shift)])
        step = np.linalg.lstsq(jacobian, -residuals, rcond=None)[0]
        turn_deg, shift_mm = turn_deg + step[:3], shift_mm + step[3:]
        has_converged = bool(np.abs(step).max() < CONVERGED)
        if has_converged:
            break
    pose = RigidTransform.from_rotation_vector(turn_deg, shift_mm, centre) @ planned_patient_from_rig
    distance = np.linalg.norm(pose.apply(commanded) - found, axis=1)
    rms = float(np.sqrt(np.mean(distance**2)))
    return RigEstimate(pose, rms, has_converged and rms <= POOR_FIT_MM)


def _cross(v: Floats) -> Floats:
    """``(3, 3)`` matrix with ``_cross(v) @ w = v x w``."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _turned_per(rotation_rad: Floats) -> Floats:
    """``(3, 3)``: how a turned point turns further when its rotation vector changes (left Jacobian of SO(3)).

    Chirikjian, Stochastic Models, Information Theory, and Lie Groups vol. 2, eq. 10.86; series near zero.
    """
    angle = float(np.linalg.norm(rotation_rad))
    about = _cross(rotation_rad)
    if angle < 1e-4:
        return np.eye(3) + about / 2.0 + about @ about / 6.0
    sine, cosine = np.sin(angle), np.cos(angle)
    along: Floats = (1.0 - cosine) / angle**2 * about + (angle - sine) / angle**3 * about @ about
    return np.eye(3) + along


def offset_rig_mm(patient_from_rig: RigidTransform, landing: Landing) -> Floats:
    """A needle's own error in the rig frame: where it is found, minus where it was commanded."""
    return patient_from_rig.inverse().apply(landing.found_patient_mm) - landing.commanded_rig_mm


def aim_rig_mm(patient_from_rig: RigidTransform, target_mm: Floats, offsets_mm: Sequence[Floats]) -> Floats:
    """Command ``(x, y, z)`` of the rig frame, rounded to 0.001 mm, that should bring the tip to the target."""
    aim = patient_from_rig.inverse().apply(target_mm) - expected_again_mm(offsets_mm)
    return np.round(aim, 3) + 0.0


def expected_again_mm(offsets_mm: Sequence[Floats]) -> Floats:
    """What of a needle's own errors, measured in so many insertions, is expected at its next one: ``(3,)``, rig frame.

    Across (x, y): posterior mean of the part that stays, when each error is that part plus a new one, both normal with
    mean zero: mean of the measured, times n / (n + NEW_SHARE / (1 - NEW_SHARE)). Along: the mean of the measured.
    """
    count = len(offsets_mm)
    if not count:
        return np.zeros(3)
    stays = count / (count + NEW_SHARE / (1.0 - NEW_SHARE))
    return np.asarray(np.mean(np.asarray(offsets_mm), axis=0) * (stays, stays, 1.0))
