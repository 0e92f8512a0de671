"""The simulator's own reader of the planning CT: pixels as stored, and where each of them lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        index = apply(inverse(self.patient_from_index), points_mm)[:, ::-1]
        low = np.floor(index).astype(int)
        part = index - low
        total = np.zeros(len(index))
        for corner in np.ndindex(2, 2, 2):
            at = low + corner
            inside = np.all((at >= 0) & (at < self.hu.shape), axis=1)
            weight = np.prod(np.where(corner, part, 1.0 - part), axis=1)
            value = np.full(len(index), -1024.0)
            value[inside] = self.hu[tuple(at[inside].T)]
            total += weight * value
        return total


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
