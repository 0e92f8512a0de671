"""The expected registration error: the published formula, chance, and what two needles leave open."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PlannedCase
from hypothesis import given
from hypothesis import strategies as st

from planning.frame import RigidTransform
from planning.reference_error import PRIOR_TURN_SIGMA_DEG, reference_error, registration_error_mm


def fitzpatrick(tips: np.ndarray, point: np.ndarray, fle: float) -> float:
    """Written out from the paper: distances from the principal axes."""
    centre = tips.mean(axis=0)
    _, _, axes = np.linalg.svd(tips - centre)
    total = 0.0
    for axis in axes:

        def off(q: np.ndarray, axis: np.ndarray = axis) -> np.ndarray:
            return q - (q @ axis)[..., None] * axis

        f2 = np.mean(np.sum(off(tips - centre) ** 2, axis=1))
        total += np.sum(off(point - centre) ** 2) / f2
    return float(np.sqrt(fle**2 / len(tips) * (1.0 + total / 3.0)))


@given(st.integers(0, 10_000), st.integers(3, 6))
def test_without_a_prior_it_is_the_formula_of_fitzpatrick(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    tips, point = 20.0 * rng.standard_normal((count, 3)), 50.0 * rng.standard_normal(3)
    found = registration_error_mm(tips, point[None], 1.7, turn_deg=None, shift_mm=None)[0]
    assert found == pytest.approx(fitzpatrick(tips, point, 1.7), rel=1e-6)


def test_it_is_what_registrations_of_chance_show() -> None:
    rng = np.random.default_rng(3)
    tips, point = np.array([[0.0, 0, 0], [40, 0, 0], [10, 30, 0]]), np.array([15.0, 10.0, 50.0])
    errors = []
    for _ in range(3000):
        seen = tips + 0.3 * rng.standard_normal(tips.shape)
        a, b = tips - tips.mean(axis=0), seen - seen.mean(axis=0)
        u, _, v = np.linalg.svd(a.T @ b)
        turn = (u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v).T
        errors.append(turn @ (point - tips.mean(axis=0)) + seen.mean(axis=0) - point)
    wanted = registration_error_mm(tips, point[None], 0.3 * np.sqrt(3.0), turn_deg=None, shift_mm=None)[0]
    assert np.sqrt(np.mean(np.sum(np.square(errors), axis=1))) == pytest.approx(wanted, rel=0.03)


def test_two_needles_leave_the_turn_about_their_line_as_it_was() -> None:
    pair, beside = np.array([[0.0, 0, 0], [40.0, 0, 0]]), np.array([[20.0, 0.0, 60.0]])
    turn = 60.0 * np.radians(PRIOR_TURN_SIGMA_DEG)
    assert registration_error_mm(pair, beside, 1e-3)[0] == pytest.approx(turn, rel=1e-3)
    assert registration_error_mm(np.vstack([pair, [[20.0, 30, 0]]]), beside, 1e-3)[0] < 0.01


def test_more_spread_and_more_needles_err_less_wherever_they_stand() -> None:
    tips, point = np.array([[0.0, 0, 0], [20, 0, 0], [5, 15, 0]]), np.array([[10.0, 5.0, 50.0]])
    near = registration_error_mm(tips, point, 2.0)[0]
    assert registration_error_mm(2.0 * tips - [10.0, 5.0, 0.0], point, 2.0)[0] < near
    assert registration_error_mm(np.vstack([tips, [[18.0, 18, 0]]]), point, 2.0)[0] < near
    moved = RigidTransform.from_rotation_vector((10.0, 20.0, 30.0), (5.0, 6.0, 7.0))
    assert registration_error_mm(moved.apply(tips), moved.apply(point), 2.0)[0] == pytest.approx(near)


def test_a_plan_states_what_its_references_are_expected_to_give(phantom_plan: PlannedCase) -> None:
    found = reference_error(phantom_plan.result.plan, phantom_plan.anatomy.grid.point_of(np.zeros((1, 3))))
    assert found is not None
    assert found.names == tuple(needle.name for needle in phantom_plan.result.plan.reference_needles)
    assert found.apart_mm[0] >= phantom_plan.protocol.needle.min_distance_mm - 0.01
    assert 2.0 < found.tip_mm < 3.0  # 0.72 mm, 1.24 degrees over 25 mm, 2.11 mm in depth
