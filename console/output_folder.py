"""The folder a run writes into: taken only when it is safe, given back untouched when the input was bad.

The journal is written into the folder itself from the first record on, so the folder can't be a temporary one
renamed at the end. Instead an older run that may be replaced is set aside *inside* the folder until the new
run has earned its place, and comes back when it has not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from planning.refusal import AskedWrongly

MARKER = ".seedguide-run"
_SET_ASIDE = ".replaced-run"
_MARKER_TEXT = "Made by seedguide; 'seedguide ... --overwrite' may replace this folder.\n"
_OWN_FILES = (
    MARKER,
    "plan.json",
    "*.dcm",
    "journal.sqlite",
    "journal.sqlite-wal",
    "journal.sqlite-shm",
    "door.json",
    "door.sock",
    "door.token",
    "report.html",
    "report.pdf",
    "overview.png",
    "fault.txt",
    "template.*",
    "detected.json",
    "order.json",
    "devices.toml",
    "case.txt",
    "evaluation.json",
    "campaign.json",
    "campaign.html",
    "*.parquet",
    "debrief.html",
    "debrief.json",
    "needles.xml",
    "needles.seq.mha",
)
"""What seedguide writes at the top of the folder. Below it: folders of DICOM files, and of a campaign's chunks."""


class OutputFolder:
    """One run's output folder, taken by ``OutputFolder.take`` and ended by ``keep`` or ``give_back``."""

    def __init__(self, path: Path, created: list[Path], lock: IO[str]) -> None:
        self.path = path
        self._created = created
        self._lock = lock

    @staticmethod
    def take(path: Path, *, overwrite: bool, case: Path) -> OutputFolder:
        """Make the folder, or take an empty one, or set an older run in it aside.

        Args:
            path: the folder; parents are made.
            overwrite: an older run of seedguide may be replaced. Anything else never is.
            case: the input folder, which must not contain (or be) the output folder: the scans
                written there would be taken for the patient's next time.

        Raises:
            AskedWrongly: not empty, not ours, in use, not a folder, not writable, inside the input folder.
        """
        path = Path(os.path.realpath(path))
        if path.is_relative_to(os.path.realpath(case)):
            raise AskedWrongly(
                f"{path}: the output folder lies in the input folder {case}; choose another --out."
            )
        if path.exists() and not path.is_dir():
            raise AskedWrongly(f"{path}: not a folder; choose another --out.")
        created: list[Path] = []
        try:
            present = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
            if present:
                _check_replaceable(path, present, overwrite=overwrite)
            created = _make_folders(path)
            lock = _marked_and_locked(path)
            if present:
                _set_aside(path)
        except OSError as problem:
            for folder in reversed(created):
                folder.rmdir()
            reason = problem.strerror or str(problem)
            raise AskedWrongly(f"{path}: the output folder can't be written ({reason}).") from problem
        return OutputFolder(path, created, lock)

    @staticmethod
    def take_again(path: Path) -> OutputFolder:
        """The folder of a run that was interrupted, to go on in it; nothing in it is touched.

        Raises:
            AskedWrongly: not a run's folder, or another seedguide is writing into it.
        """
        path = Path(os.path.realpath(path))
        if not (path / MARKER).is_file():
            raise AskedWrongly(f"{path}: not the folder of a run of seedguide.")
        try:
            return OutputFolder(path, [], _marked_and_locked(path))
        except OSError as problem:
            raise AskedWrongly(f"{path}: can't be written ({problem.strerror or problem}).") from problem

    def keep(self) -> None:
        """The run has earned its place: an older one that was set aside is deleted."""
        shutil.rmtree(self.path / _SET_ASIDE, ignore_errors=True)
        self._lock.close()

    def give_back(self) -> None:
        """Leave everything as it was before ``take``."""
        aside = self.path / _SET_ASIDE
        for entry in list(self.path.iterdir()):
            if entry == aside or (entry.name == MARKER and aside.exists()):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if aside.exists():
            for entry in list(aside.iterdir()):
                entry.rename(self.path / entry.name)
            aside.rmdir()
        self._lock.close()
        for folder in reversed(self._created):
            folder.rmdir()


def _check_replaceable(path: Path, present: list[str], *, overwrite: bool) -> None:
    if not overwrite:
        raise AskedWrongly(
            f"{path}: the output folder is not empty; choose another --out or add --overwrite."
        )
    if MARKER not in present:
        raise AskedWrongly(
            f"{path}: not made by seedguide, so --overwrite does not replace it; choose another --out."
        )
    foreign = next((name for name in present if name != _SET_ASIDE and not _is_own(path / name)), None)
    if foreign is not None:
        raise AskedWrongly(
            f"{path}: holds '{foreign}', which seedguide did not write, so --overwrite does not replace it; "
            "move that away or choose another --out."
        )


def _is_own(entry: Path) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return all(
            inner.suffix in (".dcm", ".parquet")
            if inner.is_file()
            else inner.is_dir() and not inner.is_symlink()
            for inner in entry.rglob("*")
        )
    return any(fnmatch(entry.name, pattern) for pattern in _OWN_FILES)


def _make_folders(path: Path) -> list[Path]:
    """The folders that had to be made, outermost first."""
    missing = []
    folder = path
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
    except OSError:
        for folder in reversed(made):
            folder.rmdir()
        raise
    return made


def _marked_and_locked(path: Path) -> IO[str]:
    """Write the marker and hold its lock as long as this process lives: one run per folder at a time."""
    marker = path / MARKER
    lock = marker.open("a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        lock.close()
        raise AskedWrongly(
            f"{path}: another seedguide is writing into this folder; wait for it to end."
        ) from problem
    if marker.stat().st_size == 0:
        lock.write(_MARKER_TEXT)
        lock.flush()
    return lock


def _set_aside(path: Path) -> None:
    aside = path / _SET_ASIDE
    if aside.exists():  # left by a run that was killed; the run beside it is the newer one
        shutil.rmtree(aside)
    aside.mkdir()
    for entry in list(path.iterdir()):
        if entry != aside and entry.name != MARKER:
            entry.rename(aside / entry.name)
