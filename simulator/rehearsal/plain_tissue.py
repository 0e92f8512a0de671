"""Tissue without anatomy: a plane of skin and an error for each needle. For tests and campaigns that need no CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats, RigidTransform

SKIN_Z_MM = 20.0
GRIP_REACH_MM = 1.0
SEED_LENGTH_MM = 4.5


@dataclass(frozen=True, eq=False)
class PlainSeed:
    """A seed in the tissue: ``centre_mm`` and unit ``direction`` (towards the tip), patient frame."""

    needle: str
    centre_mm: Floats
    direction: Floats


class PlainTissue:
    """Skin is the plane at rig z = 20 mm; every insertion is off by a shift that grows to full size at 80 mm.

    Args:
        pose: where the rig truly stands, ``patient_from_rig``.
        own_mm: 1 sigma of each axis of a needle's shift.
        repeats: share of the shift's variance that the same needle shows again at its next insertion.
        seed: of chance.
    """

    def __init__(self, pose: RigidTransform, own_mm: float, repeats: float, seed: int) -> None:
        self.pose = pose
        self._own_mm, self._repeats = own_mm, repeats
        self._random = np.random.default_rng(seed)
        self._of_path: dict[str, Floats] = {}
        self._shift: dict[str, Floats] = {}
        self.at: dict[str, Floats] = {}
        self._held: str | None = None
        self.true_seeds: list[PlainSeed] = []

    # --- verbs of the devices, rig coordinates -----------------------------------------------------------

    def insert(self, needle: str, x_mm: float, y_mm: float, tip_z_mm: float) -> None:
        was_inside = needle in self.at and self.at[needle][2] > SKIN_Z_MM
        if tip_z_mm > SKIN_Z_MM and not was_inside:
            path = self._of_path.setdefault(needle, self._random.normal(size=3))
            new = self._random.normal(size=3)
            self._shift[needle] = self._own_mm * (
                np.sqrt(self._repeats) * path + np.sqrt(1.0 - self._repeats) * new
            )
        self.at[needle] = np.array([x_mm, y_mm, tip_z_mm])
        self._held = needle

    def retract(self, needle: str, distance_mm: float) -> None:
        self.at[needle][2] -= distance_mm

    def release(self) -> None:
        self._held = None

    def grip(self, x_mm: float, y_mm: float) -> str | None:
        for name, at in self.at.items():
            if at[2] > SKIN_Z_MM and np.hypot(at[0] - x_mm, at[1] - y_mm) <= GRIP_REACH_MM:
                self._held = name
                return name
        return None

    def drop_seed(self, needle: str) -> None:
        direction = self.true_direction(needle)
        centre_mm = self.true_tip_patient_mm(needle) + SEED_LENGTH_MM / 2.0 * direction
        self.true_seeds.append(PlainSeed(needle, centre_mm, direction))

    # --- the truth ---------------------------------------------------------------------------------------

    @property
    def needles(self) -> tuple[str, ...]:
        """Names of the needles whose tips are in tissue."""
        return tuple(name for name, at in self.at.items() if at[2] > SKIN_Z_MM)

    def true_tip_patient_mm(self, needle: str) -> Floats:
        """``(3,)``, patient frame."""
        at = self.at[needle]
        grown = np.clip((at[2] - SKIN_Z_MM) / 60.0, 0.0, 1.2)
        return self.pose.apply(at + grown * self._shift.get(needle, np.zeros(3)))

    def true_direction(self, _needle: str) -> Floats:
        """``(3,)`` unit vector towards the tip, patient frame: all needles are parallel."""
        return self.pose.turn((0.0, 0.0, 1.0))

    def true_tip_and_direction_mm(self, needle: str) -> tuple[Floats, Floats]:
        """``(3,)`` each, patient frame."""
        return self.true_tip_patient_mm(needle), self.true_direction(needle)
