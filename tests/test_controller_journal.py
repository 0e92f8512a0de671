"""The journal: append-only, chained, found out when touched."""

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from controller.journal import Journal, read_journal, verify
from planning.refusal import AskedWrongly


def written(path: Path, count: int = 5) -> Journal:
    journal = Journal(path)
    for number in range(count):
        journal.append(number * 1000, "event", {"event": "Tested", "number": number, "text": "µ"})
    return journal


def test_what_is_appended_is_read_back_in_order_and_chained(tmp_path: Path) -> None:
    journal = written(tmp_path / "j.sqlite")
    journal.close()
    records = list(read_journal(tmp_path / "j.sqlite"))
    assert [r.number for r in records] == [1, 2, 3, 4, 5]
    assert [r.body["number"] for r in records] == [0, 1, 2, 3, 4]
    assert all(b.previous == a.digest for a, b in pairwise(records))
    assert records[-1].digest == journal.digest
    assert verify(tmp_path / "j.sqlite") is None


def test_the_digest_depends_on_content_only(tmp_path: Path) -> None:
    assert written(tmp_path / "a").digest == written(tmp_path / "b").digest
    assert written(tmp_path / "c", 4).digest != written(tmp_path / "d", 5).digest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "UPDATE record SET body = replace(body, 'Tested', 'Forged') WHERE number = 3",
            "record 3 was changed",
        ),
        ("UPDATE record SET t_ns = t_ns + 1 WHERE number = 2", "record 2 was changed"),
        ("DELETE FROM record WHERE number = 4", "record 4 is missing"),
        ("UPDATE record SET number = 9 WHERE number = 5", "record 5 is missing"),
        ("DELETE FROM record WHERE number = 1", "record 1 is missing"),
    ],
)
def test_a_touched_journal_is_found_out(tmp_path: Path, change: str, told: str) -> None:
    path = tmp_path / "j.sqlite"
    written(path).close()
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(change)
    db.execute("DROP TRIGGER no_update")
    db.execute("DROP TRIGGER no_delete")
    db.execute(change)
    db.commit()
    db.close()
    assert verify(path) == told


def test_a_journal_is_never_written_over_and_a_stranger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    written(path).close()
    with pytest.raises(AskedWrongly, match="already there"):
        Journal(path)
    with pytest.raises(AskedWrongly, match="can't be made"):
        Journal(tmp_path / "no-such-folder" / "j.sqlite")
    with pytest.raises(AskedWrongly, match="no journal"):
        list(read_journal(tmp_path / "absent"))
    (tmp_path / "text").write_text("not a database at all, but a text")
    with pytest.raises(AskedWrongly):
        list(read_journal(tmp_path / "text"))


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    """Read through a copy of the files as they are, without closing the writer: what a power cut would leave."""
    journal = written(tmp_path / "j.sqlite")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("j.sqlite", "j.sqlite-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    assert len(list(read_journal(copy / "j.sqlite"))) == 5
    journal.close()


def test_a_closed_journal_is_one_file_and_reading_leaves_no_other(tmp_path: Path) -> None:
    written(tmp_path / "j.sqlite").close()
    assert len(list(read_journal(tmp_path / "j.sqlite"))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["j.sqlite"]
