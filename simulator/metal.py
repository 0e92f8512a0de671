"""Metal as a CT sees it: rods of steel, silver and titanium, a spectrum, and what the rays measure.

Attenuation is that of NIST XCOM (mass attenuation coefficients at the listed energies times the density).
The spectrum is a coarse 120 kVp one behind a scanner's filter (assumed), in five lines. Coordinates are the
*gantry's*: u along the image's rows, v along its columns, w across the slices, mm from the centre of the
first pixel of the first slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from simulator.geometry import Floats, unit

ENERGIES_KEV = (40.0, 50.0, 60.0, 80.0, 100.0)
SPECTRUM = np.array([0.10, 0.22, 0.28, 0.26, 0.14])  # share of the photons per line, assumed
WATER_PER_MM = np.array([0.2683, 0.2269, 0.2059, 0.1837, 0.1707]) / 10.0
STEEL, SILVER, TITANIUM = 0, 1, 2
_MASS_ATTENUATION_CM2_G = np.array(
    [
        [3.629, 1.958, 1.205, 0.5952, 0.3717],  # iron
        [17.20, 9.444, 5.766, 2.651, 1.470],  # silver
        [2.214, 1.213, 0.7661, 0.4052, 0.2721],  # titanium
    ]
)
_DENSITY_G_CM3 = np.array([7.9, 10.49, 4.51])
METAL_PER_MM = _MASS_ATTENUATION_CM2_G * _DENSITY_G_CM3[:, None] / 10.0  # (material, energy)

NEEDLE_RADIUS_MM = 1.27 / 2.0
SILVER_LENGTH_MM, SILVER_RADIUS_MM = 3.0, 0.25
SHELL_LENGTH_MM, SHELL_RADIUS_MM, SHELL_WALL_MM = 4.5, 0.4, 0.06


@dataclass(frozen=True, eq=False)
class Rods:
    """Straight cylinders.

    Attributes:
        ends_mm: ``(n, 2, 3)``.
        radius_mm: ``(n,)``.
        material: ``(n,)`` ``STEEL``, ``SILVER`` or ``TITANIUM``.
        sign: ``(n,)`` +1, or -1 for a hollow inside another rod.
    """

    ends_mm: Floats
    radius_mm: Floats
    material: np.ndarray[tuple[int], np.dtype[np.int64]]
    sign: Floats

    def __len__(self) -> int:
        return len(self.radius_mm)

    def directions(self) -> Floats:
        """``(n, 3)`` unit vectors."""
        return unit(self.ends_mm[:, 1] - self.ends_mm[:, 0])


def rods_of(shafts_mm: list[Floats], seed_centres_mm: Floats, seed_directions: Floats) -> Rods:
    """Needles as chains of steel rods (stylet in), seeds as a silver rod in a titanium shell.

    Args:
        shafts_mm: per needle ``(k, 3)``, from tip to hub.
        seed_centres_mm, seed_directions: ``(n, 3)`` each.
    """
    rows: list[tuple[Floats, Floats, float, int, float]] = []
    for shaft in shafts_mm:
        rows += [(a, b, NEEDLE_RADIUS_MM, STEEL, 1.0) for a, b in pairwise(shaft)]
    for centre, direction in zip(seed_centres_mm, seed_directions, strict=True):
        for length_mm, radius_mm, material, sign in (
            (SILVER_LENGTH_MM, SILVER_RADIUS_MM, SILVER, 1.0),
            (SHELL_LENGTH_MM, SHELL_RADIUS_MM, TITANIUM, 1.0),
            (SHELL_LENGTH_MM - 2 * SHELL_WALL_MM, SHELL_RADIUS_MM - SHELL_WALL_MM, TITANIUM, -1.0),
        ):
            half = direction * length_mm / 2.0
            rows.append((centre - half, centre + half, radius_mm, material, sign))
    return Rods(
        np.array([(a, b) for a, b, *_ in rows]).reshape(-1, 2, 3),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows], dtype=np.int64),
        np.array([row[4] for row in rows]),
    )


def view_angles(rods: Rods) -> tuple[Floats, Floats]:
    """Directions of the projections (rad, 0..pi) and the share of the half turn that each stands for.

    Rays along a needle or a chain of seeds that lies near the slice's plane see the most metal and starve
    within about a degree, so the views are 0.25 degrees apart there, 0.5 degrees around, 1.25 degrees elsewhere.
    """
    directions = rods.directions()
    lying = (rods.material != TITANIUM) & (np.abs(directions[:, 2]) < 0.5)
    along_deg = np.degrees(np.arctan2(directions[lying, 1], directions[lying, 0])) - 90.0
    quarter = np.unique(np.round(np.mod(along_deg, 180.0) * 4.0)).astype(np.int64)  # in quarters of a degree
    views = np.concatenate(
        [
            np.arange(0, 720, 5),
            np.ravel(2 * (quarter[:, None] // 2) + np.arange(-48, 49, 2)),
            np.ravel(quarter[:, None] + np.arange(-8, 9)),
        ]
    )
    angles_deg = np.unique(np.mod(views, 720)) / 4.0
    gaps_deg = np.diff(np.append(angles_deg, angles_deg[0] + 180.0))
    return np.radians(angles_deg), np.radians((gaps_deg + np.roll(gaps_deg, 1)) / 2.0)


def water_per_mm() -> float:
    """Effective attenuation of water behind 15 cm of water: what the scanner calls 1000 HU above air."""
    behind = SPECTRUM * np.exp(-WATER_PER_MM * 150.0)
    return float(behind @ WATER_PER_MM / behind.sum())
