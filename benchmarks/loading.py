"""Seed loading against yardsticks: same places, same prices.

    python -m benchmarks.loading [--seconds 10] [--long-seconds 600] [--bound-seconds 60]

The problem is the shipped example's, at the prices that its plan ended with. Ours is the planner's own search, begun
empty, with other seeds of chance than the plan's. Greedy adds the seed that lowers the price most, until none does;
annealing is plain: random seeds added, taken out or moved, geometric cooling; HiGHS gets the whole problem as a
mixed-integer program (scipy.optimize.milp). The last two get the long time, side by side in processes of their own:
on two quiet cores the whole table takes 12 minutes. ``--long-seconds 0`` leaves them out.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from planning import loading as kernels
from planning.anatomy import build_anatomy
from planning.bound import cliques_of, lower_bound
from planning.dicom import read_case
from planning.goal_search import several_starts
from planning.placement import Loading, Stop, choose_places, price_of_places
from planning.planner import make_plan
from planning.site_protocol import load_site_protocol
from planning.sources import load_source

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
Ints = NDArray[np.int64]


def example_problem() -> Loading:
    case, protocol = read_case(EXAMPLE), load_site_protocol("head-and-neck")
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    return make_plan(case, anatomy, protocol, source=load_source()).loading


class Implant:
    """Chosen seeds with their dose; knows which places are still free."""

    def __init__(self, problem: Loading) -> None:
        self.places, self.search = problem.places, problem.search
        self.clash = self.places.clash(self.search.least_distance_mm)
        self.phase_of = self.places.slot % self.places.slots_apart
        self.chosen: set[int] = set()
        self.phase: dict[int, int] = {}
        self.count = np.zeros(len(self.clash), dtype=int)
        self.levels = np.ascontiguousarray(problem.levels, dtype=np.float32)
        self.dose = np.zeros(self.places.dose.shape[1], dtype=np.float32)
        self.zero = np.zeros_like(self.dose)

    def allowed(self, c: int) -> bool:
        n = int(self.places.needle_of[c])
        if c in self.chosen or len(self.chosen) >= self.search.most_seeds:
            return False
        if self.count[n]:
            return self.phase[n] == self.phase_of[c]
        used = self.count > 0
        return not (self.clash[n] & used).any() and int(used.sum()) < self.search.most_needles

    def put(self, c: int) -> None:
        n = int(self.places.needle_of[c])
        self.chosen.add(c)
        self.count[n] += 1
        self.phase[n] = int(self.phase_of[c])
        self.dose += self.places.dose[c]

    def take(self, c: int) -> None:
        self.chosen.remove(c)
        self.count[self.places.needle_of[c]] -= 1
        self.dose -= self.places.dose[c]

    def price(self, extra: NDArray[np.float32] | None = None, seeds: int = 0, needles: int = 0) -> float:
        dose = float(kernels.price_of(self.dose, self.zero if extra is None else extra, self.levels))
        used = int((self.count > 0).sum()) + needles
        return dose + self.search.needle_price * used + self.search.seed_price * (len(self.chosen) + seeds)


def greedy(problem: Loading) -> Ints:
    implant = Implant(problem)
    price = implant.price()
    while True:
        trials = [
            (implant.price(problem.places.dose[c], 1, int(not implant.count[problem.places.needle_of[c]])), c)
            for c in range(len(problem.places.slot))
            if implant.allowed(c)
        ]
        best, pick = min(trials, default=(price, -1))
        if best >= price:
            return np.array(sorted(implant.chosen), dtype=np.int64)
        implant.put(pick)
        price = best


def annealing(problem: Loading, seconds: float, seed: int = 1) -> Ints:
    rng, implant = np.random.default_rng(seed), Implant(problem)
    begun, total = time.perf_counter(), len(problem.places.slot)
    price = best = implant.price()
    kept = set(implant.chosen)
    hot, cold = 0.02 * price, 1e-5 * price
    while (part := (time.perf_counter() - begun) / seconds) < 1.0:
        heat = hot * (cold / hot) ** part
        for _ in range(200):
            out = int(rng.choice(list(implant.chosen))) if implant.chosen and rng.random() < 0.6 else None
            if out is not None:
                implant.take(out)
            into = int(rng.integers(total)) if out is None or rng.random() < 0.7 else None
            if into is not None and implant.allowed(into):
                implant.put(into)
            else:
                into = None
            new = implant.price()
            if new <= price or rng.random() < np.exp((price - new) / heat):
                price = new
                if price < best:
                    best, kept = price, set(implant.chosen)
                continue
            if into is not None:
                implant.take(into)
            if out is not None:
                implant.put(out)
        implant.dose = problem.places.dose[sorted(implant.chosen)].sum(axis=0, dtype=np.float32)
    return np.array(sorted(kept), dtype=np.int64)


def mip(problem: Loading, seconds: float) -> tuple[Ints | None, float]:
    """HiGHS on places, chains and hinges; the chosen places (None if it found none) and its own bound."""
    places, search, levels = problem.places, problem.search, np.asarray(problem.levels, dtype=float)
    dose, n_places = places.dose.astype(float), len(places.slot)
    key = places.needle_of * places.slots_apart + places.slot % places.slots_apart
    chains, chain_of = np.unique(key, return_inverse=True)
    needle_of_chain = chains // places.slots_apart
    used, needle_of = np.unique(needle_of_chain, return_inverse=True)
    hinges = [
        (level, sign, p)
        for level, sign in ((0, -1.0), (2, 1.0), (4, 1.0))
        for p in np.flatnonzero(levels[level + 1] > 0.0)
    ]
    n_chains, n_hinges = len(chains), len(hinges)
    cost = np.concatenate(
        [
            np.full(n_places, search.seed_price),
            np.full(n_chains, search.needle_price),
            [levels[level + 1, p] for level, _, p in hinges],
        ]
    )
    # Hinge h >= sign * (dose - threshold); a seed only in a chosen chain; one chain a needle, one needle a clique.
    rows = [sign * dose[:, p] for _, sign, p in hinges]
    excess = sparse.hstack(
        [
            sparse.csr_matrix(np.array(rows)),
            sparse.csr_matrix((n_hinges, n_chains)),
            -sparse.identity(n_hinges),
        ]
    )
    limit = np.array([sign * levels[level, p] for level, sign, p in hinges])
    in_chain = sparse.csr_matrix((np.ones(n_places), (np.arange(n_places), chain_of)), (n_places, n_chains))
    linked = sparse.hstack([sparse.identity(n_places), -in_chain, sparse.csr_matrix((n_places, n_hinges))])
    groups = [[n] for n in range(len(used))]
    groups += cliques_of(places.clash(search.least_distance_mm)[np.ix_(used, used)])
    member = np.array([[needle in group for needle in needle_of] for group in groups], dtype=float)
    once = sparse.hstack(
        [
            sparse.csr_matrix((len(groups), n_places)),
            sparse.csr_matrix(member),
            sparse.csr_matrix((len(groups), n_hinges)),
        ]
    )
    counts = sparse.csr_matrix(
        np.array(
            [
                np.repeat([1.0, 0.0, 0.0], [n_places, n_chains, n_hinges]),
                np.repeat([0.0, 1.0, 0.0], [n_places, n_chains, n_hinges]),
            ]
        )
    )
    upper = np.repeat([1.0, 1.0, np.inf], [n_places, n_chains, n_hinges])
    answer = milp(
        cost,
        constraints=[
            LinearConstraint(excess, ub=limit),
            LinearConstraint(linked, ub=np.zeros(n_places)),
            LinearConstraint(once, ub=np.ones(len(groups))),
            LinearConstraint(counts, ub=[search.most_seeds, search.most_needles]),
        ],
        bounds=Bounds(np.zeros(len(cost)), upper),
        integrality=np.repeat([1, 1, 0], [n_places, n_chains, n_hinges]),
        options={"time_limit": seconds},
    )
    bound = getattr(answer, "mip_dual_bound", None)
    chosen = None if answer.x is None else np.flatnonzero(answer.x[:n_places] > 0.5).astype(np.int64)
    return chosen, float("-inf") if bound is None else float(bound)


def ours(problem: Loading, seconds: float, seed: int) -> Ints:
    """Several starts, then the long search from the best, as ``planning.goal_search`` does it at its last prices."""
    begun = time.perf_counter()
    rng = np.random.default_rng(seed)

    def late(part: float) -> Stop:
        return lambda: time.perf_counter() - begun > part * seconds

    starts = several_starts(problem.places, problem.levels, problem.search, rng, stop=late(0.4))
    chosen = min(starts, key=lambda pair: pair[0])[1]
    while not late(0.9)():  # more disturbances than the planner takes: as many as the time allows
        chosen, _ = choose_places(problem.places, problem.levels, problem.search, rng, chosen, stop=late(1.0))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for ours, and for a short annealing")
    parser.add_argument("--long-seconds", type=float, default=600.0, help="for annealing and HiGHS")
    parser.add_argument("--bound-seconds", type=float, default=60.0)
    options = parser.parse_args()
    begun = time.perf_counter()
    problem = example_problem()
    planned_s = time.perf_counter() - begun
    price = problem.price
    print(f"{len(problem.places.slot)} places in {len(problem.places.apart_mm)} needles, ", end="")
    print(f"{problem.places.dose.shape[1]} dose columns\n")
    print(f"| {'':30} | price | against ours | needles | seeds | time |")
    print("|---|---|---|---|---|---|")
    against, worst = np.inf, 0.0

    def show(words: str, chosen: Ints | None, seconds: float) -> float:
        if chosen is None:
            print(f"| {words:30} | none found | | | | {seconds:.1f} s |", flush=True)
            return np.inf
        cost = price_of_places(problem.places, problem.levels, problem.search, chosen)
        needles = len(np.unique(problem.places.needle_of[chosen]))
        beside = f"{100 * (cost / against - 1):+.1f} %" if np.isfinite(against) else ""
        print(
            f"| {words:30} | {cost:.3f} | {beside} | {needles} | {len(chosen)} | {seconds:.1f} s |",
            flush=True,
        )
        return cost

    ours(problem, 0.5, 1)  # compiles
    for seed in (1, 2, 3):
        cost = show(f"ours, seed of chance {seed}", ours(problem, options.seconds, seed), options.seconds)
        against = cost if not np.isfinite(against) else against
        worst = max(worst, cost)
    show("the plan (dose first, then price)", problem.chosen, planned_s)
    begun = time.perf_counter()
    show("greedy", greedy(problem), time.perf_counter() - begun)
    show("plain annealing, same time", annealing(problem, options.seconds), options.seconds)
    if options.long_seconds > 0.0:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as both:
            long_s = options.long_seconds
            annealed = both.submit(annealing, problem, long_s)
            solved = both.submit(mip, problem, long_s)
            best = show("plain annealing, long", annealed.result(), long_s)
            chosen, low = solved.result()
            best = min(best, show("HiGHS on the MIP, long", chosen, long_s))
        print(f"\nHiGHS's own bound: {low:.3f}, {100 * (1 - low / price):.1f} % below the plan")
        verdict = "no" if worst <= best + 1e-6 else "YES"
        print(f"a yardstick's {long_s:.0f} s beat the worst of ours in {options.seconds:.0f} s: {verdict}")
    begun = time.perf_counter()
    marks = [5.0, 10.0, 20.0, 30.0, 60.0]

    def tell(_part: float, best: float) -> None:
        now = time.perf_counter() - begun
        while marks and now > marks[0]:
            print(f"proven after {marks.pop(0):.0f} s: no loading costs less than {best:.3f}, ", end="")
            print(f"gap of the plan {100 * (1 - best / price):.1f} %", flush=True)

    found = lower_bound(
        problem, rounds=10**6, stop=lambda: time.perf_counter() - begun > options.bound_seconds, progress=tell
    )
    print(f"proven after {time.perf_counter() - begun:.0f} s: {found.price:.3f}, gap {100 * found.gap:.1f} %")


if __name__ == "__main__":
    main()
