"""The controller killed at every point: ``python -m benchmarks.kill_points [--every N] [--first K] [--needles N]``.

Plays a small procedure (real drivers, bytes and firmware in virtual time; plain tissue, a truthful scanner) once per
point: before and after each journal write, and at each boundary of the bytes (nothing of a message sent, half of it,
all of it, the answer come, the answer taken in). The devices live on, the controller is resumed from its journal.
Prints how many points ended with the planned seeds delivered, none twice, none lost, and names every other one.
Baseline: the undisturbed procedure, which is point 0. Exit status 1 when a point failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from controller.journal import verify
from tests.killed_room import KilledRoom, amiss, play
from tests.made_plan import made_plan


def played(arguments: tuple[int, int, int, int]) -> tuple[int, str, list[str], int]:
    """One point: its number, where it was, what is amiss, and how many points the last run passed."""
    at, needles, seeds, chance = arguments
    with tempfile.TemporaryDirectory() as folder:
        room = KilledRoom(made_plan(needles, 1, seeds), setup_mm=3.0, own_mm=1.2, seed=chance)
        try:
            outcome = play(room, Path(folder), [at] if at else [])
            wrong = amiss(room, outcome)
            broken = verify(Path(folder) / "journal.sqlite")
            if broken is not None:
                wrong.append(broken)
            return at, "".join(outcome.where), wrong, (outcome.passed or [0])[-1]
        except Exception as problem:
            return at, "", [f"{type(problem).__name__}: {problem}"], 0


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--every", type=int, default=1, help="only every N-th point")
    arguments.add_argument("--first", type=int, default=1)
    arguments.add_argument("--needles", type=int, default=2)
    arguments.add_argument("--seeds", type=int, default=2, help="per needle")
    arguments.add_argument("--chance", type=int, default=1)
    arguments.add_argument("--processes", type=int, default=2)
    chosen = arguments.parse_args()
    same = (chosen.needles, chosen.seeds, chosen.chance)
    started_s = time.perf_counter()
    _, _, wrong, count = played((0, *same))
    if wrong:
        print(f"the undisturbed procedure is amiss: {wrong}")
        return 1
    print(f"undisturbed: completed, {count} points, {time.perf_counter() - started_s:.2f} s")
    points = range(chosen.first, count + 1, chosen.every)
    reasons: Counter[str] = Counter()
    started_s = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        for at, where, wrong, _ in pool.imap_unordered(played, ((at, *same) for at in points), chunksize=8):
            if wrong:
                reasons["; ".join(wrong)] += 1
                print(f"point {at} ({where}): {'; '.join(wrong)}", flush=True)
    took_s = time.perf_counter() - started_s
    failed = sum(reasons.values())
    print(
        f"{len(points)} of {count} points, {failed} violations, {took_s:.0f} s "
        f"({len(points) / took_s:.2f} points/s on {chosen.processes} processes)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
