"""What a simulated board remembers without power.

A write is all or nothing, as two slots with a checksum make it on a real board. A test can let the power fail
just before or just after any write.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any


class PowerCutError(Exception):
    """The power failed during a write: this firmware object is dead, its store is not."""


class NonVolatile:
    """Named records of plain values (numbers, texts, lists, dicts with text keys).

    Args:
        path: a file that keeps the records between processes; None keeps them in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._records: dict[str, Any] = {}
        self.writes = 0
        self._fail_at: int | None = None
        self._is_written_at_failure = False
        if path is not None and path.exists():
            self._records = json.loads(path.read_text(encoding="utf-8"))

    def read(self, name: str, default: Any) -> Any:
        """A copy of the record, or of ``default`` when nothing was ever written."""
        return copy.deepcopy(self._records.get(name, default))

    def write(self, name: str, record: Any) -> None:
        """Replace the record.

        Raises:
            PowerCutError: a failure was planned for this write.
        """
        self.writes += 1
        fails = self._fail_at is not None and self.writes == self._fail_at
        if not fails or self._is_written_at_failure:
            self._records[name] = copy.deepcopy(record)
            if self._path is not None:
                beside = self._path.with_suffix(".new")
                beside.write_text(json.dumps(self._records), encoding="utf-8")
                os.replace(beside, self._path)
        if fails:
            self._fail_at = None
            raise PowerCutError(f"power cut at write {self.writes}")

    def fail_at(self, write: int, *, written: bool) -> None:
        """Let the power fail at this write (counted by ``writes``), before it or after it took hold."""
        self._fail_at, self._is_written_at_failure = write, written
