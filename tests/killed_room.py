"""The plain room with a controller that is killed: at a journal write, or at a boundary of the bytes.

Nothing of the controller survives but its journal's file; devices, tissue and people live on. ``Killing`` counts the
points as they come and ends the controller at one of them. ``play`` plays one procedure through any number of kills.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controller.by_hand import ApplicatorByHand, RigByHand
from controller.commands import AskOperator
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.journal import Journal, Kind, Record
from controller.order import JOURNAL_FILE
from controller.procedure import Procedure
from controller.recovery import Verdict, compare, confirm, look
from controller.replay import replay
from controller.session import Applicator, Rig, Session
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.rig import RigDriver
from planning.plan import Plan
from simulator.rehearsal.virtual_transport import VirtualTransport
from simulator.theatre import Theatre
from tests.plain_room import Room

AWAY_NS = 2_000_000_000
"""From the kill to the next start."""


class Killed(BaseException):
    """The controller's process is gone: nothing of it may run any more."""


class Killing:
    """Counts points and kills at one of them; ``at`` None: never.

    Attributes:
        elsewhere: where the journal goes on after the kill, when its files are another process's.
    """

    def __init__(self, at: int | None) -> None:
        self.at, self.passed = at, 0
        self.end: Killed | None = None
        self.elsewhere: Path | None = None
        self.where: list[str] = []

    @property
    def is_dead(self) -> bool:
        return self.end is not None

    def point(self, where: str) -> None:
        self.passed += 1
        self.where.append(where)
        if self.passed == self.at:
            self.end = Killed(where)
            raise self.end


class KilledJournal(Journal):
    """A journal whose writer may die before or after each record."""

    killing: Killing
    last = ""

    def append(self, t_ns: int, kind: Kind, body: dict[str, Any]) -> Record:
        what = f"{kind} {body.get('event') or body.get('command') or ''} {body.get('number', '')}"
        self.killing.point(f"before {what}")
        self.last = what
        record = super().append(t_ns, kind, body)
        self.killing.point(f"after {what}")
        return record

    def _commit(self) -> None:
        if self.killing.end is not None:
            raise self.killing.end
        self.killing.point(f"before the commit of {self.last}")
        super()._commit()
        self.killing.point(f"after the commit of {self.last}")

    def close(self) -> None:
        if self.killing.is_dead:
            self.die()
        else:
            super().close()

    def die(self, elsewhere: Path | None = None) -> Path:
        """As SIGKILL leaves it: the log beside the file, not folded in. Where the files are then.

        Args:
            elsewhere: they go on in this folder; those here belong to another process, which lives (a fork's parent).
        """
        left = {
            suffix: Path(f"{self._path}{suffix}").read_bytes()
            for suffix in ("", "-wal")
            if Path(f"{self._path}{suffix}").exists()
        }
        if elsewhere is None:
            self._db.close()  # it folds the log in, as no killed process does
        to = self._path if elsewhere is None else elsewhere / self._path.name
        for suffix, content in left.items():
            Path(f"{to}{suffix}").write_bytes(content)
        return to


