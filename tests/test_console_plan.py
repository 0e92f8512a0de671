"""``seedguide plan``: what it writes and says, and what it refuses without leaving anything behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_dicom import make_case

from console.cli import main
from planning.plan import Plan


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case(tmp_path_factory.mktemp("planned") / "case").folder


def test_a_plan_is_written_with_its_goals_and_its_gap(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["plan", str(case), "--out", str(out), "--protocol", "general", "--time-limit", "2"]
    assert main([*arguments, "--max-seeds", "60"]) in (0, 4)
    said = capsys.readouterr().out
    assert "gap" in said
    assert "CTV D90" in said
    assert {"plan.json", "rtplan.dcm", "rtdose.dcm", "rtstruct.dcm", "overview.png"} <= {
        entry.name for entry in out.iterdir()
    }
    plan = Plan.load(out / "plan.json")
    assert plan.content_hash in said
    assert 0 < len(plan.seeds) <= 60


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["--protocol", "no-such"], "no-such"),
        (["--target", "Nothing"], "Nothing"),
        (["--rx-gy", "nan"], "nan"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], word: str
) -> None:
    assert main(["plan", str(case), "--out", str(tmp_path / "out"), *extra]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
