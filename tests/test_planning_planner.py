"""The whole plan: geometry of needles and seeds, goals, references, the rig's reach, repeatability."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import PlannedCase

from planning.assembly import choose_references
from planning.needles import RigReach, hole_name
from planning.plan import Plan
from planning.planner import make_plan
from planning.refusal import AskedWrongly
from planning.sources import load_source

ROUNDING_MM = 0.0021


@pytest.fixture(params=["example_plan", "phantom_plan"])
def done(request: pytest.FixtureRequest) -> PlannedCase:
    found: PlannedCase = request.getfixturevalue(request.param)
    return found


def test_the_target_gets_its_dose(done: PlannedCase) -> None:
    plan, statistics = done.result.plan, done.result.statistics
    assert statistics["CTV"].d90_gy >= plan.prescription_gy
    assert statistics["GTV"].d90_gy >= plan.prescription_gy
    assert all(goal.met for goal in done.result.goals if goal.name in ("GTV", "CTV"))


def test_the_example_needs_about_what_real_implants_do(example_plan: PlannedCase) -> None:
    # CLINIC.md: 17-19 needles and 52-60 seeds typical, 8 needles and 60 seeds in another series.
    plan, statistics = example_plan.result.plan, example_plan.result.statistics
    assert 8 <= len(plan.needles) <= 25
    assert 30 <= len(plan.seeds) <= 75
    assert statistics["CTV"].d90_gy <= 1.35 * plan.prescription_gy
    assert statistics["SpinalCord"].d2cc_gy is not None
    assert statistics["SpinalCord"].d2cc_gy < 50.0
    assert example_plan.result.cover > 0.85


def test_seeds_lie_in_the_ctv_on_their_needle_in_steps_of_the_spacing(done: PlannedCase) -> None:
    plan, anatomy = done.result.plan, done.anatomy
    index = np.floor(anatomy.grid.index_of(plan.seed_centres_mm()) + 0.5).astype(int)
    assert anatomy.ctv[tuple(index.T)].all()
    for needle in plan.needles:
        centres = np.array([seed.centre_mm for seed in needle.seeds])
        depth = (centres - needle.entry_mm) @ needle.direction
        aside = centres - needle.entry_mm - depth[:, None] * needle.direction
        np.testing.assert_allclose(aside, 0.0, atol=ROUNDING_MM)
        assert np.all(np.diff(depth) < 0)  # deepest first
        steps = -np.diff(depth) / done.protocol.needle.seed_spacing_mm
        np.testing.assert_allclose(steps, np.round(steps), atol=ROUNDING_MM)


def test_seeds_and_needles_keep_their_distance(done: PlannedCase) -> None:
    plan, rules = done.result.plan, done.protocol.needle
    centres = plan.seed_centres_mm()
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)[np.triu_indices(len(centres), 1)]
    assert apart.min() >= rules.seed_spacing_mm - ROUNDING_MM
    rig_from_patient = plan.planned_patient_from_rig().inverse()
    tips = rig_from_patient.apply([needle.tip_mm for needle in plan.needles])[:, :2]
    apart = np.linalg.norm(tips[:, None] - tips[None], axis=2)[np.triu_indices(len(tips), 1)]
    assert apart.min() >= rules.min_distance_mm - ROUNDING_MM


def test_retractions_bring_each_seed_to_its_place(done: PlannedCase) -> None:
    plan = done.result.plan
    for needle in plan.needles:
        assert needle.seeds[0].retraction_mm == pytest.approx(
            done.protocol.needle.tip_beyond_seed_mm + 0.5 * plan.seed_length_mm, abs=1e-3
        )
        for seed in needle.seeds:
            # The drawn-back tip touches the seed's near end.
            tip = np.array(needle.tip_mm) - seed.retraction_mm * needle.direction
            near_end = np.array(seed.centre_mm) - 0.5 * plan.seed_length_mm * needle.direction
            np.testing.assert_allclose(tip, near_end, atol=ROUNDING_MM)
    assert [seed.number for seed in plan.seeds] == list(range(1, len(plan.seeds) + 1))


def test_all_needles_go_down_the_rigs_axis_through_their_holes_within_its_reach(done: PlannedCase) -> None:
    plan, rules, rig = done.result.plan, done.protocol.needle, RigReach()
    rig_from_patient = plan.planned_patient_from_rig().inverse()
    holes = {hole_name(c, r): (c, r) for c in range(60) for r in range(60)}
    cells = np.array([holes[needle.hole] for needle in plan.needles])
    tips = rig_from_patient.apply([needle.tip_mm for needle in plan.needles])
    entries = rig_from_patient.apply([needle.entry_mm for needle in plan.needles])
    np.testing.assert_allclose(tips[:, :2], entries[:, :2], atol=ROUNDING_MM)
    offset = tips[:, :2] - rules.pitch_mm * cells
    np.testing.assert_allclose(offset, np.broadcast_to(offset[0], offset.shape), atol=ROUNDING_MM)
    assert np.abs(tips[:, :2]).max() <= rig.lateral_mm
    assert tips[:, 2].max() <= min(rig.deepest_tip_mm, rules.length_mm)
    assert entries[:, 2].min() == pytest.approx(rules.template_gap_mm, abs=ROUNDING_MM)
    assert np.all(tips[:, 2] - entries[:, 2] <= rules.max_depth_mm + ROUNDING_MM)
    used = np.array([tips[:, :2].min(axis=0), tips[:, :2].max(axis=0)])
    np.testing.assert_allclose(used.mean(axis=0), 0.0, atol=ROUNDING_MM)


def test_used_and_rejected_holes_are_different_holes(done: PlannedCase) -> None:
    used = [needle.hole for needle in done.result.plan.needles]
    rejected = [hole.hole for hole in done.result.rejected_holes]
    assert len({*used, *rejected}) == len(used) + len(rejected)
    assert all(hole.reason for hole in done.result.rejected_holes)


def test_needles_are_named_in_order_and_references_marked(done: PlannedCase) -> None:
    plan, rules = done.result.plan, done.protocol.needle
    assert [needle.name for needle in plan.needles] == [f"N{n + 1:02d}" for n in range(len(plan.needles))]
    assert len(plan.reference_needles) == min(rules.reference_count, len(plan.needles))
    for needle in plan.reference_needles:
        assert needle.reference_depth_mm is not None
        assert 0.0 < needle.reference_depth_mm <= min(rules.reference_depth_mm, needle.depth_mm) + ROUNDING_MM


def test_references_span_the_most() -> None:
    xy = np.array([(0, 0), (5, 0), (30, 0), (15, 5), (15, 30), (10, 10)], dtype=float)
    deep = np.full(len(xy), 60.0)
    assert choose_references(xy, deep, 3, 25.0) == (0, 2, 4)
    assert choose_references(xy, deep, 2, 25.0) in {(0, 4), (2, 4)}
    assert choose_references(xy, deep * (np.arange(6) != 4), 3, 25.0) == (0, 2, 5)
    assert choose_references(xy[:2], deep[:2], 3, 25.0) == (0, 1)
    assert choose_references(xy[:1], deep[:1], 3, 25.0) == (0,)
    assert len(choose_references(xy, deep, 5, 25.0)) == 5


def test_the_plan_equals_its_file(done: PlannedCase, tmp_path: Path) -> None:
    plan = done.result.plan
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert plan.expected["CTV"]["d90_gy"] == pytest.approx(done.result.statistics["CTV"].d90_gy, abs=1e-3)


def test_the_same_case_gives_the_same_plan(phantom_plan: PlannedCase) -> None:
    steps: list[tuple[str, float]] = []
    again = make_plan(
        phantom_plan.case,
        phantom_plan.anatomy,
        phantom_plan.protocol,
        source=load_source(),
        progress=lambda what, part: steps.append((what, part)),
    )
    assert again.plan == phantom_plan.result.plan
    assert again.plan.content_hash == phantom_plan.result.plan.content_hash
    parts = [part for _, part in steps]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


@pytest.mark.parametrize(
    ("activity", "prescription", "word"), [(0.0, None, "activity"), (None, -1.0, "prescription")]
)
def test_figures_out_of_range_are_refused(
    phantom_plan: PlannedCase, activity: float | None, prescription: float | None, word: str
) -> None:
    with pytest.raises(AskedWrongly, match=word):
        make_plan(
            phantom_plan.case,
            phantom_plan.anatomy,
            phantom_plan.protocol,
            source=load_source(),
            activity_mci=activity,
            prescription_gy=prescription,
        )


def test_a_target_no_needle_can_reach_is_refused_with_the_reason(phantom_plan: PlannedCase) -> None:
    anatomy = phantom_plan.anatomy
    forbidden = {**anatomy.forbidden, "everything around": 5.0}
    around = {**anatomy.organs, "everything around": anatomy.body & ~anatomy.ctv}
    with pytest.raises(AskedWrongly, match="everything around"):
        make_plan(
            phantom_plan.case,
            replace(anatomy, organs=around, forbidden=forbidden),
            phantom_plan.protocol,
            source=load_source(),
        )


def test_stronger_seeds_mean_fewer_of_them(phantom_plan: PlannedCase) -> None:
    strong = make_plan(
        phantom_plan.case, phantom_plan.anatomy, phantom_plan.protocol, source=load_source(), activity_mci=0.9
    )
    weak = make_plan(
        phantom_plan.case, phantom_plan.anatomy, phantom_plan.protocol, source=load_source(), activity_mci=0.4
    )
    assert len(strong.plan.seeds) < len(weak.plan.seeds)
    assert weak.statistics["CTV"].d90_gy >= weak.plan.prescription_gy
