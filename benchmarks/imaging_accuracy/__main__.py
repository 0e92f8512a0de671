"""How well needles, seeds and the patient's position are found: ``python -m benchmarks.imaging_accuracy``.

Simulated rescans, fast and faithful ones, of several CTs (the example's patient from both sides and steeply, with
dental metal, a reduced field, less dose and breathing; phantoms with other pixels and noise); imaging looks at the
DICOM files and is compared with the simulator's truth. Nothing in imaging was set on seeds of chance from 2001
on. On as many processes as there are cores. Times are CPU seconds of one process.

    --keep DIR      keep rescans there (about 1 GB), and take those that are there
    --first N       first seed of chance (2001)
    --only TEXT     columns whose name contains TEXT
    --share X       a share of the rescans of each column, at least one
    --each          a line for every needle far off, unseen or unplanned
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.imaging_accuracy.measured import Measured, play
from benchmarks.imaging_accuracy.rescans import Column

OTHERS = ("left", "steep", "low dose", "dental", "reduced field", "breathing", "phantom 1", "phantom 2")
COLUMNS = (
    Column("1.25 mm, pitch 7-10", 1.25, (7.0, 10.0), 43),
    Column("2.5 mm, pitch 7-10", 2.5, (7.0, 10.0), 43),
    Column("1.25 mm, pitch 5", 1.25, (5.0,), 29),
    Column("2.5 mm, pitch 5", 2.5, (5.0,), 29),
    Column("1.25 mm, other CTs", 1.25, (7.0, 10.0), 40, variants=OTHERS),
    Column("2.5 mm, other CTs", 2.5, (7.0, 10.0), 40, variants=OTHERS),
    Column("0.6 mm, pitch 7-10", 0.6, (7.0, 10.0), 6),
    Column("5 mm, pitch 7-10", 5.0, (7.0, 10.0), 10),
    Column("faithful 1.25 mm, pitch 7-10", 1.25, (7.0, 10.0), 4, "faithful", ("right", "dental", "left", "phantom 2")),
    Column("faithful 1.25 mm, pitch 5", 1.25, (5.0,), 4, "faithful"),
    Column("faithful 2.5 mm, pitch 7-10", 2.5, (7.0, 10.0), 4, "faithful", ("right", "dental", "left", "phantom 2")),
    Column("faithful 2.5 mm, pitch 5", 2.5, (5.0,), 5, "faithful"),
)  # fmt: skip


def goals(column: Column) -> tuple[float, float]:
    """Tip error in mm: median and 95 %; nothing is asked above 2.5 mm."""
    if column.slice_mm <= 1.25:
        return 0.4, 0.8
    return (0.6, 1.2) if column.slice_mm <= 2.5 else (np.inf, np.inf)


def rows(column: Column, m: Measured) -> list[str]:
    """A column's cells from top to bottom."""

    def told(text: str, *good: bool) -> str:
        return text if all(good) else f"{text} **no**"

    def of(values: list[float], *percent: float) -> str:
        return " / ".join(f"{v:.2f}" for v in np.percentile(values, percent)) if values else "-"

    thin, medium = column.slice_mm <= 1.25, column.slice_mm <= 2.5
    tip, sigma = np.array(m.tip_mm), np.array(m.sigma_mm)
    seen = len(tip)
    median, most = goals(column)
    tre = np.array(m.tre_mm)
    detection = told(
        f"{seen} of {m.planned}, {m.unplanned}",
        not medium or seen >= 0.99 * m.planned,
        m.unplanned <= 0.01 * m.planned,
    )
    cells = [str(m.scans), detection]
    if seen:
        middle, late = np.percentile(tip, (50, 95))
        inside = float(np.mean(tip < 2.0 * sigma))
        cells += [
            told(f"{middle:.2f}", middle <= median),
            told(f"{late:.2f} ({tip.max():.1f})", late <= most),
            told(of(m.line_deg, 50, 95), not medium or np.median(m.line_deg) <= 0.5),
            told(of(m.angle_deg, 50, 95), not medium or np.median(m.angle_deg) <= 0.5),
            told(f"{100 * inside:.0f} %", inside >= 0.945),
            of(m.sigma_mm, 50),
            told(f"{100 * np.mean(m.cannot_tell):.0f} %", medium or bool(np.mean(m.cannot_tell) > 0.5)),
            f"{sum(m.within_wrongly)} / {sum(m.beyond_wrongly)} of {seen - sum(m.cannot_tell)}",
        ]
    else:
        cells += ["-"] * 8
    ratio = float(np.mean(tre < 2.0 * np.array(m.expected_tre_mm))) if len(tre) else 0.0
    cells += [
        told(
            f"{np.sqrt(np.mean(tre**2)):.2f} ({tre.max():.2f})" if len(tre) else "-",
            not len(tre) or not medium or tre.max() <= 0.5,
        ),
        told(f"{of(m.expected_tre_mm, 50)}, {100 * ratio:.0f} %", ratio >= 0.945),
        told(str(m.registration_failed), m.registration_failed == 0),
        told(
            f"{len(m.seed_mm)} of {m.seeds}, {m.seeds_false}",
            not medium or len(m.seed_mm) >= 0.98 * m.seeds,
            m.seeds_false <= 0.02 * m.seeds,
        ),
        told(of(m.seed_mm, 50, 95), not thin or not m.seed_mm or np.median(m.seed_mm) <= 0.7),
        of(m.seed_deg, 50, 95),
        " / ".join(of(t, 50) for t in (m.register_cpu_s, m.needles_cpu_s, m.seeds_cpu_s)),
    ]
    return cells


