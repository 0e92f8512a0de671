"""Metal as a CT sees it: rods and balls, what they are made of, a spectrum, and from where it is looked at.

Attenuation is that of NIST XCOM (mass attenuation coefficients at the listed energies times the density; mixtures by
weight). Amalgam: Hg 50, Ag 30, Sn 14, Cu 6 %; a crown's gold alloy: Au 78, Ag 12, Cu 10 %; balls of the
template: alumina (all assumed).
The spectrum is a coarse 120 kVp one behind a scanner's filter (assumed), in five lines. Coordinates are the
*gantry's*: u along the image's rows, v along its columns, w across the slices, mm from the centre of the
first pixel of the first slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulator.geometry import Floats, unit

ENERGIES_KEV = (40.0, 50.0, 60.0, 80.0, 100.0)
SPECTRUM = np.array([0.10, 0.22, 0.28, 0.26, 0.14])  # share of the photons per line, assumed
WATER_PER_MM = np.array([0.2683, 0.2269, 0.2059, 0.1837, 0.1707]) / 10.0
BONE_PER_MM = 1.92 / 10.0 * np.array([0.6655, 0.4242, 0.3148, 0.2229, 0.1855])  # cortical, ICRU-44
STEEL, SILVER, TITANIUM, AMALGAM, GOLD_ALLOY, ALUMINA = range(6)
_TIN_CM2_G = np.array([19.42, 10.70, 6.564, 3.029, 1.676])
_COPPER_CM2_G = np.array([4.862, 2.613, 1.593, 0.7630, 0.4584])
_MERCURY_CM2_G = np.array([13.42, 7.503, 4.683, 2.259, 5.277])  # the K edge lies at 83 keV
_GOLD_CM2_G = np.array([12.98, 7.256, 4.528, 2.185, 5.158])  # the K edge lies at 81 keV
_SILVER_CM2_G = np.array([17.20, 9.444, 5.766, 2.651, 1.470])
_ALUMINIUM_CM2_G = np.array([0.5685, 0.3681, 0.2778, 0.2018, 0.1704])
_OXYGEN_CM2_G = np.array([0.2585, 0.2132, 0.1907, 0.1678, 0.1551])
_MASS_ATTENUATION_CM2_G = np.array(
    [
        [3.629, 1.958, 1.205, 0.5952, 0.3717],  # iron
        _SILVER_CM2_G,
        [2.214, 1.213, 0.7661, 0.4052, 0.2721],  # titanium
        0.50 * _MERCURY_CM2_G + 0.30 * _SILVER_CM2_G + 0.14 * _TIN_CM2_G + 0.06 * _COPPER_CM2_G,
        0.78 * _GOLD_CM2_G + 0.12 * _SILVER_CM2_G + 0.10 * _COPPER_CM2_G,
        0.529 * _ALUMINIUM_CM2_G + 0.471 * _OXYGEN_CM2_G,
    ]
)
_DENSITY_G_CM3 = np.array([7.9, 10.49, 4.51, 11.0, 15.5, 3.9])
METAL_PER_MM = _MASS_ATTENUATION_CM2_G * _DENSITY_G_CM3[:, None] / 10.0  # (material, energy)

NEEDLE_RADIUS_MM = 1.27 / 2.0
SILVER_LENGTH_MM, SILVER_RADIUS_MM = 3.0, 0.25
SHELL_LENGTH_MM, SHELL_RADIUS_MM, SHELL_WALL_MM = 4.5, 0.4, 0.06


@dataclass(frozen=True, eq=False)
class Rods:
    """Straight cylinders; one whose ends are the same point is a ball.

    Attributes:
        ends_mm: ``(n, 2, 3)``.
        radius_mm: ``(n,)``.
        material: ``(n,)`` row of ``METAL_PER_MM``.
        sign: ``(n,)`` +1, or -1 for a hollow inside another rod.
    """

    ends_mm: Floats
    radius_mm: Floats
    material: np.ndarray[tuple[int], np.dtype[np.int64]]
    sign: Floats

    def __len__(self) -> int:
        return len(self.radius_mm)

    def __add__(self, other: Rods) -> Rods:
        return Rods(
            np.concatenate([self.ends_mm, other.ends_mm]),
            np.concatenate([self.radius_mm, other.radius_mm]),
            np.concatenate([self.material, other.material]),
            np.concatenate([self.sign, other.sign]),
        )

    @property
    def is_ball(self) -> NDArray[np.bool_]:
        """``(n,)``."""
        return np.asarray(np.all(self.ends_mm[:, 0] == self.ends_mm[:, 1], axis=1))

    @staticmethod
    def none() -> Rods:
        """No metal at all."""
        return Rods(np.zeros((0, 2, 3)), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0))

    @staticmethod
    def balls(centres_mm: Floats, diameter_mm: float, material: int) -> Rods:
        """Balls of one kind at ``(n, 3)``."""
        ends = np.repeat(np.asarray(centres_mm, dtype=float).reshape(-1, 1, 3), 2, axis=1)
        count = len(ends)
        return Rods(ends, np.full(count, diameter_mm / 2.0), np.full(count, material), np.ones(count))


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
    needle_like = (~rods.is_ball) & ((rods.material == STEEL) | (rods.material == SILVER))
    directions = unit(rods.ends_mm[needle_like, 1] - rods.ends_mm[needle_like, 0])
    lying = np.abs(directions[:, 2]) < 0.5
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
