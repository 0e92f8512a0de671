"""A journal played again: the procedure as it stood when the journal ends.

The events go through today's code, and what it asks for must be what was journaled, command for command; a
difference is a refusal that names the record. Knows records and events; sends nothing and decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.commands import Command
from controller.events import Event, ScanAnalysed
from controller.journal import Record, inspect, read_journal
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from imaging.rescan import RescanFindings, ScanIdentity, SeenNeedle, SeenSeed
from planning.plan import Plan, Point
from planning.refusal import AskedWrongly

_EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


@dataclass(frozen=True)
class Replayed:
    """A procedure out of its journal.

    Attributes:
        procedure: as it stood; its ``interrupted`` command has no outcome in the journal, or failed.
        was_intended: the intention of ``interrupted`` is in the journal, so that it may have left.
        boot: the applicator's boot counter as last journaled, "" when it was never connected.
        is_ended: the procedure came to its end, or was held and not taken back.
        last_ns: the procedure's clock at the last record.
    """

    procedure: Procedure
    was_intended: bool
    boot: str
    is_ended: bool
    last_ns: int


def replay(path: Path, plan: Plan) -> Replayed:
    """Play the journal again.

    Raises:
        AskedWrongly: the journal can't be read or was touched, is of another plan, or today's code does not do
            what it tells.
    """
    told = inspect(path)
    if not told.records:
        raise AskedWrongly(
            f"{path}: the journal is empty: it ended before anything began, and nothing was commanded. "
            "Start it anew in another folder."
        )
    if told.problems:
        raise AskedWrongly(f"{path}: {told.problems[0]}; a touched journal is not replayed.")
    return replay_records(list(read_journal(path)), plan, str(path))


def replay_records(records: Sequence[Record], plan: Plan, name: str) -> Replayed:
    """As ``replay``; ``name``: of the journal, for messages."""
    first = records[0]
    if first.kind != "opened" or "settings" not in first.body:
        raise AskedWrongly(f"{name}: record 1 does not tell plan and settings; nothing can be replayed.")
    if first.body.get("plan") != plan.content_hash:
        raise AskedWrongly(
            f"{name}: the journal is of plan {str(first.body.get('plan'))[:8]}, not {plan.content_hash[:8]}."
        )
    try:
        settings = ProcedureSettings(**first.body["settings"])
    except TypeError as problem:
        raise AskedWrongly(f"{name}: record 1 holds settings of another version ({problem}).") from problem
    procedure = Procedure(plan, settings)
    expected: list[tuple[str, dict[str, Any]]] = []
    asked: Command | None = None
    was_intended, boot, is_ended = False, "", False
    for record in records[1:]:
        if record.kind == "event":
            if expected and not _may_be_missing(record, expected):
                raise _differs(name, record, f"{expected[0][0]} was to follow: {_told(expected[0][1])}")
            if procedure.is_ended:  # only written down: nothing is decided any more
                continue
            is_ended = False
            before = procedure.state
            event = event_of(record, name)
            commands = procedure.handle(event)
            boot = str(record.body.get("readback", {}).get("boot", boot))
            expected = []
            if procedure.state != before:
                expected.append(("decision", {"from": before, "to": procedure.state}))
            expected += [("command", json.loads(json.dumps(command.to_json()))) for command in commands]
            if commands:
                asked, was_intended = commands[0], False
        elif record.kind == "decision" and "ended" in record.body:
            is_ended = True
            expected = []
        elif record.kind in ("decision", "intention", "refusal"):
            kind = "decision" if record.kind == "decision" else "command"
            if not expected:
                raise _differs(name, record, f"nothing was to follow, it tells {_told(record.body)}")
            wanted_kind, wanted = expected.pop(0)
            if wanted_kind != kind or any(record.body.get(key) != value for key, value in wanted.items()):
                raise _differs(
                    name, record, f"today's code gives {_told(wanted)}, it tells {_told(record.body)}"
                )
            was_intended = was_intended or (record.kind == "intention" and asked is not None)
    return Replayed(
        procedure, was_intended and procedure.interrupted is not None, boot, is_ended, records[-1].t_ns
    )


def _may_be_missing(record: Record, expected: list[tuple[str, dict[str, Any]]]) -> bool:
    """What was to follow is missing only where the controller was stopped: then it was resumed after."""
    return record.body.get("event") == "ProcedureResumed" or not expected


def _differs(name: str, record: Record, why: str) -> AskedWrongly:
    return AskedWrongly(
        f"{name}: record {record.number} is not what today's code does ({why}); resume with the version that wrote it."
    )


def _told(body: dict[str, Any]) -> str:
    return " ".join(
        f"{key}={value}" for key, value in body.items() if key not in ("text", "because", "reason")
    )


def event_of(record: Record, name: str) -> Event:
    """The event that a record tells."""
    body = dict(record.body)
    kind = _EVENTS.get(str(body.pop("event", "")))
    try:
        if kind is ScanAnalysed:
            return ScanAnalysed(body["number"], body["folder"], findings_of(body["findings"]))
        if kind is None:
            raise KeyError("event")
        return kind(**body)
    except (KeyError, TypeError, ValueError) as problem:
        raise AskedWrongly(
            f"{name}: record {record.number} tells no event that is known ({problem})."
        ) from problem


def _point(values: Sequence[float]) -> Point:
    x, y, z = values
    return x, y, z


def _identity(body: dict[str, Any]) -> ScanIdentity:
    """Journals from before acquisition times were kept have none."""
    acquired = body.get("acquired")
    return ScanIdentity(**{**body, "acquired": None if acquired is None else (acquired[0], acquired[1])})


def findings_of(body: dict[str, Any]) -> RescanFindings:
    """What ``RescanFindings.to_json`` wrote; an unknown expected TRE comes back as infinite."""
    registration, tre = body["registration"], body["registration"]["expected_tre_mm"]
    return RescanFindings(
        kind=body["kind"],
        identity=_identity(body["scan"]),
        plan_from_scan=tuple(tuple(row) for row in registration["plan_from_scan"]),
        registered=registration["succeeded"],
        problem=registration["problem"],
        similarity=registration["similarity"],
        expected_tre_mm=float("inf") if tre is None else tre,
        needles=tuple(
            SeenNeedle(
                needle["planned"],
                _point(needle["tip_mm"]),
                _point(needle["direction"]),
                _point(needle["entry_mm"]),
                needle["sigma_mm"],
                needle["shaft_hu"],
            )
            for needle in body["needles"]
        ),
        unseen_needles=tuple(body["unseen_needles"]),
        seeds=tuple(
            SeenSeed(seed["planned"], _point(seed["centre_mm"]), _point(seed["direction"]), seed["sigma_mm"])
            for seed in body["seeds"]
        ),
        unseen_seeds=tuple(body["unseen_seeds"]),
    )
