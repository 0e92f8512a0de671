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
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.advice import what_to_do
from controller.aftermath import ScanAnalyst, Stopwatch, count_in_journal, post_plan, rounds_of, scan_range_mm
from controller.answers import Answers
from controller.commands import APPLICATOR_COMMANDS, RIG_COMMANDS, AskOperator, RequestScan
from controller.door import Door, DoorOperator, stop_or_note
from controller.evaluator import DoseEvaluator
from controller.events import OperatorConfirmed, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.heavy_work import Heavy, HeavyWork, HeavyWorkApart
from controller.journal import Journal, Record
from controller.knowledge import ProcedureSettings
from controller.ports import Aside, PortTransport
from controller.procedure import Procedure
from controller.protocol import STATES
from controller.result import DoseResult, ProcedureResult, Progress
from controller.session import Operator, Scanner, Session
from controller.snapshot import Snapshot
from controller.wire_file import WireFile
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.port import Port
from drivers.record import Recorder, applicator_driver, rig_driver
from drivers.rig import RigDriver
from planning.anatomy import Anatomy, build_anatomy
from planning.case_link import note_case
from planning.dicom import Case, read_case
from planning.plan import Plan, rounded_point
from planning.plan_folder import insertion_day, write_plan_folder
from planning.planner import make_plan
from planning.refusal import AskedWrongly
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from simulator.benchtop import Benchtop
from simulator.cable import Endpoint
from simulator.error_population import ErrorPopulation
from simulator.faults import Fault, FaultError, read_faults
from simulator.faults_director import Director, on_bench
from simulator.scanner import ScannerMode
from simulator.world import World

SCAN_TAKES_S = 120.0
"""From the request of a CT to its analysis, on the procedure's clock (assumed)."""
DOSE_TAKES_S = 20.0
"""For the dose with the needles as they stand, on the procedure's clock (assumed)."""
HANDS_TAKE_S = {"confirm_time_out": 60.0, "seat_cartridge": 20.0, "couple_applicator": 15.0}
"""How long people take for what they are asked (assumed); 8 s for anything else."""
NOBODY_ANSWERS_S = 600.0
"""A question that nobody answers for so long is answered with no (assumed)."""
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
    faults: Path | None = None
    record: Path | None = None
    scanner: ScannerMode = "fast"
    """How the simulated CT is made: ``fast`` (approximate) or ``faithful``; simulator/SCANNER.md."""
    operator: str = "auto"
    """``auto``, or ``door``: people at consoles confirm, simulated hands do what they confirmed (``door="ports"``)."""


class VirtualTransport:
    """Both wires in this process: time jumps to the next moment at which somebody wants to be woken."""

    def __init__(
        self,
        rig: tuple[RigDriver, Endpoint],
        applicator: tuple[ApplicatorDriver, Endpoint],
        start_ns: int = 0,
        director: Director | None = None,
    ) -> None:
        self._pairs: tuple[tuple[Any, Any], ...] = (rig, applicator)
        self._now_ns = start_ns
        self._director = director

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
        return [] if self._director is None else self._director.lost()

    def wait(self, wake_ns: int | None) -> None:
        wakes = [device.next_wake() for _, device in self._pairs]
        if self._director is not None:
            wakes.append(self._director.next_wake())
        due = [wake for wake in (*wakes, wake_ns) if wake is not None]
        if not due:
            raise RuntimeError("deadlock: nobody in the simulated world waits for anything")
        self._now_ns = max(self._now_ns, min(due))
        if self._director is not None:
            self._director.wake(self._now_ns)
        for _, device in self._pairs:
            wake = device.next_wake()
            if wake is not None and wake <= self._now_ns:
                device.wake(self._now_ns)


class FaultyOperator:
    """People who do wrong when the director says so; otherwise ``people`` as they are."""

    is_automatic = True

    def __init__(self, people: Operator, director: Director) -> None:
        self._people, self._director, self.name = people, director, people.name
        self.told: list[str] = []
        """What answers that did not count were told."""
        self._answers = Answers()

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        self._answers.ask(command)
        match (self._director.for_operator() or "").split():
            case ["silent"]:
                why = f"nobody answered for {NOBODY_ANSWERS_S:.0f} s"
                return self._counts(command, why), round(NOBODY_ANSWERS_S * 1e9)
            case ["declines"]:
                return self._counts(command, f"no to: {command.text}"), round(8.0 * 1e9)
            case ["early"]:
                self._hear(self._answers.take(command.number + 1, self.name))
            case ["twice"]:
                answer, took_ns = self._people.answer(command)
                counted = self._counts(command, getattr(answer, "reason", None))
                self._hear(self._answers.take(command.number, self.name))
                return counted, took_ns
            case ["slow", seconds]:
                answer, took_ns = self._people.answer(command)
                return answer, took_ns + round(float(seconds) * 1e9)
        return self._people.answer(command)

    def _counts(self, command: AskOperator, why: str | None) -> OperatorConfirmed | OperatorDeclined:
        taken = self._answers.take(command.number, self.name, why)
        assert not isinstance(taken, str)
        return taken

    def _hear(self, taken: OperatorConfirmed | OperatorDeclined | str) -> None:
        assert isinstance(taken, str)
        self.told.append(taken)


