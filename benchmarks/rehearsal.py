"""How long a whole rehearsal takes, step by step: ``python -m benchmarks.rehearsal [CASE] [--seeds N]``.

Plays the procedure once to compile what is compiled once, then once per seed, and prints wall seconds and the share
of each step. Baseline of the ratios: the simulated procedure's own duration on its virtual clock.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from controller.result import ProcedureResult
from simulator.rehearsal.options import RehearsalOptions
from simulator.rehearsal.rehearse import rehearse

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


def play(case: Path, seed: int) -> ProcedureResult:
    with tempfile.TemporaryDirectory() as folder:
        return rehearse(RehearsalOptions(case=case, out=Path(folder), seed=seed), lambda _news: None)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("case", nargs="?", type=Path, default=EXAMPLE)
    arguments.add_argument("--seeds", type=int, default=3)
    chosen = arguments.parse_args()
    results = {"first": play(chosen.case, 1)}
    results |= {f"seed {seed}": play(chosen.case, seed) for seed in range(1, chosen.seeds + 1)}
    steps = list(results["seed 1"].seconds)
    width = max(map(len, steps)) + 2
    print(" " * width + "".join(f"{name:>12}" for name in results))
    for step in steps:
        print(step.ljust(width) + "".join(f"{r.seconds.get(step, 0.0):10.2f} s" for r in results.values()))
    wall = {name: sum(r.seconds.values()) for name, r in results.items()}
    print("together".ljust(width) + "".join(f"{seconds:10.2f} s" for seconds in wall.values()))
    print("CTs".ljust(width) + "".join(f"{len(r.rounds):12d}" for r in results.values()))
    procedure = {name: r.final.virtual_time_s for name, r in results.items()}
    print("procedure's clock".ljust(width) + "".join(f"{seconds:10.0f} s" for seconds in procedure.values()))
    ratios = [f"{procedure[name] / wall[name]:10.0f} x" for name in results]
    print("faster than life".ljust(width) + "".join(ratios))
    print("ended".ljust(width) + "".join(f"{r.status:>12}" for r in results.values()))


if __name__ == "__main__":
    main()
