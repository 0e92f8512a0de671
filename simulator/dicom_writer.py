"""The simulator's own writer of CT images: one valid CT Image Storage object a slice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from simulator.geometry import Floats

INTERCEPT_HU = -1024
LARGEST_HU = 3071  # 12 bits
LARGEST_EXTENDED_HU = 30_719
MODES = {  # value 4 of the image type, and words: how the images were made
    "fast": ("APPROXIMATE", "fast mode", "Simulated from a planning CT with an approximate model of metal"),
    "faithful": (
        "POLYCHROMATIC",
        "faithful mode",
        "Simulated from a planning CT by polychromatic projection",
    ),
}
_SECONDS_PER_SLICE = timedelta(
    seconds=0.0125
)  # assumed: 64 rows of 0.625 mm, 0.4 s a turn, slices of 1.25 mm


def uid(*words: object) -> UID:
    """A UID under 2.25 that depends on nothing but ``words``."""
    digest = hashlib.sha256("\n".join(map(str, words)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


@dataclass(frozen=True, eq=False)
class SeriesWriter:
    """Writes the slices of one series.

    Attributes:
        folder: must exist.
        patient: header of the planning CT; identity and frame of reference are copied from it.
        identity: makes the UIDs; one string for one series.
        number: of the scan within the session.
        when: start of the scan.
        row_direction, column_direction: unit vectors of increasing column and row index, patient LPS.
        pixel_mm: ``(du, dv)`` spacing along a row and along a column.
        slice_thickness_mm: also the distance of the slices.
        extended: HU beyond 12 bits are kept.
        mode: of ``MODES``.
    """

    folder: Path
    patient: Dataset
    identity: str
    number: int
    when: datetime
    row_direction: Floats
    column_direction: Floats
    pixel_mm: tuple[float, float]
    slice_thickness_mm: float
    extended: bool = False
    mode: str = "fast"

    def write(self, index: int, hu: NDArray[np.float32], position_mm: Floats) -> None:
        """Write slice ``index`` (from 0): ``hu (rows, columns)``, its first pixel's centre at ``position_mm``."""
        image = (
            Dataset()
        )  # not Dataset(self._common): that shares its table of elements, also between threads
        image.update(self._common)
        taken = self.when + index * _SECONDS_PER_SLICE
        image.SOPInstanceUID = uid(self.identity, "image", index)
        image.AcquisitionDate = image.ContentDate = taken.strftime("%Y%m%d")
        image.AcquisitionTime = image.ContentTime = taken.strftime("%H%M%S.%f")
        image.InstanceNumber = index + 1
        image.ImagePositionPatient = [_decimal(v) for v in position_mm]
        image.SliceLocation = _decimal(float(position_mm[2]))
        image.Rows, image.Columns = hu.shape
        largest_hu = LARGEST_EXTENDED_HU if self.extended else LARGEST_HU
        stored = np.rint(np.clip(hu, INTERCEPT_HU, largest_hu)) - INTERCEPT_HU
        image.PixelData = stored.astype("<u2").tobytes()
        image["PixelData"].VR = "OW"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = uid("simulated scanner")
        path = self.folder / f"CT{index + 1:04d}.dcm"
        FileDataset(path, image, preamble=b"\0" * 128, file_meta=meta).save_as(path, enforce_file_format=True)

    @cached_property
    def _common(self) -> Dataset:
        patient, image = self.patient, Dataset()
        image_type, mode, derivation = MODES[self.mode]
        image.SpecificCharacterSet = patient.get("SpecificCharacterSet", "ISO_IR 192")
        image.ImageType = ["DERIVED", "PRIMARY", "AXIAL", image_type]
        image.SOPClassUID = CTImageStorage
        image.StudyDate = image.SeriesDate = self.when.strftime("%Y%m%d")
        image.StudyTime = ""  # one study holds all scans of the session; its start isn't known to the scanner
        image.SeriesTime = self.when.strftime("%H%M%S")
        image.AccessionNumber = ""
        image.Modality = "CT"
        image.Manufacturer = "seedguide"
        image.ManufacturerModelName = "simulated CT scanner"
        image.ReferringPhysicianName = ""
        image.StudyDescription = "Simulated seed implantation"
        image.SeriesDescription = f"Simulated scan {self.number}, {self.slice_thickness_mm:g} mm, {mode}"
        image.DerivationDescription = derivation
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
            setattr(image, name, patient.get(name, ""))
        image.PatientIdentityRemoved = "YES"
        image.DeidentificationMethod = "simulated images of a research CT"
        if patient.get("BodyPartExamined"):
            image.BodyPartExamined = patient.BodyPartExamined
        else:
            image.Laterality = patient.get("Laterality", "")  # demanded where the body part isn't told
        image.SliceThickness = _decimal(self.slice_thickness_mm)
        image.SpacingBetweenSlices = _decimal(self.slice_thickness_mm)
        image.KVP = "120"
        image.PatientPosition = patient.get("PatientPosition", "HFS")
        image.ConvolutionKernel = "FAST" if self.mode == "fast" else "STANDARD"
        image.StudyInstanceUID = uid("study", patient.StudyInstanceUID, image.StudyDate)
        image.SeriesInstanceUID = uid(self.identity, "series")
        image.StudyID = "1"
        image.SeriesNumber = self.number
        image.AcquisitionNumber = self.number
        image.ImageOrientationPatient = [_decimal(v) for v in (*self.row_direction, *self.column_direction)]
        image.FrameOfReferenceUID = patient.FrameOfReferenceUID
        image.PositionReferenceIndicator = ""
        image.PixelSpacing = [_decimal(self.pixel_mm[1]), _decimal(self.pixel_mm[0])]
        image.SamplesPerPixel = 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.BitsAllocated = 16
        image.BitsStored = 16 if self.extended else 12
        image.HighBit = image.BitsStored - 1
        image.PixelRepresentation = 0
        image.WindowCenter, image.WindowWidth = "40", "400"
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = str(INTERCEPT_HU), "1", "HU"
        return image


def _decimal(value: float) -> str:
    """A DICOM decimal string of at most 16 characters."""
    return f"{value + 0.0:.6f}".rstrip("0").rstrip(".")[:16]
