"""How well a plan's reference needles will tell where the rig stands: the expected registration error at the target.

Point registration by N tips, each found with an error of RMS length ``fle`` (isotropic, zero mean): the covariance of
the small rotation and shift is the inverse of their information, and the error at a point r is that of shift plus
rotation times the arm. Without a prior this is the formula of Fitzpatrick, West and Maurer 1998 (IEEE Trans Med Imaging
17:694): TRE^2(r) = FLE^2 / N * (1 + 1/3 * sum over the principal axes k of d_k^2 / f_k^2). With the prior of the rig's
pose (assumed) it holds for two needles, or three in a row, too: what the tips leave open stays as uncertain as before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats
from planning.placement_error import PlacementSigmas
from planning.plan import Plan

PRIOR_SHIFT_SIGMA_MM = 3.6
"""How far from its planned pose the rig stands, along each axis, as far as is known before a needle is in; the
controller's estimate uses the same. Immobilised head and neck is set up to 3.2 +- 1.7 mm (CLINIC.md), 3.6 mm RMS in
three dimensions; taken for each axis, so that a set-up 1.7 times as wide as published is still believed (assumed)."""
PRIOR_TURN_SIGMA_DEG = 1.0
"""How far it is turned, about each axis (assumed; no figure was found)."""


@dataclass(frozen=True)
class ReferenceError:
    """What the reference needles are expected to give.

    Attributes:
        names: of the needles.
        apart_mm: least and greatest distance between their tips at reference depth.
        tip_mm: RMS length of the error of one such tip (FLE).
        error_mm: RMS of the registration's error over the points of the target; worst_mm: at the worst of them.
    """

    names: tuple[str, ...]
    apart_mm: tuple[float, float]
    tip_mm: float
    error_mm: float
    worst_mm: float

    def in_words(self) -> str:
        low, high = self.apart_mm
        apart = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}-{high:.0f}"
        return (
            f"{', '.join(self.names)}, tips {apart} mm apart; expected error of the rig's registration over the CTV "
            f"{self.error_mm:.1f} mm RMS, {self.worst_mm:.1f} mm at worst (each tip {self.tip_mm:.1f} mm; "
            "Fitzpatrick 1998)"
        )


def registration_error_mm(
    tips_mm: Floats,
    points_mm: Floats,
    fle_mm: float,
    *,
    turn_deg: float | None = PRIOR_TURN_SIGMA_DEG,
    shift_mm: float | None = PRIOR_SHIFT_SIGMA_MM,
) -> Floats:
    """RMS length ``(n,)`` of the registration's error at points ``(n, 3)``.

    Args:
        tips_mm: ``(m, 3)``; fle_mm: RMS length of each one's error.
        turn_deg, shift_mm: sigma of the pose before any tip is seen, per axis; None for no such knowledge.
    """
    centre = tips_mm.mean(axis=0)
    arms = tips_mm - centre
    weight = 3.0 / fle_mm**2  # one axis has a third of the squared error
    turn = weight * (np.sum(arms**2) * np.eye(3) - arms.T @ arms)
    shift = weight * len(tips_mm)
    if turn_deg is not None:
        turn = turn + np.eye(3) / np.radians(turn_deg) ** 2
    if shift_mm is not None:
        shift += 1.0 / shift_mm**2
    turned = np.linalg.pinv(turn)
    offset = points_mm - centre
    # E |w x r|^2 = |r|^2 tr(C) - r' C r for a small rotation w of covariance C
    squared = (offset**2).sum(axis=1) * np.trace(turned) - np.einsum("ni,ij,nj->n", offset, turned, offset)
    return np.asarray(np.sqrt(3.0 / shift + squared))


def reference_error(
    plan: Plan, target_points_mm: Floats, sigmas: PlacementSigmas | None = None
) -> ReferenceError | None:
    """The expected error of a plan's reference needles; None when it has fewer than two."""
    needles = plan.reference_needles
    if len(needles) < 2:
        return None
    spread = sigmas or PlacementSigmas()
    tips = np.array([needle.reference_tip_mm for needle in needles])
    depth = float(np.mean([needle.reference_depth_mm for needle in needles]))
    across = np.hypot(spread.entry_mm, depth * np.tan(np.radians(spread.angle_deg)))
    fle = float(np.sqrt(2.0 * across**2 + spread.depth_mm**2))
    apart = np.linalg.norm(tips[:, None] - tips[None], axis=2)[np.triu_indices(len(tips), 1)]
    error = registration_error_mm(tips, target_points_mm, fle)
    return ReferenceError(
        tuple(needle.name for needle in needles),
        (float(apart.min()), float(apart.max())),
        fle,
        float(np.sqrt(np.mean(error**2))),
        float(error.max()),
    )
