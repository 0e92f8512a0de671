"""A device that is absent, or put aside on the way: people do its part, and every law of the journal still holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from console.confirmations import confirmations
from controller.by_hand import BY_HAND, ApplicatorByHand, RigByHand
from controller.commands import AskOperator, RequestScan
from controller.devices_file import parse_devices
from controller.events import (
    DeviceFaulted,
    OperatorConfirmed,
    OperatorDecided,
    OperatorDeclined,
    ScanAnalysed,
    ScanUnusable,
)
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.session import why_real_is_refused
from controller.undertaking import Surroundings, Undertaking
from simulator.standalone import devices_toml
from tests.held_room import begin, go_on, records
from tests.killed_room import KilledJournal, KilledRoom, Killing, amiss, play
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 2)
BOTH = {"rig_by_hand": True, "applicator_by_hand": True}
ONE_OR_BOTH = [{"rig_by_hand": True}, {"applicator_by_hand": True}, BOTH]
IDS = ["rig", "applicator", "both"]


class HandsRoom(KilledRoom):
    """Says no, as often as listed, to a task; keeps what was asked."""

    def __init__(self, seed: int = 1, setup_mm: float = 3.0, own_mm: float = 1.2, **by_hand: bool) -> None:
        settings = ProcedureSettings(**by_hand)  # type: ignore[arg-type]
        super().__init__(PLAN, setup_mm=setup_mm, own_mm=own_mm, seed=seed, settings=settings)
        self.asked: list[AskOperator] = []
        self.declines: list[str] = []

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        self.asked.append(command)
        if command.task in self.declines:
            self.declines.remove(command.task)
            return OperatorDeclined(command.number, self.name, "not so"), 1_000_000_000
        return super().answer(command)

    def tasks(self) -> list[str]:
        return [command.task for command in self.asked]


def as_planned(room: HandsRoom, procedure: Procedure) -> None:
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert room.template.seeds_dropped == {needle.name: len(needle.seeds) for needle in PLAN.needles}
    assert procedure.known.seeds_delivered == [seed.number for seed in PLAN.seeds]


@pytest.mark.parametrize("by_hand", ONE_OR_BOTH, ids=IDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_people_do_the_part_of_an_absent_device_with_the_same_steps_and_journal(
    tmp_path: Path, by_hand: dict[str, bool], seed: int
) -> None:
    room = HandsRoom(seed, **by_hand)
    as_planned(room, begin(room, tmp_path))
    told = records(tmp_path)
    states = [r.body["to"] for r in told if r.kind == "decision" and "to" in r.body]
    assert "AWAITING_NEEDLE_SCAN" in states
    intended = {r.body["number"]: r.body["command"] for r in told if r.kind == "intention"}
    by_whom = {r.body["number"]: r.body for r in told if r.kind == "event" and "number" in r.body}
    if "rig_by_hand" in by_hand:
        moves = [
            n
            for n, what in intended.items()
            if what == "MoveDepth" and "by_hand_of" in by_whom[n]["readback"]
        ]
        assert len(moves) == room.tasks().count("move_needle") > len(PLAN.needles)
        assert "load_needle" not in room.tasks()
    if "applicator_by_hand" in by_hand:
        pushed = [by_whom[n] for n, what in intended.items() if what == "DropSeed"]
        assert [(p["outcome"], p["who"], p["pulses"]) for p in pushed] == [("PASS", "test", 0)] * len(
            PLAN.seeds
        )


@pytest.mark.parametrize("by_hand", ONE_OR_BOTH, ids=IDS)
def test_each_question_names_needle_and_millimetres(tmp_path: Path, by_hand: dict[str, bool]) -> None:
    room = HandsRoom(**by_hand)
    begin(room, tmp_path)
    for command in room.asked:
        if command.task == "move_needle":
            assert command.place_mm is not None
            assert f"{command.needle} " in command.text
            assert f"{command.place_mm[2]:.1f} mm" in command.text
        if command.task == "draw_back":
            assert f"{command.z_mm:.1f} mm" in command.text


def test_hands_end_where_the_devices_would_have(tmp_path: Path) -> None:
    tips = []
    for number, by_hand in enumerate(({}, {"rig_by_hand": True})):
        folder = tmp_path / str(number)
        room = HandsRoom(3, own_mm=0.0, **by_hand)
        as_planned(room, begin(room, folder))
        tips.append(room.tips_at_delivery)
    for name, tip in tips[0].items():
        assert tips[1][name] == pytest.approx(tip, abs=0.1)


@pytest.mark.parametrize("where", ["patient", "needle", "cartridge"])
def test_a_seed_that_nobody_is_sure_of_is_in_doubt_until_it_is_found(tmp_path: Path, where: str) -> None:
    room = HandsRoom(applicator_by_hand=True)
    room.declines = ["push_seed"]
    held = begin(room, tmp_path)
    assert held.state == "HELD"
    assert held.known.doubt is not None
    procedure, verdict = go_on(room, tmp_path)
    assert verdict.resumed is None, "nobody has said where the seed is"
    if where == "patient":
        room.hands_on.push_by_hand()
    elif where == "needle":
        room.hands_on.miscount_cartridge(-1)
    procedure, _ = go_on(room, tmp_path, [OperatorDecided("seed_is", "test", "seen in the CT", where=where)])
    assert procedure.state == "COMPLETED", procedure.known.held_because
    assert procedure.known.wasted == (where == "needle")
    assert sum(room.template.seeds_dropped.values()) == procedure.known.implanted


def second_seed(folder: Path, what: str) -> int:
    """The point of an undisturbed procedure at which ``what`` of the second seed happens."""
    folder.mkdir()
    points = play(HandsRoom(**BOTH), folder, []).points
    return [number for number, where in enumerate(points, 1) if where.startswith(what)][1]


@pytest.mark.parametrize("word", ["it was pushed", "nobody is sure"])
def test_after_a_kill_a_person_is_asked_whether_the_seed_was_pushed(tmp_path: Path, word: str) -> None:
    at = second_seed(tmp_path / "whole", "before event SeedDropped")
    (tmp_path / "killed").mkdir()
    room = HandsRoom(**BOTH)
    if word == "nobody is sure":
        room.declines = ["tell_pushed", "tell_kept"]
    outcome = play(room, tmp_path / "killed", [at])
    assert "SeedDropped" in outcome.where[0]
    assert room.tasks().count("tell_pushed") == 1
    if word == "it was pushed":
        assert amiss(room, outcome) == []
        assert room.tasks().count("push_seed") == len(PLAN.seeds)
    else:
        assert outcome.state == "HELD"
        assert "UNKNOWN" in outcome.reason
        assert sum(room.template.seeds_dropped.values()) == 2


def test_after_a_kill_a_seed_that_was_not_pushed_is_asked_for_again(tmp_path: Path) -> None:
    at = second_seed(tmp_path / "whole", "after the commit of intention DropSeed")
    (tmp_path / "killed").mkdir()
    room = HandsRoom(**BOTH)
    outcome = play(room, tmp_path / "killed", [at])
    assert "after the commit of intention DropSeed" in outcome.where[0]
    assert room.tasks().count("tell_kept") == 1
    assert amiss(room, outcome) == []


@pytest.mark.parametrize("at", range(3, 260, 16))
def test_killed_by_hand_anywhere_it_ends_as_planned(tmp_path: Path, at: int) -> None:
    room = HandsRoom(**BOTH)
    outcome = play(room, tmp_path, [at])
    assert outcome.where, "the point was not reached"
    assert amiss(room, outcome) == []


@pytest.mark.parametrize(
    ("device", "state", "after"),
    [
        *(("rig", "INSERTING_SEED_NEEDLES", after) for after in (1, 3, 4, 5, 6, 8)),
        *(("rig", "CHECKING_DEVICES", after) for after in (1, 2, 4)),
        *(("applicator", "DELIVERING_SEEDS", after) for after in (1, 4, 6, 7, 9)),
    ],
)
def test_a_device_that_fails_on_the_way_is_put_aside_and_people_end_it(
    tmp_path: Path, device: str, state: str, after: int
) -> None:
    room = HandsRoom()
    faulted = Faulted(room, device, state, after)
    held = faulted.begin(tmp_path)
    assert held.state == "HELD"
    dropped = dict(room.template.seeds_dropped)
    asked = len(room.asked)
    procedure, verdict = go_on(room, tmp_path, [OperatorDecided(f"{device}_by_hand", "test", "it is broken")])
    assert procedure.state == "COMPLETED", verdict.text + procedure.known.held_because
    assert all(room.template.seeds_dropped[name] >= count for name, count in dropped.items())
    as_planned(room, procedure)
    assert device != "rig" or "load_needle" not in room.tasks()[asked:]
    assert {"rig": "move_needle", "applicator": "push_seed"}[device] in room.tasks()


class Faulted:
    """Lets a device report a fault at the n-th intention in a state."""

    def __init__(self, room: HandsRoom, device: str, state: str, after: int) -> None:
        self.room, self.device, self.state, self.after = room, device, state, after

    def begin(self, folder: Path) -> Procedure:
        room = self.room
        procedure = Procedure(room.plan, room.settings)
        journal = KilledJournal(folder / "journal.sqlite")
        session, wires, *_ = room.killed_session(procedure, journal, Killing(None), 0)
        journal.append(0, "opened", {"plan": room.plan.content_hash, "settings": asdict(room.settings)})
        seen = 0

        def told(record: object) -> None:
            nonlocal seen
            if getattr(record, "kind", "") == "intention" and procedure.state == self.state:
                seen += 1
                if seen == self.after:
                    session._inbox.append(DeviceFaulted(self.device, "smoke"))

        journal.listener = told
        session.run()
        room.now_ns = wires.now_ns()
        journal.close()
        return procedure


def test_nothing_is_put_aside_while_a_seed_is_in_doubt(tmp_path: Path) -> None:
    room = HandsRoom()
    room.before_answer = lambda command: (
        room.hands_on.jam_next() if command.task == "seat_cartridge" else None
    )
    held = begin(room, tmp_path)
    assert held.known.doubt is not None
    procedure, _ = go_on(room, tmp_path, [OperatorDecided("applicator_by_hand", "test", "it is broken")])
    assert not procedure.known.applicator_by_hand


def test_the_report_tells_who_did_what_by_hand(tmp_path: Path) -> None:
    room = HandsRoom(**BOTH)
    begin(room, tmp_path)
    told = confirmations(records(tmp_path))
    pushed = [(it.who, it.about) for it in told if it.word == "pushed by hand"]
    assert pushed == [("test", f"seed {s.number}, needle {n.name}") for n in PLAN.needles for s in n.seeds]
    assert sum(it.word == "moved by hand" for it in told) == room.tasks().count("move_needle")


class Unhurried(HandsRoom):
    """Takes no time of the procedure's clock: this one is the wall's."""

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        return super().answer(command)[0], 0

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        return super().scan(command, procedure)[0], 0


def undertaking(room: HandsRoom, folder: Path) -> Undertaking:
    around = Surroundings({}, room, room, goes_on=lambda _held: False, new_session_id=lambda: "5A17")
    devices = parse_devices(devices_toml(20.0), "devices.toml")
    return Undertaking(folder, PLAN, room.settings, devices, around)


def test_with_both_devices_absent_no_port_is_opened(tmp_path: Path) -> None:
    room = Unhurried(**BOTH)
    session = undertaking(room, tmp_path).begin()
    as_planned(room, session.procedure)


def test_what_was_held_is_taken_up_with_the_rig_put_aside(tmp_path: Path) -> None:
    room = Unhurried(applicator_by_hand=True)
    held = begin_and_break(room, tmp_path)
    assert held.state == "HELD"
    session = undertaking(room, tmp_path).take_up({"rig": "Ann"})
    as_planned(room, session.procedure)
    told = [r.body for r in records(tmp_path) if r.body.get("event") == "OperatorDecided"]
    assert [(body["kind"], body["who"]) for body in told] == [("rig_by_hand", "Ann")]


def begin_and_break(room: HandsRoom, folder: Path) -> Procedure:
    return Faulted(room, "rig", "INSERTING_SEED_NEEDLES", 3).begin(folder)


def test_hands_of_people_are_never_led_without_people() -> None:
    procedure = Procedure(PLAN, ProcedureSettings(**BOTH))  # type: ignore[arg-type]
    for device in (RigByHand(procedure, lambda _q: None), ApplicatorByHand(procedure, lambda _q: None)):  # type: ignore[arg-type, return-value]
        assert device.state.identity == BY_HAND
        assert not device.state.simulated
    assert why_real_is_refused(True, False) is not None
