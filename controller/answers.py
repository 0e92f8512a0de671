"""Which answer of a person counts: the first one to the command that is asked about, and no other.

Pure. Whoever takes answers in (a door, a terminal, a simulated person) asks here first; what does not count is told
why, and never reaches the procedure.
"""

from __future__ import annotations

from typing import Any

from controller import ruling
from controller.commands import AskOperator
from controller.events import OperatorConfirmed, OperatorDeclined


class Answers:
    """The question of now, and who has answered it."""

    def __init__(self) -> None:
        self.asked: AskOperator | None = None
        self._last: tuple[int, str] | None = None

    def ask(self, command: AskOperator) -> None:
        """This is asked now."""
        self.asked = command

    def withdraw(self) -> None:
        """Nothing is asked any more (held, stopped)."""
        self.asked = None

    def take(
        self,
        number: int,
        who: str,
        declined_because: str | None = None,
        values: dict[str, Any] | None = None,
    ) -> OperatorConfirmed | OperatorDeclined | str:
        """The event of an answer that counts, or (a sentence) why this one does not."""
        if self.asked is None or self.asked.number != number:
            if self._last is not None and self._last[0] == number:
                return f"command {number} was answered already, by {self._last[1]}"
            if self.asked is None:
                return f"command {number} is not asked about; nothing is"
            return f"command {number} is not asked about; command {self.asked.number} is: {self.asked.text}"
        if self.asked.task == ruling.TASK and declined_because is None:
            problem = ruling.why_not(self.asked, values or {})
            if problem is not None:
                return f"command {number}: {problem}"
        elif values and self.asked.item != "seeds":
            return f"command {number} asks for no values: {self.asked.text}"
        self.asked, self._last = None, (number, who)
        if declined_because is None:
            return OperatorConfirmed(number, who, values or {})
        return OperatorDeclined(number, who, declined_because)
