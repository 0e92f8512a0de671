"""Proposals: what may be asked for from outside, who settles it, and that it lapses with its moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.door_client import DoorClient
from controller.commands import AskOperator
from controller.door import Door
from controller.door_people import DoorOperator, stop_or_note
from controller.events import OperatorConfirmed, OperatorDecided
from controller.journal import Journal, read_journal
from controller.knowledge import ProcedureSettings
from controller.ports import Aside
from controller.procedure import Procedure
from controller.proposal import Proposal, Proposals, Settled
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 1)
TIP = PLAN.needles[0].tip_mm
NAME = PLAN.needles[0].name
PATIENCE_S = 10.0
NOW = replace(Procedure(PLAN, ProcedureSettings()).snapshot(0), may_decide=("pause", "grant_attempts"))
ASKED = AskOperator(7, "load_needle", f"Needle {NAME} into the carriage.", needle=NAME)
AT_TIP = {"kind": "answer", "number": 7, "needle": NAME, "place_mm": list(TIP)}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"kind": "fly"}, "can't be proposed"),
        ({"kind": "abort", "because": "so"}, "can't be decided now"),
        ({"kind": "grant_attempts", "needle": NAME}, "a count of at least 1"),
        ({"kind": "grant_attempts", "needle": "N99", "count": 1}, "no needle N99"),
        ({"kind": "answer", "number": 6}, "command 7 is"),
        ({**AT_TIP, "needle": "N02"}, "not needle N02's turn"),
        ({**AT_TIP, "place_mm": [TIP[0], TIP[1], TIP[2] + 2.1]}, "2.1 mm from where needle"),
        ({"kind": "answer", "number": 7, "place_mm": list(TIP)}, "for the needle that is asked about"),
    ],
)
def test_what_does_not_fit_the_moment_is_refused_in_a_sentence(words: dict[str, Any], why: str) -> None:
    told = Proposals().propose("Slicer", words, NOW, ASKED)
    assert isinstance(told, str)
    assert why in told


def test_one_waits_at_a_time_and_is_settled_once_by_somebody_else() -> None:
    proposals = Proposals()
    first = proposals.propose("Slicer", AT_TIP, NOW, ASKED)
    assert isinstance(first, Proposal)
    assert "waits" in str(proposals.propose("other", {"kind": "pause"}, NOW, ASKED))
    assert "own proposal" in str(proposals.settle(1, "confirmed", "Slicer"))
    assert "is Slicer's" in str(proposals.settle(1, "withdrawn", "Ann"))
    assert proposals.settle(1, "confirmed", "Ann") == Settled(first, "confirmed", "Ann")
    assert proposals.settle(1, "declined", "Bob", "no") == "proposal 1 was confirmed already, by Ann"


def test_it_lapses_when_the_procedure_has_gone_on() -> None:
    proposals = Proposals()
    proposals.propose("Slicer", AT_TIP, NOW, ASKED)
    assert proposals.review(NOW, ASKED) is None
    settled = proposals.review(NOW, replace(ASKED, number=9))
    assert settled is not None
    assert settled.outcome == "lapsed"
    assert proposals.open is None


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path, is_simulated=True)
    opened.show(NOW)
    yield opened
    opened.close()


def news_with(client: DoorClient, field: str) -> dict[str, Any]:
    while (news := client.news(PATIENCE_S)) is not None:
        if news.get(field) is not None:
            return dict(news[field])
    raise AssertionError(f"no {field} came")


def test_a_motion_asked_for_from_outside_waits_for_a_person(door: Door, tmp_path: Path) -> None:
    answer = Aside().submit(DoorOperator(door).answer, ASKED)
    with DoorClient(tmp_path, "Slicer") as outside, DoorClient(tmp_path, "Ann") as console:
        console.follow()
        while (news := console.news(PATIENCE_S)) is not None and news.get("ask") is None:
            pass
        number = outside.propose(
            "answer", "target of the day", number=7, needle=NAME, place_mm=AT_TIP["place_mm"]
        )
        assert number == 1
        assert not answer.done()
        shown = news_with(console, "proposal")
        assert (shown["by"], shown["needle"], shown["place_mm"]) == ("Slicer", NAME, list(TIP))
        assert "own proposal" in str(outside.settle(1, "confirm"))
        assert console.settle(1, "confirm") is None
        assert answer.result(PATIENCE_S) == (OperatorConfirmed(7, "Ann"), 0)
        assert news_with(console, "settled")["settled"] == "confirmed"
    journal = Journal(tmp_path / "journal.sqlite")
    stop_or_note(door, journal, lambda: 0)
    journal.close()
    told = [record.body for record in read_journal(tmp_path / "journal.sqlite")]
    assert [body.get("settled", body.get("kind")) for body in told] == ["answer", "confirmed"]


def test_a_confirmed_decision_is_the_persons_and_says_who_asked(door: Door, tmp_path: Path) -> None:
    with DoorClient(tmp_path, "Eve") as outside, DoorClient(tmp_path, "Ann") as console:
        assert outside.propose("pause", "cough") == 1
        assert "say why not" in str(console.settle(1, "decline"))
        assert console.settle(1, "confirm") is None
    assert door.decided() == OperatorDecided("pause", "Ann", "cough (proposed by Eve)")


def test_it_goes_with_the_link_of_who_made_it(door: Door, tmp_path: Path) -> None:
    with DoorClient(tmp_path, "Ann") as console:
        console.follow()
        with DoorClient(tmp_path, "Eve") as outside:
            outside.propose("pause")
            assert outside.propose("pause") == "at most one proposal in 1 s"
        settled = news_with(console, "settled")
        assert (settled["settled"], settled["because"]) == ("withdrawn", "its link was closed")
        assert "withdrawn already" in str(console.settle(1, "confirm"))
    assert door.decided() is None
