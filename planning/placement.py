"""Which needles, and which seeds in them: a deterministic local search over whole needles.

The price of a plan is a sum over sampled dose points (deficit and excess, each relative to the prescription or
the organ's limit) plus a price per needle and per seed; the weights are the site protocol's. Every part is convex
in dose, and dose adds up, so that ``planning.bound`` can tell how far a plan is from the best possible.

The search takes one needle at a time, forgets its seeds, and finds the best loading for it (also: none) with all
others fixed; when none improves any more it empties one or two needles for a while, or brings in one that is not in
use in place of those that stand in its way, lets the neighbours answer, and keeps what is better, or a little worse
(``planning.loading``). ``planning.goal_search`` sets the prices around it. Numbers of rounds are fixed and chance comes
from a seeded generator, so the same input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planning import loading
from planning.frame import Floats

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

NEIGHBOURS = 13  # needles that answer when one is emptied, itself included: two rings of a square lattice
DOSE_CAP = np.float32(4.0)  # assumed: most that one seed counts at a point, times the prescription
THRESHOLD = 0.008  # of the best price: scale of the loss that a disturbance may bring at first
NEWCOMER = 3  # every third disturbance brings in a needle that is not in use
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
        points_mm: ``(n, 3)``, the target's own first, those that are averaged last.
        targets: number of the target's points.
        levels: ``float32 (6, columns)``: dose below which a deficit is priced and its price per unit; dose above
            which an excess is priced and its price; a second, higher such level and its price.
        groups: the organs with limits; indices of columns.
        averaged: ``(start, stop)`` of points whose mean dose is one column, for a limit on an organ's mean.
    """

    points_mm: Floats
    targets: int
    levels: Singles
    groups: tuple[PointGroup, ...] = ()
    averaged: tuple[tuple[int, int], ...] = ()

    def columns(self, dose: Singles) -> Singles:
        """``(n_places, n_points)`` -> ``(n_places, columns)``: averaged points put together, each seed capped.

        A seed counts with at most ``DOSE_CAP`` at a point: nearer than that the dose says where the point fell.
        """
        single = len(self.points_mm) - sum(stop - start for start, stop in self.averaged)
        means = [dose[:, start:stop].mean(axis=1, keepdims=True) for start, stop in self.averaged]
        return np.ascontiguousarray(np.minimum(np.hstack([dose[:, :single], *means]), DOSE_CAP))


@dataclass(frozen=True, eq=False)
class Places:
    """Possible seeds, sorted by needle.

    Attributes:
        dose: ``(n_places, n_points)`` float32, of one seed each, relative to the prescription.
        needle_of: ``(n_places,)`` ascending from 0.
        slot: ``(n_places,)`` depth along the needle in whole steps; seeds of a needle differ by multiples of
            ``slots_apart``.
        apart_mm: ``(n_needles, n_needles)`` distance between the needles' axes.
        first_choice: ``bool (n_needles,)``: those that an empty implant begins with; None for all.
        check: ``(n_places, n)`` as ``dose``, at further points of the target: its D90 is judged on these, for a search
            finds loadings that are good at the very points that it is priced on; None: on those.
    """

    dose: Singles
    needle_of: Ints
    slot: Ints
    slots_apart: int
    apart_mm: Floats
    first_choice: NDArray[np.bool_] | None = None
    check: Singles | None = None

    def clash(self, least_distance_mm: float) -> NDArray[np.bool_]:
        """``(n_needles, n_needles)``: pairs that are too near to each other to be used together."""
        return (self.apart_mm < least_distance_mm - 1e-6) & ~np.eye(len(self.apart_mm), dtype=bool)


@dataclass(frozen=True)
class Search:
    """Prices and effort of the search.

    Attributes:
        needle_price, seed_price: of each one used.
        least_distance_mm: between two needles in use.
        most_needles, most_seeds: never exceeded.
        kicks: number of disturbances tried; ``planning.goal_search`` gives its shorter searches parts of it.
    """

    needle_price: float
    seed_price: float
    least_distance_mm: float
    most_needles: int
    most_seeds: int
    kicks: int = 1500


@dataclass(frozen=True, eq=False)
class Loading:
    """The chosen seeds and the problem they are an answer to, for whoever wants to know how good an answer.

    Attributes:
        chosen: ascending indices into ``places``.
        price: of ``chosen`` at the prices ``levels``, needles and seeds included.
        levels: the prices of dose that the search ended with (rows as in ``DosePoints``).
    """

    chosen: Ints
    price: float
    levels: Singles
    places: Places
    points: DosePoints
    search: Search


Visitor = Callable[[Ints, Singles, float], None]
Stop = Callable[[], bool]


def never() -> bool:
    """The ``stop`` of a search that only its fixed counts end."""
    return False


