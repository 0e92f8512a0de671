"""The command line: one line for bad input, a documented status for every end, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_run import made_result, made_snapshot

from console.cli import main
from console.output_folder import MARKER
from controller.journal import Journal
from controller.result import ProcedureResult, Progress
from planning.refusal import AskedWrongly
from simulator.rehearsal.options import RehearsalOptions

Play = Callable[[RehearsalOptions, Any], ProcedureResult]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ProcedureResult:
    return made_result(tmp_path_factory.mktemp("run"))


@pytest.fixture
def rehearse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, Path]]:
    """Run ``seedguide rehearse`` with the procedure itself replaced; returns status and output folder."""

    def run(play: Play, *more: str, with_report: bool = False) -> tuple[int, Path]:
        monkeypatch.setattr("simulator.rehearsal.rehearse.rehearse", play)
        if not with_report:
            monkeypatch.setattr("console.report.write_report", lambda *_: Path("report.html"))
            monkeypatch.setattr("console.delivered_rt.write_delivered", lambda *_: [])
        (tmp_path / "case").mkdir(exist_ok=True)
        out = tmp_path / "deep" / "out"
        return main(["rehearse", str(tmp_path / "case"), "--out", str(out), *more]), out

    return run


def playing(result: ProcedureResult) -> Play:
    def play(options: RehearsalOptions, listener: Any) -> ProcedureResult:
        journal = Journal(options.out / "journal.sqlite")
        journal.append(0, "opened", {"plan": result.plan.content_hash})
        journal.close()
        listener(Progress("read", "Reading"))
        listener(Progress("completed", "All done", made_snapshot(result.plan)))
        return replace(result, folder=options.out)

    return play


def raising(problem: BaseException, *, begun: bool) -> Play:
    def play(options: RehearsalOptions, _: Any) -> ProcedureResult:
        (options.out / "plan.json").write_text("half written")
        if begun:
            (options.out / "journal.sqlite").write_text("a journal")
        raise problem

    return play


def one_line(text: str) -> str:
    assert text.startswith("seedguide: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text


def test_completed_is_status_0_with_table_report_and_digest(rehearse, result, capsys) -> None:
    status, out = rehearse(playing(result), with_report=True)
    shown = capsys.readouterr()
    assert status == 0
    assert shown.err == ""
    assert "Reading" in shown.out
    assert result.digest in shown.out
    assert str(out / "report.html") in shown.out
    assert (out / "report.html").exists()
    assert (out / MARKER).exists()


def test_quiet_leaves_only_the_end_table(rehearse, result, capsys) -> None:
    status, _ = rehearse(playing(result), "--quiet")
    shown = capsys.readouterr().out
    assert status == 0
    assert "Reading" not in shown
    assert result.digest in shown


def test_held_is_status_3_and_says_why(rehearse, result, capsys) -> None:
    held = replace(result, status="held", reason="seed 7 jammed; clear it by hand")
    status, _ = rehearse(playing(held))
    shown = capsys.readouterr()
    assert status == 3
    assert one_line(shown.err).startswith("seedguide: held: seed 7 jammed; clear it by hand. ")
    assert "resume" in shown.err, "and what to do"
    assert "Held because" in shown.out


def test_a_missed_goal_is_status_4(rehearse, result, capsys) -> None:
    status, _ = rehearse(playing(replace(result, seeds_in_journal=3)))
    assert status == 4
    assert "✗ missed" in capsys.readouterr().out


def test_what_the_input_is_refused_for_is_one_line_and_leaves_nothing(rehearse, capsys, tmp_path) -> None:
    status, _ = rehearse(raising(AskedWrongly("no GTV;\nthere are: PTV."), begun=False))
    assert status == 2
    assert one_line(capsys.readouterr().err) == "seedguide: no GTV; there are: PTV.\n"
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_bad_input_does_not_cost_the_run_that_was_there(rehearse, result, capsys) -> None:
    _, out = rehearse(playing(result))
    before = sorted(p.name for p in out.iterdir())
    status, _ = rehearse(raising(AskedWrongly("no GTV."), begun=False), "--overwrite")
    assert status == 2
    assert sorted(p.name for p in out.iterdir()) == before
    assert (out / "journal.sqlite").exists()
    assert not (out / "plan.json").exists()
    assert one_line(capsys.readouterr().err)


@pytest.mark.parametrize("problem", [ZeroDivisionError("a\nbug"), AskedWrongly("too late to refuse")])
def test_our_own_fault_is_status_1_with_its_traceback_in_the_folder(rehearse, capsys, problem) -> None:
    status, out = rehearse(raising(problem, begun=True))
    shown = capsys.readouterr()
    assert status == 1
    assert str(out / "fault.txt") in one_line(shown.err)
    assert "Traceback" not in shown.out + shown.err
    assert "Traceback" in (out / "fault.txt").read_text()
    assert (out / "journal.sqlite").exists()


def test_interrupted_is_status_130_and_keeps_the_journal_if_there_is_one(rehearse, capsys, tmp_path) -> None:
    status, _ = rehearse(raising(KeyboardInterrupt(), begun=False))
    assert status == 130
    assert "nothing was written" in one_line(capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
    status, out = rehearse(raising(KeyboardInterrupt(), begun=True))
    assert status == 130
    assert str(out) in one_line(capsys.readouterr().err)
    assert (out / "journal.sqlite").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["rehearse"],
        ["rehearse", "CASE"],
        ["rehearse", "no-such-folder", "--out", "OUT"],
        ["rehearse", "CASE", "--out", "CASE/out"],
        ["rehearse", "CASE", "--out", "OUT", "--speed", "2"],
        ["rehearse", "CASE", "--out", "OUT", "--rx-gy", "nan"],
        ["rehearse", "CASE", "--out", "OUT", "--rx-gy", "0"],
        ["rehearse", "CASE", "--out", "OUT", "--margin-mm", "-1"],
        ["rehearse", "CASE", "--out", "OUT", "--slice-mm", "inf"],
        ["rehearse", "CASE", "--out", "OUT", "--seed", "-1"],
        ["rehearse", "CASE", "--out", "OUT", "--seed", "one"],
        ["rehearse", "CASE", "--out", "OUT", "--max-attempts", "0"],
        ["rehearse", "CASE", "--out", "OUT", "--door", "window"],
        ["rehearse", "CASE", "--out", "OUT", "--protocol", "no-such-protocol"],
        ["rehearse", "CASE", "--out", "OUT"],  # a CASE without a CT
        ["no-such-command"],
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, capsys, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    places = {
        "CASE": str(tmp_path / "case"),
        "OUT": str(tmp_path / "out"),
        "CASE/out": str(tmp_path / "case/out"),
    }
    assert main([places.get(word, word) for word in arguments]) == 2
    assert one_line(capsys.readouterr().err)
    assert [p.name for p in tmp_path.rglob("*")] == ["case"]


def test_help_says_first_what_it_is_and_names_every_exit_status(capsys) -> None:
    assert main(["--help"]) == 0
    head = capsys.readouterr().out.split("Options:")[0]
    assert "not a medical device, not for clinical use" in " ".join(head.split())
    assert main(["rehearse", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "not a medical device, not for clinical use" in text.split("Options:")[0]
    for status in (
        "0 completed",
        "1 internal fault",
        "2 bad input",
        "3 held",
        "4 completed, but",
        "130 inter",
    ):
        assert status in text
    assert main(["--version"]) == 0
    assert "not a medical device" in capsys.readouterr().out
