"""Series out of single images: complete, incomplete, contradictory; on a clock that is an argument."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from imaging.scan_series import (
    SECOND_NS,
    ArrivedObject,
    NotAnImage,
    Patience,
    SeriesAssembly,
    Wanted,
    checked_uid,
    described,
)

CT, RTDOSE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.2"
SETTLE, MISSING, IDLE = (Patience().settle_ns, Patience().missing_ns, Patience().idle_ns)


def header(k: int, *, spacing_mm: float = 1.25, announced: int = 0, **other: object) -> Dataset:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CT, f"1.2.3.{k + 1}"
    image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
    image.PatientID = "P1"
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [-100, -100, -50 + spacing_mm * k]
    if announced:
        image.ImagesInAcquisition = announced
    for name, value in other.items():
        setattr(image, name, value)
    return image


def assembly_of(*images: Dataset, link: int | None = None) -> SeriesAssembly:
    assembly = SeriesAssembly()
    for image in images:
        assembly.arrived(described(image), 0, link)
    return assembly


def problems_of(*images: Dataset) -> tuple[str, ...]:
    (event,) = assembly_of(*images).ready(MISSING)
    return event.problems


@given(st.integers(2, 60), st.randoms(use_true_random=False))
def test_a_whole_series_is_complete_in_any_order(count: int, chance: random.Random) -> None:
    order = list(range(count))
    chance.shuffle(order)
    assembly = assembly_of(*(header(k, announced=count) for k in order))
    assert assembly.ready(SETTLE - 1) == []
    assert assembly.next_wake_ns() == SETTLE
    (event,) = assembly.ready(SETTLE)
    assert event.complete
    assert event.images == count
    assert event.patient_id == "P1"
    assert not event.again
    assert assembly.ready(10 * MISSING) == []
    assert assembly.next_wake_ns() is None


@given(st.integers(5, 40), st.data())
def test_a_missing_slice_inside_is_always_noticed(count: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(1, count - 2))
    assembly = assembly_of(*(header(k) for k in range(count) if k != lost))
    assert assembly.ready(MISSING - 1) == []  # it may still come
    (event,) = assembly.ready(MISSING)
    assert event.problems == ("a gap: 1 slices are missing",)


def test_the_missing_slice_that_comes_late_completes_the_series() -> None:
    assembly = assembly_of(*(header(k) for k in (0, 1, 3, 4)))
    (event,) = assembly.ready(MISSING)
    assert not event.complete
    assembly.arrived(described(header(2)), 2 * MISSING)
    (event,) = assembly.ready(2 * MISSING + SETTLE)
    assert event.complete
    assert event.again
    assert event.images == 5


def test_missing_ends_are_noticed_by_the_announced_count() -> None:
    images = [header(k, announced=7) for k in range(5)]
    assert problems_of(*images) == ("2 of 7 announced images are missing",)


def test_an_open_link_is_waited_for_and_a_broken_one_reported() -> None:
    assembly = assembly_of(*(header(k) for k in range(4)), link=9)
    assert assembly.ready(SETTLE) == []
    assembly.link_closed(9, SECOND_NS, broken=True)
    assert assembly.ready(SECOND_NS + SETTLE) == []
    (event,) = assembly.ready(SECOND_NS + MISSING)
    assert event.problems == ("the sender broke the connection off",)


def test_an_orderly_end_of_the_link_needs_only_the_settle_time() -> None:
    assembly = assembly_of(*(header(k) for k in range(4)), link=9)
    assembly.link_closed(9, SECOND_NS, broken=False)
    (event,) = assembly.ready(SECOND_NS + SETTLE)
    assert event.complete


def test_a_link_that_stays_open_in_silence_is_waited_for_no_longer_than_said() -> None:
    assembly = assembly_of(*(header(k) for k in range(4)), link=9)
    assert assembly.ready(IDLE - 1) == []
    assert assembly.ready(IDLE)[0].complete


def test_the_same_image_again_is_no_news() -> None:
    assembly = assembly_of(*(header(k) for k in range(4)))
    assert len(assembly.ready(SETTLE)) == 1
    assembly.arrived(described(header(2)), 2 * SETTLE)
    assert assembly.ready(3 * MISSING) == []


def test_what_is_no_volume_is_said() -> None:
    assert problems_of(header(0)) == ("a single slice, no volume",)
    assert problems_of(header(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])) == (
        "a localizer, no volume",
    )
    twice = header(1, SOPInstanceUID="1.2.3.99")
    assert problems_of(header(0), header(1), twice, header(2)) == ("1 slices lie where another one lies",)
    turned = header(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    assert problems_of(header(0), header(1), turned) == ("its images lie in different directions",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientID", "P2"),
        ("StudyInstanceUID", "1.9"),
        ("FrameOfReferenceUID", "1.9"),
        ("SOPClassUID", RTDOSE),
    ],
)
def test_an_object_that_contradicts_its_series_is_known(name: str, value: str) -> None:
    assembly = assembly_of(header(0), header(1))
    assert assembly.contradiction(described(header(2))) == ""
    assert "than the rest of its series" in assembly.contradiction(described(header(2, **{name: value})))


def test_only_the_plans_patient_and_frame_are_wanted() -> None:
    wanted = Wanted("P1", frozenset({"1.2.6"}))
    assert wanted.refusal(described(header(0))) == ""
    assert "patient" in wanted.refusal(described(header(0, PatientID="P2")))
    assert "frame" in wanted.refusal(described(header(0, FrameOfReferenceUID="1.9")))
    assert "frame" in wanted.refusal(described(header(0, FrameOfReferenceUID=None)))
    assert Wanted().refusal(described(header(0, PatientID="P2", FrameOfReferenceUID=None))) == ""


def test_a_structure_set_names_its_frame_in_a_sequence() -> None:
    frame = Dataset()
    frame.FrameOfReferenceUID = "1.9"
    drawn = header(0, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", ReferencedFrameOfReferenceSequence=[frame])
    del drawn.FrameOfReferenceUID
    assert described(drawn).frame_uid == "1.9"
    assert Wanted("P1", frozenset({"1.2.6"})).refusal(described(drawn))


def test_an_enhanced_ct_is_a_series_in_one_object() -> None:
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    frames = []
    for k in range(6):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2.5 * k]
        frames.append(frame)
    image = header(0, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", SharedFunctionalGroupsSequence=[shared])
    image.PerFrameFunctionalGroupsSequence = frames
    (event,) = assembly_of(image).ready(SETTLE)
    assert event.complete
    assert event.images == 6


@given(st.text(alphabet="0123456789./\\\0 abc", max_size=80))
def test_a_checked_uid_is_always_a_plain_file_name(text: str) -> None:
    try:
        uid = checked_uid(text)
    except NotAnImage:
        return
    assert uid
    assert set(uid) <= set("0123456789.")
    assert ".." not in uid
    assert not uid.startswith(".")
    assert len(uid) <= 64


@pytest.mark.parametrize(
    "other",
    [
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
        {"SOPInstanceUID": ""},
        {"SOPInstanceUID": "../../etc/passwd"},
        {"SeriesInstanceUID": ".."},
        {"ImagePositionPatient": None},
        {"ImagePositionPatient": [0, 0, float(np.inf)]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_cannot_be_taken_is_named(other: dict[str, object]) -> None:
    with pytest.raises(NotAnImage) as refused:
        described(header(0, **other))
    assert "P1" not in str(refused.value)
    assert len(str(refused.value)) <= 64


def test_a_described_object_carries_nothing_but_what_is_needed() -> None:
    assert described(header(3)) == ArrivedObject(
        "CT", CT, "1.2.3.4", "1.2.4", "1.2.5", "P1", "1.2.6", (-46.25,), (0.0, 0.0, 1.0)
    )
