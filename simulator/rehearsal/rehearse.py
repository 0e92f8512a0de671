"""A whole implantation against the simulated world: the one package where controller and simulator meet.

The controller's side is the real one (procedure, interlocks, journal, drivers); across the wires stand simulated
firmware, patient and scanner. In-process, time is virtual and every run with the same seed is the same run.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

from controller.aftermath import Stopwatch, count_in_journal, post_plan, rounds_of
from controller.devices_file import BAUD, Devices
from controller.door import Door
from controller.door_people import DoorOperator, rest, stop_or_note
from controller.evaluator import DoseEvaluator
from controller.heavy_work import Heavy, HeavyWork, HeavyWorkApart
from controller.journal import Journal
from controller.knowledge import ProcedureSettings
from controller.ports import Aside, PortTransport
from controller.procedure import Procedure
from controller.result import DoseResult, ProcedureResult, Progress
from controller.session import Session
from controller.snapshot import Snapshot
from controller.undertaking import Surroundings, Undertaking
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
from planning.plan_folder import write_plan_folder
from planning.planner import make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from simulator.benchtop import Benchtop
from simulator.error_population import ErrorPopulation
from simulator.faults import Fault
from simulator.faults_director import Director, on_bench
from simulator.rehearsal.bench_process import start_bench
from simulator.rehearsal.faulty import FaultyOperator, FaultyScanner, faults_of, faults_told, told_by_journal
from simulator.rehearsal.options import RehearsalOptions
from simulator.rehearsal.people import AutomaticOperator, Hands, SimulatedScanner
from simulator.rehearsal.virtual_transport import VirtualTransport
from simulator.world import World

DOSE_TAKES_S = 20.0
"""For the dose with the needles as they stand, on the procedure's clock (assumed)."""
CARTRIDGE_CAPACITY, DETENT_UM, GAUGE = 15, 5000, 18
SLICES_MM = (1.25, 2.5, 5.0)
"""Beside the asked ones, of the simulated scanner's CTs (the clinic's: 5 mm there, 1 to 2.5 mm in modern practice)."""
"""Of the simulated applicator (assumed; published capacities are 15 and 20)."""


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
        play, scanner, hands, director = _set_up(
            options, case, anatomy, planned.plan, watch, listener, stack, faults
        )
        session = play()
        truth = hands({"do": "truth"})
    procedure = session.procedure
    with watch.timed("post-plan"):
        listener(Progress("post-plan", "Dose of the day", session.snapshot()))
        rounds = rounds_of(procedure, scanner.analyst)
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
) -> tuple[Callable[[], Session], SimulatedScanner, Hands, Director | None]:
    """Procedure and journal on this side, the simulated room on the other, wires between them.

    The first plays it, to the end or to a hold; people at consoles decide about a hold and it goes on.
    """
    population = options.population or ErrorPopulation()
    if options.setup_error_mm is not None:
        population = replace(population, setup_magnitude_mm=options.setup_error_mm)
    recorder: Recorder | None = None
    if options.record is not None:
        wire = WireFile(options.record)
        stack.callback(wire.close)
        recorder = wire.recorder
    door = Door(options.out, is_simulated=True)
    stack.callback(door.close)
    settings = ProcedureSettings(
        max_attempts=options.max_attempts,
        cartridge_capacity=CARTRIDGE_CAPACITY,
        person_judges=options.person_judges,
        slices_mm=tuple(sorted({options.slice_mm, *SLICES_MM})) if options.person_judges else (),
    )
    told_first: dict[str, Any] = {
        "seed": options.seed,
        "slice_mm": options.slice_mm,
        **({} if options.scanner == "fast" else {"scanner": options.scanner}),
        "population": asdict(population),
        **({"faults": [_said(fault) for fault in faults]} if faults else {}),
    }
    session_id = hashlib.sha256(f"{plan.content_hash}:{options.seed}".encode()).hexdigest()[:4].upper()
    devices = ApplicatorConfig(CARTRIDGE_CAPACITY, DETENT_UM, GAUGE)
    work = HeavyWork(
        case.ct, plan, anatomy, load_site_protocol(options.protocol), load_source(plan.source_model)
    )
    heavy: Heavy = work
    cancel_work: Callable[[], None] = _nothing_to_cancel
    folder = Path()
    world: World | None = None
    hands: Hands
    if options.door == "ports":
        listener(Progress("plan", "Starting the process for analysis and dose"))
        apart = HeavyWorkApart(work)
        stack.callback(apart.close)
        heavy, cancel_work = apart, apart.cancel
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seedguide-")))
        hands = start_bench(options, plan, population, folder, stack)
    else:
        world = World(options.case, plan.patient_from_rig, population, options.seed)
        hands = world.theatre.handle
    scanner = SimulatedScanner(hands, case, anatomy, plan, options, heavy, watch.timed)
    automatic = AutomaticOperator(hands)
    evaluator = DoseEvaluator(heavy, watch.timed, DOSE_TAKES_S)
    if options.operator == "door":
        numbers = count(1)
        around = Surroundings(
            urls={"rig": str(folder / "rig"), "applicator": str(folder / "applicator")},
            operator=DoorOperator(door, automatic.answer),
            scanner=scanner,
            goes_on=lambda held: rest(door, held),
            new_session_id=lambda: f"{(int(session_id, 16) + next(numbers)) % 65536:04X}",
            listener=lambda snapshot: listener(Progress(snapshot.state.lower(), snapshot.message, snapshot)),
            evaluator=evaluator,
            cancel_work=cancel_work,
            recorder=recorder,
            door=door,
        )
        baud = dict.fromkeys(("rig", "applicator"), BAUD)
        simulated = Devices(RigConfig(), devices, baud, True, options.speed or 1.0, "")
        undertaking = Undertaking(options.out, plan, settings, simulated, around, told_first=told_first)
        return undertaking.begin, scanner, hands, None
    journal = Journal(options.out / "journal.sqlite")
    journal.listener = door.recorded
    journal.append(0, "opened", {"plan": plan.content_hash, "settings": asdict(settings), **told_first})
    procedure = Procedure(plan, settings)
    rig = rig_driver(RigConfig(), recorder)
    applicator = applicator_driver(devices, session_id, recorder)
    transport: VirtualTransport | PortTransport
    director: Director | None = None
    if world is None:
        ends: dict[str, tuple[RigDriver | ApplicatorDriver, Port]] = {
            "rig": (rig, Port(str(folder / "rig"))),
            "applicator": (applicator, Port(str(folder / "applicator"))),
        }
        transport = PortTransport(ends, speed=options.speed or 1.0, bells=(door.fileno(),))
        stack.callback(transport.close)
    elif faults:
        bench = Benchtop(options.seed, world.rig_mechanics, world.applicator_mechanics)
        director = Director(faults, on_bench(bench))
        journal.listener = told_by_journal(director, door.recorded)
        cables = bench.cables
        transport = VirtualTransport(
            (rig, cables["rig"]), (applicator, cables["applicator"]), director=director
        )
    else:
        transport = VirtualTransport((rig, world.rig), (applicator, world.applicator))

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
        operator=automatic if director is None else FaultyOperator(automatic, director),
        scanner=scanner if director is None else FaultyScanner(scanner, director),
        listener=told,
        aside=Aside() if options.door == "ports" else None,
        stop_pressed=stop_pressed,
        evaluator=evaluator,
        decided=door.decided,
        devices_seen=door.devices_seen,
        cancel_work=cancel_work,
    )

    def play() -> Session:
        try:
            session.run()
        finally:
            journal.close()
        return session

    return play, scanner, hands, director


def _said(fault: Fault) -> dict[str, Any]:
    return {key: value for key, value in asdict(fault).items() if value is not None}
