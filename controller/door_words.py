"""What is said at the door, as JSON values (DOOR.md). Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import Any

from controller import protocol
from controller.commands import AskOperator
from controller.correction import in_words
from controller.decisions import KINDS, incomplete
from controller.events import OperatorDecided
from controller.journal import Record
from controller.proposal import Proposal, Settled
from controller.snapshot import NeedleStatus, Snapshot
from drivers.applicator_language import ApplicatorState
from drivers.rig_language import RigState

VERSION = 1
LONGEST_LINE = 4096
LONGEST_NAME = 130
LONGEST_REASON = 300
VALUES: dict[str, type | tuple[type, ...]] = {"batch": str, "measured_mci": (int, float)}
"""What an answer to the time-out's question about the seeds may carry; one about needles carries a word for each."""


_FIELDS = {
    **dict.fromkeys(("token", "who", "because", "kind", "needle", "where"), str),
    **dict.fromkeys(("number", "since", "count"), int),
}


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
    correction = needle.correction
    words["correction"] = (
        None if correction is None else {**asdict(correction), "words": in_words(correction)}
    )
    return words


def device_words(
    rig: RigState | None, applicator: ApplicatorState | None, peak_force_mn: int | None
) -> dict[str, dict[str, Any]]:
    """Both devices as last heard of, in plain words and numbers; a device that nobody has asked yet is not there."""
    words: dict[str, dict[str, Any]] = {}
    if rig is not None:
        words["rig"] = {
            "link": _link(rig.linked),
            "state": rig.status,
            "position": "known" if rig.position_known else "not known",
            "x_mm": round(rig.x_mm, 3),
            "y_mm": round(rig.y_mm, 3),
            "z_mm": round(rig.z_mm, 3),
            "grip": "closed" if rig.grip_closed else "open",
            "identity": rig.identity,
            "simulated": rig.simulated,
        }
    if applicator is not None:
        words["applicator"] = {
            "link": _link(applicator.linked),
            "state": applicator.st,
            "retraction_mm": applicator.z_um / 1000,
            "stylet_mm": applicator.stylet_um / 1000,
            "force_mn": applicator.force_mn,
            "peak_force_mn": peak_force_mn,
            "seeds_left": applicator.left,
            "cartridge": "seated" if applicator.seated else "out",
            "e_stop": "pressed" if applicator.estop_open else "clear",
            "latch": applicator.latch,
            "boot": applicator.boot,
            "identity": applicator.identity,
            "simulated": applicator.simulated,
        }
    return words


def _link(is_linked: bool) -> str:
    return "answers" if is_linked else "no link"


def question_words(command: AskOperator | None) -> dict[str, Any] | None:
    """What is asked now; None when nothing is."""
    if command is None:
        return None
    return {field.name: getattr(command, field.name) for field in fields(command)}


def proposal_words(proposal: Proposal) -> dict[str, Any]:
    """A proposal that waits to be confirmed; what it is not about is left out."""
    words = {field.name: getattr(proposal, field.name) for field in fields(proposal)}
    place = words.pop("place_mm")
    kept = {name: value for name, value in words.items() if value not in (None, 0, "")}
    return kept if place is None else {**kept, "place_mm": list(place)}


def settled_words(settled: Settled) -> dict[str, Any]:
    """What became of a proposal."""
    words = {"number": settled.proposal.number, "settled": settled.outcome, "kind": settled.proposal.kind}
    return {**words, "by": settled.by, "because": settled.because}


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
    for name, kind in _FIELDS.items():
        if name in words and (not isinstance(words[name], kind) or isinstance(words[name], bool)):
            raise NotUnderstoodError(f'"{name}" is not a {"text" if kind is str else "whole number"}')
    _check_values(words.get("values", {}))
    _check_place(words.get("place_mm"))
    if not isinstance(words.get("id"), int | str | None):
        raise NotUnderstoodError('"id" is neither a text nor a whole number')
    return words


def _check_values(values: Any) -> None:
    """What an answer carries: only what is asked for, of the right kind."""
    if not isinstance(values, dict):
        raise NotUnderstoodError('"values" is not an object')
    for name, value in values.items():
        if name not in VALUES and isinstance(value, str) and len(name) <= LONGEST_NAME:
            if len(value) > LONGEST_REASON:
                raise NotUnderstoodError(f'"values": what is said of {name} is too long')
            continue  # of a needle; whether it was asked about, the question knows
        is_right = isinstance(value, VALUES.get(name, ())) and not isinstance(value, bool)
        if not is_right or (isinstance(value, str) and len(value) > LONGEST_REASON):
            raise NotUnderstoodError('"values" holds a text "batch" and a number "measured_mci", no more')
        if not isinstance(value, str) and not math.isfinite(value):
            raise NotUnderstoodError('"measured_mci" is not a finite number')


def _check_place(place: Any) -> None:
    if place is None:
        return
    is_point = isinstance(place, list) and len(place) == 3
    if not is_point or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in place
    ):
        raise NotUnderstoodError('"place_mm" is not three finite numbers')


def why_not_decided(event: OperatorDecided, snapshot: Snapshot | None) -> str | None:
    """Why a decision can't be taken here, in a sentence; None when it can."""
    if event.kind not in KINDS:
        return f"'{event.kind}' is no decision; decisions are {', '.join(KINDS)}"
    if snapshot is None or event.kind not in snapshot.may_decide:
        now = ", ".join(snapshot.may_decide) if snapshot is not None else ""
        return f"{event.kind} can't be decided now; may be decided: {now or 'nothing'}"
    if event.needle is not None and event.needle not in {needle.name for needle in snapshot.needles}:
        return f"there is no needle {event.needle}"
    return incomplete(event)


def name_of(who: str) -> str:
    """A person's or console's name as the journal shall have it.

    Raises:
        NotUnderstoodError: empty, too long, or with signs that can't be printed.
    """
    name = who.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise NotUnderstoodError(f'"who" is a name of 1 to {LONGEST_NAME} printable signs')
    return name
