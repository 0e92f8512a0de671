"""Oblique needles: distances in space, what they reach that parallel ones don't, and the laws a whole plan keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import PlannedCase
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from console.cli import main
from planning.approach import Wish
from planning.clearance import ClearanceMap, clearance_map
from planning.frame import angle_between_deg
from planning.needle_gap import all_distances_mm, segment_distances_mm
from planning.needles import NeedleSet, RigReach, needle_set, template_pose
from planning.oblique import cone_of_directions, gaps_mm, oblique_set
from planning.path_rules import broken_in_patient
from planning.plan import Plan, rounded_point
from planning.plan_rules import broken_in_plan
from planning.planner import PlanResult, make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from planning.target_depth import target_of
from planning.volume import Grid

RULES = load_site_protocol("general").needle
GRID = Grid((60, 70, 80), (-79.0, -69.0, -88.5), (2.0, 2.0, 3.0))
Z, Y, X = np.meshgrid(*(GRID.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij")
BALL = X**2 + Y**2 + Z**2 <= 60.0**2
TUMOUR = X**2 + Y**2 + Z**2 <= 15.0**2
TARGET = target_of(TUMOUR, GRID)
# A rib before the middle of the target, seen from -y: parallel needles along +y can't pass it.
RIB = (np.abs(X) <= 6.0) & (Y >= -45.0) & (Y <= -35.0)

Triple = tuple[float, float, float]
corner = st.tuples(*[st.floats(-30.0, 30.0).map(lambda v: round(v, 2))] * 3)


@given(corner, corner, corner, corner)
def test_segments_are_as_far_apart_as_their_nearest_points(
    a: Triple, b: Triple, c: Triple, d: Triple
) -> None:
    p1, q1, p2, q2 = (np.array(end) for end in (a, b, c, d))
    if min(np.linalg.norm(q1 - p1), np.linalg.norm(q2 - p2)) < 0.5:
        return
    found = float(segment_distances_mm(p1[None], q1[None], p2[None], q2[None])[0])
    dense = np.linspace(p1, q1, 400)
    part = np.clip((dense - p2) @ (q2 - p2) / ((q2 - p2) @ (q2 - p2)), 0.0, 1.0)
    wanted = np.linalg.norm(dense - p2 - part[:, None] * (q2 - p2), axis=1).min()
    assert found <= wanted + 1e-9
    assert found >= wanted - 0.5 * np.linalg.norm(q1 - p1) / 399.0 - 1e-9
    assert all_distances_mm(np.array([p1, p2]), np.array([q1, q2]))[0, 1] == pytest.approx(found, abs=1e-6)


def test_directions_of_a_cone_stand_within_its_tilt() -> None:
    cone = cone_of_directions(np.eye(3), 20.0)
    angles = [angle_between_deg(direction, (0.0, 0.0, 1.0)) for direction in cone]
    assert angles[0] == 0.0
    assert max(angles) == pytest.approx(20.0)
    assert len({tuple(np.round(direction, 6)) for direction in cone}) == len(cone)


def behind_the_rib() -> tuple[ClearanceMap, NeedleSet, NeedleSet]:
    clearance = clearance_map(GRID, BALL, {"Rib": RIB}, {"Rib": 3.0})
    pose = template_pose(np.array([0.0, 1.0, 0.0]), np.zeros(3), 5.0)
    slanted = oblique_set(
        clearance,
        TARGET,
        pose,
        RULES,
        RigReach(),
        up=np.array([0.0, -1.0, 0.0]),
        couch_keep_out_deg=60.0,
    )
    return clearance, needle_set(clearance, TARGET, pose, RULES, RigReach()), slanted


def test_oblique_needles_reach_what_lies_behind_an_obstacle() -> None:
    _, straight, slanted = behind_the_rib()

    def shown(needles: NeedleSet) -> float:
        centres, _, _ = needles.seed_positions()
        return float((cKDTree(centres).query(TARGET.points_mm)[0] <= 4.0).mean())

    assert shown(straight) < 0.75
    assert shown(slanted) > 0.97
    assert any("Rib" in hole.reason for hole in slanted.rejected)
    # Each path leads through the hole it names, in the template's face.
    for path in slanted.paths:
        at = (path.at_mm(0.0, slanted.pose) - slanted.pose.centre_mm) @ slanted.pose.axes.T
        assert at[2] == pytest.approx(0.0, abs=1e-9)
        np.testing.assert_allclose(np.round(at[:2] / 5.0), at[:2] / 5.0, atol=1e-9)
        assert path.entry_along_mm >= RULES.template_gap_mm - 1e-6


def test_paths_that_share_a_hole_or_cross_have_no_distance() -> None:
    _, _, slanted = behind_the_rib()
    gaps = gaps_mm(slanted, RULES)
    holes = np.array([(path.column, path.row) for path in slanted.paths])
    same = (holes[:, None] == holes[None]).all(axis=2)
    assert same.sum() > len(holes)
    assert gaps[same].max() == 0.0
    np.testing.assert_array_equal(gaps, gaps.T)


@pytest.fixture(scope="module")
def oblique(phantom_plan: PlannedCase) -> PlanResult:
    """The made patient with oblique needles, from a side where a rib of needles alone would do; little effort."""
    return make_plan(
        phantom_plan.case,
        phantom_plan.anatomy,
        phantom_plan.protocol,
        source=load_source(),
        kicks=60,
        wish=Wish(oblique=True),
    )


def test_an_oblique_plan_keeps_every_rule(oblique: PlanResult, phantom_plan: PlannedCase) -> None:
    protocol, plan = phantom_plan.protocol, oblique.plan
    assert plan.is_oblique
    assert broken_in_plan(plan, protocol, load_source(), RigReach()) == ()
    broken, figures = broken_in_patient(plan, phantom_plan.anatomy, protocol)
    assert broken == ()
    assert min(figure.apart_mm for figure in figures) >= protocol.needle.min_distance_mm - 0.01
    axes = [needle.direction for needle in plan.needles]
    assert max(angle_between_deg(a, b) for a in axes for b in axes) <= protocol.needle.max_angle_deg + 0.02


def test_an_oblique_plan_equals_its_file(oblique: PlanResult, tmp_path: Path) -> None:
    oblique.plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == oblique.plan


def test_needles_tilted_by_hand_break_the_rules_of_angle_and_distance(
    oblique: PlanResult, phantom_plan: PlannedCase
) -> None:
    plan, first = oblique.plan, oblique.plan.needles[0]
    rig = plan.planned_patient_from_rig()
    far = np.array(first.tip_mm) + rig.turn([0.0, 0.0, -60.0]) + rig.turn([40.0, 0.0, 0.0])
    tilted = replace(first, entry_mm=rounded_point(far))
    crossing = replace(plan.needles[1], hole="B9", entry_mm=first.entry_mm, tip_mm=first.tip_mm)
    bent = replace(plan, needles=(tilted, *plan.needles[1:]))
    rules = {b.rule for b in broken_in_plan(bent, phantom_plan.protocol, load_source(), RigReach())}
    assert "angle" in rules
    bent = replace(plan, needles=(first, crossing, *plan.needles[2:]))
    rules = {b.rule for b in broken_in_plan(bent, phantom_plan.protocol, load_source(), RigReach())}
    assert "needle-distance" in rules


@pytest.mark.parametrize(
    "command",
    [
        ["run", "PLAN", "--rig", "manual", "--applicator", "manual", "--scans", "X"],
        ["simulate", "--link", "X", "--plan", "PLAN", "--case", "."],
    ],
)
def test_what_can_not_be_played_yet_is_refused_in_one_sentence(
    command: list[str], oblique: PlanResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oblique.plan.save(tmp_path / "plan.json")
    places = {"PLAN": str(tmp_path / "plan.json"), "X": str(tmp_path / "x")}
    assert main([places.get(word, word) for word in command]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "oblique" in said[0]
    assert not (tmp_path / "x").exists()
