"""The runs of every trainee, in one SQLite file that stays with them: what was played, when, and how it went.

The one place beside the journal that opens a database: a journal is one procedure's truth and never changes; this is
a list over many, kept for learning curves, and nothing depends on it. Results only: no truth of a run is in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planning.refusal import AskedWrongly

VERSION = 1
_TABLE = """CREATE TABLE run (
    number INTEGER PRIMARY KEY AUTOINCREMENT, trainee TEXT NOT NULL, scenario TEXT NOT NULL, title TEXT NOT NULL,
    level INTEGER NOT NULL, played TEXT NOT NULL, passed INTEGER NOT NULL, journal TEXT NOT NULL UNIQUE,
    figures TEXT NOT NULL)"""


@dataclass(frozen=True)
class Run:
    """One run: ``scenario`` and ``journal`` are digests, ``played`` a date and time, ``figures`` of the score."""

    trainee: str
    scenario: str
    title: str
    level: int
    played: str
    passed: bool
    journal: str
    figures: dict[str, Any]


class TrainingRecord:
    """The file is made when it is missing.

    Raises:
        AskedWrongly: it can't be opened, is no training record, or one of a newer program.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with closing(self._open()) as db, db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    db.execute(_TABLE)
                    db.execute(f"PRAGMA user_version = {VERSION}")
                elif version != VERSION:
                    raise AskedWrongly(
                        f"{path}: is no training record of version {VERSION}; name another file with --record."
                    )
        except sqlite3.Error as problem:
            raise AskedWrongly(f"{path}: can't be used as a training record ({problem}).") from problem

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10.0)

    def add(self, run: Run) -> None:
        """Once: the same journal again changes nothing."""
        try:
            with closing(self._open()) as db, db:
                db.execute(
                    "INSERT OR IGNORE INTO run "
                    "(trainee, scenario, title, level, played, passed, journal, figures) VALUES (?,?,?,?,?,?,?,?)",
                    (
                        run.trainee,
                        run.scenario,
                        run.title,
                        run.level,
                        run.played,
                        int(run.passed),
                        run.journal,
                        json.dumps(run.figures, sort_keys=True),
                    ),
                )
        except sqlite3.Error as problem:
            raise AskedWrongly(f"{self._path}: the run can't be written down ({problem}).") from problem

    def runs(self, trainee: str) -> list[Run]:
        """In the order in which they were played."""
        try:
            with closing(self._open()) as db:
                rows = db.execute(
                    "SELECT trainee, scenario, title, level, played, passed, journal, figures FROM run "
                    "WHERE trainee = ? ORDER BY number",
                    (trainee,),
                ).fetchall()
        except sqlite3.Error as problem:
            raise AskedWrongly(f"{self._path}: can't be read ({problem}).") from problem
        return [
            Run(trainee, scenario, title, level, played, bool(passed), journal, json.loads(figures))
            for trainee, scenario, title, level, played, passed, journal, figures in rows
        ]

    def times_played(self, trainee: str) -> Counter[str]:
        """Scenario's digest -> how often this trainee has played it."""
        return Counter(run.scenario for run in self.runs(trainee))
