"""Whole procedures through real drivers, bytes and firmware in virtual time; only tissue and scanner are plain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.commands import AskOperator, RequestScan
from controller.journal import Record, read_journal, verify
from controller.knowledge import ProcedureSettings
from tests.made_plan import made_plan
from tests.plain_room import Room

PLAN = made_plan()


def played(folder: Path, room: Room) -> list[Record]:
    folder.mkdir(exist_ok=True)
    session = room.session(folder)
    session.run()
    room.journal.close()
    assert verify(folder / "journal.sqlite") is None
    return list(read_journal(folder / "journal.sqlite"))


def states(records: list[Record]) -> list[str]:
    return [r.body["to"] for r in records if r.kind == "decision" and "to" in r.body]


def commands(records: list[Record], name: str) -> list[dict[str, Any]]:
    return [r.body for r in records if r.kind == "intention" and r.body["command"] == name]


def dropped(records: list[Record]) -> list[dict[str, Any]]:
    return [r.body for r in records if r.body.get("event") == "SeedDropped"]


def test_a_procedure_that_needs_no_correction_is_a_transcript(tmp_path: Path) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)
    records = played(tmp_path / "a", room)
    assert states(records) == [
        "CHECKING_DEVICES",
        "AWAITING_TIME_OUT",
        "INSERTING_REFERENCE_NEEDLES",
        "AWAITING_REFERENCE_SCAN",
        "INSERTING_SEED_NEEDLES",
        "AWAITING_NEEDLE_SCAN",
        "DELIVERING_SEEDS",
        "AWAITING_SEED_SCAN",
        "COMPLETED",
    ]
    assert [d["seed"] for d in dropped(records)] == [seed.number for seed in PLAN.seeds]
    assert {d["outcome"] for d in dropped(records)} == {"PASS"}
    for needle in PLAN.needles:
        back = [c["z_um"] for c in commands(records, "RetractNeedle") if c["needle"] == needle.name]
        assert back == sorted(back)
        assert back == [round(seed.retraction_mm * 1000) for seed in needle.seeds]
    reference = [c for c in commands(records, "MoveDepth") if c["in_tissue"]][: len(PLAN.reference_needles)]
    depths = [c["z_mm"] - 20.0 for c in reference]
    assert depths == pytest.approx([25.0] * len(depths), abs=0.01)


def test_the_intention_of_every_seed_is_on_disk_before_its_outcome(tmp_path: Path) -> None:
    records = played(tmp_path / "a", Room(PLAN))
    for seed in PLAN.seeds:
        meant = next(
            r.number for r in records if r.body.get("command") == "DropSeed" and r.body["seed"] == seed.number
        )
        done = next(
            r.number
            for r in records
            if r.body.get("event") == "SeedDropped" and r.body["seed"] == seed.number
        )
        assert meant < done


def test_same_seed_same_journal_and_another_seed_another(tmp_path: Path) -> None:
    first = played(tmp_path / "a", Room(PLAN, seed=5))
    again = played(tmp_path / "b", Room(PLAN, seed=5))
    other = played(tmp_path / "c", Room(PLAN, seed=6))
    assert [r.digest for r in first] == [r.digest for r in again]
    assert first[-1].digest != other[-1].digest


@pytest.mark.parametrize("seed", range(6))
def test_a_set_up_error_of_6_mm_needs_corrections_and_ends_within_2_mm(tmp_path: Path, seed: int) -> None:
    room = Room(PLAN, seed=seed, setup_mm=6.0)
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "COMPLETED"
    assert "CORRECTING_REFERENCE_NEEDLES" in states(records)
    planned = {needle.name: np.array(needle.tip_mm) for needle in PLAN.needles}
    true = [np.linalg.norm(tip - planned[name]) for name, tip in room.tips_at_delivery.items()]
    assert len(true) == len(PLAN.needles)
    assert max(true) <= 2.0
    assert room.template.seeds_dropped == {n.name: len(n.seeds) for n in PLAN.needles}


def test_an_error_that_never_repeats_ends_held_and_no_seed_is_dropped(tmp_path: Path) -> None:
    room = Room(PLAN, own_mm=5.0, repeats=0.0, settings=ProcedureSettings(max_attempts=5))
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "HELD"
    assert "after 5 attempts" in room.procedure.known.held_because
    assert dropped(records) == []
    assert room.tissue.true_seeds == []
    assert commands(records, "DropSeed") == []


def test_a_jam_holds_the_procedure_with_nothing_retried(tmp_path: Path) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)

    def jam_third(command: AskOperator) -> None:
        if command.task == "couple_applicator" and command.needle == "N02":
            room.hands_on.jam_next()

    room.before_answer = jam_third
    records = played(tmp_path / "a", room)
    before = len(PLAN.needles[0].seeds)
    assert states(records)[-1] == "HELD"
    assert [d["outcome"] for d in dropped(records)] == ["PASS"] * before + ["NOPASS"]
    assert len(commands(records, "DropSeed")) == before + 1
    assert "count the seeds" in room.procedure.known.held_because
    assert len(room.tissue.true_seeds) == before
    assert room.applicator.board.latch == "JAM"


@pytest.mark.parametrize("task", ["load_needle", "couple_applicator"])
def test_a_pressed_e_stop_holds(tmp_path: Path, task: str) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)

    def press(command: AskOperator) -> None:
        if command.task == task and command.needle == "N03":
            room.hands_on.set_estop(True, 0)

    room.before_answer = press
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "HELD"
    assert "e-stop" in room.procedure.known.held_because
    last_answer = max(r.number for r in records if r.body.get("event") == "OperatorConfirmed")
    moved = {"MoveDepth", "MoveAcross", "CloseGrip", "RetractNeedle", "DropSeed"}
    assert not [r for r in records[last_answer:] if r.kind == "intention" and r.body["command"] in moved]


def test_a_scan_of_another_patient_is_not_used(tmp_path: Path) -> None:
    room = Room(PLAN)

    def other_patient(command: RequestScan, values: dict[str, Any]) -> None:
        if command.scan == 2:
            values["identity"] = replace(values["identity"], patient_id="SOMEBODY")

    room.change_findings = other_patient
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "HELD"
    assert "SOMEBODY" in room.procedure.known.held_because
    assert dropped(records) == []


def test_a_needle_that_is_not_seen_is_scanned_again_and_then_held(tmp_path: Path) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)

    def hide(command: RequestScan, values: dict[str, Any]) -> None:
        if command.kind == "needles":
            values["needles"] = tuple(n for n in values["needles"] if n.name != "N04")

    room.change_findings = hide
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "HELD"
    assert "N04" in room.procedure.known.held_because
    assert len([c for c in commands(records, "RequestScan") if c["kind"] == "needles"]) == 3
    assert dropped(records) == []


def test_a_scan_that_cannot_be_registered_is_repeated(tmp_path: Path) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)

    def fail_once(command: RequestScan, values: dict[str, Any]) -> None:
        if command.scan == 1:
            values.update(registered=False, problem="too little in common", needles=())

    room.change_findings = fail_once
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "COMPLETED"
    assert len([c for c in commands(records, "RequestScan") if c["kind"] == "reference"]) == 2


def test_an_unsure_tip_is_corrected_not_believed(tmp_path: Path) -> None:
    room = Room(PLAN, seed=3, sigma_mm=0.6)
    played(tmp_path / "a", room)
    for judged in room.procedure.known.judged:
        for name, found in judged.deviations:
            if abs(found.total_mm - 2.0) < found.sigma_mm and name not in judged.corrected:
                story = room.procedure.known.needles[name]
                assert found.total_mm <= 2.0
                assert story.attempt >= 1


def test_the_automatic_operator_is_refused_on_hardware_that_is_not_simulated(tmp_path: Path) -> None:
    room = Room(PLAN, simulated=False)
    records = played(tmp_path / "a", room)
    assert states(records)[-1] == "HELD"
    assert "real hardware: a person must confirm" in room.procedure.known.held_because
    assert commands(records, "HomeApplicator") == []


def test_a_benchs_configuration_is_refused_on_real_hardware(tmp_path: Path) -> None:
    for simulated, ends in ((False, "HELD"), (True, "COMPLETED")):
        room = Room(PLAN, simulated=simulated, setup_mm=0.2, own_mm=0.2)
        room.is_automatic = False
        (tmp_path / ends).mkdir()
        room.session(tmp_path / ends, only_simulated=True).run()
        room.journal.close()
        assert room.procedure.state == ends
        is_refused = "devices.toml has a table [simulated]" in room.procedure.known.held_because
        assert is_refused is not simulated
        records = list(read_journal(tmp_path / ends / "journal.sqlite"))
        assert bool(commands(records, "HomeApplicator")) is simulated


def test_stop_goes_around_everything(tmp_path: Path) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)
    (tmp_path / "a").mkdir()
    session = room.session(tmp_path / "a")

    def stop(command: AskOperator) -> None:
        if command.task == "couple_applicator" and command.needle == "N02":
            session.stop("nurse")

    room.before_answer = stop
    session.run()
    room.journal.close()
    assert room.procedure.state == "STOPPED"
    assert room.applicator.board.latch == "STOP"
    assert len(room.tissue.true_seeds) == len(PLAN.needles[0].seeds)
