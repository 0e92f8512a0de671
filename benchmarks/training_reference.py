"""Reference runs of the shipped scenarios by the shipped scripts: ``python -m benchmarks.training_reference``.

Writes ``console/training/reference_runs.json``, which debriefs compare with; a run that is there for today's scenario,
plan, script and seed is not played again, so that it can be stopped and gone on with. ``--seeds N``: chances of each;
``--anew``: also those that were played by other code than today's; ``--show``: only tell who passes by today's marks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from console.training.mark import marks_of
from console.training.reference import PLAN_DIGITS, TABLE
from console.training.script import read_script
from planning.plan import Plan
from simulator.scenario import Scenario, read_scenario

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Play what is missing, one process a run."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--only", default="", help="scenarios whose file name holds this")
    asked.add_argument("--script", default="", help="scripts whose file name holds this")
    asked.add_argument("--anew", action="store_true", help="also those that other code has played")
    asked.add_argument("--show", action="store_true", help="play nothing: tell of the runs that are there")
    chosen = asked.parse_args()
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    code = _code()
    scenarios = sorted((ROOT / "examples" / "scenarios").glob("*.toml"))
    known = {read_scenario(path).digest for path in scenarios}
    table = {digest: runs for digest, runs in table.items() if digest in known}
    for path in scenarios:
        if chosen.only not in path.name:
            continue
        scenario = read_scenario(path)
        plan = Plan.load(Path(scenario.plan)).content_hash[:PLAN_DIGITS]
        entry = table.setdefault(scenario.digest, {"title": scenario.title, "runs": []})
        for run in entry["runs"] if chosen.show else ():
            print(_line(path, scenario, run))
        for script in () if chosen.show else sorted((ROOT / "examples" / "trainees").glob("*.toml")):
            if chosen.script not in script.stem:
                continue
            said = hashlib.sha256(repr(read_script(script)).encode()).hexdigest()[:12]
            for seed in range(scenario.seed, scenario.seed + chosen.seeds):
                of = {"script": script.stem, "script_digest": said, "seed": seed, "plan": plan}
                there = [run for run in entry["runs"] if of.items() <= run.items()]
                if any(run.get("code") == code or not chosen.anew for run in there):
                    continue
                figures = _play(path, script, seed)
                entry["runs"] = [run for run in entry["runs"] if not _same(run, of)] + [
                    {**of, "code": code, **figures}
                ]
                entry["runs"].sort(key=lambda run: (run["script"], run["seed"]))
                TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                print(_line(path, scenario, {**of, **figures}), flush=True)


def _code() -> str:
    """Of what makes a run: guidance, imaging, simulator, planning, as they are today."""
    found = hashlib.sha256()
    for package in ("controller", "imaging", "planning", "simulator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _line(path: Path, scenario: Scenario, run: dict[str, Any]) -> str:
    """One run: whether it passes by today's marks, which not, and what it took."""
    missed = [mark for mark in marks_of(run, scenario.marks.model_dump()) if not mark.met]
    told = "; ".join(f"{mark.name} {mark.reached}" for mark in missed) or "passed"
    took = f"{run['minutes']:5.1f} min {run['cts']:3} CTs {run['corrections']:3} corrections"
    return f"{path.stem:28} {run['script']:12} {run['seed']:4} {took}  {told}"


def _same(run: dict[str, Any], of: dict[str, Any]) -> bool:
    return all(run[key] == of[key] for key in ("script", "seed"))


def _play(path: Path, script: Path, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="seedguide-") as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "console.cli", "train", str(path), "--out", str(out), "--quiet"]
        done = subprocess.run(
            [*command, "--script", str(script), "--seed", str(seed)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 4):
            raise SystemExit(f"{path.name}, {script.name}: {done.stderr or done.stdout}")
        told = json.loads((out / "debrief.json").read_text(encoding="utf-8"))
        figures: dict[str, Any] = told["figures"]
        return figures


if __name__ == "__main__":
    main()
