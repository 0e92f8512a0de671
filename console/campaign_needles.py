"""A campaign's needles one by one: which of a plan's needles are the hard ones."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from planning.confidence import Interval, mean_interval, share_interval
from planning.frame import Floats


@dataclass(frozen=True)
class NeedleSummary:
    """One needle over all runs.

    Attributes:
        is_reference: it was corrected before the first CT of all needles.
        first_tip_mm: mean true deviation of the tip at that CT; None when no run got there.
        beyond: share of the runs in which that was beyond the tolerance; None likewise.
        corrections: mean number.
        held: runs that were held because of it.
    """

    name: str
    is_reference: bool
    first_tip_mm: Interval | None
    beyond: Interval | None
    corrections: Interval
    held: int


def one_by_one(
    needles: dict[str, list[Any]], runs: dict[str, list[Any]], tolerance_mm: float
) -> tuple[NeedleSummary, ...]:
    """From the columns of ``needles.parquet`` and ``runs.parquet``, in the order in which the needles come."""
    names = np.array(needles["needle"])
    held = Counter(word for reason in runs["reason"] for word in set(re.findall(r"\w+", reason)))
    tips, corrections = _numbers(needles["first_tip_mm"]), _numbers(needles["corrections"])
    found = []
    for name in dict.fromkeys(needles["needle"]):
        own = names == name
        seen = tips[own & np.isfinite(tips)]
        found.append(
            NeedleSummary(
                name,
                bool(needles["is_reference"][int(np.argmax(own))]),
                mean_interval(seen) if len(seen) else None,
                share_interval(int((seen > tolerance_mm).sum()), len(seen)) if len(seen) else None,
                mean_interval(corrections[own]),
                held[name],
            )
        )
    return tuple(found)


def _numbers(values: list[Any]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
