"""The lower bound: never above the best of all loadings, where all can be tried; the identities it rests on."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planning.bound import Dual, cliques_of, lower_bound
from planning.placement import DosePoints, Loading, Places, Search, choose_places, price_of_places


def small(seed: int, needles: int = 3, depth: int = 7, points: int = 25) -> tuple[Places, DosePoints, Search]:
    """Few needles with short chains: 5 mm apart, dose falling with the square of the distance."""
    rng = np.random.default_rng(seed)
    xy = np.array([(5.0 * n, 0.0) for n in range(needles)])
    needle_of, slot = np.repeat(np.arange(needles), depth), np.tile(np.arange(depth), needles)
    at = rng.uniform((-3.0, -3.0, -1.0), (5.0 * needles, 3.0, depth + 1.0), (points, 3))
    centres = np.column_stack((xy[needle_of], slot))
    r2 = np.sum((centres[:, None] - at[None]) ** 2, axis=2)
    dose = np.minimum(rng.uniform(2, 12) / np.maximum(r2, 1.0), 4.0).astype(np.float32)
    levels = rng.uniform(0.0, 0.5, (6, points)).astype(np.float32)
    levels[0], levels[2], levels[4] = 1.1, rng.uniform(0.3, 1.5), 2.0
    search = Search(
        float(rng.uniform(0, 0.5)),
        float(rng.uniform(0, 0.2)),
        float(rng.choice([5.0, 7.0, 12.0])),  # of the needles in a row: any two, no neighbours, only one
        int(rng.integers(1, 4)),
        int(rng.integers(1, 8)),
        kicks=20,
    )
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    return Places(dose, needle_of, slot, 5, apart), DosePoints(at, points, levels), search


def loadings_of(places: Places, needle: int) -> list[tuple[int, ...]]:
    """Every loading of one needle: any seeds of any one phase."""
    found = {()}
    for phase in range(places.slots_apart):
        chain = np.flatnonzero((places.needle_of == needle) & (places.slot % places.slots_apart == phase))
        found |= {
            tuple(int(c) for c, used in zip(chain, some, strict=True) if used)
            for some in product((0, 1), repeat=len(chain))
        }
    return sorted(found)


def best_of_all(places: Places, points: DosePoints, search: Search) -> float:
    every = product(*(loadings_of(places, n) for n in range(len(places.apart_mm))))
    all_places = (np.array([c for part in some for c in part], dtype=np.int64) for some in every)
    return min(
        price_of_places(places, points.levels, search, some)
        for some in all_places
        if len(some) <= search.most_seeds and allowed(places, search, np.unique(places.needle_of[some]))
    )


def allowed(places: Places, search: Search, needles: np.ndarray) -> bool:
    gap = places.apart_mm[np.ix_(needles, needles)][np.triu_indices(len(needles), 1)]
    return len(needles) <= search.most_needles and bool(np.all(gap >= search.least_distance_mm - 1e-6))


def loading(places: Places, points: DosePoints, search: Search) -> Loading:
    chosen, _ = choose_places(places, points.levels, search, np.random.default_rng(0))
    price = price_of_places(places, points.levels, search, chosen)
    return Loading(chosen, price, points.levels, places, points, search)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
@example(8493)  # the rows in single precision put the bound 2e-8 above the optimum
def test_the_bound_is_never_above_the_best_of_all_loadings(seed: int) -> None:
    problem = small(seed)
    found = lower_bound(loading(*problem), rounds=8)
    best = best_of_all(*problem)
    assert found.price <= best + 1e-9
    assert found.price <= found.reached + 1e-9
    assert found.gap >= 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_any_multipliers_give_a_bound(seed: int, other: int) -> None:
    places, points, search = small(seed, needles=2)
    dual = Dual.of(places, points.levels, search)
    ceiling = np.minimum(dual.ceiling, 3.0)
    multipliers = np.random.default_rng(other).uniform(-0.2, 1.2, len(ceiling)) * ceiling
    assert dual.value(multipliers) <= best_of_all(places, points, search) + 1e-9


@given(st.integers(0, 100_000), st.floats(4.0, 13.0))
def test_cliques_hold_every_pair_that_is_too_near_and_no_other(seed: int, least_mm: float) -> None:
    xy = 5.0 * np.unique(np.random.default_rng(seed).integers(0, 5, (12, 2)), axis=0)
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    found = {
        (a, b)
        for clique in cliques_of((gap < least_mm - 1e-6) & ~np.eye(len(xy), dtype=bool))
        for n, a in enumerate(clique)
        for b in clique[n + 1 :]
    }
    assert found == {
        (a, b) for a in range(len(xy)) for b in range(a + 1, len(xy)) if gap[a, b] < least_mm - 1e-6
    }


def test_more_rounds_never_lower_the_bound() -> None:
    answer = loading(*small(3))
    prices = [lower_bound(answer, rounds=rounds).price for rounds in (1, 4, 16)]
    assert prices == sorted(prices)


def test_the_bound_is_worth_having() -> None:
    gaps = [lower_bound(loading(*small(seed)), rounds=60).gap for seed in range(6)]
    assert np.median(gaps) < 0.25


def test_a_stop_ends_with_a_proven_bound() -> None:
    answer = loading(*small(4))
    found = lower_bound(answer, stop=lambda: True)
    assert found.rounds == 1
    assert found.price == pytest.approx(lower_bound(answer, rounds=1).price)
