"""What is said at the door, as JSON values (DOOR.md). Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from controller import protocol
from controller.commands import AskOperator
from controller.journal import Record
from controller.snapshot import NeedleStatus, Snapshot

VERSION = 1
LONGEST_LINE = 4096
LONGEST_NAME = 40
LONGEST_REASON = 300


def line_of(words: dict[str, Any]) -> bytes:
    """One line of JSON."""
    return json.dumps(words, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def snapshot_words(snapshot: Snapshot) -> dict[str, Any]:
    """Every field by its name; deviations as ``Deviation.to_json``; the states' names beside their words."""
    words = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    return {
        **words,
        "steps": list(snapshot.steps),
        "step_names": list(protocol.STEPS),
        "state_words": protocol.STATES.get(snapshot.state, snapshot.state),
        "needles": [_needle_words(needle) for needle in snapshot.needles],
    }


def _needle_words(needle: NeedleStatus) -> dict[str, Any]:
    words = {field.name: getattr(needle, field.name) for field in fields(needle)}
    for name in ("first_deviation", "deviation"):
        words[name] = None if words[name] is None else words[name].to_json()
    return words


def question_words(command: AskOperator | None) -> dict[str, Any] | None:
    """What is asked now; None when nothing is."""
    if command is None:
        return None
    return {field.name: getattr(command, field.name) for field in fields(command)}


def record_words(record: Record) -> dict[str, Any]:
    """A record of the journal, whole."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


class NotUnderstoodError(ValueError):
    """A line that is no request; one sentence says why."""


def request_of(line: bytes) -> dict[str, Any]:
    """A client's line: an object with ``do`` and, of it, only fields of the right kind.

    Raises:
        NotUnderstoodError: anything else.
    """
    try:
        words = json.loads(line.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as problem:
        raise NotUnderstoodError("the line is not JSON") from problem
    if not isinstance(words, dict) or not isinstance(words.get("do"), str):
        raise NotUnderstoodError('the line is no object with a text "do"')
    for name, kind in (("token", str), ("who", str), ("because", str), ("number", int), ("since", int)):
        if name in words and (not isinstance(words[name], kind) or isinstance(words[name], bool)):
            raise NotUnderstoodError(f'"{name}" is not a {"text" if kind is str else "whole number"}')
    if not isinstance(words.get("id"), int | str | None):
        raise NotUnderstoodError('"id" is neither a text nor a whole number')
    return words


def name_of(who: str) -> str:
    """A person's or console's name as the journal shall have it.

    Raises:
        NotUnderstoodError: empty, too long, or with signs that can't be printed.
    """
    name = who.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise NotUnderstoodError(f'"who" is a name of 1 to {LONGEST_NAME} printable signs')
    return name
