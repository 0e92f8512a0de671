"""Made CT series and RT Structure Sets for tests; written with pydicom alone, nothing of ours.

    make_case(folder, *, shape=(40, 96, 96), spacing_mm=(1.5, 1.5, 2.5), origin_mm=None, hu=None,
              structures=None, types=None, patient_position="HFS", patient_id="MADE", seed=0,
              signed=False, slopes=(1.0,), with_structures=True) -> MadeCase

writes ``folder/ct/*.dcm`` (file names and instance numbers in a scrambled order) and
``folder/structures.dcm``. Arrays are ``(nz, ny, nx)`` and all positions mm on LPS axes, ``spacing_mm`` and
``origin_mm`` in the order (x, y, z), whatever the ``patient_position``; that only changes how the pixels lie
in the files. Without ``hu`` and ``structures`` the patient is ``phantom(...)``: a body a whole small procedure can be
played on. ``structures`` maps names to lists of closed contours ``(n, 3)``; ``ball``, ``tube`` and
``ring`` make such lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
Contours = list[np.ndarray]

# Directions (LPS) in which the column and the row index of an image grow, PS3.3 C.7.3.1.1.2.
ORIENTATIONS = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "HFDR": (0, 1, 0, -1, 0, 0),
    "HFDL": (0, -1, 0, 1, 0, 0),
    "FFDR": (0, 1, 0, 1, 0, 0),
    "FFDL": (0, -1, 0, -1, 0, 0),
}


@dataclass(frozen=True)
class MadeCase:
    """What was written: the folder, its files (CT by rising z) and the truth behind them."""

    folder: Path
    ct_paths: tuple[Path, ...]
    structure_path: Path | None
    hu: np.ndarray
    origin_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    structures: dict[str, Contours]


def make_case(
    folder: Path,
    *,
    shape: tuple[int, int, int] = (40, 96, 96),
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 2.5),
    origin_mm: tuple[float, float, float] | None = None,
    hu: np.ndarray | None = None,
    structures: dict[str, Contours] | None = None,
    types: dict[str, str] | None = None,
    patient_position: str = "HFS",
    patient_id: str = "MADE",
    seed: int = 0,
    signed: bool = False,
    slopes: tuple[float, ...] = (1.0,),
    with_structures: bool = True,
) -> MadeCase:
    """Write a case; see the head of this file. ``slopes`` are given to the slices in turn."""
    if origin_mm is None:
        origin_mm = tuple(-0.5 * (n - 1) * d for n, d in zip(shape[::-1], spacing_mm, strict=True))
    phantom_hu, phantom_structures = phantom(shape, spacing_mm, origin_mm, seed)
    hu = phantom_hu if hu is None else np.asarray(hu, dtype=np.int16)
    structures = phantom_structures if structures is None else structures
    uids = {
        word: generate_uid(entropy_srcs=[patient_id, str(seed), word])
        for word in ("study", "series", "frame")
    }

    (folder / "ct").mkdir(parents=True)
    shuffled = np.random.default_rng(seed).permutation(len(hu))
    paths = []
    for k, plane in enumerate(hu):
        image = _image(
            plane, k, int(shuffled[k]) + 1, patient_position, spacing_mm, origin_mm, uids, patient_id
        )
        _set_pixels(image, slopes[k % len(slopes)], signed)
        paths.append(folder / "ct" / f"{shuffled[k]:04d}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    structure_path = None
    if with_structures:
        structure_path = folder / "structures.dcm"
        write_structures(structure_path, structures, types=types or {}, uids=uids, patient_id=patient_id)
    return MadeCase(folder, tuple(paths), structure_path, hu, origin_mm, spacing_mm, structures)


def phantom(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Contours]]:
    """A patient of 128 x 112 mm across (smaller when the image is): soft tissue, spine with cord, airway, target.

    Returns HU ``int16 (nz, ny, nx)`` with 10 HU of noise, and contours of External, GTV (a ball of radius
    about 12 mm, 2 cm under the skin on the left), SpinalCord, Bone and Airway. All are cylinders along z
    but the GTV.
    """
    rng = np.random.default_rng(seed)
    x, y, z = (o + d * np.arange(n) for o, d, n in zip(origin_mm, spacing_mm, shape[::-1], strict=True))
    centre = np.array([x.mean(), y.mean(), z.mean()])
    scale = min(1.0, np.ptp(x) / 140.0, np.ptp(y) / 140.0)
    cx, cy, cz = centre
    body = (cx, cy, 64.0 * scale, 56.0 * scale)
    airway = (cx, cy - 5.0 * scale, 7.0 * scale, 7.0 * scale)
    spine = (cx, cy + 32.0 * scale, 14.0 * scale, 14.0 * scale)
    cord = (cx, cy + 32.0 * scale, 5.0 * scale, 5.0 * scale)
    target = (
        *(np.array([cx + 30.0 * scale, cy - 12.0 * scale, cz]) + rng.uniform(-2, 2, 3) * scale),
        12.0 * scale,
    )

    xx, yy = np.meshgrid(x, y)

    def inside(ellipse: tuple[float, float, float, float]) -> np.ndarray:
        return ((xx - ellipse[0]) / ellipse[2]) ** 2 + ((yy - ellipse[1]) / ellipse[3]) ** 2 < 1.0

    plane = np.full(xx.shape, -1000.0)
    for ellipse, value in ((body, 30.0), (airway, -1000.0), (spine, 700.0), (cord, 30.0)):
        plane[inside(ellipse)] = value
    hu = np.repeat(plane[np.newaxis], shape[0], axis=0)
    zz = z[:, np.newaxis, np.newaxis]
    hu[(xx - target[0]) ** 2 + (yy - target[1]) ** 2 + (zz - target[2]) ** 2 < target[3] ** 2] = 55.0
    hu += rng.normal(0.0, 10.0, hu.shape)
    structures = {
        "External": tube(z, *body),
        "GTV": ball(z, *target),
        "SpinalCord": tube(z, *cord),
        "Bone": [c for pair in zip(tube(z, *spine), tube(z, *cord), strict=True) for c in pair],
        "Airway": tube(z, *airway),
    }
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), structures


def ring(x: float, y: float, z: float, a: float, b: float, corners: int = 90) -> np.ndarray:
    """An ellipse's contour ``(corners, 3)`` with semi-axes ``a`` and ``b``."""
    angle = 2.0 * np.pi * np.arange(corners) / corners
    return np.column_stack([x + a * np.cos(angle), y + b * np.sin(angle), np.full(corners, z)])


