"""The published robot protocol as its own test programs say it (ProstateBRP/CommunicationTest), and what is ours.

Each dialogue is a list of what the client says and what it must hear, in order; the door is a list of wishes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.igtl.body import pack_string, pack_transform
from console.igtl.message import MalformedError, Message
from console.igtl.ras import ras_from_own
from console.igtl.robot import STOPPED_WITHIN_NS, Robot
from planning.frame import RigidTransform
from planning.plan import Plan
from tests.igtl_room import STANDING, a_view, in_words, matrix_of, played, record_news, snapshot_news
from tests.made_plan import POSE, made_plan

PLAN = made_plan(2, 2, 2)
ASK = {"number": 7, "task": "load_needle", "text": "Needle N01 into the carriage", "needle": "N01"}


class Client:
    """A robot's other side: says and hears, without a wire."""

    def __init__(self, plan: Plan = PLAN, **changes: Any) -> None:
        self.view = a_view(plan, **{"ask": ASK, **changes})
        self.robot = Robot(self.view, "client:1")
        self.now_ns = 0

    def heard(self) -> list[str]:
        said, self.robot.said = self.robot.said, []
        self.bodies = said
        return [in_words(body) for body in said]

    def command(self, phase: str, query: str = "0001") -> list[str]:
        assert self.robot.hear(Message("STRING", f"CMD_{query}", pack_string(phase)), self.now_ns)
        return self.heard()

    def transform(self, name: str, pose: RigidTransform) -> list[str]:
        content = pack_transform(ras_from_own(pose))
        assert self.robot.hear(Message("TRANSFORM", name, content), self.now_ns)
        return self.heard()

    def news(self, **changes: Any) -> list[str]:
        self.view.take(snapshot_news(PLAN, **{"ask": ASK, **changes}))
        self.robot.look(self.now_ns)
        return self.heard()

    def wishes(self) -> list[dict[str, Any]]:
        return [wish.words for wish in self.robot.wishes]

    def door_says(self, **reply: Any) -> list[str]:
        """The door's reply to everything that is wished."""
        wishes, self.robot.wishes = self.robot.wishes, []
        for wish in wishes:
            wish.answered({"accepted": True, "why": "", **reply})
        return self.heard()

    def targeting(self) -> Client:
        """As far as the published order of operation goes without a motion."""
        for phase in ("START_UP", "PLANNING", "CALIBRATION"):
            self.command(phase)
        self.transform("CLB_0004", POSE)
        self.command("TARGETING")
        return self

    def proposed(self) -> Client:
        self.targeting().transform("TGT_0006", at_tip())
        self.command("MOVE_TO_TARGET", "0007")
        return self


