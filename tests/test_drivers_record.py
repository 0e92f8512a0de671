"""A recording of a procedure's wires, done again by today's drivers, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.journal import Journal
from controller.procedure import Procedure
from controller.session import Session
from controller.wire_file import WireFile
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.record import HEAD, Recorder, applicator_driver, replay, rig_driver
from planning.refusal import AskedWrongly
from simulator.rehearsal.virtual_transport import VirtualTransport
from tests.made_plan import made_plan
from tests.plain_room import Room


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A whole procedure in a room without CT."""
    folder = tmp_path_factory.mktemp("recorded")
    room = Room(made_plan(), setup_mm=0.2, own_mm=0.2)
    file = WireFile(folder / "wire.jsonl")
    rig = rig_driver(RigConfig(), file.recorder)
    applicator = applicator_driver(ApplicatorConfig(15, 5000, 18), "5A17", file.recorder)
    room.procedure, room.journal = Procedure(room.plan, room.settings), Journal(folder / "journal.sqlite")
    Session(
        room.procedure,
        room.journal,
        rig=rig,
        applicator=applicator,
        transport=VirtualTransport((rig, room.rig), (applicator, room.applicator)),
        operator=room,
        scanner=room,
    ).run()
    room.journal.close()
    file.close()
    assert room.procedure.state == "COMPLETED"
    assert not file.trouble
    return (folder / "wire.jsonl").read_text(encoding="utf-8").splitlines()


def test_the_same_bytes_leave_again(lines: list[str]) -> None:
    assert lines[0] == HEAD
    assert replay(lines) is None
    sent = [json.loads(line) for line in lines[1:]]
    assert {record["link"] for record in sent} == {"rig", "applicator"}
    assert sum(":FIRE " in record.get("bytes", "") for record in sent if record["what"] == "out") == len(
        made_plan().seeds
    )
    for link in ("rig", "applicator"):
        times = [record["t_ns"] for record in sent if record["link"] == link]
        assert times == sorted(times)


def _first(lines: list[str], what: str, text: str, after: int = 0) -> int:
    """Index of the first line of this kind whose bytes hold ``text``."""
    records = [json.loads(line) for line in lines]
    return next(
        i for i, r in enumerate(records) if i > after and r.get("what") == what and text in r["bytes"]
    )


def _changed(lines: list[str], number: int, old: str, new: str) -> list[str]:
    record = json.loads(lines[number])
    record["bytes"] = record["bytes"].replace(old, new)
    return [*lines[:number], json.dumps(record), *lines[number + 1 :]]


def test_a_changed_byte_of_the_host_is_told_by_its_line(lines: list[str]) -> None:
    number = _first(lines, "out", "G53G1Z-")
    difference = replay(_changed(lines, number, "G53G1Z-", "G53G1Z-1"))
    assert difference is not None
    assert difference.line == number + 1
    assert str(difference).startswith(f"line {number + 1}: the rig's driver sent b'G53G1Z-1")


def test_a_changed_byte_of_the_device_is_told_by_the_first_line_that_it_changes(lines: list[str]) -> None:
    number = _first(lines, "in", "ok", after=_first(lines, "out", "G53G1Z-"))
    difference = replay(_changed(lines, number, "ok", "error:9"))
    assert difference is not None
    assert difference.link == "rig"
    assert difference.line > number + 1


def test_what_is_missing_at_the_end_is_told(lines: list[str]) -> None:
    last = max(i for i, line in enumerate(lines) if json.loads(line).get("what") == "out")
    difference = replay(lines[:last])
    assert difference is not None
    assert (difference.line, difference.recorded) == (last + 1, b"")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"seedguide_wire": 2}', "line 1: is not a wire recording"),
        (HEAD + "\nnonsense", "line 2: is not JSON"),
        (HEAD + "\n[1]", "line 2: is not a record"),
        (HEAD + '\n{"t_ns": 0, "link": "rig", "what": "wake"}', "line 2: can't be done"),
    ],
)
def test_what_is_no_recording_is_refused_by_line(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replay(text.splitlines())


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "wire.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(AskedWrongly, match="there already"):
        WireFile(tmp_path / "wire.jsonl")
    with pytest.raises(AskedWrongly, match="can't be made"):
        WireFile(tmp_path / "nowhere" / "wire.jsonl")


def test_a_full_disk_ends_the_recording_and_nothing_else() -> None:
    file = WireFile.__new__(WireFile)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    file.trouble, file._path = "", full
    file._file = full.open("w", encoding="utf-8", buffering=1)
    file._write("line")
    assert "recording ended early" in file.trouble
    file._write("line")
    file.recorder = Recorder(file._write)
    file.close()
