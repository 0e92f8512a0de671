"""``seedguide simulate``: the simulated devices as a process of its own that any serial program can talk to.

The process becomes the bench: what the console knows of the simulator is its command line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from console.scanner_option import scanner_option
from planning.refusal import AskedWrongly


@click.command(
    help="Start the simulated rig and applicator on pseudo-terminals DIR/rig, DIR/applicator (or TCP ports), in "
    "real or accelerated time. DIR/devices.toml then tells seedguide run what they are. CTs and people's hands are "
    "asked for by files in DIR/scans; seedguide run also asks for its plan's patient to be laid on the couch, or "
    "--plan lays one there from the beginning. Faults are typed while it runs (help lists them) or "
    "come from a file. Ends with Ctrl-C."
)
@click.option("--link", default="bench", show_default=True, metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--plan",
    metavar="PLAN",
    type=click.Path(path_type=Path),
    help="plan.json or its folder: where the rig stands.",
)
@click.option(
    "--case",
    metavar="CASE",
    type=click.Path(path_type=Path),
    help="Folder with the planning CT.  [default: the one PLAN was made on, noted beside it]",
)
@click.option("--device", type=click.Choice(["both", "rig", "applicator"]), default="both", show_default=True)
@click.option(
    "--rig-kind",
    type=click.Choice(["coplanar", "oblique"]),
    default="coplanar",
    show_default=True,
    help="oblique: five axes on grblHAL, in air, without a patient.",
)
@click.option(
    "--depth-encoder", is_flag=True, help="An AccuSeed encoder on the rig's carriage, at DIR/encoder."
)
@click.option("--tcp", is_flag=True, help="TCP ports on this machine instead of pseudo-terminals.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0.1, 100))
@click.option(
    "--faults", metavar="FILE", type=click.Path(path_type=Path), help="TOML; see simulator/FAULTS.md."
)
@scanner_option
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of chance.")
def simulate(
    link: Path,
    plan: Path | None,
    case: Path | None,
    device: str,
    rig_kind: str,
    depth_encoder: bool,
    tcp: bool,
    speed: float,
    faults: Path | None,
    scanner: str,
    seed: int,
) -> None:
    """Check what was asked, and become the bench."""
    if plan is None and case is not None:
        raise AskedWrongly("--case needs --plan: the plan says where the rig stands in the patient.")
    if depth_encoder and device == "applicator":
        raise AskedWrongly("--depth-encoder sits on the rig: leave --device applicator out.")
    if plan is not None and rig_kind == "oblique":
        raise AskedWrongly(
            "--rig-kind oblique is a bench in air: no procedure plays oblique needles yet; leave --plan out."
        )
    if plan is not None:
        from planning.case_link import case_of
        from planning.plan_folder import PLAN_FILE

        plan = plan / PLAN_FILE if plan.is_dir() else plan
        case = case_of(plan) if case is None else case
    if case is not None and not case.is_dir():
        raise AskedWrongly(f"{case}: no such folder; CASE is a folder with the planning CT.")
    pose = None
    if plan is not None:
        from controller.order import check_playable
        from planning.plan import Plan

        the_plan = Plan.load(plan)
        check_playable(the_plan, plan)
        pose = the_plan.patient_from_rig
    spec = {
        "link": str(link),
        "devices": [
            *(["rig", "applicator"] if device == "both" else [device]),
            *(["encoder"] if depth_encoder else []),
        ],
        "tcp": tcp,
        "speed": speed,
        "faults": None if faults is None else str(faults),
        "seed": seed,
        "scanner": scanner,
        "rig_kind": rig_kind,
        "case": None if case is None else str(case.resolve()),
        "patient_from_rig": pose,
    }
    os.execv(sys.executable, [sys.executable, "-m", "simulator.standalone", json.dumps(spec)])
