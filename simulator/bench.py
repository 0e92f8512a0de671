"""The simulated operating room in a process of its own: ``python -m simulator.bench SPEC``.

SPEC is a JSON file: ``case``, ``patient_from_rig``, ``population`` (of ErrorPopulation), ``seed``, ``folder`` (gets the
pseudo-terminals ``rig`` and ``applicator`` and the socket ``theatre``) and ``speed``. Ends when the person at the
socket leaves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.benchtop import LISTENING
from simulator.doors import run_doors
from simulator.error_population import ErrorPopulation
from simulator.forked import Forked
from simulator.theatre import Theatre
from simulator.world import World


def main(spec_path: Path) -> None:
    spec = json.loads(spec_path.read_text(encoding="utf-8"))
    population: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in spec["population"].items()
    }
    world = World(
        Path(spec["case"]), spec["patient_from_rig"], ErrorPopulation(**population), int(spec["seed"])
    )
    run_doors(
        world.rig,
        world.applicator,
        Path(spec["folder"]),
        float(spec["speed"]),
        hands_of(world.theatre),
        listens=lambda: world.applicator.board.state in LISTENING,
    )


def hands_of(theatre: Theatre) -> Callable[[dict[str, Any]], dict[str, Any] | Forked]:
    """The theatre's answers, a CT's from a copy of this process: the wires must not wait for it."""

    def handle(request: dict[str, Any]) -> dict[str, Any] | Forked:
        if request.get("do") == "scan":
            return Forked(lambda: theatre.handle(request))
        return theatre.handle(request)

    return handle


if __name__ == "__main__":
    main(Path(sys.argv[1]))
