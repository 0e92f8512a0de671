"""From a case to a plan: approach, needle paths, loading, and what the plan is expected to give.

The same input gives the same plan: every search has fixed counts and a seeded generator, none looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.anatomy import Anatomy
from planning.approach import Wish, find_approach
from planning.assembly import loaded_paths, planned_needles, rig_pose
from planning.clearance import clearance_of
from planning.dicom import Case
from planning.dose import dose_matrix_gy
from planning.dose_points import dose_points
from planning.dvh import StructureStatistics
from planning.goal_search import reach_goal
from planning.goals import Goal, judge_goals
from planning.implant_dose import dose_of_seeds
from planning.needles import NeedleSet, RejectedHole, RigReach, lattice_gaps_mm
from planning.oblique import gaps_mm
from planning.placement import DOSE_CAP, Loading, Places, Search, Stop, never
from planning.plan import Plan
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol
from planning.sources import U_PER_MCI, SeedSource
from planning.spread import spread_points
from planning.target_depth import Target, target_of
from planning.volume import Grid

RESERVE = 1.10  # assumed: planned for 10 % more than prescribed, for needles and seeds never lie as planned,
LEAST_RESERVE = 1.05  # assumed: but for no more than this where an organ's limit would else be missed
CHECK_POINTS = 3000  # of the target, beside those that the loading is priced on: its D90 is judged there
OBLIQUE_EFFORT = 3  # times the disturbances of a coplanar loading
SEED_OF_CHANCE = 6711  # of the loading's search; any fixed number

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class PlanResult:
    """A plan and what it is expected to give.

    Attributes:
        plan: the frozen plan.
        dose_grid, dose: every n-th voxel of a box of the CT around the target (``planning.dose_box``);
            float32 (nz, ny, nx), Gy to infinity.
        statistics: structure -> figures, taken on points finer than voxels (``planning.samples``); "CTV",
            "GTV", and every organ that the grid touches. Of bone, airway and skin that nobody drew only the part
            in the grid counts.
        goals: the site protocol's goals and limits.
        rejected_holes: holes over the target that no needle is offered for, with the reason.
        cover: part of the CTV (0..1) that lies near enough to a place for a seed.
        loading: the chosen seeds among all possible ones, with their prices; for ``planning.bound``.
    """

    plan: Plan
    dose: NDArray[np.float32]
    dose_grid: Grid
    statistics: dict[str, StructureStatistics]
    goals: tuple[Goal, ...]
    rejected_holes: tuple[RejectedHole, ...]
    cover: float
    loading: Loading


def make_plan(
    case: Case,
    anatomy: Anatomy,
    protocol: SiteProtocol,
    *,
    source: SeedSource,
    activity_mci: float | None = None,
    prescription_gy: float | None = None,
    margin_mm: float | None = None,
    rig: RigReach | None = None,
    progress: Progress | None = None,
    max_seeds: int | None = None,
    kicks: int | None = None,
    stop: Stop = never,
    wish: Wish = Wish(),  # noqa: B008 (frozen)
) -> PlanResult:
    """Plan an implant.

    Args:
        activity_mci, prescription_gy, margin_mm: the site protocol's when None; ``margin_mm`` is the one the
            anatomy was built with.
        progress: called with what is being done and the part done so far (0..1).
        max_seeds: seeds in stock; the site protocol's limit when None.
        kicks: effort of the loading's search (``placement.Search``); the default when None.
        stop: asked during the loading's search; True ends it with the best found so far.
        wish: parallel or oblique needles, and from where; the planner's choice by default.

    Raises:
        AskedWrongly: activity or prescription out of range; a target that no straight path reaches.
    """
    tell = progress or (lambda _what, _part: None)
    activity = float(protocol.activity_mci if activity_mci is None else activity_mci)
    prescription = float(protocol.prescription_gy if prescription_gy is None else prescription_gy)
    if not 0.01 <= activity <= 10.0:
        raise AskedWrongly(f"activity {activity:g} mCi: give a seed's activity between 0.01 and 10 mCi.")
    if not 1.0 <= prescription <= 1000.0:
        raise AskedWrongly(f"prescription {prescription:g} Gy: give a dose between 1 and 1000 Gy.")
    strength_u = round(activity * U_PER_MCI, 6)
    rules = protocol.needle

    tell("distances to what needles must avoid", 0.0)
    clearance = clearance_of(anatomy, protocol.entry)
    target = target_of(anatomy.ctv, anatomy.grid)
    tell("direction of insertion", 0.1)
    approach = find_approach(
        clearance,
        target,
        rules,
        rig or RigReach(),
        up=-anatomy.couch,
        couch_keep_out_deg=protocol.entry.couch_keep_out_deg,
        target_name=anatomy.target_name,
        wish=wish,
    )
    needles = approach.needles
    tell("needles and seeds", 0.3)
    if max_seeds is not None:
        protocol = replace(protocol, needle=replace(rules, max_seeds=max_seeds))
    loading = _choose(anatomy, protocol, needles, target, source, strength_u, prescription, kicks, stop)
    loaded = loaded_paths(needles, loading.chosen)
    planned = planned_needles(loaded, rules, source.length_mm)

    tell("dose of the plan", 0.8)
    centres = np.array([seed.centre_mm for needle in planned for seed in needle.seeds])
    axes = np.array([needle.direction for needle in planned for _ in needle.seeds])
    dose, grid, statistics = dose_of_seeds(anatomy, source, centres, axes, strength_u, prescription)
    ct = case.ct
    plan = Plan(
        patient_id=ct.patient_id,
        patient_name=ct.patient_name,
        study_uid=ct.study_uid,
        series_uid=ct.series_uid,
        frame_of_reference_uid=ct.frame_of_reference_uid,
        target=anatomy.target_name,
        margin_mm=float(protocol.margin_mm if margin_mm is None else margin_mm),
        prescription_gy=prescription,
        source_model=source.name,
        seed_length_mm=float(source.length_mm),
        half_life_d=float(source.half_life_d),
        activity_mci=activity,
        air_kerma_strength_u=strength_u,
        site_protocol=protocol.name,
        site_protocol_hash=protocol.sha256,
        patient_from_rig=rig_pose(needles, loaded, rules),
        needles=planned,
        needle_set="oblique" if wish.oblique else "coplanar",
        pitch_mm=float(rules.pitch_mm),
        expected=expected_figures(statistics),
    )
    tell("done", 1.0)
    goals = judge_goals(protocol, statistics, prescription)
    return PlanResult(plan, dose, grid, statistics, goals, needles.rejected, approach.cover, loading)


def _choose(
    anatomy: Anatomy,
    protocol: SiteProtocol,
    needles: NeedleSet,
    target: Target,
    source: SeedSource,
    strength_u: float,
    prescription_gy: float,
    kicks: int | None,
    stop: Stop,
) -> Loading:
    """The chosen among all possible seeds."""
    rules, weights = protocol.needle, protocol.objective
    centres, path_of, slots = needles.seed_positions()
    directions = needles.seed_directions()
    points = dose_points(anatomy, protocol, target.points_mm, prescription_gy, RESERVE)
    dose = dose_matrix_gy(source, centres, directions, strength_u, points.points_mm)
    check_mm = spread_points(anatomy.ctv, anatomy.grid, CHECK_POINTS)
    check = dose_matrix_gy(source, centres, directions, strength_u, check_mm) / np.float32(prescription_gy)
    apart = gaps_mm(needles, rules) if needles.face_along_mm is not None else lattice_gaps_mm(needles)
    search = Search(weights.needle, weights.seed, rules.min_distance_mm, rules.max_count, rules.max_seeds)
    if needles.face_along_mm is not None:  # more needles to choose from, and each disturbance costs less
        search = replace(search, kicks=OBLIQUE_EFFORT * search.kicks)
    loading = reach_goal(
        Places(
            points.columns(dose / np.float32(prescription_gy)),
            path_of,
            slots,
            round(rules.seed_spacing_mm),
            apart,
            needles.are_parallel() if needles.face_along_mm is not None else None,
            np.minimum(check, DOSE_CAP),
        ),
        points,
        search if kicks is None else replace(search, kicks=kicks),
        np.random.default_rng(SEED_OF_CHANCE),
        goal=RESERVE,
        least=LEAST_RESERVE,
        stop=stop,
    )
    if not len(loading.chosen):
        raise AskedWrongly(
            f"target '{anatomy.target_name}': no seed is worth its price; raise objective.target_underdose or "
            "lower objective.needle and objective.seed in the site protocol."
        )
    return loading


def expected_figures(statistics: dict[str, StructureStatistics]) -> dict[str, Any]:
    """What ``Plan.expected`` holds: figures as JSON values, rounded for reading."""
    return {
        name: {
            key: round(float(value), 3) if isinstance(value, int | float | np.number) else value
            for key, value in asdict(found).items()
            if key != "name"
        }
        for name, found in statistics.items()
    }
