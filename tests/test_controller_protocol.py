"""The protocol's table: every (state, trigger) pair has its outcome, and ``transitions`` does what the table says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from controller import protocol
from controller.commands import Command
from controller.guidance import RigEstimate
from controller.knowledge import Knowledge, ProcedureSettings
from controller.procedure import Procedure
from controller.protocol_page import PAGE, render
from planning.frame import RigidTransform
from tests.made_plan import made_plan

PLAN = made_plan()

# What must happen, written by hand: (state, trigger) -> destination when nothing is wrong; no entry: nothing happens.
SMOOTH = {
    ("READY", "procedure_started"): "CHECKING_DEVICES",
    ("CHECKING_DEVICES", "work_done"): "AWAITING_TIME_OUT",
    ("AWAITING_TIME_OUT", "work_done"): "INSERTING_REFERENCE_NEEDLES",
    ("INSERTING_REFERENCE_NEEDLES", "work_done"): "AWAITING_REFERENCE_SCAN",
    ("AWAITING_REFERENCE_SCAN", "scan_judged"): "INSERTING_SEED_NEEDLES",
    ("CORRECTING_REFERENCE_NEEDLES", "work_done"): "AWAITING_REFERENCE_SCAN",
    ("INSERTING_SEED_NEEDLES", "work_done"): "AWAITING_NEEDLE_SCAN",
    ("AWAITING_NEEDLE_SCAN", "scan_judged"): "DELIVERING_SEEDS",
    ("CORRECTING_NEEDLES", "work_done"): "AWAITING_NEEDLE_SCAN",
    ("DELIVERING_SEEDS", "work_done"): "AWAITING_SEED_SCAN",
    ("AWAITING_SEED_SCAN", "scan_judged"): "COMPLETED",
    ("READY", "stop_pressed"): "STOPPED",
    ("HELD", "stop_pressed"): "STOPPED",
}
for _state in protocol.STATES:
    if _state not in ("READY", "COMPLETED", "PAUSED", "HELD", "STOPPED", "ABORTED"):
        SMOOTH[_state, "fault_seen"] = "HELD"
        SMOOTH[_state, "stop_pressed"] = "STOPPED"
        SMOOTH[_state, "pause_reached"] = "PAUSED"
SMOOTH["PAUSED", "fault_seen"] = "HELD"
SMOOTH["PAUSED", "stop_pressed"] = "STOPPED"
SMOOTH["PAUSED", "abort_decided"] = SMOOTH["HELD", "abort_decided"] = "ABORTING"
SMOOTH["ABORTING", "work_done"] = "ABORTED"
SMOOTH["ABORTING", "fault_seen"] = "ABORTED"  # nothing is in the patient and no cartridge in the applicator
# Where it was held decides where it goes back to (each in test_controller_held.py); here in this state:
HELD_IN = "DELIVERING_SEEDS"
SMOOTH["HELD", "procedure_resumed"] = HELD_IN
SMOOTH["PAUSED", "pause_ended"] = HELD_IN


def set_known(known: Knowledge, case: str) -> None:
    """Bring the knowledge into a named situation after a scan."""
    first = next(iter(known.needles.values()))
    known.rig = RigEstimate(RigidTransform.identity(), 1.0, True)
    known.scans_in_round = 1
    known.held_in = HELD_IN
    match case:
        case "off target":
            first.state, first.off_target, first.attempt = "in place", True, 1
        case "off target, attempts used up":
            first.state, first.off_target, first.attempt = "in place", True, known.settings.max_attempts
        case "needle not seen":
            known.unseen = ("N01",)
        case "not seen, scans used up":
            known.unseen, known.scans_in_round = ("N01",), known.settings.max_scans_per_round
        case "another scan is wished":
            known.scan_wished = True
        case "more seeds are seen":
            known.seeds_seen = 3
        case "more seeds are seen and accounted for":
            known.seeds_seen = known.seeds_accepted = 3
        case "a person judges":
            first.state = "in place"
            known.settings = replace(known.settings, person_judges=True)
        case "a person has accepted":
            first.state, first.verified = "in place", 0
            known.settings = replace(known.settings, person_judges=True)
        case "rig fits badly":
            known.rig = RigEstimate(RigidTransform.identity(), 9.0, False)


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(protocol.STATES, protocol.TRIGGERS)))
def test_every_pair_of_state_and_trigger(state: str, trigger: str) -> None:
    known = Knowledge.of(PLAN, ProcedureSettings())
    set_known(known, "all well")
    assert protocol.expected_destination(state, trigger, known) == SMOOTH.get((state, trigger))


@pytest.mark.parametrize(
    ("state", "case", "destination"),
    [
        ("AWAITING_REFERENCE_SCAN", "off target", "CORRECTING_REFERENCE_NEEDLES"),
        ("AWAITING_REFERENCE_SCAN", "off target, attempts used up", "HELD"),
        ("AWAITING_REFERENCE_SCAN", "needle not seen", "AWAITING_REFERENCE_SCAN"),
        ("AWAITING_REFERENCE_SCAN", "not seen, scans used up", "HELD"),
        ("AWAITING_REFERENCE_SCAN", "rig fits badly", "HELD"),
        ("AWAITING_NEEDLE_SCAN", "off target", "CORRECTING_NEEDLES"),
        ("AWAITING_NEEDLE_SCAN", "off target, attempts used up", "HELD"),
        ("AWAITING_NEEDLE_SCAN", "needle not seen", "AWAITING_NEEDLE_SCAN"),
        ("AWAITING_NEEDLE_SCAN", "not seen, scans used up", "HELD"),
        ("AWAITING_SEED_SCAN", "needle not seen", "AWAITING_SEED_SCAN"),
        ("AWAITING_SEED_SCAN", "not seen, scans used up", "HELD"),
        ("AWAITING_REFERENCE_SCAN", "another scan is wished", "AWAITING_REFERENCE_SCAN"),
        ("AWAITING_NEEDLE_SCAN", "another scan is wished", "AWAITING_NEEDLE_SCAN"),
        ("AWAITING_SEED_SCAN", "another scan is wished", "AWAITING_SEED_SCAN"),
        ("AWAITING_SEED_SCAN", "more seeds are seen", "HELD"),
        ("AWAITING_SEED_SCAN", "more seeds are seen and accounted for", "COMPLETED"),
    ],
)
def test_a_scan_that_is_not_all_well(state: str, case: str, destination: str) -> None:
    known = Knowledge.of(PLAN, ProcedureSettings())
    set_known(known, case)
    assert protocol.expected_destination(state, "scan_judged", known) == destination


@pytest.mark.parametrize(
    ("state", "trigger", "case", "destination"),
    [
        ("AWAITING_REFERENCE_SCAN", "scan_judged", "a person judges", "CORRECTING_REFERENCE_NEEDLES"),
        ("AWAITING_REFERENCE_SCAN", "scan_judged", "a person has accepted", "CORRECTING_REFERENCE_NEEDLES"),
        ("AWAITING_NEEDLE_SCAN", "scan_judged", "a person judges", "CORRECTING_NEEDLES"),
        ("AWAITING_NEEDLE_SCAN", "scan_judged", "a person has accepted", "CORRECTING_NEEDLES"),
        ("CORRECTING_REFERENCE_NEEDLES", "work_done", "a person judges", "AWAITING_REFERENCE_SCAN"),
        ("CORRECTING_REFERENCE_NEEDLES", "work_done", "a person has accepted", "INSERTING_SEED_NEEDLES"),
        ("CORRECTING_NEEDLES", "work_done", "a person judges", "AWAITING_NEEDLE_SCAN"),
        ("CORRECTING_NEEDLES", "work_done", "a person has accepted", "DELIVERING_SEEDS"),
    ],
)
def test_where_a_person_judges_nothing_goes_on_without_that_word(
    state: str, trigger: str, case: str, destination: str
) -> None:
    known = Knowledge.of(PLAN, ProcedureSettings())
    set_known(known, case)
    assert protocol.expected_destination(state, trigger, known) == destination


CASES = (
    "a person judges",
    "a person has accepted",
    "all well",
    "off target",
    "off target, attempts used up",
    "needle not seen",
    "not seen, scans used up",
    "another scan is wished",
    "more seeds are seen",
)


@pytest.mark.parametrize(
    ("state", "trigger", "case"), list(itertools.product(protocol.STATES, protocol.TRIGGERS, CASES))
)
def test_transitions_does_what_the_table_says(
    state: str, trigger: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    procedure = Procedure(PLAN, ProcedureSettings())
    set_known(procedure.known, case)
    expected = protocol.expected_destination(state, trigger, procedure.known)
    procedure._steps.state = state
    monkeypatch.setattr(procedure, "_next", tuple[Command, ...])
    monkeypatch.setattr("controller.insertion.correct", lambda *_: [])
    monkeypatch.setattr("controller.agenda.change_depth", lambda *_: [])
    monkeypatch.setattr("controller.agenda.insert", lambda *_: [])
    procedure._fire(trigger, "tested")
    assert procedure.state == (state if expected is None else expected)


def test_the_table_names_only_states_triggers_and_guards_that_exist() -> None:
    for row in protocol.TABLE:
        assert row.trigger in protocol.TRIGGERS
        assert set(row.sources) <= set(protocol.STATES)
        assert row.destination in protocol.STATES
        assert all(callable(guard) and guard.__doc__ for guard in row.guards)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {row.destination for row in protocol.TABLE} | {"READY"}
    left = {source for row in protocol.TABLE for source in row.sources}
    assert reached == set(protocol.STATES)
    assert left == set(protocol.STATES) - {"COMPLETED", "ABORTED", "STOPPED"}


def test_the_page_is_drawn_from_the_table_as_it_is_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m controller.protocol_page"
