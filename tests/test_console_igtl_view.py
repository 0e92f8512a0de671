"""What clients are told of a whole procedure, beside what its tissue and its CTs know of the needles."""

from __future__ import annotations

import numpy as np
import pytest

from console.igtl.body import Status, unpack_points
from console.igtl.ras import ras_point
from console.igtl.told import SharedTick, Told
from console.igtl.view import RunView
from controller.journal import Record
from controller.knowledge import ProcedureSettings
from tests.igtl_room import STANDING, a_view, matrix_of, played, record_news, snapshot_news
from tests.made_plan import POSE, made_plan

PLAN = made_plan(3, 2, 2)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return played(PLAN, tmp_path_factory.mktemp("played"))


def test_needles_are_where_the_newest_ct_shows_them(records: list[Record]) -> None:
    view, told = a_view(PLAN), 0
    for record in records:
        view.take(record_news(record))
        if record.body.get("event") != "ScanAnalysed":
            continue
        findings = record.body["findings"]
        poses = view.needle_poses()
        for needle in findings["needles"]:
            told += 1
            pose = poses[needle["planned"]]
            assert pose.translation_mm == pytest.approx(needle["tip_mm"], abs=1e-3)
            assert pose.turn([0.0, 0.0, 1.0]) == pytest.approx(needle["direction"], abs=1e-3)
    assert told >= len(PLAN.reference_needles) + len(PLAN.needles)


def test_needles_come_with_their_insertion_and_go_with_their_last_seed(records: list[Record]) -> None:
    view = a_view(PLAN)
    counts = []
    for record in records:
        view.take(record_news(record))
        counts.append(len(view.needle_poses()))
    assert counts[0] == counts[-1] == 0
    assert max(counts) == len(PLAN.needles)
    assert sorted(view.seeds()) == [seed.number for seed in PLAN.seeds]


def test_a_needle_is_drawn_back_as_its_seeds_are_delivered(records: list[Record]) -> None:
    """After RetractNeedle to z the tip stands z behind where it was, along its own axis."""
    view, seen = a_view(PLAN), 0
    before: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    for record in records:
        view.take(record_news(record))
        poses = view.needle_poses()
        if record.body.get("event") == "ScanAnalysed":
            before = {name: pose.translation_mm for name, pose in poses.items()}
        if record.body.get("event") == "SeedDropped":
            drawn = [
                name
                for name, at in before.items()
                if name in poses and np.any(poses[name].translation_mm != at)
            ]
            for name in drawn:
                back = before[name] - poses[name].translation_mm
                along = float(back @ poses[name].turn([0.0, 0.0, 1.0]))
                assert np.linalg.norm(back) == pytest.approx(along)
                assert any(along == pytest.approx(s.retraction_mm, abs=0.11) for s in PLAN.needle(name).seeds)
                seen += 1
    assert seen >= len(PLAN.seeds)


def test_the_carriage_is_told_in_the_patients_frame() -> None:
    view = a_view(PLAN)
    pose = view.carriage_pose()
    assert pose is not None
    assert pose.translation_mm == pytest.approx(POSE.apply((1.0, -2.0, -19.0)))
    lost = {**STANDING, "rig": {**STANDING["rig"], "position": "not known"}}
    assert a_view(PLAN, devices=lost).carriage_pose() is None
    view.lost()
    assert view.carriage_pose() is None  # nothing old is told as new


def test_planned_needles_and_points_are_told_in_ras() -> None:
    told = Told(a_view(PLAN))
    needle = PLAN.needles[1]
    matrix = matrix_of(told.lasting(), "N02_planned")
    assert matrix[:3, 3] == pytest.approx(ras_point(needle.tip_mm), abs=1e-4)
    entry = matrix @ [0.0, 0.0, -needle.depth_mm, 1.0]  # +z is the direction of insertion
    assert entry[:3] == pytest.approx(ras_point(needle.entry_mm), abs=1e-3)
    points = {body.name: unpack_points(body.content) for body in told.lasting() if body.kind == "POINT"}
    assert points["Targets"][1].place_mm == pytest.approx(ras_point(needle.tip_mm), abs=1e-4)
    assert points["Entries"][1].place_mm == pytest.approx(ras_point(needle.entry_mm), abs=1e-4)
    assert [p.name for p in points["SeedsPlanned"]] == [
        f"{n.name}-{s.number}" for n in PLAN.needles for s in n.seeds
    ]
    assert {p.group for p in points["SeedsPlanned"]} == {"Seed planned"}


def statuses(view: RunView) -> dict[str, Status]:
    return {b.name: Status.unpack(b.content) for b in Told(view).moving() if b.kind == "STATUS"}


def test_statuses_say_how_procedure_and_devices_do() -> None:
    view = a_view(PLAN)
    assert {name: status.code for name, status in statuses(view).items()} == {
        "Procedure": 1,
        "Rig": 1,
        "Applicator": 1,
    }
    view.take({"beat": 6.0})
    assert statuses(view)["Procedure"].code == 7  # a loop that hangs must not look alive
    latched = {**STANDING, "applicator": {**STANDING["applicator"], "latch": "JAM"}}
    view.take(snapshot_news(PLAN, state="HELD", devices=latched))
    assert statuses(view)["Applicator"].code == 18
    view.take({"beat": 0.1})
    assert statuses(view)["Procedure"].code == 13
    view.lost()
    assert statuses(view)["Procedure"].code == 19
    assert {statuses(view)[name].code for name in ("Rig", "Applicator")} == {13}


def test_records_of_another_plan_or_version_are_not_followed(records: list[Record]) -> None:
    view = a_view(PLAN)
    opened = record_news(records[0])
    opened["record"]["body"] = {**opened["record"]["body"], "plan": "0" * 64}
    view.take(opened)
    for record in records[1:5]:
        view.take(record_news(record))
    assert "another plan" in view.problem
    assert view.needle_poses() == {}
    assert view.tolerance_mm == ProcedureSettings().tolerance_mm


def test_a_tick_is_packed_once_for_all_and_only_what_changed_anew() -> None:
    view, asked = a_view(PLAN), []
    told = Told(view)
    tick = SharedTick(told, lambda: asked.append(1) or 5)
    assert tick.bytes_of(7) is tick.bytes_of(7)
    assert len(asked) == 1
    assert len(tick.bytes_of(8)) > len(tick.bytes_of(9))  # every other tick tells the plan too
    before = {(b.kind, b.name): b for b in [*told.moving(), *told.lasting()]}
    view.take(snapshot_news(PLAN, state="HELD"))
    after = {(b.kind, b.name): b for b in [*told.moving(), *told.lasting()]}
    assert [key for key in before if after[key] is not before[key]] == [("STATUS", "Procedure")]
