"""A planning CT from a formula, written with pydicom alone: a soft cylinder with its axis along z, air around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

RADIUS_MM = 70.0
BODY_HU = 40


def write_phantom(
    folder: Path,
    *,
    rows: int = 90,
    columns: int = 100,
    pixel_mm: float = 1.8,
    slices: int = 24,
    spacing_mm: float = 2.5,
    orientation: tuple[int, ...] = (1, 0, 0, 0, 1, 0),
    position: str = "HFS",
) -> Path:
    """Write the series; the cylinder's axis is x = y = 0, z runs over ``slices`` about 0, files in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    across, down = np.array(orientation, dtype=float).reshape(2, 3)
    normal = np.cross(across, down)
    for k in range(slices):
        corner = (
            -across * pixel_mm * (columns - 1) / 2
            - down * pixel_mm * (rows - 1) / 2
            + normal * spacing_mm * (k - (slices - 1) / 2)
        )
        j, i = np.meshgrid(np.arange(columns), np.arange(rows))
        points = corner + pixel_mm * (j[..., None] * across + i[..., None] * down)
        hu = np.where(np.hypot(points[..., 0], points[..., 1]) < RADIUS_MM, BODY_HU, -1000)
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"1.2.3.4.{k + 1}"
        image.Modality, image.PatientID, image.PatientName = "CT", "PHANTOM", "Phantom^Soft"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.5", "1.2.3.6"
        image.FrameOfReferenceUID, image.PatientPosition = "1.2.3.7", position
        image.ImagePositionPatient = [f"{v:.4f}" for v in corner]
        image.ImageOrientationPatient = list(orientation)
        image.PixelSpacing, image.SliceThickness = [pixel_mm, pixel_mm], spacing_mm
        image.Rows, image.Columns, image.SamplesPerPixel = rows, columns, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleIntercept, image.RescaleSlope = 0, 1
        image.PixelData = hu.astype("<i2").tobytes()
        image["PixelData"].VR = "OW"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, image.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{(k * 7) % slices:03d}.dcm"
        FileDataset(path, image, preamble=b"\0" * 128, file_meta=meta).save_as(path, enforce_file_format=True)
    return folder
