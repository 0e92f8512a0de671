"""A campaign's figures, summed up: what the table on the screen and the page both show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from console.campaign_needles import NeedleSummary, one_by_one
from planning.confidence import Interval, mean_interval, percentile_interval, share_interval
from planning.frame import Floats
from planning.goals import label_of

Columns = dict[str, list[Any]]
PERCENTILES = (5.0, 50.0, 95.0)


@dataclass(frozen=True)
class Spread:
    """One figure over the runs, or the needles, that have it.

    Attributes:
        name, unit: e.g. "CTV D90", "Gy".
        planned: of the plan; None where nothing is planned.
        values: ``(n,)``.
        wanted: the goal in words, e.g. ">= 120 Gy"; empty when there is none.
        kept: share (0..1) of the runs that meet it.
    """

    name: str
    unit: str
    planned: float | None
    values: Floats
    wanted: str = ""
    kept: Interval | None = None

    @property
    def mean(self) -> Interval:
        return mean_interval(self.values)

    @property
    def sigma(self) -> float:
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def percentiles(self) -> tuple[Interval, ...]:
        """5th, 50th and 95th."""
        return tuple(percentile_interval(self.values, percent) for percent in PERCENTILES)


@dataclass(frozen=True)
class Summary:
    """One campaign.

    Attributes:
        runs, completed: how many; of the dose alone every run is completed.
        endings: why runs were held (needle and figures left out), and how often; most frequent first.
        dose: figures of the completed runs.
        course: CTs, corrections, time of the completed runs; empty for the dose alone.
        first, final: true deviations of the needles of all runs: at the first CT of all needles (the reference needles
            left out, which were corrected before it), and of all before the first seed.
        beyond: share of these needles whose true tip was beyond the tolerance, first and final.
        needles: one by one, in the plan's order; empty for the dose alone.
    """

    asked: dict[str, Any]
    runs: int
    completed: int
    endings: tuple[tuple[str, int], ...]
    dose: tuple[Spread, ...]
    course: tuple[Spread, ...]
    first: tuple[Spread, ...]
    final: tuple[Spread, ...]
    beyond: tuple[Interval, ...]
    needles: tuple[NeedleSummary, ...] = ()

    @property
    def completed_share(self) -> Interval:
        return share_interval(self.completed, self.runs)

    @property
    def is_procedure(self) -> bool:
        return bool(self.asked["kind"] == "procedure")

    @property
    def tolerance_mm(self) -> float:
        return float(self.asked["variation"]["rules"]["tolerance_mm"])


def summarise(asked: dict[str, Any], runs: Columns, needles: Columns | None) -> Summary:
    """``asked``: campaign.json; ``needles``: None for the dose alone."""
    count = len(runs["run"])
    is_done = [True] * count if needles is None else [it == "completed" for it in runs["outcome"]]
    course: tuple[Spread, ...] = ()
    first: tuple[Spread, ...] = ()
    final: tuple[Spread, ...] = ()
    beyond: tuple[Interval, ...] = ()
    endings: Counter[str] = Counter()
    if needles is not None:
        endings.update(ending(runs["reason"][n]) for n in range(count) if not is_done[n])
        done_runs = {run for run, done in zip(runs["run"], is_done, strict=True) if done}
        each = _numbers(needles["corrections"], [run in done_runs for run in needles["run"]])
        fresh = [not it for it in needles["is_reference"]] if not all(needles["is_reference"]) else None
        first, final = _deviations(needles, "first", fresh), _deviations(needles, "final")
        tolerance = float(asked["variation"]["rules"]["tolerance_mm"])
        tips = [spread.values for group in (first, final) for spread in group[:1]]
        beyond = tuple(share_interval(int((tip > tolerance).sum()), len(tip)) for tip in tips)
        course = (
            Spread("CTs", "", None, _numbers(runs["scans"], is_done)),
            Spread("corrections, all needles", "", None, _numbers(runs["corrections"], is_done)),
            Spread("corrections of a needle", "", None, each),
            Spread("time", "min", None, _numbers(runs["time_s"], is_done) / 60.0),
        )
    return Summary(
        asked,
        count,
        sum(is_done),
        tuple(endings.most_common()),
        tuple(_dose(asked, runs, name, is_done) for name in asked["as_planned"]) if any(is_done) else (),
        course if any(is_done) else (),
        first,
        final,
        beyond,
        ()
        if needles is None
        else one_by_one(needles, runs, float(asked["variation"]["rules"]["tolerance_mm"])),
    )


def ending(reason: str) -> str:
    """Why a run was held without needle names and figures, so that the like are counted together."""
    return _FIGURES.sub("", reason.split(":")[0].split(";")[0]).strip() or "no reason"


_FIGURES = re.compile(r"\s*\([^()]*\d[^()]*\)")


def _numbers(values: Sequence[Any], kept: Sequence[bool] | None = None) -> Floats:
    chosen = values if kept is None else [v for v, keep in zip(values, kept, strict=True) if keep]
    return np.array([v for v in chosen if v is not None], dtype=float)


def _dose(asked: dict[str, Any], runs: Columns, name: str, is_done: Sequence[bool]) -> Spread:
    structure, _, metric = name.partition(".")
    label, unit = label_of(metric)
    values = _numbers(runs[name], is_done)
    wanted, kept = "", None
    if name in asked["goals"]:
        bound, limit, _source = asked["goals"][name]
        at_least = bound == "at_least"
        wanted = f"{'≥' if at_least else '≤'} {limit:g} {unit}"
        good = values >= limit if at_least else values <= limit
        kept = share_interval(int(good.sum()), len(values))
    return Spread(f"{structure} {label}", unit, asked["as_planned"][name], values, wanted, kept)


def _deviations(needles: Columns, when: str, chosen: Sequence[bool] | None = None) -> tuple[Spread, ...]:
    """Sizes of the deviations; depth without its sign."""
    rows = (
        ("tip, 3-D", "mm", "tip_mm"),
        ("tip, lateral", "mm", "lateral_mm"),
        ("depth, size", "mm", "depth_mm"),
        ("entry", "mm", "entry_mm"),
        ("angle", "°", "angle_deg"),
    )
    spreads = (
        Spread(name, unit, None, np.abs(_numbers(needles[f"{when}_{column}"], chosen)))
        for name, unit, column in rows
    )
    return tuple(spread for spread in spreads if len(spread.values))
