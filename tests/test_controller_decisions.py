"""What people decide beside confirming: pause, abandon, say where a seed is, another cartridge, another CT, abort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.commands import AskOperator, RequestScan
from controller.decisions import KINDS, decision_of
from controller.events import (
    CommandDone,
    CommandFailed,
    OperatorConfirmed,
    OperatorDecided,
    OperatorDeclined,
    ProcedureStarted,
)
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.replay import replay
from controller.session import Session
from tests.held_room import begin, go_on, records
from tests.killed_room import KilledRoom
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 3)
NAMES = [needle.name for needle in PLAN.needles]


class People(KilledRoom):
    """Decline once where told to; free a jam when asked to look."""

    declines: tuple[str, str | None] | None = None

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        if self.declines is not None and (command.task, command.needle) == self.declines:
            self.declines = None
            return OperatorDeclined(command.number, self.name, "not yet"), 1_000_000_000
        return super().answer(command)


def room() -> People:
    return People(PLAN, setup_mm=0.2, own_mm=0.2, seed=1)


def decided(kind: str, **others: Any) -> OperatorDecided:
    return OperatorDecided(kind, "Dr A", "seen by two", **others)


def counted(procedure: Procedure, here: People) -> None:
    """The controller's count, the applicator's book and what the tissue holds are one."""
    memory = here.applicator.board.memory.now
    assert not memory.is_open
    assert memory.in_doubt == 0
    assert memory.loaded == memory.implanted + memory.left + memory.wasted
    known = procedure.known
    assert (memory.implanted, memory.wasted, memory.counter) == (known.implanted, known.wasted, known.strokes)
    assert here.hands_on.seeds_spilled == 0


def jammed(here: People, folder: Path, fault: str = "jam_next") -> Procedure:
    """Held by a bad stroke in the second seed of the first needle."""
    fired = here.hands_on.start_stroke
    strokes = [0]

    def start_stroke(now_ns: int) -> None:
        strokes[0] += 1
        if strokes[0] == 2:
            getattr(here.hands_on, fault)()
        fired(now_ns)

    here.hands_on.start_stroke = start_stroke  # type: ignore[method-assign]
    procedure = begin(here, folder)
    assert procedure.state == "HELD"
    assert procedure.known.doubt is not None
    return procedure


def test_a_seed_in_doubt_must_be_found_before_anything_goes_on(tmp_path: Path) -> None:
    here = room()
    jammed(here, tmp_path)
    still, verdict = go_on(here, tmp_path)
    assert still.state == "HELD"
    assert "count the seeds" in verdict.text
    still, verdict = go_on(here, tmp_path, [decided("abandon_needle", needle=NAMES[0])])
    assert still.state == "HELD"
    assert still.known.needles[NAMES[0]].state == "in place"


def test_a_jammed_seed_that_is_back_in_the_cartridge_is_dropped_again(tmp_path: Path) -> None:
    here = room()
    jammed(here, tmp_path)
    assert here.hands_on.clear_path() == 1
    here.hands_on.miscount_cartridge(1)  # the person has put it back
    procedure, _ = go_on(here, tmp_path, [decided("seed_is", where="cartridge")])
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert here.template.seeds_dropped == {needle.name: len(needle.seeds) for needle in PLAN.needles}
    assert procedure.known.strokes == len(PLAN.seeds) + 1
    counted(procedure, here)
    assert replay(tmp_path / "journal.sqlite", PLAN).procedure.state == "COMPLETED"


def test_a_seed_that_fell_though_the_sensor_was_blind_is_booked_as_implanted(tmp_path: Path) -> None:
    here = room()
    fired = here.hands_on.start_stroke
    here.hands_on.start_stroke = lambda now_ns: (  # type: ignore[method-assign]
        setattr(here.hands_on, "is_sensor_stuck", here.applicator.board.memory.now.counter == 2),
        fired(now_ns),
    )[0]
    held = begin(here, tmp_path)
    assert held.known.doubt is not None
    procedure, _ = go_on(here, tmp_path, [decided("seed_is", where="patient")])
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert here.template.seeds_dropped == {needle.name: len(needle.seeds) for needle in PLAN.needles}
    assert procedure.known.seeds_delivered == [seed.number for seed in PLAN.seeds]
    counted(procedure, here)


def test_a_seed_left_in_the_needle_comes_out_with_it_and_is_wasted(tmp_path: Path) -> None:
    here = room()
    jammed(here, tmp_path)
    assert here.hands_on.clear_path() == 1
    procedure, _ = go_on(here, tmp_path, [decided("seed_is", where="needle")])
    assert procedure.state == "COMPLETED", procedure.known.held_because
    story = procedure.known.needles[NAMES[0]]
    assert story.state == "abandoned"
    assert here.template.seeds_dropped == {NAMES[0]: 1, NAMES[1]: 3}
    assert procedure.known.wasted == 1
    counted(procedure, here)


@pytest.mark.parametrize(
    ("declines", "dropped"),
    [
        (("load_needle", NAMES[0]), {NAMES[1]: 3}),
        (("load_needle", NAMES[1]), {NAMES[0]: 3}),
        (("couple_applicator", NAMES[0]), {NAMES[1]: 3}),
        (("couple_applicator", NAMES[1]), {NAMES[0]: 3}),
    ],
)
def test_an_abandoned_needle_gets_no_seed_and_the_others_theirs(
    tmp_path: Path, declines: tuple[str, str], dropped: dict[str, int]
) -> None:
    here = room()
    here.declines = declines
    assert begin(here, tmp_path).state == "HELD"
    procedure, _ = go_on(here, tmp_path, [decided("abandon_needle", needle=declines[1])])
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert here.template.seeds_dropped == dropped
    assert procedure.known.needles[declines[1]].abandoned_because == "by Dr A: seen by two"
    assert procedure.known.in_body == []
    meant = [r.body for r in records(tmp_path) if r.body.get("command") == "DropSeed"]
    assert [body["stroke"] for body in meant] == [1, 2, 3]
    counted(procedure, here)
    again = replay(tmp_path / "journal.sqlite", PLAN).procedure
    assert again.known.seeds_delivered == procedure.known.seeds_delivered


def test_a_needle_that_no_ct_shows_is_abandoned_and_the_rest_goes_on(tmp_path: Path) -> None:
    here = room()

    def hide(command: RequestScan, values: dict[str, Any]) -> None:
        if command.kind == "needles":
            values["needles"] = tuple(n for n in values["needles"] if n.name != NAMES[1])

    here.change_findings = hide
    assert begin(here, tmp_path).state == "HELD"
    procedure, _ = go_on(here, tmp_path, [decided("abandon_needle", needle=NAMES[1])])
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert here.template.seeds_dropped == {NAMES[0]: 3}
    assert NAMES[1] not in here.template
    counted(procedure, here)


def test_another_cartridge_in_the_middle_of_a_needle(tmp_path: Path) -> None:
    here = room()
    jammed(here, tmp_path)
    here.hands_on.clear_path()
    here.hands_on.miscount_cartridge(1)
    both = [decided("seed_is", where="cartridge"), decided("change_cartridge")]
    procedure, _ = go_on(here, tmp_path, both)
    assert procedure.state == "COMPLETED", procedure.known.held_because
    declared = [r.body for r in records(tmp_path) if r.body.get("command") == "DeclareCartridge"]
    assert [(body["cartridge"], body["count"], body["returned"]) for body in declared] == [
        (1, 6, 0),
        (2, 5, 5),
    ]
    counted(procedure, here)


def test_an_extra_seed_in_the_ct_is_held_until_people_account_for_it(tmp_path: Path) -> None:
    here = room()

    def one_more(command: RequestScan, values: dict[str, Any]) -> None:
        if command.kind == "seeds":
            values["seeds"] = (*values["seeds"], values["seeds"][0])

    here.change_findings = one_more
    held = begin(here, tmp_path)
    assert held.state == "HELD"
    assert "shows 7 seeds, 6 were counted" in held.known.held_because
    still, _ = go_on(here, tmp_path)
    assert still.state == "HELD"
    procedure, _ = go_on(here, tmp_path, [decided("accept_seed_count", count=7)])
    assert procedure.state == "COMPLETED"


@pytest.mark.parametrize(
    "declines",
    [
        ("confirm_time_out", None),
        ("load_needle", NAMES[1]),
        ("couple_applicator", NAMES[1]),
        ("uncouple_applicator", NAMES[0]),
        ("seat_cartridge", None),
    ],
)
def test_an_abortion_ends_with_needles_out_and_every_seed_counted(
    tmp_path: Path, declines: tuple[str, str | None]
) -> None:
    here = room()
    here.declines = declines
    assert begin(here, tmp_path).state == "HELD"
    replayed = replay(tmp_path / "journal.sqlite", PLAN).procedure
    procedure = aborted(here, tmp_path)
    assert procedure.state == "ABORTED"
    assert "seen by two" in procedure.known.held_because
    assert procedure.known.in_body == []
    assert all(name not in here.template for name in NAMES)
    assert here.hands_on.cartridge is None
    if replayed.known.ledger_begun:
        counted(procedure, here)
    assert replay(tmp_path / "journal.sqlite", PLAN).procedure.state == "ABORTED"


def test_aborted_after_a_jam_the_seed_is_told_and_the_count_closes(tmp_path: Path) -> None:
    here = room()
    jammed(here, tmp_path)
    here.hands_on.clear_path()
    procedure = aborted(here, tmp_path, decided("seed_is", where="needle"))
    assert procedure.state == "ABORTED", procedure.known.held_because
    assert procedure.known.in_body == []
    assert procedure.known.wasted == 1
    counted(procedure, here)


def test_aborted_by_hand_when_the_applicator_does_not_answer_any_more(tmp_path: Path) -> None:
    """The stylet can't be drawn home by an applicator that is latched about a seed nobody has found."""
    here = room()
    jammed(here, tmp_path)
    procedure = aborted(here, tmp_path)
    assert procedure.state == "HELD"
    assert procedure.known.held_in == "ABORTING"
    asked = procedure.handle(decided("abort"))
    while asked:
        assert isinstance(asked[0], AskOperator)
        asked = procedure.handle(OperatorConfirmed(asked[0].number, "Dr A"))
    assert procedure.state == "ABORTED"
    assert procedure.known.in_body == []
    assert procedure.known.doubt is not None


