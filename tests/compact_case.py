"""The case of kill points and fault campaign: small and short, and whole.

Two needles, four seeds, 16 mm deep: reference needles, corrections of them and of the seed needles, delivery, a
cartridge that runs out in the middle of a needle. People answer at once and a CT takes seconds, so that no thousand
points lie in one wait.
"""

from __future__ import annotations

from controller.commands import AskOperator
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.knowledge import ProcedureSettings
from tests.killed_room import KilledRoom
from tests.made_plan import made_plan

PLAN = made_plan(2, 1, 2, tip_mm=36.0, reference_depth_mm=6.0)
CHANCE = 15
OWN_MM = 4.5
"""Of a needle's error at 80 mm; it grows with the depth."""
SETTINGS = ProcedureSettings(cartridge_capacity=3)
ANSWER_NS, SCAN_TAKES_S = 300_000_000, 3.0


class BriskRoom(KilledRoom):
    """The killed room without long waits."""

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        answer, took_ns = super().answer(command)
        return answer, min(took_ns, ANSWER_NS)


def compact_room(chance: int = CHANCE) -> KilledRoom:
    """The room of one procedure; ``chance``: seed of its errors."""
    return BriskRoom(
        PLAN, setup_mm=3.0, own_mm=OWN_MM, seed=chance, settings=SETTINGS, scan_takes_s=SCAN_TAKES_S
    )
