"""Images that arrive one by one -> series that are complete, or known not to be.

Knows what a series needs to be a volume (a gapless stack, as many images as announced) and when to stop waiting.
Does not know where images come from, files or networks; time is an argument (integer ns).

Sources: DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.1 (General Image), PS3.5 9.1 (UIDs).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from planning.dicom_files import CT_IMAGE, ENHANCED_CT, RT_STRUCTURE_SET
from planning.frame import Floats

KINDS = {
    CT_IMAGE: "CT",
    **dict.fromkeys(ENHANCED_CT, "CT"),
    RT_STRUCTURE_SET: "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
}
"""The storage classes that are taken, and their modality."""

SECOND_NS = 1_000_000_000
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SAME_PLACE_MM = 1e-3
_GAP = 1.5  # of the usual step: as the reader of CT series judges


class NotAnImage(Exception):
    """An object that can't be taken; the message says why, in one sentence without the patient's data."""


@dataclass(frozen=True)
class ArrivedObject:
    """What must be known of one DICOM object.

    Attributes:
        kind: CT, RTSTRUCT, RTPLAN or RTDOSE.
        sop_class_uid, sop_uid, series_uid, study_uid: checked UIDs, safe as file names.
        patient_id: stripped, perhaps empty.
        frame_uid: frame of reference, or empty (an RT Plan need not have one).
        places_mm: of its images along their common normal; empty for RT objects and localizers.
        normal: of the images, rounded; images of one volume share it.
        announced: images in the series or acquisition as the sender tells, or 0.
        localizer: a scout view, no slice of a volume.
    """

    kind: str
    sop_class_uid: str
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    frame_uid: str
    places_mm: tuple[float, ...] = ()
    normal: tuple[float, ...] = ()
    announced: int = 0
    localizer: bool = False


@dataclass(frozen=True)
class Wanted:
    """Whose scans are taken: patient and frames of reference of the plan; None takes everybody's."""

    patient_id: str | None = None
    frame_uids: frozenset[str] | None = None

    def refusal(self, arrived: ArrivedObject) -> str:
        """Why an object is refused, or an empty string."""
        if self.patient_id is not None and arrived.patient_id != self.patient_id:
            return "not the patient of the plan"
        frames = self.frame_uids
        if (
            frames is not None
            and arrived.frame_uid not in frames
            and (arrived.frame_uid or is_image(arrived))
        ):
            return "not the frame of reference of the plan"
        return ""


@dataclass(frozen=True)
class SeriesReceived:
    """A series has arrived: complete, or as far as it came.

    Attributes:
        images: number of objects (frames of an enhanced CT count).
        problems: why it is no complete volume; empty when it is complete.
        again: it was reported before and has grown since.
    """

    kind: str
    series_uid: str
    study_uid: str
    patient_id: str
    frame_uid: str
    images: int
    problems: tuple[str, ...]
    again: bool

    @property
    def complete(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "event": "series-received",
            "kind": self.kind,
            "patient_id": self.patient_id,
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "frame_of_reference_uid": self.frame_uid,
            "images": self.images,
            "complete": self.complete,
            "problems": list(self.problems),
            "again": self.again,
        }


@dataclass(frozen=True)
class Patience:
    """How long to wait for more.

    Attributes:
        settle_ns: after the last image, or the end of the last link that brought one, if nothing is missing.
        idle_ns: without a new image while a link is still open.
        missing_ns: after the last news, if something is missing: it may come over another link.
    """

    settle_ns: int = SECOND_NS // 2
    idle_ns: int = 10 * SECOND_NS
    missing_ns: int = 10 * SECOND_NS


@dataclass
class _Series:
    first: ArrivedObject
    objects: dict[str, ArrivedObject] = field(default_factory=dict)
    links: set[int] = field(default_factory=set)
    broken: bool = False
    news_ns: int = 0
    waiting: bool = True
    reported: bool = False