def tube(heights_mm: np.ndarray, x: float, y: float, a: float, b: float) -> Contours:
    """A cylinder's contours at the given heights."""
    return [ring(x, y, float(z), a, b) for z in heights_mm]


def ball(heights_mm: np.ndarray, x: float, y: float, z: float, radius: float) -> Contours:
    """A ball's contours at those of the heights that cut it."""
    cuts = [(float(h), float(np.sqrt(radius**2 - (h - z) ** 2))) for h in heights_mm if abs(h - z) < radius]
    return [ring(x, y, h, r, r) for h, r in cuts if r > 0.2]


def write_structures(
    path: Path,
    structures: dict[str, Contours],
    *,
    types: dict[str, str],
    uids: dict[str, str],
    patient_id: str = "MADE",
) -> None:
    """An RT Structure Set; a structure's type is its own in ``types``, else GTV, EXTERNAL or ORGAN by its name."""
    usual = {"gtv": "GTV", "external": "EXTERNAL"}
    dataset = _dataset(
        RT_STRUCTURE_SET, generate_uid(entropy_srcs=[uids["series"], "structures"]), uids, patient_id
    )
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[uids["series"], "structure series"])
    dataset.StructureSetLabel = "MADE"
    frame = Dataset()
    frame.FrameOfReferenceUID = uids["frame"]
    dataset.ReferencedFrameOfReferenceSequence = Sequence([frame])
    rois, contours, observations = [], [], []
    for number, (name, lines) in enumerate(structures.items(), start=1):
        roi, drawn, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, uids["frame"]
        roi.ROIGenerationAlgorithm = "MANUAL"
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = Sequence([_contour(line) for line in lines])
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = types.get(name, usual.get(name.lower(), "ORGAN"))
        rois.append(roi)
        contours.append(drawn)
        observations.append(observation)
    dataset.StructureSetROISequence = Sequence(rois)
    dataset.ROIContourSequence = Sequence(contours)
    dataset.RTROIObservationsSequence = Sequence(observations)
    dataset.save_as(path, enforce_file_format=True)


def _contour(line: np.ndarray) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(line)
    item.ContourData = [f"{value:.3f}" for value in np.asarray(line).ravel()]
    return item


def _dataset(kind: str, uid: str, uids: dict[str, str], patient_id: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, uid
    dataset.PatientID, dataset.PatientName = patient_id, f"{patient_id}^PHANTOM"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.AccessionNumber = "", "", ""
    dataset.StudyInstanceUID, dataset.StudyID = uids["study"], "1"
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20200101", "120000", ""
    return dataset


def _image(
    plane: np.ndarray,
    k: int,
    instance: int,
    patient_position: str,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    uids: dict[str, str],
    patient_id: str,
) -> FileDataset:
    """A CT slice whose float HU stand, still unstored, in ``_hu``."""
    cosines = np.array(ORIENTATIONS[patient_position], dtype=float)
    along_row, along_column = int(np.abs(cosines[:3]).argmax()), int(np.abs(cosines[3:]).argmax())
    pixels = plane if along_row == 0 else plane.T
    position = np.array([origin_mm[0], origin_mm[1], origin_mm[2] + k * spacing_mm[2]])
    extent = {0: (plane.shape[1] - 1) * spacing_mm[0], 1: (plane.shape[0] - 1) * spacing_mm[1]}
    if cosines[along_row] < 0:
        pixels = pixels[:, ::-1]
        position[along_row] += extent[along_row]
    if cosines[3 + along_column] < 0:
        pixels = pixels[::-1]
        position[along_column] += extent[along_column]

    image = _dataset(CT_IMAGE, generate_uid(entropy_srcs=[uids["series"], str(k)]), uids, patient_id)
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SeriesInstanceUID, image.FrameOfReferenceUID = uids["series"], uids["frame"]
    image.PatientPosition, image.SeriesNumber, image.InstanceNumber = patient_position, 1, instance
    image.SliceThickness = f"{spacing_mm[2]:g}"
    image.ImagePositionPatient = [f"{value:.6g}" for value in position]
    image.ImageOrientationPatient = [f"{value:g}" for value in cosines]
    image.PixelSpacing = [f"{spacing_mm[along_column]:g}", f"{spacing_mm[along_row]:g}"]
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image._hu = pixels.astype(float)
    return image


def _set_pixels(image: FileDataset, slope: float, signed: bool) -> None:
    intercept = 0.0 if signed else -1024.0
    stored = np.rint((image._hu - intercept) / slope)
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(signed)
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = f"{slope:g}", f"{intercept:g}", "HU"
    image.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    del image._hu
