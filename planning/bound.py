"""How far a loading is from the best possible: a proven lower bound of the price.

What is proven: no choice of seeds among the *candidate places* (the holes of the chosen template pose, depths in
steps of 1 mm, chains of one phase per needle), priced on the *sampled points* at the *prices the search ended with*,
is cheaper than ``Bound.price``. Nothing is said of other poses, of points between the samples, or of other prices.

How. Dose adds up over seeds: d = sum of a_c over the chosen c, and the price is a sum of hinges of d. Relaxed to
fractional seeds as it stands, this bound is useless: a tenth of a seed everywhere has no hot spots. But for whole seeds
two identities hold, and they make the relaxation tight:

* deficit: max(0, L - sum a_c) = max(0, L - sum min(a_c, L)): more than L from one seed helps no further;
* excess:  max(0, sum a_c - h) = sum of max(0, a_c - h) + max(0, sum min(a_c, h) - h): the part that a seed
  exceeds the level by on its own is a price of that seed, whatever the others do.

Every hinge o * max(0, t) is at least lam * o * t for any lam in [0, 1]. With such multipliers the price splits into
needles, and the cheapest loading of each needle alone (empty, or one phase with every seed whose reduced price is
negative) is known exactly. So *any* multipliers give a valid bound; they are improved by accelerated gradient steps
on a smoothed version (entropic proximal point), with fixed counts, and the bound is evaluated in double precision.
The limits on seeds and on needles enter by a multiplier each, the least distance between needles by one for each
clique: of needles that are all too near to each other at most one is used (on a square lattice, where only direct
neighbours are too near, that is as good as every choice of needles taken exactly: the graph is bipartite).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from planning.frame import Floats
from planning.placement import Ints, Loading, Places, Search, Singles, Stop, never

ROUNDS = 120
STEPS = 25  # gradient steps in each round
SMOOTHING = 0.008  # of the loading's price
LEAST_SHARE = 1e-6  # a fraction that has become 0 or 1 must still be able to come back


@dataclass(frozen=True)
class Bound:
    """The lower bound ``price`` for a loading that costs ``reached``; ``rounds`` of improvement were made."""

    price: float
    reached: float
    rounds: int

    @property
    def gap(self) -> float:
        """The part of the price reached that is not proven necessary (0..1)."""
        return 0.0 if self.reached <= 0.0 else max(0.0, (self.reached - self.price) / self.reached)


def lower_bound(
    loading: Loading,
    *,
    rounds: int = ROUNDS,
    stop: Stop = never,
    progress: Callable[[float, float], None] | None = None,
) -> Bound:
    """The bound for a loading's problem.

    Args:
        stop: asked after every round; True ends with the best bound so far (each one is proven).
        progress: told the part done and the best bound so far.
    """
    # Small products of matrix and vector: a second thread mostly waits, ten times as long where others work too.
    with threadpool_limits(limits=1, user_api="blas"):
        return _improved(loading, rounds, stop, progress)


def _improved(
    loading: Loading, rounds: int, stop: Stop, progress: Callable[[float, float], None] | None
) -> Bound:
    problem = Dual.of(loading.places, loading.levels, loading.search)
    multipliers = problem.guess(loading)
    fractions = problem.even_fractions()
    best, curvature, done = problem.value(multipliers), 50.0, 0
    smoothing = SMOOTHING * max(loading.price, 1e-9)
    for done in range(1, rounds + 1):
        multipliers, fractions, curvature = _round(problem, multipliers, fractions, smoothing, curvature)
        best = max(best, problem.value(multipliers))
        if progress:
            progress(done / rounds, best)
        if stop():
            break
    return Bound(best, loading.price, done)


class Fractions(NamedTuple):
    """A distribution over each needle's loadings: of seeds given their phase, and log shares of phase and empty."""

    seed: Floats
    log_phase: Floats
    log_empty: Floats


