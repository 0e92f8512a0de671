"""Needle paths: rays against formulas, holes with their reasons, and the laws every planned path keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import PlannedCase
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from planning.approach import find_approach, sphere_of_directions
from planning.clearance import LEAVES_BODY, ClearanceMap, clearance_map, depths_backwards, trace
from planning.hole_reasons import why_holes
from planning.needles import RigReach, hole_cell, hole_name, needle_set, template_pose
from planning.refusal import AskedWrongly
from planning.site_protocol import load_site_protocol
from planning.spread import spread_points
from planning.target_depth import target_of
from planning.volume import Grid

RULES = load_site_protocol("general").needle
GRID = Grid((60, 70, 80), (-79.0, -69.0, -88.5), (2.0, 2.0, 3.0))
Z, Y, X = np.meshgrid(*(GRID.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij")
BALL = X**2 + Y**2 + Z**2 <= 60.0**2
TUMOUR = X**2 + Y**2 + Z**2 <= 15.0**2


def with_obstacle(obstacle: np.ndarray, clearance_mm: float = 5.0, body: np.ndarray = BALL) -> ClearanceMap:
    return clearance_map(GRID, body, {"Bone": obstacle}, {"Bone": clearance_mm})


@pytest.mark.parametrize(
    ("column", "row", "name"),
    [(0, 0, "A1"), (25, 11, "Z12"), (26, 0, "AA1"), (701, 0, "ZZ1"), (702, 1, "AAA2")],
)
def test_holes_are_named_like_a_spreadsheet(column: int, row: int, name: str) -> None:
    assert hole_name(column, row) == name


@given(
    st.tuples(st.integers(0, 2000), st.integers(0, 200)), st.tuples(st.integers(0, 2000), st.integers(0, 200))
)
def test_no_two_holes_share_a_name(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (hole_name(*one) == hole_name(*other)) == (one == other)


@given(st.integers(0, 999), st.floats(-180.0, 180.0))
def test_a_template_pose_is_a_right_handed_frame(n: int, turn_deg: float) -> None:
    direction = sphere_of_directions(1000)[n]
    axes = template_pose(direction, np.zeros(3), 5.0, turn_deg=turn_deg).axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    np.testing.assert_allclose(axes[2], direction, atol=1e-12)


@pytest.mark.parametrize("clearance_mm", [0.0, 2.0, 5.0, 9.0])
def test_a_ray_stops_its_clearance_before_a_wall(clearance_mm: float) -> None:
    wall = (X >= 20.0) & (X <= 26.0)  # its voxels' boxes begin at x = 20: centres lie at odd mm
    rays = trace(
        with_obstacle(wall, clearance_mm), np.array([[-100.0, 0.0, 0.0]]), np.array([1.0, 0.0, 0.0]), 250.0
    )
    assert rays.stop[0] == 1
    assert 100.0 - rays.entry_t[0] == pytest.approx(60.0, abs=1.0)
    assert 20.0 - clearance_mm - 0.55 <= rays.reach_t[0] - 100.0 <= 20.0 - clearance_mm


def test_a_ray_through_an_empty_ball_leaves_it_on_the_other_side() -> None:
    rays = trace(
        with_obstacle(np.zeros_like(BALL)), np.array([[-100.0, 0.0, 30.0]]), np.array([1.0, 0.0, 0.0]), 250.0
    )
    assert rays.stop[0] == LEAVES_BODY
    half = np.sqrt(60.0**2 - 30.0**2)
    assert rays.entry_t[0] - 100.0 == pytest.approx(-half, abs=1.5)
    assert rays.reach_t[0] - 100.0 == pytest.approx(half, abs=1.5)


def test_depth_behind_the_skin_of_a_ball_is_its_radius_from_every_side() -> None:
    depth = depths_backwards(with_obstacle(np.zeros_like(BALL)), np.zeros((1, 3)), sphere_of_directions(50))
    np.testing.assert_allclose(depth, 60.0, atol=5.0)


def test_a_path_does_not_come_through_another_part_of_the_body() -> None:
    arm = (np.abs(X + 70.0) <= 6.0) & (np.abs(Z) <= 80.0)
    depth = depths_backwards(
        with_obstacle(np.zeros_like(BALL), body=BALL | arm),
        np.zeros((1, 3)),
        np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
    )
    assert np.isnan(depth[0, 0])
    assert np.isfinite(depth[1, 0])


def test_each_hole_over_the_target_is_a_path_or_has_a_reason() -> None:
    half_a_wall = (np.abs(X + 40.0) <= 3.0) & (Y >= 0.0)
    pose = template_pose(np.array([1.0, 0.0, 0.0]), np.zeros(3), 5.0)
    holes = needle_set(with_obstacle(half_a_wall), target_of(TUMOUR, GRID), pose, RULES, RigReach())
    names = [path.hole for path in holes.paths] + [hole.hole for hole in holes.rejected]
    assert len(names) == len(set(names))
    assert all(path.entry_mm[1] < -5.0 for path in holes.paths)
    stopped = [hole for hole in holes.rejected if hole.structure == "Bone"]
    assert stopped
    assert all("Bone" in hole.reason and "5 mm" in hole.reason for hole in stopped)
    assert {hole.reason for hole in holes.rejected if hole.structure is None} == {"misses the target"}


def test_a_target_out_of_reach_says_so() -> None:
    pose = template_pose(np.array([1.0, 0.0, 0.0]), np.zeros(3), 5.0)
    short = replace(RULES, max_depth_mm=30.0)
    holes = needle_set(with_obstacle(np.zeros_like(BALL)), target_of(TUMOUR, GRID), pose, short, RigReach())
    assert not holes.paths
    assert any(hole.reason.startswith("out of reach") for hole in holes.rejected)


def test_a_target_shut_in_bone_is_refused_with_what_is_in_the_way() -> None:
    distance = np.sqrt(X**2 + Y**2 + Z**2)
    shell = (distance >= 25.0) & (distance <= 32.0)
    with pytest.raises(AskedWrongly, match=r"target 'GTV'.*Bone 100 %") as refusal:
        find_approach(
            with_obstacle(shell),
            target_of(TUMOUR, GRID),
            RULES,
            RigReach(),
            up=np.array([0.0, -1.0, 0.0]),
            couch_keep_out_deg=60.0,
            target_name="GTV",
        )
    assert "\n" not in str(refusal.value)


def test_sample_points_lie_in_the_mask_and_spread_evenly() -> None:
    points = spread_points(TUMOUR, GRID, 600)
    assert 500 <= len(points) <= 720
    assert np.linalg.norm(points, axis=1).max() <= 15.0 + 2.1
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=0.7)
    nearest, _ = cKDTree(points).query(points, k=2)
    assert nearest[:, 1].min() > 0.8 * nearest[:, 1].max()


@pytest.mark.parametrize("which", ["example_plan", "phantom_plan"])
def test_no_planned_path_comes_nearer_than_its_clearance(which: str, request: pytest.FixtureRequest) -> None:
    done: PlannedCase = request.getfixturevalue(which)
    anatomy, grid = done.anatomy, done.anatomy.grid
    half_mm = 0.5 * np.array(grid.spacing_mm)
    way = np.concatenate(
        [
            np.linspace(needle.entry_mm, needle.tip_mm, int(needle.depth_mm / 0.25))
            for needle in done.result.plan.needles
        ]
    )
    assert anatomy.forbidden
    for name, clearance_mm in anatomy.forbidden.items():
        centres = grid.point_of(np.argwhere(anatomy.organs[name]))
        tree = cKDTree(centres)
        reach_mm = clearance_mm + float(np.linalg.norm(half_mm))
        distance, _ = tree.query(way, distance_upper_bound=reach_mm)
        close = way[np.isfinite(distance)]
        # There, the distance to the box of every voxel whose box could be that near.
        for point, voxels in zip(close, tree.query_ball_point(close, reach_mm), strict=True):
            gap = np.maximum(np.abs(centres[voxels] - point) - half_mm, 0.0)
            assert np.linalg.norm(gap, axis=1).min() >= clearance_mm - 1e-3, name


@pytest.mark.parametrize("which", ["example_plan", "phantom_plan"])
def test_every_path_comes_from_free_air_and_stays_in_the_body(
    which: str, request: pytest.FixtureRequest
) -> None:
    done: PlannedCase = request.getfixturevalue(which)
    body, grid = done.anatomy.body, done.anatomy.grid

    def in_body(points: np.ndarray) -> np.ndarray:
        index = np.floor(grid.index_of(points) + 0.5).astype(int)
        inside = np.all((index >= 0) & (index < grid.shape), axis=1)
        k, j, i = np.where(inside[:, None], index, 0).T
        return np.asarray(body[k, j, i] & inside)

    voxel_mm = float(np.linalg.norm(grid.spacing_mm))
    for needle in done.result.plan.needles:
        assert in_body(
            np.linspace(np.add(needle.entry_mm, voxel_mm * needle.direction), needle.tip_mm, 200)
        ).all()
        outside = np.linspace(voxel_mm, 200.0, 400)[:, None] * -needle.direction + needle.entry_mm
        assert not in_body(outside).any()


def test_every_hole_of_a_plan_says_why_it_carries_a_needle_or_none(phantom_plan: PlannedCase) -> None:
    done = phantom_plan
    plan, protocol = done.result.plan, done.protocol
    answers = {answer.hole: answer.words for answer in why_holes(plan, done.anatomy, protocol)}
    assert {hole for hole, words in answers.items() if words.startswith("carries")} == {
        needle.hole for needle in plan.needles
    }
    # What the planner rejected is rejected for the same reason when asked afterwards.
    for hole in done.result.rejected_holes:
        assert answers.get(hole.hole, "misses the target") == hole.reason
    beside = plan.needles[0].hole
    column, row = hole_cell(beside) or (0, 0)
    (answer,) = why_holes(plan, done.anatomy, protocol, (hole_name(column, row + 1).lower(),))
    assert answer.words.startswith(("carries", "open, but")) or answer.words in {
        hole.reason for hole in done.result.rejected_holes
    }
    with pytest.raises(AskedWrongly, match="no hole's name"):
        why_holes(plan, done.anatomy, protocol, ("17",))


def test_no_needle_enters_near_what_entries_keep_away_from() -> None:
    eye = (X - 14.0) ** 2 + (Y + 58.0) ** 2 + Z**2 <= 4.0**2
    zoned = clearance_map(GRID, BALL, {"Eye": eye}, {}, no_entry=("Eye",), no_entry_mm=6.0)
    pose = template_pose(np.array([0.0, 1.0, 0.0]), np.zeros(3), 5.0)
    holes = needle_set(zoned, target_of(TUMOUR, GRID), pose, RULES, RigReach())
    entries = np.array([path.entry_mm for path in holes.paths])
    near = cKDTree(np.stack([X[eye], Y[eye], Z[eye]], axis=1)).query(entries)[0]
    assert near.min() > 6.0 - 2.0  # half a voxel's diagonal, the entry's own voxel being meant
    refused = [hole for hole in holes.rejected if hole.structure == "Eye"]
    assert refused
    assert "enters within 6 mm of it" in refused[0].reason