def aborted(here: People, folder: Path, *before: OperatorDecided) -> Procedure:
    """Devices connected again, then given up."""
    from controller.journal import Journal
    from controller.recovery import look
    from tests.killed_room import Killing

    replayed = replay(folder / "journal.sqlite", PLAN)
    journal = Journal.continued(folder / "journal.sqlite")
    now_ns: int = here.now_ns + 60_000_000_000  # type: ignore[attr-defined]
    session, wires, rig, applicator = here.killed_session(replayed.procedure, journal, Killing(None), now_ns)  # type: ignore[arg-type]
    look(rig, applicator, wires, replayed.procedure)
    session.run([*before, decided("abort")])
    journal.close()
    return replayed.procedure


@pytest.mark.parametrize("task", ["confirm_time_out", "load_needle", "couple_applicator", "seat_cartridge"])
def test_a_pause_rests_at_a_safe_point_and_ends_where_it_was(tmp_path: Path, task: str) -> None:
    here = room()
    procedure = Procedure(PLAN, ProcedureSettings())
    from controller.journal import Journal
    from tests.killed_room import Killing

    journal = Journal(tmp_path / "journal.sqlite")
    journal.append(0, "opened", {"plan": PLAN.content_hash, "settings": vars(ProcedureSettings())})
    session: Session
    session, *_ = here.killed_session(procedure, journal, Killing(None), 0)  # type: ignore[arg-type]
    seen: list[str] = []

    def pause(command: AskOperator) -> None:
        if command.task == task and not seen:
            seen.append("asked")
            session._inbox.append(decided("pause"))

    here.before_answer = pause
    listened = session._listener

    def end(snapshot: Any) -> None:
        listened(snapshot)
        if snapshot.state == "PAUSED" and seen == ["asked"]:
            assert procedure.known.gripped is None
            seen.append("paused")
            session._inbox.append(decided("end_pause"))

    session._listener = end
    session.run()
    journal.close()
    assert seen == ["asked", "paused"]
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert here.template.seeds_dropped == {needle.name: len(needle.seeds) for needle in PLAN.needles}
    assert replay(tmp_path / "journal.sqlite", PLAN).procedure.state == "COMPLETED"


