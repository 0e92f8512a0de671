"""``python -m benchmarks``: every section is a module, and replacing one leaves the others alone."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks.__main__ import SECTIONS, Section, main, with_section


def test_every_section_is_a_module_named_once() -> None:
    names = [section.module for section in SECTIONS]
    assert len(set(names)) == len(names)
    assert [n for n in names if importlib.util.find_spec(f"benchmarks.{n}") is None] == []


def test_a_section_replaces_itself_and_nothing_else() -> None:
    first, second = Section("dose", "Dose"), Section("loading", "Loading")
    page = with_section("# Results\n\nby hand\n", first, r"old \1 text")
    page = with_section(page, second, "other")
    again = with_section(page, first, "new")
    assert "old" not in again
    assert "by hand" in again
    assert "other" in again
    assert again.count("## Dose") == again.count("## Loading") == 1
    assert with_section(again, first, "new") == again


def test_the_list_names_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--list"])
    assert main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(SECTIONS)
