"""HELD is no end: what held the procedure is mended, a person takes it back, and it delivers what was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller import protocol
from controller.advice import what_to_do
from controller.commands import AskOperator, RequestScan
from controller.events import (
    CommandDone,
    DeviceFaulted,
    OperatorConfirmed,
    OperatorDecided,
    OperatorDeclined,
    ProcedureResumed,
    ProcedureStarted,
    ScanAnalysed,
    ScanUnusable,
    StopPressed,
)
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.replay import replay
from controller.worker import HeavyWorkLost
from tests.held_room import begin, go_on, records
from tests.killed_room import KilledRoom
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 2)


class Declining(KilledRoom):
    """Says no, once, to ``task``."""

    declines: str | None = None

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if command.task == self.declines:
            self.declines = None
            return OperatorDeclined(command.number, self.name, "not yet"), 1_000_000_000
        return super().answer(command)


def room(**others: Any) -> Declining:
    return Declining(PLAN, **{"setup_mm": 0.2, "own_mm": 0.2, "seed": 1, **others})


def as_planned(here: KilledRoom, procedure: Procedure) -> None:
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert here.template.seeds_dropped == {needle.name: len(needle.seeds) for needle in PLAN.needles}
    assert here.hands_on.seeds_spilled == 0


@pytest.mark.parametrize(
    ("task", "state"),
    [
        ("confirm_time_out", "AWAITING_TIME_OUT"),
        ("load_needle", "INSERTING_REFERENCE_NEEDLES"),
        ("couple_applicator", "DELIVERING_SEEDS"),
        ("seat_cartridge", "DELIVERING_SEEDS"),
        ("uncouple_applicator", "DELIVERING_SEEDS"),
        ("remove_cartridge", "DELIVERING_SEEDS"),
    ],
)
def test_what_was_declined_is_asked_again_and_all_ends_as_planned(
    tmp_path: Path, task: str, state: str
) -> None:
    here = room()
    here.declines = task
    held = begin(here, tmp_path)
    assert held.state == "HELD"
    assert held.is_over
    assert not held.is_ended
    assert held.working_state == state
    assert isinstance(held.interrupted, AskOperator)
    assert held.interrupted.task == task
    procedure, verdict = go_on(here, tmp_path)
    assert "not yet" in verdict.text
    as_planned(here, procedure)
    told = [r.body for r in records(tmp_path) if r.body.get("event") == "ProcedureResumed"]
    assert [body["who"] for body in told] == ["test"]
    moved = [r.body for r in records(tmp_path) if r.body.get("from") == "HELD"]
    assert [body["to"] for body in moved] == [state]
    assert replay(tmp_path / "journal.sqlite", PLAN).procedure.state == "COMPLETED"


def test_a_pressed_e_stop_is_released_and_the_latch_cleared(tmp_path: Path) -> None:
    here = room()

    def press(command: AskOperator) -> None:
        if command.task == "couple_applicator" and command.needle == "N02":
            here.hands_on.set_estop(True, here.applicator._now_ns)
            here.before_answer = lambda _command: None

    here.before_answer = press
    assert begin(here, tmp_path).state == "HELD"
    still, verdict = go_on(here, tmp_path)
    assert still.state == "HELD"
    assert "release it" in verdict.text
    here.hands_on.set_estop(False, here.applicator._now_ns)
    procedure, _ = go_on(here, tmp_path)
    as_planned(here, procedure)
    assert "ClearLatch" in {r.body.get("command") for r in records(tmp_path)}


@pytest.mark.parametrize("kind", ["reference", "needles"])
def test_held_for_want_of_a_needle_in_the_ct_another_ct_comes_first(tmp_path: Path, kind: str) -> None:
    here = room()

    def hide(command: RequestScan, values: dict[str, Any]) -> None:
        if command.kind == kind:
            values["needles"] = values["needles"][1:]

    here.change_findings = hide
    held = begin(here, tmp_path)
    assert held.state == "HELD"
    assert isinstance(held.interrupted, RequestScan)
    assert held.interrupted.scan == held.known.scans + 1
    here.change_findings = lambda _command, _values: None
    procedure, _ = go_on(here, tmp_path)
    as_planned(here, procedure)


def test_attempts_used_up_more_are_granted_by_a_person(tmp_path: Path) -> None:
    here = room(own_mm=3.0, repeats=0.9, seed=4, settings=ProcedureSettings(max_attempts=1))
    held = begin(here, tmp_path)
    assert held.state == "HELD"
    spent = [story.plan.name for story in held.known.off_target]
    again, _ = go_on(here, tmp_path)
    assert again.state == "HELD", "nothing was granted: another CT, and held again"
    assert "after 1 attempts" in again.known.held_because
    procedure = again
    for _ in range(6):
        if procedure.state != "HELD":
            break
        spent = [story.plan.name for story in procedure.known.off_target]
        granted = [OperatorDecided("grant_attempts", "Dr A", "tissue gives", name, 2) for name in spent]
        procedure, _ = go_on(here, tmp_path, granted)
    as_planned(here, procedure)
    replayed = replay(tmp_path / "journal.sqlite", PLAN).procedure
    assert any(story.attempts_granted for story in replayed.known.needles.values())


def test_what_devices_say_while_it_is_held_changes_nothing() -> None:
    procedure = Procedure(PLAN, ProcedureSettings())
    (asked,) = procedure.handle(ProcedureStarted("nurse"))
    procedure.handle(DeviceFaulted("rig", "alarm"))
    assert procedure.state == "HELD"
    before = vars(procedure.known).copy()
    for late in (CommandDone(asked.number, {}), DeviceFaulted("rig", "again"), ProcedureStarted("nurse")):
        assert procedure.handle(late) == ()
    assert vars(procedure.known) == before
    assert procedure.interrupted == asked
    procedure.handle(StopPressed("nurse"))
    assert procedure.is_ended
    assert procedure.handle(ProcedureResumed("x", False, None, "NONE", False)) == ()
    assert procedure.state == "STOPPED"


def test_a_decision_that_fits_nothing_is_told_and_changes_nothing() -> None:
    procedure = Procedure(PLAN, ProcedureSettings())
    procedure.handle(ProcedureStarted("nurse"))
    procedure.handle(OperatorDecided("grant_attempts", "x", "", "N01", 2))
    assert procedure.known.needles["N01"].attempts_granted == 0
    procedure.handle(DeviceFaulted("rig", "alarm"))
    for wrong in (("grant_attempts", "N99", 2), ("grant_attempts", "N01", 0), ("invented", None, 0)):
        procedure.handle(OperatorDecided(wrong[0], "x", "", wrong[1], wrong[2]))
        assert "can't be decided" in procedure.known.message
    procedure.handle(OperatorDecided("grant_attempts", "x", "", "N01", 2))
    assert procedure.known.needles["N01"].attempts_granted == 2


@pytest.mark.parametrize("state", protocol.WORKING)
def test_held_leads_back_to_where_it_was_held_and_nowhere_else(state: str) -> None:
    procedure = Procedure(PLAN, ProcedureSettings())
    procedure.known.held_in = state
    assert protocol.expected_destination("HELD", "procedure_resumed", procedure.known) == state


class Losing(KilledRoom):
    """The process that analyses the first CT of ``kind`` is lost."""

    loses: str | None = None

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        if command.kind == self.loses:
            self.loses = None
            raise HeavyWorkLost(
                "the analysis of the CT in 0002 has no result: its process was killed (SIGKILL)"
            )
        return super().scan(command, procedure)


@pytest.mark.parametrize("kind", ["reference", "needles", "seeds"])
def test_an_analysis_that_is_lost_holds_and_its_ct_is_asked_for_again(tmp_path: Path, kind: str) -> None:
    here = Losing(PLAN, setup_mm=0.2, own_mm=0.2, seed=1)
    here.loses = kind
    held = begin(here, tmp_path)
    assert held.state == "HELD"
    assert "SIGKILL" in held.known.held_because
    assert "give the same CT series once more" in what_to_do(held.known.held_because)
    assert held.known.scan_is_usable  # nothing is said against the CT
    asked = [r for r in records(tmp_path) if r.body.get("command") == "RequestScan" and r.kind == "intention"]
    lost = [r.body for r in records(tmp_path) if r.body.get("event") == "WorkLost"]
    assert [body["number"] for body in lost] == [asked[-1].body["number"]]
    assert asked[-1].body["kind"] == kind
    procedure, _ = go_on(here, tmp_path)
    as_planned(here, procedure)
    again = [r for r in records(tmp_path) if r.body.get("command") == "RequestScan" and r.kind == "intention"]
    assert again[len(asked)].body["kind"] == kind
