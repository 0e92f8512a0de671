"""A whole implantation against the simulated world: the one file where controller and simulator meet.

The controller's side is the real one (procedure, interlocks, journal, drivers); across the wires stand simulated
firmware, patient and scanner. In-process, time is virtual and every run with the same seed is the same run.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.aftermath import ScanAnalyst, Stopwatch, count_in_journal, post_plan, rounds_of, scan_range_mm
from controller.commands import AskOperator, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.journal import Journal
from controller.knowledge import ProcedureSettings
from controller.ports import Aside, PortTransport
from controller.procedure import Procedure
from controller.result import DoseResult, ProcedureResult, Progress
from controller.session import Session
from controller.snapshot import Snapshot
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.port import Port
from drivers.rig import RigDriver
from planning.anatomy import Anatomy, build_anatomy
from planning.dicom import Case, read_case
from planning.plan import Plan, rounded_point
from planning.plan_folder import insertion_day, write_plan_folder
from planning.planner import make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.error_population import ErrorPopulation
from simulator.grbl_firmware import GrblFirmware
from simulator.world import World

SCAN_TAKES_S = 120.0
"""From the request of a CT to its analysis, on the procedure's clock (assumed)."""
HANDS_TAKE_S = {"confirm_time_out": 60.0, "seat_cartridge": 20.0, "couple_applicator": 15.0}
"""How long people take for what they are asked (assumed); 8 s for anything else."""
CARTRIDGE_CAPACITY, DETENT_UM, GAUGE = 15, 5000, 18
"""Of the simulated applicator (assumed; published capacities are 15 and 20)."""


@dataclass(frozen=True)
class RehearsalOptions:
    """What ``seedguide rehearse`` was asked for; None = what the site protocol or chance says."""

    case: Path
    out: Path
    seed: int = 1
    target: str | None = None
    margin_mm: float | None = None
    rx_gy: float | None = None
    activity_mci: float | None = None
    protocol: str = "head-and-neck"
    slice_mm: float = 1.25
    door: str = "inprocess"
    speed: float | None = None
    max_attempts: int = 5
    setup_error_mm: float | None = None
    population: ErrorPopulation | None = None


class VirtualTransport:
    """Both wires in this process: time jumps to the next moment at which somebody wants to be woken."""

    def __init__(
        self,
        rig: tuple[RigDriver, GrblFirmware],
        applicator: tuple[ApplicatorDriver, ApplicatorFirmware],
        start_ns: int = 0,
    ) -> None:
        self._pairs: tuple[tuple[Any, Any], ...] = (rig, applicator)
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def exchange(self) -> bool:
        moved = False
        for driver, device in self._pairs:
            while True:
                out = driver.take()
                if out:
                    device.receive(out, self._now_ns)
                back = device.take()
                if back:
                    driver.receive(back, self._now_ns)
                if not out and not back:
                    break
                moved = True
        return moved

    def lost(self) -> list[tuple[str, str]]:
        return []

    def wait(self, wake_ns: int | None) -> None:
        wakes = [device.next_wake() for _, device in self._pairs]
        due = [wake for wake in (*wakes, wake_ns) if wake is not None]
        if not due:
            raise RuntimeError("deadlock: nobody in the simulated world waits for anything")
        self._now_ns = max(self._now_ns, min(due))
        for _, device in self._pairs:
            wake = device.next_wake()
            if wake is not None and wake <= self._now_ns:
                device.wake(self._now_ns)


Hands = Callable[[dict[str, Any]], dict[str, Any]]


class AutomaticOperator:
    """Does at once what the screen asks for, with the theatre's hands. For simulated devices only."""

    is_automatic = True
    name = "auto"

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        request = {
            "do": command.task,
            "needle": command.needle,
            "count": command.count,
            "returned": command.returned,
        }
        answer = self._hands(request)
        took_ns = round(HANDS_TAKE_S.get(command.task, 8.0) * 1e9)
        if answer.get("done"):
            return OperatorConfirmed(command.number, self.name), took_ns
        return OperatorDeclined(command.number, self.name, _why(answer)), took_ns


def _why(answer: dict[str, Any]) -> str:
    return str(answer.get("why") or answer.get("error") or "no reason given")


