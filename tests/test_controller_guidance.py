"""Aiming: the common part of the error is found from few needles, a needle's own part is aimed off."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from controller.guidance import (
    AXIS_SIGMA_DEG,
    TIP_SIGMA_MM,
    Landing,
    aim_rig_mm,
    estimate_rig,
    expected_again_mm,
    offset_rig_mm,
)
from planning.frame import RigidTransform
from planning.reference_error import PRIOR_SHIFT_SIGMA_MM, PRIOR_TURN_SIGMA_DEG
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
    """What is left is what the prior holds back: of the shift 1 part in 18, of the turn about a third."""
    error = RigidTransform.from_rotation_vector(turn, shift, POSE.apply((0.0, 0.0, 40.0)))
    estimate = estimate_rig(POSE, landings_under(error))
    deep = np.array([(-15.0, 10.0, 80.0), (20.0, 0.0, 80.0)])
    after = np.linalg.norm(estimate.patient_from_rig.apply(deep) - (error @ POSE).apply(deep), axis=1)
    assert estimate.is_usable
    shift_left = TIP_SIGMA_MM**2 / (TIP_SIGMA_MM**2 + 3 * PRIOR_SHIFT_SIGMA_MM**2)
    turn_left = AXIS_SIGMA_DEG**2 / (AXIS_SIGMA_DEG**2 + 3 * PRIOR_TURN_SIGMA_DEG**2)
    arm = np.linalg.norm(deep - COMMANDED.mean(axis=0), axis=1)
    # roll about the needles is told by the tips alone, which lie 20 mm from their middle
    moved = float(np.linalg.norm(shift)) + np.radians(np.linalg.norm(turn)) * 10.0
    assert np.all(
        after <= shift_left * moved + np.radians(np.linalg.norm(turn)) * arm * turn_left * 1.6 + 0.1
    )


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
    two_axes = 2.0 / AXIS_SIGMA_DEG**2
    told = two_axes / (two_axes + 1.0 / PRIOR_TURN_SIGMA_DEG**2)
    assert found == pytest.approx(3.0 * told, rel=0.02), "the rest of the evidence is the prior's"
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
    held_back = TIP_SIGMA_MM**2 / (TIP_SIGMA_MM**2 + PRIOR_SHIFT_SIGMA_MM**2)
    left = np.linalg.norm(estimate.patient_from_rig.translation_mm - (error @ POSE).translation_mm)
    assert left == pytest.approx(4.0 * held_back, rel=0.01)
    with pytest.raises(ValueError, match="no needle"):
        estimate_rig(POSE, [])


def test_the_prior_is_that_of_the_published_set_up_and_not_of_the_needles() -> None:
    """Needles with the published scatter on a rig that stands perfectly: less of it must be taken for the rig's than
    their mean would be (it was more, when any shift within 10 mm and turn within 2 degrees was as good as another)."""
    rng = np.random.default_rng(8)
    across, depth = np.hypot(0.718, 25.0 * np.tan(np.radians(1.245))), 2.105
    taken, mean = [], []
    for _ in range(200):
        scatter = rng.normal(0.0, 1.0, (3, 3)) * (across, across, depth)
        landings = landings_under(RigidTransform.identity(), np.array([POSE.turn(row) for row in scatter]))
        estimate = estimate_rig(POSE, landings).patient_from_rig
        centre = COMMANDED.mean(axis=0)
        taken.append(estimate.apply(centre) - POSE.apply(centre))
        mean.append(scatter.mean(axis=0))
    ratio = np.linalg.norm(taken) / np.linalg.norm(mean)
    assert ratio == pytest.approx(
        3 * PRIOR_SHIFT_SIGMA_MM**2 / (TIP_SIGMA_MM**2 + 3 * PRIOR_SHIFT_SIGMA_MM**2), abs=0.01
    )


def test_aiming_off_by_what_is_expected_again_hits() -> None:
    target = POSE.apply((10.0, 5.0, 80.0))
    own_error = np.array([1.5, -2.0, 2.5])
    first = aim_rig_mm(POSE, target, [])
    assert np.allclose(first, (10.0, 5.0, 80.0), atol=1e-3)
    found = POSE.apply(first + own_error)
    offset = offset_rig_mm(POSE, Landing(first, found, POSE.turn((0, 0, 1.0))))
    second = aim_rig_mm(POSE, target, [offset])
    again = expected_again_mm([offset])
    assert np.linalg.norm(POSE.apply(second + again) - target) < 2e-3
    assert np.allclose(again, own_error * (0.8, 0.8, 1.0), atol=2e-3)


def test_no_other_share_of_what_was_measured_leaves_a_smaller_error() -> None:
    """The law of ``expected_again_mm``, on errors that are 80 % the path's and 20 % new: least mean square."""
    rng = np.random.default_rng(5)
    stays, new = rng.normal(0.0, np.sqrt(0.8), (20000, 1)), rng.normal(0.0, np.sqrt(0.2), (20000, 4))
    for count in (1, 2, 3):
        mean = (stays + new[:, :count]).mean(axis=1)
        share = expected_again_mm([np.ones(3)] * count)[0]

        def left(part: float, mean: np.ndarray = mean) -> float:
            return float(np.mean((stays[:, 0] + new[:, 3] - part * mean) ** 2))

        assert left(share) < min(left(share - 0.05), left(share + 0.05))
        assert expected_again_mm([np.ones(3)] * count)[2] == 1.0
