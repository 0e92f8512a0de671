"""Who is trained, as the training run sees it, and the assistants who do everything that decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from controller import ruling
from controller.commands import AskOperator
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.session import Operator
from controller.snapshot import Snapshot
from simulator.benchtop import Benchtop
from simulator.physics import ImpossibleByHandError
from simulator.scenario import TraineeTable

DECIDING = frozenset({"confirm_time_out", "adapt_plan", "confirm_resume", ruling.TASK})
"""Tasks of questions that decide something."""


@dataclass(frozen=True)
class HeldRun:
    """A training run that is held, for the trainee.

    Attributes:
        why_not: why it did not go on when it was last tried; empty before.
        snapshot: as it stands; ``message`` tells why it is held, ``may_decide`` what may be decided.
        told: what the assistants have seen and counted.
        decide: takes a decision in (any but ``abort``), after so many ns of thinking; what it did, in words.
    """

    why_not: str
    snapshot: Snapshot
    told: str
    decide: Callable[[OperatorDecided, int], str]


class Trainee(Protocol):
    """Answers questions, and decides about a held run. ``took_ns``: on the procedure's clock."""

    name: str

    def answer(
        self, command: AskOperator, snapshot: Snapshot
    ) -> tuple[OperatorConfirmed | OperatorDeclined, int]: ...

    def held(self, run: HeldRun) -> tuple[bool | OperatorDecided, int]:
        """On (True), left held (False: the run ends), or given up (an ``abort``)."""

    def stop_pressed(self) -> str | None:
        """Who has pressed stop, once each."""

    def noticed(self, what: str) -> None:
        """What anybody in the room can see has happened."""


class TraineeOperator:
    """The trainee decides, assistants do; what the scenario does not leave to the trainee is not offered."""

    is_automatic = False

    def __init__(
        self,
        trainee: Trainee,
        assistants: Operator,
        left: TraineeTable,
        look: Callable[[], Snapshot],
        before: Callable[[AskOperator], None],
    ) -> None:
        self._trainee, self._assistants, self._left, self._look = trainee, assistants, left, look
        self._before = before
        self.name = trainee.name
        self.is_asking = False

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if command.task not in DECIDING and self._left.confirms == "decisions":
            return self._assistants.answer(command)
        self._before(command)
        self.is_asking = True
        try:
            answer, took_ns = self._trainee.answer(offered(command, self._left), self._look())
        finally:
            self.is_asking = False
        if isinstance(answer, OperatorConfirmed) and command.task not in DECIDING:
            done, more_ns = self._assistants.answer(command)
            if isinstance(done, OperatorDeclined):
                return OperatorDeclined(command.number, done.who, done.reason), took_ns + more_ns
            return answer, took_ns + more_ns
        return answer, took_ns


def offered(command: AskOperator, left: TraineeTable) -> AskOperator:
    """The question with only those choices that the scenario leaves to the trainee."""
    if command.choices is None:
        return command
    kept = {
        ruling.AGAIN: "rescan",
        ruling.ACCEPT: "accept",
        ruling.CORRECT: "correct",
        ruling.OWN: "own_amount",
        ruling.ABANDON: "abandon",
    }
    choices = {
        name: [word for word in words if kept[word.split()[0]] in left.may]
        for name, words in command.choices.items()
    }
    return replace(command, choices=choices)


class Assistants:
    """What people in the room do about a held run without deciding anything: they look, count, and mend."""

    def __init__(self, bench: Benchtop) -> None:
        self._bench = bench
        self._in_hand = 0

    def look(self) -> str:
        """What they see, in words; a blocked path is freed first, and what was in it lies in a hand."""
        hands = self._bench.applicator_mechanics
        with contextlib.suppress(ImpossibleByHandError):  # the stylet still moves
            self._in_hand += hands.clear_path()
        words = []
        if self._in_hand:
            words.append(f"{self._in_hand} taken out of the applicator's path by hand")
        if hands.is_seated:
            words.append(f"{hands.cartridge} seeds counted in the cartridge")
        if hands.is_estop_open:
            words.append("the e-stop is pressed")
        return "; ".join(words)

    def mend(self, now_ns: int) -> None:
        """Cables in, e-stop released, carriages free: before it goes on."""
        for words in ("estop off", "free applicator", "strengthen rig"):
            self._bench.do(words, now_ns)
        for axis in ("x", "y", "z"):
            for words in ("free", "release", "repair"):
                self._bench.do(f"{words} rig {axis}", now_ns)
        for device in self._bench.cables:
            self._bench.do(f"mend {device}", now_ns)

    def told_where(self, where: str) -> None:
        """The trainee says where a seed in doubt is: one that lies in a hand is put where it belongs."""
        if where == "cartridge" and self._in_hand:
            self._bench.applicator_mechanics.miscount_cartridge(self._in_hand)
        self._in_hand = 0
