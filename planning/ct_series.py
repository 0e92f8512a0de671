"""Slices of one CT series -> a volume on an LPS lattice.

Source: DICOM PS3.3 C.7.6.2 (Image Plane), C.8.2 (CT Image), C.8.15 (Enhanced CT). The order of the slices
is that of their positions; instance numbers and file names mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from planning.dicom_files import ENHANCED_CT, DicomFile, plain, reading, required, required_floats
from planning.frame import Floats
from planning.refusal import AskedWrongly
from planning.volume import CtVolume, Grid

AXIS_TOLERANCE = 1e-3  # of a direction cosine against a patient axis: 0.25 mm over 250 mm
POSITION_TOLERANCE_MM = 0.1  # of a slice against the regular lattice; scanners round positions
AIR_HU = -1024
COPIED = (
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientBirthDate",
    "PatientSex",
    "PatientPosition",
    "Manufacturer",
    "SeriesDescription",
    "PositionReferenceIndicator",
)


@dataclass(frozen=True, eq=False)
class _Slice:
    """One plane of a file; ``size`` is (rows, columns), ``padding`` the stored values that mean no picture."""

    file: DicomFile
    frame: int
    size: tuple[int, int]
    position_mm: Floats
    orientation: Floats
    pixel_spacing_mm: Floats
    slope: float
    intercept: float
    padding: tuple[int, int] | None


def volume_of(files: list[DicomFile]) -> CtVolume:
    """The CT volume of the files of one series.

    Raises:
        AskedWrongly: not one axial, complete, evenly spaced stack of readable slices.
    """
    slices: list[_Slice] = []
    for file in files:
        with reading(file.path):
            slices += _slices_of(file)
    first = slices[0]
    if len(slices) < 2:
        raise AskedWrongly(
            f"{first.file.path}: the CT series has only one slice; a volume needs two or more."
        )
    for other in slices[1:]:
        _check_alike(first, other)
    (x_axis, x_sign), (y_axis, y_sign) = _axes(first)
    slices.sort(key=lambda plane: float(plane.position_mm[2]))
    z_spacing = _even_spacing(slices)

    hu = _pixels(slices)
    hu = hu[:, :: int(y_sign), :: int(x_sign)]
    if x_axis == 1:  # decubitus: the image's rows run along the patient's y
        hu = hu.transpose(0, 2, 1)
    row_step, column_step = first.pixel_spacing_mm
    rows, columns = first.size
    origin = slices[0].position_mm.copy()
    origin[x_axis] -= (columns - 1) * column_step if x_sign < 0 else 0.0
    origin[y_axis] -= (rows - 1) * row_step if y_sign < 0 else 0.0
    spacing = [0.0, 0.0, z_spacing]
    spacing[x_axis], spacing[y_axis] = float(column_step), float(row_step)

    header, path = first.file.header, first.file.path
    with reading(path):
        thickness = _thickness(header) or z_spacing
        return CtVolume(
            hu=np.ascontiguousarray(hu),
            grid=Grid(
                shape=(hu.shape[0], hu.shape[1], hu.shape[2]),
                origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
                spacing_mm=(spacing[0], spacing[1], spacing[2]),
            ),
            frame_of_reference_uid=str(required(header, "FrameOfReferenceUID", path)),
            series_uid=str(required(header, "SeriesInstanceUID", path)),
            study_uid=str(required(header, "StudyInstanceUID", path)),
            patient_id=str(header.get("PatientID") or "").strip(),
            patient_name=str(header.get("PatientName") or "").strip(),
            sop_uids=tuple(str(required(s.file.header, "SOPInstanceUID", s.file.path)) for s in slices),
            slice_thickness_mm=thickness,
            attributes={tag: str(value) for tag in COPIED if (value := header.get(tag)) is not None},
            remarks=_remarks(files),
            acquired=_acquired(files),
        )


def _acquired(files: list[DicomFile]) -> tuple[str, str] | None:
    """First and last acquisition time (PS3.3 C.8.2.1, C.8.15.2); one scanner's clock, so its zone is left out."""
    times = []
    for file in files:
        stated = str(file.header.get("AcquisitionDateTime") or "").split("+")[0].split("-")[0]
        if not stated and file.header.get("AcquisitionTime"):
            day = file.header.get("AcquisitionDate") or ""
            stated = f"{day}{file.header.get('AcquisitionTime')}"
        try:
            shape = "%Y%m%d%H%M%S.%f" if "." in stated else "%Y%m%d%H%M%S"
            times.append(datetime.strptime(stated.strip(), shape).isoformat(timespec="microseconds"))
        except ValueError:
            return None
    return min(times), max(times)