class SeriesAssembly:
    """Collects arrived objects into series and says when one is ready.

    Args:
        patience: how long to wait.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._series: dict[str, _Series] = {}

    def contradiction(self, arrived: ArrivedObject) -> str:
        """Why an object can't belong to the series it names, or an empty string."""
        series = self._series.get(arrived.series_uid)
        if series is None:
            return ""
        for what, one, other in (
            ("patient", series.first.patient_id, arrived.patient_id),
            ("study", series.first.study_uid, arrived.study_uid),
            ("frame of reference", series.first.frame_uid, arrived.frame_uid),
            ("kind of object", series.first.kind, arrived.kind),
        ):
            if one != other:
                return f"another {what} than the rest of its series"
        return ""

    def knows(self, series_uid: str) -> bool:
        return series_uid in self._series

    def first_of(self, series_uid: str) -> ArrivedObject:
        """One object of a known series."""
        return self._series[series_uid].first

    def restore(self, arrived: ArrivedObject, *, reported: bool = True, untold_ns: int | None = None) -> None:
        """Enter an object that was kept before a restart; news from the time ``untold_ns`` on, if given."""
        news_ns, waiting = untold_ns or 0, untold_ns is not None
        made = _Series(arrived, news_ns=news_ns, waiting=waiting, reported=reported)
        self._series.setdefault(arrived.series_uid, made).objects[arrived.sop_uid] = arrived

    def tell_later(self, series_uid: str, now_ns: int) -> None:
        """What ``ready`` told just now could not be passed on; it is told again after a while."""
        series = self._series[series_uid]
        series.waiting = True
        series.news_ns = now_ns + self._patience.missing_ns

    def arrived(
        self, arrived: ArrivedObject, now_ns: int, link: int | None = None, *, changed: bool = False
    ) -> None:
        """Enter an object.

        Args:
            link: the connection that brought it, while that is open.
            changed: its content is another one than before.
        """
        series = self._series.setdefault(arrived.series_uid, _Series(arrived))
        if link is not None:
            series.links.add(link)
        series.broken = False
        series.news_ns = now_ns
        if changed or arrived.sop_uid not in series.objects:
            series.waiting = True
            series.objects[arrived.sop_uid] = arrived

    def link_closed(self, link: int, now_ns: int, *, broken: bool) -> None:
        """A connection ended, in order or ``broken`` off."""
        for series in self._series.values():
            if link in series.links:
                series.links.discard(link)
                series.news_ns = now_ns
                series.broken = broken
                series.waiting = series.waiting or broken

    def ready(self, now_ns: int) -> list[SeriesReceived]:
        """Series that need no more waiting; each is told once, and again only when it has grown."""
        told = []
        for series in self._series.values():
            if series.waiting and now_ns >= self._wake_ns(series):
                told.append(_event(series))
                series.waiting, series.reported = False, True
        return told

    def next_wake_ns(self) -> int | None:
        """When ``ready`` should be asked again, if nothing happens until then."""
        return min((self._wake_ns(s) for s in self._series.values() if s.waiting), default=None)

    def _wake_ns(self, series: _Series) -> int:
        patience = self._patience
        if series.links:
            return series.news_ns + patience.idle_ns
        return series.news_ns + (patience.missing_ns if _problems(series) else patience.settle_ns)


