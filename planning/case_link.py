"""Which patient's folder a plan was made on: one line in ``case.txt`` beside ``plan.json``; nobody types it twice."""

from __future__ import annotations

import os
from pathlib import Path

from planning.refusal import AskedWrongly

CASE_FILE = "case.txt"


def note_case(plan_folder: Path, case: Path) -> None:
    """Write the way from ``plan_folder`` to ``case``; it stays true when both are moved together."""
    way = os.path.relpath(case.resolve(), plan_folder.resolve())
    (plan_folder / CASE_FILE).write_text(f"{way}\n", encoding="utf-8")


def case_of(plan: Path) -> Path:
    """The patient's folder for the plan file ``plan``: as noted, or a folder ``case`` beside it.

    Raises:
        AskedWrongly: neither is there.
    """
    note = plan.parent / CASE_FILE
    if note.is_file():
        way = note.read_text(encoding="utf-8", errors="replace").strip()
        if (plan.parent / way).is_dir():
            return (plan.parent / way).resolve()
        raise AskedWrongly(f"{note}: the planning CT is not in {way} any more; name its folder with --case.")
    if (plan.parent / "case").is_dir():
        return (plan.parent / "case").resolve()
    raise AskedWrongly(
        f"{plan}: nothing beside it tells on which CT it was made; name the folder with --case."
    )
