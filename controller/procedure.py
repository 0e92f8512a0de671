"""One event in, the next command out: the procedure.

``handle`` updates what is known, lets the protocol's table decide on the next state, fills the agenda of that
state and hands out its commands one at a time. Nothing here does I/O, reads a clock or sends anything; whether
a command may leave is decided after it, in ``interlocks``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from transitions import Machine, State

from controller import agenda, protocol, resumption
from controller.commands import (
    AskOperator,
    BeginLedger,
    ClearLatch,
    CloseGrip,
    Command,
    ConnectApplicator,
    ConnectRig,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    HomeApplicator,
    HomeRig,
    MoveAcross,
    MoveDepth,
    OpenGrip,
    RequestScan,
    RetractNeedle,
)
from controller.events import (
    CommandDone,
    CommandFailed,
    CommandRefused,
    DeviceFaulted,
    Event,
    OperatorConfirmed,
    OperatorDecided,
    OperatorDeclined,
    ProcedureResumed,
    ProcedureStarted,
    ScanAnalysed,
    ScanUnusable,
    SeedDropped,
    StopPressed,
)
from controller.guidance import Landing, aim_rig_mm, estimate_rig
from controller.interlocks import scan_belongs_to_plan
from controller.knowledge import JudgedScan, Knowledge, NeedleStory, ProcedureSettings
from controller.snapshot import NeedleStatus, Snapshot
from imaging.deviation import Verdict, deviation
from imaging.rescan import RescanFindings
from planning.frame import Floats, RigidTransform
from planning.plan import Plan, rounded_point


class _Steps:
    """What ``transitions`` drives: the present state, and ``trigger``, which it adds."""

    state: str
    trigger: Callable[..., bool]


class Procedure:
    """The state of one implantation.

    Args:
        plan: what was planned, and (by its hash) confirmed.
        settings: tolerance, attempts, geometry of the carriage.
    """

    def __init__(self, plan: Plan, settings: ProcedureSettings) -> None:
        self.known = Knowledge.of(plan, settings)
        self._steps = _Steps()
        self._agenda: deque[Command] = deque()
        self._issued = 0
        self._pending: Command | None = None
        self._interrupted: Command | None = None
        self._machine = Machine(
            model=self._steps,
            states=[State(name, on_enter=[self._fill_agenda]) for name in protocol.STATES],
            initial="READY",
            auto_transitions=False,
            send_event=True,
        )
        for row in protocol.TABLE:
            self._machine.add_transition(
                row.trigger,
                list(row.sources),
                row.destination,
                conditions=[self._bound(g) for g in row.guards],
            )

    def _bound(self, guard: protocol.Guard) -> Callable[[Any], bool]:
        return lambda _event: guard(self.known)

    # --- what others may ask ----------------------------------------------------------------------------

    @property
    def state(self) -> str:
        return self._steps.state

    @property
    def pending(self) -> Command | None:
        """The command that was handed out and not yet answered."""
        return self._pending

    @property
    def interrupted(self) -> Command | None:
        """The command under way, or (HELD) the one that was under way or failed when the procedure was held.

        Held after a CT: the CT that is taken when it goes on. What became of it is for ``recovery`` to find out.
        """
        return self._interrupted if self.is_held else self._pending

    @property
    def working_state(self) -> str:
        """The state; in HELD the one it was held in, and goes back to."""
        return self.known.held_in if self.is_held else self.state

    @property
    def is_held(self) -> bool:
        """It waits for a person: ``ProcedureResumed`` takes it back, ``OperatorDecided`` changes what may follow.

        ``ProcedureResumed`` may be made only from ``recovery.compare``'s verdict on ``replay`` of the journal and
        a fresh ``look`` at the devices (which opens the rig's grip): what follows relies on both.
        """
        return self.state == "HELD"

    @property
    def is_ended(self) -> bool:
        """Nothing takes it back."""
        return self.state in protocol.ENDED

    @property
    def is_over(self) -> bool:
        """It asks for nothing by itself any more: held or ended."""
        return self.is_held or self.is_ended

    def expected_tips(self) -> dict[str, tuple[Floats, Floats]]:
        """For the scan's analysis: where each standing needle should be (tip, direction; plan's patient frame)."""
        pose = self._pose()
        tips = {}
        for story in self.known.inserted:
            if story.aim_rig_mm is None:
                continue
            own = np.mean(story.offsets_rig_mm(pose) or [np.zeros(3)], axis=0)
            tip = pose.apply(story.aim_rig_mm + own)
            axis = story.landings[-1].found_direction if story.landings else pose.turn([0.0, 0.0, 1.0])
            tips[story.plan.name] = (tip, axis)
        return tips

    def expected_seeds(self) -> dict[int, tuple[Floats, Floats]]:
        """Where each delivered seed should lie (centre, direction), from where its needle was last seen."""
        seeds = {}
        for story in self.known.needles.values():
            last = story.landings[-1] if story.landings else None
            tip = np.asarray(story.plan.tip_mm) if last is None else last.found_patient_mm
            axis = story.plan.direction if last is None else last.found_direction
            for seed in story.plan.seeds:
                if seed.number in self.known.seeds_delivered:
                    behind = seed.retraction_mm - self.known.plan.seed_length_mm / 2.0
                    seeds[seed.number] = (tip - axis * behind, axis)
        return seeds

    # --- the one step -----------------------------------------------------------------------------------

    def handle(self, event: Event) -> tuple[Command, ...]:
        """Take in what happened; return what to do next (no command, or one)."""
        if self.is_held and not isinstance(event, ProcedureResumed | OperatorDecided | StopPressed):
            return ()  # what the devices still say is journaled; when it goes on they are asked
        answered = self._pending
        number = getattr(event, "number", None)
        if number is not None:
            if answered is None or answered.number != number:
                return self._fire("fault_seen", f"an answer to command {number}, which is not under way")
            self._pending = None
        if not self.is_held:
            self._interrupted = answered
        match event:
            case ProcedureStarted():
                return self._fire("procedure_started", f"started by {event.who}")
            case ProcedureResumed():
                return self._resume(event)
            case OperatorDecided():
                return self._decide(event)
            case StopPressed():
                return self._fire("stop_pressed", f"stopped by {event.who}")
            case DeviceFaulted():
                return self._fire("fault_seen", f"{event.device}: {event.reason}")
            case CommandFailed() | ScanUnusable() if isinstance(answered, RequestScan):
                self.known.scan_is_usable, self.known.scan_problem = False, event.reason
                return self._fire("scan_judged", f"CT {answered.scan} can't be used: {event.reason}")
            case CommandFailed() | ScanUnusable():
                return self._fire("fault_seen", event.reason)
            case CommandRefused():
                return self._fire("fault_seen", f"held back by {event.interlock}: {event.reason}")
            case OperatorDeclined():
                return self._fire("fault_seen", f"declined by {event.who}: {event.reason}")
            case SeedDropped() if isinstance(answered, DropSeed):
                return self._seed_dropped(answered, event)
            case ScanAnalysed() if isinstance(answered, RequestScan):
                return self._scan_analysed(answered, event.findings)
            case CommandDone() | OperatorConfirmed() if answered is not None:
                self._learn(answered)
                return self._next()
        return self._fire("fault_seen", f"{type(event).__name__} can't be understood here")

    def _resume(self, event: ProcedureResumed) -> tuple[Command, ...]:
        """Go on where the journal ends, or in the state it was held in; an answer that is known is awaited first."""
        if self.is_ended or self.state == "READY":
            return self._fire("fault_seen", "nothing is there to be resumed")
        interrupted = self.interrupted
        again = None if event.is_answered else interrupted
        rest = resumption.agenda_after(
            self.working_state, self.known, again, tuple(self._agenda), event, self._across, self._pose()
        )
        self._pending = interrupted if event.is_answered else None
        self._agenda = deque(rest)
        if self.is_held:
            return self._fire("procedure_resumed", f"taken back by {event.who}")
        self.known.message = f"resumed by {event.who}"
        return self._next()

    def _decide(self, event: OperatorDecided) -> tuple[Command, ...]:
        """What a person decides while it is held; it goes on only when it is resumed."""
        known = self.known
        if not self.is_held:
            known.message = f"{event.kind}: only while held (decided by {event.who})"
            return ()
        match event.kind:
            case "grant_attempts" if event.needle in known.needles and event.count > 0:
                known.needles[event.needle].attempts_granted += event.count
                known.message = f"needle {event.needle}: {event.count} more attempts granted by {event.who}"
            case _:
                known.message = f"{event.kind} can't be decided here (by {event.who})"
        return ()

    def _fire(self, trigger: str, message: str) -> tuple[Command, ...]:
        self.known.message = message
        if self.is_over and trigger not in ("stop_pressed", "procedure_resumed"):
            return ()
        if trigger == "procedure_resumed":
            self.known.held_because = ""
        if trigger in ("fault_seen", "stop_pressed"):
            self.known.held_because = message
        taken = any(row.trigger == trigger and self.state in row.sources for row in protocol.TABLE)
        if not (taken and self._steps.trigger(trigger)):
            self.known.message = f"{message} (nothing to do in {self.state})"
            return ()
        if self.state == "HELD" and not self.known.held_because:
            self.known.held_because = self._why_held(message)
        return self._next()

    def _next(self) -> tuple[Command, ...]:
        """Hand out the next command of the agenda; an empty one means that the state's work is done."""
        if self.is_over or self._pending is not None:
            return ()
        if not self._agenda:
            return self._fire("work_done", self.known.message)
        self._issued += 1
        command = replace(self._agenda.popleft(), number=self._issued)
        self._prepare(command)
        self._pending = command
        return (command,)

    # --- entering a state: what is to be done there -----------------------------------------------------

    def _fill_agenda(self, event: Any) -> None:
        known, state = self.known, event.transition.dest
        if event.event.name == "procedure_resumed":
            known.scans_in_round = 1
            return
        if state == "HELD":
            known.held_in = event.transition.source
            if event.event.name == "scan_judged":
                kind = protocol.SCANNED_IN[known.held_in]
                self._interrupted = RequestScan(0, known.scans + 1, kind, known.motion)
            return
        self._agenda.clear()
        if state == event.transition.source:
            known.scans_in_round += 1
        elif state.startswith("AWAITING_") and state.endswith("_SCAN"):
            known.scans_in_round = 1
        match state:
            case "CHECKING_DEVICES":
                self._agenda.extend(agenda.device_check())
            case "AWAITING_TIME_OUT":
                self._agenda.extend(agenda.time_out(known))
            case "INSERTING_REFERENCE_NEEDLES":
                for needle in known.plan.reference_needles:
                    story = known.needles[needle.name]
                    story.state = "at reference depth"
                    self._insert(story)
            case "CORRECTING_REFERENCE_NEEDLES" | "CORRECTING_NEEDLES":
                for story in known.off_target:
                    self._correct(story)
            case "INSERTING_SEED_NEEDLES":
                self._insert_all()
            case "DELIVERING_SEEDS":
                self._agenda.extend(agenda.deliver(known))
            case _ if state in protocol.SCANNED_IN:
                self._agenda.append(RequestScan(0, known.scans + 1, protocol.SCANNED_IN[state], known.motion))
            case _:
                pass

    def _pose(self) -> RigidTransform:
        """Best present knowledge of where the rig stands."""
        rig = self.known.rig
        return self.known.plan.planned_patient_from_rig() if rig is None else rig.patient_from_rig

    def _insert(self, story: NeedleStory) -> None:
        aim = aim_rig_mm(self._pose(), story.target_mm, [])
        self._agenda.extend(agenda.insert(self.known, story, aim, self._pose()))

    def _insert_all(self) -> None:
        """The reference needles on to full depth on their own paths, then all others."""
        for story in self.known.needles.values():
            if story.state == "at reference depth":
                story.state = "in place"
                story.verified = None
                story.first_deviation = None
                story.attempt = 0
                aim = aim_rig_mm(self._pose(), story.target_mm, story.offsets_rig_mm(self._pose()))
                story.landings.clear()
                self._agenda.extend(agenda.change_depth(self.known, story, float(aim[2])))
            elif story.state == "planned":
                story.state = "in place"
                self._insert(story)

    def _correct(self, story: NeedleStory) -> None:
        """Depth alone by depth; a lateral error by another path."""
        pose = self._pose()
        found = story.deviation
        assert found is not None
        assert story.aim_rig_mm is not None
        aim = aim_rig_mm(pose, story.target_mm, story.offsets_rig_mm(pose))
        if found.lateral_mm + found.sigma_mm <= self.known.settings.tolerance_mm:
            wanted = float(story.aim_rig_mm[2]) - found.depth_mm
            self._agenda.extend(agenda.change_depth(self.known, story, round(wanted, 3)))
        else:
            self._agenda.extend(agenda.aim_again(self.known, story, aim, pose))

    # --- what is known after (and, where in doubt, before) a command -------------------------------------

    def _prepare(self, command: Command) -> None:
        """What must count as having happened as soon as the command may have left."""
        known = self.known
        match command:
            case CloseGrip(needle=name):
                known.motion += 1
                known.needles[name].moved = known.motion
                known.needles[name].verified = None
            case RequestScan():
                known.scans = command.scan

    def _learn(self, command: Command) -> None:
        known = self.known
        match command:
            case AskOperator(task="confirm_time_out"):
                known.confirmed_hash = known.plan_hash
            case AskOperator(task="load_needle"):
                known.loaded = command.needle
            case AskOperator(task="couple_applicator"):
                known.coupled = command.needle
            case AskOperator(task="uncouple_applicator"):
                if command.needle is not None:
                    known.needles[command.needle].state = "delivered"
                known.coupled = None
            case HomeRig():
                known.rig_homed, known.carriage_z_mm = True, known.settings.home_z_mm
            case MoveAcross():
                known.across_for = command.needle
                if known.gripped is not None:
                    self._aim(command.needle, x_mm=command.x_mm, y_mm=command.y_mm, new_path=True)
                else:
                    self._across = (command.x_mm, command.y_mm)
            case CloseGrip():
                known.gripped = command.needle
                if known.loaded == command.needle:
                    known.loaded = None
                    x, y = self._across
                    self._aim(command.needle, x_mm=x, y_mm=y, new_path=True)
            case MoveDepth():
                known.carriage_z_mm = command.z_mm
                if known.gripped == command.needle:
                    known.motion += 1
                    known.needles[command.needle].moved = known.motion
                    self._aim(command.needle, z_mm=command.z_mm)
            case OpenGrip():
                known.gripped = None
                known.needles[command.needle].attempt += 1
            case HomeApplicator(axis="stylet"):
                known.stylet_homed = True
            case HomeApplicator(axis="retraction"):
                known.retraction_homed = True
            case BeginLedger():
                known.ledger_begun = True
            case DeclareCartridge():
                known.cartridge, known.cartridge_left = command.cartridge, command.count
            case RetractNeedle():
                known.needles[command.needle].last_z_um = command.z_um
            case EndLedger():
                known.cartridge_left = 0
        known.message = _in_words(command)

    _across: tuple[float, float] = (0.0, 0.0)

    def _aim(
        self,
        name: str,
        *,
        x_mm: float | None = None,
        y_mm: float | None = None,
        z_mm: float | None = None,
        new_path: bool = False,
    ) -> None:
        story = self.known.needles[name]
        aim = np.zeros(3) if story.aim_rig_mm is None else story.aim_rig_mm.copy()
        for axis, value in enumerate((x_mm, y_mm, z_mm)):
            if value is not None:
                aim[axis] = value
        story.aim_rig_mm = aim
        story.is_new_path = story.is_new_path or new_path

    def _seed_dropped(self, command: DropSeed, event: SeedDropped) -> tuple[Command, ...]:
        known = self.known
        known.seed_intended = command.seed
        if event.outcome != "PASS":
            return self._fire(
                "fault_seen",
                f"seed {command.seed} in needle {command.needle}: {event.outcome}; count the seeds and look at a "
                "CT before anything is cleared",
            )
        known.seeds_delivered.append(command.seed)
        known.needles[command.needle].seeds_delivered += 1
        if known.cartridge_left is not None:
            known.cartridge_left -= 1
        known.message = f"Seed {command.seed} dropped in needle {command.needle}"
        return self._next()

    # --- judging a scan ---------------------------------------------------------------------------------

    def _scan_analysed(self, command: RequestScan, findings: RescanFindings) -> tuple[Command, ...]:
        known = self.known
        stranger = scan_belongs_to_plan(findings, known.plan)
        if stranger is not None:
            return self._fire("fault_seen", f"CT {command.scan} not used: {stranger}")
        known.scan_is_usable, known.scan_problem, known.unseen = True, "", ()
        for story in known.needles.values():
            story.off_target = False
        if not findings.registered:
            known.scan_is_usable = False
            known.scan_problem = (
                f"the patient in it can't be matched with the planning CT ({findings.problem})"
            )
        elif command.kind != "seeds":
            self._judge_needles(command, findings)
        else:
            known.judged.append(JudgedScan(command.scan, command.kind))
            known.message = f"CT {command.scan}: {len(findings.seeds)} seeds seen"
            return self._fire("scan_judged", known.message)
        seen = f"CT {command.scan}: {len(known.off_target)} of {len(known.inserted)} needles to correct"
        return self._fire("scan_judged", known.scan_problem or seen)

    def _judge_needles(self, command: RequestScan, findings: RescanFindings) -> None:
        known = self.known
        found = {needle.name: needle for needle in findings.needles if needle.name is not None}
        known.unseen = tuple(s.plan.name for s in known.inserted if s.plan.name not in found)
        for story in known.inserted:
            needle = found.get(story.plan.name)
            if needle is None or story.aim_rig_mm is None:
                continue
            landing = Landing(story.aim_rig_mm, np.array(needle.tip_mm), np.array(needle.direction))
            story.land(landing, known.settings.same_path_mm)
            story.deviation = deviation(
                story.target_mm,
                story.plan.direction,
                needle.tip_mm,
                needle.direction,
                needle.sigma_mm,
                tolerance_mm=known.settings.tolerance_mm,
            )
            story.first_deviation = story.first_deviation or story.deviation
            stood_still = story.verified is not None and story.verified >= story.moved
            story.verified = command.motion if self._is_accepted(story, stood_still) else None
            story.off_target = story.verified is None
        landings = [story.landings[-1] for story in known.inserted if story.landings]
        if command.kind == "reference" and landings:
            known.rig = estimate_rig(known.plan.planned_patient_from_rig(), landings)
        seen = [story for story in known.inserted if story.plan.name in found and story.deviation is not None]
        known.judged.append(
            JudgedScan(
                command.scan,
                command.kind,
                tuple((s.plan.name, s.deviation) for s in seen if s.deviation is not None),
                {s.plan.name: rounded_point(found[s.plan.name].tip_mm) for s in seen},
                {s.plan.name: rounded_point(found[s.plan.name].direction) for s in seen},
                tuple(s.plan.name for s in known.off_target),
            )
        )

    def _is_accepted(self, story: NeedleStory, stood_still: bool) -> bool:
        """Within is accepted. A tip that can't be told is corrected as long as attempts remain; after the last
        one, or when it was accepted before and has not moved, its measured deviation decides: exactly the
        tolerance is within."""
        found = story.deviation
        if found is None or found.verdict is Verdict.BEYOND:
            return False
        if found.verdict is Verdict.WITHIN:
            return True
        used_up = story.attempt >= story.attempts_allowed(self.known.settings)
        return (used_up or stood_still) and found.total_mm <= self.known.settings.tolerance_mm

    def _why_held(self, message: str) -> str:
        known = self.known
        if known.unseen:
            return f"needles not seen in {known.scans_in_round} CTs: {', '.join(known.unseen)}"
        if not known.scan_is_usable:
            return f"no usable CT after {known.scans_in_round}: {known.scan_problem}"
        if known.rig is not None and not known.rig.is_usable:
            return (
                "the reference needles don't agree on where the rig stands "
                f"(residual {known.rig.residual_mm:.1f} mm); check how the template sits"
            )
        spent = [s for s in known.off_target if s.attempt >= s.attempts_allowed(known.settings)]
        if spent:
            told = ", ".join(
                f"{s.plan.name} {s.deviation.total_mm:.1f} mm" for s in spent if s.deviation is not None
            )
            return f"still off target after {max(s.attempt for s in spent)} attempts: {told}"
        return message

    # --- for the screen ---------------------------------------------------------------------------------

    def snapshot(self, now_ns: int, *, rig: str = "", applicator: str = "") -> Snapshot:
        known = self.known
        names = list(protocol.STEPS)
        return Snapshot(
            state=self.state,
            step_index=names.index(self.state) if self.state in names else -1,
            steps=tuple(protocol.STATES[name] for name in names),
            needles=tuple(
                NeedleStatus(
                    name=story.plan.name,
                    hole=story.plan.hole,
                    is_reference=story.plan.is_reference,
                    state="verified" if story.is_verified else story.state,
                    attempt=story.attempt,
                    first_deviation=story.first_deviation,
                    deviation=story.deviation,
                    seeds_delivered=story.seeds_delivered,
                    seeds_planned=len(story.plan.seeds),
                )
                for story in known.needles.values()
            ),
            seeds_delivered=len(known.seeds_delivered),
            seeds_planned=len(known.plan.seeds),
            cartridge_left=known.cartridge_left,
            rig=rig,
            applicator=applicator,
            waiting_for="" if self._pending is None else _in_words(self._pending),
            virtual_time_s=now_ns / 1e9,
            message=known.held_because or known.message,
        )


