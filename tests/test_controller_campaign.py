"""A sample of the control part's campaign (``benchmarks.control_campaign`` plays thousands)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control_room import ControlRoom, control
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 2)


@pytest.mark.parametrize("seed", range(9000, 9040))
def test_every_seed_is_counted_whatever_people_and_kills_do(tmp_path: Path, seed: int) -> None:
    became = control(PLAN, seed, tmp_path, rate=0.03)
    assert became.violations == []


def test_the_sample_has_holds_kills_and_wrong_answers(tmp_path: Path) -> None:
    played = []
    for seed in range(9100, 9120):
        (tmp_path / str(seed)).mkdir()
        played.append(control(PLAN, seed, tmp_path / str(seed), rate=0.03))
    assert sum(it.holds for it in played) > 5
    assert sum(it.kills for it in played) > 5
    assert sum(len(it.happened) for it in played) > 10


def test_killed_before_its_first_record_is_on_disk_a_procedure_begins_anew(tmp_path: Path) -> None:
    """Found by the campaign."""
    for at in (1, 2, 3, 4, 5):
        folder = tmp_path / str(at)
        folder.mkdir()
        procedure, killed = ControlRoom(PLAN, folder, 1, 0.0).play([at])
        assert (procedure.state, killed) == ("COMPLETED", 1)


def test_an_undisturbed_procedure_is_completed_without_a_hold(tmp_path: Path) -> None:
    became = control(PLAN, 1, tmp_path, rate=0.0, kills=False)
    assert (became.state, became.holds, became.violations) == ("COMPLETED", 0, [])
