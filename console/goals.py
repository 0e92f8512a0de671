"""What a finished procedure is judged by, and the exit status that follows.

Only what the protocol promises decides: every tip within tolerance before the first seed, every seed
accounted for, the target's dose. Organ doses are shown beside their limits, for a person to weigh.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from controller.result import ProcedureResult
from imaging.deviation import TOLERANCE_MM

FOUND_SHARE = 0.98
"""Of the delivered seeds that the last CT must show (the project's own goal)."""
CONTROL_D90_GY = 90.0
"""Jiang et al. 2021: a post-plan D90 of 90 Gy or less controls far worse than more."""


class ExitStatus(IntEnum):
    """What ``seedguide rehearse`` ends with; README.md lists the same."""

    COMPLETED = 0
    INTERNAL_FAULT = 1
    BAD_INPUT = 2
    HELD = 3
    GOAL_MISSED = 4
    INTERRUPTED = 130


@dataclass(frozen=True)
class Goal:
    """One goal in words, what was reached in words, and whether that is enough."""

    name: str
    wanted: str
    reached: str
    met: bool


def judge(result: ProcedureResult) -> tuple[Goal, ...]:
    """The goals of a procedure in the order of the procedure; those it never came to are not met."""
    needles = result.final.needles
    within = sum(n.deviation is not None and n.deviation.total_mm <= TOLERANCE_MM for n in needles)
    planned = len(result.plan.seeds)
    found = sum(seed.found_mm is not None for seed in result.seeds)
    rx = result.plan.prescription_gy
    goals = [
        Goal(
            "CTV D90, planned",
            f"≥ {rx:.0f} Gy",
            f"{result.planned.statistics['CTV'].d90_gy:.1f} Gy",
            result.planned.statistics["CTV"].d90_gy >= rx,
        ),
        Goal(
            "Needle tips within tolerance before the first seed",
            f"{len(needles)} of {len(needles)} within {TOLERANCE_MM:.0f} mm",
            f"{within} of {len(needles)}",
            within == len(needles),
        ),
        Goal(
            "Seeds delivered (journal)",
            f"{planned} of {planned}",
            f"{result.seeds_in_journal} of {planned}",
            result.seeds_in_journal == planned,
        ),
        Goal(
            "Seeds found in the last CT",
            f"≥ {100 * FOUND_SHARE:.0f} %",
            f"{found} of {planned}",
            planned > 0 and found >= FOUND_SHARE * planned,
        ),
        Goal(
            "Seeds in the last CT that nobody planned",
            "0",
            str(len(result.unplanned_seeds_mm)) if result.delivered is not None else "no last CT",
            result.delivered is not None and not result.unplanned_seeds_mm,
        ),
    ]
    delivered = result.delivered.statistics if result.delivered is not None else None
    for name, limit, sign in (("GTV", rx, "≥"), ("CTV", min(CONTROL_D90_GY, rx), ">")):
        d90 = delivered[name].d90_gy if delivered is not None else None
        goals.append(
            Goal(
                f"{name} D90, delivered",
                f"{sign} {limit:.0f} Gy",
                "not reached" if d90 is None else f"{d90:.1f} Gy",
                d90 is not None and (d90 > limit or (sign == "≥" and d90 == limit)),
            )
        )
    return tuple(goals)


def exit_status(result: ProcedureResult, goals: tuple[Goal, ...]) -> ExitStatus:
    """Held before anything else; then any goal that was missed."""
    if result.status == "held":
        return ExitStatus.HELD
    return ExitStatus.COMPLETED if all(goal.met for goal in goals) else ExitStatus.GOAL_MISSED
