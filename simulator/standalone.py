"""A bench that stands alone: ``python -m simulator.standalone SPEC``, as ``seedguide simulate`` starts it.

SPEC is a JSON object: ``link`` (folder of the doors and of ``scans``), ``devices`` (rig, applicator, encoder),
``tcp``, ``speed``, ``faults`` (a file or null), ``seed``, ``rig_kind`` (coplanar, oblique), and ``case`` with
``patient_from_rig`` (both null: nobody lies on the couch). SIGINT and SIGTERM end it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from simulator.accuseed import AccuSeedFirmware
from simulator.applicator_board import ApplicatorIdentity
from simulator.bench import hands_of
from simulator.benchtop import Benchtop
from simulator.cable import Endpoint
from simulator.caretaker import Caretaker
from simulator.doors import Door, PseudoTerminal, TcpPort, serve
from simulator.error_population import ErrorPopulation
from simulator.faults import FaultError, read_faults
from simulator.grbl_kind import OBLIQUE
from simulator.patient import Patient
from simulator.requests import RequestFolder
from simulator.rig_mechanics import OBLIQUE as FIVE_AXES
from simulator.rig_mechanics import RigMechanics, Z
from simulator.theatre import Theatre
from simulator.world import World

COUNTS_PER_MM = 20.0
"""Of the simulated depth encoder's gear (assumed)."""


def main(spec: dict[str, Any]) -> None:
    """Put the bench together and serve it.

    Raises:
        FaultError: the file of faults is no such file.
        OSError, ValueError: the patient can't be read, or the doors can't be made.
    """
    faults = [] if spec["faults"] is None else read_faults(Path(spec["faults"]))
    for place, fault in enumerate(faults, 1):
        if fault.needs_procedure:
            raise FaultError(
                f"{spec['faults']}: fault {place} ('{fault.do}') needs a procedure; the bench alone knows "
                "only at_s and per_hour, and its devices: use seedguide rehearse --faults."
            )
    link, seed = Path(spec["link"]), int(spec["seed"])
    mode = spec.get("scanner", "fast")
    if spec["case"] is not None:
        theatre = World(Path(spec["case"]), spec["patient_from_rig"], ErrorPopulation(), seed).theatre
        theatre.scanner_mode = mode
        bench = Benchtop(seed, theatre.rig, theatre.applicator)
    elif spec["rig_kind"] == "oblique":
        air = RigMechanics(np.random.default_rng([seed, 1]), parameters=FIVE_AXES)
        bench = Benchtop(seed, air, kind=OBLIQUE)
        theatre = Theatre(None, bench.rig_mechanics, bench.applicator_mechanics)
    else:
        bench = Benchtop(seed)

        def fetch(case: Path, patient_from_rig: Any) -> Patient:
            return Patient(case, patient_from_rig, ErrorPopulation(), seed)

        theatre = Theatre(
            None, bench.rig_mechanics, bench.applicator_mechanics, fetch=fetch, scanner_mode=mode
        )
    link.mkdir(parents=True, exist_ok=True)
    doors: dict[str, Door] = {}
    urls: dict[str, str] = {}

    def open_door(name: str) -> None:
        if spec["tcp"]:
            doors[name] = port = TcpPort()
            urls[name] = f"socket://127.0.0.1:{port.port}"
        else:
            doors[name] = PseudoTerminal(link / name)
            urls[name] = str(link.resolve() / name) if name == "encoder" else str(link / name)

    others = [name for name in spec["devices"] if name != "encoder"]
    if others != spec["devices"]:
        open_door("encoder")  # whose port stands in devices.toml
    toml = devices_toml(float(spec["speed"]), urls.get("encoder"))
    (link / "devices.toml").write_text(toml, encoding="utf-8")  # before the ports that it describes
    for name in others:
        open_door(name)
    ends: dict[str, Endpoint] = {
        name: encoder_on(bench.rig_mechanics) if name == "encoder" else bench.cables[name] for name in doors
    }
    caretaker = Caretaker(bench, doors, faults, urls)
    requests = RequestFolder(link / "scans", hands_of(theatre), seed=seed, told=caretaker.tell)
    serve(
        {name: (ends[name], door) for name, door in doors.items()},
        None,
        dict,
        speed=float(spec["speed"]),
        visitors=(requests, caretaker),
        listens=bench.listens,
    )


def encoder_on(rig: RigMechanics) -> AccuSeedFirmware:
    """One that sees where the rig's needle carriage truly is."""
    return AccuSeedFirmware(lambda: float(rig.carriage_mm[Z]), counts_per_mm=COUNTS_PER_MM)


def devices_toml(speed: float, encoder_url: str | None = None) -> str:
    """What a controller must be told of these devices, as the file that it reads."""
    what = ApplicatorIdentity()
    encoder = f"[depth_encoder]\ncounts_per_mm = {COUNTS_PER_MM}\nurl = {json.dumps(encoder_url)}\n\n"
    return (
        "# The simulated devices of this bench (drivers/DRIVERS.md tells what may stand here).\n"
        f"[applicator]\ncartridge_capacity = {what.capacity}\ndetent_um = {what.detent_um}\n"
        f"needle_gauge = {what.gauge}\n\n{encoder if encoder_url else ''}[simulated]\nspeed = {max(speed, 1.0)}\n"
    )


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except (FaultError, OSError, ValueError) as problem:
        print(f"seedguide: {' '.join(str(problem).split())}", file=sys.stderr)
        sys.exit(2)
