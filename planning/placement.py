"""Which needles, and which seeds in them: a deterministic local search over whole needles.

The price of a plan is a sum over sampled dose points (deficit and excess, each relative to the prescription or
the organ's limit) plus a price per needle and per seed; the weights are the site protocol's. The search takes
one needle at a time, forgets its seeds, and finds the best loading for it (also: none) with all others fixed;
when none improves any more it empties one or two needles for a while, lets the neighbours answer, and keeps
what is better (iterated local search, ``planning.loading``). Around it the prices of what is missed (the
target's D90, an organ's limit) are raised. Numbers of rounds are fixed and chance comes from a seeded
generator, so the same input gives the same plan. How far it is from the best possible is not proven here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planning import loading
from planning.frame import Floats

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

NEIGHBOURS = 13  # needles that answer when one is emptied, itself included: two rings of a square lattice
DESCENTS = 12  # passes over all needles before the first disturbance, at most


@dataclass(frozen=True)
class PointGroup:
    """The points of one organ with a limit.

    Attributes:
        start, stop: their indices among all points.
        hottest: part of the points whose least dose is limited (D2cc), or None when the mean is.
        limit: relative to the prescription.
    """

    start: int
    stop: int
    hottest: float | None
    limit: float

    def metric(self, dose: Singles) -> float:
        own = dose[self.start : self.stop]
        return float(own.mean()) if self.hottest is None else dose_covering(own, self.hottest)


@dataclass(frozen=True, eq=False)
class DosePoints:
    """Where the price of dose is taken; doses relative to the prescription.

    Attributes:
        points_mm: ``(n, 3)``, the target's own first.
        targets: number of the target's points.
        levels: ``float32 (6, n)``: dose below which a deficit is priced and its price per unit; dose above which
            an excess is priced and its price; a second, higher such level and its price.
        groups: the organs with limits.
    """

    points_mm: Floats
    targets: int
    levels: Singles
    groups: tuple[PointGroup, ...] = ()


@dataclass(frozen=True, eq=False)
class Places:
    """Possible seeds, sorted by needle.

    Attributes:
        dose: ``(n_places, n_points)`` float32, of one seed each, relative to the prescription.
        needle_of: ``(n_places,)`` ascending from 0.
        slot: ``(n_places,)`` depth along the needle in whole steps; seeds of a needle differ by multiples of
            ``slots_apart``.
        needle_xy_mm: ``(n_needles, 2)`` where the needles cross the template.
    """

    dose: Singles
    needle_of: Ints
    slot: Ints
    slots_apart: int
    needle_xy_mm: Floats


@dataclass(frozen=True)
class Search:
    """Prices and effort of the search.

    Attributes:
        needle_price, seed_price: of each one used.
        least_distance_mm: between two needles in use.
        most_needles, most_seeds: never exceeded.
        kicks: number of disturbances tried per round.
    """

    needle_price: float
    seed_price: float
    least_distance_mm: float
    most_needles: int
    most_seeds: int
    kicks: int = 200


def choose_places(
    places: Places, levels: Singles, search: Search, rng: np.random.Generator, start: Ints | None = None
) -> tuple[Ints, float]:
    """The chosen places (ascending indices) and their price, for fixed prices.

    Args:
        levels: as in ``DosePoints``.
        start: places to begin with; None for an empty implant.
    """
    needles, points = len(places.needle_xy_mm), places.dose.shape[1]
    first = np.searchsorted(places.needle_of, np.arange(needles + 1)).astype(np.int64)
    gap = np.linalg.norm(places.needle_xy_mm[:, None] - places.needle_xy_mm[None], axis=2)
    nearest = np.argsort(gap, axis=1, kind="stable")[:, :NEIGHBOURS].astype(np.int64)
    chosen = np.zeros(len(places.needle_of), dtype=np.bool_)
    chosen[[] if start is None else start] = True
    dose, zero = places.dose[chosen].sum(axis=0, dtype=np.float32), np.zeros(points, dtype=np.float32)
    shut = np.zeros(needles, dtype=np.bool_)
    levels = np.ascontiguousarray(levels, dtype=np.float32)
    prices = np.array([search.needle_price, search.seed_price], dtype=np.float32)
    rest = (
        places.dose,
        first,
        places.slot,
        places.slots_apart,
        (gap < search.least_distance_mm - 1e-6) & ~np.eye(needles, dtype=bool),
        levels,
        prices,
        np.array([search.most_needles, search.most_seeds], dtype=np.int64),
        chosen,
        np.zeros(points, dtype=np.float32),
        zero,
    )

    order = rng.permutation(needles)
    for _ in range(DESCENTS):
        if not loading.descend(order, shut, dose, *rest):
            break
    best = float(loading.whole_price(dose, zero, first, chosen, levels, prices))
    kept, kept_dose = chosen.copy(), dose.copy()
    for kick in range(search.kicks):
        used = np.unique(places.needle_of[kept])
        if not len(used):
            break
        area = nearest[used[rng.integers(len(used))]]
        # One needle, every other time also the nearest one in use, stays empty while the neighbours answer.
        for n in area[np.isin(area, used)][: 1 + kick % 2]:
            loading.empty(n, dose, places.dose, first, chosen)
            shut[n] = True
        loading.descend(area, shut, dose, *rest)
        shut[:] = False
        for _ in range(2):
            if not loading.descend(area, shut, dose, *rest):
                break
        price = float(loading.whole_price(dose, zero, first, chosen, levels, prices))
        if price < best - 1e-6:
            # Summed afresh, so that rounding does not pile up.
            best, kept = price, chosen.copy()
            kept_dose = places.dose[kept].sum(axis=0, dtype=np.float32)
        chosen[:], dose[:] = kept, kept_dose
    return np.flatnonzero(kept), best


def reach_goal(
    places: Places,
    points: DosePoints,
    search: Search,
    rng: np.random.Generator,
    *,
    goal: float,
    rounds: int = 6,
) -> Ints:
    """Places whose target D90 (relative to the prescription, on the sampled points) reaches ``goal``.

    The target comes first: while D90 stays below ``goal``, the price of a deficit is raised; while it stays
    above, that of an organ's excess where its limit is missed, else that of a deficit is lowered.

    Returns:
        of all rounds: the one that meets ``goal`` (or comes nearest to it), then exceeds the organs' limits
        least, then is the cheapest by the prices of the first round.
    """
    best: tuple[tuple[float, float, float], Ints] | None = None
    levels, chosen = points.levels.copy(), np.zeros(0, dtype=np.int64)
    zero = np.zeros(len(points.points_mm), dtype=np.float32)
    for _ in range(rounds):
        chosen, _price = choose_places(places, levels, search, rng, chosen)
        dose = places.dose[chosen].sum(axis=0, dtype=np.float32)
        d90 = dose_covering(dose[: points.targets])
        missed = [group for group in points.groups if group.metric(dose) > group.limit]
        needles = len(np.unique(places.needle_of[chosen]))
        price = float(loading.price_of(dose, zero, points.levels))
        price += search.needle_price * needles + search.seed_price * len(chosen)
        excess = sum(group.metric(dose) / group.limit - 1.0 for group in missed if group.limit > 0.0)
        key = (max(0.0, goal - d90), round(excess, 2), price)
        if best is None or key < best[0]:
            best = (key, chosen)
        if d90 < goal or not missed:
            change = (goal / max(d90, 0.1)) ** 8
            levels[1] *= np.float32(np.clip(change, 1.1, 3.0) if d90 < goal else np.clip(change, 0.5, 1.0))
            continue
        for group in missed:
            levels[3, group.start : group.stop] *= np.float32(1.5)
    assert best is not None
    return best[1]


def dose_covering(dose: Singles, part: float = 0.9) -> float:
    """The least dose of the hottest ``part`` of equally weighted points (D90 for 0.9)."""
    ordered = np.sort(dose)[::-1]
    return float(ordered[max(0, int(np.ceil(part * len(ordered))) - 1)])
