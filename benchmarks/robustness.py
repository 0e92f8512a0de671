"""How fast implants with placement errors are played, and what they show: ``python -m benchmarks.robustness [N]``.

On the shipped example's plan. The goal: 1000 dose-only samples in 10 s on two cores. Baseline: the same on one thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.planner import make_plan
from planning.robustness import play_implants
from planning.site_protocol import load_site_protocol
from planning.sources import load_source

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


def main(samples: int) -> None:
    case, protocol, source = read_case(EXAMPLE), load_site_protocol("head-and-neck"), load_source()
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    plan = make_plan(case, anatomy, protocol, source=source).plan
    play_implants(plan, anatomy, protocol, source, samples=10)  # compiles
    for threads in (1, 2):
        begun = time.perf_counter()
        found = play_implants(plan, anatomy, protocol, source, samples=samples, threads=threads)
        print(
            f"{samples} implants of {len(plan.seeds)} seeds, {threads} thread(s): {time.perf_counter() - begun:.1f} s"
        )
    print(f"\n{found.sigmas.in_words()}")
    print(f"{'':26s}{'planned':>9s}{'5 %':>9s}{'50 %':>9s}{'95 %':>9s}{'goal kept':>12s}")
    for figure in found.figures:
        kept = "" if figure.kept is None else f"{100 * figure.kept:.1f} %"
        values = "".join(f"{value:9.1f}" for value in (figure.nominal, *figure.percentiles))
        print(f"{figure.structure + ' ' + figure.label:26s}{values}{kept:>12s}")
    for needle in found.needles[:3]:
        print(
            f"{needle.name}: {100 * needle.share:.0f} % of the variance of D90, {needle.lost_gy:.1f} Gy without it"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
