"""Procedures under faults: ``python -m benchmarks.fault_campaign [--runs N] [--kind KIND] [--first N]``.

Plays N small procedures (control part without imaging: real procedure, interlocks, drivers, bytes and firmware in
virtual time; the case of ``tests/compact_case.py``; the journal in memory) under scripted and random faults, each kind
in turn, and prints what became of them and how many procedures a core plays in a second. The laws are those of
``tests/fault_room.py`` and ``tests/audit.py``: no uncounted seed, no seed outside tolerance, each interlock's demand
kept in every record, a fault ends in a safe state and in words, never a deadlock. Baseline: the kind ``nothing``. Exit
status 1 when a law was violated; each violation is printed with what plays it again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter, defaultdict

import numpy as np

from tests.compact_case import PLAN
from tests.fault_kinds import KINDS
from tests.fault_room import play

NAMES = list(KINDS)
PROGRESS_S = 10.0


def played(number: int) -> tuple[int, str, str, bool, list[str], str, float]:
    """Procedure ``number``: its kind, end, whether a fault happened, violations, reason, s of one core."""
    kind = NAMES[number % len(NAMES)]
    faults = KINDS[kind](np.random.default_rng([number, 8]))
    started_s = time.process_time()
    outcome = play(PLAN, faults, seed=number)
    took_s = time.process_time() - started_s
    return number, kind, outcome.state, bool(outcome.happened), outcome.violations, outcome.reason, took_s


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--first", type=int, default=0, help="number of the first procedure")
    arguments.add_argument("--kind", choices=NAMES, help="only this one")
    arguments.add_argument("--processes", type=int, default=2)
    chosen = arguments.parse_args()
    numbers = range(chosen.first, chosen.first + chosen.runs)
    if chosen.kind:
        first = chosen.first // len(NAMES) * len(NAMES) + NAMES.index(chosen.kind)
        numbers = range(first, first + chosen.runs * len(NAMES), len(NAMES))
    ends: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    started_s = shown_s = time.perf_counter()
    done = 0
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        for number, kind, state, happened, wrong, reason, took_s in pool.imap_unordered(
            played, numbers, chunksize=8
        ):
            ends[kind].update([state.lower() if not wrong else "violations", "runs"])
            ends[kind]["happened"] += happened
            seconds[kind] += took_s
            done += 1
            if time.perf_counter() - shown_s > PROGRESS_S:
                shown_s = time.perf_counter()
                left_s = (shown_s - started_s) / done * (len(numbers) - done)
                words = f"{done} of {len(numbers)} procedures, {left_s / 60:.1f} minutes to go"
                print(words, file=sys.stderr, flush=True)
            if wrong:
                again = f"--first {number} --runs 1"
                print(f"{kind} ({again}): {'; '.join(wrong)} [{reason}]", flush=True)
    took_s = time.perf_counter() - started_s
    columns = ("runs", "happened", "completed", "held", "stopped", "violations")
    print(f"{'kind':24}" + "".join(f"{column:>11}" for column in columns) + f"{'/s/core':>9}")
    for kind in (name for name in NAMES if name in ends):
        row = "".join(f"{ends[kind][column]:>11}" for column in columns)
        print(f"{kind:24}{row}{ends[kind]['runs'] / max(seconds[kind], 1e-9):>9.1f}")
    total = sum(ends.values(), Counter[str]())
    row = "".join(f"{total[column]:>11}" for column in columns)
    print(f"{'all':24}{row}{total['runs'] / max(sum(seconds.values()), 1e-9):>9.1f}")
    print(
        f"{took_s:.0f} s on {chosen.processes} processes, {total['runs'] / took_s:.1f} procedures/s together"
    )
    return 1 if total["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
