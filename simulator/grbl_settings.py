"""Grbl's settings as `$$` prints them and `$n=v` writes them, with the values of a seedguide rig."""

from __future__ import annotations

from simulator.grbl_parser import GcodeError
from simulator.nonvolatile import NonVolatile

_DEFAULTS: dict[int, float] = {
    **{0: 10, 1: 255, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 10: 1, 11: 0.010, 12: 0.002, 13: 0},
    **{20: 1, 21: 1, 22: 1, 23: 0, 24: 25.0, 25: 1500.0, 26: 250, 27: 1.0, 30: 1000, 31: 0, 32: 0},
    **{100: 200.0, 101: 200.0, 102: 200.0, 110: 3000.0, 111: 3000.0, 112: 1200.0},
    **{120: 200.0, 121: 200.0, 122: 100.0, 130: 200.0, 131: 200.0, 132: 200.0},
}
_WITH_DECIMALS = {11, 12, 24, 25, 27, *range(100, 133)}
_FLAGS = {4, 5, 6, 13, 20, 21, 22, 32}
_RECORD = "grbl settings"


class GrblSettings:
    """Numbered settings, kept without power."""

    def __init__(self, store: NonVolatile) -> None:
        self._store = store
        saved = store.read(_RECORD, {})
        self._values: dict[int, float] = {
            **_DEFAULTS,
            **{int(number): value for number, value in saved.items()},
        }

    def __getitem__(self, number: int) -> float:
        return self._values[number]

    def axis(self, first: int) -> tuple[float, float, float]:
        """A setting of X, Y and Z, e.g. 100 for steps per mm."""
        return self._values[first], self._values[first + 1], self._values[first + 2]

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
        if number in _FLAGS:
            value = 1.0 if value else 0.0
        elif number not in _WITH_DECIMALS:
            value = float(int(value))
        self._values[number] = value
        if number == 22 and not value:
            self._values[20] = 0.0
        self._save()

    def restore(self) -> None:
        """Back to the rig's own values."""
        self._values = dict(_DEFAULTS)
        self._save()

    def _save(self) -> None:
        changed = {str(n): v for n, v in self._values.items() if v != _DEFAULTS[n]}
        self._store.write(_RECORD, changed)

    def _text(self, number: int) -> str:
        value = self._values[number]
        return f"{value:.3f}" if number in _WITH_DECIMALS else str(int(value))
