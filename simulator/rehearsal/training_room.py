"""One training run's room: the simulated world, and the session that leads it, begun and taken up again in one process.

What a run writes before its end tells nothing of the truth: not what errors are drawn from, nor what will go wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from controller import ruling
from controller.commands import AskOperator, RequestScan
from controller.door import Door
from controller.door_people import stop_or_note
from controller.events import OperatorDecided, ScanAnalysed, ScanUnusable
from controller.journal import Journal
from controller.knowledge import ProcedureSettings
from controller.order import JOURNAL_FILE
from controller.ports import Aside
from controller.procedure import Procedure
from controller.recovery import compare, confirm, look
from controller.replay import Replayed, replay
from controller.session import Evaluator, Operator, Scanner, Session
from controller.snapshot import Snapshot
from controller.truth import Pose, TrueNeedles, TrueSeed, Truth
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.record import applicator_driver, rig_driver
from planning.frame import Floats
from planning.plan import Plan, Point, rounded_point
from planning.refusal import AskedWrongly
from simulator.benchtop import Benchtop, Plug
from simulator.faults_director import Director, on_bench
from simulator.rehearsal.faulty import FaultyOperator, FaultyScanner, told_by_journal
from simulator.rehearsal.paced_transport import PacedTransport
from simulator.rehearsal.people import AutomaticOperator, SimulatedScanner
from simulator.rehearsal.trainee import Assistants, HeldRun, Trainee, TraineeOperator
from simulator.rehearsal.virtual_transport import VirtualTransport
from simulator.scenario import Scenario
from simulator.world import World

CARTRIDGE_CAPACITY, DETENT_UM, GAUGE = 15, 5000, 18
"""Of the simulated applicator (assumed; published capacities are 15 and 20)."""
POSE_EVERY_NS = 50_000_000
"""A needle's pose is kept at most 20 times a second (assumed; trackers record 10 to 50)."""
NOT_HERE = ("rig_by_hand", "applicator_by_hand")
"""Decisions that a training run does not offer: its people are assistants, not hands in a device's place."""


@dataclass(frozen=True)
class Led:
    """What leads the room besides the trainee: where CTs are analysed, doses computed, and who is shown what."""

    scanner: Callable[[World], SimulatedScanner]
    evaluator: Evaluator
    shown: Callable[[Snapshot], None]
    door: Door | None = None
    speed: float | None = None


