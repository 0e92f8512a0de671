"""The simulator's own reader of the planning CT: pixels as stored, and where each of them lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pydicom
from numpy.typing import NDArray

from simulator.geometry import Floats, apply, inverse


@dataclass(frozen=True, eq=False)
class PatientCt:
    """The anatomy.

    Attributes:
        hu: ``int16 (slices, rows, columns)``, slices in the order of increasing ``normal . position``.
        patient_from_index: ``(4, 4)``, takes ``(column, row, slice)`` indices to patient mm (LPS). Its axes
            are those of the acquired images, whatever way the patient lay.
        header: the first slice's data set without pixels; a rescan copies the patient's identity from it.
    """

    hu: NDArray[np.int16]
    patient_from_index: Floats
    header: pydicom.Dataset

    @property
    def spacing_mm(self) -> Floats:
        """Distance of neighbouring ``(columns, rows, slices)``."""
        return np.asarray(np.linalg.norm(self.patient_from_index[:3, :3], axis=0))

    def sample_hu(self, points_mm: Floats) -> Floats:
        """HU at patient points ``(n, 3)``, trilinear; air (-1024) outside the images."""
        index = np.ascontiguousarray(apply(inverse(self.patient_from_index), points_mm)[:, ::-1])
        return np.asarray(_trilinear(self.hu, index))


@numba.njit(cache=True, nogil=True)
def _trilinear(hu, index):  # type: ignore[no-untyped-def]
    """HU at ``(n, 3)`` (slice, row, column) indices."""
    found = np.zeros(len(index))
    for n in range(len(index)):
        low = np.floor(index[n])
        for corner in range(8):
            weight, inside = 1.0, True
            at = (0, 0, 0)
            for axis, bit in enumerate((corner >> 2, (corner >> 1) & 1, corner & 1)):
                part = index[n, axis] - low[axis]
                weight *= part if bit else 1.0 - part
                here = int(low[axis]) + bit
                inside = inside and 0 <= here < hu.shape[axis]
                at = (at[1], at[2], here)
            found[n] += weight * (hu[at] if inside else -1024.0)
    return found


def read_ct(folder: Path) -> PatientCt:
    """The CT series with most slices anywhere below ``folder``.

    Raises:
        FileNotFoundError: no CT image is there.
    """
    series: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            image = pydicom.dcmread(path)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        if image.get("Modality") == "CT" and "ImagePositionPatient" in image and "PixelData" in image:
            series.setdefault(str(image.SeriesInstanceUID), []).append(image)
    if not series:
        raise FileNotFoundError(f"no CT image below {folder}")
    images = max(series.values(), key=len)
    row, column = np.array(images[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    images.sort(key=lambda image: float(normal @ np.array(image.ImagePositionPatient, dtype=float)))
    first, last = (np.array(images[i].ImagePositionPatient, dtype=float) for i in (0, -1))
    step = (last - first) / (len(images) - 1) if len(images) > 1 else normal * float(images[0].SliceThickness)
    row_spacing_mm, column_spacing_mm = (float(v) for v in images[0].PixelSpacing)
    patient_from_index = np.eye(4)
    patient_from_index[:3, :] = np.column_stack(
        [row * column_spacing_mm, column * row_spacing_mm, step, first]
    )
    hu = np.stack(
        [
            np.clip(
                image.pixel_array * float(image.get("RescaleSlope", 1.0))
                + float(image.get("RescaleIntercept", 0.0)),
                -1024,
                3071,
            ).astype(np.int16)
            for image in images
        ]
    )
    header = images[0]
    del header.PixelData
    return PatientCt(hu, patient_from_index, header)
