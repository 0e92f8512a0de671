"""``seedguide run``: the real procedure, through ports."""

from __future__ import annotations

import getpass
import hashlib
import secrets
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from console.live import ProcedureView
    from controller.result import ProcedureResult


@click.command(
    help="Carry out PLAN (a plan.json) on the patient in CASE with the devices at the two ports: a device path, "
    "socket://host:port or rfc2217://host:port; auto or auto:DIR takes the one port (in the folder DIR) where that "
    "device answers. CTs are asked for, and taken, by files in --scans. --operator auto is for simulated devices "
    "only. Ctrl-C stops both devices."
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--case", required=True, metavar="CASE", type=click.Path(path_type=Path), help="The planning CT."
)
@click.option("--rig", "rig_url", required=True, metavar="URL")
@click.option("--applicator", "applicator_url", required=True, metavar="URL")
@click.option("--scans", required=True, metavar="DIR", type=click.Path(path_type=Path))
@click.option("--operator", default="terminal", show_default=True, type=click.Choice(["terminal", "auto"]))
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="For the results.")
@click.option(
    "--slice-mm", default=1.25, show_default=True, type=click.FloatRange(0.5, 5), help="Of the CTs."
)
@click.option("--max-attempts", default=5, show_default=True, type=click.IntRange(1, 100), help="Per needle.")
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(1, 100), help="As given to simulate."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
@click.option("--quiet", is_flag=True, help="Show the end table only.")
def run(plan: Path, case: Path, out: Path, overwrite: bool, quiet: bool, **chosen: Any) -> int:
    """Take the folder, carry it out, judge it."""
    from console.goals import exit_status, judge
    from console.live import ProcedureView, Screen
    from console.output_folder import OutputFolder
    from console.report import write_report
    from console.summary import print_summary
    from planning.plan import Plan
    from planning.site_protocol import load_site_protocol

    if chosen["speed"] != 1.0 and chosen["operator"] != "auto":
        raise AskedWrongly("--speed is for simulated devices: it needs --operator auto.")
    the_plan = Plan.load(plan)
    if not case.is_dir():
        raise AskedWrongly(f"{case}: no such folder; CASE is the folder with the planning CT and structures.")
    folder = OutputFolder.take(out, overwrite=overwrite, case=case)
    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    try:
        with ProcedureView(screen, quiet=quiet or chosen["operator"] == "terminal") as view:
            result = _carry_out(the_plan, case, folder.path, view, chosen)
            goals = judge(result)
            report = write_report(result, goals, load_site_protocol(the_plan.site_protocol), folder.path)
    except AskedWrongly:
        if not (folder.path / "journal.sqlite").exists():
            folder.give_back()
        else:
            folder.keep()
        raise
    except BaseException:
        folder.keep()
        raise
    folder.keep()
    print_summary(screen, result, goals, report)
    if result.status == "held":
        print(f"seedguide: held: {result.reason}", file=sys.stderr)
    return int(exit_status(result, goals))


