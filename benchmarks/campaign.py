"""How fast campaigns are played: ``python -m benchmarks.campaign [--dose 1000] [--procedures 400]``.

On the shipped example's plan (15 needles, 41 seeds). Goals: 1000 runs of the dose alone in 10 s on two cores; 20 whole
procedures a second and core; near-linear over cores. Baselines in the same run: one implant's dose evaluated directly
(``dose_at_points_gy``), and a whole procedure through session and journal (``ControlPart``).
*Same bytes*: the tables of all cores against those of one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from controller.journal import Journal
from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.dose import dose_at_points_gy
from planning.planner import make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from simulator.ct_reader import read_ct
from simulator.patient import Patient
from simulator.rehearsal.campaign.play import play, prepare
from simulator.rehearsal.campaign.variation import Variation
from simulator.rehearsal.control_part import ControlPart

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--dose", type=int, default=1000)
    arguments.add_argument("--procedures", type=int, default=400)
    chosen = arguments.parse_args()
    case, protocol = read_case(EXAMPLE), load_site_protocol("head-and-neck")
    source = load_source(protocol.source_model)
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    plan = make_plan(case, anatomy, protocol, source=source).plan
    differ = False
    cores = len(os.sched_getaffinity(0))
    print(f"{'':34}{'runs':>7}{'wall s':>9}{'/s':>8}{'CPU ms a run':>14}{'x baseline':>12}{'same bytes':>12}")
    for kind, runs in (("dose", chosen.dose), ("procedure", chosen.procedures)):
        asked, player = prepare(EXAMPLE, plan, protocol, Variation(), kind=kind, runs=runs, seed=1)
        player.play(range(2))  # compiles
        begun = time.process_time()
        player.play(range(20))
        alone_ms = 50.0 * (time.process_time() - begun)
        if kind == "dose":
            points = player.figures.points_mm
            begun = time.process_time()
            dose_at_points_gy(source, plan.seed_centres_mm(), plan.seed_directions(), 1.0, points)
            baseline_ms, words = 1000.0 * (time.process_time() - begun), "direct evaluation, one implant"
        else:
            ct = read_ct(EXAMPLE)
            with tempfile.TemporaryDirectory() as folder:
                begun = time.process_time()
                for run in range(3):
                    patient = Patient(ct, plan.patient_from_rig, Variation().population(), run)
                    ControlPart(plan, patient, seed=run).play(Journal(Path(folder) / f"{run}.sqlite"))
                baseline_ms = 1000.0 * (time.process_time() - begun) / 3
            words = "session and journal, no dose"
        print(f"{words:34}{'':>24}{baseline_ms:>14.1f}{1.0:>12.1f}")
        print(f"{kind + ', no tables':34}{'':>24}{alone_ms:>14.1f}{baseline_ms / alone_ms:>12.1f}")
        tables = []
        for count in sorted({1, cores}):
            with tempfile.TemporaryDirectory() as folder:
                begun = time.perf_counter()
                play(asked, player, Path(folder), cores=count, scheduler=None, progress=lambda _done: None)
                wall_s = time.perf_counter() - begun
                tables.append((Path(folder) / "runs.parquet").read_bytes())
            same = "" if count == 1 else ("yes" if tables[0] == tables[-1] else "NO")
            row = f"{kind}, {count} core(s), with tables"
            print(f"{row:34}{runs:>7}{wall_s:>9.1f}{runs / wall_s:>8.1f}{'':>26}{same:>12}", flush=True)
            differ = differ or same == "NO"
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
