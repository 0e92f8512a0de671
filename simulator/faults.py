"""What shall go wrong, and when: the file of faults (FAULTS.md), read and checked.

One language for the bench (``seedguide simulate``), a rehearsal and the campaign. Knows words, triggers and TOML;
``faults_director`` lets them happen.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

DEVICES = ("rig", "applicator")
AXES = ("x", "y", "z")
DEVICE_HELP = {
    "jam": "the next stroke of the stylet blocks",
    "clear": "a person clears the seeds' path",
    "empty": "the next stroke takes no seed",
    "double": "the next stroke takes two seeds",
    "miscount N": "the cartridge truly holds N seeds more (or fewer, with a minus) than was said",
    "blind": "the seed-pass sensor sees nothing",
    "sees": "it sees again",
    "estop": "the e-stop loop opens",
    "estop off": "the e-stop loop closes",
    "reset DEVICE": "brown-out: off and on again",
    "lose rig AXIS MM": "the load of axis x, y or z slips by this much, once",
    "lose applicator MM": "the retraction carriage slips behind its motor, once",
    "stick applicator": "the retraction carriage follows its motor no more",
    "free applicator": "it follows again",
    "stall rig AXIS": "the motor of axis x, y or z hums and does not turn",
    "free rig AXIS": "it turns again",
    "weaken rig N": "the depth motor loses steps against more than N newtons",
    "strengthen rig": "it has its full force again",
    "press rig AXIS": "something presses the limit switch",
    "release rig AXIS": "nothing presses it any more",
    "break rig AXIS": "the limit switch never closes",
    "repair rig AXIS": "it closes again",
    "noise DEVICE SHARE": "this share of the bytes arrives with a bit turned, and as many are lost",
    "loss DEVICE SHARE": "this share of the bytes is lost",
    "flips DEVICE SHARE": "this share of the bytes arrives with a bit turned",
    "duplicates DEVICE SHARE": "this share of the bytes arrives twice",
    "delay DEVICE MS": "everything arrives later by up to this many ms",
    "silence DEVICE": "nothing gets through the cable",
    "mend DEVICE": "the cable is perfect again",
    "unplug DEVICE": "the port is gone",
    "refuse DEVICE": "no new connection",
    "plug DEVICE": "the port is there again",
}
ROOM_HELP = {
    "scan missing": "the next CT does not come",
    "scan old": "the next CT that comes is the one before",
    "scan stranger": "the next CT is of another patient",
    "scan hides NEEDLE": "the next CT does not show this needle",
    "operator early": "the next confirmation names a command that nobody asked about; the right one follows",
    "operator twice": "the next confirmation is given twice",
    "operator silent": "nobody answers the next question",
    "operator slow S": "the next question is answered only after this many seconds",
    "operator declines": "the next question is answered with no",
    "operator stop": "a person presses stop",
    "patient moves MM MM MM": "the patient moves so far (x, y, z, DICOM LPS) under template and needles",
}
"""What needs the procedure's people, patient and scanner: in a rehearsal and the campaign, not on the bench alone."""
HELP = {**DEVICE_HELP, **ROOM_HELP}
_ENDS_BY = {
    **dict.fromkeys(("noise", "loss", "flips", "duplicates", "delay", "silence"), "mend {1}"),
    **dict.fromkeys(("unplug", "refuse"), "plug {1}"),
    **{"stall": "free rig {2}", "press": "release rig {2}", "break": "repair rig {2}"},
    **{"estop": "estop off", "blind": "sees", "stick": "free applicator", "weaken": "strengthen rig"},
}


class FaultError(ValueError):
    """A fault that can't be understood; one sentence says why."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and its trigger: exactly one of the ``at_`` fields or ``per_hour``.

    Attributes:
        do: words of ``HELP``, lower case but for a needle's name.
        at_s: s of the devices' time.
        at_state: name of the protocol's state, when it is entered for the ``nth`` time.
        at_command: name of a command, when the ``nth`` of its kind is about to leave.
        at_seed: the seed whose drop is about to leave.
        per_hour: happens by chance, so often per hour of the devices' time, from ``seed``.
        nth: see above, from 1.
        after_s: this long after the trigger.
        for_s: ends again after so long; None: it stays.
    """

    do: str
    at_s: float | None = None
    at_state: str | None = None
    at_command: str | None = None
    at_seed: int | None = None
    per_hour: float | None = None
    seed: int = 1
    nth: int = 1
    after_s: float = 0.0
    for_s: float | None = None

    @property
    def kind(self) -> str:
        """First words, without what they are given: ``flips rig``, ``scan old``."""
        words = self.do.split()
        return " ".join(words[:2]) if len(words) > 1 else words[0]

    @property
    def is_of_the_room(self) -> bool:
        """It needs people, patient or scanner."""
        return self.do.split()[0] in ("scan", "operator", "patient")

    @property
    def needs_procedure(self) -> bool:
        """It can't be played on a bench that knows only its devices."""
        return self.is_of_the_room or (self.at_s is None and self.per_hour is None)

    @property
    def ends_by(self) -> str | None:
        """The words that end it; None: nothing does."""
        words = self.do.split()
        form = None if words[-1] == "off" else _ENDS_BY.get(words[0])
        return None if form is None else form.format(*words)


