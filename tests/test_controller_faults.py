"""A sample of the fault campaign: each kind of fault, and the laws that hold in each procedure."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.faults import Fault
from tests.compact_case import PLAN
from tests.fault_kinds import KINDS
from tests.fault_room import play


@pytest.mark.parametrize("kind", KINDS)
def test_no_law_is_broken_under_any_kind_of_fault(kind: str) -> None:
    outcome = play(PLAN, KINDS[kind](np.random.default_rng([list(KINDS).index(kind), 8])), seed=1)
    assert outcome.violations == []
    assert outcome.happened or kind == "nothing"


def test_the_ct_before_is_not_judged_again() -> None:
    """Found by the campaign: an old CT handed over for the last one ended a procedure with no seed seen."""
    outcome = play(PLAN, [Fault("scan old", at_state="AWAITING_SEED_SCAN")], seed=1)
    assert outcome.state == "COMPLETED"
    held = play(PLAN, [Fault("scan old", at_state="AWAITING_SEED_SCAN")] * 9, seed=1)
    assert held.state == "HELD"
    assert "judged before" in held.reason


def test_a_second_click_and_an_answer_to_another_question_are_told_and_change_nothing() -> None:
    undisturbed = play(PLAN, [], seed=1)
    clicked = play(
        PLAN,
        [
            Fault("operator twice", at_command="AskOperator"),
            Fault("operator early", at_state="DELIVERING_SEEDS"),
        ],
        seed=1,
    )
    assert clicked.state == undisturbed.state == "COMPLETED"
    assert clicked.virtual_s == undisturbed.virtual_s
    assert "answered already" in clicked.told[0]
    assert "is not asked about" in clicked.told[1]


def test_a_needle_is_not_left_moving_when_nobody_leads_it() -> None:
    outcome = play(PLAN, [Fault("unplug applicator", at_command="RetractNeedle", after_s=0.3)], seed=1)
    assert (outcome.state, outcome.violations) == ("HELD", [])
    assert "applicator" in outcome.reason


def test_a_cable_that_falls_silent_in_a_stroke_leaves_the_seed_in_doubt_and_says_so() -> None:
    """Found by the campaign: the hold told of a silent link and not of the seed that may have fallen."""
    outcome = play(
        PLAN, [Fault("silence applicator", at_command="DropSeed", nth=2, after_s=0.3, for_s=9.0)], seed=1
    )
    assert (outcome.state, outcome.violations) == ("HELD", [])
    assert "seed 2 is in doubt" in outcome.reason
