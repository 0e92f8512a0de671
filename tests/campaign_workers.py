"""What workers play in tests of workers: light to import, and able to die."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Squares:
    """A run's row is its number squared; run ``dies_at`` kills its worker as long as ``marks`` has room for a mark.

    Attributes:
        marks: folder; a file there for each death.
        deaths: so many.
    """

    marks: str = ""
    dies_at: int = -1
    deaths: int = 0

    def play(self, runs: Sequence[int]) -> list[dict[str, Any]]:
        if self.dies_at in runs:
            for death in range(self.deaths):
                try:
                    os.close(os.open(os.path.join(self.marks, str(death)), os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                os._exit(9)
        return [{"run": run, "square": run * run} for run in runs]


class NeverBegins(Squares):
    """Workers that are given this never come to play."""

    def __setstate__(self, state: object) -> None:
        signal.pause()


CHUNKS = [(number, range(3 * number, 3 * number + 3)) for number in range(14)]
EXPECTED = {number: [{"run": run, "square": run * run} for run in runs] for number, runs in CHUNKS}
