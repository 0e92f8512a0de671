"""Reference runs of the shipped scenarios by the shipped scripts: ``python -m benchmarks.training_reference``.

Writes ``console/training/reference_runs.json``, which debriefs compare with; a run that is there for today's scenario,
script and seed is not played again, so that it can be stopped and gone on with. ``--seeds N``: chances of each.
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

from console.training.reference import TABLE
from simulator.scenario import read_scenario

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Play what is missing, one process a run."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--only", default="", help="scenarios whose file name holds this")
    chosen = asked.parse_args()
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    scenarios = sorted((ROOT / "examples" / "scenarios").glob("*.toml"))
    known = {read_scenario(path).digest for path in scenarios}
    table = {digest: runs for digest, runs in table.items() if digest in known}
    for path in scenarios:
        if chosen.only not in path.name:
            continue
        scenario = read_scenario(path)
        entry = table.setdefault(scenario.digest, {"title": scenario.title, "runs": []})
        for script in sorted((ROOT / "examples" / "trainees").glob("*.toml")):
            said = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
            for seed in range(scenario.seed, scenario.seed + chosen.seeds):
                of = {"script": script.stem, "script_digest": said, "seed": seed}
                if any(of.items() <= run.items() for run in entry["runs"]):
                    continue
                figures = _play(path, script, seed)
                entry["runs"] = [run for run in entry["runs"] if not _same(run, of)] + [{**of, **figures}]
                entry["runs"].sort(key=lambda run: (run["script"], run["seed"]))
                TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                shown = {
                    name: figures[name]
                    for name in ("ends", "passed", "missed", "cts", "minutes", "ctv_d90_gy")
                }
                print(f"{path.stem:28} {script.stem:12} {seed:4} {shown}", flush=True)


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
        return {"ends": told["ends"], "passed": told["passed"], **told["figures"]}


if __name__ == "__main__":
    main()
