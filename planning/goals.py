"""The site protocol's goals and limits, held against a plan's (or a finished implant's) figures."""

from __future__ import annotations

from dataclasses import dataclass

from planning.dvh import StructureStatistics
from planning.site_protocol import DoseLimit, SiteProtocol, matches

_LABELS = {"d2cc": "D2cc", "d1cc": "D1cc", "d01cc": "D0.1cc", "mean": "Dmean"}


@dataclass(frozen=True)
class Goal:
    """One goal: ``wanted`` reads like "CTV D90 >= 120 Gy"; ``source`` says where the bound comes from."""

    name: str
    wanted: str
    value: float
    unit: str
    met: bool
    source: str


def judge_goals(
    protocol: SiteProtocol, statistics: dict[str, StructureStatistics], prescription_gy: float
) -> tuple[Goal, ...]:
    """The protocol's goals (target) and limits (organs), in its order; structures without figures left out."""
    return tuple(
        _goal(name, limit, float(value), prescription_gy)
        for limit in (*protocol.goals, *protocol.limits)
        for name, figures in statistics.items()
        if matches(name, limit.names) and (value := getattr(figures, limit.metric, None)) is not None
    )


def label_of(metric: str) -> tuple[str, str]:
    """How a metric and its unit read: ``d2cc_gy`` -> ("D2cc", "Gy")."""
    stem, _, suffix = metric.rpartition("_")
    return _LABELS.get(stem, stem.upper()), {"gy": "Gy", "pct": "%"}.get(suffix, suffix)


def _goal(name: str, limit: DoseLimit, value: float, prescription_gy: float) -> Goal:
    bound = limit.limit(prescription_gy)
    label, unit = label_of(limit.metric)
    at_least = limit.bound == "at_least"
    wanted = f"{name} {label} {'>=' if at_least else '<='} {bound:g} {unit}"
    return Goal(name, wanted, value, unit, value >= bound if at_least else value <= bound, limit.source)