class FaultyScanner:
    """A scanner whose CTs go wrong when the director says so; otherwise ``scanner`` as it is.

    The faults are in what the analysis hands over: findings of the CT before, of another patient, without a needle.
    """

    def __init__(self, scanner: Scanner, director: Director) -> None:
        self._scanner, self._director = scanner, director
        self._last: ScanAnalysed | None = None

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        wrong = (self._director.for_scanner() or "").split()
        took_ns = round(SCAN_TAKES_S * 1e9)
        if wrong == ["missing"] or (wrong == ["old"] and self._last is None):
            return ScanUnusable(command.number, "the CT did not come"), took_ns
        if wrong == ["old"] and self._last is not None:
            return replace(self._last, number=command.number), took_ns
        event, took_ns = self._scanner.scan(command, procedure)
        if isinstance(event, ScanAnalysed):
            self._last = event
            findings = event.findings
            match wrong:
                case ["stranger"]:
                    identity = replace(findings.identity, patient_id="SOMEBODY-ELSE")
                    event = replace(event, findings=replace(findings, identity=identity))
                case ["hides", needle]:
                    seen = tuple(it for it in findings.needles if it.name != needle)
                    event = replace(event, findings=replace(findings, needles=seen))
        return event, took_ns


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
        heavy: Heavy,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._hands = hands
        self._options = options
        self._timed = timed
        self._range_mm = scan_range_mm(plan, anatomy)
        self._start = insertion_day(case)
        self.analyst = ScanAnalyst(heavy, timed)

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
            "mode": self._options.scanner,
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
        faults = faults_of(options)
        if options.record is not None:
            WireFile.check(options.record)
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
        note_case(options.out, options.case)
    with watch.timed("procedure"), ExitStack() as stack:
        session, scanner, hands, director = _set_up(
            options, case, anatomy, planned.plan, watch, listener, stack, faults
        )
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
        faults=faults_told(session, director),
        final=session.snapshot(),
        true_tips_mm={name: rounded_point(tip) for name, tip in truth.get("verified_tips_mm", {}).items()}
        or None,
    )


def _nothing_to_cancel() -> None:
    """In-process the work is done where it is asked for: there is nobody who could wait no more."""


