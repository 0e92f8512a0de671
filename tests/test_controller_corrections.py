"""How a deviation is corrected: depth alone by depth, anything lateral by another path. And two reference needles."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.commands import CloseGrip, MoveAcross, MoveDepth
from controller.guidance import AXIS_SIGMA_DEG, NEW_SHARE, Landing, estimate_rig
from controller.insertion import correct
from controller.knowledge import Knowledge, ProcedureSettings
from imaging.deviation import deviation
from planning.frame import RigidTransform
from planning.reference_error import PRIOR_TURN_SIGMA_DEG
from tests.made_plan import POSE, made_plan

PLAN = made_plan(2, 1, 3)
MM = st.floats(-8.0, 8.0)


def standing(offset_mm: tuple[float, float, float], sigma_mm: float = 0.2) -> tuple[Knowledge, list[object]]:
    """A needle that was found this far (rig frame) from its target, and how it is corrected."""
    known = Knowledge.of(PLAN, ProcedureSettings())
    story = known.needles["N01"]
    story.state, story.attempt = "in place", 1
    aim = np.round(known.pose.inverse().apply(story.target_mm), 3)
    story.aim_rig_mm = aim
    found = known.pose.apply(aim + np.array(offset_mm))
    axis = known.pose.turn((0.0, 0.0, 1.0))
    story.land(Landing(aim, found, axis), known.settings.same_path_mm)
    story.deviation = deviation(story.target_mm, story.plan.direction, found, axis, sigma_mm)
    return known, list(correct(known, story))


@settings(max_examples=60, deadline=None)
@given(x=MM, y=MM, z=MM)
def test_the_parts_of_a_deviation_are_the_whole(x: float, y: float, z: float) -> None:
    known, _ = standing((x, y, z))
    found = known.needles["N01"].deviation
    assert found is not None
    assert abs(np.hypot(found.lateral_mm, found.depth_mm) - found.total_mm) < 1e-9
    assert abs(found.lateral_mm - np.hypot(x, y)) < 2e-3
    assert abs(found.depth_mm - z) < 2e-3
    assert found.angle_deg < 2e-3


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-1.2, 1.2), y=st.floats(-1.2, 1.2), z=MM)
def test_depth_alone_is_corrected_by_depth_on_the_same_path(x: float, y: float, z: float) -> None:
    known, commands = standing((x, y, z))
    aim = known.needles["N01"].aim_rig_mm
    assert aim is not None
    across = [c for c in commands if isinstance(c, MoveAcross)]
    assert [(c.x_mm, c.y_mm) for c in across] == [(float(aim[0]), float(aim[1]))]
    deep = [c.z_mm for c in commands if isinstance(c, MoveDepth) and c.in_tissue]
    assert len(deep) == 1
    assert abs(deep[0] - (float(aim[2]) - z)) < 3e-3


@settings(max_examples=60, deadline=None)
@given(turn=st.floats(0.0, 6.28), lateral=st.floats(2.0, 8.0), z=st.floats(-1.0, 1.0))
def test_a_lateral_deviation_is_withdrawn_to_the_skin_and_aimed_again(
    turn: float, lateral: float, z: float
) -> None:
    x, y = lateral * np.cos(turn), lateral * np.sin(turn)
    known, commands = standing((x, y, z))
    story = known.needles["N01"]
    assert story.aim_rig_mm is not None
    hold = next(i for i, c in enumerate(commands) if isinstance(c, CloseGrip))
    across = [i for i, c in enumerate(commands) if isinstance(c, MoveAcross) and i > hold]
    assert len(across) == 1
    before = [c for c in commands[hold : across[0]] if isinstance(c, MoveDepth)]
    assert before[-1].z_mm == known.settings.home_z_mm, "the carriage is at home before the guide moves"
    entry_z = known.pose.inverse().apply(story.plan.entry_mm)[2]
    assert before[0].z_mm <= entry_z - known.settings.approach_mm + 1e-3, "out of the tissue"
    new = commands[across[0]]
    assert isinstance(new, MoveAcross)
    assert abs(new.x_mm - (float(story.aim_rig_mm[0]) - (1.0 - NEW_SHARE) * x)) < 3e-3
    assert abs(new.y_mm - (float(story.aim_rig_mm[1]) - (1.0 - NEW_SHARE) * y)) < 3e-3


def test_what_a_path_taught_is_kept_when_the_aim_moves_by_some_millimetres() -> None:
    """A correction moves the aim by more than 2 mm as a rule: forgotten, each would be aimed by the last CT alone."""
    known, _ = standing((3.0, 0.0, 0.0))
    story = known.needles["N01"]
    first = story.landings[0]
    story.is_new_path = True
    moved = Landing(
        first.commanded_rig_mm - np.array([2.4, 0.0, 0.0]), first.found_patient_mm, first.found_direction
    )
    story.land(moved, known.settings.same_path_mm)
    assert story.landings == [first, moved]
    far = Landing(
        first.commanded_rig_mm + np.array([20.0, 0.0, 0.0]), first.found_patient_mm, first.found_direction
    )
    story.is_new_path = True
    story.land(far, known.settings.same_path_mm)
    assert story.landings == [far]


def test_unsure_whether_lateral_is_treated_as_lateral() -> None:
    _, sure = standing((1.7, 0.0, 3.0), sigma_mm=0.2)
    _, unsure = standing((1.7, 0.0, 3.0), sigma_mm=0.5)
    assert len([c for c in sure if isinstance(c, MoveAcross)]) == 1
    assert len([c for c in unsure if isinstance(c, MoveAcross)]) == 2


TWO = np.array([(-15.0, 0.0, 45.0), (15.0, 0.0, 45.0)])


def landed(error: RigidTransform, axes: bool = True) -> list[Landing]:
    true = error @ POSE
    axis = (true if axes else POSE).turn((0.0, 0.0, 1.0))
    return [Landing(at, true.apply(at), axis) for at in TWO]


@settings(max_examples=40, deadline=None)
@given(turn_deg=st.floats(-3.0, 3.0).filter(lambda v: abs(v) > 0.5))
def test_two_reference_needles_tell_the_turn_about_the_line_between_them_by_their_axes(
    turn_deg: float,
) -> None:
    """Two tips leave that turn open; their axes don't."""
    along = POSE.turn((1.0, 0.0, 0.0))
    error = RigidTransform.from_rotation_vector(
        turn_deg * along, (0.0, 0.0, 0.0), POSE.apply(TWO.mean(axis=0))
    )
    told = (estimate_rig(POSE, landed(error)).patient_from_rig @ POSE.inverse()).rotation_angle_deg()
    untold = (
        estimate_rig(POSE, landed(error, axes=False)).patient_from_rig @ POSE.inverse()
    ).rotation_angle_deg()
    two_axes = 2.0 / AXIS_SIGMA_DEG**2
    share = two_axes / (two_axes + 1.0 / PRIOR_TURN_SIGMA_DEG**2)
    assert told > 0.97 * share * abs(turn_deg)
    assert told <= abs(turn_deg)
    assert untold < 0.2 * abs(turn_deg)


def test_two_needles_that_stand_nearer_or_farther_than_commanded_fit_no_pose() -> None:
    axis = POSE.turn((0.0, 0.0, 1.0))
    apart = [Landing(at, POSE.apply(at * np.array([1.4, 1.0, 1.0])), axis) for at in TWO]
    estimate = estimate_rig(POSE, apart)
    assert estimate.residual_mm > 5.0
    assert not estimate.is_usable
