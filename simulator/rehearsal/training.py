"""A training run: a scenario's room, a trainee who decides, and at the end the truth for the debrief."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.aftermath import Stopwatch, count_in_journal, holds_in_journal, post_plan, rounds_of
from controller.door import Door
from controller.evaluator import DoseEvaluator
from controller.heavy_work import HeavyWork
from controller.order import JOURNAL_FILE
from controller.protocol import STATES
from controller.result import DoseResult, ProcedureResult, Progress
from controller.session import Session
from controller.truth import Truth
from imaging.postplan import dose_of_the_day
from planning.anatomy import Anatomy, build_anatomy
from planning.case_link import note_case
from planning.dicom import Case, read_case
from planning.plan import Plan
from planning.plan_folder import PLAN_FILE, write_rt_objects
from planning.planner import make_plan
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol, load_site_protocol
from planning.sources import SeedSource, load_source
from simulator.rehearsal.faulty import COMMAND_NAMES
from simulator.rehearsal.options import RehearsalOptions
from simulator.rehearsal.people import SimulatedScanner
from simulator.rehearsal.rehearse import DOSE_TAKES_S
from simulator.rehearsal.trainee import Trainee
from simulator.rehearsal.training_room import Led, TrainingRoom
from simulator.scenario import Scenario, ScenarioError, read_scenario
from simulator.world import World


@dataclass(frozen=True)
class Trained:
    """What a run leaves for its debrief.

    Attributes:
        result: as of any procedure.
        truth: what was hidden until now.
        final_state: of the protocol.
        source: of the seeds, for the doses of what might have been.
    """

    result: ProcedureResult
    truth: Truth
    final_state: str
    source: SeedSource


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything read and planned, before anything moves."""

    scenario: Scenario
    case: Case
    anatomy: Anatomy
    protocol: SiteProtocol
    source: SeedSource
    plan: Plan
    planned: DoseResult


def prepare(scenario: Scenario, where: Path, listener: Callable[[Progress], None]) -> Prepared:
    """Read the case, make or read the plan, and check what the scenario names in it. Writes nothing.

    Args:
        where: the scenario's file, for messages.

    Raises:
        AskedWrongly: case or plan can't be used, or the scenario names what they don't have.
    """
    for place, fault in enumerate(scenario.faults, 1):
        if fault.at_command is not None and fault.at_command not in COMMAND_NAMES:
            known = ", ".join(sorted(COMMAND_NAMES))
            raise AskedWrongly(
                f"{where}: fault {place}: at_command {fault.at_command} is no command; known are {known}."
            )
        if fault.at_state is not None and fault.at_state not in STATES:
            known = ", ".join(STATES)
            raise AskedWrongly(
                f"{where}: fault {place}: at_state {fault.at_state} is no state; known are {known}."
            )
    folder = Path(scenario.case)
    if not folder.is_dir():
        raise AskedWrongly(f"{where}: case {folder}: no such folder; name one with a CT and structures.")
    listener(Progress("read", f"Reading {folder}"))
    protocol = load_site_protocol(scenario.site_protocol)
    case = read_case(folder)
    if scenario.plan == "make one":
        source = load_source(protocol.source_model)
        anatomy = build_anatomy(case, protocol, target=scenario.target, margin_mm=protocol.margin_mm)
        made = make_plan(
            case,
            anatomy,
            protocol,
            source=source,
            activity_mci=scenario.activity_mci,
            prescription_gy=scenario.prescription_gy,
            margin_mm=protocol.margin_mm,
            progress=lambda text, part: listener(Progress("plan", text, fraction=part)),
        )
        plan, planned = made.plan, DoseResult(made.dose, made.dose_grid, made.statistics)
    else:
        plan = _read_plan(scenario, where, case)
        protocol = load_site_protocol(plan.site_protocol)
        source = load_source(plan.source_model)
        anatomy = build_anatomy(case, protocol, target=plan.target, margin_mm=plan.margin_mm)
        axes = np.array([needle.direction for needle in plan.needles for _ in needle.seeds])
        dose = dose_of_the_day(
            source,
            plan.seed_centres_mm(),
            axes,
            plan.air_kerma_strength_u,
            anatomy,
            plan.prescription_gy,
        )
        planned = DoseResult(*dose)
    names = [needle.name for needle in plan.needles]
    for bent in scenario.needles.bent:
        if bent.needle not in names:
            raise AskedWrongly(
                f"{where}: needles.bent: the plan has no needle {bent.needle}; it has {', '.join(names)}."
            )
    return Prepared(scenario, case, anatomy, protocol, source, plan, planned)


