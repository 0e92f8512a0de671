"""``seedguide resume``: a procedure that was killed, cut off or held goes on where its journal ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from console.igtl_command import igtl_arguments, igtl_options
from console.operator_choice import OperatorChoice
from console.run_command import EXIT_STATUSES
from planning.refusal import AskedWrongly

HELD = 3


@click.command(
    help="Go on with the seedguide run in DIR after a kill, a crash or a hold. Its journal is played again, both "
    "devices are asked and compared with it, nothing is moved; what is known is shown, and a person confirms. "
    "Whatever journal and devices do not agree on is said with what to check, and nothing goes on.\n\n"
    "A rehearsal can't be resumed: its devices ended with it; the same --seed plays the same run again.\n\n"
    "Research and training software, not a medical device, not for clinical use.",
    epilog=EXIT_STATUSES,
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--rig",
    metavar="URL",
    help="Where the rig is now; manual puts it aside for good, and people move the needles.  [default: where it was]",
)
@click.option(
    "--applicator",
    metavar="URL",
    help="Where the applicator is now; manual puts it aside for good, and people deliver the seeds.  "
    "[default: where it was]",
)
@click.option("--depth-encoder", metavar="URL", help="Where it is now.  [default: where it was]")
@click.option("--scans", metavar="DIR", type=click.Path(path_type=Path), help="[default: as before]")
@click.option("--operator", type=OperatorChoice(), help="[default: as before]")
@click.option(
    "--record", metavar="FILE", type=click.Path(path_type=Path), help="The wires' bytes, into a new file."
)
@igtl_options
@click.option("--quiet", is_flag=True, help="Show the end table only.")
def resume(
    folder: Path,
    rig: str | None,
    applicator: str | None,
    depth_encoder: str | None,
    scans: Path | None,
    operator: str | None,
    record: Path | None,
    igtl_port: int | None,
    igtl_host: str,
    quiet: bool,
) -> int:
    """Take the folder again, and carry its order on."""
    from console.carrying_out import carry_out
    from console.device_choice import chosen_ports
    from console.endings import kept_once_begun
    from console.output_folder import OutputFolder
    from controller.order import JOURNAL_FILE, MANUAL, ORDER_FILE, read_order
    from controller.undertaking import NotResumed
    from controller.wire_file import WireFile

    if not folder.is_dir():
        raise AskedWrongly(f"{folder}: no such folder; DIR is the --out of a seedguide run.")
    journal = folder / JOURNAL_FILE
    if journal.is_file() and not (folder / ORDER_FILE).is_file():
        raise AskedWrongly(
            f"{folder}: this is a rehearsal; its devices ended with it. Play it again with the same --seed: it is the "
            "same run."
        )
    order, plan, devices = read_order(folder)
    _check_that_it_goes_on(folder, journal)
    if record is not None:
        WireFile.check(record)
    if depth_encoder and not order.depth_encoder:
        raise AskedWrongly(
            f"{folder}: this procedure began without a depth encoder; leave --depth-encoder out."
        )
    ports = {"rig": rig or order.rig, "applicator": applicator or order.applicator}
    put_aside = tuple(name for name, url in ports.items() if url == MANUAL)
    there = {name: url for name, url in ports.items() if url != MANUAL}
    if any(url == "auto" or url.startswith("auto:") for url in there.values()):
        there, _ = chosen_ports(**there)
    ports |= there
    order = replace(
        order,
        rig=ports["rig"],
        applicator=ports["applicator"],
        depth_encoder="" if "rig" in put_aside else depth_encoder or order.depth_encoder,
        scans=order.scans if scans is None else str(scans.resolve()),
        operator=operator or order.operator,
    )
    with kept_once_begun(OutputFolder.take_again(folder), JOURNAL_FILE) as taken:
        try:
            return carry_out(
                taken.path,
                order,
                plan,
                devices,
                is_begun=True,
                quiet=quiet,
                record=record,
                put_aside=put_aside,
                beside=igtl_arguments(taken.path, igtl_port, igtl_host),
            )
        except NotResumed as problem:
            click.echo(f"seedguide: not resumed: {problem}", err=True)
            return HELD


def _check_that_it_goes_on(folder: Path, journal: Path) -> None:
    """A procedure that has ended, or never began, is told so before anything is read or opened.

    One that was killed between its last CT and its report is let through: the report is made.
    """
    from controller.journal import read_journal

    ended = ""
    if not journal.is_file() or not (records := list(read_journal(journal))):
        raise AskedWrongly(
            f"{folder}: nothing had begun (no record); run it again, with --overwrite into the same folder."
        )
    for record in records:
        if record.kind == "decision" and "to" in record.body:
            ended = str(record.body["to"]) if record.body["to"] in ("COMPLETED", "STOPPED") else ""
    report = folder / "report.html"
    if ended == "STOPPED" or (ended and report.exists()):
        told = f" Its report: {report}." if report.exists() else ""
        raise AskedWrongly(f"{folder}: the procedure is {ended.lower()}; there is nothing to resume.{told}")
