"""A person rules about each needle after a CT: what may be said, what follows, and what no word can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import protocol, ruling
from controller.answers import Answers
from controller.commands import AskOperator, CloseGrip, DropSeed, MoveDepth, RequestScan
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.guidance import Landing, estimate_rig
from controller.interlocks import DeviceFacts, judge, needle_is_verified
from controller.journal import read_journal
from controller.judging import why_held
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


@pytest.mark.parametrize(("shallow_mm", "short_mm"), [(9.0, 0.0), (10.4, 0.4), (12.5, 2.5)])
def test_a_proposal_goes_as_deep_as_is_allowed_and_none_is_made_that_can_not_help(
    shallow_mm: float, short_mm: float
) -> None:
    known, question = at_depth(-shallow_mm)
    may = (question.choices or {})["N01"]
    assert ("correct" in may) is (short_mm < 2.0)
    assert "own" in may
    assert (f"N01 {short_mm:.1f} mm" in question.text) is (short_mm > 0.0)
    problem, commands = ruling.take_in(known, question, OperatorConfirmed(1, "ann", {"N01": "correct"}))
    if short_mm >= 2.0:
        assert "can be: correct X Y Z, abandon" in str(problem)
        return
    proposal = (question.proposals_mm or {})["N01"]
    assert proposal[2] == pytest.approx(min(shallow_mm, 10.0), abs=0.051)
    known.gripped, known.across_for, known.rig_homed = "N01", "N01", True
    known.confirmed_hash = known.plan_hash
    facts = DeviceFacts(rig_is_live=True, rig_knows_position=True)
    deep = [command for command in commands if isinstance(command, MoveDepth) and command.in_tissue]
    assert deep
    assert all(judge(command, known, facts) is None for command in deep)


def test_without_a_judge_a_needle_that_can_not_be_brought_deep_enough_holds_before_it_is_moved() -> None:
    known, _ = at_depth(-12.5)
    known.needles["N01"].off_target = True
    assert protocol.attempts_remain(known)
    for state in ("AWAITING_REFERENCE_SCAN", "AWAITING_NEEDLE_SCAN"):
        known.rig = estimate_rig(known.plan.planned_patient_from_rig(), known.needles["N01"].landings)
        known.settings = ProcedureSettings()
        assert protocol.expected_destination(state, "scan_judged", known) == "HELD"
    assert "too shallow even if corrected as deep as is allowed" in why_held(known, "")
    assert "N01 2.5 mm" in why_held(known, "")


def at_depth(deep_mm: float) -> tuple[Knowledge, AskOperator]:
    """N01 stands where the rig put it, but so much deeper than its target (negative: shallower)."""
    known, _ = asked(N01=(0.0, 0.3))
    story = known.needles["N01"]
    tip = np.asarray(story.plan.tip_mm) + deep_mm * np.asarray(story.plan.direction)
    story.deviation = deviation(story.plan.tip_mm, story.plan.direction, tip, story.plan.direction, 0.3)
    assert story.aim_rig_mm is not None
    story.landings = [Landing(story.aim_rig_mm, tip, np.asarray(story.plan.direction))]
    return known, replace(ruling.question(known), number=1)


THICK = replace(JUDGED, slices_mm=(1.25, 5.0))


@pytest.mark.parametrize(
    ("settings", "sigma_mm", "seen_mm", "cts"),
    [
        (JUDGED, 2.0, 5.0, ["again"]),
        (THICK, 2.0, 5.0, ["again 1.25", "again", "again 5"]),
        (THICK, 0.3, 5.0, ["again", "again 1.25", "again 5"]),
        (THICK, 2.0, 1.25, ["again", "again 1.25", "again 5"]),
    ],
    ids=["no choice", "too thick to tell", "thick, and told all the same", "nothing thinner"],
)
def test_thinner_slices_are_proposed_where_a_needle_can_not_be_told(
    settings: ProcedureSettings, sigma_mm: float, seen_mm: float, cts: list[str]
) -> None:
    known, _ = asked(N01=(1.0, sigma_mm))
    known.settings, known.slice_seen_mm = settings, seen_mm
    question = ruling.question(known)
    assert (question.choices or {})["CT"] == cts
    assert ("Slices of 5 mm can't decide 2 mm" in question.text) is (cts[0] != "again")


def test_slices_that_are_not_to_be_had_are_no_answer() -> None:
    known, _ = asked(N01=(1.0, 2.0))
    known.settings, known.slice_seen_mm = THICK, 5.0
    question = replace(ruling.question(known), number=1)
    problem, _ = ruling.take_in(known, question, OperatorConfirmed(1, "ann", {"CT": "again 0.6"}))
    assert problem == "another CT can't be had as 'again 0.6'; can be: again 1.25, again, again 5"
    assert not known.scan_wished


def test_slices_once_asked_for_are_kept_until_others_are(tmp_path: Path) -> None:
    asked_for: list[float | None] = []
    words = iter([{"CT": "again 1.25"}, {"CT": "again"}, {"CT": "again 5"}])
    room = Judge(lambda command: next(words, None) or as_proposed(command), THICK)

    def note(command: RequestScan, _values: dict[str, Any]) -> None:
        asked_for.append(command.slice_mm)

    room.change_findings = note
    room.play(tmp_path)
    assert room.procedure.state == "COMPLETED", room.procedure.known.held_because
    assert asked_for[:4] == [None, 1.25, 1.25, 5.0]
    assert set(asked_for[3:]) == {5.0}
    assert replay(tmp_path / "journal.sqlite", PLAN).procedure.state == "COMPLETED"


class Judge(Room):
    """A room whose person rules by ``rule``: the question -> words, or None to say no."""

    def __init__(
        self, rule: Callable[[AskOperator], Words | None], settings: ProcedureSettings = JUDGED
    ) -> None:
        super().__init__(PLAN, settings=settings, setup_mm=3.0, own_mm=1.2)
        self._judged_by = settings
        self._rule = rule
        self.rulings: list[Words] = []

    def play(self, folder: Path) -> None:
        session = self.session(folder)
        opened = {"plan": PLAN.content_hash, "settings": asdict(self._judged_by)}
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
