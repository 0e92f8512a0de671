"""What ``seedguide run`` and ``seedguide resume`` share: from an order in its folder to report and exit status."""

from __future__ import annotations

import getpass
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.device_choice import new_session_id
from console.keyboard import Keyboard
from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from controller.aftermath import ScanAnalyst
    from controller.devices_file import Devices
    from controller.door import Door
    from controller.events import OperatorDecided
    from controller.order import Order
    from controller.procedure import Procedure
    from controller.result import DoseResult, ProcedureResult, Progress
    from controller.snapshot import Snapshot
    from controller.undertaking import Held
    from drivers.record import Recorder
    from planning.anatomy import Anatomy
    from planning.dicom import Case
    from planning.plan import Plan
    from planning.sources import SeedSource

GOES_ON_BY_ITSELF = 3
"""So often the automatic operator takes a procedure back that a fault of the links has held (assumed)."""


def carry_out(
    folder: Path,
    order: Order,
    plan: Plan,
    devices: Devices,
    *,
    is_begun: bool,
    quiet: bool,
    record: Path | None = None,
    put_aside: tuple[str, ...] = (),
    beside: Sequence[Sequence[str]] = (),
) -> int:
    """Begin, or take up again; to the end, or to a hold that stays. The exit status.

    Args:
        beside: commands of ``seedguide`` that run beside it.
        record: takes the bytes.
        put_aside: devices that people stand in for from here on.
    """
    from console.beside import Beside
    from console.delivered_rt import write_delivered
    from console.goals import exit_status, judge
    from console.live import ProcedureView, Screen
    from console.report import write_report
    from console.summary import print_summary
    from controller.order import JOURNAL_FILE
    from planning.site_protocol import load_site_protocol

    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    aside = Beside(beside, lambda line: print(line, flush=True))
    with ProcedureView(screen, quiet=quiet or order.operator == "terminal") as view:
        carried = _Carried(folder, order, plan, devices, aside.begun_with(view))
        try:
            result = carried.result(is_begun=is_begun, record=record, put_aside=put_aside)
        finally:
            carried.close()
            aside.end()
        goals = judge(result)
        report = write_report(result, goals, load_site_protocol(plan.site_protocol), folder)
        journal = folder / JOURNAL_FILE
        ended_at = datetime.fromtimestamp(journal.stat().st_mtime).replace(microsecond=0)
        write_delivered(result, folder, journal, ended_at)
    print_summary(screen, result, goals, report)
    if result.status == "held":
        print(f"seedguide: held: {result.reason}", file=sys.stderr)
        if result.final.state == "HELD":
            print(f"seedguide: when its cause is gone: seedguide resume {folder}", file=sys.stderr)
    return int(exit_status(result, goals))