def at_tip(needle: int = 0, *, off_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> RigidTransform:
    return RigidTransform(POSE.rotation, np.add(PLAN.needles[needle].tip_mm, off_mm))


def test_the_published_order_of_operation() -> None:
    """NavigationNormalOperationTest: the same messages in the same order; the motion waits for a person."""
    client = Client()
    for number, phase in enumerate(("START_UP", "PLANNING", "CALIBRATION"), start=1):
        heard = client.command(phase, f"000{number}")
        assert heard[:2] == [f"STRING ACK_000{number} {phase}", f"STATUS CURRENT_STATUS 1 [{phase}]"]
        assert heard[2:] == (["STATUS START_UP 1 []"] if phase == "START_UP" else [])
    heard = client.transform("CLB_0004", POSE)
    assert heard == [
        "TRANSFORM ACK_0004",
        "STATUS CALIBRATION 1 [] agrees within 0.00 mm at the planned tips",
    ]
    assert matrix_of(client.bodies, "ACK_0004") == pytest.approx(
        ras_from_own(POSE), abs=1e-5
    )  # echoed as it came
    assert client.command("TARGETING", "0005") == [
        "STRING ACK_0005 TARGETING",
        "STATUS CURRENT_STATUS 1 [TARGETING]",
        "STATUS TARGETING 1 []",
    ]
    assert client.transform("TGT_0006", at_tip()) == [
        "TRANSFORM ACK_0006",
        "STATUS TARGET 1 [] needle N01",
        "TRANSFORM TARGET",
    ]
    assert client.command("MOVE_TO_TARGET", "0007") == [
        "STRING ACK_0007 MOVE_TO_TARGET",
        "STATUS CURRENT_STATUS 1 [MOVE_TO_TARGET]",
    ]
    assert client.command("MANUAL", "0008") == [
        "STRING ACK_0008 MANUAL",
        "STATUS CURRENT_STATUS 1 [MANUAL]",
        "STATUS MANUAL 1 []",
    ]


def test_a_motion_is_proposed_and_nothing_else() -> None:
    client = Client().proposed()
    (wish,) = client.wishes()
    assert wish == {
        "do": "propose",
        "kind": "answer",
        "number": 7,
        "needle": "N01",
        "place_mm": pytest.approx(PLAN.needles[0].tip_mm, abs=2e-3),  # LPS again
        "because": "MOVE_TO_TARGET 0007 from client:1",
    }
    assert client.door_says(number=3) == []
    assert client.robot.is_moving


def test_a_confirmed_motion_is_followed_to_its_end(tmp_path: Path) -> None:
    """OK when the procedure asks for the next thing, and not before; then the place that was reached."""
    plan = made_plan(2, 1, 1)
    client = Client(plan)
    records = played(plan, tmp_path)
    first = next(r for r in records if r.kind == "intention" and r.body.get("task") == "guide_needle")
    for record in records[: first.number]:
        client.view.take(record_news(record))
    ask = {**ASK, "number": first.body["number"], "needle": first.body["needle"]}
    client.news(ask=ask)
    place = RigidTransform(POSE.rotation, np.array(plan.needles[0].tip_mm))
    client.targeting().transform("TGT_0006", place)
    client.command("MOVE_TO_TARGET")
    assert client.door_says(number=1) == []
    settled = {"number": 1, "settled": "confirmed", "by": "Ann", "because": "", "kind": "answer"}
    client.news(ask=None, settled=settled)
    after = iter(records[first.number :])
    heard: list[str] = []
    while not heard:
        record = next(after)
        client.view.take(record_news(record))
        client.robot.look(0)
        heard = client.heard()
    assert heard == ["STATUS MOVE_TO_TARGET 1 []", "TRANSFORM CURRENT_POSITION"]
    assert record.body["event"] == "CommandDone"
    assert next(after).body["task"] == "guide_needle"  # the next needle is asked for
    assert not client.robot.is_moving


@pytest.mark.parametrize("outcome", ["declined", "lapsed", "withdrawn"])
def test_a_motion_that_is_not_confirmed_is_told_with_who_and_why(outcome: str) -> None:
    client = Client().proposed()
    client.door_says(number=3)
    settled = {"number": 3, "settled": outcome, "by": "Ann", "because": "not now", "kind": "answer"}
    assert client.news(settled={**settled, "number": 2}) == []  # somebody else's
    assert client.news(settled=settled) == [f"STATUS MOVE_TO_TARGET 5 [] {outcome} by Ann: not now"]
    assert not client.robot.is_moving


def test_the_doors_refusal_is_told() -> None:
    client = Client().proposed()
    assert client.door_says(accepted=False, why="not needle N01's turn") == [
        "STATUS MOVE_TO_TARGET 13 [] not needle N01's turn"
    ]


def test_a_held_procedure_ends_the_motion_as_a_failure() -> None:
    client = Client().proposed()
    client.door_says(number=3)
    settled = {"number": 3, "settled": "confirmed", "by": "Ann", "because": "", "kind": "answer"}
    assert client.news(settled=settled, state="HELD", ask=None)[0].startswith(
        "STATUS MOVE_TO_TARGET 18 [] now HELD"
    )


def test_what_waits_is_withdrawn_when_the_client_goes_on_or_away() -> None:
    for leave in (lambda c: c.command("MANUAL"), lambda c: c.robot.leave(), lambda c: c.command("STOP")):
        client = Client().proposed()
        client.door_says(number=3)
        leave(client)
        assert {"do": "withdraw_proposal", "number": 3} in client.wishes()
    client = Client().proposed()  # and also when the door's reply comes after that
    late = client.robot.wishes.pop()
    client.command("PLANNING")
    late.answered({"accepted": True, "why": "", "number": 4})
    assert {"do": "withdraw_proposal", "number": 4} in client.wishes()


def test_no_motion_without_calibration_target_or_question() -> None:
    """NavigationTargetingWithoutCalibrationTest, NavigationMoveToWithoutTargetTest, and accidental commands."""
    client = Client()
    for phase in ("START_UP", "PLANNING", "CALIBRATION"):
        client.command(phase)
    heard = client.command("TARGETING")
    assert heard[1].startswith("STATUS CURRENT_STATUS 13 [CALIBRATION] not calibrated")
    assert heard[2].startswith("STATUS TARGETING 13 []")
    client.transform("CLB_1", POSE)
    client.command("TARGETING")
    heard = client.command("MOVE_TO_TARGET")
    assert heard[1:] == [
        "STATUS CURRENT_STATUS 13 [TARGETING] no target was accepted",
        "STATUS MOVE_TO_TARGET 13 [] no target was accepted",
    ]
    client.transform("TGT_1", at_tip())
    client.command("MANUAL")
    assert (
        "not from MANUAL" in client.command("MOVE_TO_TARGET")[-1]
    )  # NavigationAccidentalCommandDuringManualMode
    client.command("TARGETING")
    client.news(ask=None)
    assert client.command("MOVE_TO_TARGET")[-1].endswith("nothing is asked at the console now")
    client.view.lost()
    assert client.command("MOVE_TO_TARGET")[-1].endswith("no procedure is running")
    assert client.wishes() == []


@pytest.mark.parametrize(
    ("pose", "why"),
    [
        (at_tip(off_mm=(0.0, 0.0, 5000.0)), "nearest planned tip"),  # NavigationOutOfRangeTest
        (at_tip(off_mm=(2.1, 0.0, 0.0)), "2.1 mm from the nearest planned tip (N01)"),
        (
            RigidTransform(POSE.rotation @ np.diag([1.0, -1.0, -1.0]), at_tip().translation_mm),
            "180 deg from needle N01",
        ),
        (RigidTransform.from_rotation_vector((6.0, 0, 0), (0, 0, 0)) @ at_tip(), "nearest planned tip"),
        (
            RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3)) @ at_tip(),
            "nearest planned tip",
        ),  # LPS for RAS
    ],
)
def test_a_target_that_is_no_planned_needle_is_refused(pose: RigidTransform, why: str) -> None:
    client = Client().targeting()
    heard = client.transform("TGT_0006", pose)
    assert heard[0] == "TRANSFORM ACK_0006"
    assert heard[1].startswith("STATUS TARGET 10 []")
    assert why in heard[1]
    assert len(heard) == 2
    assert "no target" in client.command("MOVE_TO_TARGET")[-1]


