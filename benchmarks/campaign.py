"""How fast campaigns are played: ``python -m benchmarks.campaign [--dose 8000] [--procedures 400]``.

On the shipped example's plan (15 needles, 41 seeds). Goals: 1000 runs of the dose alone in 10 s on two cores; 20 whole
procedures a second and core, tables written; near-linear over cores, and never slower with two cores than with one.
Baselines in the same run: one implant's dose evaluated directly (``dose_at_points_gy``), and a whole procedure through
session and journal (``ControlPart``). Every row plays the same runs with the same code, warm, and writes its tables.
CPU is this process's and its workers', so that a row which something else on the machine has slowed down shows it.
*Same bytes*: the tables of all cores against those of one.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from controller.journal import Journal
from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.dose import dose_at_points_gy
from planning.plan import Plan
from planning.planner import make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from simulator.ct_reader import read_ct
from simulator.patient import Patient
from simulator.rehearsal.campaign.asked import Asked
from simulator.rehearsal.campaign.dose_run import DoseRuns
from simulator.rehearsal.campaign.play import play, prepare
from simulator.rehearsal.campaign.procedure_run import ProcedureRuns
from simulator.rehearsal.campaign.variation import Variation
from simulator.rehearsal.control_part import ControlPart

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--dose", type=int, default=8000)
    arguments.add_argument("--procedures", type=int, default=400)
    chosen = arguments.parse_args()
    case, protocol = read_case(EXAMPLE), load_site_protocol("head-and-neck")
    source = load_source(protocol.source_model)
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    plan = make_plan(case, anatomy, protocol, source=source).plan
    differ = False
    cores = len(os.sched_getaffinity(0))
    print(f"{'':34}{'runs':>7}{'wall s':>9}{'/s':>8}{'CPU ms a run':>14}", end="")
    print(f"{'x baseline':>12}{'x 1 core':>10}{'same bytes':>12}")
    for kind, few, many in (("dose", 200, chosen.dose), ("procedure", 40, chosen.procedures)):
        _, player = prepare(EXAMPLE, plan, protocol, Variation(), kind=kind, runs=many, seed=1)
        player.play(range(2))  # compiles
        baseline_ms, words = _dose_ms(player, plan) if kind == "dose" else _control_ms(plan)
        print(f"{words:34}{'':>24}{baseline_ms:>14.1f}{1.0:>12.1f}")
        for runs in sorted({few, 1000 if kind == "dose" else few, many}):
            asked, player = prepare(EXAMPLE, plan, protocol, Variation(), kind=kind, runs=runs, seed=1)
            alone_s, tables = 0.0, b""
            for count in sorted({1, cores}):
                wall_s, cpu_s, written = _played(asked, player, count)
                if count == 1:
                    alone_s, tables, same = wall_s, written, ""
                else:
                    same = "yes" if written == tables else "NO"
                row = f"{kind}, {count} core(s)"
                print(
                    f"{row:34}{runs:>7}{wall_s:>9.1f}{runs / wall_s:>8.1f}{1000.0 * cpu_s / runs:>14.1f}"
                    f"{baseline_ms * runs / cpu_s / 1000.0:>12.1f}{alone_s / wall_s:>10.2f}{same:>12}",
                    flush=True,
                )
                differ = differ or same == "NO"
    return 1 if differ else 0


def _played(asked: Asked, player: DoseRuns | ProcedureRuns, cores: int) -> tuple[float, float, bytes]:
    """Wall and CPU seconds of a whole campaign, and its table of runs."""
    with tempfile.TemporaryDirectory() as folder:
        begun, cpu_s = time.perf_counter(), _cpu_s()
        play(asked, player, Path(folder), cores=cores, scheduler=None, progress=lambda _done: None)
        return time.perf_counter() - begun, _cpu_s() - cpu_s, (Path(folder) / "runs.parquet").read_bytes()


def _cpu_s() -> float:
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def _dose_ms(player: DoseRuns | ProcedureRuns, plan: Plan) -> tuple[float, str]:
    begun = time.process_time()
    dose_at_points_gy(
        player.figures.source, plan.seed_centres_mm(), plan.seed_directions(), 1.0, player.figures.points_mm
    )
    return 1000.0 * (time.process_time() - begun), "direct evaluation, one implant"


def _control_ms(plan: Plan) -> tuple[float, str]:
    ct = read_ct(EXAMPLE)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        for run in range(3):
            patient = Patient(ct, plan.patient_from_rig, Variation().population(), run)
            ControlPart(plan, patient, seed=run).play(Journal(Path(folder) / f"{run}.sqlite"))
        return 1000.0 * (time.process_time() - begun) / 3, "session and journal, no dose"


if __name__ == "__main__":
    sys.exit(main())
