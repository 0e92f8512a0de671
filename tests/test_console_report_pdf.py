"""The report on paper: every number of the page is on it, and a name in any script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from console.confirmations import confirmations
from console.goals import judge
from console.report import write_report
from controller.journal import Record
from controller.result import ProcedureResult
from tests.made_run import made_result

pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ProcedureResult:
    """With its report written."""
    result = made_result(tmp_path_factory.mktemp("run"))
    write_report(result, judge(result), None, result.folder)
    return result


def text_of(path: Path) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)


def test_everything_is_on_it(made: ProcedureResult) -> None:
    text = text_of(made.folder / "report.pdf")
    assert "not a medical device" in text
    for needle in made.final.needles:
        assert f"{needle.name} {needle.hole}" in text
    for seed in made.seeds:
        assert f"{seed.planned_mm[0]:.1f}, {seed.planned_mm[1]:.1f}" in text
    for goal in judge(made):
        assert goal.reached in text
    assert made.digest in text.replace("\n", "")
    assert made.faults[0] in text


def test_the_same_result_gives_the_same_bytes(made: ProcedureResult) -> None:
    again = made.folder / "again"
    again.mkdir()
    write_report(made, judge(made), None, again)
    assert (again / "report.pdf").read_bytes() == (made.folder / "report.pdf").read_bytes()


def test_a_chinese_name_is_written(made: ProcedureResult, tmp_path: Path) -> None:
    named = replace(made, plan=replace(made.plan, patient_name="王^小明"))
    write_report(named, judge(named), None, tmp_path)
    assert "王" in text_of(tmp_path / "report.pdf")


def test_who_confirmed_is_told_from_the_journal() -> None:
    def record(at: int, sort: str, /, **body: object) -> Record:
        return Record(at, at * 10**9, sort, dict(body), "", "")

    told = confirmations(
        [
            record(1, "intention", command="AskOperator", number=7, text="Needle in?"),
            record(2, "event", event="OperatorConfirmed", number=7, who="An", values={"batch": "B1"}),
            record(3, "intention", command="AskOperator", number=8, text="Out?"),
            record(4, "event", event="OperatorDeclined", number=8, who="Bo", reason="bleeding"),
            record(5, "event", event="OperatorDecided", kind="abandon_needle", needle="N01", who="An"),
            record(6, "event", event="StopPressed", who="Cy"),
            record(7, "event", event="CommandDone", number=9),
        ]
    )
    assert [(c.who, c.word, c.about) for c in told] == [
        ("An", "confirmed", "Needle in? (batch B1)"),
        ("Bo", "declined", "Out? (bleeding)"),
        ("An", "decided", "abandon needle: needle N01"),
        ("Cy", "pressed STOP", ""),
    ]
    assert told[0].t_s == 2.0