@dataclass(frozen=True, eq=False)
class Dual:
    """The multipliers' problem; places are sorted by needle and phase ("chain").

    Attributes:
        fast_rows: ``rows`` in single precision, for the steps; the bound itself is taken from ``rows``.
        rows: ``(n_places, n_rows)``, each hinge's coefficient of each place times its price, steep rows scaled;
            the last row is the limit on seeds.
        shared: ``(n_needles, n_shared)``, which needles share a limit: each clique, and all of them.
        offset: ``(n_rows + n_shared,)`` constant of each hinge times its price, and the limits.
        ceiling: ``(n_rows + n_shared,)`` of the multipliers: 1 (times a row's scale), infinite for the limits.
        seed_price: ``(n_places,)`` with the excess that each makes on its own.
        chain_start, needle_start: where each chain begins among places, each needle among chains.
        chain_of, needle_of: of each place, of each chain.
        sources: of each row, the index of the point it belongs to and the row of ``levels`` of its level.
    """

    rows: Floats
    fast_rows: Singles
    shared: Floats
    offset: Floats
    ceiling: Floats
    seed_price: Floats
    needle_price: float
    chain_start: Ints
    chain_of: Ints
    needle_start: Ints
    needle_of: Ints
    sources: Ints

    @staticmethod
    def of(places: Places, levels: Singles, search: Search) -> Dual:
        key = places.needle_of * places.slots_apart + places.slot % places.slots_apart
        order = np.argsort(key, kind="stable")
        dose, table = places.dose[order].astype(float), np.asarray(levels, dtype=float)
        parts, offsets, sources = [], [], []
        seed_price = np.full(len(dose), search.seed_price)
        for level, sign in ((0, -1.0), (2, 1.0), (4, 1.0)):
            points = np.flatnonzero(table[level + 1] > 0.0)
            threshold, price = table[level, points], table[level + 1, points]
            if sign > 0.0:
                seed_price += np.maximum(dose[:, points] - threshold, 0.0) @ price
            parts.append(sign * np.minimum(dose[:, points], threshold) * price)
            offsets.append(sign * threshold * price)
            sources.append(np.stack([points, np.full(len(points), level)]))
        # The limit on seeds is a row of ones: no price, any multiplier.
        rows = np.concatenate([*parts, np.ones((len(dose), 1))], axis=1)
        offset = np.concatenate([*offsets, [float(search.most_seeds)]])
        ceiling = np.concatenate([np.ones(len(offset) - 1), [np.inf]])
        # Steep rows are scaled down and their multipliers up: the steps' length is that of the steepest row.
        steepness = np.abs(rows).max(axis=0, initial=0.0)
        usual = float(np.median(steepness[:-1])) if len(steepness) > 1 else 1.0
        scale = np.maximum(1.0, steepness / max(usual, 1e-12))
        rows, offset, ceiling = rows / scale, offset / scale, ceiling * scale
        chains, chain_start, chain_of = np.unique(key[order], return_index=True, return_inverse=True)
        used, needle_start, needle_of = np.unique(
            chains // places.slots_apart, return_index=True, return_inverse=True
        )
        cliques = cliques_of(places.clash(search.least_distance_mm)[np.ix_(used, used)])
        shared = np.zeros((len(used), len(cliques) + 1))
        for row, clique in enumerate(cliques):
            shared[clique, row] = 1.0
        shared[:, -1] = 1.0
        limits = np.append(np.ones(len(cliques)), float(search.most_needles))
        steep = 1.0 / max(usual, 1e-12)  # as any steep row; with 1 instead the bound takes ten times as long
        shared, limits = shared / steep, limits / steep
        offset = np.concatenate([offset, limits])
        ceiling = np.concatenate([ceiling, np.full(len(limits), np.inf)])
        return Dual(
            rows,
            rows.astype(np.float32),
            shared,
            offset,
            ceiling,
            seed_price,
            search.needle_price,
            chain_start,
            chain_of,
            needle_start,
            needle_of,
            np.concatenate(sources, axis=1),
        )

    def guess(self, loading: Loading) -> Floats:
        """Multipliers from the loading's own dose: a hinge that is bent there counts."""
        dose = loading.places.dose[loading.chosen].sum(axis=0, dtype=float)
        point, level = self.sources
        above = dose[point] > np.asarray(loading.levels, dtype=float)[level, point]
        bent = np.where(level == 0, ~above, above)
        hinges = self.ceiling[: len(bent)]
        return np.append((0.5 * bent + 0.02) * hinges, np.zeros(len(self.ceiling) - len(bent)))

    def even_fractions(self) -> Fractions:
        count = np.diff(np.append(self.needle_start, len(self.needle_of)))
        share = np.log(1.0 / (count + 1.0))
        return Fractions(np.full(len(self.seed_price), 0.2), share[self.needle_of], share)

    def value(self, multipliers: Floats) -> float:
        """The proven bound that multipliers in 0 .. ``ceiling`` give; double precision."""
        lam = np.clip(multipliers, 0.0, self.ceiling)
        own = self.rows.shape[1]
        reduced = self.seed_price + self.rows @ lam[:own]
        needle_price = self.needle_price + self.shared @ lam[own:]
        chain = needle_price[self.needle_of] + np.add.reduceat(np.minimum(reduced, 0.0), self.chain_start)
        return float(
            -lam @ self.offset + np.minimum(np.minimum.reduceat(chain, self.needle_start), 0.0).sum()
        )

    def smoothed(
        self, multipliers: Singles, fractions: Fractions, smoothing: float
    ) -> tuple[float, Floats, Fractions]:
        """Value and gradient with each needle's minimum softened around ``fractions``; the softened choice."""
        own = self.rows.shape[1]
        reduced = (self.seed_price + self.fast_rows @ multipliers[:own]) / smoothing
        needle_price = (self.needle_price + self.shared @ multipliers[own:]) / smoothing
        without, with_seed = np.log1p(-fractions.seed), np.log(fractions.seed) - reduced
        either = np.logaddexp(without, with_seed)
        phase = fractions.log_phase - needle_price[self.needle_of] + np.add.reduceat(either, self.chain_start)
        top = np.maximum(np.maximum.reduceat(phase, self.needle_start), fractions.log_empty)
        total = np.add.reduceat(np.exp(phase - top[self.needle_of]), self.needle_start)
        norm = top + np.log(total + np.exp(fractions.log_empty - top))
        phase = phase - norm[self.needle_of]
        seed = np.exp(with_seed - either)
        share = np.exp(phase)
        chosen = (share[self.chain_of] * seed).astype(np.float32)
        used = np.add.reduceat(share, self.needle_start)
        value = float(-multipliers @ self.offset - smoothing * norm.sum())
        return (
            value,
            np.concatenate([chosen @ self.fast_rows, used @ self.shared]) - self.offset,
            Fractions(seed, phase, fractions.log_empty - norm),
        )