class SimulatedScanner:
    """Asks the theatre for a CT, and imaging for what is in it; keeps every scan's folder."""

    def __init__(
        self,
        hands: Hands,
        case: Case,
        anatomy: Anatomy,
        plan: Plan,
        options: RehearsalOptions,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._hands = hands
        self._options = options
        self._timed = timed
        self._range_mm = scan_range_mm(plan, anatomy)
        self._start = insertion_day(case)
        self.analyst = ScanAnalyst(case.ct, plan, timed)

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        name = f"{command.scan:02d}-{command.kind}"
        folder = self._options.out / "scans" / name
        folder.parent.mkdir(exist_ok=True)
        low, high = self._range_mm
        request = {
            "do": "scan",
            "folder": str(folder),
            "number": command.scan,
            "slice_mm": self._options.slice_mm,
            "z_low_mm": low,
            "z_high_mm": high,
            "when": (self._start + timedelta(minutes=3 * command.scan)).isoformat(timespec="seconds"),
            "seed": self._options.seed,
        }
        took_ns = round(SCAN_TAKES_S * 1e9)
        with self._timed("simulated CT"):
            answer = self._hands(request)
        if not answer.get("done"):
            return ScanUnusable(command.number, _why(answer)), took_ns
        return self.analyst.analyse(command, folder, f"scans/{name}", procedure), took_ns


def rehearse(options: RehearsalOptions, listener: Callable[[Progress], None]) -> ProcedureResult:
    """Read, plan, guide, move, judge.

    Args:
        options: ``out`` must exist and be empty; everything is written there.
        listener: gets the news.

    Raises:
        AskedWrongly: anything wrong with the input; nothing is written before the input is known to be good.
    """
    watch = Stopwatch()
    with watch.timed("read"):
        listener(Progress("read", f"Reading {options.case}"))
        protocol = load_site_protocol(options.protocol)
        source = load_source(protocol.source_model)
        case = read_case(options.case)
        margin_mm = protocol.margin_mm if options.margin_mm is None else options.margin_mm
        anatomy = build_anatomy(case, protocol, target=options.target, margin_mm=margin_mm)
    with watch.timed("plan"):
        planned = make_plan(
            case,
            anatomy,
            protocol,
            source=source,
            activity_mci=options.activity_mci,
            prescription_gy=options.rx_gy,
            margin_mm=margin_mm,
            progress=lambda text, part: listener(Progress("plan", text, fraction=part)),
        )
    with watch.timed("write the plan"):
        listener(Progress("plan", "Writing plan and RT objects"))
        write_plan_folder(options.out, case, anatomy, planned)
    with watch.timed("procedure"), ExitStack() as stack:
        session, scanner, hands = _set_up(options, case, anatomy, planned.plan, watch, listener, stack)
        try:
            session.run()
        finally:
            session.journal.close()
        truth = hands({"do": "truth"})
    procedure = session.procedure
    with watch.timed("post-plan"):
        listener(Progress("post-plan", "Dose of the day", session.snapshot()))
        rounds = rounds_of(procedure, scanner.analyst, options.slice_mm)
        seeds, extra, delivered = post_plan(procedure, scanner.analyst, anatomy, source)
    inside = sum(watch.seconds.get(step, 0.0) for step in ("simulated CT", "analysis of the CT"))
    watch.seconds["procedure"] = watch.seconds["procedure"] - inside
    watch.seconds = {("devices and control" if k == "procedure" else k): v for k, v in watch.seconds.items()}
    return ProcedureResult(
        status="completed" if procedure.state == "COMPLETED" else "held",
        reason=procedure.known.held_because,
        folder=options.out,
        ct=case.ct,
        anatomy=anatomy,
        plan=planned.plan,
        planned=DoseResult(planned.dose, planned.dose_grid, planned.statistics),
        delivered=delivered,
        rounds=rounds,
        seeds=seeds,
        unplanned_seeds_mm=extra,
        seeds_in_journal=count_in_journal(options.out / "journal.sqlite"),
        digest=session.journal.digest,
        seconds=watch.seconds,
        faults=tuple(session.faults),
        final=session.snapshot(),
        true_tips_mm={name: rounded_point(tip) for name, tip in truth.get("verified_tips_mm", {}).items()}
        or None,
    )


def _set_up(
    options: RehearsalOptions,
    case: Case,
    anatomy: Anatomy,
    plan: Plan,
    watch: Stopwatch,
    listener: Callable[[Progress], None],
    stack: ExitStack,
) -> tuple[Session, SimulatedScanner, Hands]:
    """Procedure and journal on this side, the simulated room on the other, wires between them."""
    population = options.population or ErrorPopulation()
    if options.setup_error_mm is not None:
        population = replace(population, setup_magnitude_mm=options.setup_error_mm)
    journal = Journal(options.out / "journal.sqlite")
    settings = ProcedureSettings(max_attempts=options.max_attempts, cartridge_capacity=CARTRIDGE_CAPACITY)
    journal.append(
        0,
        "opened",
        {
            "plan": plan.content_hash,
            "seed": options.seed,
            "settings": asdict(settings),
            "slice_mm": options.slice_mm,
            "population": asdict(population),
        },
    )
    procedure = Procedure(plan, settings)
    session_id = hashlib.sha256(f"{plan.content_hash}:{options.seed}".encode()).hexdigest()[:4].upper()
    rig = RigDriver(RigConfig())
    applicator = ApplicatorDriver(ApplicatorConfig(CARTRIDGE_CAPACITY, DETENT_UM, GAUGE), session_id)
    transport: VirtualTransport | PortTransport
    hands: Hands
    if options.door == "ports":
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seedguide-")))
        hands = _start_bench(options, plan, population, folder, stack)
        ends: dict[str, tuple[RigDriver | ApplicatorDriver, Port]] = {
            "rig": (rig, Port(str(folder / "rig"))),
            "applicator": (applicator, Port(str(folder / "applicator"))),
        }
        transport = PortTransport(ends, speed=options.speed or 1.0)
        stack.callback(transport.close)
    else:
        world = World(options.case, plan.patient_from_rig, population, options.seed)
        hands = world.theatre.handle
        transport = VirtualTransport((rig, world.rig), (applicator, world.applicator))
    scanner = SimulatedScanner(hands, case, anatomy, plan, options, watch.timed)

    def told(snapshot: Snapshot) -> None:
        listener(Progress(snapshot.state.lower(), snapshot.message, snapshot))

    session = Session(
        procedure,
        journal,
        rig=rig,
        applicator=applicator,
        transport=transport,
        operator=AutomaticOperator(hands),
        scanner=scanner,
        listener=told,
        aside=Aside() if options.door == "ports" else None,
    )
    return session, scanner, hands


def _start_bench(
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
