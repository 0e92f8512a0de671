"""Which needles, and which seeds in them: a deterministic local search over whole needles.

The price of a plan is a sum over sampled dose points (deficit and excess, each relative to the prescription or
the organ's limit) plus a price per needle and per seed; the weights are the site protocol's. Every part is convex
in dose, and dose adds up, so that ``planning.bound`` can tell how far a plan is from the best possible.

The search takes one needle at a time, forgets its seeds, and finds the best loading for it (also: none) with all
others fixed; when none improves any more it empties one or two needles for a while, lets the neighbours answer, and
keeps what is better, or a little worse (``planning.loading``). Around it the prices of what is missed (the target's
D90, an organ's limit) are raised. Numbers of rounds are fixed and chance comes from a seeded generator, so the same
input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planning import loading
from planning.frame import Floats

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

NEIGHBOURS = 13  # needles that answer when one is emptied, itself included: two rings of a square lattice
DOSE_CAP = np.float32(4.0)  # assumed: most that one seed counts at a point, times the prescription
THRESHOLD = 0.004  # of the best price: scale of the loss that a disturbance may bring at first
TOLERANCE = (
    1.005  # an organ's figure counts as met up to this multiple of its limit: prices act from the limit on
)
SHORT = 15  # part of the search's disturbances that each round of finding the prices gets
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
        kicks: number of disturbances tried; a fifteenth (``SHORT``) in each of the rounds that find the prices.
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
    visit: Visitor | None = None,
    stop: Stop = never,
) -> tuple[Ints, float]:
    """The chosen places (ascending indices) and their price, for fixed prices.

    A disturbance that makes the plan a little dearer is accepted now and then, less and less as the search goes on
    (threshold falling to nothing); the cheapest plan of all is returned.

    Args:
        levels: as in ``DosePoints``.
        start: places to begin with; None for an empty implant.
        visit: told every plan that the search accepts: its places, dose and price.
        stop: asked before each disturbance; True ends the search.
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
    best = current = float(loading.whole_price(dose, zero, first, chosen, levels, prices))
    kept, held, held_dose = chosen.copy(), chosen.copy(), dose.copy()
    if visit:
        visit(np.flatnonzero(held), held_dose, best)
    for kick in range(search.kicks):
        used = np.unique(places.needle_of[held])
        if not len(used) or stop():
            break
        # One needle, every other time also one near it, stays empty while the neighbours answer.
        area = nearest[used[rng.integers(len(used))]]
        near = area[np.isin(area, used)]
        emptied = [near[0]]
        if kick % 2 and len(near) > 1:
            emptied.append(near[1 + rng.integers(min(3, len(near) - 1))])
        for n in emptied:
            loading.empty(n, dose, places.dose, first, chosen)
            shut[n] = True
        area = rng.permutation(area)
        loading.descend(area, shut, dose, *rest)
        shut[:] = False
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


def reach_goal(
    places: Places,
    points: DosePoints,
    search: Search,
    rng: np.random.Generator,
    *,
    goal: float,
    least: float | None = None,
    rounds: int = 6,
    stop: Stop = never,
) -> Loading:
    """A loading whose target D90 (relative to the prescription, on the sampled points) reaches ``goal``.

    The price of what is missed is raised in short searches: the target's deficit while its D90 is below ``least``
    (or below ``goal`` with every organ within its limit), an organ's excess while its limit is missed. A long search
    at the prices so found follows. The target comes first.

    Args:
        goal: wanted D90; least: what it may fall to where an organ's limit would else be missed (``goal`` if None).
        stop: ends the long search early; see ``choose_places``.

    Returns:
        of all loadings that the long search accepted (and those before): the one that keeps ``least`` (or comes
        nearest to it), then exceeds the organs' limits least, then is the cheapest at the last prices.
    """
    least = goal if least is None else least
    levels, short = points.levels.copy(), replace(search, kicks=max(1, search.kicks // SHORT))
    chosen = np.zeros(0, dtype=np.int64)
    candidates: list[tuple[Ints, Singles, float]] = []
    for _ in range(rounds):
        chosen, _price = choose_places(places, levels, short, rng, chosen, stop=stop)
        dose = places.dose[chosen].sum(axis=0, dtype=np.float32)
        candidates.append((chosen, dose, 0.0))
        d90 = dose_covering(dose[: points.targets])
        missed = [group for group in points.groups if group.metric(dose) > TOLERANCE * group.limit]
        wanted = least if missed else goal
        if d90 >= wanted and not missed:
            break
        if d90 < wanted:
            levels[1] *= np.float32(np.clip((wanted / max(d90, 0.1)) ** 6, 1.05, 2.0))
        for group in missed:
            levels[3, group.start : group.stop] *= np.float32(2.0)

    best: tuple[tuple[float, float, float], Ints] | None = None

    def judge(some: Ints, dose: Singles, price: float) -> None:
        nonlocal best
        over = [
            group.metric(dose) / (TOLERANCE * group.limit) - 1.0
            for group in points.groups
            if group.limit > 0.0
        ]
        excess = sum(max(0.0, part) for part in over)
        key = (max(0.0, least - dose_covering(dose[: points.targets])), round(excess, 3), price)
        if best is None or key < best[0]:
            best = (key, some)

    choose_places(places, levels, search, rng, chosen, visit=judge, stop=stop)
    for some, dose, _none in candidates:
        judge(some, dose, price_of_places(places, levels, search, some))
    assert best is not None
    return Loading(best[1], price_of_places(places, levels, search, best[1]), levels, places, points, search)


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
