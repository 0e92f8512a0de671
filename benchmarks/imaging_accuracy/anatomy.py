"""The patients of the imaging benchmark: the example's CT, looked at from several sides, and phantoms made here.

A phantom is a neck from a formula: an oval body with spine, jaw, airway, glands and vessels, fine pixels and noise of
its own. None of its shapes comes from the example, so nothing that was set on that CT fits it by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.ndimage import gaussian_filter

from simulator.dental import DentalMetal
from simulator.dicom_writer import SeriesWriter, uid

Floats = NDArray[np.float64]
EXAMPLE = Path(__file__).parents[2] / "examples" / "hn-recurrence"


@dataclass(frozen=True)
class Site:
    """Where needles go in a patient.

    Attributes:
        target_mm: middle of the tips, patient frame of the planning CT.
        inwards: 1 for needles from the patient's right, -1 from his left.
        front, up: from which the direction's other two components (beside 1 along x) are drawn.
    """

    target_mm: tuple[float, float, float]
    inwards: float
    front: tuple[float, float]
    up: tuple[float, float]


RIGHT = Site((-14.0, -15.0, -60.0), 1.0, (-0.2, 1.0), (-0.2, 0.3))  # the example's target
LEFT = Site((34.0, -12.0, -50.0), -1.0, (-0.1, 0.7), (-0.2, 0.3))  # the same patient's other side, higher
STEEP = Site((-14.0, -15.0, -60.0), 1.0, (-0.2, 0.6), (0.5, 0.9))  # across the slices as much as in them
PHANTOM = Site((-18.0, 2.0, 0.0), 1.0, (-0.3, 0.5), (-0.2, 0.3))
FILLINGS = (
    DentalMetal((-22.0, -58.0, -38.0), 5.0),
    DentalMetal((-26.0, -48.0, -40.0), 7.0, "gold", 6.0, (0.0, 0.2, 1.0), 0.7),
    DentalMetal((20.0, -56.0, -38.0), 4.0),
)
"""Two fillings and a crown where the example's patient has his teeth, at the height of the deeper needles."""


def write_phantom(folder: Path, number: int, *, pixel_mm: float, slice_mm: float, noise_hu: float) -> None:
    """Write a phantom's CT of 512 x 512 pixels and about 110 mm, other shapes for every ``number``."""
    folder.mkdir(parents=True)
    header = Dataset()
    header.PatientID = header.PatientName = f"PHANTOM{number}"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = (
        uid("benchmark phantom", number, what) for what in "abc"
    )
    across, up = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    pixels, when = (pixel_mm, pixel_mm), datetime(2020, 1, 2, 9)
    name = f"benchmark phantom {number}"
    writer = SeriesWriter(folder, header, name, 1, when, across, up, pixels, slice_mm)
    random = np.random.default_rng([71, number])
    shapes = _Shapes.drawn(random)
    side = 512
    places = (np.arange(side) - (side - 1) / 2.0) * pixel_mm
    y, x = np.meshgrid(places, places, indexing="ij")
    for index in range(round(110.0 / slice_mm)):
        z = -55.0 + slice_mm * (index + 0.5)
        hu = shapes.hu(x, y, z)
        grain = gaussian_filter(random.standard_normal(hu.shape), 0.5 / pixel_mm)
        hu = gaussian_filter(hu, 0.5 / pixel_mm) + noise_hu / grain.std() * grain
        writer.write(index, hu.astype(np.float32), np.array([places[0], places[0], z]))


@dataclass(frozen=True, eq=False)
class _Shapes:
    """Ellipsoids ``(n, 3)`` centres and half axes with their HU, painted one over the other into an oval body."""

    centres_mm: Floats
    halves_mm: Floats
    levels_hu: Floats
    lean: Floats  # of the body's middle, mm per mm of z

    @staticmethod
    def drawn(random: np.random.Generator) -> _Shapes:
        rows: list[tuple[tuple[float, ...], tuple[float, ...], float]] = []
        for _ in range(60):  # muscles, vessels and glands in fat
            centre = random.uniform((-50.0, -50.0, -60.0), (50.0, 50.0, 60.0))
            half = random.uniform((5.0, 5.0, 12.0), (14.0, 14.0, 40.0))
            rows.append((tuple(centre), tuple(half), float(random.uniform(20.0, 75.0))))
        for level in np.arange(-66.0, 70.0, 17.0):  # spine
            jitter = random.normal(0.0, 1.0, 3)
            middle = np.array([0.0, 26.0, level]) + jitter
            rows.append((tuple(middle), (12.0, 9.0, 6.5), 550.0))
            rows.append((tuple(middle), (10.0, 7.0, 5.0), 250.0))
            rows.append((tuple(middle + np.array((0.0, 17.0, -4.0))), (4.0, 11.0, 4.0), 600.0))
        rows.append(((0.0, 38.0, 0.0), (6.0, 5.0, 400.0), 30.0))
        for side in (-1.0, 1.0):  # the jaw's two branches, climbing forward
            for part in np.linspace(0.0, 1.0, 9):
                centre = (side * (42.0 - 26.0 * part), -22.0 - 36.0 * part, 34.0 - 8.0 * part)
                rows.append((centre, (5.0, 6.0, 9.0), 900.0))
        rows.append(((1.0, -14.0, 0.0), (7.0, 9.0, 400.0), -950.0))
        return _Shapes(
            np.array([row[0] for row in rows]),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows]),
            random.uniform(-0.12, 0.12, 2),
        )

    def hu(self, x: Floats, y: Floats, z: float) -> Floats:
        """A slice at height ``z``."""
        x, y = x - self.lean[0] * z, y - self.lean[1] * z
        wide, deep = 62.0 + 0.10 * z + 6.0 * np.sin(z / 23.0), 66.0 + 0.16 * z
        inside = (x / wide) ** 2 + (y / deep) ** 2
        hu = np.where(inside < 1.0, -95.0, -1000.0)
        hu = np.where((inside < 1.0) & (inside > 0.93), 30.0, hu)
        for centre, half, level in zip(self.centres_mm, self.halves_mm, self.levels_hu, strict=True):
            left = 1.0 - ((z - centre[2]) / half[2]) ** 2
            if left > 0.0:
                within = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < left
                hu = np.where(within & (inside < 0.93), level, hu)
        return hu
