"""The time-out: four confirmations, each naming what is confirmed, and nothing moves before all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.commands import AskOperator, HomeRig
from controller.events import (
    CommandDone,
    OperatorConfirmed,
    OperatorDeclined,
    ProcedureResumed,
    ProcedureStarted,
)
from controller.interlocks import REQUIRED, plan_is_the_confirmed_one
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.time_out import ITEMS
from tests.held_room import begin, records
from tests.killed_room import KilledRoom
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 3)
ACTIVITY = PLAN.activity_mci


def at_the_time_out() -> tuple[Procedure, AskOperator]:
    procedure = Procedure(PLAN, ProcedureSettings(cartridge_capacity=4))
    asked = procedure.handle(ProcedureStarted("nurse"))
    while procedure.state == "CHECKING_DEVICES":
        asked = procedure.handle(CommandDone(asked[0].number, {}))
    assert isinstance(asked[0], AskOperator)
    return procedure, asked[0]


def confirmed(
    procedure: Procedure, asked: AskOperator, values: dict[str, dict[str, Any]]
) -> list[AskOperator]:
    told = []
    now: tuple[Any, ...] = (asked,)
    while procedure.state == "AWAITING_TIME_OUT":
        assert procedure.known.confirmed_hash is None
        told.append(now[0])
        now = procedure.handle(OperatorConfirmed(now[0].number, "Dr A", values.get(now[0].item, {})))
    return told


def test_each_confirmation_names_what_is_confirmed() -> None:
    procedure, asked = at_the_time_out()
    told = confirmed(procedure, asked, {})
    assert tuple(command.item for command in told) == ITEMS
    words = {command.item: command.text for command in told}
    assert PLAN.patient_id in words["patient"]
    assert PLAN.patient_name in words["patient"]
    assert PLAN.content_hash[:8].upper() in words["plan"]
    assert f"{ACTIVITY:.3g} mCi" in words["seeds"]
    assert "assumed" in words["seeds"]
    assert "6 seeds in 2 cartridges" in words["cartridges"]
    assert "4, 2" in words["cartridges"]
    assert procedure.known.confirmed_hash == PLAN.content_hash


@pytest.mark.parametrize("part", [0.95, 1.0, 1.05])
def test_an_assay_within_tolerance_is_kept(part: float) -> None:
    procedure, asked = at_the_time_out()
    values = {"batch": "B17", "measured_mci": ACTIVITY * part}
    confirmed(procedure, asked, {"seeds": values})
    assert procedure.state == "INSERTING_REFERENCE_NEEDLES"
    assert procedure.known.time_out["seeds"] == values


@pytest.mark.parametrize(
    "measured", [ACTIVITY * 0.949, ACTIVITY * 1.051, 0.0, float("nan"), float("inf"), "0.5", True]
)
def test_an_assay_beyond_tolerance_holds_and_is_asked_again(measured: object) -> None:
    procedure, asked = at_the_time_out()
    confirmed(procedure, asked, {"seeds": {"measured_mci": measured}})
    assert procedure.state == "HELD"
    assert "mCi" in procedure.known.held_because
    assert procedure.known.confirmed_hash is None
    (homed,) = procedure.handle(ProcedureResumed("Dr A", False, None, "NONE", False))
    assert isinstance(homed, HomeRig)
    (again,) = procedure.handle(CommandDone(homed.number, {}))
    assert isinstance(again, AskOperator)
    assert again.item == "seeds"


def test_one_no_is_enough() -> None:
    procedure, asked = at_the_time_out()
    procedure.handle(OperatorDeclined(asked.number, "nurse", "another wristband"))
    assert procedure.state == "HELD"
    assert procedure.known.confirmed_hash is None


def test_what_was_measured_is_in_the_journal(tmp_path: Path) -> None:
    class Measuring(KilledRoom):
        def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
            answer, took_ns = super().answer(command)
            if command.item == "seeds":
                values = {"batch": "B17", "measured_mci": round(ACTIVITY * 1.01, 4)}
                return OperatorConfirmed(command.number, self.name, values), took_ns
            return answer, took_ns

    procedure = begin(Measuring(PLAN, setup_mm=0.2, own_mm=0.2, seed=1), tmp_path)
    assert procedure.state == "COMPLETED", procedure.known.held_because
    told = [r.body["values"] for r in records(tmp_path) if r.body.get("values")]
    assert told == [{"batch": "B17", "measured_mci": round(ACTIVITY * 1.01, 4)}]


def test_nothing_enters_the_patient_without_the_confirmed_plan() -> None:
    names = {
        "MoveAcross",
        "MoveDepth",
        "CloseGrip",
        "OpenGrip",
        "BeginLedger",
        "DeclareCartridge",
        "RetractNeedle",
        "DropSeed",
    }
    assert names <= {
        kind.__name__ for kind, several in REQUIRED.items() if plan_is_the_confirmed_one in several
    }
