"""The prices under which a loading reaches the target's dose and keeps the organs' limits, and the search at them.

The price of what is missed is raised in short searches. Where a search ends depends on where it began, so several
short ones begin empty and a long one goes on from the best; between its legs the prices are corrected once more.
Needles that cross block each other: parallel ones are loaded first, oblique ones exchanged in. The target comes first,
then the organs' limits, then the price.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planning.placement import (
    DosePoints,
    Ints,
    Loading,
    Places,
    PointGroup,
    Search,
    Singles,
    Stop,
    Visitor,
    choose_places,
    dose_covering,
    never,
    price_of_places,
)

TOLERANCE = 1.005  # a limit counts as met up to this multiple of it: prices act from the limit on
ROUNDS = 12  # of finding the prices, at most
SHORT = 15  # part of the search's disturbances that each of these gets
STARTS, START = 5, 8  # searches from an empty implant, and the part of the disturbances that each gets
LEGS = 3  # of the long search
# Where the target's dose and an organ's limit can't both be had, raising prices finds no end: at most these multiples.
MOST_FOR_TARGET, MOST_FOR_ORGAN = np.float32(32.0), np.float32(16.0)


def reach_goal(
    places: Places,
    points: DosePoints,
    search: Search,
    rng: np.random.Generator,
    *,
    goal: float,
    least: float | None = None,
    stop: Stop = never,
) -> Loading:
    """A loading whose target D90 (relative to the prescription) reaches ``goal``.

    Args:
        goal: wanted D90; least: what it may fall to where an organ's limit would else be missed (``goal`` if None).
        stop: ends the search early; see ``choose_places``.

    Returns:
        of all loadings that the searches accepted: the one that keeps ``least`` (or comes nearest to it), then exceeds
        the organs' limits least, then is the cheapest at the last prices.
    """
    judge = Judge(places, points, goal, goal if least is None else least)
    short = replace(search, kicks=max(1, search.kicks // SHORT))
    chosen = np.zeros(0, dtype=np.int64)
    for n in range(ROUNDS):
        chosen, _price = choose_places(
            places, judge.levels, short, rng, chosen, of_first_choice=n == 0, stop=stop
        )
        judge.visit(chosen, places.dose[chosen].sum(axis=0, dtype=np.float32), 0.0)
        if not judge.raise_prices(chosen, 2.0):
            break

    begun = [(price_of_places(places, judge.levels, search, chosen), chosen)]
    begun += several_starts(places, judge.levels, search, rng, visit=judge.visit, stop=stop)
    _price, chosen = min(begun, key=lambda pair: pair[0])
    leg = replace(search, kicks=max(1, search.kicks // LEGS))
    for _ in range(LEGS):
        judge.raise_prices(chosen, 1.3)
        chosen, _price = choose_places(places, judge.levels, leg, rng, chosen, visit=judge.visit, stop=stop)
    best = judge.best(search)
    price = price_of_places(places, judge.levels, search, best)
    return Loading(best, price, judge.levels, places, points, search)


def several_starts(
    places: Places,
    levels: Singles,
    search: Search,
    rng: np.random.Generator,
    *,
    visit: Visitor | None = None,
    stop: Stop = never,
) -> list[tuple[float, Ints]]:
    """Price and places of each of ``STARTS`` short searches that begin with an empty implant, at fixed prices."""
    begun: list[tuple[float, Ints]] = []
    start = replace(search, kicks=max(1, search.kicks // START))
    for _ in range(STARTS):
        some, price = np.zeros(0, dtype=np.int64), np.inf
        for parallel in (True, False) if places.first_choice is not None else (False,):
            some, price = choose_places(
                places, levels, start, rng, some, of_first_choice=parallel, visit=visit, stop=stop
            )
        begun.append((price, some))
    return begun


class Judge:
    """Remembers the loadings that miss least, and raises the prices of what is missed."""

    def __init__(self, places: Places, points: DosePoints, goal: float, least: float) -> None:
        self.levels = points.levels.copy()
        self._most_under = MOST_FOR_TARGET * points.levels[1]
        self._most_over = MOST_FOR_ORGAN * points.levels[3]
        self._places, self._points, self._goal, self._least = places, points, goal, least
        self._limited = [group for group in points.groups if group.limit > 0.0]
        self._strained = False  # an organ's limit was in the way once
        self._missing = (np.inf, np.inf)
        self._kept: list[Ints] = []

    def d90(self, chosen: Ints, dose: Singles) -> float:
        """Of the target, relative to the prescription."""
        if self._places.check is None:
            return dose_covering(dose[: self._points.targets])
        return dose_covering(self._places.check[chosen].sum(axis=0, dtype=np.float32))

    def visit(self, chosen: Ints, dose: Singles, _price: float) -> None:
        """See ``placement.Visitor``."""
        over = sum(max(0.0, group.metric(dose) / (TOLERANCE * group.limit) - 1.0) for group in self._limited)
        missing = (round(max(0.0, self._least - self.d90(chosen, dose)), 3), round(over, 3))
        if missing < self._missing:
            self._missing, self._kept = missing, []
        if missing == self._missing:
            self._kept.append(chosen)

    def raise_prices(self, chosen: Ints, step: float) -> bool:
        """Raise the prices of what ``chosen`` misses, an organ's by ``step``; False when nothing is missed."""
        dose = self._places.dose[chosen].sum(axis=0, dtype=np.float32)
        d90 = self.d90(chosen, dose)
        missed = [group for group in self._points.groups if self._is_missed(group, dose)]
        self._strained |= bool(missed)
        wanted = self._least if self._strained else self._goal
        if d90 < wanted:
            self.levels[1] *= np.float32(np.clip((wanted / max(d90, 0.1)) ** 6, 1.05, 2.0))
        for group in missed:
            self.levels[3, group.start : group.stop] *= np.float32(step)
        self.levels[1] = np.minimum(self.levels[1], self._most_under)
        self.levels[3] = np.minimum(self.levels[3], self._most_over)
        return bool(missed) or d90 < wanted

    def best(self, search: Search) -> Ints:
        """Of those that miss least, the cheapest at the last prices."""
        return min(self._kept, key=lambda some: price_of_places(self._places, self.levels, search, some))

    @staticmethod
    def _is_missed(group: PointGroup, dose: Singles) -> bool:
        return group.metric(dose) > TOLERANCE * group.limit