def _set_up(
    options: RehearsalOptions,
    case: Case,
    anatomy: Anatomy,
    plan: Plan,
    watch: Stopwatch,
    listener: Callable[[Progress], None],
    stack: ExitStack,
    faults: Sequence[Fault],
) -> tuple[Session, SimulatedScanner, Hands, Director | None]:
    """Procedure and journal on this side, the simulated room on the other, wires between them."""
    population = options.population or ErrorPopulation()
    if options.setup_error_mm is not None:
        population = replace(population, setup_magnitude_mm=options.setup_error_mm)
    recorder: Recorder | None = None
    if options.record is not None:
        wire = WireFile(options.record)
        stack.callback(wire.close)
        recorder = wire.recorder
    journal = Journal(options.out / "journal.sqlite")
    door = Door(options.out, is_simulated=True)
    stack.callback(door.close)
    journal.listener = door.recorded
    settings = ProcedureSettings(max_attempts=options.max_attempts, cartridge_capacity=CARTRIDGE_CAPACITY)
    journal.append(
        0,
        "opened",
        {
            "plan": plan.content_hash,
            "seed": options.seed,
            "settings": asdict(settings),
            "slice_mm": options.slice_mm,
            **({} if options.scanner == "fast" else {"scanner": options.scanner}),
            "population": asdict(population),
            **({"faults": [_said(fault) for fault in faults]} if faults else {}),
        },
    )
    procedure = Procedure(plan, settings)
    session_id = hashlib.sha256(f"{plan.content_hash}:{options.seed}".encode()).hexdigest()[:4].upper()
    rig = rig_driver(RigConfig(), recorder)
    applicator = applicator_driver(
        ApplicatorConfig(CARTRIDGE_CAPACITY, DETENT_UM, GAUGE), session_id, recorder
    )
    transport: VirtualTransport | PortTransport
    hands: Hands
    director: Director | None = None
    work = HeavyWork(
        case.ct, plan, anatomy, load_site_protocol(options.protocol), load_source(plan.source_model)
    )
    heavy: Heavy = work
    cancel_work: Callable[[], None] = _nothing_to_cancel
    if options.door == "ports":
        listener(Progress("plan", "Starting the process for analysis and dose"))
        apart = HeavyWorkApart(work)
        stack.callback(apart.close)
        heavy, cancel_work = apart, apart.cancel
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seedguide-")))
        hands = _start_bench(options, plan, population, folder, stack)
        ends: dict[str, tuple[RigDriver | ApplicatorDriver, Port]] = {
            "rig": (rig, Port(str(folder / "rig"))),
            "applicator": (applicator, Port(str(folder / "applicator"))),
        }
        transport = PortTransport(ends, speed=options.speed or 1.0, bells=(door.fileno(),))
        stack.callback(transport.close)
    else:
        world = World(options.case, plan.patient_from_rig, population, options.seed)
        hands = world.theatre.handle
        if faults:
            bench = Benchtop(options.seed, world.rig_mechanics, world.applicator_mechanics)
            director = Director(faults, on_bench(bench))
            journal.listener = told_by_journal(director, door.recorded)
            cables = bench.cables
            transport = VirtualTransport(
                (rig, cables["rig"]), (applicator, cables["applicator"]), director=director
            )
        else:
            transport = VirtualTransport((rig, world.rig), (applicator, world.applicator))
    scanner = SimulatedScanner(hands, case, anatomy, plan, options, heavy, watch.timed)
    automatic = AutomaticOperator(hands)
    people: Operator = DoorOperator(door, automatic.answer) if options.operator == "door" else automatic

    def told(snapshot: Snapshot) -> None:
        door.show(snapshot)
        listener(Progress(snapshot.state.lower(), snapshot.message, snapshot))

    def stop_pressed() -> str | None:
        who = None if director is None else director.stop_pressed()
        return who if who is not None else stop_or_note(door, journal, transport.now_ns)

    session = Session(
        procedure,
        journal,
        rig=rig,
        applicator=applicator,
        transport=transport,
        operator=people if director is None else FaultyOperator(people, director),
        scanner=scanner if director is None else FaultyScanner(scanner, director),
        listener=told,
        aside=Aside() if options.door == "ports" else None,
        stop_pressed=stop_pressed,
        evaluator=DoseEvaluator(heavy, watch.timed, DOSE_TAKES_S),
        decided=door.decided,
        devices_seen=door.devices_seen,
        cancel_work=cancel_work,
    )
    return session, scanner, hands, director


def faults_of(options: RehearsalOptions) -> list[Fault]:
    """What the file of faults says. Raises AskedWrongly: it can't be read, or not be played so."""
    if options.faults is None:
        return []
    if options.door == "ports":
        raise AskedWrongly(
            "--faults needs --door inprocess (virtual time); behind ports, use seedguide simulate --faults."
        )
    try:
        faults = read_faults(options.faults, STATES)
    except FaultError as problem:
        raise AskedWrongly(str(problem)) from problem
    for place, fault in enumerate(faults, 1):
        if fault.at_command is not None and fault.at_command not in COMMAND_NAMES:
            raise AskedWrongly(
                f"{options.faults}: fault {place}: at_command {fault.at_command} is no command; known are: "
                f"{', '.join(sorted(COMMAND_NAMES))}."
            )
    return faults


COMMAND_NAMES = frozenset(
    kind.__name__ for kind in (*RIG_COMMANDS, *APPLICATOR_COMMANDS, AskOperator, RequestScan)
)


def told_by_journal(
    director: Director, others: Callable[[Record], None] = lambda _record: None
) -> Callable[[Record], None]:
    """How the director hears of states and commands: each record, before its bytes leave."""

    def told(record: Record) -> None:
        others(record)
        director.told(record.kind, record.body, record.t_ns)

    return told


def faults_told(session: Session, director: Director | None) -> tuple[str, ...]:
    """For the report: what happened when, then each hold with what to do."""
    played = [] if director is None else director.happened
    return (
        *(f"Played at {when_s:.1f} s: {words}" for when_s, words in played),
        *(f"Held: {reason} | {what_to_do(reason)}" for reason in session.faults),
    )


def _said(fault: Fault) -> dict[str, Any]:
    return {key: value for key, value in asdict(fault).items() if value is not None}


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
