"""A run's journal played again, at any speed, as a console sees it: the same records through the same procedure.

What a debrief looks at, and the console of a run that is over. It can be stopped at, not spoken to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from controller.door_words import snapshot_words
from controller.journal import Record
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.replay import event_of, replay_records
from planning.plan import Plan
from planning.refusal import AskedWrongly


class PlayedRun:
    """Implements ``web_app.Door`` over records.

    Args:
        records: of one journal, the first of which opened it.
        speed: procedure seconds per second; ``None``: all at once.
        clock: seconds.
    """

    is_simulated = True  # nothing is behind this door

    def __init__(
        self, records: Sequence[Record], plan: Plan, speed: float | None, clock: Callable[[], float]
    ) -> None:
        if not records or records[0].kind != "opened" or "settings" not in records[0].body:
            raise AskedWrongly("the journal does not begin with plan and settings; it can't be shown.")
        if records[0].body.get("plan") != plan.content_hash:
            raise AskedWrongly("the journal is of another plan.")
        replay_records(records, plan, "the journal")  # refused when today's code does not do what it tells
        self._records, self._speed, self._clock = records, speed, clock
        self._procedure = Procedure(plan, ProcedureSettings(**records[0].body["settings"]))
        self._start_s = clock()
        self._at = 0
        self._last_ns = 0

    @property
    def is_over(self) -> bool:
        return self._at == len(self._records)

    def due(self) -> list[Record]:
        """Records whose time has come, each once; the state is that after them."""
        passed_s = self._clock() - self._start_s
        until_ns = None if self._speed is None else passed_s * self._speed * 1e9
        first = self._at
        while self._at < len(self._records):
            record = self._records[self._at]
            if until_ns is not None and record.t_ns > until_ns:
                break
            if record.kind == "event" and not self._procedure.is_ended:
                self._procedure.handle(event_of(record, "the journal"))
            self._last_ns = record.t_ns
            self._at += 1
        return list(self._records[first : self._at])

    def state(self) -> dict[str, Any]:
        shown = self._procedure.snapshot(self._last_ns, rig="played again", applicator="played again")
        return {
            "snapshot": snapshot_words(shown),
            "ask": None,
            "proposal": None,
            "settled": None,
            "devices": {},
            "is_replay": True,
            "stop": {"pressed": False, "acknowledged": False},
        }

    def age_s(self) -> float:
        return 0.0

    async def answer(
        self, _number: int, _who: str, _is_yes: bool, _reason: str, _values: dict[str, Any]
    ) -> str | None:
        return "this run is over and only played again"

    async def settle(self, _number: int, _who: str, _is_yes: bool, _reason: str) -> str | None:
        return "this run is over and only played again"

    async def decide(self, _who: str, _decision: dict[str, Any]) -> str | None:
        return "this run is over and only played again"

    async def stop(self, _who: str) -> str | None:
        return "this run is over and only played again: nothing moves"