class _Carried:
    """One order with everything that carrying it out needs."""

    def __init__(
        self, folder: Path, order: Order, plan: Plan, devices: Devices, view: Callable[[Progress], None]
    ) -> None:
        from controller.aftermath import ScanAnalyst, Stopwatch
        from controller.heavy_work import HeavyWork, HeavyWorkApart

        self._folder, self._order, self._plan, self._devices = folder, order, plan, devices
        self._view, self._watch = view, Stopwatch()
        self._keyboard = Keyboard()
        self._times = 0
        self._read()
        work = HeavyWork(self._case.ct, plan, self._anatomy, self._protocol, self._source)
        self._apart: HeavyWorkApart = HeavyWorkApart(work)
        self._analyst: ScanAnalyst = ScanAnalyst(self._apart, self._watch.timed)

    def close(self) -> None:
        """Nothing is analysed any more."""
        self._apart.close()

    def _read(self) -> None:
        import numpy as np

        from controller.result import DoseResult, Progress
        from imaging.postplan import dose_of_the_day
        from planning.anatomy import build_anatomy
        from planning.dicom import read_case
        from planning.site_protocol import load_site_protocol
        from planning.sources import load_source

        plan, folder = self._plan, Path(self._order.case)
        with self._watch.timed("read"):
            self._view(Progress("read", f"Reading {folder}"))
            if not folder.is_dir():
                raise AskedWrongly(f"{folder}: no such folder; the planning CT was there.")
            self._case: Case = read_case(folder)
            if self._case.ct.frame_of_reference_uid != plan.frame_of_reference_uid:
                raise AskedWrongly(
                    f"{folder}: the CT is not the one that the plan was made on (frame of reference)."
                )
            protocol = self._protocol = load_site_protocol(plan.site_protocol)
            self._source: SeedSource = load_source(plan.source_model)
            self._anatomy: Anatomy = build_anatomy(
                self._case, protocol, target=plan.target, margin_mm=plan.margin_mm
            )
            axes = np.array([needle.direction for needle in plan.needles for _ in needle.seeds])
            dose = dose_of_the_day(
                self._source,
                plan.seed_centres_mm(),
                axes,
                plan.air_kerma_strength_u,
                self._anatomy,
                plan.prescription_gy,
            )
            self._planned: DoseResult = DoseResult(*dose)

    def result(self, *, is_begun: bool, record: Path | None, put_aside: tuple[str, ...]) -> ProcedureResult:
        """Play it, and what it has come to."""
        from controller.aftermath import scan_range_mm
        from controller.door_people import DoorOperator, rest
        from controller.evaluator import DoseEvaluator
        from controller.knowledge import ProcedureSettings
        from controller.order import JOURNAL_FILE, MANUAL
        from controller.requests import BenchHands, FolderScanner, RequestFolder, TerminalOperator
        from controller.result import Progress
        from controller.undertaking import Surroundings, Undertaking, finished

        order, plan = self._order, self._plan
        scans = Path(order.scans)
        if is_begun:
            self._analyst.recall(self._folder / JOURNAL_FILE, scans.parent)
            ended = finished(self._folder, plan)
            if ended is not None:
                return self._result(ended, ended.snapshot(0))
        try:
            requests = RequestFolder(scans)
        except OSError as problem:
            raise AskedWrongly(f"{scans}: can't be used for requests ({problem.strerror}).") from problem
        is_person = order.operator == "terminal"
        hands = BenchHands(requests) if self._devices.simulated else None
        is_at_door = order.operator == "door"
        if hands is None and not is_person and not is_at_door:
            raise AskedWrongly(
                "--operator auto is for simulated devices; devices.toml has no table [simulated]."
            )
        if hands is not None and not is_begun:
            hands.lay_patient(Path(order.case), plan)
        person = TerminalOperator(getpass.getuser(), self._keyboard.ask, hands)
        with (
            _stop() as stop_pressed,
            _recorder(record) as recorder,
            self._open_door(is_begun=is_begun) as door,
        ):
            at_door = DoorOperator(door, None if hands is None else hands.answer)
            around = Surroundings(
                urls=order.urls,
                operator=at_door if is_at_door else person if is_person or hands is None else hands,
                scanner=FolderScanner(
                    requests,
                    self._analyst,
                    scan_range_mm(plan, self._anatomy),
                    order.slice_mm,
                    self._tell if is_person else lambda _line: None,
                ),
                evaluator=DoseEvaluator(self._apart, self._watch.timed),
                cancel_work=self._apart.cancel,
                goes_on=self._ask_whether
                if is_person
                else (lambda held: rest(door, held))
                if is_at_door
                else self._goes_on_by_itself,
                new_session_id=new_session_id,
                listener=lambda snapshot: self._view(
                    Progress(snapshot.state.lower(), snapshot.message, snapshot)
                ),
                told=self._tell,
                stop_pressed=stop_pressed,
                recorder=recorder,
                door=door,
            )
            settings = ProcedureSettings(
                max_attempts=order.max_attempts,
                cartridge_capacity=self._devices.applicator.capacity,
                rig_by_hand=order.rig == MANUAL,
                applicator_by_hand=order.applicator == MANUAL,
            )
            undertaking = Undertaking(self._folder, plan, settings, self._devices, around)
            with self._watch.timed("procedure"):
                aside = dict.fromkeys(put_aside, getpass.getuser())
                session = undertaking.take_up(aside) if is_begun else undertaking.begin()
            self._watch.seconds["procedure"] -= self._watch.seconds.get("analysis of the CT", 0.0)
            return self._result(session.procedure, session.snapshot())

    def _result(self, procedure: Procedure, final: Snapshot) -> ProcedureResult:
        from controller.aftermath import count_in_journal, holds_in_journal, post_plan, rounds_of
        from controller.journal import inspect
        from controller.order import JOURNAL_FILE
        from controller.result import ProcedureResult

        journal = self._folder / JOURNAL_FILE
        with self._watch.timed("post-plan"):
            seeds, extra, delivered = post_plan(procedure, self._analyst, self._anatomy, self._source)
        return ProcedureResult(
            status="completed" if procedure.state == "COMPLETED" else "held",
            reason=procedure.known.held_because,
            folder=self._folder,
            ct=self._case.ct,
            anatomy=self._anatomy,
            plan=self._plan,
            planned=self._planned,
            delivered=delivered,
            rounds=rounds_of(procedure, self._analyst),
            seeds=seeds,
            unplanned_seeds_mm=extra,
            seeds_in_journal=count_in_journal(journal),
            digest=inspect(journal).digest,
            seconds=self._watch.seconds,
            faults=holds_in_journal(journal),
            final=final,
            is_simulated=self._devices.simulated,
        )

    @contextmanager
    def _open_door(self, *, is_begun: bool) -> Iterator[Door]:
        from controller.door import Door
        from controller.journal import read_journal
        from controller.order import JOURNAL_FILE

        earlier = list(read_journal(self._folder / JOURNAL_FILE)) if is_begun else []
        door = Door(self._folder, is_simulated=self._devices.simulated, earlier=earlier)
        try:
            yield door
        finally:
            door.close()

    # --- after a hold -----------------------------------------------------------------------------------

    def _tell(self, line: str) -> None:
        print(f"seedguide: {line}", file=sys.stderr, flush=True)

    def _goes_on_by_itself(self, held: Held) -> bool:
        """A few times, after faults of the links only; ``recovery`` looks at everything else."""
        from controller.undertaking import is_link_fault

        self._times += 1
        reason, why_not = held.snapshot().message, held.why_not
        if why_not or not is_link_fault(reason) or self._times > GOES_ON_BY_ITSELF:
            if why_not:
                self._tell(f"not taken back: {why_not}")
            return False
        self._tell(
            f"held: {reason} Taking it back by itself ({self._times} of at most {GOES_ON_BY_ITSELF} times)."
        )
        return True

    def _ask_whether(self, held: Held) -> bool | OperatorDecided:
        """A person at the terminal decides about a held procedure: on, left held, or given up (the decision)."""
        from controller.decisions import decision_of
        from controller.door_words import why_not_decided

        self._keyboard.drop()
        self._tell(held.why_not or f"held: {held.snapshot().message}")
        while True:
            may = held.snapshot().may_decide
            print(f"You may also decide: {', '.join(may)} (each: KIND, what it is about, because REASON).")
            try:
                typed = self._keyboard.ask(
                    "What to do? [g]o on when its cause is gone, [e]nd for now, or decide: "
                )
            except EOFError:
                return False
            if typed.strip().lower() in ("g", "go", "go on"):
                return True
            if typed.strip().lower() in ("e", "end"):
                return False
            decision = decision_of(typed, getpass.getuser())
            why_not = decision if isinstance(decision, str) else why_not_decided(decision, held.snapshot())
            if why_not is not None or isinstance(decision, str):
                self._tell(f"{why_not}.")
            elif decision.kind == "abort":
                return decision
            else:
                self._tell(f"{held.decide(decision)}.")


@contextmanager
def _recorder(path: Path | None) -> Iterator[Recorder | None]:
    """Writes to a new file; a recording that broke off is told of at the end."""
    from controller.wire_file import WireFile

    if path is None:
        yield None
        return
    wire = WireFile(path)
    try:
        yield wire.recorder
    finally:
        wire.close()
        if wire.trouble:
            print(f"seedguide: {wire.trouble}", file=sys.stderr)


@contextmanager
def _stop() -> Iterator[Callable[[], str | None]]:
    """Ctrl-C stops the devices; the procedure then ends by itself. A second one ends the program."""
    pressed = [False]
    before: Any = signal.getsignal(signal.SIGINT)

    def press(_number: int, _frame: object) -> None:
        pressed[0] = True
        signal.signal(signal.SIGINT, before)

    def was_pressed() -> str | None:
        was, pressed[0] = pressed[0], False
        return getpass.getuser() if was else None

    signal.signal(signal.SIGINT, press)
    try:
        yield was_pressed
    finally:
        signal.signal(signal.SIGINT, before)
