"""The simulated room of a rehearsal as a process of its own, behind two pseudo-terminals."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from planning.plan import Plan
from simulator.error_population import ErrorPopulation
from simulator.rehearsal.options import RehearsalOptions
from simulator.rehearsal.people import Hands


def start_bench(
    options: RehearsalOptions, plan: Plan, population: ErrorPopulation, folder: Path, stack: ExitStack
) -> Hands:
    """The simulated room as a process of its own; the returned hands reach it through its socket."""
    spec = {
        "case": str(options.case.resolve()),
        "patient_from_rig": plan.patient_from_rig,
        "population": asdict(population),
        "seed": options.seed,
        "folder": str(folder),
        "speed": options.speed or 1.0,
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    bench = subprocess.Popen([sys.executable, "-m", "simulator.bench", str(folder / "spec.json")])
    stack.callback(bench.wait)
    stack.callback(bench.terminate)
    address = folder / "theatre"
    while not address.exists():
        if bench.poll() is not None:
            raise RuntimeError(f"the simulated devices did not start (exit status {bench.returncode})")
        time.sleep(0.05)
    link = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    link.connect(str(address))
    words = stack.enter_context(link.makefile("rwb"))

    def hands(request: dict[str, Any]) -> dict[str, Any]:
        words.write(json.dumps(request).encode() + b"\n")
        words.flush()
        answer: dict[str, Any] = json.loads(words.readline())
        return answer

    return hands