NAMES = (
    "scans",
    "needles seen, unplanned (>= 99 %, <= 1 %)",
    "tip error mm, median (0.4; 0.6 at 2.5)",
    "95 % (0.8; 1.2 at 2.5), greatest",
    "angle of the line tip to entry, median / 95 % (0.5 deg)",
    "angle at the tip, median / 95 % (0.5 deg)",
    "tips within 2 sigma (95 %)",
    "sigma mm, median",
    "verdict cannot tell",
    "told within though beyond 2 mm / beyond though within, of those told",
    "registration at the tips mm, rms (greatest) (0.5)",
    "stated mm, median; within 2 sigma",
    "registrations that failed",
    "seeds seen, false (>= 98 %, <= 2 %)",
    "seed position mm, median / 95 % (0.7 at 1.25)",
    "seed direction deg (the planned one is kept), median / 95 %",
    "CPU s: registration / needles / seeds",
)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.imaging_accuracy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--first", type=int, default=2001)
    parser.add_argument("--only", default="")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--each", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [(k, c) for k, c in enumerate(COLUMNS) if options.only in c.name]
        jobs = [
            (column, number, options.first + 100 * k + number, str(folder))
            for k, column in chosen
            for number in range(max(1, round(column.count * options.share)))
        ]
        jobs.sort(key=lambda job: job[0].mode != "faithful")  # the long ones first
        tallies = {column.name: Measured() for _, column in chosen}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as processes:
            for k, (job, one) in enumerate(zip(jobs, processes.map(play, jobs), strict=True)):
                print(f"\r{k + 1} of {len(jobs)} rescans", end="", file=sys.stderr, flush=True)
                if one is not None:
                    tallies[job[0].name] += one
                    if options.each:
                        tell(job, one)
    print(file=sys.stderr)
    played = [(column, tallies[column.name]) for _, column in chosen if tallies[column.name].scans]
    for first in range(0, len(played), 4):
        part = played[first : first + 4]
        print(f"| | {' | '.join(column.name for column, _ in part)} |\n|---|{'---|' * len(part)}")
        cells = [rows(column, tally) for column, tally in part]
        for k, name in enumerate(NAMES):
            print(f"| {name} | {' | '.join(column[k] for column in cells)} |")
        print()


def tell(job: tuple[Column, int, int, str], one: Measured) -> None:
    """What is worth looking at in a rescan."""
    column, number, seed, _ = job
    where = f"{column.name} {column.variants[number % len(column.variants)]} {seed}"
    for name, tip, along, sigma, angle in zip(
        one.names, one.tip_mm, one.along_mm, one.sigma_mm, one.angle_deg, strict=True
    ):
        if tip > 2.0 * sigma or tip > 2.0 * goals(column)[1]:
            print(
                f"{where} {name}: tip {tip:.2f} mm off ({along:+.2f} along), sigma {sigma:.2f}, {angle:.1f} degrees"
            )
    if len(one.names) < one.planned or one.unplanned:
        print(f"{where}: {len(one.names)} of {one.planned} seen, {one.unplanned} unplanned")
    if one.registration_failed:
        print(f"{where}: registration failed")
    if one.seeds_false or len(one.seed_mm) < one.seeds:
        print(f"{where}: seeds {len(one.seed_mm)} of {one.seeds}, {one.seeds_false} false")


if __name__ == "__main__":
    main()
