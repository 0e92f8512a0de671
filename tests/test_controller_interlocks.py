"""Every interlock holds back what it is there for, and there is no command without a decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from controller import commands as c
from controller.interlocks import REQUIRED, DeviceFacts, Interlock, judge, scan_belongs_to_plan
from controller.knowledge import Knowledge, ProcedureSettings, SeedInDoubt
from imaging.rescan import RescanFindings, ScanIdentity
from planning.plan import PlannedSeed
from tests.made_plan import made_plan

PLAN = made_plan()
FIRST = PLAN.needles[0]
FACTS = DeviceFacts(
    rig_is_live=True,
    rig_knows_position=True,
    applicator_is_live=True,
    cartridge_left=10,
    cartridge_is_seated=True,
    needle_z_um=4500,
)


def ready() -> Knowledge:
    """Everything stands so that any command of ``ALLOWED`` may leave."""
    known = Knowledge.of(PLAN, ProcedureSettings())
    known.confirmed_hash = known.plan_hash
    known.rig_homed = known.stylet_homed = known.retraction_homed = True
    known.carriage_z_mm = known.settings.home_z_mm
    known.across_for = FIRST.name
    known.loaded = FIRST.name
    known.cartridge_left = 10
    story = known.needles[FIRST.name]
    story.state, story.moved, story.verified = "in place", 3, 3
    story.aim_rig_mm = np.array([0.0, 0.0, 80.0])
    return known


ALLOWED: dict[type[c.Command], c.Command] = {
    c.AskOperator: c.AskOperator(1, "load_needle", "text"),
    c.ConnectRig: c.ConnectRig(1),
    c.HomeRig: c.HomeRig(1),
    c.MoveAcross: c.MoveAcross(1, FIRST.name, 0.0, 0.0),
    c.MoveDepth: c.MoveDepth(1, FIRST.name, 10.0, in_tissue=False),
    c.CloseGrip: c.CloseGrip(1, FIRST.name),
    c.OpenGrip: c.OpenGrip(1, FIRST.name),
    c.ConnectApplicator: c.ConnectApplicator(1),
    c.HomeApplicator: c.HomeApplicator(1, "stylet"),
    c.ClearLatch: c.ClearLatch(1, "WATCH"),
    c.BeginLedger: c.BeginLedger(1, "0" * 8),
    c.DeclareCartridge: c.DeclareCartridge(1, 1, 15, 0),
    c.RetractNeedle: c.RetractNeedle(1, FIRST.name, 4500),
    c.DropSeed: c.DropSeed(1, FIRST.name, 1, 4500, "AAAA", 1),
    c.EndLedger: c.EndLedger(1, 10),
    c.RequestScan: c.RequestScan(1, 1, "needles", 0),
    c.EvaluateNeedles: c.EvaluateNeedles(1),
}
DELIVERY = (c.RetractNeedle, c.DropSeed)


def situation(command: c.Command) -> Knowledge:
    known = ready()
    if isinstance(command, DELIVERY):
        known.coupled, known.ledger_begun = FIRST.name, True
    return known


def every_command() -> set[type[c.Command]]:
    return set(c.Command.__subclasses__())


def test_every_command_has_a_decision_and_an_example_here() -> None:
    assert set(REQUIRED) == every_command() == set(ALLOWED)


@pytest.mark.parametrize("kind", sorted(ALLOWED, key=lambda k: k.__name__))
def test_a_command_leaves_when_all_is_well(kind: type[c.Command]) -> None:
    command = ALLOWED[kind]
    assert judge(command, situation(command), FACTS) is None


def test_a_command_nobody_decided_on_never_leaves() -> None:
    class Invented(c.Command):
        pass

    with pytest.raises(KeyError):
        judge(Invented(1), ready(), FACTS)


Change = Callable[[Knowledge], None]


def nothing(known: Knowledge) -> None:
    del known


def put(name: str, value: object) -> Change:
    return lambda known: setattr(known, name, value)


def put_needle(name: str, value: object) -> Change:
    return lambda known: setattr(known.needles[FIRST.name], name, value)


def adapted(delivered: tuple[int, ...], *seeds: tuple[int, float]) -> Change:
    """The needle's seeds (number, mm behind the tip) after an adapted plan, some of them delivered."""

    def change(known: Knowledge) -> None:
        known.needles[FIRST.name].adapted = tuple(
            PlannedSeed(number, FIRST.tip_mm, retraction_mm) for number, retraction_mm in seeds
        )
        known.seeds_delivered = list(delivered)

    return change


