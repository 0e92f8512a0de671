"""Frames and grids: transforms invert and compose, voxels and points are each other's inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.frame import Floats, RigidTransform, angle_between_deg, unit
from planning.mask import Mask
from planning.volume import Grid

TURN = st.tuples(*[st.floats(-179, 179)] * 3)
SHIFT = st.tuples(*[st.floats(-300, 300)] * 3)
POINTS = st.lists(SHIFT, min_size=1, max_size=5)
TRANSFORM = st.builds(RigidTransform.from_rotation_vector, TURN, SHIFT, SHIFT)


@settings(max_examples=60, deadline=None)
@given(TRANSFORM, POINTS)
def test_a_transform_and_its_inverse_undo_each_other(
    a_from_b: RigidTransform, points: list[tuple[float, ...]]
) -> None:
    there = a_from_b.apply(points)
    assert np.allclose(a_from_b.inverse().apply(there), points, atol=1e-8)
    assert np.allclose((a_from_b @ a_from_b.inverse()).matrix(), np.eye(4), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(TRANSFORM, TRANSFORM, POINTS)
def test_composition_is_one_after_the_other(
    a_from_b: RigidTransform, b_from_c: RigidTransform, points: list[tuple[float, ...]]
) -> None:
    assert np.allclose((a_from_b @ b_from_c).apply(points), a_from_b.apply(b_from_c.apply(points)), atol=1e-8)
    assert np.allclose(RigidTransform.from_matrix(a_from_b.matrix()).apply(points), a_from_b.apply(points))


@settings(max_examples=60, deadline=None)
@given(TRANSFORM, POINTS)
def test_lengths_and_angles_stay(a_from_b: RigidTransform, points: list[tuple[float, ...]]) -> None:
    ends = np.vstack([points, (0.0, 0.0, 0.0)])
    before = np.linalg.norm(ends[:, None] - ends[None], axis=2)
    moved = a_from_b.apply(ends)
    assert np.allclose(np.linalg.norm(moved[:, None] - moved[None], axis=2), before, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.001, 179.0),
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    SHIFT,
)
def test_turning_about_a_point_leaves_it_and_has_the_angle(
    angle_deg: float, axis: tuple[float, ...], about: tuple[float, ...]
) -> None:
    turn = RigidTransform.from_rotation_vector(angle_deg * unit(axis), (0.0, 0.0, 0.0), about)
    assert np.allclose(turn.apply(about), about, atol=1e-9)
    assert turn.rotation_angle_deg() == pytest.approx(angle_deg, abs=1e-6)


def test_what_is_no_rigid_transform_is_refused() -> None:
    with pytest.raises(ValueError, match="orthonormal"):
        RigidTransform(np.diag([1.0, 1.0, -1.0]), np.zeros(3))
    with pytest.raises(ValueError, match="orthonormal"):
        RigidTransform(2.0 * np.eye(3), np.zeros(3))
    with pytest.raises(ValueError, match="homogeneous"):
        RigidTransform.from_matrix(np.ones((4, 4)))
    with pytest.raises(ValueError, match="length zero"):
        unit((0.0, 0.0, 0.0))


def test_small_angles_are_exact() -> None:
    tiny = np.radians(1e-6)
    assert angle_between_deg((1, 0, 0), (np.cos(tiny), np.sin(tiny), 0)) == pytest.approx(1e-6, rel=1e-6)
    assert angle_between_deg((1, 0, 0), (-1, 0, 0)) == pytest.approx(180.0)


GRID = st.builds(
    Grid,
    st.tuples(*[st.integers(1, 40)] * 3),
    SHIFT,
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
)


@settings(max_examples=60, deadline=None)
@given(GRID, POINTS)
def test_voxel_and_point_are_each_others_inverse(grid: Grid, points: list[tuple[float, ...]]) -> None:
    assert np.allclose(grid.point_of(grid.index_of(points)), points, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(GRID, SHIFT, SHIFT)
def test_a_box_holds_exactly_the_voxels_between_its_corners(
    grid: Grid, one: tuple[float, ...], other: tuple[float, ...]
) -> None:
    low, high = np.minimum(one, other), np.maximum(one, other)
    box = grid.box(low, high)
    inside = np.zeros(grid.shape, dtype=bool)
    inside[box] = True
    centres = grid.point_of(np.indices(grid.shape).reshape(3, -1).T)
    slack = 1e-6 * np.asarray(grid.spacing_mm)  # a centre on the box's face may be taken for either

    def between(margin_mm: Floats) -> Mask:
        return np.all((centres >= low - margin_mm) & (centres <= high + margin_mm), axis=1).reshape(
            grid.shape
        )

    assert np.all(inside[between(-slack)])
    assert np.all(between(slack)[inside])
    cropped = grid.cropped(box)
    if inside.any():
        assert np.allclose(cropped.point_of((0, 0, 0)), centres[np.flatnonzero(inside.ravel())[0]])
        assert int(np.prod(cropped.shape)) == int(inside.sum())
