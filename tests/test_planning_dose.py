"""Dose of many seeds: the fast path against the direct one, and the laws of superposition."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.dose import (
    dose_at_points_gy,
    dose_matrix_gy,
    dose_on_grid_gy,
    dose_per_u_gy,
    grid_around,
)
from planning.frame import RigidTransform
from planning.sources import load_source, source_names
from planning.volume import Grid

SEED = load_source()
SMALL = {"max_examples": 20, "deadline": None}
coordinate = st.floats(-40, 40)
point = st.tuples(coordinate, coordinate, coordinate)


def implant(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-20, 20, (count, 3)), rng.normal(size=(count, 3))


@pytest.mark.parametrize(("name", "formalism"), [*((name, "2d") for name in source_names()), ("6711", "1d")])
def test_fast_within_a_thousandth_of_direct(name: str, formalism: str) -> None:
    """Distances 2.5 to 200 mm, all angles, the neighbourhood of the axis in particular."""
    source = replace(load_source(name, allow_unverified=True), formalism=formalism)
    rng = np.random.default_rng(1)
    r = np.exp(rng.uniform(np.log(2.5), np.log(200.0), 40000))
    theta = np.radians(
        np.where(rng.random(r.size) < 0.4, np.abs(rng.normal(0, 3, r.size)), rng.uniform(0, 180, r.size))
    )
    away, along = r * np.sin(theta), r * np.cos(theta)
    spin = rng.uniform(0, 2 * np.pi, r.size)
    points = np.stack([away * np.cos(spin), away * np.sin(spin), along], axis=1)
    turn = RigidTransform.from_rotation_vector((20.0, -50.0, 70.0), (1.0, 2.0, 3.0))
    centre, axis = turn.apply((0.0, 0.0, 0.0)), turn.turn((0.0, 0.0, 1.0))
    fast = dose_matrix_gy(source, [centre], [axis], 1.0, turn.apply(points))[0]
    direct = dose_at_points_gy(source, [centre], [axis], 1.0, turn.apply(points))
    assert np.max(np.abs(fast / direct - 1.0)) < 1e-3
    assert direct == pytest.approx(dose_per_u_gy(source, along, away), rel=1e-6)


def test_grid_is_the_sum_of_the_matrix_and_of_the_direct_dose() -> None:
    centres, axes = implant(7)
    strength = np.linspace(0.4, 1.0, 7)
    grid = Grid((9, 11, 13), (-30.0, -25.0, -20.0), (5.0, 4.5, 4.0))
    dose = dose_on_grid_gy(SEED, centres, axes, strength, grid)
    points = grid.point_of(np.stack(np.indices(grid.shape), axis=-1).reshape(-1, 3))
    assert dose.dtype == np.float32
    assert dose.shape == grid.shape
    assert dose.ravel() == pytest.approx(
        dose_matrix_gy(SEED, centres, axes, strength, points).sum(axis=0), rel=1e-5
    )
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).min(axis=1)
    direct = dose_at_points_gy(SEED, centres, axes, strength, points)
    assert np.max(np.abs(dose.ravel() / direct - 1.0)[nearest >= 2.5]) < 1e-3


def test_same_bits_on_any_number_of_threads() -> None:
    centres, axes = implant(5)
    grid = Grid((17, 10, 10), (-20.0, -20.0, -20.0), (4.0, 4.0, 2.5))
    one = dose_on_grid_gy(SEED, centres, axes, 0.8, grid)
    assert np.array_equal(one, dose_on_grid_gy(SEED, centres, axes, 0.8, grid, threads=3))
    with ThreadPoolExecutor(3) as pool:  # and from several threads at once
        many = [pool.submit(dose_on_grid_gy, SEED, centres, axes, 0.8, grid, threads=2) for _ in range(4)]
        assert all(np.array_equal(one, each.result()) for each in many)


def test_finite_and_positive_inside_the_seed_and_far_away() -> None:
    points = np.array([[0, 0, 0], [0, 0, 2.2], [0.39, 0, 0], [0, 0, 2.3], [700, 0, 0], [0, 0, -2000.0]])
    fast = dose_matrix_gy(SEED, [[0, 0, 0]], [[0, 0, 1]], 1.0, points)[0]
    direct = dose_at_points_gy(SEED, [[0, 0, 0]], [[0, 0, 1]], 1.0, points)
    for dose in (fast, direct):
        assert np.all(np.isfinite(dose))
        assert np.all(dose > 0)


@settings(**SMALL)
@given(point, point, st.floats(0.01, 5), st.floats(0.1, 10), st.integers(0, 1000))
def test_linear_in_strength_and_additive(at, where, strength: float, factor: float, seed: int) -> None:
    (centre,), (axis,) = implant(1, seed)
    pair = [at, centre], [axis, axis[::-1]]
    alone = [dose_at_points_gy(SEED, [c], [a], strength, [where])[0] for c, a in zip(*pair, strict=True)]
    assert dose_at_points_gy(SEED, *pair, strength, [where])[0] == pytest.approx(sum(alone))
    assert dose_at_points_gy(SEED, *pair, strength * factor, [where])[0] == pytest.approx(sum(alone) * factor)


@settings(**SMALL)
@given(point, st.tuples(*[st.floats(-180, 180)] * 3), point, st.integers(0, 1000))
def test_turning_everything_changes_nothing(where, turn_deg, shift, seed: int) -> None:
    centres, axes = implant(3, seed)
    move = RigidTransform.from_rotation_vector(turn_deg, shift)
    before = dose_at_points_gy(SEED, centres, axes, 0.8, [where])
    after = dose_at_points_gy(SEED, move.apply(centres), move.turn(axes), 0.8, [move.apply(where)])
    assert after == pytest.approx(before, rel=1e-6)


def test_direction_matters_but_not_its_length_or_sign() -> None:
    where, centre = [[0.0, 0.0, 20.0]], [[0.0, 0.0, 0.0]]
    axial = dose_at_points_gy(SEED, centre, [[0, 0, 1]], 1.0, where)
    assert dose_at_points_gy(SEED, centre, [[0, 0, -7]], 1.0, where) == pytest.approx(axial)
    across = dose_at_points_gy(SEED, centre, [[1, 0, 0]], 1.0, where)
    assert axial / across == pytest.approx(0.442, rel=0.01)  # F(2 cm, 0), and G differs by 0.6 %
    with pytest.raises(ValueError, match="directions"):
        dose_at_points_gy(SEED, centre, [[0, 0, 1], [1, 0, 0]], 1.0, where)


def test_no_seeds_no_dose() -> None:
    grid = Grid((2, 2, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert not dose_on_grid_gy(SEED, np.empty((0, 3)), np.empty((0, 3)), 0.8, grid).any()


def test_grid_around_holds_points_and_margin() -> None:
    grid = grid_around([[1.3, -2.2, 7.0], [5.0, 4.0, 9.9]], 10.0, 2.0)
    for axis, (low, high) in enumerate(((1.3, 5.0), (-2.2, 4.0), (7.0, 9.9))):
        centres = grid.centres_mm(axis)
        assert centres[0] <= low - 10.0
        assert centres[-1] >= high + 10.0
        assert np.allclose(centres / 2.0, np.round(centres / 2.0))
