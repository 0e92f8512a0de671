"""Scenario files: what ships can be read and fits the schema; what is wrong is told with file, key and what to do."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from console.training.mark import marks_of
from console.training.reference import reference_runs
from planning.plan import Plan
from simulator.scenario import SCHEMA, Scenario, ScenarioError, read_scenario, schema

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "examples" / "scenarios").glob("*.toml"))
LEAST = """
version = 1
title = "Least"
level = 1
briefing = "Go."
lesson = "Gone."
case = "case"
"""


def written(tmp_path: Path, more: str = "", least: str = LEAST) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(least + more, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_can_be_read_and_fits_the_schema(path: Path) -> None:
    scenario = read_scenario(path)
    assert Path(scenario.case).is_dir()
    if scenario.plan != "make one":
        names = {needle.name for needle in Plan.load(Path(scenario.plan)).needles}
        assert {bent.needle for bent in scenario.needles.bent} <= names
    assert scenario.faults is not None
    jsonschema.Draft202012Validator(schema()).validate(tomllib.loads(path.read_text(encoding="utf-8")))


def test_the_schema_that_ships_is_todays() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json.loads(json.dumps(schema()))
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_least_file_takes_everything_else_from_the_published_population(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path))
    assert scenario.case == str((tmp_path / "case").resolve())
    assert scenario.population == type(scenario.population)()
    assert scenario.faults == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("[ct]\nslice_mm = 9\n", "ct.slice_mm: input should be less than or equal to 5, not 9; correct it"),
        ("[ct]\nslices = 2\n", "ct.slices is unknown; mend or remove it"),
        ("[trainee]\nmay = ['accept']\n", "trainee.may: accept and abandon must be among them"),
        ("[[patient.motion]]\nshift_mm = [1, 2, 3]\n", "needs exactly one of at_s, at_state"),
        ("[[patient.motion]]\nat_s = 1\nshift_mm = [1, 2]\n", "patient.motion.1.shift_mm.3 is missing"),
        ("[[patient.motion]]\nat_s = 1\nshift_mm = [99, 0, 0]\n", "50 mm at most"),
        ("[[needles.bent]]\nneedle = 'N01'\nradius_mm = nan\n", "needles.bent.1.radius_mm"),
        ("[needles]\nbend_radius_mm = 'soft'\n", "needles.bend_radius_mm"),
        ("[[fault]]\nat_s = 1\ndo = 'explode'\n", "fault 1: 'explode' is no fault"),
        ("[[fault]]\ndo = 'jam'\n", "fault 1: needs exactly one trigger"),
        ("[pass]\nmissed_at_most = -1\n", "pass.missed_at_most"),
        ("[pass]\nends = ['WON']\n", "pass.ends.1"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(tmp_path: Path, more: str, told: str) -> None:
    path = written(tmp_path, more)
    with pytest.raises(ScenarioError) as problem:
        read_scenario(path)
    assert str(problem.value).startswith(f"{path}: ")
    assert told in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "version is missing; this program reads version = 1"),
        ("version = 2", "version is 2; this program reads version = 1"),
        ("version = ", "can't be read as TOML"),
        ("version = 1", "title is missing; write it"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        read_scenario(written(tmp_path, least=text))
    with pytest.raises(ScenarioError, match="can't be read"):
        read_scenario(tmp_path / "nowhere.toml")


def test_the_digest_is_of_what_makes_a_run_not_of_chance_words_and_marks(tmp_path: Path) -> None:
    one = read_scenario(written(tmp_path))
    words = one.model_dump(by_alias=True)
    for change in (
        {"case": "elsewhere"},
        {"seed": 2},
        {"level": 2},
        {"lesson": "Told better."},
        {"pass": {"cts_at_most": 3}},
        {"ct": {"slice_mm": 1.25}},  # what it is anyhow
    ):
        assert Scenario.model_validate({**words, **change}).digest == one.digest, change
    for change in (
        {"patient": {"setup_shift_mm": 3.0}},
        {"ct": {"may_be_mm": [2.5]}},
        {"fault": [{"at_seed": 3, "do": "jam"}]},
        {"trainee": {"may": ["accept", "abandon"]}},
    ):
        assert Scenario.model_validate({**words, **change}).digest != one.digest, change
    assert len({read_scenario(path).digest for path in SHIPPED}) == len(SHIPPED)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_careful_trainee_passes_by_the_reference_runs_and_another_does_not(path: Path) -> None:
    """By today's marks. Runs that are not there are not judged: ``python -m benchmarks.training_reference``."""
    scenario = read_scenario(path)
    runs = reference_runs(scenario.digest, Plan.load(Path(scenario.plan)).content_hash)
    if not runs:
        pytest.skip("no reference run yet of today's scenario and plan")
    passes: dict[str, list[bool]] = {}
    for run in runs:
        marks = marks_of(run, scenario.marks.model_dump())
        passes.setdefault(run["script"], []).append(all(mark.met for mark in marks))
    assert all(passes.get("careful", [True]))
    if {"hasty", "distrustful"} <= set(passes):
        assert not all(all(passed) for passed in passes.values())
