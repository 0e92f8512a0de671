"""The folder that arriving scans are kept in: checked, written whole under names that can't leave it.

    DIR/<series UID>/<SOP instance UID>.dcm     an object, byte for byte as it came
    DIR/<series UID>.json                       the series is complete, or as far as it came (``SeriesReceived``)
    DIR/.incoming/                              what is being written

Link and watched folder both end here, so that the same is refused and the same event follows.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from imaging.scan_series import (
    ArrivedObject,
    NotAnImage,
    Patience,
    SeriesAssembly,
    SeriesReceived,
    Wanted,
    described,
)
from planning.refusal import AskedWrongly

_INCOMING = ".incoming"


class Status(IntEnum):
    """DICOM status of a C-STORE (PS3.4 B.2.3, PS3.7 9.1.1.1.9)."""

    TAKEN = 0x0000
    DUPLICATE = 0x0111  # the instance is there with another content
    NOT_AUTHORISED = 0x0124  # wrong patient or frame of reference
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900  # the data set is not what the command says
    NOT_UNDERSTOOD = 0xC000


@dataclass(frozen=True)
class Answer:
    """What became of an object; ``words`` (at most 64 characters) say why it was refused."""

    status: Status
    words: str = ""
    arrived: ArrivedObject | None = None


class Intake:
    """Takes DICOM files (as bytes) into a folder.

    Args:
        folder: made when it isn't there; objects kept earlier in it are known.
        wanted: whose scans are taken.
        patience: how long to wait for the rest of a series.
        refused: told of every refusal.

    Raises:
        AskedWrongly: the folder can't be made or written into.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Wanted | None = None,
        patience: Patience | None = None,
        refused: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self.folder = folder
        self._wanted = wanted or Wanted()
        self._assembly = SeriesAssembly(patience)
        self._refused = refused
        try:
            (folder / _INCOMING).mkdir(parents=True, exist_ok=True)
            for left_over in (folder / _INCOMING).iterdir():
                left_over.unlink()
        except OSError as problem:
            raise AskedWrongly(f"{folder}: can't be written into ({problem.strerror}).") from problem

    def series_folder(self, series_uid: str) -> Path:
        return self.folder / series_uid

    def take(
        self, content: bytes, now_ns: int, *, link: int | None = None, named: tuple[str, str] | None = None
    ) -> Answer:
        """Check and keep one DICOM file.

        Args:
            content: the whole file, with preamble and file meta group.
            now_ns: time.
            link: the connection it came by.
            named: SOP class and instance UID that the sender told beside the data set.
        """
        try:
            answer = self._taken(content, now_ns, link, named)
        except NotAnImage as problem:
            answer = Answer(Status.NOT_UNDERSTOOD, str(problem))
        except OSError as problem:
            answer = Answer(Status.OUT_OF_RESOURCES, f"can't be written ({problem.strerror})"[:64])
        if answer.status != Status.TAKEN:
            self._refused(answer)
        return answer

    def link_closed(self, link: int, now_ns: int, *, broken: bool) -> None:
        self._assembly.link_closed(link, now_ns, broken=broken)

    def next_wake_ns(self) -> int | None:
        return self._assembly.next_wake_ns()

    def ready(self, now_ns: int) -> list[SeriesReceived]:
        """Series that need no more waiting; each also stands in ``DIR/<series UID>.json`` from now on."""
        events = self._assembly.ready(now_ns)
        for event in events:
            text = json.dumps(event.to_json(), indent=1, ensure_ascii=False) + "\n"
            self._write(self.folder / f"{event.series_uid}.json", text.encode())
        return events

    def _taken(self, content: bytes, now_ns: int, link: int | None, named: tuple[str, str] | None) -> Answer:
        arrived = described(_header(content))
        if named is not None and named != (arrived.sop_class_uid, arrived.sop_uid):
            return Answer(Status.MISMATCH, "data set and command name different objects", arrived)
        why = self._wanted.refusal(arrived)
        if why:
            return Answer(Status.NOT_AUTHORISED, why, arrived)
        path = self.series_folder(arrived.series_uid) / f"{arrived.sop_uid}.dcm"
        if not self._assembly.knows(arrived.series_uid):
            self._restore(path.parent)
        why = self._assembly.contradiction(arrived)
        if why:
            return Answer(Status.MISMATCH, why, arrived)
        if path.exists():
            if path.read_bytes() != content:
                return Answer(Status.DUPLICATE, "instance is there with another content", arrived)
        else:
            path.parent.mkdir(exist_ok=True)
            self._write(path, content)
        self._assembly.arrived(arrived, now_ns, link)
        return Answer(Status.TAKEN, "", arrived)

    def _restore(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.dcm")):
            try:
                self._assembly.restore(described(_header(path.read_bytes())))
            except NotAnImage:
                continue  # not ours; the reader of the series will say what it is

    def _write(self, path: Path, content: bytes) -> None:
        growing = self.folder / _INCOMING / path.name
        try:
            with growing.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(growing, path)
        except OSError:
            growing.unlink(missing_ok=True)
            raise


def _header(content: bytes) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    except Exception as problem:  # the reader raises nearly everything on damaged files
        raise NotAnImage("not a readable DICOM object") from problem
