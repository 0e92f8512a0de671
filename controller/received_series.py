"""CT series that ``seedguide scans --into`` keeps in the folder of requests, and which of them came after a request.

The event file ``<series UID>.json`` (``imaging/RECEIVING.md``) appears whole when a series is complete, or has
stopped short; it is replaced when the series has grown. What was there at the request is older than the last motion of
a needle and answers nothing, whenever it is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

_EVENT = "series-received"


class ReceivedSeries:
    """What comes into ``folder`` from now on.

    Args:
        told: gets a line for each CT series that can't be the answer, with the reason.
    """

    def __init__(self, folder: Path, told: Callable[[str], None]) -> None:
        self._folder, self._told = folder, told
        self._seen = self._stamps()
        self._old = frozenset(self._seen)

    def look(self) -> str | None:
        """The series UID of a complete CT that has come since; its images lie in the folder of that name."""
        stamps = self._stamps()
        new = [
            uid
            for uid, stamp in sorted(stamps.items(), key=lambda one: one[1])
            if self._seen.get(uid) != stamp
        ]
        self._seen = stamps
        for uid in reversed(new):
            if self._answers(uid):
                return uid
        return None

    def _answers(self, uid: str) -> bool:
        try:
            event = json.loads((self._folder / f"{uid}.json").read_text(encoding="utf-8"))
            is_ct = event["event"] == _EVENT and event["series_uid"] == uid and event["kind"] == "CT"
            complete, problems = event["complete"] is True, "; ".join(map(str, event["problems"]))
        except (OSError, ValueError, TypeError, KeyError):
            return False  # nobody's event: another file of that name
        if not is_ct:
            return False
        if uid in self._old:
            self._told(f"CT series {uid} has grown, but began before this CT was asked for: not taken.")
            return False
        if not complete:
            self._told(
                f"CT series {uid} has arrived INCOMPLETE ({problems}): send what is missing, or all of it again."
            )
        return complete

    def _stamps(self) -> dict[str, tuple[int, int]]:
        """Event files by series UID, with time and size."""
        found = {}
        for path in self._folder.glob("*.json"):
            if path.stem.replace(".", "").isdigit():
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found[path.stem] = (stat.st_mtime_ns, stat.st_size)
        return found
