"""A person rules about each needle after a CT: what may be said, what follows, and what no word can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import ruling
from controller.answers import Answers
from controller.commands import AskOperator, CloseGrip, DropSeed, MoveDepth, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.interlocks import DeviceFacts, needle_is_verified
from controller.journal import read_journal
from controller.knowledge import Knowledge, ProcedureSettings
from controller.replay import replay
from imaging.deviation import deviation
from tests.made_plan import made_plan
from tests.plain_room import Room

PLAN = made_plan(columns=2, rows=1, seeds_per_needle=1)
JUDGED = ProcedureSettings(person_judges=True)
Words = dict[str, str]


def asked(**tips: tuple[float, float]) -> tuple[Knowledge, AskOperator]:
    """Needles in place whose tips were measured so far off (mm, sigma in mm)."""
    known = Knowledge.of(PLAN, JUDGED)
    for name, (off_mm, sigma_mm) in tips.items():
        story = known.needles[name]
        aim = known.plan.planned_patient_from_rig().inverse().apply(story.plan.tip_mm)
        story.state, story.aim_rig_mm, story.attempt, story.seen = "in place", aim, 1, 0
        tip = np.asarray(story.plan.tip_mm) + np.array([off_mm, 0.0, 0.0])
        story.deviation = deviation(
            story.plan.tip_mm, story.plan.direction, tip, story.plan.direction, sigma_mm
        )
    return known, replace(ruling.question(known), number=1)


@pytest.mark.parametrize(
    ("off_mm", "sigma_mm", "may"),
    [(1.0, 0.3, True), (1.9, 0.5, True), (2.1, 0.5, False), (4.0, 0.3, False)],
    ids=["within", "can't tell, measured within", "can't tell, measured beyond", "beyond"],
)
def test_what_was_measured_beyond_the_tolerance_can_not_be_accepted(
    off_mm: float, sigma_mm: float, may: bool
) -> None:
    known, question = asked(N01=(off_mm, sigma_mm))
    assert ("accept" in (question.choices or {})["N01"]) is may
    problem, commands = ruling.take_in(known, question, OperatorConfirmed(1, "ann", {"N01": "accept"}))
    assert (problem is None) is may
    assert commands == []
    drop = DropSeed(2, "N01", 1, 4500, "0000", 1)
    assert (needle_is_verified(drop, known, DeviceFacts()) is None) is may


@pytest.mark.parametrize(
    ("values", "because"),
    [
        ({}, "nothing is said of N01, N02"),
        ({"N01": "accept"}, "nothing is said of N02"),
        ({"N01": "accept", "N02": "accept", "N09": "accept"}, "N09 is not asked about"),
        ({"N01": "accept", "N02": "leave"}, "'leave' can't be said of it now"),
        ({"N01": "accept", "N02": "accept it"}, "accept stands alone"),
        ({"N01": "accept", "N02": "abandon"}, "needs a reason"),
        ({"N01": "accept", "N02": "abandon because "}, "needs a reason"),
        ({"N01": "accept", "N02": "correct 1 2"}, "not three numbers"),
        ({"N01": "accept", "N02": "correct nan 0 0"}, "not three numbers"),
        ({"N01": "accept", "N02": "correct 0 0 0"}, "0.1 to 15 mm long"),
        ({"N01": "accept", "N02": "correct 20 0 0"}, "0.1 to 15 mm long"),
        ({"N01": "accept", "CT": "again"}, "CT is not asked about"),
        ({"N01": 3, "N02": "accept"}, "can't be said of it now"),
    ],
)
def test_words_that_do_not_count_are_told_why_and_change_nothing(
    values: dict[str, Any], because: str
) -> None:
    known, question = asked(N01=(1.0, 0.3), N02=(1.0, 0.3))
    assert because in (ruling.why_not(question, values) or "")
    answers = Answers()
    answers.ask(question)
    assert because in str(answers.take(1, "ann", None, values))
    problem, commands = ruling.take_in(known, question, OperatorConfirmed(1, "ann", values))
    assert problem is not None
    assert commands == []
    assert not any(story.is_accepted or story.state == "abandoned" for story in known.needles.values())


def test_an_amount_of_ones_own_moves_the_tip_by_that_amount() -> None:
    known, question = asked(N01=(3.0, 0.3), N02=(3.0, 0.3))
    before = {name: story.aim_rig_mm.copy() for name, story in known.needles.items()}  # type: ignore[union-attr]
    words = {"N01": "correct 0 0 2.5", "N02": "correct 1.5 -0.5 2"}
    problem, commands = ruling.take_in(known, question, OperatorConfirmed(1, "ann", words))
    assert problem is None
    deep = {c.needle: c for c in commands if isinstance(c, MoveDepth) and c.in_tissue}
    assert deep["N01"].z_mm == pytest.approx(before["N01"][2] + 2.5, abs=1e-3)
    assert deep["N02"].z_mm == pytest.approx(before["N02"][2] + 2.0, abs=1e-3)
    assert sum(isinstance(c, CloseGrip) for c in commands) == 2
    across = [c for c in commands if type(c).__name__ == "MoveAcross" and c.needle == "N02"]
    assert (across[-1].x_mm, across[-1].y_mm) == pytest.approx(
        before["N02"][:2] + np.array([1.5, -0.5]), abs=1e-3
    )


def test_a_needle_never_goes_deeper_than_the_interlock_would_let_it() -> None:
    known, question = asked(N01=(3.0, 0.3))
    problem, commands = ruling.take_in(
        known, question, OperatorConfirmed(1, "ann", {"N01": "correct 0 0 12"})
    )
    assert "12.0 mm deeper than planned" in str(problem)
    assert commands == []


class Judge(Room):
    """A room whose person rules by ``rule``: the question -> words, or None to say no."""

    def __init__(self, rule: Callable[[AskOperator], Words | None]) -> None:
        super().__init__(PLAN, settings=JUDGED, setup_mm=3.0, own_mm=1.2)
        self._rule = rule
        self.rulings: list[Words] = []

    def play(self, folder: Path) -> None:
        session = self.session(folder)
        opened = {"plan": PLAN.content_hash, "settings": asdict(JUDGED)}
        self.journal.append(0, "opened", opened)
        session.run()
        self.journal.close()

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if command.task != ruling.TASK:
            return super().answer(command)
        words = self._rule(command)
        if words is None:
            return OperatorDeclined(command.number, self.name, "must think"), 1_000_000_000
        self.rulings.append(words)
        return OperatorConfirmed(command.number, self.name, dict(words)), 1_000_000_000


def as_proposed(command: AskOperator) -> Words:
    may = {name: words for name, words in (command.choices or {}).items() if name != ruling.CT}
    return {
        name: "accept"
        if "accept" in words
        else "correct"
        if "correct" in words
        else "abandon because far off"
        for name, words in may.items()
    }


def test_a_person_leads_every_needle_to_its_place(tmp_path: Path) -> None:
    room = Judge(as_proposed)
    room.play(tmp_path)
    assert room.procedure.state == "COMPLETED", room.procedure.known.held_because
    assert any("correct" in words.values() for words in room.rulings)
    assert all(tip is not None for tip in room.tips_at_delivery.values())
    replayed = replay(tmp_path / "journal.sqlite", PLAN)
    assert replayed.procedure.state == "COMPLETED"
    asked_at = [r for r in read_journal(tmp_path / "journal.sqlite") if r.body.get("task") == ruling.TASK]
    assert len(asked_at) == len(room.rulings)


def test_another_ct_and_a_needle_abandoned(tmp_path: Path) -> None:
    seen: list[Words] = []

    def rule(command: AskOperator) -> Words:
        seen.append(words := as_proposed(command))
        if len(seen) == 1:
            return {ruling.CT: ruling.AGAIN}
        if "at_full" not in known_states(room):
            return words
        return {name: "abandon because too near" if name == "N02" else word for name, word in words.items()}

    room = Judge(rule)
    room.play(tmp_path)
    known = room.procedure.known
    assert room.procedure.state == "COMPLETED", known.held_because
    assert [judged.kind for judged in known.judged[:2]] == ["reference", "reference"]
    assert known.needles["N02"].state == "abandoned"
    assert "by test: too near" in known.needles["N02"].abandoned_because
    assert room.template.seeds_dropped == {"N01": 1}


def known_states(room: Room) -> set[str]:
    states = {story.state for story in room.procedure.known.needles.values()}
    return {"at_full"} if "at reference depth" not in states else set()


def test_a_shaft_with_two_names_is_neither_of_them(tmp_path: Path) -> None:
    """Seen in a CT of fourteen needles: N07 and N10 on the one shaft, N07's own left without a name."""
    room = Judge(as_proposed)
    spoilt: list[int] = []

    def one_shaft(command: RequestScan, values: dict[str, Any]) -> None:
        if command.kind == "needles" and not spoilt:
            spoilt.append(command.scan)
            first, second = values["needles"]
            moved = tuple(v + 0.3 for v in first.tip_mm)
            values["needles"] = (first, replace(second, tip_mm=moved))

    room.change_findings = one_shaft
    room.play(tmp_path)
    assert room.procedure.state == "COMPLETED", room.procedure.known.held_because
    rounds = {judged.scan: dict(judged.deviations) for judged in room.procedure.known.judged}
    assert rounds[spoilt[0]] == {}
    assert len(rounds[spoilt[0] + 1]) == 2


def test_no_word_holds_and_the_question_comes_again(tmp_path: Path) -> None:
    room = Judge(lambda _command: None)
    room.play(tmp_path)
    assert room.procedure.state == "HELD"
    assert "must think" in room.procedure.known.held_because
    interrupted = replay(tmp_path / "journal.sqlite", PLAN).procedure.interrupted
    assert isinstance(interrupted, AskOperator)
    assert interrupted.task == ruling.TASK
