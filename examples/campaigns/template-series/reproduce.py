"""Two published series of needles through printed templates, done again: ``reproduce.py OUT [--runs 1000]``.

Plans the shipped head-and-neck case and plays it with the errors of 10.3389/fonc.2021.664996 and 10.1093/jrr/rrw033.
Everything it writes is below OUT; a second call goes on where the first one was cut off. About 5 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from console.cli import main
from simulator.rehearsal.campaign.asked import read_asked

HERE = Path(__file__).parent
CASE = HERE.parents[1] / "hn-recurrence"
CAMPAIGNS = (
    "hn430-single-pass",
    "hn619-single-pass",
    "hn430-corrected",
    "hn430-thick-slices",
    "hn430-dose-only",
)


def spread(values: np.ndarray, digits: int) -> str:
    """Mean and standard deviation; empty when no run got so far."""
    if len(values) < 2:
        return ""
    return f"{values.mean():.{digits}f} +- {values.std(ddof=1):.{digits}f}"


def reproduce(out: Path, runs: int) -> None:
    plan = out / "plan"
    if not (plan / "plan.json").exists():
        main(["plan", str(CASE), "--out", str(plan), "--no-bound", "--no-template", "--overwrite"])
    for name in CAMPAIGNS:
        folder = out / name
        if not (folder / "campaign.html").exists():
            begun = ["--resume"] if (folder / "campaign.json").exists() else []
            only = ["--dose-only"] if name.endswith("dose-only") else []
            vary = ["--vary", str(HERE / f"{name}.toml"), "--runs", str(runs)]
            status = main(["campaign", str(plan), "--out", str(folder), *vary, *only, *begun])
            if status != 0:
                sys.exit(status)
    print(
        "\n| campaign | needles | entry mm | angle deg | depth mm | tip mm | beyond 2 mm | corrections each |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in CAMPAIGNS[:-1]:
        table = pq.read_table(out / name / "needles.parquet").to_pydict()
        columns = {key: np.array(values) for key, values in table.items()}
        for words, when, chosen in (
            ("reference, first pass", "first", columns["is_reference"]),
            ("others, first pass", "first", ~columns["is_reference"]),
            ("all, before the first seed", "final", np.ones(len(columns["run"]), bool)),
        ):
            told = []
            for figure in ("entry_mm", "angle_deg", "depth_mm", "tip_mm"):
                values = np.abs(np.array(columns[f"{when}_{figure}"][chosen], dtype=float))
                values = values[np.isfinite(values)]
                told.append(spread(values, 2))
            beyond = f"{100.0 * (values > 2.0).mean():.0f} %" if len(values) else ""
            corrections = f"{columns['corrections'][chosen].mean():.2f}" if when == "final" else ""
            print(f"| {name} | {words} | {' | '.join(told)} | {beyond} | {corrections} |")
    print(
        "\n| campaign | completed | CTV D90 planned | delivered | change | GTV D90 planned | delivered | change |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in CAMPAIGNS:
        runs_of, asked = pq.read_table(out / name / "runs.parquet"), read_asked(out / name)
        told = []
        for figure in ("CTV.d90_gy", "GTV.d90_gy"):
            planned = asked["as_planned"][figure]
            values = np.array([v for v in runs_of[figure].to_pylist() if v is not None])
            change = 100.0 * (values / planned - 1.0)
            told += [f"{planned:.1f}", spread(values, 1), f"{spread(change, 1)} %" if len(change) else ""]
        print(f"| {name} | {len(values)} of {runs_of.num_rows} | {' | '.join(told)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    chosen = parser.parse_args()
    reproduce(chosen.out, chosen.runs)
