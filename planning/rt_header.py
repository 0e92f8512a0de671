"""What every RT object written here has in common: patient, study, equipment, identifiers, and how it is saved."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)
from pydicom.valuerep import DSfloat

from planning.volume import CtVolume
from planning.whole_file import write_whole

IMPLEMENTATION_UID = generate_uid(entropy_srcs=["seedguide", "implementation"])
SERIES_NUMBER = {"RTSTRUCT": 101, "RTPLAN": 102, "RTDOSE": 103, "RTRECORD": 104}
NOT_A_DEVICE = "research and training software, not a medical device"


@dataclass(frozen=True)
class Origin:
    """When and from what an object is made, so that the same run writes the same bytes.

    Attributes:
        entropy: text that the new UIDs are derived from, e.g. the plan's content hash and the run's name.
        made_at: date and time that the object states.
    """

    entropy: str
    made_at: datetime

    def uid(self, *parts: str) -> str:
        """A UID that is the same for the same origin and parts, and no other's."""
        return str(generate_uid(entropy_srcs=["seedguide", self.entropy, self.made_at.isoformat(), *parts]))


def decimal(value: float) -> DSfloat:
    """A decimal string of at most 16 characters, as DICOM demands."""
    return DSfloat(float(value), auto_format=True)


def decimals(values: object) -> list[DSfloat]:
    return [decimal(value) for value in values]  # type: ignore[attr-defined]


def point_text(coordinates_mm: object) -> list[str]:
    """Coordinates to 0.001 mm, the resolution of a plan."""
    return [f"{value:.3f}" for value in coordinates_mm]  # type: ignore[attr-defined]


def new_object(ct: CtVolume, sop_class: str, modality: str, description: str, origin: Origin) -> FileDataset:
    """An RT object of the CT's patient, study and frame of reference, in a series of its own."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    new = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    date, time = origin.made_at.strftime("%Y%m%d"), origin.made_at.strftime("%H%M%S")
    new.SpecificCharacterSet = "ISO_IR 192"
    new.InstanceCreationDate, new.InstanceCreationTime = date, time
    new.SOPClassUID = sop_class
    known = ct.attributes
    for name in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(new, name, known.get(name) or "")
    if known.get("StudyDescription"):
        new.StudyDescription = known["StudyDescription"]
    new.SeriesDate, new.SeriesTime = date, time
    new.Modality = modality
    new.Manufacturer = "seedguide"
    new.ManufacturerModelName = NOT_A_DEVICE
    new.SoftwareVersions = "1"
    new.SeriesDescription = description[:64]
    new.OperatorsName = ""
    new.PatientName, new.PatientID = ct.patient_name, ct.patient_id
    new.PatientBirthDate = known.get("PatientBirthDate") or ""
    new.PatientSex = known.get("PatientSex") or ""
    new.StudyInstanceUID = ct.study_uid
    new.SeriesInstanceUID = origin.uid(modality, description, "series")
    new.SeriesNumber = SERIES_NUMBER[modality]
    new.InstanceNumber = 1
    new.FrameOfReferenceUID = ct.frame_of_reference_uid
    new.PositionReferenceIndicator = known.get("PositionReferenceIndicator") or ""
    return new


def reference(sop_class: str, uid: str) -> Dataset:
    """An item that points at another object."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def ct_image_references(ct: CtVolume) -> list[Dataset]:
    """One item per CT image; an enhanced CT is one image with many frames."""
    distinct = list(dict.fromkeys(ct.sop_uids))
    sop_class = CTImageStorage if len(distinct) == len(ct.sop_uids) else EnhancedCTImageStorage
    return [reference(sop_class, uid) for uid in distinct]


def save(new: FileDataset, path: Path, origin: Origin) -> str:
    """Give the object its UID, made from its content, and write it as a whole or not at all.

    Returns:
        The SOP Instance UID.

    Raises:
        AskedWrongly: the file can't be written.
    """
    uid = origin.uid(str(new.Modality), hashlib.sha256(_bytes(new, "0")).hexdigest())
    write_whole(path, _bytes(new, uid))
    return uid


def _bytes(new: FileDataset, uid: str) -> bytes:
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    written = BytesIO()
    new.save_as(written, enforce_file_format=True)
    return written.getvalue()
