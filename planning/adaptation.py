"""Seeds placed anew on needles that stand where they stand: what the implant gives now, and what it could give.

Given the needles as a CT showed them, the dose of the seeds that are planned in them is computed there; where that
misses a goal which the plan meets, the loading's search (``planning.placement``) is run again, restricted to these
needles. The rules are the plan's: a needle's seeds leave it in whole steps of the spacing from its tip on, centres lie
inside the CTV by the plan's margin, none is nearer to another than the plan's rules allow, and there are never more
than are in stock. What is in the patient already stays where it is and counts.

Knows: one implant, pure; the same input gives the same answer. Does not know: who asks, whether it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planning.anatomy import Anatomy
from planning.dose import dose_matrix_gy
from planning.dose_points import dose_points
from planning.dvh import StructureStatistics
from planning.frame import Floats, unit
from planning.goal_search import TOLERANCE
from planning.goals import Goal, judge_goals
from planning.implant_dose import implant_dose
from planning.placement import (
    DosePoints,
    Ints,
    Places,
    Search,
    Singles,
    choose_places,
    dose_covering,
    price_of_places,
)
from planning.plan import Plan, Point
from planning.plan_rules import ROUNDING_MM
from planning.planner import LEAST_RESERVE, RESERVE, SEED_OF_CHANCE
from planning.site_protocol import SiteProtocol, matches
from planning.sources import SeedSource
from planning.target_depth import Target, target_of

KICKS = 150  # disturbances in each of the rounds of the search
ROUNDS = 6  # in which the prices of what is missed are raised
SAME_MM = 0.01  # retractions within this are the same place


@dataclass(frozen=True)
class StandingNeedle:
    """A needle that may still take seeds.

    Attributes:
        tip_mm, direction: as seen; the plan's patient frame, direction a unit vector towards the tip.
        retractions_mm: of the seeds that it shall still take, deepest first (``PlannedSeed.retraction_mm``).
        first_retraction_mm: of the deepest seed that the plan has in it; others leave whole steps behind it.
        drawn_back_mm: it is never pushed in again: no seed leaves it deeper than this.
    """

    name: str
    tip_mm: Point
    direction: Point
    retractions_mm: tuple[float, ...]
    first_retraction_mm: float
    drawn_back_mm: float = 0.0


@dataclass(frozen=True)
class Implant:
    """The implant at this moment.

    Attributes:
        needles: those that may still take seeds, in order of delivery.
        delivered_mm, delivered_directions: seeds that are in the patient, where their needles stood.
        stock: seeds that may still be delivered.
    """

    needles: tuple[StandingNeedle, ...]
    delivered_mm: tuple[Point, ...]
    delivered_directions: tuple[Point, ...]
    stock: int


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What the implant gives, and could give.

    Attributes:
        planned, now: figures by structure, of the plan and with the needles as they stand.
        missed: goals (in words) that the plan meets and the implant does not.
        retractions_mm: proposed, by needle, deepest first, for every needle; None: nothing to propose.
        then: figures of the proposal; None without one.
        still_missed: as ``missed``, for the proposal.
        is_better: by the goals: fewer are missed, or they are missed by less.
    """

    planned: dict[str, StructureStatistics]
    now: dict[str, StructureStatistics]
    missed: tuple[str, ...]
    retractions_mm: dict[str, tuple[float, ...]] | None = None
    then: dict[str, StructureStatistics] | None = None
    still_missed: tuple[str, ...] = ()
    is_better: bool = False


def seed_centre_mm(needle: StandingNeedle, retraction_mm: float, seed_length_mm: float) -> Floats:
    """Where a seed comes to lie: in the channel that the needle has left, just ahead of its drawn back tip."""
    behind = retraction_mm - 0.5 * seed_length_mm
    return np.asarray(needle.tip_mm) - behind * unit(needle.direction)


