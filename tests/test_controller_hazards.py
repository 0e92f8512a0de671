"""The hazard table names tests and interlocks that exist, and every event that has happened in the world."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller import interlocks

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "controller" / "HAZARDS.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| hazard")
]
TESTS = {
    name
    for path in (ROOT / "tests").glob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_hazard_has_cause_remedy_and_tests_that_exist(row: list[str]) -> None:
    hazard, cause, remedy, tests = row
    assert hazard
    assert cause
    assert remedy
    named = re.findall(r"`(\w+)`", tests)
    assert named
    assert set(named) <= TESTS
    for interlock in re.findall(r"`(\w+)`", remedy):
        assert hasattr(interlocks, interlock)


@pytest.mark.parametrize(
    "event", ["44537", "44143", "80-35", "44194", "58057", "2020-06-29", "50673", "55419", "43073"]
)
def test_what_has_gone_wrong_in_the_world_is_a_row(event: str) -> None:
    assert [row for row in ROWS if event in row[1]]
