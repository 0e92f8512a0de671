"""Reading a hospital's folder: what was written comes back, and what can't be used is refused in one sentence."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_dicom import ORIENTATIONS, MadeCase, make_case, ring
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from planning.dicom import read_case, read_ct
from planning.refusal import AskedWrongly

SMALL = {"shape": (6, 20, 24), "spacing_mm": (3.0, 2.0, 2.5)}
Edit = Callable[[Dataset], None]


@pytest.fixture
def case(tmp_path: Path) -> MadeCase:
    return make_case(tmp_path / "case", **SMALL, structures={"GTV": [ring(0, 0, 1.25, 8, 8)]})


def edit(path: Path, change: Edit) -> None:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path, implicit_vr=dataset.file_meta.TransferSyntaxUID.is_implicit_VR, little_endian=True)


def refusal(folder: Path) -> str:
    with pytest.raises(AskedWrongly) as caught:
        read_case(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("position", sorted(ORIENTATIONS))
def test_every_patient_position_gives_the_same_lps_volume(tmp_path: Path, position: str) -> None:
    made = make_case(
        tmp_path / "case", **SMALL, patient_position=position, signed=position[0] == "F", slopes=(1.0, 0.5)
    )
    ct = read_ct(made.folder)
    assert ct.grid.shape == SMALL["shape"]
    np.testing.assert_array_equal(ct.hu, made.hu)
    np.testing.assert_allclose(ct.grid.origin_mm, made.origin_mm, atol=1e-3)
    np.testing.assert_allclose(ct.grid.spacing_mm, made.spacing_mm, atol=1e-6)
    assert ct.sop_uids == tuple(str(pydicom.dcmread(path).SOPInstanceUID) for path in made.ct_paths)
    assert ct.attributes["PatientPosition"] == position


def test_structures_and_identity_come_as_written(tmp_path: Path) -> None:
    made = make_case(tmp_path / "case", **SMALL, types={"Bone": "AVOIDANCE"})
    case = read_case(made.folder)
    assert [structure.name for structure in case.structures] == list(made.structures)
    for structure in case.structures:
        for found, truth in zip(structure.contours, made.structures[structure.name], strict=True):
            np.testing.assert_allclose(found, truth, atol=6e-4)
    kinds = {structure.name: structure.interpreted_type for structure in case.structures}
    assert (kinds["GTV"], kinds["External"], kinds["Bone"]) == ("GTV", "EXTERNAL", "AVOIDANCE")
    written = pydicom.dcmread(made.ct_paths[0])
    assert case.ct.frame_of_reference_uid == written.FrameOfReferenceUID
    assert case.ct.study_uid == written.StudyInstanceUID
    assert case.ct.patient_id == "MADE"
    assert case.ct.attributes["StudyDate"] == "20200101"


def test_other_files_and_localizers_are_passed_over(case: MadeCase) -> None:
    (case.folder / "notes.txt").write_text("not DICOM")
    (case.folder / "empty").write_bytes(b"")
    (case.folder / "deep" / "er").mkdir(parents=True)
    shutil.move(case.ct_paths[2], case.folder / "deep" / "er" / "no-extension")
    scout = case.folder / "scout.dcm"
    shutil.copy(case.ct_paths[0], scout)

    def localizer(image: Dataset) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        image.SOPInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
        image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    edit(scout, localizer)
    np.testing.assert_array_equal(read_case(case.folder).ct.hu, case.hu)


def test_bits_above_the_stored_ones_do_not_count(case: MadeCase) -> None:
    def overlay_in_the_high_bits(image: Dataset) -> None:
        stored = np.frombuffer(image.PixelData, dtype="<u2")
        image.BitsStored, image.HighBit = 12, 11
        image.PixelData = (stored | 0xA000).astype("<u2").tobytes()

    edit(case.ct_paths[1], overlay_in_the_high_bits)
    np.testing.assert_array_equal(read_ct(case.folder).hu, case.hu)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_padding_outside_the_reconstruction_circle_is_air(case: MadeCase, syntax: str) -> None:
    def pad(image: Dataset) -> None:
        stored = np.frombuffer(image.PixelData, dtype="<u2").copy()
        stored[:24] = 63536
        image.PixelData = stored.tobytes()
        image.add_new(0x00280120, "US", 63536)
        image.file_meta.TransferSyntaxUID = syntax

    edit(case.ct_paths[0], pad)
    hu = read_ct(case.folder).hu
    assert (hu[0, 0] == -1024).all()
    np.testing.assert_array_equal(hu[0, 1:], case.hu[0, 1:])


@pytest.mark.parametrize(
    "syntax", [gdcm.TransferSyntax.JPEGLSLossless, gdcm.TransferSyntax.JPEG2000Lossless, None]
)
def test_lossless_compression_is_transparent(case: MadeCase, syntax: int | None) -> None:
    for path in case.ct_paths:
        if syntax is None:
            edit(path, lambda image: image.compress(RLELossless))
            continue
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    np.testing.assert_array_equal(read_ct(case.folder).hu, case.hu)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_other_uncompressed_syntaxes(case: MadeCase, syntax: str) -> None:
    for path in case.ct_paths:
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
            image["PixelData"].VR = "OW"
            pydicom.dcmwrite(path, image, little_endian=False, implicit_vr=False, overwrite=True)
        else:
            image.save_as(path)
    np.testing.assert_array_equal(read_ct(case.folder).hu, case.hu)


def test_loss_is_told_and_256_shades_are_refused(case: MadeCase) -> None:
    assert read_ct(case.folder).remarks == ()
    for path in case.ct_paths[:2]:
        edit(path, lambda image: setattr(image, "LossyImageCompression", "01"))
    (remark,) = read_ct(case.folder).remarks
    assert "2 of 6 CT files" in remark

    def eight_bits(image: Dataset) -> None:
        stored = np.frombuffer(image.PixelData, "<u2")
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.PixelData = (stored >> 4).astype(np.uint8).tobytes()

    edit(case.ct_paths[3], eight_bits)
    assert "256 shades" in refusal(case.folder)


def test_an_enhanced_multi_frame_ct_is_the_same_volume(case: MadeCase) -> None:
    planes = [pydicom.dcmread(path) for path in case.ct_paths]
    order = [3, 0, 5, 1, 4, 2]
    multi = pydicom.dcmread(case.ct_paths[0])
    multi.SOPClassUID = multi.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    for tag in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "SliceThickness",
    ):
        del multi[tag]
    measures, orientation, shared, frames = Dataset(), Dataset(), Dataset(), []
    measures.PixelSpacing, measures.SliceThickness = planes[0].PixelSpacing, planes[0].SliceThickness
    orientation.ImageOrientationPatient = planes[0].ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = (
        Sequence([measures]),
        Sequence([orientation]),
    )
    for k in order:
        frame, position, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = planes[k].ImagePositionPatient
        rescale.RescaleSlope, rescale.RescaleIntercept = planes[k].RescaleSlope, planes[k].RescaleIntercept
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([rescale])
        frames.append(frame)
    multi.SharedFunctionalGroupsSequence = Sequence([shared])
    multi.PerFrameFunctionalGroupsSequence = Sequence(frames)
    multi.NumberOfFrames = len(order)
    multi.PixelData = b"".join(planes[k].PixelData for k in order)
    for path in case.ct_paths:
        path.unlink()
    multi.save_as(case.folder / "multi.dcm")
    ct = read_ct(case.folder)
    np.testing.assert_array_equal(ct.hu, case.hu)
    assert ct.grid.spacing_mm == pytest.approx(case.spacing_mm)


def test_no_folder_no_ct_no_structures(case: MadeCase, tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "no CT" in refusal(tmp_path / "empty")
    case.structure_path.unlink()
    assert "no RT Structure Set" in refusal(case.folder)


def test_two_series_two_patients_two_frames_two_structure_sets(case: MadeCase, tmp_path: Path) -> None:
    both = tmp_path / "both"
    make_case(both / "a", **SMALL, seed=1, with_structures=False)
    make_case(both / "b", **SMALL, seed=2, with_structures=False)
    assert "2 CT series" in refusal(both)
    make_case(both / "c", **SMALL, patient_id="OTHER", with_structures=False)
    assert "2 patients" in refusal(both)
    assert "'MADE'" in refusal(both)
    assert "'OTHER'" in refusal(both)
    second = case.folder / "second.dcm"
    shutil.copy(case.structure_path, second)
    assert "2 RT Structure Sets" in refusal(case.folder)
    assert "second.dcm" in refusal(case.folder)
    second.unlink()
    edit(case.structure_path, lambda rt: setattr(rt, "PatientID", "OTHER"))
    assert "2 patients" in refusal(case.folder)
    edit(case.ct_paths[0], lambda image: setattr(image, "FrameOfReferenceUID", "1.2.3"))
    assert "2 frames of reference" in refusal(case.folder)


def test_a_structure_set_of_another_frame(case: MadeCase) -> None:
    def other_frame(rt: Dataset) -> None:
        rt.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"

    edit(case.structure_path, other_frame)
    assert "another frame of reference" in refusal(case.folder)
    assert "'GTV'" in refusal(case.folder)


def test_stacks_that_are_not_regular(case: MadeCase, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(case.folder, moved)
    case.ct_paths[2].unlink()
    assert "a CT slice is missing between z = -3.75 and 1.25 mm" in refusal(case.folder)

    first, second = (moved / path.relative_to(case.folder) for path in case.ct_paths[:2])

    def at(z: float) -> Edit:
        return lambda image: setattr(image, "ImagePositionPatient", [*image.ImagePositionPatient[:2], z])

    edit(first, at(-6.9))
    assert "unevenly spaced" in refusal(moved)
    edit(first, at(-3.75))
    assert "same position" in refusal(moved)
    assert first.name in refusal(moved)
    assert second.name in refusal(moved)


def test_tilted_oblique_and_sheared_slices(case: MadeCase) -> None:
    def oblique(image: Dataset) -> None:
        image.ImageOrientationPatient = [1, 0, 0, 0, 0.9397, -0.3420]

    def sheared(image: Dataset) -> None:
        x, y, z = image.ImagePositionPatient
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [x, y + 0.3 * z, z]

    for path in case.ct_paths:
        edit(path, oblique)
    assert "tilted or oblique" in refusal(case.folder)
    for path in case.ct_paths:
        edit(path, sheared)
    assert "gantry tilt" in refusal(case.folder)


@pytest.mark.parametrize(
    "keyword",
    [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
        "Rows",
        "FrameOfReferenceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "SOPInstanceUID",
        "PhotometricInterpretation",
        "BitsStored",
    ],
)
def test_a_missing_tag_is_named_with_its_file(case: MadeCase, keyword: str) -> None:
    for path in case.ct_paths:
        edit(path, lambda image: image.pop(keyword))
    message = refusal(case.folder)
    assert keyword in message
    assert ".dcm" in message


def test_a_file_cut_short_is_refused_by_name(case: MadeCase) -> None:
    path = case.ct_paths[3]
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in refusal(case.folder)


def test_a_contour_that_is_no_list_of_points(case: MadeCase) -> None:
    def two_thirds(rt: Dataset) -> None:
        rt.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"] * 4

    edit(case.structure_path, two_thirds)
    assert "ContourData" in refusal(case.folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_ends_in_another_exception(case: MadeCase, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([case.ct_paths[1], case.structure_path]))
    whole = path.read_bytes()
    try:
        damaged = io.BytesIO(whole)
        for _ in range(data.draw(st.integers(1, 6))):
            damaged.seek(data.draw(st.integers(132, min(len(whole) - 9, 2000))))
            damaged.write(data.draw(st.binary(min_size=1, max_size=8)))
        path.write_bytes(damaged.getvalue()[: data.draw(st.integers(200, len(whole)))])
        with contextlib.suppress(AskedWrongly):
            read_case(case.folder)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("stated", "acquired"),
    [
        ({}, None),
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "090300.25"}, "2020-01-02T09:03:00.250000"),
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "090300"}, "2020-01-02T09:03:00.000000"),
        ({"AcquisitionTime": "090300"}, None),  # a time without its day tells nothing
        ({"AcquisitionDateTime": "20200102090300.5+0100"}, "2020-01-02T09:03:00.500000"),
    ],
)
def test_when_a_ct_was_acquired_is_read_where_every_image_says_it(
    case: MadeCase, stated: dict[str, str], acquired: str | None
) -> None:
    def state(dataset: pydicom.Dataset) -> None:
        for keyword in ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"):
            if keyword in dataset:
                del dataset[keyword]
        for keyword, value in stated.items():
            setattr(dataset, keyword, value)

    for path in case.ct_paths:
        edit(path, state)
    found = read_ct(case.folder).acquired
    assert found == (None if acquired is None else (acquired, acquired))
    if acquired is not None:  # one image later, one that does not say
        edit(case.ct_paths[1], lambda dataset: state(dataset) or _later(dataset))
        last = read_ct(case.folder).acquired
        assert last is not None
        assert last[0] == acquired < last[1]
        edit(case.ct_paths[0], lambda dataset: [dataset.pop(key, None) for key in stated])
        assert read_ct(case.folder).acquired is None


def _later(dataset: pydicom.Dataset) -> None:
    dataset.AcquisitionDateTime = "20200102090307"
