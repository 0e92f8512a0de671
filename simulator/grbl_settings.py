"""Grbl's settings as `$$` prints them and `$n=v` writes them."""

from __future__ import annotations

from simulator.grbl_kind import STOCK, GrblKind
from simulator.grbl_parser import Axes, GcodeError
from simulator.nonvolatile import NonVolatile

_WITH_DECIMALS = {11, 12, 24, 25, 27, *range(100, 140)}
_FLAGS = {4, 5, 6, 13, 20, 21, 22, 32}
_RECORD = "grbl settings"


class GrblSettings:
    """Numbered settings, kept without power."""

    def __init__(self, store: NonVolatile, kind: GrblKind = STOCK) -> None:
        self._store, self._defaults, self._count = store, kind.settings, len(kind.axes)
        saved = store.read(_RECORD, {})
        self._values: dict[int, float] = {
            **self._defaults,
            **{int(number): value for number, value in saved.items()},
        }

    def __getitem__(self, number: int) -> float:
        return self._values[number]

    def axis(self, first: int) -> Axes:
        """A setting of each axis, e.g. 100 for steps per mm."""
        return tuple(self._values[first + axis] for axis in range(self._count))

    def lines(self) -> list[str]:
        return [f"${number}={self._text(number)}" for number in sorted(self._values)]

    def set(self, number: int, value: float) -> None:
        """Write one.

        Raises:
            GcodeError: 3 no such setting, 4 negative, 6 step pulse too short, 10 soft limits without homing.
        """
        if value < 0:
            raise GcodeError(4)
        if number not in self._values:
            raise GcodeError(3)
        if number == 0 and value < 3:
            raise GcodeError(6)
        if number == 20 and value and not self[22]:
            raise GcodeError(10)
        if number in _FLAGS and self._defaults[number] <= 1:
            value = 1.0 if value else 0.0
        elif number not in _WITH_DECIMALS:
            value = float(int(value))
        self._values[number] = value
        if number == 22 and not value:
            self._values[20] = 0.0
        self._save()

    def restore(self) -> None:
        """Back to the rig's own values."""
        self._values = dict(self._defaults)
        self._save()

    def _save(self) -> None:
        changed = {str(n): v for n, v in self._values.items() if v != self._defaults[n]}
        self._store.write(_RECORD, changed)

    def _text(self, number: int) -> str:
        value = self._values[number]
        return f"{value:.3f}" if number in _WITH_DECIMALS else str(int(value))
