"""Metal in teeth: fillings, posts and crowns as rods and balls, given by the caller or found in the planning CT.

Given pieces are added to what the scanner measures, streaks and all. Pieces found in the planning CT already
have their streaks in that image; they only take photons away from the rays that run through them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import find_objects, label

from simulator.ct_reader import PatientCt
from simulator.geometry import Floats, apply, unit
from simulator.metal import AMALGAM, GOLD_ALLOY, TITANIUM, Rods

OWN_METAL_HU = 2800.0  # denser than enamel (assumed)
LEAST_VOLUME_MM3 = 10.0  # smaller ones are noise or enamel (assumed)
_BLOOM_MM = 0.8  # how far metal blooms over its edge at that HU (assumed)
_MATERIALS = {"amalgam": AMALGAM, "gold": GOLD_ALLOY, "titanium": TITANIUM}


@dataclass(frozen=True)
class DentalMetal:
    """A filling (a ball), or with a length a straight piece: an implant's post, or with a wall a crown.

    Attributes:
        centre_mm: in the planning CT (patient, LPS); it moves with the patient.
        diameter_mm: outer, of ball or cylinder.
        material: ``amalgam``, ``gold`` (alloy) or ``titanium``.
        length_mm: 0 for a ball.
        direction: of a cylinder's axis, patient axes, any length but zero; a crown is open at this end.
        wall_mm: of a crown, side and closed end; 0: solid.
    """

    centre_mm: tuple[float, float, float]
    diameter_mm: float = 5.0
    material: Literal["amalgam", "gold", "titanium"] = "amalgam"
    length_mm: float = 0.0
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    wall_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no piece of metal.

        Raises:
            ValueError: unknown material, or sizes that no tooth has.
        """
        if self.material not in _MATERIALS:
            raise ValueError(f"dental metal is of {', '.join(_MATERIALS)}, not of {self.material}")
        if not (0.0 < self.diameter_mm <= 40.0 and 0.0 <= self.length_mm <= 80.0):
            raise ValueError("dental metal is at most 40 mm thick and 80 mm long")
        if not np.all(np.isfinite([*self.centre_mm, *self.direction])) or not any(self.direction):
            raise ValueError("dental metal needs a place and a direction")
        if not 0.0 <= self.wall_mm < self.diameter_mm / 2.0 or self.wall_mm > self.length_mm:
            raise ValueError("a crown's wall is thinner than its radius and than its length")

    def rods(self, gantry_from_patient: Floats) -> Rods:
        """In gantry coordinates: one rod or ball, for a crown also the hollow in it."""
        axis = unit(np.asarray(self.direction, dtype=float))
        half = axis * self.length_mm / 2.0
        low, high = self.centre_mm - half, self.centre_mm + half
        rows = [(low, high, self.diameter_mm / 2.0, 1.0)]
        if self.wall_mm > 0.0:
            rows.append((low + axis * self.wall_mm, high, self.diameter_mm / 2.0 - self.wall_mm, -1.0))
        ends = np.array([row[:2] for row in rows])
        return Rods(
            apply(gantry_from_patient, ends.reshape(-1, 3)).reshape(-1, 2, 3),
            np.array([row[2] for row in rows]),
            np.full(len(rows), _MATERIALS[self.material], dtype=np.int64),
            np.array([row[3] for row in rows]),
        )


def rods_of_dental(pieces: Sequence[DentalMetal], gantry_from_patient: Floats) -> Rods:
    """All pieces' rods and balls in gantry coordinates."""
    return sum((piece.rods(gantry_from_patient) for piece in pieces), Rods.none())


def dental_metal_in(ct: PatientCt) -> tuple[DentalMetal, ...]:
    """What the planning CT shows as metal: balls of amalgam (assumed), as large as its spots less their bloom."""
    spots, _ = label(ct.hu >= OWN_METAL_HU, np.ones((3, 3, 3)))
    voxel_mm3 = float(np.prod(ct.spacing_mm))
    found = []
    for number, box in enumerate(find_objects(spots), start=1):
        index = np.argwhere(spots[box] == number) + [side.start for side in box]
        radius_mm = (3.0 * len(index) * voxel_mm3 / (4.0 * np.pi)) ** (1.0 / 3.0) - _BLOOM_MM
        if len(index) * voxel_mm3 < LEAST_VOLUME_MM3 or radius_mm <= 0.0:
            continue
        x, y, z = apply(ct.patient_from_index, index.mean(axis=0)[::-1])
        found.append(DentalMetal((float(x), float(y), float(z)), 2.0 * min(radius_mm, 20.0)))
    return tuple(found)
