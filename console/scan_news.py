"""What ``seedguide scans`` says: a line for people, or a JSON object."""

from __future__ import annotations

import codecs
import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from planning.dicom_files import plain

if TYPE_CHECKING:
    from imaging.intake import Answer
    from imaging.scan_series import SeriesReceived


class ScanNews:
    """What is said: a line for people, or a JSON object. Many refusals of one kind are one line and a count."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()  # peers are served in threads of their own
        self._last, self._more = "", 0

    def begun(self, words: str) -> None:
        if not self._as_json:
            self._say(words)

    def received(self, event: SeriesReceived, folder: Path) -> None:
        self._say(
            json.dumps({**event.to_json(), "folder": str(folder)})
            if self._as_json
            else line_of(event, folder)
        )

    def refused(self, answer: Answer) -> None:
        # no patient's name or number on the screen of a refused scan: it is somebody else's
        one = answer.arrived
        what = "an object" if one is None else f"{one.kind}, series {one.series_uid}"
        sender = plain(answer.sender or "?", 80)
        if self._as_json:
            said = {"sender": sender, "status": int(answer.status), "reason": answer.words}
            series = None if one is None else one.series_uid
            self._say(json.dumps({"event": "refused", **said, "series_uid": series}))
            return
        self._say(f"refused: {what}, from {sender}: {answer.words} (status 0x{int(answer.status):04X})")

    def turned_away(self, words: str) -> None:
        said = {"event": "turned-away", "reason": words}
        self._say(json.dumps(said) if self._as_json else f"turned away: {words}")

    def pause(self) -> None:
        """Nothing has been said for a moment: how often the last line would have been repeated."""
        with self._lock:
            self._count()

    def _say(self, line: str) -> None:
        with self._lock:
            if line == self._last and not self._as_json:
                self._more += 1
                return
            self._count()
            self._last = line
            print(line.encode("ascii", "backslashreplace").decode() if _is_ascii() else line, flush=True)

    def _count(self) -> None:
        if self._more:
            print(f"  ... and {self._more} more like it", flush=True)
        self._last, self._more = "", 0


def _is_ascii() -> bool:
    """Whether the screen knows nothing else."""
    return codecs.lookup(sys.stdout.encoding or "ascii").name == "ascii"


def line_of(event: SeriesReceived, folder: Path) -> str:
    """One line for people."""
    unit = "image" if event.kind == "CT" else "object"
    count = f"{event.images} {unit}{'' if event.images == 1 else 's'}"
    what = f"{event.kind} series of patient {plain(event.patient_id) or '(no ID)'}: {count}"
    state = "complete" if event.complete else "INCOMPLETE: " + "; ".join(event.problems)
    return f"{what}{' (grown)' if event.again else ''}, {state}; {folder}"
