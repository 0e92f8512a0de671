"""The loading's search: its laws on small random problems, and the optimum where all loadings can be tried."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning import loading
from planning.goal_search import reach_goal
from planning.placement import (
    DosePoints,
    Places,
    PointGroup,
    Search,
    choose_places,
    dose_covering,
)

SEARCH = Search(0.05, 0.02, 5.0, 30, 120, kicks=20)


def problem(seed: int, needles: int = 9, depth: int = 30, points: int = 80) -> tuple[Places, DosePoints]:
    """Needles 5 mm apart in rows of three, dose falling with the square of the distance."""
    rng = np.random.default_rng(seed)
    xy = np.array([(5.0 * (n % 3), 5.0 * (n // 3)) for n in range(needles)])
    needle_of, slot = np.repeat(np.arange(needles), depth), np.tile(np.arange(depth), needles)
    centres = np.column_stack((xy[needle_of], slot))
    at = rng.uniform((-3.0, -3.0, 0.0), (13.0, 13.0, float(depth)), (points, 3))
    r2 = np.sum((centres[:, None] - at[None]) ** 2, axis=2)
    dose = (8.0 / np.maximum(r2, 1.0)).astype(np.float32)
    organ = points // 4
    levels = np.zeros((6, points), dtype=np.float32)
    levels[:, organ:] = np.array([1.0, 10.0 / points, 1.5, 1.0 / points, 2.0, 2.0 / points])[:, None]
    levels[2:4, :organ] = np.array([0.4, 2.0 / points])[:, None]
    order = np.r_[organ:points, 0:organ]  # the target's first
    targets = points - organ
    group = PointGroup(targets, points, None, 0.4)
    return (
        Places(
            np.ascontiguousarray(dose[:, order]),
            needle_of,
            slot,
            5,
            np.linalg.norm(xy[:, None] - xy[None], axis=2),
        ),
        DosePoints(at[order], targets, np.ascontiguousarray(levels[:, order]), (group,)),
    )


def price(places: Places, points: DosePoints, chosen: np.ndarray, search: Search) -> float:
    """The price written out in NumPy."""
    dose = places.dose[chosen].astype(float).sum(axis=0)
    low, under, high, over, hot, over_hot = points.levels.astype(float)
    total = np.sum(under * np.maximum(low - dose, 0) + over * np.maximum(dose - high, 0))
    total += np.sum(over_hot * np.maximum(dose - hot, 0))
    return float(
        total
        + search.needle_price * len(np.unique(places.needle_of[chosen]))
        + search.seed_price * len(chosen)
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 12))
def test_a_loading_keeps_its_laws(seed: int, most_needles: int, most_seeds: int) -> None:
    places, points = problem(seed)
    search = replace(SEARCH, most_needles=most_needles, most_seeds=most_seeds, kicks=6)
    chosen, found = choose_places(places, points.levels, search, np.random.default_rng(seed))
    needles = places.needle_of[chosen]
    assert len(np.unique(needles)) <= most_needles
    assert len(chosen) <= most_seeds
    for n in np.unique(needles):
        gaps = np.diff(np.sort(places.slot[chosen][needles == n]))
        assert np.all(gaps >= 5)
        assert np.all(gaps % 5 == 0)
    assert found == pytest.approx(price(places, points, chosen, search), rel=1e-4)
    assert found <= price(places, points, np.array([], dtype=int), search) + 1e-4


def test_needles_closer_than_allowed_are_never_used_together() -> None:
    places, points = problem(1)
    chosen, _ = choose_places(
        places, points.levels, replace(SEARCH, least_distance_mm=7.2), np.random.default_rng(0)
    )
    used = np.unique(places.needle_of[chosen])
    apart = places.apart_mm[np.ix_(used, used)][~np.eye(len(used), dtype=bool)]
    assert len(used) >= 2
    assert apart.min() >= 7.2 - 1e-6 or apart.min() >= 10.0


def test_more_effort_is_never_worse_and_a_start_never_spoilt() -> None:
    places, points = problem(2)
    rng = np.random.default_rng
    first, low_effort = choose_places(places, points.levels, replace(SEARCH, kicks=0), rng(0))
    _, more_effort = choose_places(places, points.levels, replace(SEARCH, kicks=60), rng(0), first)
    assert more_effort <= low_effort + 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_one_needle_with_few_places_is_loaded_as_well_as_possible(seed: int) -> None:
    places, points = problem(seed, needles=1, depth=25, points=40)
    chosen, found = choose_places(places, points.levels, SEARCH, np.random.default_rng(0))
    every = [
        np.array([phase + 5 * n for n in some])
        for phase in range(5)
        for count in range(6)
        for some in combinations(range(5), count)
    ]
    best = min(price(places, points, np.asarray(some, dtype=int), SEARCH) for some in every)
    assert found <= 1.02 * best
    assert len(chosen)


def test_the_same_input_gives_the_same_seeds() -> None:
    places, points = problem(3)
    runs = [reach_goal(places, points, SEARCH, np.random.default_rng(5), goal=1.0).chosen for _ in range(2)]
    assert runs[0].tolist() == runs[1].tolist()


def test_a_goal_in_reach_is_reached() -> None:
    places, points = problem(4)
    cheap = Search(0.5, 0.3, 5.0, 30, 120, kicks=10)
    before, _ = choose_places(places, points.levels, cheap, np.random.default_rng(0))
    assert dose_covering(places.dose[before].sum(axis=0)[: points.targets]) < 0.9
    chosen = reach_goal(places, points, cheap, np.random.default_rng(0), goal=0.9).chosen
    assert dose_covering(places.dose[chosen].sum(axis=0)[: points.targets]) >= 0.9


@given(st.lists(st.floats(0.0, 5.0, width=32), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_dose_covering_covers_that_part_and_no_higher_dose_does(doses: list[float], part: float) -> None:
    dose = np.array(doses, dtype=np.float32)
    least = dose_covering(dose, part)
    need = part * len(dose) - 1e-9
    assert np.count_nonzero(dose >= least) >= need
    assert np.count_nonzero(dose > least) < need + 1e-6


def test_price_of_nothing_is_the_whole_deficit() -> None:
    _, points = problem(5)
    zero = np.zeros(len(points.points_mm), dtype=np.float32)
    assert loading.price_of(zero, zero, points.levels) == pytest.approx(
        float(np.sum(points.levels[0] * points.levels[1])), rel=1e-5
    )