def choose_places(
    places: Places,
    levels: Singles,
    search: Search,
    rng: np.random.Generator,
    start: Ints | None = None,
    *,
    of_first_choice: bool = False,
    visit: Visitor | None = None,
    stop: Stop = never,
) -> tuple[Ints, float]:
    """The chosen places (ascending indices) and their price, for fixed prices.

    A disturbance that makes the plan a little dearer is accepted now and then, less and less as the search goes on
    (threshold falling to nothing); the cheapest plan of all is returned.

    Args:
        levels: as in ``DosePoints``.
        start: places to begin with; None for an empty implant.
        of_first_choice: leave out the needles that are not ``places.first_choice``.
        visit: told every plan that the search accepts: its places, dose and price.
        stop: asked before each disturbance; True ends the search.
    """
    needles, points = len(places.apart_mm), places.dose.shape[1]
    first = np.searchsorted(places.needle_of, np.arange(needles + 1)).astype(np.int64)
    closed = np.zeros(needles, dtype=np.bool_)
    if of_first_choice and places.first_choice is not None:
        closed = ~places.first_choice
    near_to = np.where(closed, np.inf, places.apart_mm)
    np.fill_diagonal(near_to, -1.0)  # itself first, also among needles that cross
    nearest = np.argsort(near_to, axis=1, kind="stable")[:, :NEIGHBOURS].astype(np.int64)
    clash = places.clash(search.least_distance_mm)
    chosen = np.zeros(len(places.needle_of), dtype=np.bool_)
    chosen[[] if start is None else start] = True
    dose, zero = places.dose[chosen].sum(axis=0, dtype=np.float32), np.zeros(points, dtype=np.float32)
    shut = closed.copy()
    levels = np.ascontiguousarray(levels, dtype=np.float32)
    prices = np.array([search.needle_price, search.seed_price], dtype=np.float32)
    rest = (
        places.dose,
        first,
        places.slot,
        places.slots_apart,
        clash,
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
    best = current = float(loading.whole_price(dose, zero, first, chosen, levels, prices))
    kept, held, held_dose = chosen.copy(), chosen.copy(), dose.copy()
    if visit:
        visit(np.flatnonzero(held), held_dose, best)
    for kick in range(search.kicks):
        used = np.unique(places.needle_of[held])
        if not len(used) or stop():
            break
        area = nearest[used[rng.integers(len(used))]]
        idle = area[~np.isin(area, used) & ~closed[area]]
        newcomer = [idle[rng.integers(len(idle))]] if kick % NEWCOMER == NEWCOMER - 1 and len(idle) else []
        if newcomer:
            # One that is not in use, in place of all that stand in its way (or of the one it lies near).
            emptied = [n for n in used if clash[newcomer[0], n]] or [area[0]]
            area = np.unique(np.concatenate((nearest[newcomer[0]], emptied)))
        else:
            # One needle, every other time also one near it, stays empty while the neighbours answer.
            near = area[np.isin(area, used)]
            emptied = [near[0]]
            if kick % 2 and len(near) > 1:
                emptied.append(near[1 + rng.integers(min(3, len(near) - 1))])
        for n in emptied:
            loading.empty(n, dose, places.dose, first, chosen)
            shut[n] = True
        area = np.concatenate((newcomer, rng.permutation(area))).astype(np.int64)
        loading.descend(area, shut, dose, *rest)
        shut[:] = closed
        for _ in range(2):
            if not loading.descend(area, shut, dose, *rest):
                break
        price = float(loading.whole_price(dose, zero, first, chosen, levels, prices))
        allowed = THRESHOLD * best * (1.0 - kick / search.kicks) * rng.exponential()
        if price < current + allowed and not np.array_equal(chosen, held):
            current, held = price, chosen.copy()
            # Summed afresh, so that rounding does not pile up.
            held_dose = places.dose[held].sum(axis=0, dtype=np.float32)
            if visit:
                visit(np.flatnonzero(held), held_dose, price)
            if price < best - 1e-6:
                best, kept = price, held.copy()
        chosen[:], dose[:] = held, held_dose
    return np.flatnonzero(kept), best


def price_of_places(places: Places, levels: Singles, search: Search, chosen: Ints) -> float:
    """Price of a loading, in double precision."""
    dose = places.dose[chosen].sum(axis=0, dtype=float)
    low, under, high, over, hot, over_hot = np.asarray(levels, dtype=float)
    total = under @ np.maximum(low - dose, 0.0) + over @ np.maximum(dose - high, 0.0)
    total += over_hot @ np.maximum(dose - hot, 0.0)
    needles = len(np.unique(places.needle_of[chosen]))
    return float(total + search.needle_price * needles + search.seed_price * len(chosen))


def dose_covering(dose: Singles, part: float = 0.9) -> float:
    """The least dose of the hottest ``part`` of equally weighted points (D90 for 0.9)."""
    ordered = np.sort(dose)[::-1]
    return float(ordered[max(0, int(np.ceil(part * len(ordered))) - 1)])