class TrainingRoom:
    """World and controller of one run in ``out``."""

    def __init__(self, scenario: Scenario, plan: Plan, out: Path, trainee: Trainee, led: Led) -> None:
        self._scenario, self._plan, self._out, self._trainee, self._led = scenario, plan, out, trainee, led
        self.world = World(Path(scenario.case), plan.patient_from_rig, scenario.population, scenario.seed)
        self.bench = Benchtop(scenario.seed, self.world.rig_mechanics, self.world.applicator_mechanics)
        patient = self.world.patient
        deep = np.array([0.0, 0.0, 60.0, 1.0])
        away = (patient.patient_from_rig_true - np.asarray(plan.patient_from_rig)) @ deep
        self._setup_mm = float(np.linalg.norm(away))
        self._happens = on_bench(self.bench, patient)
        self._unsaid: list[str] = []
        self.director = Director(scenario.faults, self._happen, who_stops="somebody in the room")
        self._assistants = Assistants(self.bench)
        other_mm = scenario.ct.may_be_mm
        self.settings = ProcedureSettings(
            max_attempts=scenario.trainee.max_attempts,
            cartridge_capacity=CARTRIDGE_CAPACITY,
            person_judges=True,
            slices_mm=tuple(sorted({scenario.ct.slice_mm, *other_mm})) if other_mm else (),
        )
        self.scanner = led.scanner(self.world)
        self._at_scans: list[TrueNeedles] = []
        self._poses: list[Pose] = []
        self._kept_ns: dict[str, int] = {}
        self._unkept: set[str] = set()
        self._now: Callable[[], int] = lambda: 0
        patient.moved = self._moved
        self._faulty_scanner = FaultyScanner(_Watched(self.scanner, self._scanned), self.director)
        self._path = out / JOURNAL_FILE
        self._resumed = 0
        self._people: TraineeOperator | None = None

    # --- from the beginning to the end ----------------------------------------------------------------------

    def play(self) -> Session:
        """Begun, held, taken up again as the trainee decides, until it is over."""
        procedure = Procedure(self._plan, self.settings)
        journal = Journal(self._path)
        try:
            session = self._session(procedure, journal, 0)
            journal.append(
                0,
                "opened",
                {
                    "plan": self._plan.content_hash,
                    "settings": asdict(self.settings),
                    "slice_mm": self._scenario.ct.slice_mm,
                    "training": self._scenario.digest,
                },
            )
            session.run()
        finally:
            journal.close()
        while session.procedure.is_held:
            again = self._held(session)
            if again is None:
                break
            session = again
        return session

    def truth(self) -> Truth:
        """Everything that was hidden."""
        patient = self.world.patient
        self._keep_poses()
        told = self.world.theatre.handle({"do": "truth"})
        return Truth(
            at_scans=tuple(self._at_scans),
            at_delivery_mm={name: rounded_point(tip) for name, tip in told["verified_tips_mm"].items()},
            seeds=tuple(
                TrueSeed(seed.needle, rounded_point(seed.centre_mm), rounded_point(seed.direction))
                for seed in patient.true_seeds
            ),
            poses=tuple(self._poses),
            punctures=patient.punctures,
            happened=tuple(self.director.happened),
            setup_mm=self._setup_mm,
        )

    # --- one session ----------------------------------------------------------------------------------------

    def _session(self, procedure: Procedure, journal: Journal, start_ns: int) -> Session:
        led, door, cables = self._led, self._led.door, self.bench.cables
        seed = f"{self._plan.content_hash}:{self._scenario.seed}:{self._resumed}"
        rig = rig_driver(RigConfig(), None)
        applicator = applicator_driver(
            ApplicatorConfig(CARTRIDGE_CAPACITY, DETENT_UM, GAUGE),
            hashlib.sha256(seed.encode()).hexdigest()[:4].upper(),
            None,
        )
        ends = (rig, cables["rig"]), (applicator, cables["applicator"])
        wires: VirtualTransport
        if led.speed is None:
            wires = VirtualTransport(*ends, start_ns=start_ns, director=self.director)
        else:
            bells = () if door is None else (door.fileno(),)
            wires = PacedTransport(
                *ends, speed=self._speed_now, bells=bells, start_ns=start_ns, director=self.director
            )
        self._now = wires.now_ns
        told = told_by_journal(self.director, *(() if door is None else (door.recorded,)))
        journal.listener = told
        self._rig, self._applicator, self._wires = rig, applicator, wires
        session = Session(
            procedure,
            journal,
            rig=rig,
            applicator=applicator,
            transport=wires,
            operator=self._operator(lambda: session.snapshot(), journal),
            scanner=self._faulty_scanner,
            listener=self._show,
            aside=None if led.speed is None else Aside(),
            stop_pressed=lambda: self._stop_pressed(journal),
            evaluator=led.evaluator,
            decided=(lambda: None) if door is None else door.decided,
            devices_seen=None if door is None else door.devices_seen,
        )
        return session

    def _speed_now(self) -> float:
        """While the trainee thinks, a second is a second."""
        return 1.0 if self._people is None or self._people.is_asking else self._led.speed or 1.0

    def _operator(self, snapshot: Callable[[], Snapshot], journal: Journal) -> Operator:
        hands = AutomaticOperator(self.world.theatre.handle)
        self._people = TraineeOperator(
            self._trainee,
            hands,
            self._scenario.trainee,
            snapshot,
            lambda command: self._before_asking(command, journal),
        )
        faulty = FaultyOperator(self._people, self.director)
        faulty.is_automatic = False
        return faulty

    def _show(self, snapshot: Snapshot) -> None:
        may = tuple(kind for kind in snapshot.may_decide if snapshot.state != "HELD" or self._is_left(kind))
        snapshot = replace(snapshot, may_decide=may)
        if self._led.door is not None:
            self._led.door.show(snapshot)
        self._led.shown(snapshot)

    def _happen(self, words: str, now_ns: int) -> Plug | None:
        """A fault; what people in the room would see of it is said at the next opportunity."""
        if words.startswith("patient moves"):
            self._unsaid.append("the patient has moved")
        return self._happens(words, now_ns)

    def _say_what_is_seen(self, journal: Journal) -> None:
        while self._unsaid:
            seen = self._unsaid.pop(0)
            journal.append(self._now(), "room", {"says": seen})
            self._trainee.noticed(seen)

    def _before_asking(self, command: AskOperator, journal: Journal) -> None:
        """What is true when a word is asked for is what it is measured by."""
        self._say_what_is_seen(journal)
        if command.task == ruling.TASK and self._at_scans:
            self._at_scans[-1] = replace(self._at_scans[-1], tips_mm=self._tips_mm())

    def _stop_pressed(self, journal: Journal) -> str | None:
        self._say_what_is_seen(journal)
        door = self._led.door
        at_door = None if door is None else stop_or_note(door, journal, self._now)
        return self.director.stop_pressed() or self._trainee.stop_pressed() or at_door

    # --- a hold ----------------------------------------------------------------------------------------------

    def _held(self, session: Session) -> Session | None:
        """The trainee decides until it goes on (the next session), or stays held (None)."""
        self._snapshot, why_not = session.snapshot(), ""
        told = self._assistants.look()
        if told:
            self._append("room", {"says": told})
        while True:
            may = tuple(kind for kind in self._snapshot.may_decide if self._is_left(kind))
            self._snapshot = replace(self._snapshot, may_decide=may)
            self._show(self._snapshot)
            asked = HeldRun(why_not, self._snapshot, told, self._decide)
            goes_on, took_ns = self._trainee.held(asked)
            self._wires.pass_ns(took_ns)
            if goes_on is False:
                return None
            self._assistants.mend(self._wires.now_ns())
            again, why_not = self._again(None if goes_on is True else goes_on)
            if again is not None:
                return again

    def _is_left(self, kind: str) -> bool:
        is_left = "decide" in self._scenario.trainee.may or kind == "abort"
        return is_left and kind not in NOT_HERE

    def _append(self, kind: str, body: dict[str, object]) -> Replayed:
        """A record while nothing runs; the procedure as it stood before it."""
        replayed = replay(self._path, self._plan)
        journal = Journal.continued(self._path)
        try:
            if self._led.door is not None:
                journal.listener = self._led.door.recorded
            journal.append(max(replayed.last_ns, self._wires.now_ns()), kind, body)  # type: ignore[arg-type]
        finally:
            journal.close()
        return replayed

    def _decide(self, event: OperatorDecided, thought_ns: int) -> str:
        self._wires.pass_ns(thought_ns)
        procedure = self._append("event", event.to_json()).procedure
        procedure.handle(event)
        if event.kind == "seed_is" and procedure.known.doubt is not None and procedure.known.doubt.where:
            self._assistants.told_where(procedure.known.doubt.where)
        self._snapshot = procedure.snapshot(self._wires.now_ns(), rig="at rest", applicator="at rest")
        self._show(self._snapshot)
        return procedure.known.message

    def _again(self, abortion: OperatorDecided | None) -> tuple[Session | None, str]:
        """Taken up as after any hold: journal replayed, devices asked, compared, a person's word."""
        self._resumed += 1
        replayed = replay(self._path, self._plan)
        journal = Journal.continued(self._path)
        try:
            session = self._session(replayed.procedure, journal, self._wires.now_ns())
            report = look(self._rig, self._applicator, self._wires, replayed.procedure)
            if abortion is not None:
                session.run((abortion,))
                return session, ""
            operator = self._operator(session.snapshot, journal)
            resumption = confirm(compare(replayed, report), operator, journal, self._wires.now_ns())
            if not resumption.begin_with:
                return None, resumption.verdict.text
            session.run(resumption.begin_with)
            return session, ""
        except AskedWrongly as problem:
            return None, str(problem)
        finally:
            journal.close()

    # --- what is hidden --------------------------------------------------------------------------------------

    def _moved(self, needle: str) -> None:
        """At most so often: what a tracker would record; where a needle came to rest is kept before anything else."""
        if self._now() - self._kept_ns.get(needle, -POSE_EVERY_NS) < POSE_EVERY_NS:
            self._unkept.add(needle)
            return
        self._keep_pose(needle)

    def _keep_poses(self) -> None:
        for needle in sorted(self._unkept & set(self.world.patient.needles)):
            self._keep_pose(needle)
        self._unkept.clear()

    def _keep_pose(self, needle: str) -> None:
        self._kept_ns[needle] = self._now()
        self._unkept.discard(needle)
        patient = self.world.patient
        tip, axis = patient.true_tip_patient_mm(needle), patient.true_direction(needle)
        self._poses.append(Pose(needle, self._now(), _pose(tip, axis)))

    def _scanned(self, command: RequestScan) -> None:
        self._keep_poses()
        self._at_scans.append(TrueNeedles(command.scan, self._tips_mm()))

    def _tips_mm(self) -> dict[str, Point]:
        patient = self.world.patient
        return {name: rounded_point(patient.true_tip_patient_mm(name)) for name in patient.needles}


def _pose(tip_mm: Floats, axis: Floats) -> Floats:
    """``patient_from_needle``: origin at the tip, z along ``axis``; x is the patient's, as far as it is across."""
    across = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    y = np.cross(axis, across)
    y /= np.linalg.norm(y)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = np.cross(y, axis), y, axis, tip_mm
    return pose


class _Watched:
    """A scanner, and who is told when it scans."""

    def __init__(self, scanner: Scanner, told: Callable[[RequestScan], None]) -> None:
        self._scanner, self._told = scanner, told

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        self._told(command)
        return self._scanner.scan(command, procedure)
