"""Pass marks: what a scenario asks for, and whether a run reached it.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.goals import Goal

_AT_MOST = {
    "missed_at_most": ("Needles accepted beyond tolerance", "missed"),
    "delivered_beyond_at_most": ("Needles beyond tolerance when seeds left them", "delivered_beyond"),
    "unneeded_corrections_at_most": ("Corrections that were not needed", "unneeded_corrections"),
    "cts_at_most": ("CTs", "cts"),
    "punctures_at_most": ("Punctures of the skin", "punctures"),
    "corrections_at_most": ("Corrections", "corrections"),
    "minutes_at_most": ("Minutes", "minutes"),
    "seeds_unaccounted_at_most": ("Seeds unaccounted for", "seeds_unaccounted"),
}
_AT_LEAST = {
    "gtv_d90_gy_at_least": ("GTV D90, true, Gy", "gtv_d90_gy"),
    "ctv_d90_gy_at_least": ("CTV D90, true, Gy", "ctv_d90_gy"),
}


def marks_of(figures: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[Goal, ...]:
    """Every mark that is asked for.

    Args:
        figures: of a run (``Score.figures``).
        asked: the scenario's table ``pass``, None for what it leaves out.
    """
    ends = [str(end) for end in asked.get("ends", ())]
    reached = str(figures["ends"])
    marks = [Goal("The run ends", " or ".join(ends), reached, reached in ends)] if ends else []
    for key, (words, figure) in _AT_MOST.items():
        limit = asked.get(key)
        if limit is not None:
            value = figures[figure]
            marks.append(Goal(words, f"≤ {limit:g}", f"{value:g}", value <= limit))
    within_s = asked.get("alarms_answered_within_s")
    if within_s is not None:
        unanswered, slowest_s = figures["alarms_unanswered"], figures["slowest_alarm_s"] or 0.0
        reached = "no alarm" if not figures["alarms"] else f"{slowest_s:.0f} s"
        reached = "one nobody answered" if unanswered else reached
        is_met = not unanswered and slowest_s <= within_s
        marks.append(Goal("Every alarm answered", f"within {within_s:g} s", reached, is_met))
    for key, (words, figure) in _AT_LEAST.items():
        limit = asked.get(key)
        if limit is not None:
            value = figures[figure]
            reached = "no seed in the patient" if value is None else f"{value:.1f}"
            marks.append(Goal(words, f"≥ {limit:g}", reached, value is not None and value >= limit))
    return tuple(marks)
