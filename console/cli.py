"""The command ``seedguide``: reads what was asked, runs it, and ends with a documented exit status.

Bad input is one line on stderr; a traceback is never shown, it goes into the output folder. What is heavy
to import is imported only by the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from console.bench_check_command import bench_check
from console.campaign_command import campaign_command
from console.console_command import console, console_arguments, console_user
from console.detect_command import detect
from console.devices_command import devices
from console.edit_command import edit
from console.endings import InternalFaultError, Interrupted
from console.evaluate_command import evaluate
from console.export_command import export
from console.igtl_command import igtl, igtl_arguments, igtl_options
from console.journal_command import journal, verify_journal
from console.motion_command import motion
from console.plan_command import plan
from console.resume_command import resume
from console.run_command import run
from console.scanner_option import scanner_option
from console.scans_command import scans
from console.simulate_command import simulate
from console.template_command import template
from console.train_command import train_command
from console.watch_command import stop, watch
from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from console.output_folder import OutputFolder
    from simulator.rehearsal.options import RehearsalOptions

_NOTICE = "Research and training software, not a medical device, not for clinical use."
_CONSOLE_SPEED = 10.0
"""Times faster than life that simulated devices move while people confirm at a page."""
_BY_PROTOCOL = "[default: the site protocol's]"
_EXIT_STATUSES = """\b
Exit status:
    0  completed, every goal and tolerance met
    1  internal fault: one line here, the traceback in DIR/fault.txt
    2  bad input: one line that says what, where and what to do
    3  held: the procedure stopped for a person; the reason is printed
    4  completed, but a goal or tolerance was missed (see the end table)
  130  interrupted (Ctrl-C)
"""


class _Finite(click.FloatRange):
    """A range that refuses NaN and infinity too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.group(
    help=f"{_NOTICE}\n\nseedguide plans, guides, drives, records and rehearses the CT-guided permanent "
    "implantation of iodine-125 seeds.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(version("seedguide"), message=f"seedguide %(version)s\n{_NOTICE}")
def seedguide() -> None:
    """All commands."""


@seedguide.command(
    help="Play a whole implantation on the patient in CASE, a folder with one CT series and one RT Structure "
    "Set: plan, guide, deliver and judge, against simulated devices and a simulated scanner.\n\n" + _NOTICE,
    epilog=_EXIT_STATUSES,
)
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the results."
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="Of chance: same seed, same run."
)
@click.option("--target", metavar="NAME", help="Structure that is the target.  [default: the one named GTV]")
@click.option("--margin-mm", type=_Finite(0, 30), help=f"CTV = target + this.  {_BY_PROTOCOL}")
@click.option("--rx-gy", type=_Finite(0, 1000, min_open=True), help=f"Prescribed D90.  {_BY_PROTOCOL}")
@click.option("--activity-mci", type=_Finite(0, 10, min_open=True), help=f"Of one seed.  {_BY_PROTOCOL}")
@click.option(
    "--protocol", default="head-and-neck", show_default=True, help="Site protocol: its name or its file."
)
@click.option(
    "--slice-mm", default=1.25, show_default=True, type=_Finite(0.5, 5), help="Slices of the rescans."
)
@scanner_option
@click.option(
    "--door",
    default="inprocess",
    show_default=True,
    type=click.Choice(["inprocess", "ports"]),
    help="Devices in this process on a virtual clock, or in their own behind two pseudo-terminals.",
)
@click.option(
    "--speed", type=_Finite(0, 1000, min_open=True), help="With --door ports: times faster than life."
)
@click.option("--max-attempts", default=5, show_default=True, type=click.IntRange(1, 100), help="Per needle.")
@click.option(
    "--setup-error-mm", type=_Finite(0, 50), help="Simulated rig-to-patient shift.  [default: by chance]"
)
@click.option(
    "--faults", metavar="FILE", type=click.Path(path_type=Path), help="What goes wrong: simulator/FAULTS.md."
)
@click.option(
    "--record", metavar="FILE", type=click.Path(path_type=Path), help="Both wires' bytes, into a new file."
)
@click.option(
    "--console",
    "with_console",
    is_flag=True,
    help="People confirm each step on a web page; its address is printed. Devices as with --door ports.",
)
@click.option(
    "--console-port", default=8100, show_default=True, type=click.IntRange(0, 65535), help="0: any."
)
@igtl_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
@click.option("--quiet", is_flag=True, help="Show the end table only.")
def rehearse(case: Path, out: Path, quiet: bool, overwrite: bool, **chosen: Any) -> int:
    """Take the folder, play the procedure, and give the folder back if the input was bad."""
    from console.output_folder import OutputFolder

    if chosen["with_console"] or chosen["igtl_port"] is not None:
        chosen |= {"door": "ports", "speed": chosen["speed"] or _CONSOLE_SPEED}
    if chosen["speed"] is not None and chosen["door"] != "ports":
        raise AskedWrongly("--speed needs --door ports: in-process the clock is virtual.")
    if not case.is_dir():
        raise AskedWrongly(
            f"{case}: no such folder; CASE is a folder with a CT series and an RT Structure Set."
        )
    folder = OutputFolder.take(out, overwrite=overwrite, case=case)
    try:
        status = _play(case, folder, quiet=quiet, chosen=chosen)
    except (KeyboardInterrupt, Exception) as problem:
        # Once there is a journal the procedure has begun: its record stays, whatever went wrong.
        begun = (folder.path / "journal.sqlite").exists()
        if isinstance(problem, KeyboardInterrupt):
            (folder.keep if begun else folder.give_back)()
            raise _Interrupted(folder.path if begun else None) from None
        if isinstance(problem, AskedWrongly) and not begun:
            folder.give_back()
            raise
        raise _InternalFaultError(_logged(problem, folder)) from problem
    folder.keep()
    return status


