"""``seedguide evaluate``: a plan as made, an edited one, what --accept and --out write, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pydicom
import pytest
from conftest import PlannedCase
from made_dicom import make_case

from console.cli import main
from planning.plan import Plan


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case(tmp_path_factory.mktemp("evaluated") / "case").folder


@pytest.fixture
def edited(phantom_plan: PlannedCase, case: Path, tmp_path: Path) -> Any:
    """Write the phantom's plan with an edit; returns the arguments of the command and the file."""
    from planning.dicom import read_case

    ct = read_case(case).ct

    def write(edit: Any = None) -> tuple[list[str], Path]:
        body = json.loads(json.dumps(phantom_plan.result.plan.to_json()))
        body["ct"] = {
            "study_uid": ct.study_uid,
            "series_uid": ct.series_uid,
            "frame_of_reference_uid": ct.frame_of_reference_uid,
        }
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(body), encoding="utf-8")
        Plan.load(path, edited=True).save(path)  # as made, on this CT
        if edit is not None:
            body = json.loads(path.read_text(encoding="utf-8"))
            edit(body)
            path.write_text(json.dumps(body), encoding="utf-8")
        return ["evaluate", str(path), str(case)], path

    return write


def weaker(body: dict[str, Any]) -> None:
    body["source"]["activity_mci"] *= 0.9
    body["source"]["air_kerma_strength_u"] *= 0.9


def without_references(body: dict[str, Any]) -> None:
    for needle in body["needles"]:
        needle["reference_depth_mm"] = None


def test_a_plan_as_made_is_judged_and_left_alone(edited, capsys) -> None:
    arguments, path = edited()
    before = path.read_bytes()
    assert main(arguments) in (0, 4)
    said = capsys.readouterr().out
    assert "every rule that planning keeps is kept" in said
    assert "CTV D90" in said
    assert path.read_bytes() == before


def test_an_edited_plan_is_said_to_be_stale_and_only_accepting_writes(edited, capsys) -> None:
    arguments, path = edited(weaker)
    before = path.read_bytes()
    assert main(arguments) == 6
    said = " ".join(capsys.readouterr().out.split())
    assert "stale" in said
    assert "Expected" in said
    assert path.read_bytes() == before
    assert main([*arguments, "--accept"]) in (0, 4)
    assert Plan.load(path).content_hash in capsys.readouterr().out
    assert main(arguments) in (0, 4)


def test_a_broken_rule_is_accepted_only_by_name(edited, capsys) -> None:
    arguments, path = edited(without_references)
    before = path.read_bytes()
    assert main([*arguments, "--accept"]) == 2
    shown = capsys.readouterr()
    assert "--despite references" in shown.err
    assert shown.err.count("\n") == 1
    assert "reference needles" in shown.out
    assert path.read_bytes() == before
    assert main([*arguments, "--accept", "--despite", "references"]) == 5
    assert Plan.load(path).reference_needles == ()


def test_out_holds_the_rt_objects_of_the_edited_plan_and_no_usable_plan(edited, tmp_path) -> None:
    arguments, path = edited(weaker)
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out), "--robustness", "10"]) == 6
    names = {entry.name for entry in out.iterdir()}
    assert {"rtplan.dcm", "rtdose.dcm", "rtstruct.dcm", "overview.png", "evaluation.json"} <= names
    assert "plan.json" not in names
    body = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert body["plan_hash"]["stated"] != body["plan_hash"]["found"]
    assert body["robustness"]["samples"] == 10
    assert main([*arguments, "--accept", "--out", str(out), "--overwrite"]) in (0, 4)
    assert Plan.load(out / "plan.json") == Plan.load(path)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--despite", "nonsense", "--accept"], "nonsense"),
        (["--despite", "ct"], "--accept"),
        (["--protocol", "no-such"], "no-such"),
    ],
)
def test_bad_input_is_one_line(edited, capsys, more: list[str], word: str) -> None:
    arguments, _ = edited()
    assert main([*arguments, *more]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


def test_the_plan_is_not_lost_by_its_own_output(edited, tmp_path, capsys) -> None:
    arguments, path = edited()
    assert main([*arguments, "--out", str(tmp_path), "--overwrite"]) == 2
    assert "the plan itself" in capsys.readouterr().err
    assert path.exists()


def test_an_rt_plan_shows_the_figures_of_the_plan_it_was_written_from(edited, case, tmp_path, capsys) -> None:
    arguments, path = edited()
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out), "--protocol", "general"]) in (0, 4)
    d90 = Plan.load(path).expected["CTV"]["d90_gy"]
    capsys.readouterr()
    rt_plan = out / "rtplan.dcm"
    assert main(["evaluate", str(rt_plan), str(case), "--protocol", "general"]) in (0, 4)
    assert f"{d90:.1f} Gy" in capsys.readouterr().out
    assert main(["evaluate", str(rt_plan), str(case), "--accept"]) == 2
    assert "plan.json" in capsys.readouterr().err
    zero = ["--seed-direction", "0", "0", "0"]
    assert main(["evaluate", str(rt_plan), str(case), *zero]) == 2
    assert "not all zero" in capsys.readouterr().err


def test_an_rt_plans_dose_to_another_day_and_in_one_dimension(edited, case, tmp_path, capsys) -> None:
    arguments, path = edited()
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out), "--protocol", "general"]) in (0, 4)
    rt_plan, d90 = out / "rtplan.dcm", Plan.load(path).expected["CTV"]["d90_gy"]
    stated = pydicom.dcmread(rt_plan)
    source = stated.SourceSequence[0]
    source.SourceStrengthReferenceDate, source.SourceIsotopeHalfLife = "20260101", 59.4
    for channel in stated.ApplicationSetupSequence[0].ChannelSequence:
        for point in channel.BrachyControlPointSequence:
            del point.ControlPointOrientation
    stated.save_as(rt_plan)
    evaluate = ["evaluate", str(rt_plan), str(case), "--protocol", "general"]
    capsys.readouterr()
    assert main(evaluate) == 2
    assert "--seed-direction" in capsys.readouterr().err
    assert main([*evaluate, "--formalism", "1d"]) in (0, 4)
    flat = capsys.readouterr().out
    assert "1D, to infinity" in flat
    # Two half-lives of decay, and the first half-life of the dose: an eighth of D90.
    assert main([*evaluate, "--formalism", "1d", "--implanted", "2026-04-30", "--after-days", "59.4"]) == 4
    shown = capsys.readouterr().out
    assert "119 days later" in shown
    assert "50.0 % of all" in shown
    full, eighth = (
        float(re.findall(r"CTV D90 >= [0-9.]+ Gy +([0-9.]+) Gy", text)[0]) for text in (flat, shown)
    )
    assert eighth == pytest.approx(full * 2 ** -(119 / 59.4) / 2, abs=0.06)
    assert full == pytest.approx(d90, rel=0.05)  # around an implant F averages out
    assert main(["evaluate", str(path), str(case), "--after-days", "3"]) == 2
    assert "--after-days is for an RT Plan" in capsys.readouterr().err
