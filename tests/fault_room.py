"""The plain room with faults: one procedure of the fault campaign, and the laws that hold in each.

Control part without imaging: real procedure, interlocks, drivers, bytes and firmware in virtual time, behind cables
that can be spoilt; plain tissue and a truthful scanner. The journal is kept in memory (never on a disk: nothing is
resumed here; ``benchmarks.kill_points`` does that with the real one).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from controller.advice import what_to_do
from controller.commands import AskOperator, DropSeed
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.journal import Journal, Record
from controller.procedure import Procedure
from controller.session import Session
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.rig import RigDriver
from planning.plan import Plan
from simulator.benchtop import Benchtop
from simulator.faults import Fault
from simulator.faults_director import Director, on_bench
from simulator.rehearsal.faulty import FaultyOperator, FaultyScanner, told_by_journal
from simulator.rehearsal.plain_tissue import SKIN_Z_MM
from simulator.rehearsal.virtual_transport import VirtualTransport
from tests.audit import audit
from tests.compact_case import SETTINGS
from tests.plain_room import Room

TOLERANCE_MM = 2.0
ANSWER_NS, SCAN_TAKES_S = 2_000_000_000, 10.0
UNSURE_MM = 0.8
"""The plain scanner's noise is 0.15 mm (1 sigma) along each axis: five times that is the most it may hide."""
COASTS_MM = 3.0
"""From a hold to rest: half a second of silence at 5 mm/s (the watchdog's), or one step of 1 mm in tissue."""
GRBL_ENDS_S = 60.0
"""Stock Grbl has no watchdog: a stop that is lost in a silent cable leaves it the line it has (in tissue: 1 mm); homing
takes longest."""
MOST_WAITS = 150_000
"""A procedure here takes some thousand; more means that nobody gets anywhere any more."""


class NoEndError(RuntimeError):
    """Virtual time goes on and nothing comes to an end."""


class CountedTransport(VirtualTransport):
    """Notices a procedure that never ends; lets the devices live on alone."""

    waits = 0

    def wait(self, wake_ns: int | None) -> None:
        self.waits += 1
        if self.waits > MOST_WAITS:
            raise NoEndError(f"no end after {self.waits} waits, {self._now_ns / 1e9:.0f} s")
        super().wait(wake_ns)

    def live_on(self, for_s: float) -> None:
        """Nobody at the hosts' ends."""
        end_ns = self._now_ns + round(for_s * 1e9)
        while self._now_ns < end_ns:
            for _, device in self._pairs:
                device.take()
            due = [wake for _, device in self._pairs if (wake := device.next_wake()) is not None]
            self._now_ns = max(self._now_ns, min([*due, end_ns]))
            for _, device in self._pairs:
                device.wake(self._now_ns)


class FaultRoom(Room):
    """Devices on a bench with supplies and cables, people and scanner that can do wrong."""

    def __init__(self, plan: Plan, faults: list[Fault], *, seed: int) -> None:
        super().__init__(
            plan, seed=seed, setup_mm=2.0, own_mm=3.0, settings=SETTINGS, scan_takes_s=SCAN_TAKES_S
        )
        self.bench = Benchtop(seed, self.rig_mechanics, self.hands_on)
        self.director = Director(faults, on_bench(self.bench))
        self.seed = seed
        self.records: list[Record] = []
        self.tips_when_held: dict[str, np.ndarray] | None = None

    def faulty_session(self) -> tuple[Session, CountedTransport, FaultyOperator]:
        self.procedure = Procedure(self.plan, self.settings)
        self.journal = Journal(Path(":memory:"))
        rig = RigDriver(RigConfig())
        applicator = ApplicatorDriver(ApplicatorConfig(15, 5000, 18), f"{self.seed % 0x10000:04X}")
        cables = self.bench.cables
        wires = CountedTransport(
            (rig, cables["rig"]), (applicator, cables["applicator"]), director=self.director
        )
        tell = told_by_journal(self.director)
        self.journal.listener = lambda record: self._told(record, tell)
        people = FaultyOperator(self, self.director)
        session = Session(
            self.procedure,
            self.journal,
            rig=rig,
            applicator=applicator,
            transport=wires,
            operator=people,
            scanner=FaultyScanner(self, self.director),
            stop_pressed=self.director.stop_pressed,
        )
        self.journal.append(0, "opened", {"plan": self.plan.content_hash, "settings": asdict(self.settings)})
        return session, wires, people

    def _told(self, record: Record, tell: Callable[[Record], None]) -> None:
        self.records.append(record)
        if record.kind == "decision" and record.body.get("to") in ("HELD", "STOPPED"):
            self.tips_when_held = self.tips_in_tissue()
        tell(record)

    def tips_in_tissue(self) -> dict[str, np.ndarray]:
        return {name: at.copy() for name, at in self.tissue.at.items() if at[2] > SKIN_Z_MM}

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if command.task == "remove_cartridge":
            there = self.hands_on.remove_cartridge()
            if there != command.returned:
                why = f"the cartridge holds {there} seeds, not {command.returned}; count again"
                return OperatorDeclined(command.number, self.name, why), 5_000_000_000
            return OperatorConfirmed(command.number, self.name), 5_000_000_000
        answer, took_ns = super().answer(command)
        return answer, min(took_ns, ANSWER_NS)


