"""Which exit status follows from what was reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_run import made_deviation, made_result, made_snapshot

from console.goals import ExitStatus, exit_status, judge
from controller.result import DoseResult, ProcedureResult


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ProcedureResult:
    return made_result(tmp_path_factory.mktemp("run"))


def missed(result: ProcedureResult) -> list[str]:
    return [goal.name for goal in judge(result) if not goal.met]


def with_d90(dose: DoseResult, name: str, d90_gy: float) -> DoseResult:
    return replace(dose, statistics={**dose.statistics, name: replace(dose.statistics[name], d90_gy=d90_gy)})


def test_all_met_is_status_0(result: ProcedureResult) -> None:
    assert missed(result) == []
    assert exit_status(result, judge(result)) == ExitStatus.COMPLETED == 0


def test_held_is_status_3_whatever_was_reached(result: ProcedureResult) -> None:
    held = replace(result, status="held", reason="a jam", delivered=None)
    assert exit_status(held, judge(held)) == 3
    assert "GTV D90, delivered" in missed(held)


def test_exactly_the_tolerance_is_within_and_more_is_not(result: ProcedureResult) -> None:
    def at(total_mm: float) -> ProcedureResult:
        first, *rest = result.final.needles
        deviated = replace(first, deviation=made_deviation(total_mm, 0.0))
        return replace(result, final=made_snapshot(result.plan, needles=(deviated, *rest)))

    assert missed(at(2.0)) == []
    assert missed(at(2.001)) == ["Needle tips within tolerance before the first seed"]


def test_each_goal_missed_is_told_and_is_status_4(result: ProcedureResult) -> None:
    assert result.delivered is not None
    first, *rest = result.seeds
    unseen = replace(first, found_mm=None, distance_mm=None)
    cases = {
        "CTV D90, planned": replace(result, planned=with_d90(result.planned, "CTV", 119.9)),
        "GTV D90, delivered": replace(result, delivered=with_d90(result.delivered, "GTV", 119.9)),
        "CTV D90, delivered": replace(result, delivered=with_d90(result.delivered, "CTV", 90.0)),
        "Seeds delivered (journal)": replace(result, seeds_in_journal=result.seeds_in_journal - 1),
        "Seeds found in the last CT": replace(result, seeds=(unseen, *rest)),
        "Seeds in the last CT that nobody planned": replace(result, unplanned_seeds_mm=((0.0, 0.0, 0.0),)),
    }
    for name, changed in cases.items():
        assert missed(changed) == [name]
        assert exit_status(changed, judge(changed)) == 4