def test_a_target_within_the_tolerance_is_kept_as_it_was_wished() -> None:
    client = Client().targeting()
    assert client.transform("TGT_1", at_tip(2, off_mm=(1.0, -1.0, 0.5)))[1] == "STATUS TARGET 1 [] needle N03"
    reached = matrix_of(client.bodies, "TARGET")
    x, y, z = np.add(PLAN.needles[2].tip_mm, (1.0, -1.0, 0.5))
    assert reached[:3, 3] == pytest.approx([-x, -y, z], abs=2e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        RigidTransform(np.eye(3), np.array([2.5, 0.0, 0.0])) @ POSE,
        RigidTransform.from_rotation_vector((0.0, 2.0, 0.0), (0.0, 0.0, 0.0)) @ POSE,
        RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3)) @ POSE,  # somebody's LPS taken for RAS
        RigidTransform.identity(),
    ],
)
def test_a_registration_that_is_not_ours_is_refused_and_never_taken_over(wrong: RigidTransform) -> None:
    client = Client()
    client.command("CALIBRATION")
    heard = client.transform("CLB_1", wrong)
    assert heard[1].startswith("STATUS CALIBRATION 10 []")
    assert "mm away at a planned tip" in heard[1]
    assert client.view.rig_pose.matrix() == pytest.approx(POSE.matrix())
    assert "not calibrated" in client.command("TARGETING")[-1]


