"""G-code as Grbl 1.1h reads it: one line -> what to do, or Grbl's error number.

Pure: the modal state goes in and a new one comes out. Written from Grbl's documentation of its commands and
error codes. Not read: arcs (G2, G3: error 20), tool length offsets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_WORD = re.compile(r"([A-Z])([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))")
_GROUP_OF_G = {
    **dict.fromkeys((4.0, 10.0, 28.0, 28.1, 30.0, 30.1, 53.0, 92.0, 92.1), "once"),
    **dict.fromkeys((0.0, 1.0, 38.2, 38.3, 80.0), "motion"),
    **dict.fromkeys((17.0, 18.0, 19.0), "plane"),
    **dict.fromkeys((90.0, 91.0), "distance"),
    91.1: "arc distance",
    **dict.fromkeys((93.0, 94.0), "feed"),
    **dict.fromkeys((20.0, 21.0), "units"),
    40.0: "cutter",
    49.0: "tool length",
    **dict.fromkeys((54.0, 55.0, 56.0, 57.0, 58.0, 59.0), "system"),
    61.0: "control",
}
_GROUP_OF_M = {
    **dict.fromkeys((0, 1, 2, 30), "stop"),
    **dict.fromkeys((3, 4, 5), "spindle"),
    **dict.fromkeys((8, 9), "coolant"),
}
_TAKES_AXES = 10.0, 28.0, 30.0, 92.0
_MM_PER_INCH = 25.4
_LETTERS = "XYZAB"

Axes = tuple[float, ...]
"""A machine position or offset, one value per axis: X Y Z, or X Y Z A B."""


class GcodeError(Exception):
    """Grbl's error number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"error:{number}")
        self.number = number


@dataclass(frozen=True)
class Modal:
    """What a line inherits from the lines before it; lengths in mm."""

    motion: float = 0.0
    system: int = 54
    plane: int = 17
    units: int = 21
    distance: int = 90
    feed_mode: int = 94
    spindle: int = 5
    coolant: int = 9
    tool: int = 0
    feed_mm_min: float = 0.0
    speed: float = 0.0


@dataclass(frozen=True)
class Offsets:
    """Work offsets and stored places (machine mm); the first six are G54..G59."""

    systems: tuple[Axes, ...] = ((0.0, 0.0, 0.0),) * 6
    g28: Axes = (0.0, 0.0, 0.0)
    g30: Axes = (0.0, 0.0, 0.0)
    g92: Axes = (0.0, 0.0, 0.0)

    def work_mm(self, modal: Modal) -> Axes:
        return tuple(s + g for s, g in zip(self.systems[modal.system - 54], self.g92, strict=True))


@dataclass(frozen=True)
class Instruction:
    """What one line asks for, in the order in which Grbl does it.

    Attributes:
        coolant: 8 or 9 when it changes, else None.
        dwell_s: G4.
        targets_mm: machine coordinates to go to, one after the other.
        feed_mm_min: of the targets; None for a rapid.
        probes: the motion is a G38.2 or G38.3.
        stop: 0, 1, 2 or 30, else None.
    """

    modal: Modal
    offsets: Offsets
    coolant: int | None = None
    dwell_s: float | None = None
    targets_mm: tuple[Axes, ...] = ()
    feed_mm_min: float | None = None
    probes: float | None = None
    stop: int | None = None


def tidy(text: str) -> str:
    """A line as Grbl stores it: no spaces, comments or block-delete, upper case."""
    text = re.sub(r"\([^)]*\)?|;.*", "", text)
    return "".join(c for c in text if c > " " and c != "/").upper()


def parse(text: str, modal: Modal, offsets: Offsets, at_mm: Axes) -> Instruction:
    """Read one tidy line.

    Args:
        at_mm: machine position at the end of all motion planned so far.

    Raises:
        GcodeError: with the number Grbl would answer.
    """
    groups, values = _words(text, _LETTERS[: len(at_mm)])
    return _Line(groups, values, modal, offsets, at_mm).instruction()


def _words(text: str, axes: str) -> tuple[dict[str, float], dict[str, float]]:
    groups: dict[str, float] = {}
    values: dict[str, float] = {}
    place = 0
    axis_commands = 0
    while place < len(text):
        if not text[place].isascii() or not text[place].isalpha():
            raise GcodeError(1)
        word = _WORD.match(text, place)
        if word is None:
            raise GcodeError(2)
        letter, value, place = word[1], float(word[2]), word.end()
        if letter in "GM":
            group = _GROUP_OF_G.get(round(value, 2)) if letter == "G" else _GROUP_OF_M.get(int(value))
            if letter == "M" and value != int(value):
                raise GcodeError(23)
            if group is None:
                raise GcodeError(20)
            if group in groups:
                raise GcodeError(21)
            groups[group] = round(value, 2)
            axis_commands += letter == "G" and (group == "motion" or value in _TAKES_AXES)
            if axis_commands > 1:
                raise GcodeError(24)
        elif letter in "FIJKLNPRST" or letter in axes:
            if letter in values:
                raise GcodeError(25)
            if letter in "FNPST" and value < 0:
                raise GcodeError(4)
            values[letter] = value
        else:
            raise GcodeError(20)
    return groups, values