def cliques_of(near: NDArray[np.bool_]) -> list[list[int]]:
    """Sets of needles that are all too near to each other (``near``, symmetric); together they hold every such pair."""
    found: list[list[int]] = []
    held: set[tuple[int, int]] = set()
    for first, second in np.argwhere(np.triu(near)).tolist():
        if (first, second) in held:
            continue
        clique = [first, second]
        for other in np.flatnonzero(near[first] & near[second]).tolist():
            if near[other, clique].all():
                clique.append(other)
        clique.sort()
        held.update((a, b) for n, a in enumerate(clique) for b in clique[n + 1 :])
        found.append(clique)
    return found


def _round(
    problem: Dual, multipliers: Floats, fractions: Fractions, smoothing: float, curvature: float
) -> tuple[Floats, Fractions, float]:
    """``STEPS`` accelerated gradient steps with backtracking; then the fractions move to the new choice."""
    here = multipliers.astype(np.float32)
    ahead, momentum, found = here, 1.0, fractions
    for _ in range(STEPS):
        value, slope, _ = problem.smoothed(ahead, fractions, smoothing)
        while True:
            new = np.clip(ahead + slope / curvature, 0.0, problem.ceiling).astype(np.float32)
            step = (new - ahead).astype(float)
            reached, _, found = problem.smoothed(new, fractions, smoothing)
            promised = value + slope @ step - 0.5 * curvature * (step @ step)
            if reached >= promised - 1e-6 * (1.0 + abs(value)) or curvature > 1e12:
                break
            curvature *= 2.0
        if slope @ (new - here) < 0.0:
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = np.clip(new + (momentum - 1.0) / following * (new - here), 0.0, problem.ceiling)
        ahead = ahead.astype(np.float32)
        here, momentum, curvature = new, following, 0.97 * curvature
    floor = np.log(LEAST_SHARE)
    kept = Fractions(
        np.clip(found.seed, LEAST_SHARE, 1.0 - LEAST_SHARE),
        np.maximum(found.log_phase, floor),
        np.maximum(found.log_empty, floor),
    )
    return here.astype(float), kept, curvature