def _carry_out(
    plan: Any, case_folder: Path, out: Path, view: ProcedureView, chosen: dict[str, Any]
) -> ProcedureResult:
    import numpy as np

    from console.device_choice import chosen_ports
    from controller.aftermath import (
        ScanAnalyst,
        Stopwatch,
        count_in_journal,
        post_plan,
        rounds_of,
        scan_range_mm,
    )
    from controller.journal import Journal
    from controller.knowledge import ProcedureSettings
    from controller.ports import Aside, PortTransport
    from controller.procedure import Procedure
    from controller.requests import BenchHands, FolderScanner, RequestFolder, TerminalOperator
    from controller.result import DoseResult, ProcedureResult, Progress
    from controller.session import Session
    from drivers.applicator import ApplicatorDriver
    from drivers.applicator_language import ApplicatorConfig
    from drivers.kinematics import RigConfig
    from drivers.port import Port
    from drivers.rig import RigDriver
    from imaging.postplan import dose_of_the_day
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.site_protocol import load_site_protocol
    from planning.sources import load_source

    watch = Stopwatch()
    with watch.timed("read"):
        view(Progress("read", f"Reading {case_folder}"))
        protocol = load_site_protocol(plan.site_protocol)
        source = load_source(plan.source_model)
        case = read_case(case_folder)
        if case.ct.frame_of_reference_uid != plan.frame_of_reference_uid:
            raise AskedWrongly(
                f"{case_folder}: the CT is not the one that the plan was made on (frame of reference)."
            )
        anatomy = build_anatomy(case, protocol, target=plan.target, margin_mm=plan.margin_mm)
        axes = np.array([needle.direction for needle in plan.needles for _ in needle.seeds])
        planned = DoseResult(
            *dose_of_the_day(
                source, plan.seed_centres_mm(), axes, plan.air_kerma_strength_u, anatomy, plan.prescription_gy
            )
        )
    settings = ProcedureSettings(max_attempts=chosen["max_attempts"])
    rig = RigDriver(RigConfig())
    session_id = hashlib.sha256(secrets.token_bytes(16)).hexdigest()[:4].upper()
    applicator = ApplicatorDriver(ApplicatorConfig(settings.cartridge_capacity, 5000, 18), session_id)
    ports, _ = chosen_ports(rig=chosen["rig_url"], applicator=chosen["applicator_url"])
    with ExitStack() as stack:
        ends: dict[str, tuple[RigDriver | ApplicatorDriver, Port]] = {}
        for name, driver in (("rig", rig), ("applicator", applicator)):
            try:
                ends[name] = (driver, stack.enter_context(Port(ports[name])))
            except ValueError as problem:
                raise AskedWrongly(f"the {name}: {problem}") from problem
        try:
            requests = RequestFolder(chosen["scans"])
        except OSError as problem:
            raise AskedWrongly(
                f"{chosen['scans']}: can't be used for requests ({problem.strerror})."
            ) from problem
        transport = PortTransport(ends, speed=chosen["speed"])
        journal = Journal(out / "journal.sqlite")
        stack.callback(journal.close)
        journal.append(0, "opened", {"plan": plan.content_hash, "settings": asdict(settings)})
        person = chosen["operator"] == "terminal"
        told = (lambda line: print(line, flush=True)) if person else (lambda _line: None)
        analyst = ScanAnalyst(case.ct, plan, watch.timed)
        session = Session(
            Procedure(plan, settings),
            journal,
            rig=rig,
            applicator=applicator,
            transport=transport,
            operator=TerminalOperator(getpass.getuser(), input) if person else BenchHands(requests),
            scanner=FolderScanner(requests, analyst, scan_range_mm(plan, anatomy), chosen["slice_mm"], told),
            listener=lambda snapshot: view(Progress(snapshot.state.lower(), snapshot.message, snapshot)),
            aside=Aside(),
            stop_pressed=_Stop(stack).pressed,
        )
        with watch.timed("procedure"):
            session.run()
    procedure = session.procedure
    with watch.timed("post-plan"):
        seeds, extra, delivered = post_plan(procedure, analyst, anatomy, source)
    return ProcedureResult(
        status="completed" if procedure.state == "COMPLETED" else "held",
        reason=procedure.known.held_because,
        folder=out,
        ct=case.ct,
        anatomy=anatomy,
        plan=plan,
        planned=planned,
        delivered=delivered,
        rounds=rounds_of(procedure, analyst, chosen["slice_mm"]),
        seeds=seeds,
        unplanned_seeds_mm=extra,
        seeds_in_journal=count_in_journal(out / "journal.sqlite"),
        digest=journal.digest,
        seconds=watch.seconds,
        faults=tuple(session.faults),
        final=session.snapshot(),
    )


class _Stop:
    """Ctrl-C stops the devices; the procedure then ends by itself. A second one ends the program."""

    def __init__(self, stack: ExitStack) -> None:
        self._is_pressed = False
        self._before = signal.signal(signal.SIGINT, self._press)
        stack.callback(signal.signal, signal.SIGINT, self._before)

    def _press(self, _number: int, _frame: object) -> None:
        self._is_pressed = True
        signal.signal(signal.SIGINT, self._before)

    def pressed(self) -> str | None:
        was, self._is_pressed = self._is_pressed, False
        return getpass.getuser() if was else None
