"""How long planning takes, step by step, and what it yields: ``python -m benchmarks.plan_a_case [CASE ...]``.

The first plan of a fresh checkout also compiles the kernels; the second run is what planning takes from then on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.planner import PlanResult, make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


class Stopwatch:
    """Prints the time from one step's beginning to the next one's."""

    def __init__(self) -> None:
        self.step, self.begun = "", time.perf_counter()

    def __call__(self, step: str, _part: float = 0.0) -> None:
        now = time.perf_counter()
        if self.step:
            print(f"  {now - self.begun:7.2f} s  {self.step}")
        self.step, self.begun = step, now


def show(result: PlanResult) -> None:
    plan = result.plan
    print(
        f"\n  {len(plan.needles)} needles, {len(plan.seeds)} seeds, {100 * result.cover:.0f} % of the CTV in reach"
    )
    print(f"  plan {plan.content_hash[:16]}")
    for goal in result.goals:
        print(
            f"  {'met   ' if goal.met else 'MISSED'} {goal.wanted:34s} {goal.value:7.1f} {goal.unit}  [{goal.source}]"
        )
    for name, s in result.statistics.items():
        hottest = "-" if s.d2cc_gy is None else f"{s.d2cc_gy:.0f}"
        print(
            f"  {name:14s} {s.volume_cc:7.1f} cc  D90 {s.d90_gy:6.1f} Gy  V100 {s.v100_pct:5.1f} %  "
            f"V150 {s.v150_pct:5.1f} %  V200 {s.v200_pct:5.1f} %  D2cc {hottest:>5s} Gy"
        )


def main(cases: list[Path]) -> None:
    protocol = load_site_protocol("head-and-neck")
    for folder in cases:
        for run in ("first (may compile)", "second"):
            print(f"{folder.name}, {run} run")
            watch = Stopwatch()
            watch("read")
            case = read_case(folder)
            watch("anatomy")
            anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
            begun = time.perf_counter()
            result = make_plan(case, anatomy, protocol, source=load_source(), progress=watch)
            print(f"  {time.perf_counter() - begun:7.2f} s  planning in all")
        show(result)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]] or [EXAMPLE])
