"""Aiming: the common part of the error is found from few needles, a needle's own part is aimed off."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from controller.guidance import (
    AXIS_SIGMA_DEG,
    PRIOR_SHIFT_SIGMA_MM,
    PRIOR_TURN_SIGMA_DEG,
    TIP_SIGMA_MM,
    Landing,
    aim_rig_mm,
    estimate_rig,
    offset_rig_mm,
)
from planning.frame import RigidTransform
from tests.made_plan import POSE

COMMANDED = np.array([(-15.0, -10.0, 45.0), (20.0, -10.0, 44.0), (5.0, 25.0, 46.0)])


def landings_under(error: RigidTransform, scatter: np.ndarray | None = None) -> list[Landing]:
    true_pose = error @ POSE
    tips = true_pose.apply(COMMANDED) + (0.0 if scatter is None else scatter)
    axis = true_pose.turn((0.0, 0.0, 1.0))
    return [Landing(c, t, axis) for c, t in zip(COMMANDED, tips, strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    shift=st.tuples(*[st.floats(-8, 8)] * 3),
    turn=st.tuples(*[st.floats(-2, 2)] * 3),
)
def test_a_rigid_set_up_error_is_mostly_undone(shift: tuple[float, ...], turn: tuple[float, ...]) -> None:
    error = RigidTransform.from_rotation_vector(turn, shift, POSE.apply((0.0, 0.0, 40.0)))
    estimate = estimate_rig(POSE, landings_under(error))
    deep = np.array([(-15.0, 10.0, 80.0), (20.0, 0.0, 80.0)])
    before = np.linalg.norm(POSE.apply(deep) - (error @ POSE).apply(deep), axis=1)
    after = np.linalg.norm(estimate.patient_from_rig.apply(deep) - (error @ POSE).apply(deep), axis=1)
    assert estimate.is_usable
    assert np.all(after <= 0.25 * before + 0.3)


def test_scatter_of_tips_is_not_turned_into_rotation() -> None:
    """A millimetre of scatter over 30 mm would be degrees of rotation without the prior."""
    rng = np.random.default_rng(4)
    worst = 0.0
    for _ in range(50):
        estimate = estimate_rig(POSE, landings_under(RigidTransform.identity(), rng.normal(0, 1.0, (3, 3))))
        worst = max(worst, (estimate.patient_from_rig @ POSE.inverse()).rotation_angle_deg())
    assert worst < 3.0


def test_needles_that_no_pose_explains_are_refused() -> None:
    scatter = np.array([(9.0, 0, 0), (-9.0, 0, 0), (0, 9.0, 9.0)])
    assert not estimate_rig(POSE, landings_under(RigidTransform.identity(), scatter)).is_usable


@settings(max_examples=40, deadline=None)
@given(
    shift=st.tuples(*[st.floats(-8, 8)] * 3),
    turn=st.tuples(*[st.floats(-4, 4)] * 3),
    scatter=st.lists(st.floats(-1, 1), min_size=9, max_size=9),
    count=st.integers(1, 3),
)
def test_no_pose_near_the_estimate_explains_the_needles_better(
    shift: tuple[float, ...], turn: tuple[float, ...], scatter: list[float], count: int
) -> None:
    """The law of the estimate: the weighted squares of tips, axes and prior have their minimum there."""
    error = RigidTransform.from_rotation_vector(turn, shift, POSE.apply((0.0, 0.0, 40.0)))
    landings = landings_under(error, np.reshape(scatter, (3, 3)))[:count]
    tips = POSE.apply(np.array([landing.commanded_rig_mm for landing in landings]))
    centre = tips.mean(axis=0)

    def cost(move: RigidTransform) -> float:
        turned_deg = Rotation.from_matrix(move.rotation).as_rotvec(degrees=True)
        moved_mm = move.apply(centre) - centre
        off = [
            float(np.sum((move.apply(t) - landing.found_patient_mm) ** 2)) / TIP_SIGMA_MM**2
            + float(
                np.sum(np.degrees(move.turn(POSE.turn((0.0, 0.0, 1.0))) - landing.found_direction) ** 2)
                / AXIS_SIGMA_DEG**2
            )
            for t, landing in zip(tips, landings, strict=True)
        ]
        prior = (
            np.sum(turned_deg**2) / PRIOR_TURN_SIGMA_DEG**2 + np.sum(moved_mm**2) / PRIOR_SHIFT_SIGMA_MM**2
        )
        return sum(off) + float(prior)

    best = estimate_rig(POSE, landings).patient_from_rig @ POSE.inverse()
    least = cost(best)
    for axis in np.vstack([np.eye(3), -np.eye(3)]):
        nudged = RigidTransform.from_rotation_vector(0.02 * axis, (0.0, 0.0, 0.0), best.apply(centre)) @ best
        assert cost(nudged) > least
        assert cost(RigidTransform(np.eye(3), 0.02 * axis) @ best) > least


def test_two_needles_find_a_turn_about_the_line_between_their_tips_by_their_axes() -> None:
    """Two tips alone say nothing of a turn about the line through them; the axes do."""
    line = POSE.apply(COMMANDED[1]) - POSE.apply(COMMANDED[0])
    turn = 3.0 * line / np.linalg.norm(line)
    error = RigidTransform.from_rotation_vector(turn, (0.0, 0.0, 0.0), POSE.apply(COMMANDED[0]))
    landings = landings_under(error)[:2]
    found = (estimate_rig(POSE, landings).patient_from_rig @ POSE.inverse()).rotation_angle_deg()
    assert 1.5 < found < 3.0, "half of the evidence is the prior's"
    unturned = [replace(landing, found_direction=POSE.turn((0.0, 0.0, 1.0))) for landing in landings]
    assert (estimate_rig(POSE, unturned).patient_from_rig @ POSE.inverse()).rotation_angle_deg() < 0.1


def test_an_estimate_that_does_not_settle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RigidTransform.from_rotation_vector((4.0, 0.0, 0.0), (3.0, 0.0, 0.0))
    assert estimate_rig(POSE, landings_under(error)).is_usable
    monkeypatch.setattr("controller.guidance.MOST_STEPS", 1)
    assert not estimate_rig(POSE, landings_under(error)).is_usable


def test_one_needle_is_enough_for_a_shift_and_none_is_an_error() -> None:
    error = RigidTransform.from_rotation_vector((0, 0, 0), (4.0, 0.0, 0.0))
    estimate = estimate_rig(POSE, landings_under(error)[:1])
    assert np.linalg.norm(estimate.patient_from_rig.translation_mm - (error @ POSE).translation_mm) < 0.3
    with pytest.raises(ValueError, match="no needle"):
        estimate_rig(POSE, [])


def test_aiming_off_by_what_was_measured_hits() -> None:
    target = POSE.apply((10.0, 5.0, 80.0))
    own_error = np.array([1.5, -2.0, 2.5])
    first = aim_rig_mm(POSE, target, [])
    assert np.allclose(first, (10.0, 5.0, 80.0), atol=1e-3)
    found = POSE.apply(first + own_error)
    offset = offset_rig_mm(POSE, Landing(first, found, POSE.turn((0, 0, 1.0))))
    second = aim_rig_mm(POSE, target, [offset])
    assert np.linalg.norm(POSE.apply(second + own_error) - target) < 2e-3
