"""RT Structure Set: targets and organs as contours, planned needles as lines from skin to tip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RTStructureSetStorage

from planning.contours import outlines
from planning.plan import Plan
from planning.refusal import AskedWrongly
from planning.rt_header import Origin, ct_image_references, new_object, point_text, save
from planning.volume import CtVolume

CONTOUR_DATA = Tag("ContourData")
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, what RT Referenced Study points at
COLOURS = ((255, 60, 60), (60, 200, 60), (80, 120, 255), (240, 180, 40), (200, 80, 220), (60, 210, 210))
NEEDLE_COLOUR = (250, 250, 120)


@dataclass(frozen=True, eq=False)
class MaskedStructure:
    """A structure to be written.

    Attributes:
        name: ROI name.
        interpreted_type: ``GTV``, ``CTV``, ``ORGAN``, ``EXTERNAL`` ...
        mask: bool ``(nz, ny, nx)`` on the CT's grid.
    """

    name: str
    interpreted_type: str
    mask: NDArray[np.bool_]


def write_rt_structures(
    path: Path,
    structures: Sequence[MaskedStructure],
    plan: Plan,
    ct: CtVolume,
    *,
    origin: Origin,
    label: str = "PRE-PLAN",
) -> str:
    """Write structures and the plan's needles as RT Structure Set on the CT.

    Returns:
        The SOP Instance UID, for the RT Plan to refer to.

    Raises:
        AskedWrongly: an empty structure; the file can't be written.
    """
    new = new_object(ct, RTStructureSetStorage, "RTSTRUCT", f"structures {label}", origin)
    new.StructureSetLabel = label[:16]
    new.StructureSetName = f"{plan.target} and needles"[:64]
    new.StructureSetDate = origin.made_at.strftime("%Y%m%d")
    new.StructureSetTime = origin.made_at.strftime("%H%M%S")
    new.ReferencedFrameOfReferenceSequence = [_frame_reference(ct)]
    new.StructureSetROISequence, new.ROIContourSequence, new.RTROIObservationsSequence = [], [], []
    images = ct_image_references(ct)
    for k, structure in enumerate(structures):
        number, colour = len(plan.needles) + k + 1, COLOURS[k % len(COLOURS)]
        contours = _mask_contours(structure, ct, images)
        _add(new, number, structure.name, structure.interpreted_type, colour, contours)
    # Needle k is region k, so that an RT Plan's channels can point at it.
    for number, needle in enumerate(plan.needles, start=1):
        line = _contour("OPEN_NONPLANAR", np.array([needle.entry_mm, needle.tip_mm]))
        _add(new, number, f"Needle {needle.name}", "BRACHY_CHANNEL", NEEDLE_COLOUR, [line])
    return save(new, path, origin)


def _frame_reference(ct: CtVolume) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = ct.series_uid
    series.ContourImageSequence = ct_image_references(ct)
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_CLASS, ct.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = ct.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _add(
    new: Dataset,
    number: int,
    name: str,
    interpreted_type: str,
    colour: tuple[int, int, int],
    contours: list[Dataset],
) -> None:
    region = Dataset()
    region.ROINumber = number
    region.ReferencedFrameOfReferenceUID = new.FrameOfReferenceUID
    region.ROIName = name[:64]
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    new.StructureSetROISequence.append(region)
    drawn = Dataset()
    drawn.ROIDisplayColor = list(colour)
    drawn.ReferencedROINumber = number
    drawn.ContourSequence = contours
    new.ROIContourSequence.append(drawn)
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = interpreted_type
    observation.ROIInterpreter = ""
    new.RTROIObservationsSequence.append(observation)


def _mask_contours(structure: MaskedStructure, ct: CtVolume, images: list[Dataset]) -> list[Dataset]:
    mask = np.asarray(structure.mask, dtype=bool)
    if mask.shape != ct.grid.shape:
        raise ValueError(f"{structure.name}: mask of shape {mask.shape} on a CT of {ct.grid.shape}")
    slices = [int(k) for k in np.nonzero(mask.any(axis=(1, 2)))[0]]
    if not slices:
        raise AskedWrongly(f"structure '{structure.name}' is empty on the CT and was not written.")
    x0, y0, _ = ct.grid.origin_mm
    dx, dy, _ = ct.grid.spacing_mm
    z_mm = ct.grid.centres_mm(2)
    contours = []
    for k in slices:
        for line in outlines(mask[k]):
            points = np.column_stack(
                [x0 + dx * line[:, 1], y0 + dy * line[:, 0], np.full(len(line), z_mm[k])]
            )
            image = images[k] if len(images) == len(z_mm) else None
            contours.append(_contour("CLOSED_PLANAR", points, image))
    return contours


def _contour(kind: str, points_mm: NDArray[np.float64], image: Dataset | None = None) -> Dataset:
    item = Dataset()
    if image is not None:
        item.ContourImageSequence = [image]
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(points_mm)
    # As encoded text at once, and so declared: pydicom would make an object of every single decimal string.
    text = "\\".join(point_text(points_mm.ravel().tolist())).encode("ascii")
    text += b" " * (len(text) % 2)
    item.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=default_encoding
    )
    item[CONTOUR_DATA] = RawDataElement(CONTOUR_DATA, "DS", len(text), text, 0, False, True)
    return item
