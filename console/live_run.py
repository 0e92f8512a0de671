"""A running procedure as the web console sees it: a thread that follows the controller's door.

Connects again for ever; what it shows then is told with its age, so that nobody takes old news for new. Each answer
goes over a connection in the name of the person who gave it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.door_client import DoorClient
from controller.journal import Record
from planning.refusal import AskedWrongly

_FOLLOWER = "web console"
_AGAIN_S = 0.5
_LOOK_S = 0.25
_ENDED = frozenset({"COMPLETED", "STOPPED", "ABORTED"})
TWO_PERSONS = frozenset({"patient", "plan"})
"""Items of the time-out that two people confirm: who the patient is, and which plan."""
OVERRIDES = "confirm_resume"
"""The question whose confirmation overrides a hold: two people, one of whom may decide."""
FOR_DECIDERS = frozenset({OVERRIDES, "adapt_plan", "judge_needles"})
"""Questions that are a physician's or physicist's to answer."""


class LiveRun:
    """Implements ``web_app.Door``.

    Args:
        folder: the run's.
        heard: called in the follower's thread with each record, in order and once.
        changed: called in the follower's thread after a new state.
        clock: seconds.
    """

    def __init__(
        self,
        folder: Path,
        heard: Callable[[Record], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._folder, self._heard, self._changed, self._clock = folder, heard, changed, clock
        self._state: dict[str, Any] | None = None
        self._last_s = float("-inf")
        self._since = 0
        self._stop_asked = False
        self.is_simulated = False
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="door follower")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    # --- web_app.Door -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any] | None:
        return self._state

    def age_s(self) -> float:
        """0 when the procedure has ended: there is nothing newer to be heard."""
        is_ended = self._state is not None and self._state["snapshot"]["state"] in _ENDED
        return 0.0 if is_ended else self._clock() - self._last_s

    async def answer(
        self, number: int, who: str, is_yes: bool, reason: str, values: dict[str, Any], /
    ) -> str | None:
        def say(client: DoorClient) -> str | None:
            return client.answer(number, values) if is_yes else client.decline(number, reason)

        return await asyncio.to_thread(self._say, who, say)

    async def settle(self, number: int, who: str, is_yes: bool, reason: str, /) -> str | None:
        outcome = "confirm" if is_yes else "decline"
        return await asyncio.to_thread(self._say, who, lambda client: client.settle(number, outcome, reason))

    async def decide(self, who: str, decision: dict[str, Any], /) -> str | None:
        def say(client: DoorClient) -> str | None:
            match decision["kind"]:
                case "go_on":
                    return client.go_on()
                case "leave":
                    return client.leave()
            return client.decide(
                decision["kind"],
                decision["because"],
                needle=decision["needle"],
                count=decision["count"],
                where=decision["where"],
            )

        return await asyncio.to_thread(self._say, who, say)

    async def stop(self, who: str, /) -> str | None:
        refusal = await asyncio.to_thread(self._say, who, DoorClient.stop)
        if refusal is None:
            self._stop_asked = True
            self._changed()
        return refusal

    def _say(self, who: str, what: Callable[[DoorClient], str | None]) -> str | None:
        try:
            with DoorClient(self._folder, who) as client:
                return what(client)
        except (AskedWrongly, OSError) as problem:
            return f"the controller was not reached: {problem}"

    # --- the follower's thread --------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._is_closing.is_set():
            try:
                with DoorClient(self._folder, _FOLLOWER) as client:
                    self.is_simulated = client.is_simulated
                    client.follow(self._since)
                    while not self._is_closing.is_set():
                        words = client.news(_LOOK_S)
                        if words is not None:
                            self._take(words)
            except (AskedWrongly, OSError):
                self._is_closing.wait(_AGAIN_S)

    def _take(self, words: dict[str, Any]) -> None:
        if "beat" in words:
            # The age of the ports' loop, not of the door: a loop that hangs must not look alive.
            self._last_s = self._clock() - float(words["beat"])
            return
        self._last_s = self._clock()
        if "record" in words:
            record = Record(**words["record"])
            self._since = record.number
            self._heard(record)
        elif "snapshot" in words:
            snapshot, ask = words["snapshot"], words.get("ask")
            if ask is not None:
                needs_two = ask.get("item") in TWO_PERSONS or ask.get("task") == OVERRIDES
                ask = {**ask, "needs_two": needs_two, "needs_decider": ask.get("task") in FOR_DECIDERS}
            is_stopped = snapshot["state"] in ("STOPPED", "HELD")
            self._state = {
                "snapshot": snapshot,
                "ask": ask,
                "proposal": words.get("proposal"),
                "settled": words.get("settled"),
                "devices": words.get("devices", {}),
                "stop": {
                    "pressed": self._stop_asked or snapshot["state"] == "STOPPED",
                    "acknowledged": is_stopped and bool(words.get("stopped", False)),
                },
            }
            self._changed()
