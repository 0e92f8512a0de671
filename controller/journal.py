"""The journal: what was meant, sent, heard and decided, in order, never changed.

An append-only SQLite file (WAL, ``synchronous=FULL``). Each record carries the SHA-256 of the record before it,
so a changed, missing or moved record is found by ``verify``. The intention is committed before a command is
sent, its outcome after. Knows SQLite; does not know what a procedure is.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planning.refusal import AskedWrongly

SCHEMA_VERSION = 1
Kind = Literal["opened", "event", "intention", "refusal", "decision", "stop"]
_FIRST = "0" * 64


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
    """The one writer of a journal file.

    Raises:
        AskedWrongly: the file exists (a journal is never continued by accident) or can't be made.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise AskedWrongly(f"{path}: a journal is already there; choose another output folder.")
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
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
        except sqlite3.Error as problem:
            raise AskedWrongly(f"{path}: the journal can't be made ({problem}).") from problem
        self._number = 0
        self._previous = _FIRST

    def append(self, t_ns: int, kind: Kind, body: dict[str, Any]) -> Record:
        """Commit one record; it is on disk when this returns."""
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        number = self._number + 1
        digest = _digest(number, t_ns, kind, text, self._previous)
        self._db.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", (number, t_ns, kind, text, self._previous, digest)
        )
        record = Record(number, t_ns, kind, body, self._previous, digest)
        self._number, self._previous = number, digest
        return record

    @property
    def digest(self) -> str:
        """The last record's digest: it stands for the whole journal."""
        return self._previous

    def close(self) -> None:
        """Leave one file: the write-ahead log is folded in and gone."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()


def read_journal(path: Path) -> Iterator[Record]:
    """All records in order, the file opened read-only.

    Raises:
        AskedWrongly: no such file, or not a journal of this version.
    """
    if not path.is_file():
        raise AskedWrongly(f"{path}: there is no journal here.")
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise AskedWrongly(f"{path}: not a journal of version {SCHEMA_VERSION} (found {version}).")
            for number, t_ns, kind, text, previous, digest in db.execute(
                "SELECT number, t_ns, kind, body, previous, digest FROM record ORDER BY number"
            ):
                yield Record(number, t_ns, kind, json.loads(text), previous, digest)
        finally:
            db.close()
    except (sqlite3.Error, ValueError) as problem:
        raise AskedWrongly(f"{path}: the journal can't be read ({problem}).") from problem


def verify(path: Path) -> str | None:
    """What is wrong with the chain, in one sentence naming the record; None when all is well."""
    previous, expected = _FIRST, 1
    for record in read_journal(path):
        if record.number != expected:
            return f"record {expected} is missing"
        text = json.dumps(record.body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if record.previous != previous:
            return f"record {record.number} does not follow the one before it"
        if record.digest != _digest(record.number, record.t_ns, record.kind, text, previous):
            return f"record {record.number} was changed"
        previous, expected = record.digest, expected + 1
    return None if expected > 1 else "the journal is empty"
