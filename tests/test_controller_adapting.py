"""The plan adapted to the needles as they stand: used only when confirmed, and held to the same interlocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.adapting import changes
from controller.commands import EvaluateNeedles
from controller.events import NeedlesEvaluated
from controller.journal import read_journal
from controller.replay import replay
from planning.adaptation import Implant
from tests.made_plan import made_plan
from tests.plain_room import Room

PLAN = made_plan(2, 1, 3)
FIGURES = {"CTV": {"d90_gy": 100.0, "v100_pct": 80.0}}


class Proposing:
    """An evaluator with one answer; remembers what it was asked about."""

    def __init__(self, proposal: dict[str, list[float]], *, is_better: bool) -> None:
        self.proposal, self.is_better = proposal, is_better
        self.asked: list[Implant] = []

    def evaluate(self, command: EvaluateNeedles, implant: Implant, /) -> tuple[NeedlesEvaluated, int]:
        self.asked.append(implant)
        event = NeedlesEvaluated(
            command.number,
            planned=FIGURES,
            now=FIGURES,
            missed=["CTV D90 >= 120 Gy (is 100.0)"],
            then=FIGURES,
            proposal=self.proposal,
            is_better=self.is_better,
        )
        return event, 1_000_000_000


def played(folder: Path, evaluator: Proposing | None) -> Room:
    room = Room(PLAN, setup_mm=1.0, own_mm=0.3, seed=1)
    session = room.session(folder, evaluator=evaluator)
    room.journal.append(0, "opened", {"plan": PLAN.content_hash, "settings": vars(room.settings)})
    session.run()
    room.journal.close()
    return room


def dropped_mm(folder: Path) -> list[tuple[int, float]]:
    """Seed and retraction, to what the encoder's count hides."""
    return [
        (record.body["seed"], round(record.body["z_um"] / 1000, 1))
        for record in read_journal(folder / "journal.sqlite")
        if record.body.get("event") == "SeedDropped"
    ]


AS_PLANNED = [(seed.number, seed.retraction_mm) for seed in PLAN.seeds]


def test_without_an_evaluator_the_plan_is_kept_and_that_is_written_down(tmp_path: Path) -> None:
    room = played(tmp_path, None)
    assert room.procedure.state == "COMPLETED"
    assert dropped_mm(tmp_path) == AS_PLANNED
    (event,) = (
        r for r in read_journal(tmp_path / "journal.sqlite") if r.body.get("event") == "NeedlesEvaluated"
    )
    assert event.body["skipped"]


def test_the_needles_are_evaluated_where_the_ct_shows_them(tmp_path: Path) -> None:
    evaluator = Proposing({}, is_better=False)
    room = played(tmp_path, evaluator)
    assert room.procedure.state == "COMPLETED"
    (implant,) = evaluator.asked
    assert implant.stock == len(PLAN.seeds)
    assert implant.delivered_mm == ()
    for needle in implant.needles:
        landing = room.procedure.known.needles[needle.name].landings[-1]
        assert needle.tip_mm == pytest.approx(tuple(landing.found_patient_mm))


def test_a_better_proposal_is_used_and_replays(tmp_path: Path) -> None:
    evaluator = Proposing({"N01": [4.5, 14.5, 19.5], "N02": [9.5, 14.5]}, is_better=True)
    room = played(tmp_path, evaluator)
    assert room.procedure.state == "COMPLETED"
    assert [z for _, z in dropped_mm(tmp_path)] == [4.5, 14.5, 19.5, 9.5, 14.5]
    assert len({seed for seed, _ in dropped_mm(tmp_path)}) == 5
    assert room.template.seeds_dropped == {"N01": 3, "N02": 2}
    again = replay(tmp_path / "journal.sqlite", PLAN)
    assert again.procedure.state == "COMPLETED"
    assert again.procedure.known.adopted == room.procedure.known.adopted != []


def test_declining_keeps_the_plan_and_holds_nothing(tmp_path: Path) -> None:
    room = played(tmp_path, Proposing({"N01": [4.5], "N02": [9.5]}, is_better=False))
    assert room.procedure.state == "COMPLETED"
    assert dropped_mm(tmp_path) == AS_PLANNED
    asked = [r.body for r in read_journal(tmp_path / "journal.sqlite") if r.body.get("task") == "adapt_plan"]
    assert len(asked) == 1
    assert "decline to keep the plan" in asked[0]["text"]


@pytest.mark.parametrize(
    ("proposal", "interlock"),
    [
        ({"N01": [4.5, 6.5], "N02": [4.5]}, "seed_keeps_its_distance"),
        ({"N01": [2.5, 9.5], "N02": [4.5]}, "seed_lies_in_the_verified_channel"),
        ({"N01": [4.5, 70.5], "N02": [4.5]}, "seed_lies_in_the_verified_channel"),
    ],
)
def test_a_bad_proposal_is_held_back_by_the_interlocks(
    tmp_path: Path, proposal: dict[str, list[float]], interlock: str
) -> None:
    room = played(tmp_path, Proposing(proposal, is_better=True))
    assert room.procedure.state == "HELD"
    assert interlock in room.procedure.known.held_because


def test_changes_in_words() -> None:
    assert changes([4.5, 9.5], [4.5, 9.5]) == ""
    assert changes([4.5, 9.5], [4.5, 14.5]) == "9.5 to 14.5 (5.0)"
    assert changes([4.5], []) == "none at 4.5"
    assert changes([], [4.5]) == "one more at 4.5"
