"""``seedguide plan``: what it writes and says, and what it refuses without leaving anything behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_dicom import make_case
from test_planning_rt_objects import departure_of_the_written_dose

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
    decayed = ["--activity-mci", "1.3", "--assayed", "2026-01-01", "--implanted", "2026-03-01"]
    assert main([*arguments, "--max-seeds", "60", *decayed]) in (0, 4)
    said = capsys.readouterr().out
    assert "1.3 mCi on 2026-01-01, 59 days before" in said
    assert "gap" in said
    assert "CTV D90" in said
    assert {"plan.json", "rtplan.dcm", "rtdose.dcm", "rtstruct.dcm", "overview.png"} <= {
        entry.name for entry in out.iterdir()
    }
    departure = departure_of_the_written_dose(out, every=23)
    assert len(departure) > 1000
    assert abs(departure).max() < 0.01
    # The stand-alone template's tests say when one can be made; here that it is there, or why it isn't.
    assert (out / "template.stl").exists() != ("template: " in said)
    plan = Plan.load(out / "plan.json")
    assert plan.content_hash in said
    assert 0 < len(plan.seeds) <= 60
    cartridges = -(-len(plan.seeds) // 15)
    left = 15 * cartridges - len(plan.seeds)
    assert f"{cartridges} of 15 seeds" in said
    assert f"{left} seeds are left over" in said
    assert plan.activity_mci == pytest.approx(1.3 * 2 ** (-59 / 59.4), abs=1e-4)


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["--protocol", "no-such"], "no-such"),
        (["--target", "Nothing"], "Nothing"),
        (["--rx-gy", "nan"], "nan"),
        (["--direction", "0", "0", "0"], "--direction"),
        (["--direction", "0", "-1", "0"], "couch"),
        (["--cartridges", "2", "--max-seeds", "30"], "--max-seeds"),
        (["--assayed", "2026-01-01"], "--implanted"),
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


@pytest.fixture
def earlier(case: Path, tmp_path: Path) -> tuple[list[str], Path]:
    """A folder with an earlier plan, and the arguments to plan into it again."""
    from console.output_folder import OutputFolder

    out = tmp_path / "out"
    taken = OutputFolder.take(out, overwrite=False, case=case)
    (out / "plan.json").write_text("earlier")
    taken.keep()
    return ["plan", str(case), "--out", str(out), "--overwrite"], out


def test_our_own_fault_is_one_line_and_the_earlier_plan_is_back(
    earlier: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a\nbug")

    monkeypatch.setattr("planning.planner.make_plan", broken)
    arguments, out = earlier
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.out + shown.err
    assert "Traceback" in (out / "fault.txt").read_text()
    assert (out / "plan.json").read_text() == "earlier"


def test_ctrl_c_leaves_what_was_there(
    earlier: tuple[list[str], Path],
    case: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("planning.planner.make_plan", pressed)
    arguments, out = earlier
    assert main(arguments) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert (out / "plan.json").read_text() == "earlier"
    new = out.parent / "new"
    assert main(["plan", str(case), "--out", str(new)]) == 130
    assert not new.exists()


def test_an_unverified_source_is_planned_with_only_when_allowed(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from planning.site_protocol import FOLDER
    from planning.sources import load_source, source_names

    other = next(n for n in source_names() if load_source(n, allow_unverified=True).status != "verified")
    text = (FOLDER / "general.toml").read_text(encoding="utf-8")
    protocol = tmp_path / "site.toml"
    protocol.write_text(text.replace('source_model = "6711"', f'source_model = "{other}"'), encoding="utf-8")
    arguments = ["plan", str(case), "--out", str(tmp_path / "out"), "--protocol", str(protocol)]
    assert main(arguments) == 2
    assert "--allow-unverified" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    quick = ["--allow-unverified", "--no-bound", "--no-template", "--time-limit", "1"]
    assert main([*arguments, *quick]) in (0, 4)
    assert Plan.load(tmp_path / "out" / "plan.json").source_model == other