def _play(case: Path, folder: OutputFolder, *, quiet: bool, chosen: dict[str, Any]) -> int:
    from console.beside import Beside
    from console.delivered_rt import write_delivered
    from console.goals import exit_status, judge
    from console.live import ProcedureView, Screen
    from console.report import write_report
    from console.summary import print_summary
    from controller.advice import what_to_do
    from controller.order import JOURNAL_FILE
    from planning.site_protocol import load_site_protocol
    from simulator.rehearsal.rehearse import rehearse as play

    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    with ExitStack() as stack:
        commands = igtl_arguments(folder.path, chosen["igtl_port"], chosen["igtl_host"])
        if chosen["with_console"]:
            commands.append(console_arguments(folder.path, chosen["console_port"]))
        beside = Beside(commands, _say_aloud)
        stack.callback(beside.end)
        with ProcedureView(screen, quiet=quiet) as view:
            result = play(_options(case, folder.path, chosen), beside.begun_with(view))
            goals = judge(result)
            started_s = time.perf_counter()
            report = write_report(result, goals, load_site_protocol(chosen["protocol"]), folder.path)
            write_delivered(result, folder.path, folder.path / JOURNAL_FILE, None)
            result.seconds["report"] = time.perf_counter() - started_s
        print_summary(screen, result, goals, report)
        if result.status == "held":
            _say(f"held: {result.reason.removesuffix('.')}. {what_to_do(result.reason)}")
        if chosen["with_console"] and sys.stdin.isatty():
            _say("the page stays open until Ctrl-C.")
            with suppress(KeyboardInterrupt):
                beside.wait()
    return int(exit_status(result, goals))


def _options(case: Path, out: Path, chosen: dict[str, Any]) -> RehearsalOptions:
    from simulator.rehearsal.options import RehearsalOptions

    beside = ("with_console", "console_port", "igtl_port", "igtl_host")
    known = {name: value for name, value in chosen.items() if name not in beside}
    operator = "door" if chosen["with_console"] else "auto"
    return RehearsalOptions(
        case=case, out=out, operator=operator, person_judges=chosen["with_console"], **known
    )


def _campaigns() -> ModuleType:
    from simulator.rehearsal.campaign import play

    return play


def _trainings() -> ModuleType:
    from simulator.rehearsal import training

    return training


seedguide.add_command(campaign_command(_campaigns))
seedguide.add_command(train_command(_trainings))
seedguide.add_command(motion)
seedguide.add_command(scans)
seedguide.add_command(detect)
seedguide.add_command(plan)
seedguide.add_command(evaluate)
seedguide.add_command(edit)
seedguide.add_command(template)
seedguide.add_command(simulate)
seedguide.add_command(devices)
seedguide.add_command(bench_check)
seedguide.add_command(run)
seedguide.add_command(resume)
seedguide.add_command(console)
seedguide.add_command(console_user)
seedguide.add_command(igtl)
seedguide.add_command(export)
seedguide.add_command(watch)
seedguide.add_command(stop)
seedguide.add_command(journal)
seedguide.add_command(verify_journal)


class _Interrupted(Exception):
    """A person pressed Ctrl-C; the message says what is left."""

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            left = "before the procedure began; nothing was written"
        else:
            left = f"in the middle of the procedure; its record is in {folder}"
        super().__init__(f"interrupted {left}.")


class _InternalFaultError(Exception):
    """Our own fault; the message is one line and says where the traceback is."""


def _logged(problem: Exception, folder: OutputFolder) -> str:
    """Write the traceback into the folder; the line for the screen."""
    what = f"internal fault: {type(problem).__name__}: {_one_line(problem)}"
    log = folder.path / "fault.txt"
    try:
        log.write_text("".join(traceback.format_exception(problem)), encoding="utf-8")
        folder.keep()
    except OSError:
        return f"{what} (the traceback could not be written to {log})"
    return f"{what}; the traceback is in {log}"


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())


def _say_aloud(line: str) -> None:
    print(line, flush=True)


def _say(words: str) -> None:
    print(f"seedguide: {words}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without ✓ must not end a procedure
    try:
        outcome = seedguide.main(arguments, prog_name="seedguide", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.format_message())
        return 2
    except click.ClickException as problem:
        _say(_one_line(problem.format_message()))
        return 2
    except AskedWrongly as problem:
        _say(_one_line(problem))
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        _say("interrupted.")
        return 130
    except (_Interrupted, Interrupted) as problem:
        _say(str(problem))
        return 130
    except (_InternalFaultError, InternalFaultError) as problem:
        _say(str(problem))
        return 1


if __name__ == "__main__":
    sys.exit(main())
