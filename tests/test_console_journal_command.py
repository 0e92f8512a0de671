"""``seedguide journal`` and ``verify-journal`` on the journal of a whole procedure."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from console.cli import main
from controller.journal import read_journal
from tests.made_plan import made_plan
from tests.plain_room import Room


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    room = Room(made_plan(2, 1, 2), setup_mm=0.2, own_mm=0.2)
    room.session(folder).run()
    room.journal.close()
    return folder


def test_every_record_is_one_line_in_words(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", str(played)]) == 0
    lines = capsys.readouterr().out.splitlines()
    records = list(read_journal(played / "journal.sqlite"))
    assert len(lines) == len(records)
    text = "\n".join(lines)
    assert "started by test" in text
    assert "seed 1: PASS" in text
    assert "-> Seeds, deepest first" in text
    assert "END: COMPLETED" in lines[-1]
    assert "{" not in text.replace(lines[-1], "")


def test_json_lines_carry_every_record_whole(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", str(played / "journal.sqlite"), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    records = list(read_journal(played / "journal.sqlite"))
    assert [t["digest"] for t in told] == [r.digest for r in records]
    assert [t["body"] for t in told] == [r.body for r in records]


def test_verify_says_what_it_found_by_words_and_status(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list(read_journal(played / "journal.sqlite"))[-1]
    assert main(["verify-journal", str(played)]) == 0
    assert last.digest in capsys.readouterr().out
    assert main(["verify-journal", str(played), "--digest", last.digest[:12]]) == 0
    assert main(["verify-journal", str(played), "--digest", "0" * 12]) == 4
    assert "its end was taken away" in capsys.readouterr().out
    assert main(["verify-journal", str(played), "--digest", "zz"]) == 2
    copy = tmp_path / "j.sqlite"
    copy.write_bytes((played / "journal.sqlite").read_bytes())
    db = sqlite3.connect(copy)
    db.executescript(f"DROP TRIGGER no_delete; DELETE FROM record WHERE number = {last.number}")
    db.close()
    assert main(["verify-journal", str(copy)]) == 3
    assert "end is not in it" in capsys.readouterr().out
    db = sqlite3.connect(copy)
    db.executescript("DELETE FROM record WHERE number IN (7, 20)")
    db.close()
    assert main(["verify-journal", str(copy)]) == 4
    told = capsys.readouterr().out
    assert "record 7 is missing" in told
    assert "record 20 is missing" in told
    assert main(["verify-journal", str(tmp_path / "absent")]) == 2