def adapt(
    plan: Plan, anatomy: Anatomy, protocol: SiteProtocol, source: SeedSource, implant: Implant
) -> Adaptation:
    """The figures with the needles as they stand and, where goals of the plan are missed, a better loading.

    Args:
        plan: as confirmed; its prescription and strength are used.
        anatomy: of the planning CT, in whose patient frame ``implant`` is given.

    Returns:
        a proposal only where it misses fewer goals, or misses them by less, or gives the target more dose, and
        its CTV D90 is not below what is there (or what the plan gives, if that is less).
    """
    rx = plan.prescription_gy
    dose = implant_dose(anatomy, source, rx)

    def figures(centres_mm: Floats, directions: Floats) -> dict[str, StructureStatistics]:
        dose.become(centres_mm, directions, plan.air_kerma_strength_u)
        return dose.figures()

    planned = figures(plan.seed_centres_mm(), plan.seed_directions())
    as_left = {needle.name: needle.retractions_mm for needle in implant.needles}
    now = figures(*_seeds_of(implant, as_left, plan.seed_length_mm))
    met = {goal.wanted for goal in judge_goals(protocol, planned, rx) if goal.met}
    missed = _missed(judge_goals(protocol, now, rx), met)
    if not missed or not implant.stock or not implant.needles:
        return Adaptation(planned, now, missed)
    loaded = _load(plan, anatomy, protocol, source, implant)
    if loaded is None or loaded == as_left:
        return Adaptation(planned, now, missed)
    then = figures(*_seeds_of(implant, loaded, plan.seed_length_mm))
    before, after = _shortfall(protocol, now, rx, met), _shortfall(protocol, then, rx, met)
    d90, new_d90 = now["CTV"].d90_gy, then["CTV"].d90_gy
    if new_d90 < min(d90, planned["CTV"].d90_gy) or (*after, -new_d90) >= (*before, -d90):
        return Adaptation(planned, now, missed)
    still = _missed(judge_goals(protocol, then, rx), met)
    return Adaptation(planned, now, missed, loaded, then, still, after < before)


def _missed(goals: Sequence[Goal], met: set[str]) -> tuple[str, ...]:
    return tuple(
        f"{goal.wanted} (is {goal.value:.1f})" for goal in goals if goal.wanted in met and not goal.met
    )


def _shortfall(
    protocol: SiteProtocol, figures: dict[str, StructureStatistics], rx_gy: float, met: set[str]
) -> tuple[int, float]:
    """How many goals that the plan meets are missed, and by which part of their bounds together."""
    count = sum(goal.wanted in met and not goal.met for goal in judge_goals(protocol, figures, rx_gy))
    total = 0.0
    for limit in (*protocol.goals, *protocol.limits):
        bound = limit.limit(rx_gy)
        for name, found in figures.items():
            value = getattr(found, limit.metric, None)
            if value is not None and bound > 0.0 and matches(name, limit.names):
                over = (float(value) - bound) / bound
                total += max(0.0, -over if limit.bound == "at_least" else over)
    return count, round(total, 4)


def _seeds_of(
    implant: Implant, loaded: dict[str, tuple[float, ...]], length_mm: float
) -> tuple[Floats, Floats]:
    """Centres and directions ``(n, 3)`` of everything: what is delivered, then what is to be."""
    centres = [np.asarray(at, dtype=float) for at in implant.delivered_mm]
    axes = [np.asarray(axis, dtype=float) for axis in implant.delivered_directions]
    for needle in implant.needles:
        for retraction in loaded[needle.name]:
            centres.append(seed_centre_mm(needle, retraction, length_mm))
            axes.append(unit(needle.direction))
    return np.array(centres).reshape(-1, 3), np.array(axes).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class _Allowed:
    """Every place that a seed may take: centres ``(n, 3)``, its needle's index, retraction, step, too close pairs."""

    centres_mm: Floats
    needle_of: Ints
    retraction_mm: Floats
    step: Ints
    close: NDArray[np.bool_]


def _allowed(plan: Plan, protocol: SiteProtocol, implant: Implant, target: Target) -> _Allowed:
    """In whole steps from the plan's deepest seed on, inside the CTV, away from what is delivered."""
    rules = protocol.needle
    least = min(rules.seed_spacing_mm, rules.min_distance_mm) - ROUNDING_MM
    given = np.array(implant.delivered_mm, dtype=float).reshape(-1, 3)
    steps = np.arange(int(rules.max_depth_mm / rules.seed_spacing_mm))
    centres, owner, retractions, kept = [], [], [], []
    for n, needle in enumerate(implant.needles):
        behind = np.round(needle.first_retraction_mm + rules.seed_spacing_mm * steps, 3)
        at = np.array([seed_centre_mm(needle, mm, plan.seed_length_mm) for mm in behind]).reshape(-1, 3)
        may = (target.depth_at(at) > rules.seed_inside_mm) & (behind >= needle.drawn_back_mm - SAME_MM)
        if len(given):
            may &= np.linalg.norm(at[:, None] - given[None], axis=2).min(axis=1) >= least
        centres += list(at[may])
        retractions += list(behind[may])
        kept += list(steps[may])
        owner += [n] * int(may.sum())
    points = np.array(centres).reshape(-1, 3)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    owners, taken = np.array(owner, dtype=np.int64), np.array(kept, dtype=np.int64)
    return _Allowed(points, owners, np.array(retractions), taken, apart < least)


