"""``seedguide run``: the real procedure, through ports."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from console.igtl_command import igtl_arguments, igtl_options
from console.operator_choice import OperatorChoice
from planning.refusal import AskedWrongly

EXIT_STATUSES = """\b
Exit status:
    0  completed, every goal and tolerance met
    1  internal fault
    2  bad input: one line that says what, where and what to do
    3  held or stopped for a person; seedguide resume DIR goes on when it was held
    4  completed, but a goal or tolerance was missed (see the end table)
  130  interrupted (Ctrl-C twice); its record stays
"""


@click.command(
    help="Carry out PLAN (a plan.json, or the folder with it) with the devices at the two ports: a device path, "
    "socket://host:port or rfc2217://host:port; auto or auto:DIR takes the one port (in the folder DIR) where that "
    "device answers; manual where the device is absent and people do its part, step by step. "
    "CTs are asked for, and taken, by files in --scans. --operator auto is for simulated devices only. Ctrl-C stops "
    "both devices. After a hold it asks whether to go on; after a kill: seedguide resume.\n\n"
    "Research and training software, not a medical device, not for clinical use.",
    epilog=EXIT_STATUSES,
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--case",
    metavar="CASE",
    type=click.Path(path_type=Path),
    help="Folder with the planning CT.  [default: the one PLAN was made on, noted beside it]",
)
@click.option("--rig", "rig_url", required=True, metavar="URL")
@click.option("--applicator", "applicator_url", required=True, metavar="URL")
@click.option(
    "--depth-encoder",
    "encoder_url",
    metavar="URL",
    help="AccuSeed encoder on the needle carriage: each motion must agree with it; [depth_encoder] in devices.toml "
    "says its counts per mm.  [default: the url there; without that table none]",
)
@click.option(
    "--devices",
    "devices_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What the devices must be: capacity, detents, gauge (drivers/DRIVERS.md).  "
    "[default: devices.toml beside the applicator's port]",
)
@click.option("--scans", required=True, metavar="DIR", type=click.Path(path_type=Path))
@click.option("--operator", default="terminal", show_default=True, type=OperatorChoice())
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="For the results.  [default: run-DATE-TIME]",
)
@click.option(
    "--slice-mm", default=1.25, show_default=True, type=click.FloatRange(0.5, 5), help="Of the CTs."
)
@click.option("--max-attempts", default=5, show_default=True, type=click.IntRange(1, 100), help="Per needle.")
@click.option(
    "--record", metavar="FILE", type=click.Path(path_type=Path), help="Both wires' bytes, into a new file."
)
@igtl_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
@click.option("--quiet", is_flag=True, help="Show the end table only.")
def run(plan: Path, case: Path | None, out: Path | None, overwrite: bool, quiet: bool, **chosen: Any) -> int:
    """Take the folder, write down what is asked, carry it out."""
    from console.carrying_out import carry_out
    from console.device_choice import chosen_ports, encoder_port
    from console.endings import kept_once_begun
    from console.output_folder import OutputFolder
    from controller.devices_file import read_devices
    from controller.order import JOURNAL_FILE, MANUAL, PLAN_FILE, Order, check_playable
    from controller.wire_file import WireFile
    from planning.case_link import case_of
    from planning.plan import Plan

    plan_file = plan / PLAN_FILE if plan.is_dir() else plan
    the_plan = Plan.load(plan_file)
    check_playable(the_plan, plan_file)
    case = case_of(plan_file) if case is None else case
    if not case.is_dir():
        raise AskedWrongly(f"{case}: no such folder; CASE is the folder with the planning CT and structures.")
    wanted = {"rig": chosen["rig_url"], "applicator": chosen["applicator_url"]}
    there = {name: url for name, url in wanted.items() if url != MANUAL}
    devices = read_devices(chosen["devices_file"] or _beside(there.get("applicator", wanted["rig"])))
    encoder = encoder_port(devices, chosen["encoder_url"]) if "rig" in there else ""
    ports, _ = chosen_ports(**there)
    order = Order(
        case=str(case.resolve()),
        rig=_whole(ports["rig"]) if "rig" in ports else MANUAL,
        applicator=_whole(ports["applicator"]) if "applicator" in ports else MANUAL,
        scans=str(chosen["scans"].resolve()),
        operator=chosen["operator"],
        slice_mm=chosen["slice_mm"],
        max_attempts=chosen["max_attempts"],
        depth_encoder=_whole(encoder) if encoder else "",
    )
    out = Path(f"run-{datetime.now():%Y%m%d-%H%M%S}") if out is None else out
    if chosen["record"] is not None:
        WireFile.check(chosen["record"])
    with kept_once_begun(OutputFolder.take(out, overwrite=overwrite, case=case), JOURNAL_FILE) as folder:
        order.write(folder.path, the_plan, devices)
        return carry_out(
            folder.path,
            order,
            the_plan,
            devices,
            is_begun=False,
            quiet=quiet,
            record=chosen["record"],
            beside=igtl_arguments(folder.path, chosen["igtl_port"], chosen["igtl_host"]),
        )


def _beside(url: str) -> Path:
    """The devices' file in the folder of the port ``url`` (a path, or auto:DIR); ``manual`` has none."""
    from controller.devices_file import DEVICES_FILE

    if url.startswith("auto:"):
        beside = Path(url.removeprefix("auto:")) / DEVICES_FILE
    else:
        beside = Path(url).parent / DEVICES_FILE
    if "://" in url or url in ("auto", "manual") or not beside.is_file():
        raise AskedWrongly(
            f"{DEVICES_FILE} is missing: cartridge capacity, detents and needle gauge of the devices must be said, "
            "there is no default; name the file with --devices (drivers/DRIVERS.md shows one)."
        )
    return beside


def _whole(url: str) -> str:
    """A path that holds from any folder; the name of a link stays, its target changes at each replug."""
    return url if "://" in url else str(Path(url).absolute())