@dataclass
class Played:
    """What became of one procedure."""

    state: str = ""
    reason: str = ""
    happened: list[tuple[float, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    virtual_s: float = 0.0


def play(plan: Plan, faults: list[Fault], seed: int) -> Played:
    """One procedure under these faults, judged."""
    room = FaultRoom(plan, faults, seed=seed)
    session, wires, people = room.faulty_session()
    played = Played()
    try:
        session.run()
    except Exception as problem:
        played.violations.append(f"{type(problem).__name__}: {problem}")
    played.state, played.reason = room.procedure.state, room.procedure.known.held_because
    played.happened, played.told = room.director.happened, people.told
    played.virtual_s = wires.now_ns() / 1e9
    if not played.violations:
        played.violations += _counted(room)
        played.violations += _in_place(room)
        is_silent = "doesn't say" in played.reason or room.bench.cables["rig"].down.is_cut
        played.violations += _at_rest(room, wires, is_led=not is_silent)
        played.violations += _said(room)
        played.violations += audit(room.records, plan)
    room.journal._db.close()
    return played


def _counted(room: FaultRoom) -> list[str]:
    """No uncounted seed: journal, applicator and truth agree, or the difference is told as doubt."""
    known, hands = room.procedure.known, room.hands_on
    in_patient = sum(room.template.seeds_dropped.values())
    truly = in_patient + hands.seeds_spilled
    journal = len(known.seeds_delivered)
    wrong = []
    firmware = room.bench.applicator
    if firmware is None:
        wrong.append("the applicator has no power at the end")
        return wrong
    memory = firmware.board.memory.now
    if room.procedure.state == "COMPLETED":
        planned = {needle.name: len(needle.seeds) for needle in room.plan.needles}
        if room.template.seeds_dropped != planned:
            wrong.append(f"completed with {room.template.seeds_dropped}, planned {planned}")
        if memory.implanted != journal or memory.in_doubt:
            wrong.append(f"completed; the applicator counts {memory.implanted}, {memory.in_doubt} in doubt")
    if hands.seeds_spilled:
        wrong.append(f"{hands.seeds_spilled} seeds spilled beside the patient")
    is_told = _doubt_is_told(room)
    if journal != truly and not is_told:
        wrong.append(f"journal {journal}, truth {truly}, and nobody says so: {known.held_because}")
    if known.ledger_begun and memory.implanted != journal and not is_told:
        wrong.append(f"journal {journal}, applicator {memory.implanted}, and nobody says so")
    if abs(journal - truly) > 2:
        wrong.append(f"journal {journal}, truth {truly}")
    return wrong


def _doubt_is_told(room: FaultRoom) -> bool:
    """A seed under way when it ended, an outcome other than PASS, or a seed latch."""
    procedure = room.procedure
    if procedure.state == "COMPLETED":
        return False
    firmware = room.bench.applicator
    latch = "" if firmware is None else firmware.board.latch
    reason = procedure.known.held_because
    return (
        isinstance(procedure.pending, DropSeed)
        or latch in ("JAM", "DOUBLE", "UNKNOWN")
        or re.search("in doubt|NOPASS|DOUBLE|UNKNOWN", reason) is not None
    )


def _in_place(room: FaultRoom) -> list[str]:
    """No seed outside tolerance, measured in the tissue's truth (in the needle's order of delivery)."""
    wrong = []
    waiting = {needle.name: list(needle.seeds) for needle in room.plan.needles}
    seeds = room.tissue.true_seeds
    if _doubt_is_told(room):
        seeds = seeds[
            : len(room.procedure.known.seeds_delivered)
        ]  # those of the last stroke are told as doubt
    for lying in seeds:
        needle = lying.needle
        places = [np.asarray(seed.centre_mm) for seed in waiting[needle]]
        if not places:
            wrong.append(f"needle {needle} got a seed more than planned")
            continue
        away = [float(np.linalg.norm(place - lying.centre_mm)) for place in places]
        del waiting[needle][int(np.argmin(away))]
        if min(away) > TOLERANCE_MM + UNSURE_MM:
            wrong.append(f"a seed of needle {needle} lies {min(away):.1f} mm from its place")
    return wrong


def _at_rest(room: FaultRoom, wires: CountedTransport, *, is_led: bool) -> list[str]:
    """Axes stopped, nothing armed, nothing retracted on its own."""
    rig, applicator = room.bench.rig, room.bench.applicator
    wires.live_on(3.0 if is_led else GRBL_ENDS_S)
    before = _places(room, wires)
    wires.live_on(5.0)
    wrong = [] if _places(room, wires) == before else ["something still moves"]
    if rig is not None and rig.state in ("Run", "Home", "Jog"):
        wrong.append(f"the rig is {rig.state}")
    if applicator is not None and applicator.board.state in ("MOVING", "ARMED", "FIRING", "HOMING"):
        wrong.append(f"the applicator is {applicator.board.state}")
    now = room.tips_in_tissue()
    for name, tip in (room.tips_when_held or {}).items():
        if name not in now or float(np.linalg.norm(now[name] - tip)) > COASTS_MM:
            wrong.append(f"needle {name} moved after the hold")
    return wrong


def _places(room: FaultRoom, wires: CountedTransport) -> tuple[object, ...]:
    now_ns = wires.now_ns()
    hands = room.hands_on
    tips = {name: tuple(at) for name, at in room.tissue.at.items()}
    return room.rig_mechanics.carriage_mm, hands._commanded_mm(now_ns), hands.stylet_um(now_ns), tips


def _said(room: FaultRoom) -> list[str]:
    """It ended, and says why and what to do."""
    state, reason = room.procedure.state, room.procedure.known.held_because
    if state == "COMPLETED":
        return []
    if state not in ("HELD", "STOPPED"):
        return [f"ended in {state}"]
    return [] if reason and what_to_do(reason) else ["held without a reason"]
