"""A second opinion on journals: it finds what the interlocks would have had to hold back, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.journal import Record, read_journal
from tests.audit import audit
from tests.compact_case import PLAN, compact_room
from tests.killed_room import amiss, play


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("whole")
    room = compact_room()
    assert amiss(room, play(room, folder, [])) == []
    return list(read_journal(folder / "journal.sqlite"))


def place(records: list[Record], name: str, nth: int = 0) -> int:
    """Where the ``nth`` record of this command's intention or this event stands."""
    return [i for i, r in enumerate(records) if name in (r.body.get("event"), _intended(r))][nth]


def _intended(record: Record) -> str | None:
    return str(record.body["command"]) if record.kind == "intention" else None


def told(records: list[Record], at: int, **changed: Any) -> list[Record]:
    return [replace(r, body={**r.body, **changed}) if i == at else r for i, r in enumerate(records)]


def without(records: list[Record], *names: str) -> list[Record]:
    return [r for r in records if r.body.get("event") not in names and _intended(r) not in names]


def moved(records: list[Record], frm: int, to: int) -> list[Record]:
    out = [r for i, r in enumerate(records) if i != frm]
    return [replace(r, number=n) for n, r in enumerate([*out[:to], records[frm], *out[to:]], 1)]


def test_the_compact_case_has_what_a_procedure_can_have(records: list[Record]) -> None:
    """A correction, a cartridge changed in the middle of a needle, a needle moved after it was first seen."""
    assert audit(records, PLAN) == []
    states = [r.body["to"] for r in records if r.kind == "decision" and "to" in r.body]
    assert {"CORRECTING_REFERENCE_NEEDLES", "CORRECTING_NEEDLES"} <= set(states)
    assert states[-1] == "COMPLETED"
    changed = place(records, "DeclareCartridge", 1)
    assert records[place(records, "DropSeed", 0)].number < records[changed].number
    before = [r.body["needle"] for r in records[:changed] if _intended(r) == "DropSeed"][-1]
    after = next(r.body["needle"] for r in records[changed:] if _intended(r) == "DropSeed")
    assert before == after


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda rs: without(rs, "ScanAnalysed"), "was last seen in record 0"),
        (lambda rs: told(rs, place(rs, "RetractNeedle", 1), z_um=1), "would advance"),
        (lambda rs: told(rs, place(rs, "DropSeed", 1), z_um=1), "was drawn to"),
        (lambda rs: told(rs, place(rs, "SeedDropped", 1), seed=1), "seed 1 was delivered before"),
        (lambda rs: without(rs, "DropSeed"), "nobody had asked for seed"),
        (lambda rs: told(rs, place(rs, "DeclareCartridge"), count=1), "no seed is left"),
        (lambda rs: without(rs, "DeclareCartridge"), "no seed is left"),
        (lambda rs: without(rs, "HomeRig"), "before the rig was homed"),
        (lambda rs: moved(rs, place(rs, "BeginLedger"), 4), "while seeds are delivered"),
        (lambda rs: without(rs, "OperatorConfirmed"), "of the time-out confirmed"),
        (lambda rs: without(rs, "SeedDropped"), "had an outcome"),
        (
            lambda rs: moved(rs, place(rs, "CloseGrip", -1), place(rs, "BeginLedger") - 1),
            "was last seen in record",
        ),
    ],
)
def test_a_broken_law_is_found(
    records: list[Record], change: Callable[[list[Record]], list[Record]], finding: str
) -> None:
    assert any(finding in wrong for wrong in audit(change(records), PLAN))
