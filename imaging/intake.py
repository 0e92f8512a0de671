"""The folder that arriving scans are kept in: checked, written whole under names that can't leave it.

    DIR/<series UID>/<SOP instance UID>.dcm     an object, byte for byte as it came
    DIR/<series UID>.json                       the series is complete, or as far as it came (``SeriesReceived``)
    DIR/.incoming/                              what is being written; its lock: one intake in DIR at a time

Link and watched folder both end here, so that the same is refused and the same event follows. An intake that
was killed leaves nothing half-written, and what it had kept but not told of is told by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import sha256
from pathlib import Path

from imaging.dicom_object import read_object, same_object
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

_INCOMING, _LOCK = ".incoming", "lock"


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
    """What became of an object; ``words`` (at most 64 characters) say why it was refused, ``sender`` whose it was."""

    status: Status
    words: str = ""
    arrived: ArrivedObject | None = None
    sender: str = ""


class Intake:
    """Takes DICOM files (as bytes) into a folder.

    Args:
        folder: made when it isn't there; objects kept earlier in it are known.
        now_ns: time; from then on the rest of series is waited for that an earlier intake did not tell of.
        wanted: whose scans are taken.
        patience: how long to wait for the rest of a series.
        refused: told of every refusal.

    Raises:
        AskedWrongly: the folder can't be made or written into, or another intake works in it.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Wanted | None = None,
        patience: Patience | None = None,
        refused: Callable[[Answer], None] = lambda _: None,
        now_ns: int = 0,
    ) -> None:
        self.folder = folder
        self._wanted = wanted or Wanted()
        self._assembly = SeriesAssembly(patience)
        self._refused = refused
        try:
            (folder / _INCOMING).mkdir(parents=True, exist_ok=True)
            self._unlock = weakref.finalize(self, os.close, _locked(folder))
            for left_over in (folder / _INCOMING).iterdir():
                if left_over.name != _LOCK:
                    left_over.unlink()
            self._take_over(now_ns)
        except OSError as problem:
            raise AskedWrongly(f"{folder}: can't be written into ({problem.strerror}).") from problem

    def close(self) -> None:
        """Another intake may work in the folder from now on."""
        self._unlock()

    def series_folder(self, series_uid: str) -> Path:
        return self.folder / series_uid

    def take(
        self,
        content: bytes,
        now_ns: int,
        *,
        link: int | None = None,
        named: tuple[str, str] | None = None,
        sender: str = "",
        instead_of: bytes = b"",
    ) -> Answer:
        """Check and keep one DICOM file.

        Args:
            content: the whole file, with preamble and file meta group.
            now_ns: time.
            link: the connection it came by.
            named: SOP class and instance UID that the sender told beside the data set.
            sender: for people.
            instead_of: SHA-256 of what the same source gave before it was finished; if that was kept, it is replaced.
        """
        try:
            answer = self._taken(content, now_ns, link, named, instead_of)
        except NotAnImage as problem:
            answer = Answer(Status.NOT_UNDERSTOOD, str(problem))
        except OSError as problem:
            answer = Answer(Status.OUT_OF_RESOURCES, f"can't be written ({problem.strerror})"[:64])
        answer = replace(answer, sender=sender)
        if answer.status != Status.TAKEN:
            self._refused(answer)
        return answer

    def pass_over(self, words: str, sender: str) -> None:
        """Something of ``sender`` could not even be looked at."""
        self._refused(Answer(Status.NOT_UNDERSTOOD, words[:64], sender=sender))

    def link_closed(self, link: int, now_ns: int, *, broken: bool) -> None:
        self._assembly.link_closed(link, now_ns, broken=broken)

    def next_wake_ns(self) -> int | None:
        return self._assembly.next_wake_ns()

    def ready(self, now_ns: int) -> list[SeriesReceived]:
        """Series that need no more waiting; each also stands in ``DIR/<series UID>.json`` from now on."""
        told = []
        for event in self._assembly.ready(now_ns):
            text = json.dumps(event.to_json(), indent=1, ensure_ascii=True) + "\n"
            try:
                self._write(self._event_file(event.series_uid), text.encode())
            except (
                OSError
            ) as problem:  # who follows the folder would not hear of it: told when there is room again
                self._assembly.tell_later(event.series_uid, now_ns)
                words = f"the event can't be written ({problem.strerror})"[:64]
                self._refused(
                    Answer(Status.OUT_OF_RESOURCES, words, self._assembly.first_of(event.series_uid))
                )
            else:
                told.append(event)
        return told

    def _event_file(self, series_uid: str) -> Path:
        return self.folder / f"{series_uid}.json"

    def _taken(
        self,
        content: bytes,
        now_ns: int,
        link: int | None,
        named: tuple[str, str] | None,
        instead_of: bytes,
    ) -> Answer:
        arrived = described(read_object(content))
        if named is not None and named != (arrived.sop_class_uid, arrived.sop_uid):
            return Answer(Status.MISMATCH, "data set and command name different objects", arrived)
        why = self._wanted.refusal(arrived)
        if why:
            return Answer(Status.NOT_AUTHORISED, why, arrived)
        path = self.series_folder(arrived.series_uid) / f"{arrived.sop_uid}.dcm"
        if not self._assembly.knows(arrived.series_uid):
            self._restore(path.parent, self._event_file(arrived.series_uid).exists())
        why = self._assembly.contradiction(arrived)
        if why:
            return Answer(Status.MISMATCH, why, arrived)
        kept = path.read_bytes() if path.exists() else None
        changed = (
            bool(instead_of) and kept not in (None, content) and sha256(kept or b"").digest() == instead_of
        )
        if kept is None or changed:
            path.parent.mkdir(exist_ok=True)
            self._write(path, content)
        elif not same_object(kept, content):
            return Answer(Status.DUPLICATE, "instance is there with another content", arrived)
        self._assembly.arrived(arrived, now_ns, link, changed=changed)
        return Answer(Status.TAKEN, "", arrived)

    def _take_over(self, now_ns: int) -> None:
        """What an earlier intake kept and did not tell of, because it was ended before."""
        for folder in self.folder.iterdir():
            if not folder.is_dir() or folder.name == _INCOMING:
                continue
            event = self._event_file(folder.name)
            told_ns = event.stat().st_mtime_ns if event.exists() else 0
            if any(path.stat().st_mtime_ns > told_ns for path in folder.glob("*.dcm")):
                self._restore(folder, bool(told_ns), now_ns)

    def _restore(self, folder: Path, reported: bool, untold_ns: int | None = None) -> None:
        for path in sorted(folder.glob("*.dcm")):
            try:
                arrived = described(read_object(path.read_bytes()))
            except NotAnImage:
                continue  # not ours; the reader of the series will say what it is
            if arrived.series_uid == folder.name:
                self._assembly.restore(arrived, reported=reported, untold_ns=untold_ns)

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


def _locked(folder: Path) -> int:
    """The folder's lock, held as long as its file is open: two intakes would not know of each other's images."""
    lock = os.open(folder / _INCOMING / _LOCK, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        os.close(lock)
        raise AskedWrongly(
            f"{folder}: another seedguide takes scans into this folder; end it, or use another folder."
        ) from problem
    return lock
