"""A killed controller: what the journal and the devices tell is certain, and the procedure goes on or is held."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from controller.commands import AskOperator
from controller.events import OperatorDecided, ProcedureResumed
from controller.journal import Journal, Record, read_journal, verify
from controller.knowledge import ProcedureSettings
from controller.recovery import DeviceReport, compare
from controller.replay import Replayed, replay, replay_records
from drivers.applicator_language import ApplicatorState, Ledger
from drivers.rig_language import RigState
from planning.refusal import AskedWrongly
from tests.audit import audit
from tests.compact_case import compact_room
from tests.held_room import go_on
from tests.killed_room import Killed, KilledRoom, Killing, Outcome, amiss, play
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 2)


def room() -> KilledRoom:
    return KilledRoom(PLAN, setup_mm=3.0, own_mm=1.2, seed=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("undisturbed")
    here = room()
    outcome = play(here, folder, [])
    assert amiss(here, outcome) == []
    return list(read_journal(folder / "journal.sqlite"))


def points(folder: Path) -> list[str]:
    """Every point at which the controller can die, in order."""
    folder.mkdir()
    seen: list[str] = []

    class Watching(Killing):
        def point(self, where: str) -> None:
            seen.append(where)

    here = room()
    import tests.killed_room as harness

    kept, harness.Killing = harness.Killing, Watching  # type: ignore[misc]
    try:
        play(here, folder, [])
    finally:
        harness.Killing = kept  # type: ignore[misc]
    return seen


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return points(tmp_path_factory.mktemp("points") / "a")


def killed_at(
    folder: Path, where: list[str], text: str, here: KilledRoom | None = None, nth: int = 0
) -> tuple[KilledRoom, Outcome]:
    """Killed at the ``nth`` point whose description holds ``text``."""
    at = [number for number, told in enumerate(where, start=1) if text in told][nth]
    here = here or room()
    return here, play(here, folder, [at])


# --- the replay ---------------------------------------------------------------------------------------


def test_every_beginning_of_a_journal_replays_to_the_same_commands(undisturbed: list[Record]) -> None:
    whole = replay_records(undisturbed, PLAN, "j")
    assert whole.is_ended
    assert whole.procedure.state == "COMPLETED"
    assert whole.procedure.known.seeds_delivered == [seed.number for seed in PLAN.seeds]
    for cut in range(1, len(undisturbed), 9):
        part = replay_records(undisturbed[:cut], PLAN, "j")
        last = undisturbed[cut - 1]
        assert part.was_intended == (last.kind == "intention")
        if last.kind == "intention":
            assert part.procedure.pending is not None
            assert part.procedure.pending.number == last.body["number"]


def test_a_journal_that_todays_code_would_not_write_is_refused_by_record(undisturbed: list[Record]) -> None:
    at = next(i for i, r in enumerate(undisturbed) if r.body.get("command") == "MoveAcross")
    changed = list(undisturbed)
    changed[at] = replace(changed[at], body={**changed[at].body, "x_mm": 1.0})
    with pytest.raises(AskedWrongly, match=f"record {at + 1} is not what today's code does"):
        replay_records(changed, PLAN, "j")
    without = [*undisturbed[:at], *undisturbed[at + 1 :]]
    with pytest.raises(AskedWrongly, match=f"record {undisturbed[at + 1].number} is not"):
        replay_records(without, PLAN, "j")
    with pytest.raises(AskedWrongly, match="is of plan"):
        replay_records(undisturbed, made_plan(2, 1, 3), "j")
    with pytest.raises(AskedWrongly, match="tells no event that is known"):
        replay_records([*undisturbed[:1], replace(undisturbed[1], body={"event": "Invented"})], PLAN, "j")


def test_a_touched_journal_is_neither_replayed_nor_continued(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    play(room(), tmp_path, [])
    db = sqlite3.connect(path)
    db.executescript("DROP TRIGGER no_delete; DELETE FROM record WHERE number = 9")
    db.close()
    with pytest.raises(AskedWrongly, match="record 9 is missing"):
        replay(path, PLAN)
    with pytest.raises(AskedWrongly, match="record 9 is missing"):
        Journal.continued(path)


def test_a_journal_without_a_record_says_that_nothing_had_begun(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.sqlite").close()
    with pytest.raises(AskedWrongly, match="ended before anything began"):
        replay(tmp_path / "journal.sqlite", PLAN)


# --- killed around a seed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point", ["after the commit of intention DropSeed", "0 sent ARM", "ARM", "0 sent FIRE"]
)
def test_a_seed_that_was_not_fired_is_armed_again(tmp_path: Path, where: list[str], point: str) -> None:
    name = point.removeprefix("0 sent ")
    if point.startswith("0 sent"):
        point = next(text for text in where if text.startswith("0 of b'>") and f":{name} n=2" in text)
    elif point == "ARM":
        point = next(text for text in where if text.startswith("b'<") and ":ARM n=2" in text)
    here, outcome = killed_at(tmp_path, where, point)
    assert amiss(here, outcome) == []
    assert "was not fired" in outcome.verdicts[0].text


@pytest.mark.parametrize("point", ["FIRE n=2 dup=0", "SHOT n=2", "before event SeedDropped"])
def test_a_seed_that_was_fired_is_adopted_and_not_pushed_twice(
    tmp_path: Path, where: list[str], point: str
) -> None:
    here, outcome = killed_at(tmp_path, where, point)
    assert amiss(here, outcome) == []
    assert "its outcome is taken over" in outcome.verdicts[0].text
    dropped = [
        r.body for r in read_journal(tmp_path / "journal.sqlite") if r.body.get("event") == "SeedDropped"
    ]
    assert [body["seed"] for body in dropped] == [seed.number for seed in PLAN.seeds]
    assert [body["duplicate"] for body in dropped].count(True) == 1
    assert verify(tmp_path / "journal.sqlite") is None


@pytest.mark.parametrize(
    ("fault", "told", "found"), [("jam_next", "NOPASS", "needle"), ("take_two_next", "DOUBLE", "patient")]
)
def test_a_seed_in_doubt_is_held_with_what_a_person_must_check(
    tmp_path: Path, where: list[str], fault: str, told: str, found: str
) -> None:
    here = room()

    def break_it(command: AskOperator) -> None:
        if command.task == "couple_applicator":
            getattr(here.hands_on, fault)()

    here.before_answer = break_it
    at = next(number for number, text in enumerate(where, start=1) if "FIRE n=1 dup=0" in text)
    outcome = play(here, tmp_path, [at])
    assert outcome.state == "HELD"
    assert told in outcome.reason
    assert "count the seeds" in outcome.reason
    said = outcome.verdicts[0].text
    assert told in said
    assert "Count the seeds in the cartridge" in said
    assert "look at a CT" in said
    assert here.applicator.board.memory.now.counter == 1
    here.before_answer = lambda _command: None
    procedure, verdict = go_on(here, tmp_path)
    assert verdict.resumed is None, "nobody has said where the seed is"
    if found == "needle":
        here.hands_on.clear_path()
    procedure, _ = go_on(here, tmp_path, [OperatorDecided("seed_is", "test", "found", where=found)])
    assert procedure.state == ("COMPLETED" if found == "needle" else "HELD"), procedure.known.held_because
    assert procedure.known.doubt is None
    assert procedure.known.implanted == sum(here.template.seeds_dropped.values())
    assert procedure.known.wasted == (found == "needle")


def test_a_stroke_that_was_stopped_half_way_is_held(tmp_path: Path, where: list[str]) -> None:
    here = room()
    at = next(number for number, text in enumerate(where, start=1) if "FIRE n=1 dup=0" in text)
    kept = here.applicator.take

    def stop_after_fire() -> bytes:
        data = kept()
        if b"FIRE n=1 dup=0" in data:
            here.applicator.board.stop("HOST", "STOP")
        return data

    here.applicator.take = stop_after_fire  # type: ignore[method-assign]
    outcome = play(here, tmp_path, [at])
    assert outcome.state == "HELD"
    assert "UNKNOWN" in outcome.reason
    assert here.template.seeds_dropped == {}


def test_a_counter_that_is_ahead_of_the_journal_is_held(tmp_path: Path, where: list[str]) -> None:
    here = room()
    at = next(
        number for number, text in enumerate(where, start=1) if "before intention RetractNeedle" in text
    )
    outcome = play_with(here, tmp_path, at, lambda: here.applicator.board.memory.intend(1, 4500))
    assert outcome.state == "NOT RESUMED"
    assert "intended 1 seeds, the journal knows of 0" in outcome.reason


def play_with(here: KilledRoom, folder: Path, at: int, meanwhile: object) -> Outcome:
    """Killed at ``at``; something happens before the next start."""
    import tests.killed_room as harness

    kept = harness.KilledWires.live_on

    def live_on(wires: harness.KilledWires, for_ns: int) -> None:
        kept(wires, for_ns)
        assert callable(meanwhile)
        meanwhile()

    harness.KilledWires.live_on = live_on  # type: ignore[method-assign]
    try:
        return play(here, folder, [at])
    finally:
        harness.KilledWires.live_on = kept  # type: ignore[method-assign]


def test_a_needle_that_was_drawn_by_somebody_is_held(tmp_path: Path, where: list[str]) -> None:
    here = room()
    at = next(number for number, text in enumerate(where, start=1) if "after event SeedDropped" in text)

    def draw() -> None:
        here.hands_on.lose_steps_z(-3.0, here.applicator._now_ns)

    outcome = play_with(here, tmp_path, at, draw)
    assert outcome.state == "NOT RESUMED"
    assert "is drawn back 7.50 mm, the journal expects 4.50 mm" in outcome.reason


def test_a_pressed_e_stop_and_a_person_who_declines_are_held(tmp_path: Path, where: list[str]) -> None:
    here = room()
    at = next(number for number, text in enumerate(where, start=1) if "after event SeedDropped" in text)
    outcome = play_with(here, tmp_path, at, lambda: here.hands_on.set_estop(True, here.applicator._now_ns))
    assert outcome.state == "NOT RESUMED"
    assert "release it" in outcome.reason
    told = [r.body["says"] for r in read_journal(tmp_path / "journal.sqlite") if r.kind == "recovery"]
    assert told == [outcome.reason]


def standing(**changed: object) -> ApplicatorState:
    """The applicator as it stands after the first seed, all well."""
    well = ApplicatorState(
        linked=True,
        st="IDLE",
        z_um=4500,
        counter=1,
        left=3,
        seated=True,
        retraction_homed=True,
        stylet_homed=True,
        boot="0001",
        simulated=True,
    )
    return replace(well, **changed)  # type: ignore[arg-type]


def after_the_first_seed(undisturbed: list[Record]) -> Replayed:
    cut = next(i for i, r in enumerate(undisturbed) if r.body.get("event") == "SeedDropped")
    return replay_records(undisturbed[: cut + 1], PLAN, "j")


BOOK = Ledger(PLAN.content_hash[:8].upper(), 4, 1, 3, 0, 0, 1, 1, 1)


def test_equal_may_go_on_when_a_person_confirms(undisturbed: list[Record]) -> None:
    verdict = compare(after_the_first_seed(undisturbed), DeviceReport(RigState(), standing(), BOOK, None))
    assert verdict.to_check == ()
    assert verdict.resumed == ProcedureResumed("", False, None, "NONE", False)
    assert "1 of 4 seeds" in verdict.text
    assert "patient has not moved" in verdict.text


@pytest.mark.parametrize(
    ("changed", "book", "told"),
    [
        ({"st": "ARMED"}, {}, "says ARMED"),
        ({"st": "MOVING"}, {}, "says MOVING"),
        ({"latch": "JAM", "latch_seed": 1}, {}, r"latched \(JAM\) about seed 1"),
        ({"latch": "AXIS"}, {}, r"latched \(AXIS\)"),
        ({"counter": 2}, {}, "intended 2 seeds, the journal knows of 1"),
        ({"counter": 0}, {}, "intended 0 seeds, the journal knows of 1"),
        ({}, {"left": 2}, "left 2, expected 3"),
        ({}, {"in_doubt": 1}, "in doubt 1, expected 0"),
        ({}, {"cartridges": 2}, "cartridges 2, expected 1"),
        ({}, {"procedure": "00000000"}, "not for this plan"),
        ({"z_um": 4700}, {}, "drawn back 4.70 mm, the journal expects 4.50 mm"),
        ({"boot": "0002", "retraction_homed": False}, {}, "can't be homed there"),
        ({"estop_open": True}, {}, "e-stop is pressed"),
    ],
)
def test_anything_else_is_held_and_says_what_to_check(
    undisturbed: list[Record], changed: dict[str, object], book: dict[str, object], told: str
) -> None:
    report = DeviceReport(RigState(), standing(**changed), replace(BOOK, **book), None)  # type: ignore[arg-type]
    verdict = compare(after_the_first_seed(undisturbed), report)
    assert verdict.resumed is None
    assert verdict.adopted is None
    assert re.search(told, verdict.text)


@pytest.mark.parametrize("latch", ["WATCH", "STOP", "ESTOP"])
def test_a_latch_about_no_seed_is_cleared_by_going_on(undisturbed: list[Record], latch: str) -> None:
    verdict = compare(
        after_the_first_seed(undisturbed), DeviceReport(RigState(), standing(latch=latch), BOOK, None)
    )
    assert verdict.resumed is not None
    assert verdict.resumed.latch == latch


# --- killed while a needle moves ----------------------------------------------------------------------


def test_a_needle_in_the_grip_counts_as_moved_and_is_scanned_again(tmp_path: Path, where: list[str]) -> None:
    here, outcome = killed_at(tmp_path, where, "before event CommandDone", nth=12)
    assert amiss(here, outcome) == []
    for nth in (2, 5):
        folder = tmp_path / str(nth)
        folder.mkdir()
        moves = [i for i, told in enumerate(where, start=1) if "G53G1Z-6" in told]
        here = room()
        outcome = play(here, folder, [moves[nth * 7]])
        assert amiss(here, outcome) == []
        records = list(read_journal(folder / "journal.sqlite"))
        resumed = next(i for i, r in enumerate(records) if r.body.get("event") == "ProcedureResumed")
        after = [r.body["command"] for r in records[resumed:] if r.kind == "intention"]
        assert after.index("HomeRig") < after.index("RequestScan") < after.index("DropSeed")
        homed = next(r for r in records[resumed:] if r.body.get("command") == "HomeRig")
        freed = next(r for r in records[resumed:] if r.body.get("task") == "free_grip")
        assert freed.number < homed.number


def test_nothing_resumes_in_a_procedure_that_is_over_or_has_not_begun(undisturbed: list[Record]) -> None:
    whole = replay_records(undisturbed, PLAN, "j").procedure
    assert whole.handle(ProcedureResumed("x", False, None, "NONE", False)) == ()
    assert whole.state == "COMPLETED"
    begun = replay_records(undisturbed[:1], PLAN, "j").procedure
    assert begun.handle(ProcedureResumed("x", False, None, "NONE", False)) == ()
    assert begun.state == "READY"


# --- killed everywhere: a sample (benchmarks/kill_points.py plays them all) ----------------------------


@pytest.fixture(scope="module")
def compact(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The points of the compact case."""
    here = compact_room()
    return play(here, tmp_path_factory.mktemp("compact"), []).points


