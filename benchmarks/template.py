"""How long a plan's printed template takes, and its self-check: ``python -m benchmarks.template [PLAN CASE]``.

Without arguments the shipped example is planned first. The first run of a fresh checkout also compiles the kernels.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.plan import Plan
from planning.planner import make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from planning.template import make_template

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


def main(arguments: list[str]) -> None:
    case = read_case(Path(arguments[1]) if len(arguments) == 2 else EXAMPLE)
    plan = Plan.load(Path(arguments[0])) if len(arguments) == 2 else None
    protocol = load_site_protocol(plan.site_protocol if plan else "head-and-neck")
    anatomy = build_anatomy(
        case, protocol, target=plan.target if plan else None, margin_mm=protocol.margin_mm
    )
    plan = plan or make_plan(case, anatomy, protocol, source=load_source()).plan
    for run in ("first (may compile)", "second", "third"):
        begun = time.perf_counter()
        template = make_template(plan, anatomy.body, anatomy.grid)
        print(f"{time.perf_counter() - begun:6.2f} s  {run}: {len(template.guides)} guides, files checked")
    for row in template.checks:
        print(f"  {row.what:38s} {row.found:>22s}   {row.wanted}")


if __name__ == "__main__":
    main(sys.argv[1:])
