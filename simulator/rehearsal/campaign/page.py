"""The tables of ``CAMPAIGN.md``, made from the code they describe: ``python -m simulator.rehearsal.campaign.page``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from simulator.rehearsal.campaign.table import NEEDLE, PROCEDURE, RUN, Column
from simulator.rehearsal.campaign.variation import Variation, parameters

PAGE = Path(__file__).parents[2] / "CAMPAIGN.md"
_USED_BY = {"both": "both", "procedure": "whole procedures", "dose": "dose only"}


def renewed(page: str) -> str:
    """The page with its generated tables as they are now."""
    rows = [
        f"| `{p.name}` | {_shown(p.value)} | {_USED_BY[p.used_by]} | {p.source} |"
        for p in parameters(Variation())
    ]
    table = "\n".join(["| key | default | used by | source |", "|---|---|---|---|", *rows])
    page = _between(page, "parameters", table)
    figure = Column(
        "STRUCTURE.figure", "float", "Gy or %", "dose figures, e.g. `CTV.d90_gy`, `Mandible.d2cc_gy`"
    )
    both = {"runs.parquet": (*RUN, *PROCEDURE, figure), "needles.parquet": (RUN[0], *NEEDLE)}
    lines = ["| file | column | type | unit | meaning |", "|---|---|---|---|---|"]
    for name, columns in both.items():
        lines += [f"| `{name}` | `{c.name}` | {c.kind} | {c.unit} | {c.meaning} |" for c in columns]
    return _between(page, "columns", "\n".join(lines))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _between(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return marked.sub(lambda _: f"{begin}\n{text}\n{end}", page)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
