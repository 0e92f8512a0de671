"""The report: one file that needs nothing from outside and hides nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_run import made_result

from console.goals import judge
from console.report import write_report
from controller.result import ProcedureResult
from planning.site_protocol import load_site_protocol

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that elements are closed in order; keeps the text and what is loaded."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.loaded: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + " "


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ProcedureResult:
    return made_result(tmp_path_factory.mktemp("run"))


def page_of(result: ProcedureResult, folder: Path) -> Page:
    path = write_report(result, judge(result), load_site_protocol("head-and-neck"), folder)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_holds_everything_and_loads_nothing(result: ProcedureResult, tmp_path: Path) -> None:
    page = page_of(result, tmp_path)
    assert page.open == []
    assert "Not a medical device, not for clinical use" in page.text
    assert result.digest in page.text
    assert result.plan.content_hash in page.text
    assert result.faults[0] in page.text
    for needle in result.plan.needles:
        assert needle.name in page.text
    for number in range(1, len(result.rounds) + 1):
        assert f"CT {number}:" in page.text
    planned, delivered = result.planned.statistics, result.delivered.statistics  # type: ignore[union-attr]
    for figures in (planned["CTV"], delivered["CTV"], planned["GTV"], delivered["GTV"]):
        assert f"{figures.d90_gy:.1f}" in page.text
        assert f"{figures.v150_pct:.1f}" in page.text
    pictures = [source for source in page.loaded if source.startswith("data:image/png;base64,")]
    assert len(pictures) == 3 + len(result.rounds)
    assert all(source.startswith(("data:", "#")) for source in page.loaded)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import|<script", source)
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_every_seed_has_its_line_and_a_patients_name_is_no_markup(
    result: ProcedureResult, tmp_path: Path
) -> None:
    name = "<script>alert(1)</script>"
    lost, *rest = result.seeds
    changed = replace(
        result,
        plan=replace(result.plan, patient_name=name),
        seeds=(replace(lost, found_mm=None, distance_mm=None, outcome="not delivered"), *rest),
        unplanned_seeds_mm=((1.0, 2.0, 3.0),),
        rounds=(),
    )
    page = page_of(changed, tmp_path)
    for seed in rest:
        assert seed.found_mm is not None
        assert ", ".join(f"{value:.1f}" for value in seed.found_mm) in page.text
    assert "not found" in page.text
    assert "1.0, 2.0, 3.0" in page.text
    assert name in page.text
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_procedure_held_before_any_scan_has_a_report_too(result: ProcedureResult, tmp_path: Path) -> None:
    needles = tuple(replace(n, first_deviation=None, deviation=None) for n in result.final.needles)
    held = replace(
        result,
        status="held",
        reason="the rig does not answer",
        delivered=None,
        rounds=(),
        seeds=tuple(replace(seed, found_mm=None, distance_mm=None) for seed in result.seeds),
        seeds_in_journal=0,
        faults=(),
        final=replace(result.final, needles=needles, state="HELD", step_index=-1),
    )
    page = page_of(held, tmp_path)
    assert page.open == []
    assert "the rig does not answer" in page.text
    assert "No scan was taken" in page.text
    assert "not seen" in page.text
