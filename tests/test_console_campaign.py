"""``seedguide campaign``: a small one on the phantom, what its page and files hold, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_dicom import make_case
from made_plan import POSE, made_plan

from console.campaign_needles import one_by_one
from console.campaign_page import number, percent
from console.campaign_summary import Spread, ending
from console.cli import main
from planning.case_link import note_case
from planning.confidence import share_interval
from planning.dicom import read_case
from planning.frame import Floats, RigidTransform
from planning.plan import Plan, PlannedNeedle, rounded_point
from planning.refusal import AskedWrongly

FROM_THE_FRONT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Rig z along patient y: through the skin in front of the phantom's GTV."""


def implant_of(case: Path) -> Plan:
    """Two needles with two seeds each, by hand, into the phantom's GTV."""
    ct = read_case(case).ct
    middle = ct.grid.point_of(np.array(ct.grid.shape) / 2.0)
    pose = RigidTransform(FROM_THE_FRONT, np.array([middle[0] + 30.0, middle[1] - 81.0, middle[2]]))
    move = pose @ POSE.inverse()

    def moved(point: tuple[float, float, float]) -> tuple[float, float, float]:
        return rounded_point(move.apply(point))

    def needle(of: PlannedNeedle) -> PlannedNeedle:
        seeds = tuple(replace(seed, centre_mm=moved(seed.centre_mm)) for seed in of.seeds)
        return replace(of, entry_mm=moved(of.entry_mm), tip_mm=moved(of.tip_mm), seeds=seeds)

    plan = made_plan(2, 1, 2, skin_mm=32.0)
    matrix: Floats = np.asarray(pose.matrix())
    return replace(
        plan,
        patient_id=ct.patient_id,
        study_uid=ct.study_uid,
        series_uid=ct.series_uid,
        frame_of_reference_uid=ct.frame_of_reference_uid,
        site_protocol="general",
        patient_from_rig=tuple(tuple(float(v) for v in row) for row in matrix),
        needles=tuple(needle(of) for of in plan.needles),
    )


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``plan.json`` and the way to its case."""
    folder = tmp_path_factory.mktemp("campaign")
    case = make_case(folder / "case").folder
    (folder / "plan").mkdir()
    implant_of(case).save(folder / "plan" / "plan.json")
    note_case(folder / "plan", case)
    return folder / "plan"


def test_whole_procedures_on_the_phantom(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    asked = ["campaign", str(planned), "--out", str(out), "--workers", "1"]
    assert main([*asked, "--runs", "2"]) == 0
    told = capsys.readouterr().out
    for words in ("2 whole procedures", "2 of 2 procedures played", "CTs", "first pass", "CTV D90"):
        assert words in told
    runs, needles = (pq.read_table(out / name) for name in ("runs.parquet", "needles.parquet"))
    assert (runs.num_rows, needles.num_rows) == (2, 4)
    page = (out / "campaign.html").read_text(encoding="utf-8")
    assert "not a medical device" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page), "the page loads something"
    for words in (
        "needle.entry_mean_mm",
        "10.3389/fonc.2021.664996",
        "assumed",
        "Columns of needles.parquet",
        "Needle by needle",
    ):
        assert words in page
    assert page.count("<svg") == 3

    monkeypatch.setattr("console.campaign_page.svg", lambda _figure: "")  # drawing takes its time
    assert main([*asked, "--runs", "2"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*asked, "--runs", "3", "--resume", "--seed", "2"]) == 2
    assert "another --seed" in capsys.readouterr().err
    assert pq.read_table(out / "runs.parquet").equals(runs), "a refusal touches nothing"
    assert main([*asked, "--runs", "3", "--resume"]) == 0
    assert pq.read_table(out / "runs.parquet").slice(0, 2).equals(runs)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--runs", "0"], "0 is not in the range"),
        (["--vary", "none.toml"], "none.toml: the vary file can't be read"),
        (["--resume"], "not the folder of a run"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--activity-mci", "0.5"], "a PLAN has its own"),
        (["--case", "nowhere"], "nowhere: no such folder"),
        (["--protocol", "none"], "no such site protocol"),
    ],
    ids=lambda it: "".join(it)[:20] if isinstance(it, list) else "",
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    more: list[str], words: str, planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["campaign", str(planned), "--out", str(out), *more]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_oblique_needles_are_played_by_their_dose_alone(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(Plan.load(planned / "plan.json"), needle_set="oblique").save(tmp_path / "plan.json")
    asked = ["campaign", str(tmp_path / "plan.json"), "--case", str(planned.parent / "case")]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 2
    assert "oblique" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_subject_that_is_nowhere_and_a_case_of_somebody_else(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["campaign", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 2
    assert "no such plan.json and no such folder" in capsys.readouterr().err
    other = make_case(tmp_path / "other", seed=3).folder
    assert main(["campaign", str(planned), "--out", str(tmp_path / "out"), "--case", str(other)]) == 2
    assert "not the one that the plan was made on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stopped_is_told_kept_and_has_its_status(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulator.rehearsal.campaign import play

    def stop(*_: object) -> None:
        raise play.CampaignStoppedError("a worker process died; --resume goes on.")

    monkeypatch.setattr(play, "play_here", stop)
    out = tmp_path / "out"
    assert main(["campaign", str(planned), "--out", str(out), "--dose-only"]) == 3
    assert capsys.readouterr().err == "seedguide: stopped: a worker process died; --resume goes on.\n"
    assert (out / "campaign.json").exists()

    def full(*_: object) -> None:
        raise AskedWrongly("campaign.html: can't be written (No space left on device).")

    monkeypatch.undo()
    monkeypatch.setattr("console.campaign_page.write_page", full)
    asked = ["campaign", str(planned), "--out", str(out), "--dose-only", "--runs", "1000", "--workers", "1"]
    monkeypatch.setattr(play.DoseRuns, "play", lambda self, runs: [free_row(self, run) for run in runs])
    assert main([*asked, "--resume"]) == 3
    assert "Every run is kept" in capsys.readouterr().err


def free_row(player: Any, run: int) -> dict[str, Any]:
    """A run that costs nothing."""
    names = (f"{figure.structure}.{figure.metric}" for figure in player.figures.wanted)
    return {"run": run, "seeds": 4, "seeds_lost": 0, **dict.fromkeys(names, 100.0)}


def test_a_scheduler_that_is_not_there_leaves_nothing(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs the extra [cluster]")
    monkeypatch.setattr("simulator.rehearsal.campaign.cluster.WAIT_S", 0.3)
    out = tmp_path / "out"
    asked = ["campaign", str(planned), "--out", str(out), "--dose-only", "--scheduler", "tcp://127.0.0.1:9"]
    assert main(asked) == 2
    told = capsys.readouterr().err
    assert "no Dask scheduler answers there" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_figures_are_said_with_the_digits_that_matter() -> None:
    assert [number(v) for v in (127.619, 5.8647, 0.04, 1909.0, -0.5, float("inf"))] == [
        "127.6",
        "5.86",
        "0.04",
        "1909",
        "-0.50",
        "–",
    ]
    assert percent(share_interval(1000, 1000)) == "100 % (99.6 to 100)"
    assert percent(share_interval(1, 9000)).startswith("0.01111 %")


def test_holds_of_a_kind_are_counted_together() -> None:
    assert ending("still off target after 5 attempts: N12 2.5 mm") == ending(
        "still off target after 5 attempts: N01 3.1 mm, N02 2.2 mm"
    )
    words = "the reference needles don't agree on where the rig stands"
    assert ending(f"{words} (residual 5.3 mm); check how the template sits") == words


def test_needles_are_told_one_by_one() -> None:
    needles = {
        "run": [0, 0, 1, 1],
        "needle": ["N01", "N02", "N01", "N02"],
        "is_reference": [True, False, True, False],
        "corrections": [1, 2, 3, 5],
        "first_tip_mm": [1.0, 2.5, 1.5, None],
    }
    runs = {"run": [0, 1], "reason": ["", "still off target after 5 attempts: N02 2.5 mm"]}
    one, two = one_by_one(needles, runs, 2.0)
    assert (one.name, one.is_reference, one.held, one.corrections.value) == ("N01", True, 0, 2.0)
    assert (two.name, two.is_reference, two.held, two.corrections.value) == ("N02", False, 1, 3.5)
    assert one.beyond is not None
    assert two.beyond is not None
    assert (one.beyond.value, two.beyond.value) == (0.0, 1.0)
    assert two.first_tip_mm is not None
    assert two.first_tip_mm.value == 2.5, "the run that did not get there counts for nothing"


def test_a_spread_of_one_run_has_no_interval() -> None:
    spread = Spread("CTV D90", "Gy", 120.0, np.array([118.0]))
    assert (spread.sigma, spread.mean.low) == (0.0, -np.inf)