DOUBT = SeedInDoubt(FIRST.name, 1, 1, "JAM", 1)
FOUND = SeedInDoubt(FIRST.name, 1, 1, "JAM", 1, "patient")
M, D, R, A = c.MoveDepth, c.DropSeed, c.RetractNeedle, c.MoveAcross
# interlock, command, what is wrong in what is known, what is wrong in what the devices say, another command instead
BROKEN: list[tuple[str, c.Command, Change, dict[str, object]]] = [
    ("rig_link_is_live", ALLOWED[M], nothing, {"rig_is_live": False}),
    ("rig_position_is_known", ALLOWED[M], nothing, {"rig_knows_position": False}),
    ("rig_position_is_known", ALLOWED[A], put("rig_homed", False), {}),
    ("applicator_link_is_live", ALLOWED[D], nothing, {"applicator_is_live": False}),
    ("estop_is_clear", ALLOWED[M], nothing, {"estop_open": True}),
    ("estop_is_clear", ALLOWED[R], nothing, {"estop_open": True}),
    ("nothing_is_latched", ALLOWED[D], nothing, {"latch": "JAM"}),
    ("latch_may_be_cleared", c.ClearLatch(1, "JAM"), nothing, {"latch": "JAM"}),
    ("latch_may_be_cleared", c.ClearLatch(1, "WATCH"), nothing, {"latch": "UNKNOWN"}),
    ("latch_may_be_cleared", c.ClearLatch(1, "JAM", 1, "IN"), put("doubt", DOUBT), {"latch": "JAM"}),
    ("latch_may_be_cleared", c.ClearLatch(1, "JAM", 1, "LF"), put("doubt", FOUND), {"latch": "JAM"}),
    ("latch_may_be_cleared", c.ClearLatch(1, "JAM", 2, "IN"), put("doubt", FOUND), {"latch": "JAM"}),
    ("needle_is_not_abandoned", ALLOWED[M], put_needle("state", "abandoned"), {}),
    ("needle_is_not_abandoned", ALLOWED[A], put_needle("state", "abandoned"), {}),
    ("needle_is_not_abandoned", ALLOWED[R], put_needle("state", "abandoned"), {}),
    ("needle_is_not_abandoned", ALLOWED[D], put_needle("state", "abandoned"), {}),
    ("no_seed_is_in_doubt", ALLOWED[D], put("doubt", DOUBT), {}),
    ("no_seed_is_in_doubt", ALLOWED[c.EndLedger], put("doubt", FOUND), {}),
    ("every_seed_is_accounted_for", c.EndLedger(1, 9), nothing, {}),
    ("no_axis_moves", ALLOWED[D], nothing, {"applicator_is_moving": True}),
    ("no_axis_moves", ALLOWED[D], nothing, {"rig_is_moving": True}),
    ("no_axis_moves", ALLOWED[c.RequestScan], nothing, {"rig_is_moving": True}),
    ("plan_is_the_confirmed_one", ALLOWED[M], put("confirmed_hash", None), {}),
    ("plan_is_the_confirmed_one", ALLOWED[D], put("confirmed_hash", "another"), {}),
    ("stylet_is_home", ALLOWED[R], nothing, {"stylet_z_um": 50_000}),
    ("stylet_is_home", ALLOWED[D], put("stylet_homed", False), {}),
    ("carriage_is_home", ALLOWED[A], put("carriage_z_mm", 40.0), {}),
    ("needle_is_over_its_hole", ALLOWED[M], put("across_for", "N02"), {}),
    ("no_other_needle_is_gripped", ALLOWED[A], put("gripped", "N02"), {}),
    ("needle_to_grip_is_there", ALLOWED[c.CloseGrip], put("loaded", None), {}),
    ("tissue_is_entered_with_a_gripped_needle", M(1, FIRST.name, 40.0, in_tissue=True), nothing, {}),
    ("depth_is_no_more_than_planned", M(1, FIRST.name, 90.1, in_tissue=False), nothing, {}),
    ("no_seed_delivery_has_begun", ALLOWED[M], put("ledger_begun", True), {}),
    ("no_seed_delivery_has_begun", ALLOWED[c.HomeRig], put("ledger_begun", True), {}),
    ("no_needle_is_coupled", c.HomeApplicator(1, "retraction"), put("coupled", "N01"), {}),
    ("needle_is_coupled", ALLOWED[D], put("coupled", "N02"), {}),
    ("needle_is_coupled", ALLOWED[R], put("coupled", None), {}),
    ("needle_is_verified", ALLOWED[D], put_needle("verified", None), {}),
    ("needle_is_verified", ALLOWED[D], put_needle("moved", 4), {}),
    ("needle_is_verified", ALLOWED[R], put_needle("state", "at reference depth"), {}),
    ("needle_is_only_drawn_back", ALLOWED[R], put_needle("last_z_um", 4501), {}),
    ("seed_is_the_next_one", D(1, FIRST.name, 2, 9500, "AAAA", 1), nothing, {"needle_z_um": 9500}),
    ("seed_is_the_next_one", ALLOWED[D], put("strokes", 1), {}),
    ("seed_is_the_next_one", ALLOWED[D], nothing, {"seed_counter": 1}),
    ("seed_is_planned_here", D(1, FIRST.name, 1, 4700, "AAAA", 1), nothing, {"needle_z_um": 4700}),
    ("seeds_are_no_more_than_planned", ALLOWED[D], put("seeds_delivered", list(range(100, 200))), {}),
    ("seed_keeps_its_distance", ALLOWED[D], adapted((9,), (9, 6.0), (1, 4.5)), {}),
    (
        "seed_lies_in_the_verified_channel",
        D(1, FIRST.name, 1, 2500, "AAAA", 1),
        adapted((), (1, 2.5)),
        {"needle_z_um": 2500},
    ),
    ("needle_stands_where_the_seed_goes", ALLOWED[D], nothing, {"needle_z_um": 4601}),
    ("cartridge_holds_a_seed", ALLOWED[D], nothing, {"cartridge_left": 0}),
    ("cartridge_holds_a_seed", ALLOWED[D], nothing, {"cartridge_is_seated": False}),
    ("cartridge_holds_a_seed", ALLOWED[D], nothing, {"cartridge_left": 9}),
    ("cartridge_is_the_next_one", c.DeclareCartridge(1, 2, 15, 0), nothing, {}),
    ("cartridge_is_the_next_one", c.DeclareCartridge(1, 1, 16, 0), nothing, {}),
]