class KilledWires(VirtualTransport):
    """Wires at whose host's end the process may die: with bytes unsent, half sent, sent, come, and taken in."""

    killing: Killing

    def exchange(self) -> bool:
        if self.killing.is_dead:
            return False  # SIGKILL runs no handler: no stop byte leaves any more
        moved = False
        for driver, device in self._pairs:
            while True:
                out = driver.take()
                if out:
                    for kept in sorted({0, len(out) // 2, len(out)}):
                        try:
                            self.killing.point(f"{kept} of {out!r} sent")
                        except Killed:
                            if kept:
                                device.receive(out[:kept], self._now_ns)
                            raise
                    device.receive(out, self._now_ns)
                back = device.take()
                if back:
                    self.killing.point(f"{back!r} come")
                    driver.receive(back, self._now_ns)
                    self.killing.point(f"{back!r} taken in")
                if not out and not back:
                    break
                moved = True
        return moved

    def live_on(self, for_ns: int) -> None:
        """The devices' time goes on with nobody at the host's end."""
        end_ns = self._now_ns + for_ns
        while True:
            for _, device in self._pairs:
                device.take()
            due = [
                wake
                for _, device in self._pairs
                if (wake := device.next_wake()) is not None and wake <= end_ns
            ]
            if not due:
                break
            self._now_ns = max(self._now_ns, min(due))
            for _, device in self._pairs:
                wake = device.next_wake()
                if wake is not None and wake <= self._now_ns:
                    device.wake(self._now_ns)
        self._now_ns = end_ns


class Nobody:
    """At the host's end of a wire to a device that is not used."""

    def take(self) -> bytes:
        return b""

    def receive(self, data: bytes, now_ns: int) -> None: ...


BY_HAND = ("set_guide", "move_needle", "slide_forward", "draw_back", "push_seed", "tell_pushed", "tell_kept")


class KilledRoom(Room):
    """People who know what they have done already, and do what a resumed controller asks besides."""

    def __init__(self, plan: Plan, **others: Any) -> None:
        super().__init__(plan, **others)
        self.taken_out: set[str] = set()
        self.starts = 0
        self.now_ns = 0
        self.theatre = Theatre(None, self.rig_mechanics, self.hands_on)

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        name, mechanics = str(command.needle), self.rig_mechanics
        is_done = False
        if command.task in BY_HAND:
            self.before_answer(command)
            done = self.theatre.handle(command.to_hands())
            if done["done"]:
                return OperatorConfirmed(command.number, self.name), 1_000_000_000
            return OperatorDeclined(command.number, self.name, str(done["why"])), 1_000_000_000
        match command.task:
            case "load_needle":
                is_done = mechanics._in_jaw == name
            case "take_out_needle":
                is_done = True
                if mechanics._in_jaw == name:
                    mechanics._in_jaw = None
                elif name in self.template:
                    self.template.take_out(name)
            case "couple_applicator":
                is_done = self.hands_on.coupled == name
            case "uncouple_applicator":
                is_done = name in self.taken_out
                self.taken_out.add(name)
            case "seat_cartridge":
                is_done = self.hands_on.cartridge is not None
            case "remove_cartridge":
                is_done = self.hands_on.cartridge is None
        if is_done:
            return OperatorConfirmed(command.number, self.name), 1_000_000_000
        return super().answer(command)

    def led(self, procedure: Procedure) -> tuple[Rig, Applicator]:
        """Drivers, or people in their place where the procedure knows of no device."""
        known = procedure.known
        rig: Rig = RigDriver(RigConfig())
        applicator: Applicator = ApplicatorDriver(
            ApplicatorConfig(15, 5000, 18), f"{0x5A00 + self.starts:04X}"
        )
        if known.rig_by_hand:
            rig = RigByHand(procedure, self.ask, simulated=True)
        if known.applicator_by_hand:
            applicator = ApplicatorByHand(procedure, self.ask, simulated=True)
        return rig, applicator

    def ask(self, question: AskOperator) -> Future[tuple[OperatorConfirmed | OperatorDeclined, int]]:
        """In virtual time the answer is there at once."""
        answered: Future[tuple[OperatorConfirmed | OperatorDeclined, int]] = Future()
        answered.set_result(self.answer(question))
        return answered

    def killed_session(
        self, procedure: Procedure, journal: KilledJournal, killing: Killing, start_ns: int
    ) -> tuple[Session, KilledWires, Rig, Applicator]:
        self.starts += 1
        journal.killing = killing
        rig, applicator = self.led(procedure)
        nobody: Any = Nobody()
        wires = KilledWires(
            (rig if isinstance(rig, RigDriver) else nobody, self.rig),
            (applicator if isinstance(applicator, ApplicatorDriver) else nobody, self.applicator),
            start_ns,
        )
        wires.killing = killing
        session = Session(
            procedure,
            journal,
            rig=rig,
            applicator=applicator,
            transport=wires,
            operator=self,
            scanner=self,
        )
        return session, wires, rig, applicator


class Outcome:
    """What became of one procedure played through kills."""

    def __init__(self) -> None:
        self.state = ""
        self.reason = ""
        self.verdicts: list[Verdict] = []
        self.where: list[str] = []
        self.passed: list[int] = []
        self.points: list[str] = []


def play(room: KilledRoom, folder: Path, kills: Sequence[int | Killing | None]) -> Outcome:
    """Play; kill the first run at point ``kills[0]``, the resumed one at ``kills[1]``, ...; at last to the end."""
    path = folder / JOURNAL_FILE
    outcome = Outcome()
    now_ns = 0
    for at in (*kills, None):
        killing = at if isinstance(at, Killing) else Killing(at)
        journal: KilledJournal | None = None
        wires: KilledWires | None = None
        try:
            begin_with: tuple[Any, ...] = ()
            if not path.exists():
                procedure = Procedure(room.plan, room.settings)
                journal = KilledJournal(path)
                session, wires, *_ = room.killed_session(procedure, journal, killing, now_ns)
                opened = {"plan": room.plan.content_hash, "settings": asdict(room.settings)}
                journal.append(0, "opened", opened)
            else:
                replayed = replay(path, room.plan)
                procedure = replayed.procedure
                journal = KilledJournal.continued(path)  # type: ignore[assignment]
                assert journal is not None
                session, wires, rig, applicator = room.killed_session(procedure, journal, killing, now_ns)
                if procedure.is_over:
                    outcome.state, outcome.reason = procedure.state, procedure.known.held_because
                    return outcome
                if procedure.state != "READY":
                    verdict = compare(replayed, look(rig, applicator, wires, procedure))
                    outcome.verdicts.append(verdict)
                    begin_with = confirm(verdict, room, journal, wires.now_ns()).begin_with
                    if not begin_with:
                        outcome.state, outcome.reason = "NOT RESUMED", verdict.text
                        return outcome
            session.run(begin_with)
            room.now_ns = wires.now_ns()
            outcome.state, outcome.reason = procedure.state, procedure.known.held_because
            outcome.passed.append(killing.passed)
            outcome.points = killing.where
            return outcome
        except Killed as killed:
            outcome.where.append(str(killed))
            if journal is not None:
                path = journal.die(killing.elsewhere)
                if journal._number == 0:
                    for left in path.parent.glob(f"{JOURNAL_FILE}*"):
                        left.unlink()
                journal = None
            assert wires is not None
            wires.live_on(AWAY_NS)
            now_ns = wires.now_ns()
        finally:
            if journal is not None:
                journal.close()
    raise AssertionError("not reached")


def amiss(room: KilledRoom, outcome: Outcome) -> list[str]:
    """What is not as it must be at the end."""
    planned = {needle.name: len(needle.seeds) for needle in room.plan.needles}
    wrong = []
    if outcome.state != "COMPLETED":
        wrong.append(f"{outcome.state}: {outcome.reason}")
    if room.template.seeds_dropped != planned:
        wrong.append(f"dropped {room.template.seeds_dropped}, planned {planned}")
    if room.hands_on.seeds_spilled:
        wrong.append(f"{room.hands_on.seeds_spilled} seeds spilled")
    return wrong
