"""Evaluates the dose of needles as they stand, for a session: planning's adaptation as an event of plain values.

Called aside of the procedure's loop, like the analysis of a CT.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from controller.commands import EvaluateNeedles
from controller.events import NeedlesEvaluated
from controller.heavy_work import Heavy
from planning.adaptation import Implant
from planning.planner import expected_figures
from planning.refusal import AskedWrongly


class DoseEvaluator:
    """Of one plan on its patient.

    Args:
        heavy: computes.
        timed: keeps the wall time of a step.
        takes_s: on the procedure's clock where that is virtual.
    """

    def __init__(
        self, heavy: Heavy, timed: Callable[[str], AbstractContextManager[None]], takes_s: float = 0.0
    ) -> None:
        self._heavy, self._timed, self._takes_ns = heavy, timed, round(takes_s * 1e9)

    def evaluate(self, command: EvaluateNeedles, implant: Implant) -> tuple[NeedlesEvaluated, int]:
        """The figures and the proposal, and how many ns of the procedure's clock it took. Raises HeavyWorkLost."""
        with self._timed("dose as the needles stand"):
            try:
                found = self._heavy.adapt(implant)
            except AskedWrongly as problem:
                return NeedlesEvaluated(command.number, skipped=str(problem)), self._takes_ns
        event = NeedlesEvaluated(
            number=command.number,
            planned=expected_figures(found.planned),
            now=expected_figures(found.now),
            missed=list(found.missed),
            then={} if found.then is None else expected_figures(found.then),
            still_missed=list(found.still_missed),
            proposal={name: list(mm) for name, mm in (found.retractions_mm or {}).items()},
            is_better=found.is_better,
        )
        return event, self._takes_ns
