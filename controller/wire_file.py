"""A file that takes the wire traffic of a procedure (``--record``); it must never disturb the procedure."""

from __future__ import annotations

from pathlib import Path

from drivers.record import Recorder
from planning.refusal import AskedWrongly


class WireFile:
    """Line by line into ``path``, so that a kill loses nothing but the line under way.

    Attributes:
        trouble: why it stopped writing, or "": a full disk ends the recording and nothing else.

    Raises:
        AskedWrongly: the file is there already, or can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.trouble = ""
        self.check(path)
        try:
            self._file = path.open("x", encoding="utf-8", buffering=1)
        except OSError as problem:
            raise AskedWrongly(f"{path}: can't be made ({problem.strerror or problem}).") from problem
        self._path = path
        self.recorder = Recorder(self._write)

    @staticmethod
    def check(path: Path) -> None:
        """Before anything else is done. Raises AskedWrongly: the file is there, or its folder is not."""
        if path.exists():
            raise AskedWrongly(f"{path}: is there already; --record FILE needs a new file.")
        if not path.parent.is_dir():
            raise AskedWrongly(f"{path}: can't be made: there is no folder {path.parent}.")

    def close(self) -> None:
        self.recorder.flush()
        try:
            self._file.close()
        except OSError as problem:
            self._give_up(problem)

    def _write(self, line: str) -> None:
        if self.trouble:
            return
        try:
            self._file.write(line + "\n")
        except OSError as problem:
            self._give_up(problem)

    def _give_up(self, problem: OSError) -> None:
        self.trouble = self.trouble or f"{self._path}: recording ended early ({problem.strerror or problem})."
