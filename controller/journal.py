"""The journal: what was meant, sent, heard and decided, in order, never changed.

An append-only SQLite file (WAL, ``synchronous=FULL``). Each record carries the SHA-256 of the record before it,
so a changed, missing or moved record is found by ``verify``. The intention is committed before a command is
sent, its outcome after; what is written between two commands is one transaction. Knows SQLite; does not know what
a procedure is.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planning.refusal import AskedWrongly

SCHEMA_VERSION = 1
Kind = Literal[
    "opened", "event", "intention", "refusal", "decision", "stop", "recovery", "knock", "proposal", "room"
]
_FIRST = "0" * 64
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True)
class Record:
    """One line: ``number`` from 1, procedure clock, kind, content, and the chain."""

    number: int
    t_ns: int
    kind: str
    body: dict[str, Any]
    previous: str
    digest: str


def _digest(number: int, t_ns: int, kind: str, text: str, previous: str) -> str:
    return hashlib.sha256(f"{previous}\n{number}\n{t_ns}\n{kind}\n{text}".encode()).hexdigest()


class Journal:
    """The one writer of a journal file; the file is locked against any other as long as it is open.

    Raises:
        AskedWrongly: the file exists (a journal is never continued by accident) or can't be made.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise AskedWrongly(f"{path}: a journal is already there; choose another output folder.")
        self._begin(path, 0, _FIRST, 0)
        try:
            self._db.execute("BEGIN")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._db.execute(
                "CREATE TABLE record (number INTEGER PRIMARY KEY, t_ns INTEGER NOT NULL, kind TEXT NOT NULL,"
                " body TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL) STRICT"
            )
            for verb in ("UPDATE", "DELETE"):
                self._db.execute(
                    f"CREATE TRIGGER no_{verb.lower()} BEFORE {verb} ON record"
                    " BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
                )
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            self._db.close()
            raise AskedWrongly(f"{path}: the journal can't be made ({problem}).") from problem

    @classmethod
    def continued(cls, path: Path) -> Journal:
        """The writer of a journal whose writer is gone; the next record follows its last one.

        Raises:
            AskedWrongly: no journal, a touched one, or one that is being written by somebody else.
        """
        whole = inspect(path)
        if whole.problems:
            raise AskedWrongly(f"{path}: {whole.problems[0]}; a touched journal is not continued.")
        journal = cls.__new__(cls)
        journal._begin(path, whole.records, whole.digest, whole.last_ns)
        return journal

    def _begin(self, path: Path, number: int, previous: str, last_ns: int) -> None:
        self._path = path
        self._number, self._previous = number, previous
        self._last_ns, self._ahead_ns = last_ns, 0
        self._is_first = True
        self._uncommitted: list[Record] | None = None
        self.listener: Callable[[Record], None] = lambda _record: None
        """Gets each record once it is on disk; must not raise."""
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("BEGIN IMMEDIATE")  # takes the lock now, not with the first record
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            raise AskedWrongly(f"{path}: {_why(problem)}") from problem

    def append(self, t_ns: int, kind: Kind, body: dict[str, Any]) -> Record:
        """Commit one record; it is on disk when this returns, or (inside ``together``) when that ends.

        The procedure's clock never goes back: a writer that continues a journal counts on from its last record.

        Raises:
            AskedWrongly: it could not be written; the records before it are all there.
        """
        if self._uncommitted is not None:
            return self._write(t_ns, kind, body, self._uncommitted)
        with self.together() as uncommitted:
            return self._write(t_ns, kind, body, uncommitted)

    def _write(self, t_ns: int, kind: Kind, body: dict[str, Any], uncommitted: list[Record]) -> Record:
        if self._is_first:
            self._is_first, self._ahead_ns = False, max(0, self._last_ns - t_ns)
        t_ns = max(t_ns + self._ahead_ns, self._last_ns)
        text = _JSON(body)
        number = self._number + 1
        digest = _digest(number, t_ns, kind, text, self._previous)
        row = (number, t_ns, kind, text, self._previous, digest)
        with self._told(number):
            self._db.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", row)
        record = Record(number, t_ns, kind, body, self._previous, digest)
        uncommitted.append(record)
        self._number, self._previous, self._last_ns = number, digest, t_ns
        return record

    @contextmanager
    def together(self) -> Iterator[list[Record]]:
        """Records appended inside are one transaction: all on disk when it ends, or none. Nothing is sent inside.

        What was appended did happen, so it is committed also when an error ends it.

        Raises:
            AskedWrongly: they could not be written; the records before them are all there.
        """
        before = self._number, self._previous, self._last_ns
        with self._told(before[0] + 1):
            self._db.execute("BEGIN")
        self._uncommitted = records = list[Record]()
        try:
            yield records
        finally:
            self._uncommitted = None
            if self._committed_after(before):
                for record in records:
                    self.listener(record)

    def _committed_after(self, before: tuple[int, str, int]) -> bool:
        is_committed = False
        try:
            if self._db.in_transaction:  # else an error was so grave that SQLite has undone all of it already
                with self._told(before[0] + 1):
                    self._commit()
                is_committed = True
        finally:
            if not is_committed:
                self._number, self._previous, self._last_ns = before
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
        return is_committed

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    @contextmanager
    def _told(self, number: int) -> Iterator[None]:
        """SQLite's errors in words; ``number``: of the first record that is not written."""
        try:
            yield
        except sqlite3.Error as problem:
            raise AskedWrongly(
                f"{self._path}: record {number} can't be written: {_why(problem)} Nothing after record "
                f"{number - 1} was commanded."
            ) from problem

    def holds(self, record: Record) -> bool:
        """The record is one of this file's, and on disk."""
        waiting = () if self._uncommitted is None else self._uncommitted
        return record.number <= self._number and record not in waiting

    @property
    def digest(self) -> str:
        """The last record's digest: it stands for the whole journal."""
        return self._previous

    def close(self) -> None:
        """Leave one file: the write-ahead log is folded in and gone.

        Where it can't be (disk full) it stays beside the file, whole; who opens the journal next folds it in.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error:
            return
        finally:
            self._db.close()


def _why(problem: sqlite3.Error) -> str:
    """What SQLite means, and what to do."""
    text = str(problem)
    if "locked" in text or "busy" in text:
        return "another process is writing this journal; end it first, or follow it in its console."
    if "unable to open" in text:
        return "the journal can't be made or opened here; does the folder exist, and may it be written?"
    if "full" in text:
        return "the disk is full; free some space, then resume."
    if "readonly" in text or "read-only" in text:
        return "the file or its disk can't be written (read-only); make it writable, then resume."
    if "disk I/O" in text:
        return f"the disk failed ({text}); copy the folder to another disk, then resume."
    return f"{text}."


Row = tuple[int, int, str, str, str, str]


def _rows(path: Path) -> Iterator[Row]:
    """The table as it stands, in the order of its numbers."""
    if not path.is_file():
        raise AskedWrongly(f"{path}: there is no journal here.")
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.0)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise AskedWrongly(f"{path}: not a journal of version {SCHEMA_VERSION} (found {version}).")
            yield from db.execute(
                "SELECT number, t_ns, kind, body, previous, digest FROM record ORDER BY number"
            )
        finally:
            db.close()
    except sqlite3.Error as problem:
        raise AskedWrongly(f"{path}: the journal can't be read ({_why(problem)[:-1]}).") from problem


def read_journal(path: Path) -> Iterator[Record]:
    """All records in order, the file opened read-only.

    Raises:
        AskedWrongly: no such file, not a journal of this version, or in use by its writer.
    """
    for number, t_ns, kind, text, previous, digest in _rows(path):
        try:
            body = json.loads(text)
        except ValueError as problem:
            raise AskedWrongly(f"{path}: record {number} can't be read ({problem}).") from problem
        yield Record(number, t_ns, kind, body, previous, digest)


@dataclass(frozen=True)
class Inspection:
    """What the chain tells of a journal.

    Attributes:
        records: how many there are; ``digest`` and ``last_ns`` are the last one's.
        problems: every changed, missing or moved record, one sentence each; empty when the chain holds.
        is_ended: the last record is the end of a procedure. Otherwise the procedure still runs, was cut off,
            or records were taken away at the end, which no chain can tell apart (a noted digest can).
    """

    records: int
    digest: str
    last_ns: int
    problems: tuple[str, ...]
    is_ended: bool


def inspect(path: Path) -> Inspection:
    """Follow the chain through the whole file.

    Raises:
        AskedWrongly: as ``read_journal``.
    """
    rows: list[Row] = []
    problems: list[str] = []
    try:
        for row in _rows(path):
            rows.append(row)
    except AskedWrongly as problem:
        if not rows:
            raise
        problems.append(f"after record {rows[-1][0]} the file is damaged: {str(problem).removesuffix('.')}")
    follower = {previous: number for number, _, _, _, previous, _ in rows}
    last, expected = _FIRST, 1
    for number, t_ns, kind, text, previous, digest in rows:
        if number != expected and digest == _digest(expected, t_ns, kind, text, last):
            problems.append(f"record {expected} was moved: it stands as record {number}")
            last, expected = digest, number + 1
            continue
        if number != expected:
            gone = (
                f"record {expected} is" if number == expected + 1 else f"records {expected}-{number - 1} are"
            )
            problems.append(f"{gone} missing")
        elif previous != last:
            true = follower.get(last)
            problems.append(
                f"record {number} does not follow the one before it"
                + (f"; what belongs here now stands as record {true}" if true is not None else "")
            )
        if digest != _digest(number, t_ns, kind, text, previous):
            problems.append(f"record {number} was changed")
        last, expected = digest, number + 1
    if not rows:
        problems.append("the journal is empty")
        return Inspection(0, _FIRST, 0, tuple(problems), False)
    is_ended = rows[-1][2] == "decision" and '"ended":' in rows[-1][3]
    return Inspection(len(rows), last, rows[-1][1], tuple(problems), is_ended)


def verify(path: Path) -> str | None:
    """What is first wrong with the chain, in one sentence naming the record; None when all is well."""
    return next(iter(inspect(path).problems), None)