def _in_words(command: Command) -> str:
    """What a command does, for a screen."""
    match command:
        case AskOperator():
            return command.text
        case ConnectRig():
            return "Template rig connected and checked"
        case HomeRig():
            return "Template rig homed"
        case MoveAcross():
            return f"Guide over needle {command.needle}'s place"
        case CloseGrip():
            return f"Needle {command.needle} held"
        case OpenGrip():
            return f"Needle {command.needle} let go"
        case MoveDepth() if command.in_tissue:
            return f"Needle {command.needle} to depth {command.z_mm:.1f} mm"
        case MoveDepth():
            return f"Carriage to {command.z_mm:.1f} mm"
        case ConnectApplicator():
            return "Applicator connected and checked"
        case HomeApplicator():
            return f"Applicator: {command.axis} homed"
        case ClearLatch():
            return f"Applicator's latch {command.latch} cleared"
        case BeginLedger():
            return "Count of seeds opened"
        case DeclareCartridge():
            return f"Cartridge {command.cartridge} counted in: {command.count} seeds"
        case RetractNeedle():
            return f"Needle {command.needle} drawn back {command.z_um / 1000:.1f} mm"
        case DropSeed():
            return f"Seed {command.seed} in needle {command.needle}"
        case EndLedger():
            return "Count of seeds closed: every seed accounted for"
        case RequestScan():
            return f"CT {command.scan} ({command.kind})"
    return type(command).__name__
