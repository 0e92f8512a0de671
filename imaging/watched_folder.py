"""Scans that arrive as files: a folder the scanner or archive exports into, watched without touching what is there.

A file is read when its size and time stood still between two looks (a copy that is being written is left alone),
and then goes through the same :class:`Intake` as over a link, so the same is refused and the same event
follows. Some copies make the whole file first and fill it then, with pauses: a file that changes after all is read
again and takes the place of what was kept of it. Network shares tell of no change, so the folder is looked at in
turns; time is an argument.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from imaging.intake import Intake
from imaging.scan_series import SECOND_NS, SeriesReceived
from planning.refusal import AskedWrongly

_MAGIC_END = 132
_GIVEN_UP_NS = 30 * SECOND_NS
"""A file that can't be read for so long holds nothing back any more (assumed)."""


@dataclass
class _Seen:
    stamp: tuple[int, int]  # size, time of change
    since_ns: int
    done: bool = False
    taken: bytes = b""  # digest of what the intake got


class WatchedFolder:
    """A folder and what was seen in it.

    Args:
        folder: looked at with everything below; may be filled by another machine.
        intake: where its files go (copies: nothing is moved or removed). Its folder must lie elsewhere.
        still_ns: how long size and time of a file must stand still.

    Raises:
        AskedWrongly: no such folder; the intake's folder lies in it, or it in the intake's.
    """

    def __init__(self, folder: Path, intake: Intake, still_ns: int = 2 * SECOND_NS) -> None:
        if not folder.is_dir():
            raise AskedWrongly(f"{folder}: no such folder to watch.")
        one, other = folder.resolve(), intake.folder.resolve()
        if one == other or one in other.parents or other in one.parents:
            raise AskedWrongly(
                f"{folder}: the watched folder and {intake.folder} must not lie in each other."
            )
        self._folder = folder
        self._intake = intake
        self._still_ns = still_ns
        self._seen: dict[str, _Seen] = {}

    def look(self, now_ns: int) -> list[SeriesReceived]:
        """Look once; series that need no more waiting."""
        found = dict(_files(self._folder))
        for path in self._seen.keys() - found.keys():
            del self._seen[path]
        for path, stamp in sorted(found.items()):
            seen = self._seen.get(path)
            if seen is None:
                self._seen[path] = _Seen(stamp, now_ns)
            elif seen.stamp != stamp:
                self._seen[path] = _Seen(stamp, now_ns, taken=seen.taken)
            elif not seen.done and now_ns - seen.since_ns >= self._still_ns:
                self._take(Path(path), seen, now_ns)
        if any(not seen.done and _is_dicom(path) for path, seen in self._seen.items()):
            return []  # something is still growing: it may belong to a series that looks complete
        return self._intake.ready(now_ns)

    def _take(self, path: Path, seen: _Seen, now_ns: int) -> None:
        """Unless it can't be read now: then it is tried again for a while."""
        try:
            content = path.read_bytes() if _is_dicom(str(path)) else b""
        except OSError as problem:
            if now_ns - seen.since_ns >= _GIVEN_UP_NS:
                seen.done = True
                self._intake.pass_over(f"can't be read ({problem.strerror})", path.name)
            return
        seen.done = True
        if content[128:_MAGIC_END] != b"DICM":  # viewers, notes: no scan
            return
        earlier, seen.taken = seen.taken, sha256(content).digest()
        self._intake.take(content, now_ns, sender=path.name, instead_of=earlier)


def _is_dicom(path: str) -> bool:
    """Whether it begins like a DICOM file; what is too short to tell, or can't be read now, may become one."""
    try:
        with open(path, "rb") as file:
            begin = file.read(_MAGIC_END)
    except OSError:
        return True
    return len(begin) < _MAGIC_END or begin[128:] == b"DICM"


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every plain file below, with size and time; links are not followed, hidden names (half copies) passed."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # removed, or a share that is away for the moment
        return
    for entry in entries:
        try:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                yield entry.path, (stat.st_size, stat.st_mtime_ns)
        except OSError:
            continue