def described(header: Dataset) -> ArrivedObject:
    """What a DICOM header says.

    Raises:
        NotAnImage: a class that isn't taken, a UID that is none, an image without place.
    """
    kind_uid = str(header.get("SOPClassUID") or "")
    if kind_uid not in KINDS:
        raise NotAnImage("SOP class is not CT, RTSTRUCT, RTPLAN or RTDOSE")
    try:
        localizer = "LOCALIZER" in [str(v).upper() for v in header.get("ImageType") or []]
        is_ct = KINDS[kind_uid] == "CT" and not localizer
        if is_ct and str(header.get("LossyImageCompression") or "") == "01":
            raise NotAnImage("the image was once compressed with loss")
        places: tuple[float, ...] = ()
        normal: tuple[float, ...] = ()
        if is_ct:
            places, normal = _places(header, kind_uid)
        # an acquisition may have been reconstructed into several series: its count speaks only where no other does
        counts = [int(header.get(k) or 0) for k in ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition")]
        return ArrivedObject(
            KINDS[kind_uid],
            kind_uid,
            checked_uid(header.get("SOPInstanceUID")),
            checked_uid(header.get("SeriesInstanceUID")),
            checked_uid(header.get("StudyInstanceUID")),
            str(header.get("PatientID") or "").strip(),
            _frame(header),
            places,
            normal,
            (counts[0] or counts[1]) if kind_uid == CT_IMAGE else 0,
            localizer,
        )
    except NotAnImage:
        raise
    except Exception as problem:  # a damaged header fails in any way
        raise NotAnImage("header is damaged or lacks the place of the image") from problem


def checked_uid(value: object) -> str:
    """A UID as text: digits and dots only, at most 64 characters, so that it can't leave a folder as a name."""
    text = str(value or "").strip("\0 ")
    if len(text) > 64 or not _UID.fullmatch(text):
        raise NotAnImage("a UID is missing or malformed")
    return text


def is_image(arrived: ArrivedObject) -> bool:
    return arrived.kind == "CT"


def _frame(header: Dataset) -> str:
    frame = header.get("FrameOfReferenceUID")
    if not frame and header.get("ReferencedFrameOfReferenceSequence"):
        frame = header.ReferencedFrameOfReferenceSequence[0].get("FrameOfReferenceUID")
    return checked_uid(frame) if frame else ""


def _places(header: Dataset, kind_uid: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if kind_uid == CT_IMAGE:
        return _along(header.ImageOrientationPatient, [header.ImagePositionPatient])
    frames = header.PerFrameFunctionalGroupsSequence
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    turned = shared if shared.get("PlaneOrientationSequence") else frames[0]
    orientation = turned.PlaneOrientationSequence[0].ImageOrientationPatient
    return _along(orientation, [f.PlanePositionSequence[0].ImagePositionPatient for f in frames])


def _along(orientation: Any, positions: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cosines, points = np.asarray(orientation, dtype=float), np.asarray(positions, dtype=float)
    normal: Floats = np.cross(cosines[:3], cosines[3:])
    places = points @ normal
    if cosines.shape != (6,) or not (np.isfinite(places).all() and abs(np.linalg.norm(normal) - 1.0) < 0.01):
        raise ValueError("no image plane")
    return tuple(float(v) for v in places), tuple(round(float(v), 2) + 0.0 for v in normal)


def _event(series: _Series) -> SeriesReceived:
    first = series.first
    return SeriesReceived(
        first.kind,
        first.series_uid,
        first.study_uid,
        first.patient_id,
        first.frame_uid,
        sum(max(1, len(one.places_mm)) for one in series.objects.values()),
        tuple(_problems(series)),
        series.reported,
    )


def _problems(series: _Series) -> list[str]:
    """Why the series is not complete, in words."""
    found = []
    objects = list(series.objects.values())
    if series.broken:
        found.append("the sender broke the connection off")
    if not is_image(series.first):
        return found
    announced = max(one.announced for one in objects)
    if len(objects) < announced:
        found.append(f"{announced - len(objects)} of {announced} announced images are missing")
    if all(one.localizer for one in objects):
        return [*found, "a localizer, no volume"]
    slices = [one for one in objects if not one.localizer]
    if len({one.normal for one in slices}) > 1:
        return [*found, "its images lie in different directions"]
    places = np.sort([place for one in slices for place in one.places_mm])
    if len(places) < 2:
        return [*found, "a single slice, no volume"]
    steps = np.diff(places)
    double = int(np.count_nonzero(steps < _SAME_PLACE_MM))
    if double:
        found.append(f"{double} slices lie where another one lies")
    steps = steps[steps >= _SAME_PLACE_MM]
    usual = float(np.sort(steps)[(len(steps) - 1) // 2]) if len(steps) else 0.0
    missing = int(np.sum(np.rint(steps[steps > _GAP * usual] / usual) - 1)) if usual else 0
    if missing:
        found.append(f"a gap: {missing} slices are missing")
    return found