def test_transforms_out_of_turn_and_matrices_that_are_none() -> None:
    client = Client()
    client.command("PLANNING")
    assert client.transform("CLB_1", POSE)[1].startswith("STATUS CALIBRATION 13")
    assert client.transform("TGT_1", at_tip())[1].startswith("STATUS TARGET 13")
    client.command("CALIBRATION")
    mirrored = pack_transform(ras_from_own(POSE) @ np.diag([1.0, 1.0, -1.0, 1.0]))
    client.robot.hear(Message("TRANSFORM", "CLB_2", mirrored), 0)
    assert "no registration" in client.heard()[1]
    with pytest.raises(MalformedError):
        client.robot.hear(Message("TRANSFORM", "CLB_3", b"short"), 0)


@pytest.mark.parametrize("phase", ["STOP", "EMERGENCY"])
def test_stop_is_handed_over_before_anything_is_said(phase: str) -> None:
    client = Client().proposed()
    client.door_says(number=3)
    assert client.command(phase, "0008") == [f"STRING ACK_0008 {phase}"]
    assert [wish["do"] for wish in client.wishes()] == ["stop", "withdraw_proposal"]
    assert client.news(stopped=True) == []  # of an earlier stop: the door has not taken this one yet
    client.news(stopped=False)
    assert client.door_says() == [f"STATUS CURRENT_STATUS 1 [{phase}]"]
    assert client.news(stopped=False) == []
    assert client.news(stopped=True, state="STOPPED") == [f"STATUS {phase} 1 [] both devices stand"]
    assert client.robot.next_wake_ns is None


def test_a_stop_that_nobody_confirms_is_not_told_as_obeyed() -> None:
    client = Client()
    client.command("STOP")
    client.door_says()
    client.now_ns = STOPPED_WITHIN_NS
    assert client.robot.next_wake_ns == STOPPED_WITHIN_NS
    assert client.news()[0].startswith("STATUS STOP 7 [] nothing shows that the stop was obeyed")
    client.command("STOP")
    for wish in client.robot.wishes:
        wish.answered(None)  # no door
    assert client.heard()[-1] == "STATUS STOP 13 [] no procedure is running: use the emergency stop"


def test_start_up_needs_devices_and_starts_nothing() -> None:
    no_rig = {**STANDING, "rig": {**STANDING["rig"], "link": "no link"}}
    client = Client(devices=no_rig)
    assert client.command("START_UP")[-1] == "STATUS START_UP 13 [] no answer from rig"
    assert client.wishes() == []
    client.news()
    assert client.command("START_UP")[-1] == "STATUS START_UP 1 []"


def test_other_words_are_told_as_such() -> None:
    client = Client()
    client.command("PLANNING")
    assert client.command("DANCE", "9") == [
        "STRING ACK_9 DANCE",
        "STATUS CURRENT_STATUS 12 [PLANNING] no such work phase",
    ]
    assert client.robot.hear(Message("GET_STATUS", "CURRENT_STATUS", b""), 0)
    assert client.heard() == ["STATUS CURRENT_STATUS 1 [PLANNING]"]
    for other in (Message("STRING", "hello", pack_string("x")), Message("TRANSFORM", "N01", b"")):
        assert not client.robot.hear(other, 0)
