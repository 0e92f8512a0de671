"""A folder as it comes from the hospital -> a CT volume and the structures drawn on it.

Source: DICOM PS3.3 (A.3 CT Image, A.38 Enhanced CT, A.19 RT Structure Set).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from planning.ct_series import volume_of
from planning.dicom_files import (
    CT_IMAGE,
    ENHANCED_CT,
    RT_STRUCTURE_SET,
    DicomFile,
    find_dicom,
    named,
    plain,
    reading,
    required,
)
from planning.frame import Floats
from planning.refusal import AskedWrongly
from planning.volume import CtVolume

CONTOUR_DATA = 0x30060050


@dataclass(frozen=True, eq=False)
class Structure:
    """A drawn structure.

    Attributes:
        name, number: ROI Name and ROI Number.
        interpreted_type: RT ROI Interpreted Type, e.g. ``GTV``, ``ORGAN``, ``EXTERNAL``, or empty.
        contours: each ``(n, 3)``, closed, mm in the patient frame; none when nothing is drawn.
    """

    name: str
    number: int
    interpreted_type: str
    contours: tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A patient to be planned."""

    ct: CtVolume
    structures: tuple[Structure, ...]
    structure_set_uid: str


def read_ct(folder: Path) -> CtVolume:
    """The one CT series in ``folder`` (nested folders included; other objects and localizers ignored).

    Raises:
        AskedWrongly: no CT, two series, patients or frames, or a series that is no complete regular stack.
    """
    return _read_ct(find_dicom(folder), folder)


def read_case(folder: Path) -> Case:
    """The CT series and the RT Structure Set in ``folder``.

    Raises:
        AskedWrongly: as ``read_ct``; no or several structure sets; one of another patient or frame.
    """
    files = find_dicom(folder)
    ct = _read_ct(files, folder)
    sets = [file for file in files if file.kind == RT_STRUCTURE_SET]
    if not sets:
        raise AskedWrongly(f"{folder}: no RT Structure Set beside the CT; export the structures too.")
    if len(sets) > 1:
        names = ", ".join(str(file.path.relative_to(folder)) for file in sets)
        raise AskedWrongly(
            f"{folder}: {len(sets)} RT Structure Sets ({names}); leave only one in the folder."
        )
    file = sets[0]
    with reading(file.path):
        _one_patient([*_ct_files(files), file], folder)
        uid = str(required(file.header, "SOPInstanceUID", file.path))
        return Case(ct, _structures(file, ct.frame_of_reference_uid), uid)


def _ct_files(files: list[DicomFile]) -> list[DicomFile]:
    found = []
    for file in files:
        if file.kind == CT_IMAGE or file.kind in ENHANCED_CT:
            with reading(file.path):
                image_type = file.header.get("ImageType") or ()
                if "LOCALIZER" not in ([image_type] if isinstance(image_type, str) else image_type):
                    found.append(file)
    return found


def _read_ct(files: list[DicomFile], folder: Path) -> CtVolume:
    slices = _ct_files(files)
    if not slices:
        raise AskedWrongly(f"{folder}: no CT images in the folder or below it.")
    _one_patient(slices, folder)
    series: dict[str, list[DicomFile]] = {}
    frames = set()
    for file in slices:
        with reading(file.path):
            series.setdefault(str(required(file.header, "SeriesInstanceUID", file.path)), []).append(file)
            frames.add(str(required(file.header, "FrameOfReferenceUID", file.path)))
    if len(series) > 1:
        with reading(folder):
            words = ", ".join(_series_in_words(group) for group in series.values())
        raise AskedWrongly(f"{folder}: {len(series)} CT series ({words}); leave only one in the folder.")
    if len(frames) > 1:
        raise AskedWrongly(
            f"{folder}: the CT slices have {len(frames)} frames of reference; export one scan as it was made."
        )
    return volume_of(slices)


