"""The door over real sockets: who is let in, what is told, whose answer counts, and that nobody holds up the loop."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from console.cli import main
from console.door_client import DoorClient
from controller.commands import AskOperator
from controller.door import Door
from controller.door_people import DoorOperator, rest, stop_or_note
from controller.door_visitors import MOST_CLIENTS
from controller.door_words import LONGEST_LINE
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.journal import Journal, read_journal
from controller.knowledge import ProcedureSettings
from controller.ports import Aside
from controller.procedure import Procedure
from controller.snapshot import Snapshot
from controller.undertaking import Held
from drivers.applicator_language import ApplicatorState
from drivers.rig_language import RigState
from planning.refusal import AskedWrongly
from tests.made_plan import made_plan
from tests.plain_room import Room

PLAN = made_plan(1, 1, 1)
PATIENCE_S = 10.0
"""For a test that fails; one that passes never waits for time."""


@pytest.fixture(params=["unix", "tcp"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path, tcp_port=0 if request.param == "tcp" else None, is_simulated=True)
    yield opened
    opened.close()


PICTURE = Procedure(PLAN, ProcedureSettings()).snapshot(0, rig="Idle", applicator="IDLE")


def a_snapshot(message: str = "") -> Snapshot:
    return replace(PICTURE, message=message)


STANDING = (
    RigState(linked=True, status="Idle", position_known=True, z_mm=-19.0, identity="R1", simulated=True),
    ApplicatorState(linked=True, st="LATCHED", latch="STOP", z_um=5000, boot="0003", simulated=True),
)


def raw(door: Door) -> socket.socket:
    if "tcp" in door.address:
        return socket.create_connection(tuple(door.address["tcp"]), PATIENCE_S)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(PATIENCE_S)
    link.connect(door.address["socket"])
    return link


def all_said(link: socket.socket) -> list[dict[str, Any]]:
    """Until the door hangs up."""
    heard = b""
    try:
        while data := link.recv(65536):
            heard += data
    except ConnectionResetError:
        pass
    return [json.loads(line) for line in heard.splitlines()]


def rung(door: Door) -> None:
    assert select.select([door], [], [], PATIENCE_S)[0]


def next_record(client: DoorClient) -> dict[str, Any]:
    """Between two records the door may also say that it lives."""
    while (news := client.news(PATIENCE_S)) is not None:
        if "record" in news:
            return cast(dict[str, Any], news["record"])
    raise AssertionError("no record came")


def test_files_are_for_this_user_alone_and_gone_afterwards(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for name in ("door.token", "door.json", "door.sock"):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600, name
    door.close()
    assert list(tmp_path.iterdir()) == []


def test_tcp_is_bound_to_the_loopback_alone(tmp_path: Path) -> None:
    door = Door(tmp_path, tcp_port=0)
    assert door.address["tcp"][0] == door._visitors._listener.getsockname()[0] == "127.0.0.1"
    door.close()


def test_a_very_long_folder_still_has_a_door(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    door = Door(folder)
    with DoorClient(folder, "Ann") as client:
        assert client.is_simulated is False
    door.close()


def test_the_newest_snapshot_is_told_with_what_is_asked(door: Door, tmp_path: Path) -> None:
    door.show(a_snapshot("old"))
    door.show(a_snapshot("new"))
    with DoorClient(tmp_path, "Ann") as client:
        client.follow()
        news = client.news(PATIENCE_S)
        assert news is not None
        assert (news["snapshot"]["message"], news["ask"], news["version"]) == ("new", None, 1)
        assert set(news["snapshot"]) == {*a_snapshot().__dict__, "step_names", "state_words"}


def test_the_journal_is_told_from_a_number_on(door: Door, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.listener = door.recorded
    for number in range(200):
        journal.append(number, "event", {"event": "Made", "n": number})
    with DoorClient(tmp_path, "Ann") as client:
        client.follow(since=150)
        told = [next_record(client) for _ in range(50)]
        assert [record["number"] for record in told] == list(range(151, 201))
        journal.append(1000, "event", {"event": "Later"})
        assert next_record(client)["digest"] == journal.digest
    journal.close()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"do":"hello","token":"0000","who":"Eve"}', "not authenticated"),
        (b'{"do":"hello","who":"Eve"}', "not authenticated"),
        (b'{"do":"stop"}', "not authenticated"),
        (b"GET / HTTP/1.1", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 3000, "not JSON"),
        (b'{"do":"hello","token":5,"who":"Eve"}', '"token" is not a text'),
        (b"x" * (LONGEST_LINE + 1), "more than"),
        (b"[1]", "no object"),
    ],
)
def test_a_knock_that_is_not_right_is_refused_told_and_noted(door: Door, line: bytes, why: str) -> None:
    with raw(door) as link:
        link.sendall(line + b"\n")
        said = all_said(link)
    assert why in said[-1]["refused"]
    rung(door)
    assert door.stop_pressed() is None
    assert why in door.notes()[0][1]["says"]


def test_a_flood_of_knocks_is_one_record(door: Door, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for _ in range(50):
        with raw(door) as link:
            link.sendall(b"knock\n")
            all_said(link)
        assert stop_or_note(door, journal, lambda: 0) is None
    journal.close()
    records = list(read_journal(tmp_path / "journal.sqlite"))
    assert [record.kind for record in records] == ["knock"]


@pytest.mark.usefixtures("door")
def test_too_many_clients_are_sent_away_and_the_others_stay(tmp_path: Path) -> None:
    inside = [DoorClient(tmp_path, f"Ann {number}") for number in range(MOST_CLIENTS)]
    with pytest.raises(AskedWrongly, match=r"not let in|does not answer"):
        DoorClient(tmp_path, "one more")
    for client in inside:
        assert client.ask({"do": "follow"})["accepted"]
        client.close()


def test_the_first_answer_counts_and_the_other_console_is_told(door: Door, tmp_path: Path) -> None:
    answer = Aside().submit(DoorOperator(door).answer, AskOperator(7, "load_needle", "Needle N01 is in"))
    door.show(a_snapshot())
    with DoorClient(tmp_path, "Ann") as ann, DoorClient(tmp_path, "Bob") as bob:
        ann.follow()
        while (news := ann.news(PATIENCE_S)) is not None and news.get("ask") is None:
            pass
        assert news is not None
        assert news["ask"]["number"] == 7
        assert "command 7 is: Needle N01" in (bob.answer(8) or "")
        assert ann.answer(7) is None
        assert bob.answer(7) == "command 7 was answered already, by Ann"
    assert answer.result(PATIENCE_S) == (OperatorConfirmed(7, "Ann"), 0)


def test_a_no_is_told_with_its_reason_and_a_hold_ends_the_question(door: Door, tmp_path: Path) -> None:
    operator = DoorOperator(door)
    with DoorClient(tmp_path, "Ann") as ann:
        answer = Aside().submit(operator.answer, AskOperator(1, "load_needle", "?"))
        while ann.decline(1, "it is bent") is not None:
            pass  # not asked yet
        assert answer.result(PATIENCE_S)[0] == OperatorDeclined(1, "Ann", "it is bent")
        answer = Aside().submit(operator.answer, AskOperator(2, "load_needle", "?"))
        door.show(a_snapshot())
        ann.follow()
        while (news := ann.news(PATIENCE_S)) is not None and (news.get("ask") or {}).get("number") != 2:
            pass
        door.show(replace(PICTURE, state="HELD"))
        assert isinstance(answer.result(PATIENCE_S)[0], OperatorDeclined)
        assert ann.answer(2) is not None


def test_stop_rings_in_the_ports_loop(door: Door, tmp_path: Path) -> None:
    with DoorClient(tmp_path, "Ann") as ann:
        assert ann.stop() is None
    rung(door)
    assert door.stop_pressed() == "Ann"
    assert door.stop_pressed() is None
    assert select.select([door], [], [], 0.0)[0] == []


def test_a_reader_that_never_reads_holds_nobody_up(door: Door, tmp_path: Path) -> None:
    with DoorClient(tmp_path, "deaf") as deaf, DoorClient(tmp_path, "Ann") as ann:
        deaf.follow()
        for number in range(3_000):
            door.show(a_snapshot(f"{number} " + "x" * 500))
        ann.follow()
        while (news := ann.news(PATIENCE_S)) is not None:
            if news.get("snapshot", {"message": "-"})["message"].split()[0] == "2999":
                break
        assert news is not None


def test_every_field_stands_in_the_document() -> None:
    page = (Path(__file__).parents[1] / "controller" / "DOOR.md").read_text(encoding="utf-8")
    for name in {*a_snapshot().__dict__, "step_names", "state_words"}:
        assert f"`{name}`" in page, name


def test_a_procedure_is_led_and_stopped_through_the_door(tmp_path: Path) -> None:
    """Questions answered over the socket, until stop is pressed there: bytes first, the record after."""
    door = Door(tmp_path, is_simulated=True)
    room = Room(PLAN)
    session = room.session(tmp_path)
    session.journal.listener = door.recorded
    session._listener = door.show
    stops: list[str] = []
    session._stop_pressed = lambda: stops.pop() if stops else None
    ann = DoorClient(tmp_path, "Ann")
    answered: list[int] = []

    class People:
        is_automatic = True
        name = "door"

        def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
            waiting = Aside().submit(DoorOperator(door, room.answer).answer, command)
            while ann.answer(command.number) is not None:
                pass  # not asked yet
            answered.append(command.number)
            if len(answered) == 3:
                assert ann.stop() is None
                rung(door)
                stops.append(str(door.stop_pressed()))
            return waiting.result(PATIENCE_S)

    session._operator = People()
    session.run()
    assert session.procedure.state == "STOPPED"
    assert "Ann" in session.procedure.known.held_because
    ann.close()
    session.journal.close()
    door.close()
    who = [record.body.get("who") for record in read_journal(tmp_path / "journal.sqlite")]
    assert who.count("Ann") >= 3


def told(client: DoorClient, what: str) -> dict[str, Any]:
    while (news := client.news(PATIENCE_S)) is not None:
        if what in news:
            return news
    raise AssertionError(f"no {what} came")


def test_a_loop_that_hangs_is_seen_by_its_beat(tmp_path: Path) -> None:
    clock_s = [100.0]
    door = Door(tmp_path, clock_s=lambda: clock_s[0])
    with DoorClient(tmp_path, "Ann") as ann:
        ann.follow()
        door.stop_pressed()
        clock_s[0] += 3.0
        assert told(ann, "beat")["beat"] == 3.0
        door.stop_pressed()
        clock_s[0] += 0.5
        assert told(ann, "beat")["beat"] == 0.5
    door.close()


def test_the_devices_are_told_as_they_were_last_heard_of(door: Door, tmp_path: Path) -> None:
    door.show(a_snapshot())
    with DoorClient(tmp_path, "Ann") as ann:
        ann.follow()
        assert told(ann, "snapshot")["devices"] == {}
        door.devices_seen(*STANDING, False)
        news = told(ann, "snapshot")
        assert news["stopped"] is False
        assert news["devices"]["rig"]["z_mm"] == -19.0
        assert news["devices"]["applicator"]["retraction_mm"] == 5.0
        assert (news["devices"]["applicator"]["latch"], news["devices"]["applicator"]["boot"]) == (
            "STOP",
            "0003",
        )
        door.devices_seen(*STANDING, True)
        assert told(ann, "snapshot")["stopped"] is True


def test_only_what_may_be_decided_is_handed_over(door: Door, tmp_path: Path) -> None:
    with DoorClient(tmp_path, "Ann") as ann:
        assert "may be decided: nothing" in (ann.decide("pause") or "")
        door.show(replace(PICTURE, state="HELD", may_decide=("grant_attempts", "seed_is", "abort")))
        for kind, more, why in [
            ("invented", {}, "is no decision"),
            ("pause", {}, "can't be decided now"),
            ("grant_attempts", {"needle": "N99", "count": 1}, "no needle N99"),
            ("grant_attempts", {"needle": PLAN.needles[0].name}, "count of at least 1"),
            ("seed_is", {"where": "pocket"}, "where the seed is"),
            ("abort", {}, "needs a reason"),
        ]:
            assert why in (ann.decide(kind, **more) or ""), kind
        assert door.decided() is None
        assert ann.decide("grant_attempts", "tissue gives", needle=PLAN.needles[0].name, count=2) is None
        rung(door)
        expected = OperatorDecided("grant_attempts", "Ann", "tissue gives", PLAN.needles[0].name, 2)
        assert door.decided() == expected
        assert door.decided() is None


def test_values_go_with_the_answer_about_the_seeds_and_with_no_other(door: Door, tmp_path: Path) -> None:
    values = {"batch": "B-17", "measured_mci": 0.402}
    with DoorClient(tmp_path, "Ann") as ann:
        for item in ("plan", "seeds"):
            asked = AskOperator(3, "confirm_time_out", "Time-out.", item=item)
            answer = Aside().submit(DoorOperator(door).answer, asked)
            while "not asked" in (why := ann.answer(3, values) or "") or "nothing is" in why:
                pass
            if item == "plan":
                assert "asks for no values" in why
                assert ann.answer(3) is None
            else:
                assert why == ""
            expected = OperatorConfirmed(3, "Ann", values if item == "seeds" else {})
            assert answer.result(PATIENCE_S)[0] == expected
        with pytest.raises(ConnectionError, match="measured_mci"):
            ann.answer(4, {"measured_mci": "much"})


def test_consoles_decide_about_a_held_procedure_and_let_it_go_on(door: Door, tmp_path: Path) -> None:
    taken: list[str] = []
    held = Held("", a_snapshot, lambda event: taken.append(event.kind) or "", lambda: None)
    with DoorClient(tmp_path, "Ann") as ann:
        assert ann.go_on() == "the procedure is not held"
        door.show(replace(PICTURE, state="HELD", may_decide=("accept_seed_count", "abort")))
        assert ann.decide("accept_seed_count", "from 2019", count=1) is None
        assert ann.go_on() is None
        assert rest(door, held) is True
        assert taken == ["accept_seed_count"]
        assert ann.leave() is None
        assert rest(door, held) is False
        assert ann.decide("abort", "unwell") is None
        assert rest(door, held) == OperatorDecided("abort", "Ann", "unwell")


def test_watch_and_stop_say_when_no_procedure_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("watch", "stop"):
        assert main([command, str(tmp_path)]) == 2
        assert "no procedure is running here" in capsys.readouterr().err


def test_watch_follows_to_the_end_and_stop_shows_that_it_was_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    door = Door(tmp_path)
    door.show(a_snapshot("all is well"))

    def loop() -> None:
        rung(door)
        assert door.stop_pressed() == "Ann"
        door.devices_seen(*STANDING, True)
        door.show(replace(PICTURE, state="STOPPED"))

    led = Aside().submit(loop)
    assert main(["stop", str(tmp_path), "--who", "Ann"]) == 0
    assert "Stopped. Rig: Idle" in capsys.readouterr().out
    led.result(PATIENCE_S)
    watching = Aside().submit(main, ["watch", str(tmp_path), "--who", "Bob"])
    while not any(who == "Bob" and seen for who, seen in door._visitors.names()):
        with DoorClient(tmp_path, "Ann"):
            pass
    door.close()
    assert watching.result(PATIENCE_S) == 0
    assert "Stopped" in capsys.readouterr().out
