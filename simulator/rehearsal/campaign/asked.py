"""What was asked of a campaign: ``campaign.json`` in its folder, by which a campaign that was cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planning.refusal import AskedWrongly
from planning.whole_file import write_whole
from simulator.rehearsal.campaign.variation import Variation

FORMAT = "seedguide-campaign/1"
ASKED_FILE = "campaign.json"


@dataclass(frozen=True)
class Asked:
    """One campaign.

    Attributes:
        kind: ``dose`` or ``procedure``.
        plan_hash: content hash of the plan.
        runs: their numbers are 0 .. runs - 1.
        seed: of chance; a run's chance follows from it and the run's number alone.
        chunk: runs that are played and written at a time.
        variation: what varies.
        as_planned: figures of the plan itself.
        goals: figure -> ("at_least" or "at_most", bound, source) of the site protocol.
        prescription_gy: of the plan.
    """

    kind: str
    plan_hash: str
    runs: int
    seed: int
    chunk: int
    variation: Variation
    as_planned: dict[str, float]
    goals: dict[str, tuple[str, float, str]]
    prescription_gy: float

    def chunks(self) -> Iterator[tuple[int, range]]:
        """Number and runs of each chunk."""
        for number, first in enumerate(range(0, self.runs, self.chunk)):
            yield number, range(first, min(first + self.chunk, self.runs))

    def save(self, folder: Path) -> None:
        body = {"format": FORMAT, **asdict(self)}
        write_whole(folder / ASKED_FILE, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())

    def check_goes_on(self, folder: Path) -> None:
        """What is in ``folder`` was begun by the same question; only the number of runs may have grown.

        Raises:
            AskedWrongly: no campaign there, another one, or one of more runs.
        """
        path = folder / ASKED_FILE
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AskedWrongly(f"{folder}: no campaign was begun there; leave --resume out.") from None
        except (OSError, ValueError) as problem:
            raise AskedWrongly(f"{path}: can't be read ({problem}).") from problem
        new = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))
        for key, words in _WORDS.items():
            if not isinstance(old, dict) or old.get(key) != new[key]:
                raise AskedWrongly(
                    f"{folder}: the campaign begun there is of another {words}; ask the same again, or choose another "
                    "--out."
                )
        if old["runs"] > self.runs:
            raise AskedWrongly(
                f"{folder}: the campaign begun there has {old['runs']} runs; --runs may only grow."
            )


_WORDS = {
    "format": "format",
    "kind": "kind (--dose-only)",
    "plan_hash": "plan",
    "seed": "--seed",
    "chunk": "chunk size",
    "variation": "variation (--vary)",
    "goals": "site protocol",
}


def read_asked(folder: Path) -> dict[str, Any]:
    """``campaign.json`` as JSON values."""
    body: dict[str, Any] = json.loads((folder / ASKED_FILE).read_text(encoding="utf-8"))
    return body
