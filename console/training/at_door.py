"""A trainee at the web console: answers and decisions come through the run's door."""

from __future__ import annotations

import select
from collections.abc import Callable

from console.training.terminal import Answered, HeldRun
from controller.commands import AskOperator
from controller.door import Door
from controller.events import OperatorDecided
from controller.snapshot import Snapshot

_LOOK_EVERY_S = 0.25


class DoorTrainee:
    """``clock``: seconds."""

    def __init__(self, name: str, door: Door, clock: Callable[[], float]) -> None:
        self.name, self._door, self._clock = name, door, clock

    def stop_pressed(self) -> str | None:
        return None  # the room asks the door itself

    def noticed(self, what: str) -> None:
        """It is in the journal, which the page shows."""

    def answer(self, command: AskOperator, snapshot: Snapshot) -> Answered:
        del snapshot
        return self._door.wait_for_answer(command), 0  # the paced clock has run meanwhile

    def held(self, run: HeldRun) -> tuple[bool | OperatorDecided, int]:
        last_s = self._clock()

        def thought_ns() -> int:
            nonlocal last_s
            now_s = self._clock()
            passed, last_s = now_s - last_s, now_s
            return round(passed * 1e9)

        while self._door.stop_pressed() is None:
            while (event := self._door.decided()) is not None:
                if event.kind == "abort":
                    return event, thought_ns()
                run.decide(event, thought_ns())
            wish = self._door.wished()
            if wish is not None:
                return wish == "go_on", thought_ns()
            select.select([self._door], [], [], _LOOK_EVERY_S)
        return False, thought_ns()