class _Line:
    def __init__(
        self,
        groups: dict[str, float],
        values: dict[str, float],
        modal: Modal,
        offsets: Offsets,
        at_mm: Axes,
    ) -> None:
        self._groups, self._values, self._offsets, self._at_mm = groups, values, offsets, at_mm
        self._axes = _LETTERS[: len(at_mm)]
        self._once = groups.get("once")
        self._modal = self._new_modal(modal)
        self._before = modal

    def instruction(self) -> Instruction:
        groups, values, once = self._groups, self._values, self._once
        modal = self._modal
        has_axes = any(axis in values for axis in self._axes)
        if once == 53.0 and modal.motion not in (0.0, 1.0):
            raise GcodeError(30)
        dwell_s = self._take("P", 28) if once == 4.0 else None
        offsets = self._new_offsets(has_axes)
        probes = None
        targets: tuple[Axes, ...] = ()
        feed: float | None = None
        if once in (28.0, 30.0):
            stored = offsets.g28 if once == 28.0 else offsets.g30
            targets = ((self._target(), stored) if has_axes else (stored,)) if once else ()
        elif once not in _TAKES_AXES and (has_axes or "motion" in groups):
            if modal.motion == 80.0:
                if has_axes:
                    raise GcodeError(31)
            elif modal.motion != 0.0:
                if modal.feed_mm_min == 0.0 or (modal.feed_mode == 93 and "F" not in values):
                    raise GcodeError(22)
                feed = modal.feed_mm_min
                if modal.motion in (38.2, 38.3):
                    probes = modal.motion
                    if not has_axes:
                        raise GcodeError(26)
            if has_axes:
                targets = (self._target(),)
                if probes is not None and targets[0] == self._at_mm:
                    raise GcodeError(33)
        if set(values) - set("FNST") - set(self._axes) - self._used:
            raise GcodeError(36)
        if feed is not None and modal.feed_mode == 93:  # inverse time: F is moves per minute
            way = max(abs(t - a) for t, a in zip(targets[-1], self._at_mm, strict=True)) if targets else 0.0
            feed, modal = way * feed, replace(modal, feed_mm_min=0.0)
        stop = groups.get("stop")
        coolant = modal.coolant if modal.coolant != self._before.coolant else None
        return Instruction(
            modal, offsets, coolant, dwell_s, targets, feed, probes, None if stop is None else int(stop)
        )

    def _new_modal(self, modal: Modal) -> Modal:
        groups, values = self._groups, self._values
        self._used: set[str] = set()
        units = int(groups.get("units", modal.units))
        feed_mode = int(groups.get("feed", modal.feed_mode))
        feed = modal.feed_mm_min if feed_mode == modal.feed_mode else 0.0
        if "F" in values:
            feed = values["F"] * (_MM_PER_INCH if units == 20 and feed_mode == 94 else 1.0)
        return replace(
            modal,
            motion=groups.get("motion", modal.motion),
            system=int(groups.get("system", modal.system)),
            plane=int(groups.get("plane", modal.plane)),
            units=units,
            distance=int(groups.get("distance", modal.distance)),
            feed_mode=feed_mode,
            feed_mm_min=feed,
            spindle=int(groups.get("spindle", modal.spindle)),
            coolant=int(groups.get("coolant", modal.coolant)),
            tool=int(values.get("T", modal.tool)),
            speed=values.get("S", modal.speed),
        )

    def _take(self, letter: str, error_if_missing: int) -> float:
        if letter not in self._values:
            raise GcodeError(error_if_missing)
        self._used.add(letter)
        return self._values[letter]

    def _axis_mm(self, axis: str) -> float:
        return self._values[axis] * (_MM_PER_INCH if self._modal.units == 20 else 1.0)

    def _target(self) -> Axes:
        """Where the axis words lead, machine mm."""
        work_mm = self._offsets.work_mm(self._modal)
        target = list(self._at_mm)
        for i, axis in enumerate(self._axes):
            if axis in self._values:
                value = self._axis_mm(axis)
                if self._once == 53.0:
                    target[i] = value
                elif self._modal.distance == 91:
                    target[i] += value
                else:
                    target[i] = value + work_mm[i]
        return tuple(target)

    def _new_offsets(self, has_axes: bool) -> Offsets:
        offsets, at = self._offsets, self._at_mm
        work = offsets.systems[self._modal.system - 54]
        if self._once == 92.1:
            return replace(offsets, g92=(0.0,) * len(at))
        if self._once == 28.1:
            return replace(offsets, g28=at)
        if self._once == 30.1:
            return replace(offsets, g30=at)
        if self._once == 92.0:
            if not has_axes:
                raise GcodeError(26)
            return replace(
                offsets, g92=self._moved(offsets.g92, [a - w for a, w in zip(at, work, strict=True)])
            )
        if self._once == 10.0:
            if not has_axes:
                raise GcodeError(26)
            kind, number = self._take("L", 28), int(self._take("P", 28))
            if kind not in (2.0, 20.0):
                raise GcodeError(20)
            if number > 6:
                raise GcodeError(29)
            index = number - 1 if number else self._modal.system - 54
            reference = [a - g for a, g in zip(at, offsets.g92, strict=True)] if kind == 20.0 else None
            systems = list(offsets.systems)
            systems[index] = self._moved(systems[index], reference)
            return replace(offsets, systems=tuple(systems))
        return offsets

    def _moved(self, old: Axes, reference: list[float] | None) -> Axes:
        """New offsets: so that ``reference`` reads as the axis words, or the words themselves."""
        new = list(old)
        for i, axis in enumerate(self._axes):
            if axis in self._values:
                value = self._axis_mm(axis)
                new[i] = value if reference is None else reference[i] - value
        return tuple(new)