def _remarks(files: list[DicomFile]) -> tuple[str, ...]:
    lossy = [file for file in files if str(file.header.get("LossyImageCompression") or "") == "01"]
    if not lossy:
        return ()
    return (
        f"{len(lossy)} of {len(files)} CT files were once compressed with loss (such as {lossy[0].path.name}): their "
        "Hounsfield units are not quite the scanner's; ask for the original series.",
    )


def _slices_of(file: DicomFile) -> list[_Slice]:
    header, path = file.header, file.path
    if str(required(header, "PhotometricInterpretation", path)) != "MONOCHROME2":
        raise AskedWrongly(f"{path}: PhotometricInterpretation is not MONOCHROME2; no plain CT image.")
    if file.kind in ENHANCED_CT:
        frames = list(required(header, "PerFrameFunctionalGroupsSequence", path))
        shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        return [_plane(file, number, (frame, shared[0])) for number, frame in enumerate(frames)]
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise AskedWrongly(f"{path}: several frames in a plain CT image; export it as single slices.")
    return [_plane(file, 0, ())]


def _plane(file: DicomFile, frame: int, groups: tuple[Dataset, ...]) -> _Slice:
    """One frame; ``groups`` are an enhanced CT's functional groups, the frame's own first."""

    def macro(sequence: str) -> Dataset:
        for group in groups:
            if group.get(sequence):
                return group[sequence].value[0]  # type: ignore[no-any-return]
        return file.header

    def floats(sequence: str, keyword: str, count: int) -> Floats:
        return required_floats(macro(sequence), keyword, count, file.path)

    spacing = floats("PixelMeasuresSequence", "PixelSpacing", 2)
    if not (spacing > 0.0).all():
        raise AskedWrongly(f"{file.path}: PixelSpacing must be positive.")
    return _Slice(
        file=file,
        frame=frame,
        size=(
            int(required(file.header, "Rows", file.path)),
            int(required(file.header, "Columns", file.path)),
        ),
        position_mm=floats("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=floats("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        pixel_spacing_mm=spacing,
        slope=float(floats("PixelValueTransformationSequence", "RescaleSlope", 1)[0]),
        intercept=float(floats("PixelValueTransformationSequence", "RescaleIntercept", 1)[0]),
        padding=_padding(file.header),
    )


def _padding(header: Dataset) -> tuple[int, int] | None:
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    return (min(value, limit), max(value, limit)) if isinstance(limit, int) else (value, value)


def _thickness(header: Dataset) -> float:
    groups = header.get("SharedFunctionalGroupsSequence")
    if groups and groups[0].get("PixelMeasuresSequence"):
        header = groups[0].PixelMeasuresSequence[0]
    return float(header.get("SliceThickness") or 0.0)


def _check_alike(first: _Slice, other: _Slice) -> None:
    if first.size != other.size:
        raise AskedWrongly(f"{other.file.path}: Rows or Columns differ from those of {first.file.path.name}.")
    if not np.allclose(first.pixel_spacing_mm, other.pixel_spacing_mm, atol=1e-4):
        raise AskedWrongly(f"{other.file.path}: PixelSpacing differs from that of {first.file.path.name}.")
    if not np.allclose(first.orientation, other.orientation, atol=1e-4):
        raise AskedWrongly(
            f"{other.file.path}: ImageOrientationPatient differs from that of {first.file.path.name}."
        )
    if not np.allclose(first.position_mm[:2], other.position_mm[:2], atol=POSITION_TOLERANCE_MM):
        raise AskedWrongly(
            f"{other.file.path}: the slice is shifted against {first.file.path.name} (gantry tilt?); "
            "use an untilted series."
        )


def _axes(plane: _Slice) -> tuple[tuple[int, float], tuple[int, float]]:
    """Patient axis (0 = x, 1 = y) and sign along which the columns' and the rows' index grows."""
    along_row, along_column = plane.orientation[:3], plane.orientation[3:]
    found = []
    for cosines in (along_row, along_column):
        axis = int(np.argmax(np.abs(cosines)))
        sign = float(np.sign(cosines[axis])) or 1.0
        if np.abs(cosines - sign * np.eye(3)[axis]).max() > AXIS_TOLERANCE:
            raise AskedWrongly(
                f"{plane.file.path}: the slices are tilted or oblique (ImageOrientationPatient "
                f"{', '.join(f'{v:.4g}' for v in plane.orientation)}); use an untilted axial series."
            )
        found.append((axis, sign))
    if {found[0][0], found[1][0]} != {0, 1}:
        raise AskedWrongly(f"{plane.file.path}: the slices are not axial; use the axial series.")
    return found[0], found[1]


def _even_spacing(slices: list[_Slice]) -> float:
    """Spacing in mm of slices sorted by position."""
    z = np.array([plane.position_mm[2] for plane in slices])
    steps = np.diff(z)
    for k in np.flatnonzero(steps < 1e-3):
        raise AskedWrongly(
            f"{slices[k + 1].file.path}: two slices at the same position (z = {z[k]:.2f} mm), the other is "
            f"{slices[k].file.path.name}; remove one series or reconstruction."
        )
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    folder = slices[0].file.path.parent
    for k in np.flatnonzero(steps > 1.5 * usual):
        raise AskedWrongly(
            f"{folder}: a CT slice is missing between z = {z[k]:.2f} and {z[k + 1]:.2f} mm (the others are "
            f"{usual:.3g} mm apart); export the complete series."
        )
    spacing = float((z[-1] - z[0]) / (len(z) - 1))
    if np.abs(z - z[0] - spacing * np.arange(len(z))).max() > POSITION_TOLERANCE_MM:
        raise AskedWrongly(
            f"{folder}: the CT slices are unevenly spaced ({steps.min():.3g} to {steps.max():.3g} mm); use a "
            "series with one spacing."
        )
    return round(spacing, 6)


def _pixels(slices: list[_Slice]) -> NDArray[np.int16]:
    """``int16 (slices, rows, columns)`` in HU."""
    volume: NDArray[np.int16] | None = None
    decoded: dict[int, NDArray[np.generic]] = {}  # a multi-frame file is decoded once
    for k, plane in enumerate(slices):
        path = plane.file.path
        stored = decoded.get(id(plane.file))
        if stored is None:
            with reading(path):
                stored = _stored(plane)
            if plane.file.kind in ENHANCED_CT:
                decoded[id(plane.file)] = stored
        if plane.frame >= len(stored):
            raise AskedWrongly(f"{path}: fewer frames of pixels than the header tells.")
        hu = _hounsfield(stored[plane.frame], plane)
        if volume is None:
            volume = np.empty((len(slices), *hu.shape), dtype=np.int16)
        volume[k] = hu
    assert volume is not None
    return volume


def _stored(plane: _Slice) -> NDArray[np.generic]:
    """Stored values ``(frames, rows, columns)`` of the plane's file."""
    path = plane.file.path
    dataset = pydicom.dcmread(path, force=True)
    for tag in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"):
        required(dataset, tag, path)
    if "PixelData" not in dataset:
        raise AskedWrongly(f"{path}: no pixel data; the file is cut short.")
    if "TransferSyntaxUID" not in dataset.file_meta:  # a file without preamble has no file meta group
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.SamplesPerPixel != 1 or dataset.BitsAllocated not in (8, 16):
        raise AskedWrongly(f"{path}: neither 8 nor 16 bits of grey; no plain CT image.")
    if dataset.BitsStored <= 8:
        raise AskedWrongly(
            f"{path}: 256 shades of grey are no Hounsfield units; ask for the original series."
        )
    try:
        pixels = np.asarray(dataset.pixel_array)
    except Exception as problem:
        words = plain(str(problem).strip().split("\n")[0].split(". ")[0], 160)
        raise AskedWrongly(
            f"{path}: the pixels can't be decoded ({syntax.name}: {words.rstrip(':')}); if other files of the series "
            "fail too, ask for it uncompressed."
        ) from problem
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    if pixels.shape[1:] != plane.size:
        raise AskedWrongly(f"{path}: the pixels do not fit Rows and Columns.")
    # Bits above the stored ones may hold anything (old overlays); shift them out, with the sign restored.
    unused = np.array(int(dataset.BitsAllocated) - int(dataset.BitsStored), dtype=pixels.dtype)
    if 0 < unused < dataset.BitsAllocated and int(dataset.get("HighBit", -1)) == dataset.BitsStored - 1:
        pixels = (pixels << unused) >> unused
    return pixels


def _hounsfield(stored: NDArray[np.generic], plane: _Slice) -> NDArray[np.int16]:
    values = stored.astype(np.float32)
    scaled = values * np.float32(plane.slope) + np.float32(plane.intercept)
    hu: NDArray[np.int16] = np.clip(np.rint(scaled), AIR_HU, 32767).astype(np.int16)
    # Low padding is clipped to air anyhow; a value between is no padding but a scanner's careless header.
    if plane.padding is not None and plane.padding[0] * plane.slope + plane.intercept > 3071:
        hu[(values >= plane.padding[0]) & (values <= plane.padding[1])] = AIR_HU
    return hu
