"""The journal: append-only, chained, found out when touched."""

import shutil
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from controller.journal import Journal, inspect, read_journal, verify
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
        ("UPDATE record SET number = 9 WHERE number = 5", "record 5 was moved: it stands as record 9"),
        ("DELETE FROM record WHERE number = 1", "record 1 is missing"),
        ("DELETE FROM record WHERE number IN (2, 3)", "records 2-3 are missing"),
        (
            "UPDATE record SET number = CASE number WHEN 2 THEN -3 ELSE -2 END WHERE number IN (2, 3);"
            "UPDATE record SET number = -number WHERE number < 0",
            "record 2 does not follow the one before it; what belongs here now stands as record 3",
        ),
        ("UPDATE record SET body = 'no JSON' WHERE number = 4", "record 4 was changed"),
    ],
)
def test_a_touched_journal_is_found_out(tmp_path: Path, change: str, told: str) -> None:
    path = tmp_path / "j.sqlite"
    written(path).close()
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.executescript(change)
    db.execute("DROP TRIGGER no_update")
    db.execute("DROP TRIGGER no_delete")
    db.executescript(change)
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


def test_every_touched_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    written(path, 9).close()
    db = sqlite3.connect(path)
    db.executescript(
        "DROP TRIGGER no_update; DROP TRIGGER no_delete;"
        "UPDATE record SET t_ns = 7 WHERE number = 2; DELETE FROM record WHERE number = 5;"
        "UPDATE record SET body = '{}' WHERE number = 8"
    )
    db.close()
    assert inspect(path).problems == ("record 2 was changed", "record 5 is missing", "record 8 was changed")


def test_an_end_that_is_missing_is_told_apart_from_an_end(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = written(path)
    journal.append(9000, "decision", {"ended": "COMPLETED", "because": ""})
    journal.close()
    whole = inspect(path)
    assert (whole.records, whole.problems, whole.is_ended) == (6, (), True)
    db = sqlite3.connect(path)
    db.executescript("DROP TRIGGER no_delete; DELETE FROM record WHERE number = 6")
    db.close()
    assert (inspect(path).records, inspect(path).problems, inspect(path).is_ended) == (5, (), False)


def test_a_file_cut_short_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    written(path, 400).close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AskedWrongly, match="can't be read"):
        inspect(path)


def test_two_writers_and_a_reader_are_told_who_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = written(path)
    with pytest.raises(AskedWrongly, match="another process is writing"):
        Journal.continued(path)
    with pytest.raises(AskedWrongly, match="another process is writing"):
        list(read_journal(path))
    journal.append(1, "event", {"event": "Tested"})
    journal.close()
    assert inspect(path).records == 6


def test_a_continued_journal_goes_on_with_the_chain_and_its_clock_never_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    written(path).close()
    journal = Journal.continued(path)
    with pytest.raises(AskedWrongly, match="another process"):
        Journal.continued(path)
    assert [journal.append(t, "event", {}).t_ns for t in (0, 10, 5)] == [4000, 4010, 4010]
    journal.close()
    assert verify(path) is None
    assert inspect(path).records == 8


def test_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = written(path)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")  # what SQLite says when the disk is full
    with pytest.raises(AskedWrongly, match="record 6 can't be written: the disk is full"):
        journal.append(9000, "event", {"text": "x" * 100_000})
    journal._db.execute("PRAGMA max_page_count=100000")
    journal.append(9001, "event", {"text": "after"})
    journal.close()
    assert verify(path) is None
    assert inspect(path).records == 6


def test_records_written_together_are_on_disk_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = written(path)
    told: list[int] = []
    journal.listener = lambda record: told.append(record.number)

    def on_disk() -> int:
        aside = tmp_path / "aside.sqlite"
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{aside}{suffix}")
        return inspect(aside).records

    with journal.together():
        first = journal.append(9000, "event", {"event": "Done"})
        second = journal.append(9000, "intention", {"command": "Next"})
        assert not journal.holds(first)
        assert not journal.holds(second)
        assert (told, on_disk()) == ([], 5)
    assert journal.holds(first)
    assert journal.holds(second)
    assert (told, on_disk()) == ([6, 7], 7)
    journal.close()
    assert verify(path) is None


def _appended_together(journal: Journal, then: Callable[[], object] = lambda: None) -> None:
    with journal.together():
        journal.append(9000, "event", {"event": "Done"})
        then()
        journal.append(9000, "intention", {"command": "Next"})


def test_what_had_happened_before_an_error_is_kept(tmp_path: Path) -> None:
    journal = written(tmp_path / "j.sqlite")
    with pytest.raises(ZeroDivisionError):
        _appended_together(journal, lambda: 1 // 0)
    journal.append(9001, "event", {"event": "Later"})
    journal.close()
    assert [r.body["event"] for r in read_journal(tmp_path / "j.sqlite")][5:] == ["Done", "Later"]


def test_a_full_disk_in_the_middle_of_what_belongs_together_keeps_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = written(path)
    told: list[int] = []
    journal.listener = lambda record: told.append(record.number)
    kept = journal._db
    journal._db = _FullDisk(kept, "COMMIT")  # type: ignore[assignment]
    full = r"record 6 can't be written: the disk is full.*after record 5"
    with pytest.raises(AskedWrongly, match=full):
        _appended_together(journal)
    assert told == []
    journal._db = kept
    journal.append(9001, "event", {"event": "After"})
    journal.close()
    assert verify(path) is None
    assert [r.body.get("event") for r in read_journal(path)][5:] == ["After"]


def test_a_read_only_disk_says_so(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = written(path)
    journal._db.execute("PRAGMA query_only=ON")  # what SQLite says of a read-only file
    with pytest.raises(AskedWrongly, match=r"can't be written \(read-only\)"):
        journal.append(9000, "event", {})
    journal._db.execute("PRAGMA query_only=OFF")
    journal.close()
    assert inspect(path).records == 5


class _FullDisk:
    """A connection whose disk has no room for one thing: for folding the log in, or a commit."""

    def __init__(self, db: sqlite3.Connection, for_what: str = "wal_checkpoint") -> None:
        self._db, self._for_what = db, for_what

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, words: str, *values: object) -> object:
        if self._for_what in words:
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(words, *values)

    def close(self) -> None:
        self._db.close()


def test_a_journal_closed_on_a_full_disk_is_whole_and_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for number in range(5):
        journal.append(number, "event", {"number": number})
    journal._db = _FullDisk(journal._db)  # type: ignore[assignment]
    journal.close()
    assert inspect(tmp_path / "journal.sqlite").records == 5
    again = Journal.continued(tmp_path / "journal.sqlite")
    again.append(9, "event", {"number": 5})
    again.close()
    assert inspect(tmp_path / "journal.sqlite").records == 6
