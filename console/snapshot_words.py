"""A snapshot as JSON values, for the door's readers and the page."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from controller import protocol
from controller.snapshot import NeedleStatus, Snapshot


def snapshot_words(snapshot: Snapshot) -> dict[str, Any]:
    """Every field by its name; deviations as ``Deviation.to_json``; the states' names beside their words."""
    words = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    return {
        **words,
        "steps": list(snapshot.steps),
        "step_names": list(protocol.STEPS),
        "state_words": protocol.STATES.get(snapshot.state, snapshot.state),
        "needles": [_needle(needle) for needle in snapshot.needles],
    }


def _needle(needle: NeedleStatus) -> dict[str, Any]:
    words = {field.name: getattr(needle, field.name) for field in fields(needle)}
    for name in ("first_deviation", "deviation"):
        words[name] = None if words[name] is None else words[name].to_json()
    return words