def _read_plan(scenario: Scenario, where: Path, case: Case) -> Plan:
    path = Path(scenario.plan)
    path = path / PLAN_FILE if path.is_dir() else path
    if not path.is_file():
        raise AskedWrongly(f'{where}: plan {path}: no such file; name a plan.json, or "make one".')
    plan = Plan.load(path)
    if plan.frame_of_reference_uid != case.ct.frame_of_reference_uid:
        raise AskedWrongly(f"{where}: plan {path} was not made on the CT in {scenario.case}.")
    return plan


def train(
    ready: Prepared,
    out: Path,
    trainee: Trainee,
    listener: Callable[[Progress], None],
    *,
    door: Door | None = None,
    speed: float | None = None,
) -> Trained:
    """Play the run; ``out`` must exist and be empty.

    Args:
        door: for a console; None: nobody is let in.
        speed: of the devices against the wall's clock, where a person looks on; None: time jumps.
    """
    watch = Stopwatch()
    scenario, plan, anatomy = ready.scenario, ready.plan, ready.anatomy
    plan.save(out / PLAN_FILE)
    planned = ready.planned
    write_rt_objects(out, ready.case.ct, anatomy, plan, planned.dose_gy, planned.grid)
    note_case(out, Path(scenario.case))
    heavy = HeavyWork(ready.case.ct, plan, anatomy, ready.protocol, ready.source)
    options = RehearsalOptions(
        case=Path(scenario.case),
        out=out,
        seed=scenario.seed,
        slice_mm=scenario.ct.slice_mm,
        scanner=scenario.ct.scanner,
    )
    how = {
        "noise_times": scenario.ct.noise_times,
        "dental": [metal.model_dump() for metal in scenario.ct.metal],
    }

    def scanner(world: World) -> SimulatedScanner:
        return SimulatedScanner(
            world.theatre.handle, ready.case, anatomy, plan, options, heavy, watch.timed, how
        )

    led = Led(
        scanner=scanner,
        evaluator=DoseEvaluator(heavy, watch.timed, DOSE_TAKES_S),
        shown=lambda snapshot: listener(Progress(snapshot.state.lower(), snapshot.message, snapshot)),
        door=door,
        speed=speed,
    )
    room = TrainingRoom(scenario, plan, out, trainee, led)
    with ExitStack() as stack, watch.timed("procedure"):
        if door is not None:
            stack.callback(door.close)
        session = room.play()
    listener(Progress("post-plan", "Dose of the day", session.snapshot()))
    return Trained(
        _result(ready, out, session, room, watch), room.truth(), session.procedure.state, ready.source
    )


def _result(
    ready: Prepared, out: Path, session: Session, room: TrainingRoom, watch: Stopwatch
) -> ProcedureResult:
    procedure, analyst = session.procedure, room.scanner.analyst
    with watch.timed("post-plan"):
        seeds, extra, delivered = post_plan(procedure, analyst, ready.anatomy, ready.source)
    tips = room.truth().at_delivery_mm
    return ProcedureResult(
        status="completed" if procedure.state == "COMPLETED" else "held",
        reason=procedure.known.held_because,
        folder=out,
        ct=ready.case.ct,
        anatomy=ready.anatomy,
        plan=ready.plan,
        planned=ready.planned,
        delivered=delivered,
        rounds=rounds_of(procedure, analyst),
        seeds=seeds,
        unplanned_seeds_mm=extra,
        seeds_in_journal=count_in_journal(out / JOURNAL_FILE),
        digest=session.journal.digest,
        seconds=watch.seconds,
        faults=holds_in_journal(out / JOURNAL_FILE),
        final=session.snapshot(),
        true_tips_mm=tips or None,
        is_simulated=True,
    )


def scenario_of(path: Path, seed: int | None = None) -> Scenario:
    """The scenario of a file; ``seed``: of chance instead of its own. Raises AskedWrongly: it is none."""
    try:
        scenario = read_scenario(path)
    except ScenarioError as problem:
        raise AskedWrongly(str(problem)) from problem
    return scenario if seed is None else scenario.model_copy(update={"seed": seed})