@pytest.mark.parametrize(("name", "command", "change", "facts"), BROKEN)
def test_an_interlock_holds_back(
    name: str, command: c.Command, change: Change, facts: dict[str, object]
) -> None:
    known = situation(command)
    change(known)
    refused = judge(command, known, replace(FACTS, **facts))  # type: ignore[arg-type]
    assert refused is not None
    assert refused.interlock == name
    assert refused.reason


def test_every_interlock_is_shown_to_hold_and_says_why_it_is_there() -> None:
    used: set[Interlock] = {interlock for several in REQUIRED.values() for interlock in several}
    assert {interlock.__name__ for interlock in used} == {name for name, *_ in BROKEN}
    assert all(interlock.__doc__ for interlock in used)


def findings(patient: str, frame: str) -> RescanFindings:
    identity = ScanIdentity(patient, "1", "2", frame, 1.25, 90)
    return RescanFindings("needles", identity, (), True, "", 1.0, 0.2)


def test_a_scan_must_be_of_this_patient_and_frame() -> None:
    good = findings(PLAN.patient_id, PLAN.frame_of_reference_uid)
    assert scan_belongs_to_plan(good, PLAN) is None
    assert "OTHER" in (scan_belongs_to_plan(findings("OTHER", PLAN.frame_of_reference_uid), PLAN) or "")
    assert "frame of reference" in (scan_belongs_to_plan(findings(PLAN.patient_id, "9.9"), PLAN) or "")


def test_a_seed_latch_is_cleared_as_a_person_found_the_seed() -> None:
    known = ready()
    known.doubt = FOUND
    assert judge(c.ClearLatch(1, "JAM", 1, "IN"), known, replace(FACTS, latch="JAM")) is None