def checked_words(words: str) -> list[str]:
    """The words of a fault, each in its form.

    Raises:
        FaultError: ``HELP`` does not know them.
    """
    said = words.split()
    for form in HELP:
        wanted = form.split()
        if len(wanted) == len(said) and all(_fits(w, s) for w, s in zip(wanted, said, strict=True)):
            for slot, given in zip(wanted, said, strict=True):
                _check_number(slot, given)
            return [s if w == "NEEDLE" else s.lower() for w, s in zip(wanted, said, strict=True)]
    raise FaultError(f"'{words}' is no fault; known are: {', '.join(HELP)}.")


def _fits(wanted: str, said: str) -> bool:
    allowed = {"DEVICE": DEVICES, "AXIS": AXES}.get(wanted, (wanted,))
    return wanted in ("NEEDLE", "SHARE", "MM", "MS", "S", "N") or said.lower() in allowed


def _check_number(slot: str, given: str) -> None:
    if slot not in ("SHARE", "MM", "MS", "S", "N"):
        return
    try:
        number = float(given)
    except ValueError:
        raise FaultError(f"'{given}' is not a number.") from None
    low, high = {"SHARE": (0.0, 1.0), "MS": (0.0, 60_000.0), "S": (0.0, 86_400.0)}.get(slot, (-1e3, 1e3))
    if not low <= number <= high:  # also NaN
        raise FaultError(f"{given} is not a number from {low:g} to {high:g}.")
    if slot == "N" and number != int(number):
        raise FaultError(f"{given} is not a whole number.")


def read_faults(path: Path, states: Mapping[str, Any] | None = None) -> list[Fault]:
    """The faults of a file, in its order. ``states``: names that ``at_state`` may have (None: any).

    Raises:
        FaultError: not readable, not TOML, or a fault that isn't one; one sentence that names it.
    """
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise FaultError(f"{path}: can't be read as TOML ({problem}).") from problem
    tables = whole.pop("fault", None)
    if whole:
        raise FaultError(f"{path}: '{next(iter(whole))}' is unknown; only [[fault]] tables are.")
    if not isinstance(tables, list) or not tables:
        raise FaultError(f"{path}: holds no [[fault]] table with a trigger and do.")
    return faults_of(tables, str(path), states)


def faults_of(tables: list[Any], where: str, states: Mapping[str, Any] | None = None) -> list[Fault]:
    """As ``read_faults``, from tables that were read already; ``where``: for messages."""
    faults = []
    for place, table in enumerate(tables, 1):
        try:
            fault = _fault(table)
            if states is not None and fault.at_state is not None and fault.at_state not in states:
                raise FaultError(f"at_state {fault.at_state} is no state; known are: {', '.join(states)}.")
        except FaultError as problem:
            raise FaultError(f"{where}: fault {place}: {problem}") from problem
        faults.append(fault)
    return faults


_TRIGGERS = ("at_s", "at_state", "at_command", "at_seed", "per_hour")
_NUMBERS = {"at_s": 0.0, "per_hour": 1e-6, "after_s": 0.0, "for_s": 0.0}
_WHOLE = {"at_seed": 1, "nth": 1, "seed": 0}
_MOST_PER_HOUR = 3600.0


def _fault(table: Any) -> Fault:
    if not isinstance(table, dict):
        raise FaultError("is no table.")
    unknown = set(table) - {field.name for field in fields(Fault)}
    if unknown:
        raise FaultError(
            f"'{min(unknown)}' is unknown; known are: do, {', '.join(_TRIGGERS)}, nth, after_s, for_s, seed."
        )
    given = [name for name in _TRIGGERS if name in table]
    if len(given) != 1:
        raise FaultError(f"needs exactly one trigger of {', '.join(_TRIGGERS)}, has {len(given)}.")
    for name, least in _NUMBERS.items():
        value = table.get(name, least)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < least:
            raise FaultError(f"{name} is a number, {least:g} or more.")
    for name, least_whole in _WHOLE.items():
        value = table.get(name, least_whole)
        if not isinstance(value, int) or isinstance(value, bool) or value < least_whole:
            raise FaultError(f"{name} is a whole number, {least_whole} or more.")
    if table.get("per_hour", 0) > _MOST_PER_HOUR:
        raise FaultError(f"per_hour is {_MOST_PER_HOUR:g} at most.")
    for name in ("do", "at_state", "at_command"):
        if not isinstance(table.get(name, ""), str):
            raise FaultError(f"{name} is a text.")
    if "nth" in table and given[0] not in ("at_state", "at_command"):
        raise FaultError("nth goes with at_state or at_command.")
    if "seed" in table and given[0] != "per_hour":
        raise FaultError("seed goes with per_hour.")
    if "do" not in table:
        raise FaultError("says not what to do.")
    fault = Fault(**{**table, "do": " ".join(checked_words(table["do"]))})
    if fault.for_s is not None and fault.ends_by is None:
        raise FaultError(f"'{fault.do}' happens once: for_s does not go with it.")
    return fault
