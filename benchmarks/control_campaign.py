"""The control part alone: ``python -m benchmarks.control_campaign [--runs N] [--first N] [--rate R]``.

Plays N small procedures (two needles, four seeds) with people in place of both devices: real procedure, interlocks,
journal on a disk, replay and recovery, no bytes and no imaging. By chance people refuse, CTs are of somebody else or
don't show everything, and the controller is killed up to twice; people then decide, and at last give up. The laws are
those of ``tests/control_room.py``: seeds counted are seeds in the patient, none beyond plan or tolerance, a reason for
each hold, an end of each procedure, an untouched journal. Baseline: undisturbed procedures in the same run. Exit status
1 when a law was violated; ``benchmarks.fault_campaign`` plays faults of cables and devices, byte by byte.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.control_room import Controlled, control
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 2)
BASELINE_RUNS = 200
PROGRESS_S = 10.0


def played(arguments: tuple[int, float]) -> tuple[int, Controlled, float]:
    """Procedure ``number``: what became of it, and s of one core."""
    number, rate = arguments
    started_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            became = control(PLAN, number, Path(folder), rate, kills=rate > 0.0)
        except Exception as problem:
            became = Controlled("CRASHED", 0, 0, [], [f"{type(problem).__name__}: {problem}"])
    return number, became, time.process_time() - started_s


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--first", type=int, default=0, help="number of the first procedure")
    arguments.add_argument("--rate", type=float, default=0.01, help="of each answer and CT that goes wrong")
    arguments.add_argument(
        "--processes",
        type=int,
        default=2 * (os.cpu_count() or 1),
        help="more than cores: they wait for the disk",
    )
    chosen = arguments.parse_args()
    numbers = range(chosen.first, chosen.first + chosen.runs)
    undisturbed = [(number, 0.0) for number in numbers[:BASELINE_RUNS]]
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        print(
            f"{'':14}{'runs':>8}{'completed':>11}{'aborted':>9}{'holds':>8}{'kills':>8}{'violations':>12}{'/s/core':>9}"
        )
        failed = 0
        for name, jobs in (("undisturbed", undisturbed), ("by chance", [(n, chosen.rate) for n in numbers])):
            ends: Counter[str] = Counter()
            seconds = 0.0
            started_s = shown_s = time.perf_counter()
            for done, (number, became, took_s) in enumerate(
                pool.imap_unordered(played, jobs, chunksize=8), 1
            ):
                if time.perf_counter() - shown_s > PROGRESS_S:
                    shown_s = time.perf_counter()
                    left_s = (shown_s - started_s) / done * (len(jobs) - done)
                    words = f"{name}: {done} of {len(jobs)} procedures, {left_s / 60:.1f} minutes to go"
                    print(words, file=sys.stderr, flush=True)
                ends.update([became.state])
                ends.update(holds=became.holds, kills=became.kills, violations=bool(became.violations))
                seconds += took_s
                if became.violations:
                    print(f"{name} (--first {number} --runs 1): {'; '.join(became.violations)}", flush=True)
            row = f"{len(jobs):>8}{ends['COMPLETED']:>11}{ends['ABORTED']:>9}{ends['holds']:>8}{ends['kills']:>8}"
            print(f"{name:14}{row}{ends['violations']:>12}{len(jobs) / max(seconds, 1e-9):>9.1f}", flush=True)
            failed += ends["violations"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
