"""The plan's file: equal after a round trip, refused when changed or malformed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_plan import made_plan

from planning.plan import Plan
from planning.refusal import AskedWrongly


def test_a_saved_plan_loads_as_the_same_plan(tmp_path: Path) -> None:
    plan = made_plan()
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.content_hash == plan.content_hash
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("change", ["tip", "expected", "hash"])
def test_a_changed_file_is_refused_unless_it_is_meant(tmp_path: Path, change: str) -> None:
    body = made_plan().to_json()
    if change == "tip":
        body["needles"][0]["tip_mm"][2] += 0.001
    elif change == "expected":
        body["expected"]["CTV"] = {"d90_gy": 999.0}
    else:
        del body["content_hash"]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(AskedWrongly, match="hash"):
        Plan.load(path)
    assert Plan.load(path, edited=True).content_hash == Plan.load(path, edited=True).to_json()["content_hash"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "JSON"),
        ("[]", "format"),
        ('{"format": "other/1"}', "format"),
        ('{"format": "seedguide-plan/1"}', "made anew"),
        ('{"format": "seedguide-plan/2"}', "misses 'needles'"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_sentence(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AskedWrongly, match=word) as refusal:
        Plan.load(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="can't be read"):
        Plan.load(tmp_path / "none.json")
