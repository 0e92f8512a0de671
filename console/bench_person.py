"""Who stands at the device while it is tested: a person at the terminal, or hands behind a simulated bench."""

from __future__ import annotations

from collections.abc import Callable

from controller.commands import AskOperator
from controller.events import OperatorConfirmed
from controller.requests import BenchHands

_BY_HANDS = ("seat_cartridge", "remove_cartridge", "open_estop", "close_estop")


class TerminalPerson:
    """Asks at the terminal. ``ask`` gives the typed line; a closed terminal is a no."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask

    def agrees(self, question: str) -> bool:
        return self._typed(f"{question} [y/n] ", {"y": True, "yes": True, "n": False, "no": False})

    def does(self, task: str, words: str, *, count: int = 0, returned: int = 0) -> bool:  # noqa: ARG002
        return self._typed(f"{words}, then press Enter (s skips this). ", {"": True, "s": False, "n": False})

    def _typed(self, question: str, meanings: dict[str, bool]) -> bool:
        while True:
            try:
                typed = self._ask(question).strip().lower()
            except EOFError:
                return False
            if typed in meanings:
                return meanings[typed]


class AutomaticPerson:
    """Says yes, and has done what ``hands`` can; for simulated devices only."""

    def __init__(self, hands: BenchHands | None) -> None:
        self._hands = hands
        self._number = 0

    def agrees(self, question: str) -> bool:  # noqa: ARG002
        return True

    def does(self, task: str, words: str, *, count: int = 0, returned: int = 0) -> bool:
        if self._hands is None or task not in _BY_HANDS:
            return False
        self._number += 1
        asked = AskOperator(self._number, task, words, count=count, returned=returned)
        return isinstance(self._hands.answer(asked)[0], OperatorConfirmed)