def _series_in_words(files: list[DicomFile]) -> str:
    header = files[0].header
    number, words = header.get("SeriesNumber"), plain(header.get("SeriesDescription") or "")
    label = " ".join(part for part in ("" if number is None else str(number), f"'{words}'") if part)
    return f"series {label} with {len(files)} file(s) such as {files[0].path.name}"


def _one_patient(files: list[DicomFile], folder: Path) -> None:
    patients: dict[str, Path] = {}
    for file in files:
        with reading(file.path):
            who = str(file.header.get("PatientID") or file.header.get("PatientName") or "").strip()
            if who:  # an anonymised object without any is no proof of a second patient
                patients.setdefault(who, file.path)
    if len(patients) > 1:
        words = ", ".join(f"'{plain(who)}' in {path.name}" for who, path in patients.items())
        raise AskedWrongly(
            f"{folder}: {len(patients)} patients ({words}); leave only one patient in the folder."
        )


def _structures(file: DicomFile, frame_of_reference_uid: str) -> tuple[Structure, ...]:
    header, path = file.header, file.path
    contours: dict[int, tuple[Floats, ...]] = {}
    for item in _sequence(header, "ROIContourSequence"):
        number = int(required(item, "ReferencedROINumber", path))
        found = (_contour(contour, number, path) for contour in _sequence(item, "ContourSequence"))
        contours[number] = tuple(points for points in found if points is not None)
    types = {
        int(required(item, "ReferencedROINumber", path)): str(item.get("RTROIInterpretedType") or "").upper()
        for item in _sequence(header, "RTROIObservationsSequence")
    }
    structures = []
    for item in required(header, "StructureSetROISequence", path):
        number = int(required(item, "ROINumber", path))
        name = plain(item.get("ROIName") or "") or f"ROI {number}"
        if contours.get(number):
            _check_frame(item, header, name, frame_of_reference_uid, path)
        structures.append(Structure(name, number, types.get(number, ""), contours.get(number, ())))
    return tuple(structures)


def _check_frame(item: Dataset, header: Dataset, name: str, uid: str, path: Path) -> None:
    stated = item.get("ReferencedFrameOfReferenceUID") or header.get("FrameOfReferenceUID")
    if not stated:
        frames = [
            f.get("FrameOfReferenceUID") for f in _sequence(header, "ReferencedFrameOfReferenceSequence")
        ]
        stated = frames[0] if len(frames) == 1 else None
    if not stated:
        tag = named("ReferencedFrameOfReferenceUID")
        raise AskedWrongly(
            f"{path}: structure '{name}' does not tell its frame of reference ({tag} is missing)."
        )
    if str(stated) != uid:
        raise AskedWrongly(
            f"{path}: structure '{name}' is drawn in another frame of reference than the CT's; export the "
            "structure set that belongs to this CT."
        )


def _sequence(header: Dataset, keyword: str) -> Sequence[Dataset]:
    value: Any = header.get(keyword)
    return () if value is None else tuple(value)


def _contour(item: Dataset, number: int, path: Path) -> Floats | None:
    """``(n, 3)`` of a closed contour; None for points and open lines, which enclose nothing."""
    if str(item.get("ContourGeometricType") or "CLOSED_PLANAR") not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
        return None
    if CONTOUR_DATA not in item:
        return None
    raw = item.get_item(CONTOUR_DATA)
    # The text is split here because pydicom's decimal-string objects take 30 times as long.
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        values: Any = raw.value.strip(b"\0 ").split(b"\\") if raw.value.strip(b"\0 ") else []
    else:
        values = np.atleast_1d(item[CONTOUR_DATA].value) if item[CONTOUR_DATA].value else []
    try:
        numbers = np.array(values, dtype=float)
    except ValueError as problem:
        raise AskedWrongly(
            f"{path}: {named('ContourData')} of ROI number {number} holds something that is no number."
        ) from problem
    if numbers.size % 3 or not np.isfinite(numbers).all():
        raise AskedWrongly(f"{path}: {named('ContourData')} of ROI number {number} is no list of x, y, z.")
    return numbers.reshape(-1, 3) if numbers.size >= 9 else None