def _load(
    plan: Plan, anatomy: Anatomy, protocol: SiteProtocol, source: SeedSource, implant: Implant
) -> dict[str, tuple[float, ...]] | None:
    """Retractions by needle of the best loading found; None where no seed can be placed."""
    weights, rx = protocol.objective, plan.prescription_gy
    target = target_of(anatomy.ctv, anatomy.grid)
    allowed = _allowed(plan, protocol, implant, target)
    if not len(allowed.centres_mm):
        return None
    points = dose_points(anatomy, protocol, target.points_mm, rx, RESERVE)
    axes = np.array([unit(needle.direction) for needle in implant.needles])[allowed.needle_of]

    def columns(centres: Floats, directions: Floats) -> Singles:
        dose = dose_matrix_gy(source, centres, directions, plan.air_kerma_strength_u, points.points_mm)
        return points.columns(dose / np.float32(rx))

    tips = np.array([needle.tip_mm for needle in implant.needles])
    places = Places(
        columns(allowed.centres_mm, axes),
        allowed.needle_of,
        allowed.step,
        1,
        np.linalg.norm(tips[:, None] - tips[None], axis=2),
    )
    given = np.zeros(places.dose.shape[1], dtype=np.float32)
    if implant.delivered_mm:
        dose = columns(np.array(implant.delivered_mm), np.array(implant.delivered_directions))
        given = dose.sum(axis=0, dtype=np.float32)
    # The needles stand already: none costs anything more, and how near they are to each other is as it is.
    search = Search(0.0, weights.seed, 0.0, len(implant.needles), implant.stock, KICKS)
    start = [
        place
        for place, (n, at) in enumerate(zip(allowed.needle_of, allowed.retraction_mm, strict=True))
        if any(abs(at - left) <= SAME_MM for left in implant.needles[n].retractions_mm)
    ]
    chosen = _search(
        places, points, search, given, allowed.close, np.array(start[: implant.stock], dtype=np.int64)
    )
    found: dict[str, tuple[float, ...]] = {}
    for n, needle in enumerate(implant.needles):
        own = allowed.retraction_mm[chosen[allowed.needle_of[chosen] == n]]
        found[needle.name] = tuple(float(v) for v in np.sort(own))
    return found


def _search(
    places: Places,
    points: DosePoints,
    search: Search,
    given: Singles,
    close: NDArray[np.bool_],
    start: Ints,
) -> Ints:
    """The best loading of several rounds, the price of what is missed raised from one to the next.

    As ``goal_search.reach_goal``, with a dose that is ``given`` already: prices are counted from it.
    """
    levels = points.levels.copy()
    levels[[0, 2, 4]] -= given
    rng = np.random.default_rng(SEED_OF_CHANCE)
    best: tuple[tuple[float, float, float], Ints] | None = None
    first_levels, chosen = levels.copy(), start
    for _ in range(ROUNDS):
        chosen, _price = choose_places(places, levels, search, rng, chosen)
        kept = _apart(places, levels, search, close, chosen)
        dose = places.dose[kept].sum(axis=0, dtype=np.float32) + given
        d90 = dose_covering(dose[: points.targets])
        over = [
            max(0.0, g.metric(dose) / (TOLERANCE * g.limit) - 1.0) for g in points.groups if g.limit > 0.0
        ]
        key = (
            max(0.0, LEAST_RESERVE - d90),
            round(sum(over), 3),
            price_of_places(places, first_levels, search, kept),
        )
        if best is None or key < best[0]:
            best = key, kept
        wanted = LEAST_RESERVE if any(over) else RESERVE
        if d90 >= wanted and not any(over):
            break
        if d90 < wanted:
            levels[1] *= np.float32(np.clip((wanted / max(d90, 0.1)) ** 6, 1.05, 2.0))
        for group in points.groups:
            if group.limit > 0.0 and group.metric(dose) > TOLERANCE * group.limit:
                levels[3, group.start : group.stop] *= np.float32(2.0)
    assert best is not None
    return best[1]


def _apart(places: Places, levels: Singles, search: Search, close: NDArray[np.bool_], chosen: Ints) -> Ints:
    """``chosen`` without seeds that are too close to each other, and with others where they pay.

    The search knows the spacing within a needle; needles that have come near each other are seen to here.
    """
    kept = [int(place) for place in chosen]

    def price(some: list[int]) -> float:
        return price_of_places(places, levels, search, np.array(sorted(some), dtype=np.int64))

    conflict = False
    while True:
        clashing = [place for place in kept if close[place, kept].any()]
        if not clashing:
            break
        conflict = True
        kept.remove(min(clashing, key=lambda place: (price([p for p in kept if p != place]), place)))
    while conflict and len(kept) < search.most_seeds:
        free = [p for p in range(len(close)) if p not in kept and not close[p, kept].any()]
        trials = [(price([*kept, place]), place) for place in free]
        if not trials or min(trials)[0] >= price(kept):
            break
        kept.append(min(trials)[1])
    return np.array(sorted(kept), dtype=np.int64)
