"""Which found needle is which planned one: decided for all of them at once, with their common shift.

At 5 mm pitch a needle can end nearer to its neighbour's planned tip than to its own, so nearest-first is wrong.
Where a needle enters says more than where it ends, because it deviates least there. A set-up error that moves all
needles together is tried as a whole before single deviations are believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from planning.frame import Floats


@dataclass(frozen=True)
class Spread:
    """How far needles stray from where they are expected, 1 sigma, mm.

    ``common`` is the shift that all share; ``entry``, ``tip`` and ``depth`` are each needle's own (assumed, wide
    enough for the populations of CLINIC.md). A pair worse than ``gate`` (chi-square, 4 terms) is no pair.
    """

    common: float = 3.5
    entry: float = 1.6
    tip: float = 3.0
    depth: float = 4.0
    gate: float = 45.0


def assign(
    expected_entry_mm: Floats,
    expected_tip_mm: Floats,
    found_entry_mm: Floats,
    found_tip_mm: Floats,
    direction: Floats,
    spread: Spread | None = None,
) -> list[int | None]:
    """For each found needle the index of the expected one, or None.

    Args:
        expected_entry_mm, expected_tip_mm: ``(n, 3)``; the entry is any agreed point on the axis near the skin.
        found_entry_mm, found_tip_mm: ``(m, 3)``, the entry at the same depth as the expected ones'.
        direction: common direction of the needles, unit vector.
        spread: see :class:`Spread`.
    """
    spread = spread or Spread()
    planned, found = len(expected_tip_mm), len(found_tip_mm)
    if not planned or not found:
        return [None] * found
    flat = np.eye(3) - np.outer(direction, direction)
    entry = (found_entry_mm[:, None] - expected_entry_mm[None]) @ flat
    tip = (found_tip_mm[:, None] - expected_tip_mm[None]) @ flat
    depth = (found_tip_mm[:, None] - expected_tip_mm[None]) @ direction

    def solve(shift: Floats) -> tuple[float, Floats]:
        cost = np.sum((entry - shift) ** 2, axis=2) / spread.entry**2
        cost = cost + np.sum((tip - shift) ** 2, axis=2) / spread.tip**2 + (depth / spread.depth) ** 2
        padded = np.full((found + planned, planned + found), 0.5 * spread.gate)
        padded[:found, :planned] = cost
        padded[found:, planned:] = 0.0
        rows, columns = linear_sum_assignment(padded)
        total = float(padded[rows, columns].sum()) + float(shift @ shift) / spread.common**2
        partner = np.full(found, -1)
        for r, c in zip(rows, columns, strict=True):
            if r < found and c < planned:
                partner[r] = c
        return total, partner

    shifts = [np.zeros(3)]
    for difference in entry.reshape(-1, 3):
        if np.linalg.norm(difference) < 3.0 * spread.common and all(
            np.linalg.norm(difference - other) > 1.0 for other in shifts
        ):
            shifts.append(difference)
    best_total, best = np.inf, np.full(found, -1)
    for shift in shifts:
        total, partner = solve(shift)
        paired = partner >= 0
        if paired.any():  # again about the mean of the pairs it proposes
            mean = entry[np.flatnonzero(paired), partner[paired]].mean(axis=0)
            mean = mean * (paired.sum() / (paired.sum() + spread.entry**2 / spread.common**2))
            again, refined = solve(mean)
            if again < total:
                total, partner = again, refined
        if total < best_total:
            best_total, best = total, partner
    return [int(p) if p >= 0 else None for p in best]
