"""People at consoles, as the session sees them through the door: they answer, decide about a hold, press stop."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.commands import AskOperator
from controller.door import Door
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.journal import Journal

if TYPE_CHECKING:
    from controller.undertaking import Held

_LOOK_EVERY_S = 0.25


class DoorOperator:
    """People at consoles. ``hands``: does what was confirmed, where hands are simulated; None: people have."""

    is_automatic = False
    name = "door"

    def __init__(
        self,
        door: Door,
        hands: Callable[[AskOperator], tuple[OperatorConfirmed | OperatorDeclined, int]] | None = None,
    ) -> None:
        self._door, self._hands = door, hands

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        taken = self._door.wait_for_answer(command)
        if self._hands is not None and isinstance(taken, OperatorConfirmed):
            done, _ = self._hands(command)
            if isinstance(done, OperatorDeclined):
                return OperatorDeclined(command.number, taken.who, done.reason), 0
        return taken, 0


def rest(door: Door, held: Held) -> bool | OperatorDecided:
    """People at consoles decide about a held procedure: on (True), left held (False), or given up (the decision)."""
    while held.stopped_by() is None:
        while (event := door.decided()) is not None:
            if event.kind == "abort":
                return event
            held.decide(event)
        wish = door.wished()
        if wish is not None:
            return wish == "go_on"
        select.select([door], [], [], _LOOK_EVERY_S)
    return False


def stop_or_note(door: Door, journal: Journal, now_ns: Callable[[], int]) -> str | None:
    """For the session's ``stop_pressed``: the stop first; only then the door's notes go into the journal."""
    who = door.stop_pressed()
    if who is None:
        for kind, body in door.notes():
            journal.append(now_ns(), kind, body)
    return who
