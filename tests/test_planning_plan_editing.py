"""A plan edited seed by seed: figures as if computed anew, refusals that leave it as it was, and what is saved."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PlannedCase
from made_dicom import make_case

from console.cli import main
from planning.evaluation import EditedPlan, evaluate
from planning.plan import Plan
from planning.plan_editing import PlanEditor
from planning.refusal import AskedWrongly
from planning.sources import load_source


@pytest.fixture(scope="module")
def editor(phantom_plan: PlannedCase) -> PlanEditor:
    """One for all tests of this file: each takes back what it did."""
    done = phantom_plan
    return PlanEditor(done.result.plan, done.anatomy, done.protocol, load_source())


def test_as_made_it_is_the_plan(editor: PlanEditor, phantom_plan: PlannedCase) -> None:
    assert editor.edited() == phantom_plan.result.plan
    for name, found in editor.figures().items():
        assert found.d90_gy == pytest.approx(phantom_plan.result.statistics[name].d90_gy, rel=1e-6)
    assert [goal.met for goal in editor.goals()] == [goal.met for goal in phantom_plan.result.goals]


def test_changes_give_the_figures_of_the_changed_plan(editor: PlanEditor, phantom_plan: PlannedCase) -> None:
    before = editor.figures()
    last = editor.plan.seeds[-1]
    editor.move(last.number, -5.0)
    editor.remove(editor.plan.seeds[0].number)
    free_mm = max(mm for name, mm in editor.seeds.values() if name == editor.plan.needles[1].name) + 10.0
    added = editor.add(editor.plan.needles[1].name, free_mm)
    assert editor.seeds[added] == (editor.plan.needles[1].name, free_mm)
    edited = editor.edited()
    assert [seed.number for seed in edited.seeds] == list(range(1, len(editor.seeds) + 1))
    judged = evaluate(EditedPlan(edited, "", ()), phantom_plan.anatomy, phantom_plan.protocol, load_source())
    for name, figures in editor.figures().items():
        for key in ("d90_gy", "v150_pct", "d2cc_gy", "mean_gy"):
            assert getattr(figures, key) == pytest.approx(getattr(judged.statistics[name], key), rel=1e-6)
    assert not {"retraction", "seed-on-needle", "numbering"} & {broken.rule for broken in judged.broken}
    for _ in range(3):
        editor.undo()
    assert editor.edited() == editor.plan
    assert editor.figures()["CTV"].d90_gy == pytest.approx(before["CTV"].d90_gy, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: e.move(999, 5.0), "seed 999: not in this plan"),
        (lambda e: e.move(e.plan.seeds[0].number, 5.0), "ahead of where the tip was"),
        (lambda e: e.move(e.plan.seeds[0].number, -500.0), "left the skin"),
        (
            lambda e: e.add(e.plan.needles[0].name, e.plan.needles[0].seeds[0].retraction_mm + 1.0),
            "overlap seed",
        ),
        (lambda e: e.add("X1", 9.5), "needle X1: not in this plan; there are N01"),
        (lambda e: e.remove(0), "seed 0"),
        (lambda e: e.undo(), "nothing was changed"),
    ],
)
def test_what_can_not_be_is_refused_and_changes_nothing(
    editor: PlanEditor, change: Callable[[PlanEditor], None], word: str
) -> None:
    with pytest.raises(AskedWrongly, match=word):
        change(editor)
    assert editor.edited() == editor.plan


def test_at_the_terminal(
    phantom_plan: PlannedCase,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = make_case(tmp_path / "case").folder
    plan, path, saved = phantom_plan.result.plan, tmp_path / "plan.json", tmp_path / "edited.json"
    plan.save(path)
    seed = plan.seeds[-1].number
    lines = [
        "seeds",
        f"remove {seed}",
        "undo",
        f"move {seed} -5",
        "goals",
        "move 1",
        f"save {saved}",
        f"save {saved}",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    arguments = ["edit", str(path), str(case), "--protocol", str(phantom_plan.protocol.name)]
    assert main(arguments) == 2  # two lines were not obeyed
    said = capsys.readouterr()
    assert f"{len(plan.seeds) - 1} seeds, " in said.out
    assert "CTV D90" in said.out
    assert "move SEED MM" in said.err
    assert "exists; choose another name" in said.err
    body = json.loads(saved.read_text())
    assert body["content_hash"] == plan.content_hash
    with pytest.raises(AskedWrongly, match="changed after the plan was made"):
        Plan.load(saved)
    moved = {s.number: s.retraction_mm for s in Plan.load(saved, edited=True).seeds}
    assert moved[seed] == pytest.approx(plan.seeds[-1].retraction_mm + 5.0)
    assert Plan.load(path) == plan
