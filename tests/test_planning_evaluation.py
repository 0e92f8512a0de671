"""Rules of a plan: a written plan keeps them all; each typical edit breaks just its rule, named by needle or seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PlannedCase
from hypothesis import given
from hypothesis import strategies as st
from made_plan import made_plan

from planning.evaluation import EditedPlan, Evaluation, evaluate, load_edited
from planning.needles import hole_cell, hole_name
from planning.plan import Plan, rounded_point
from planning.plan_rules import RULES, needle_distances_mm
from planning.refusal import AskedWrongly
from planning.sources import load_source

Edit = Callable[[dict[str, Any]], None]


def judged(done: PlannedCase, folder: Path, edit: Edit) -> Evaluation:
    body = json.loads(json.dumps(done.result.plan.to_json()))
    edit(body)
    path = folder / "edited.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    return evaluate(load_edited(path), done.anatomy, done.protocol, load_source())


@pytest.mark.parametrize("name", ["example_plan", "phantom_plan"])
def test_what_the_planner_made_keeps_every_rule_and_its_figures(
    name: str, request: pytest.FixtureRequest
) -> None:
    done: PlannedCase = request.getfixturevalue(name)
    plan = done.result.plan
    found = evaluate(EditedPlan(plan, plan.content_hash, ()), done.anatomy, done.protocol, load_source())
    assert found.broken == ()
    assert found.hash_is_current
    assert found.stale_figures == ()
    assert found.goals == done.result.goals
    assert found.accepted() == plan
    for needle in found.needles:
        assert needle.apart_mm >= done.protocol.needle.min_distance_mm - 0.003
        if needle.nearest_structure:
            assert needle.clearance_mm >= done.anatomy.forbidden[needle.nearest_structure]


def along(body: dict[str, Any], n: int, mm: float) -> list[float]:
    needle = body["needles"][n]
    way = np.subtract(needle["tip_mm"], needle["entry_mm"])
    return list(mm * way / np.linalg.norm(way))


def nudge(values: list[float], by: list[float]) -> None:
    values[:] = [a + b for a, b in zip(values, by, strict=True)]


def seed_moved(body: dict[str, Any]) -> None:
    fullest = max(range(len(body["needles"])), key=lambda n: len(body["needles"][n]["seeds"]))
    nudge(body["needles"][fullest]["seeds"][0]["centre_mm"], along(body, fullest, -0.4))


def seed_aside(body: dict[str, Any]) -> None:
    nudge(body["needles"][0]["seeds"][0]["centre_mm"], [0.7, 0.7, 0.7])


def needle_tilted(body: dict[str, Any]) -> None:
    nudge(body["needles"][2]["tip_mm"], [2.0, -2.0, 2.0])


def needle_doubled(body: dict[str, Any]) -> None:
    body["needles"].append(body["needles"][0])


def deeper(body: dict[str, Any]) -> None:
    nudge(body["needles"][1]["tip_mm"], along(body, 1, 60.0))


def entry_off_the_skin(body: dict[str, Any]) -> None:
    nudge(body["needles"][1]["entry_mm"], along(body, 1, -6.0))


def no_reference(body: dict[str, Any]) -> None:
    for needle in body["needles"]:
        needle["reference_depth_mm"] = None


def other_series(body: dict[str, Any]) -> None:
    body["ct"]["series_uid"] = "1.2.3"


def seeds_renumbered(body: dict[str, Any]) -> None:
    body["needles"][0]["seeds"][0]["number"] = 99


def stronger(body: dict[str, Any]) -> None:
    body["source"]["air_kerma_strength_u"] *= 1.05


def other_hole(body: dict[str, Any]) -> None:
    body["needles"][0]["hole"] = "Z9"


def out_of_the_ctv(body: dict[str, Any]) -> None:
    needle = body["needles"][0]
    shallow, far = needle["seeds"][-1], along(body, 0, -40.0)
    nudge(shallow["centre_mm"], far)
    shallow["retraction_mm"] += 40.0


@pytest.mark.parametrize(
    ("edit", "rules", "word"),
    [
        (seed_moved, {"retraction", "seed-spacing"}, "seed "),
        (seed_aside, {"seed-on-needle"}, "seed 1"),
        (needle_tilted, {"parallel"}, "N03"),
        (needle_doubled, {"numbering", "needle-distance", "seed-spacing"}, "N01"),
        (deeper, {"retraction"}, "N02"),
        (entry_off_the_skin, {"entry"}, "N02"),
        (no_reference, {"references"}, "reference"),
        (other_series, {"ct"}, "1.2.3"),
        (seeds_renumbered, {"numbering"}, "99"),
        (stronger, {"source"}, "strength"),
        (other_hole, {"hole"}, "Z9"),
        (out_of_the_ctv, {"seed-inside"}, "CTV"),
    ],
)
def test_an_edit_breaks_its_rule_in_one_sentence(
    phantom_plan: PlannedCase, tmp_path: Path, edit: Edit, rules: set[str], word: str
) -> None:
    found = judged(phantom_plan, tmp_path, edit)
    assert rules <= {broken.rule for broken in found.broken} <= set(RULES)
    assert any(word in broken.words for broken in found.broken if broken.rule in rules)
    assert all(broken.words.endswith(".") and "\n" not in broken.words for broken in found.broken)
    assert not found.hash_is_current


def test_a_needle_through_what_is_forbidden_is_named_with_the_structure(
    example_plan: PlannedCase, tmp_path: Path
) -> None:
    def turned(body: dict[str, Any]) -> None:
        for needle in body["needles"][:4]:
            nudge(needle["tip_mm"], [10.0, 20.0, 0.0])

    words = [b.words for b in judged(example_plan, tmp_path, turned).broken if b.rule == "clearance"]
    assert words
    assert all("comes within 5 mm of" in sentence for sentence in words)


def test_moved_seeds_change_dose_and_goals_and_only_accepting_changes_the_hash(
    phantom_plan: PlannedCase, tmp_path: Path
) -> None:
    def half_as_strong(body: dict[str, Any]) -> None:
        body["source"]["air_kerma_strength_u"] *= 0.5
        body["source"]["activity_mci"] *= 0.5

    found = judged(phantom_plan, tmp_path, half_as_strong)
    assert {broken.rule for broken in found.broken} == set()
    assert found.statistics["CTV"].d90_gy == pytest.approx(
        0.5 * phantom_plan.result.statistics["CTV"].d90_gy, rel=1e-4
    )
    assert not all(goal.met for goal in found.goals)
    assert "CTV" in found.stale_figures
    accepted = found.accepted()
    assert accepted.expected["CTV"]["d90_gy"] == pytest.approx(found.statistics["CTV"].d90_gy, abs=1e-3)
    assert accepted.content_hash not in (found.stated_hash, found.plan.content_hash)


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda body: body.update(prescription=120), "prescription"),
        (lambda body: body["needles"][0].update(depth_mm=3.0), r"needles\[0\].depth_mm"),
        (lambda body: body["needles"].clear(), "no needles"),
        (lambda body: body["needles"][0].update(tip_mm=body["needles"][0]["entry_mm"]), "same point"),
        (lambda body: body["patient_from_rig"][0].__setitem__(0, 9.0), "no pose"),
        (lambda body: body["needles"][0]["tip_mm"].pop(), "malformed"),
        (lambda body: body.update(prescription_gy=1e9), "prescription_gy"),
        (lambda body: body["needles"][0]["tip_mm"].__setitem__(0, float("nan")), "finite|malformed"),
    ],
)
def test_what_can_not_be_judged_is_refused_in_one_sentence(tmp_path: Path, edit: Edit, word: str) -> None:
    body = json.loads(json.dumps(made_plan().to_json()))
    edit(body)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(AskedWrongly, match=word) as refusal:
        load_edited(path)
    assert "\n" not in str(refusal.value)


def test_a_plan_used_with_a_stale_hash_is_told_of_evaluate(tmp_path: Path) -> None:
    body = made_plan().to_json()
    body["content_hash"] = "0" * 64
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(AskedWrongly, match="seedguide evaluate"):
        Plan.load(path)
    assert load_edited(path).stated_hash == "0" * 64


@given(st.integers(0, 900), st.integers(0, 900))
def test_hole_names_and_cells_are_inverse(column: int, row: int) -> None:
    assert hole_cell(hole_name(column, row)) == (column, row)


@pytest.mark.parametrize("name", ["", "A", "1", "A0", "a1", "A01", "A-1", "A1 "])
def test_what_is_no_hole(name: str) -> None:
    assert hole_cell(name) is None


def test_needles_that_cross_are_near_where_they_cross() -> None:
    plan = made_plan()
    one, other = plan.needles[:2]
    between = needle_distances_mm(replace(plan, needles=(one, other)))
    np.testing.assert_allclose(between, [[0.0, 10.0], [10.0, 0.0]], atol=0.01)
    middle = 0.5 * (np.array(one.entry_mm) + one.tip_mm)
    aside = np.array([3.0, 40.0, 0.0])
    across = replace(
        one, entry_mm=rounded_point(middle + aside), tip_mm=rounded_point(middle - aside + [6, 0, 0])
    )
    dense = np.linspace(one.entry_mm, one.tip_mm, 4001)
    beside = np.linspace(across.entry_mm, across.tip_mm, 801)
    wanted = min(float(np.linalg.norm(dense - point, axis=1).min()) for point in beside)
    assert needle_distances_mm(replace(plan, needles=(one, across)))[0, 1] == pytest.approx(wanted, abs=0.01)
