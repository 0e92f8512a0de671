"""Order, defaults and refusals of ``run`` and ``resume``; the keyboard of a procedure."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from console.cli import main
from console.keyboard import Keyboard
from console.operator_choice import OperatorChoice
from console.output_folder import OutputFolder
from controller.devices_file import parse_devices, read_devices
from controller.journal import Journal
from controller.order import Order, read_order
from controller.undertaking import is_link_fault
from planning.case_link import case_of, note_case
from planning.refusal import AskedWrongly
from simulator.standalone import devices_toml
from tests.made_plan import made_plan

DEVICES = "[applicator]\ncartridge_capacity = 15\ndetent_um = 5000\nneedle_gauge = 18\n"
ORDER = Order("/nowhere/case", "/nowhere/rig", "/nowhere/applicator", "/nowhere/scans", "auto", 1.25, 5)


def test_what_a_bench_writes_is_what_a_controller_reads() -> None:
    devices = parse_devices(devices_toml(20.0), "devices.toml")
    assert (devices.applicator.capacity, devices.applicator.detent_um, devices.applicator.gauge) == (
        15,
        5000,
        18,
    )
    assert devices.simulated
    assert devices.speed == 20.0
    assert devices.baud == {"rig": 115_200, "applicator": 115_200, "depth encoder": 19_200}


def test_a_benchs_depth_encoder_stands_in_its_file() -> None:
    devices = parse_devices(devices_toml(1.0, 'socket://127.0.0.1:9"'), "devices.toml")
    assert devices.encoder is not None
    assert devices.encoder.counts_per_mm == 20.0
    assert devices.encoder_url == 'socket://127.0.0.1:9"'
    assert parse_devices(devices_toml(1.0), "devices.toml").encoder is None


@pytest.mark.parametrize(
    ("said", "meant"), [("console", "door"), ("door", "door"), ("terminal", "terminal"), ("auto", "auto")]
)
def test_people_at_consoles_answer_at_the_door(said: str, meant: str) -> None:
    assert OperatorChoice().convert(said, None, None) == meant
    with pytest.raises(click.BadParameter, match="nobody"):
        OperatorChoice().convert("nobody", None, None)


def test_grbl_settings_baud_and_reach_are_configuration() -> None:
    text = DEVICES + 'baud = 57600\n[rig]\nreach_mm = 80.0\nserial = "RIG-0007"\n[rig.settings]\n100 = 250\n'
    devices = parse_devices(text, "x")
    assert devices.rig.settings[100] == 250.0
    assert devices.rig.settings[101] == 200.0
    assert (devices.rig.reach_mm, devices.rig.serial, devices.baud["applicator"]) == (80.0, "RIG-0007", 57600)
    assert not devices.simulated
    assert devices.speed == 1.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DEVICES.replace("cartridge_capacity = 15\n", ""), "does not say cartridge_capacity"),
        (DEVICES.replace("5000", '"5"'), "detent_um is a whole number"),
        (DEVICES.replace("18", "-18"), "needle_gauge is a whole number above 0"),
        (DEVICES + "colour = 1\n", "key colour is not known"),
        (DEVICES + "[robot]\n", "table robot is not known"),
        (DEVICES + "[rig.settings]\nx = 1\n", "x is no Grbl setting"),
        (DEVICES + "[simulated]\nspeed = 1000\n", "speed is from 1 to 100"),
        (DEVICES + "[rig]\ndepth_mm = [1]\n", "depth_mm is a list of 2"),
        ("=", "is not TOML"),
    ],
)
def test_a_devices_file_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(AskedWrongly, match=says):
        parse_devices(text, "devices.toml")


def test_the_planning_ct_is_found_from_the_plan(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    plan = tmp_path / "p" / "plan.json"
    with pytest.raises(AskedWrongly, match="--case"):
        case_of(plan)
    (tmp_path / "ct").mkdir()
    note_case(tmp_path / "p", tmp_path / "ct")
    assert case_of(plan) == tmp_path / "ct"
    (tmp_path / "ct").rmdir()
    with pytest.raises(AskedWrongly, match="not in"):
        case_of(plan)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "run"
    taken = OutputFolder.take(path, overwrite=False, case=tmp_path / "elsewhere")
    ORDER.write(path, made_plan(), parse_devices(DEVICES, "x"))
    yield path
    taken.keep()


def test_an_order_comes_back_as_it_was_written(folder: Path) -> None:
    order, plan, devices = read_order(folder)
    assert order == ORDER
    assert plan == made_plan()
    assert devices.applicator.capacity == 15


def _resume(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["resume", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_what_can_not_be_resumed_is_told_in_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nothing had begun" in _resume(folder, capsys)
    assert "no such folder" in _resume(folder / "x", capsys)
    assert "order.json" in _resume(folder.parent, capsys)
    journal = Journal(folder / "journal.sqlite")
    journal.append(0, "opened", {"plan": made_plan().content_hash})
    assert "another process is writing" in _resume(folder, capsys).replace("\n", " ")
    journal.append(1, "decision", {"from": "HELD", "to": "STOPPED"})
    journal.close()
    assert "the procedure is stopped" in _resume(folder, capsys)
    (folder / "order.json").unlink()
    assert "rehearsal" in _resume(folder, capsys)


def test_a_second_controller_in_one_folder_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(folder / "journal.sqlite")
    journal.append(0, "opened", {"plan": made_plan().content_hash})
    journal.close()
    assert "another seedguide is writing into this folder" in _resume(folder, capsys)


def test_run_needs_to_know_the_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_plan().save(tmp_path / "plan.json")
    (tmp_path / "case").mkdir()
    words = [
        "run",
        str(tmp_path),
        "--rig",
        str(tmp_path / "rig"),
        "--applicator",
        str(tmp_path / "applicator"),
    ]
    by_hand = ["run", str(tmp_path), "--rig", "manual", "--applicator", "manual"]
    assert main([*by_hand, "--scans", str(tmp_path / "scans")]) == 2
    assert "devices.toml is missing" in capsys.readouterr().err
    assert main([*words, "--scans", str(tmp_path / "scans")]) == 2
    said = capsys.readouterr().err
    assert "devices.toml is missing" in said
    assert said.count("\n") == 1
    with pytest.raises(AskedWrongly, match="no such file"):
        read_devices(tmp_path / "devices.toml")


@pytest.mark.parametrize(
    ("reason", "is_one"),
    [
        ("rig: /dev/x: the port is gone (Input/output error); is it plugged in?", True),
        ("applicator: no answer to PING sent 6 times", True),
        ("applicator: was reset (boot 0001 -> 0002)", True),
        ("seed 3 in needle N01: NOPASS; count the seeds and look at a CT before anything is cleared", False),
        ("applicator: the e-stop loop is open", False),
        ("declined by auto: no", False),
    ],
)
def test_only_faults_of_the_links_are_gone_when_they_are_gone(reason: str, is_one: bool) -> None:
    assert is_link_fault(reason) == is_one


def test_a_question_that_nobody_waits_for_takes_no_answer_away() -> None:
    typed: queue.Queue[str] = queue.Queue()
    shown: queue.Queue[str] = queue.Queue()
    keyboard = Keyboard(iter(typed.get, ""), shown.put)
    ended: queue.Queue[str] = queue.Queue()

    def first() -> None:
        try:
            ended.put(keyboard.ask("first? "))
        except EOFError:
            ended.put("gave up")

    asker = threading.Thread(target=first)
    asker.start()
    assert shown.get(timeout=10) == "first? "
    keyboard.drop()
    assert ended.get(timeout=10) == "gave up"
    typed.put("yes\n")
    assert keyboard.ask("second? ") == "yes"
    typed.put("")
    with pytest.raises(EOFError):
        keyboard.ask("third? ")
    asker.join()


def test_a_key_pressed_twice_does_not_confirm_the_next_question() -> None:
    typed: queue.Queue[str] = queue.Queue()

    def show(question: str) -> None:
        if question == "first? ":
            for line in ("y\n", "y\n"):
                typed.put(line)
        else:
            typed.put("n\n")

    keyboard = Keyboard(iter(typed.get, ""), show, forgets=True)
    assert keyboard.ask("first? ") == "y"
    while len(keyboard._typed) < 1:  # the second y has been read
        pass
    assert keyboard.ask("second? ") == "n"
    typed.put("")


def test_a_pipe_that_never_ends_is_read_as_it_is_asked_for() -> None:
    keyboard = Keyboard(itertools.repeat("y\n"), lambda _question: None)
    assert [keyboard.ask("? ") for _ in range(200)] == ["y"] * 200
    assert len(keyboard._typed) <= 64