def _lawful(here: KilledRoom, folder: Path, outcome: Outcome) -> list[str]:
    path = folder / "journal.sqlite"
    assert verify(path) is None
    return amiss(here, outcome) + audit(list(read_journal(path)), here.plan)


def test_killed_at_any_point_the_resumed_procedure_delivers_what_was_planned(
    tmp_path: Path, compact: list[str]
) -> None:
    writes = [i for i, told in enumerate(compact, start=1) if told.startswith(("before", "after"))]
    wires = [i for i, told in enumerate(compact, start=1) if not told.startswith(("before", "after"))]
    for at in (*writes[3::53], *wires[11::997]):
        folder = tmp_path / str(at)
        folder.mkdir()
        here = compact_room()
        assert _lawful(here, folder, play(here, folder, [at])) == [], compact[at - 1]


def test_killed_again_and_again(tmp_path: Path) -> None:
    here = compact_room()
    outcome = play(here, tmp_path, [2000, 900, 40, 5, 1500, 2000, 700, 1200])
    assert _lawful(here, tmp_path, outcome) == []
    assert len(outcome.where) >= 6


def test_a_failing_journal_stops_the_devices(tmp_path: Path) -> None:
    """Disk full in the middle: the bytes of the stop leave, and the error is one sentence."""
    from tests.plain_room import Room

    here = Room(PLAN, setup_mm=0.2, own_mm=0.2, settings=ProcedureSettings())
    session = here.session(tmp_path)
    written = here.journal.append

    def full(t_ns: int, kind: str, body: dict[str, object]) -> Record:
        if body.get("command") == "MoveDepth":
            raise AskedWrongly("the disk is full")
        return written(t_ns, kind, body)  # type: ignore[arg-type]

    here.journal.append = full  # type: ignore[method-assign, assignment]
    with pytest.raises(AskedWrongly, match="disk is full"):
        session.run()
    assert here.applicator.board.latch == "STOP"
    assert not here.rig_mechanics.is_closed


def test_a_killed_controller_is_killed() -> None:
    """The harness's own law: what kills is no Exception that the controller could catch."""
    assert not issubclass(Killed, Exception)
