"""``planning/plan.schema.json``: every written plan is valid, typical slips of a hand edit are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PlannedCase
from made_plan import made_plan

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
FILE = Path(__file__).parents[1] / "planning" / "plan.schema.json"
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_written_plans_are_valid(
    validator: Any, phantom_plan: PlannedCase, example_plan: PlannedCase, tmp_path: Path
) -> None:
    for plan in (made_plan(), phantom_plan.result.plan, example_plan.result.plan):
        plan.save(tmp_path / "plan.json")
        body = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
        assert [error.message for error in validator.iter_errors(body)] == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body.pop("content_hash"),
        lambda body: body.update(format="seedguide-plan/1"),
        lambda body: body.update(prescription=120),
        lambda body: body.update(prescription_gy="120"),
        lambda body: body.update(prescription_gy=0),
        lambda body: body.update(needles=[]),
        lambda body: body["needles"][0]["tip_mm"].pop(),
        lambda body: body["needles"][0].update(hole="c4"),
        lambda body: body["needles"][0].update(depth_mm=60),
        lambda body: body["needles"][0].update(reference_depth_mm=0),
        lambda body: body["needles"][0]["seeds"].clear(),
        lambda body: body["needles"][0]["seeds"][0].update(number=1.5),
        lambda body: body["needles"][0]["seeds"][0].update(retraction_mm=None),
        lambda body: body["patient_from_rig"].pop(),
        lambda body: body["source"].update(activity_mci=65),
        lambda body: body["ct"].update(series_uid="the first one"),
        lambda body: body.update(content_hash="new"),
    ],
)
def test_typical_slips_are_rejected(validator: Any, edit: Edit) -> None:
    body = json.loads(json.dumps(made_plan().to_json()))
    assert validator.is_valid(body)
    edit(body)
    assert not validator.is_valid(body)
