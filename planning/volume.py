"""A CT (or dose, or mask) as a box of voxels whose axes are the patient's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planning.frame import Floats


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: an axis-aligned lattice in the patient frame (LPS, mm).

    Attributes:
        shape: voxel counts ``(nz, ny, nx)``, the order of numpy arrays.
        origin_mm: ``(x, y, z)`` of the centre of voxel ``[0, 0, 0]``.
        spacing_mm: ``(dx, dy, dz)``, all positive.
    """

    shape: tuple[int, int, int]
    origin_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]

    def centres_mm(self, axis: int) -> Floats:
        """Voxel-centre coordinates along patient axis 0 (x), 1 (y) or 2 (z)."""
        centres: Floats = self.origin_mm[axis] + self.spacing_mm[axis] * np.arange(
            self.shape[2 - axis], dtype=float
        )
        return centres

    def index_of(self, points_mm: ArrayLike) -> Floats:
        """Fractional array indices ``(..., 3)`` in the order (z, y, x) of points ``(..., 3)`` in (x, y, z)."""
        scaled = (np.asarray(points_mm, dtype=float) - self.origin_mm) / self.spacing_mm
        return np.asarray(scaled[..., ::-1])

    def point_of(self, indices: ArrayLike) -> Floats:
        """Points ``(..., 3)`` in mm of fractional array indices ``(..., 3)`` in the order (z, y, x)."""
        points: Floats = np.asarray(indices, dtype=float)[..., ::-1] * self.spacing_mm + self.origin_mm
        return points

    def box(self, low_mm: ArrayLike, high_mm: ArrayLike) -> tuple[slice, slice, slice]:
        """Array slices (z, y, x) of the voxels whose centres lie between two corners, clipped to the grid."""
        low = np.ceil(self.index_of(low_mm) - 1e-9).astype(int)
        high = np.floor(self.index_of(high_mm) + 1e-9).astype(int) + 1
        count = np.asarray(self.shape)
        low, high = np.clip(low, 0, count), np.clip(high, 0, count)
        z, y, x = (slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
        return z, y, x

    def cropped(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of ``array[box]``."""
        start = [s.indices(n)[0] for s, n in zip(box, self.shape, strict=True)]
        stop = [s.indices(n)[1] for s, n in zip(box, self.shape, strict=True)]
        nz, ny, nx = (max(0, b - a) for a, b in zip(start, stop, strict=True))
        x, y, z = (float(v) for v in self.point_of(start))
        return Grid((nz, ny, nx), (x, y, z), self.spacing_mm)

    @property
    def voxel_cc(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0


@dataclass(frozen=True, eq=False)
class CtVolume:
    """A CT series: HU on a grid, and the identity that later objects must refer to.

    Attributes:
        hu: ``int16 (nz, ny, nx)``.
        grid: where the voxels lie; axes are LPS whatever the patient's position on the couch was.
        frame_of_reference_uid, series_uid, study_uid, patient_id, patient_name: from the series.
        sop_uids: SOP Instance UID of each slice, in the order of the array.
        slice_thickness_mm: as stated by the scanner (the spacing is ``grid.spacing_mm[2]``).
        attributes: further DICOM attributes that written objects copy (name -> value), e.g. StudyDate.
        remarks: what a person should know of these images, in sentences.
        acquired: first and last acquisition time of its images by the scanner's clock, ISO 8601 without zone; None
            where an image does not state it.
    """

    hu: NDArray[np.int16]
    grid: Grid
    frame_of_reference_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    patient_name: str
    sop_uids: tuple[str, ...]
    slice_thickness_mm: float
    attributes: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    acquired: tuple[str, str] | None = None