def test_another_ct_at_a_persons_wish(tmp_path: Path) -> None:
    here = room()
    wished = []

    def wish(command: RequestScan, _values: dict[str, Any]) -> None:
        if command.kind == "needles" and not wished:
            wished.append(command.scan)
            session._inbox.append(decided("repeat_scan"))

    here.change_findings = wish
    session = here.session(tmp_path)
    session.run()
    here.journal.close()
    assert here.procedure.state == "COMPLETED"
    assert here.procedure.known.scans == 4


def test_a_decision_out_of_place_changes_nothing() -> None:
    procedure = Procedure(PLAN, ProcedureSettings())
    for kind in KINDS:
        assert procedure.handle(decided(kind, needle="N01", count=1, where="patient")) == ()
        assert procedure.state == "READY"
        assert "can't be decided here" in procedure.known.message
    (asked,) = procedure.handle(ProcedureStarted("x"))
    procedure.handle(decided("pause"))
    assert procedure.pending == asked
    procedure.handle(CommandDone(asked.number, {}))
    assert procedure.state == "PAUSED"
    assert procedure.pending is None
    shown = procedure.snapshot(0)
    assert (shown.rests_in, shown.may_decide) == ("CHECKING_DEVICES", ("end_pause", "abort"))
    (after,) = procedure.handle(decided("end_pause"))
    assert procedure.state == "CHECKING_DEVICES"
    procedure.handle(CommandFailed(after.number, "stuck"))
    assert procedure.state == "HELD"
    procedure.handle(OperatorDecided("abort", "x", ""))
    assert procedure.state == "HELD", "an abortion has a reason"


@pytest.mark.parametrize(
    ("line", "decided"),
    [
        ("seed_is patient because seen in the CT", ("seed_is", "seen in the CT", None, 0, "patient")),
        ("grant_attempts N03 2", ("grant_attempts", "", "N03", 2, "")),
        ("  abort because the patient is unwell ", ("abort", "the patient is unwell", None, 0, "")),
        ("accept_seed_count 61", ("accept_seed_count", "", None, 61, "")),
        ("rig_by_hand because its motor is dead", ("rig_by_hand", "its motor is dead", None, 0, "")),
    ],
)
def test_a_decision_can_be_typed(line: str, decided: tuple[object, ...]) -> None:
    event = decision_of(line, "Ann")
    assert isinstance(event, OperatorDecided)
    assert (event.kind, event.reason, event.needle, event.count, event.where) == decided


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "is no decision"),
        ("go", "is no decision"),
        ("abort", "needs a reason"),
        ("seed_is", "where the seed is"),
    ],
)
def test_what_is_no_decision_is_told(line: str, told: str) -> None:
    assert told in str(decision_of(line, "Ann"))
