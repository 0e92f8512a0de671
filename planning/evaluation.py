"""A plan judged anew: dose, figures, goals, clearances and every rule that planning itself keeps.

For a plan that a person edited: its content hash is stale, its expected figures are those of before. Nothing of the
file is believed but where needles and seeds are and what the implant is made of.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.anatomy import Anatomy
from planning.dvh import StructureStatistics
from planning.goals import Goal, judge_goals
from planning.implant_dose import dose_of_seeds
from planning.needles import RigReach
from planning.path_rules import NeedleFigures, broken_in_patient
from planning.plan import Plan
from planning.plan_rules import BrokenRule, broken_in_plan
from planning.planner import expected_figures
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol
from planning.sources import SeedSource
from planning.volume import Grid

SAME_GY = 0.0015  # figures of a plan are rounded to 0.001


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        plan: as it is in the file.
        stated_hash: the file's; "" when it states none. Compare with ``plan.content_hash``.
        dose, dose_grid: float32 (nz, ny, nx), Gy to infinity, on the planner's dose grid.
        statistics: of every structure that the dose grid touches.
        broken: the broken rules, of the plan first.
        needles: figures of each needle.
        stale_figures: structures whose expected figures in the file are not those found.
    """

    plan: Plan
    stated_hash: str
    dose: NDArray[np.float32]
    dose_grid: Grid
    statistics: dict[str, StructureStatistics]
    goals: tuple[Goal, ...]
    broken: tuple[BrokenRule, ...]
    needles: tuple[NeedleFigures, ...]
    stale_figures: tuple[str, ...]

    @property
    def hash_is_current(self) -> bool:
        return self.stated_hash == self.plan.content_hash

    def accepted(self) -> Plan:
        """The plan with the figures found in place of those it expected; a new content hash follows."""
        return replace(self.plan, expected=expected_figures(self.statistics))


@dataclass(frozen=True, eq=False)
class EditedPlan:
    """A plan's file as it lies there.

    Attributes:
        plan: its content; stated_hash: what the file states; unknown_keys: dotted names that the format doesn't know.
    """

    plan: Plan
    stated_hash: str
    unknown_keys: tuple[str, ...]


def load_edited(path: Path) -> EditedPlan:
    """Read a plan whose content hash may be stale.

    Raises:
        AskedWrongly: unreadable, not of the format, a value missing or malformed, a rig pose that is none, a needle
            without length; a key that the format does not know (most likely misspelt).
    """
    plan = Plan.load(path, edited=True)
    body = json.loads(path.read_text(encoding="utf-8"))
    unknown = tuple(_unknown_keys(body, plan.to_json(), ""))
    if unknown:
        raise AskedWrongly(f"{path}: the plan has no key '{unknown[0]}'; correct it or take it out.")
    if not plan.needles or not plan.seeds:
        raise AskedWrongly(f"{path}: the plan has no {'seeds' if plan.needles else 'needles'}.")
    places = [(n.name, [*n.entry_mm, *n.tip_mm]) for n in plan.needles]
    places += [(f"seed {s.number}", [*s.centre_mm, s.retraction_mm]) for s in plan.seeds]
    for who, values in places:
        if not np.isfinite(values).all():
            raise AskedWrongly(f"{path}: {who}: a position is not a finite number.")
    for needle in plan.needles:
        if not needle.depth_mm > 0.0:
            raise AskedWrongly(f"{path}: needle {needle.name}: entry_mm and tip_mm are the same point.")
    try:
        plan.planned_patient_from_rig()
    except ValueError as problem:
        raise AskedWrongly(f"{path}: patient_from_rig is no pose ({problem}).") from problem
    for what, value, low, high, unit in (
        ("prescription_gy", plan.prescription_gy, 1.0, 1000.0, "Gy"),
        ("source.activity_mci", plan.activity_mci, 0.01, 10.0, "mCi"),
        ("source.air_kerma_strength_u", plan.air_kerma_strength_u, 0.01, 20.0, "U"),
    ):
        if not low <= value <= high:
            raise AskedWrongly(f"{path}: {what} = {value:g} is outside {low:g} .. {high:g} {unit}.")
    return EditedPlan(plan, str(body.get("content_hash", "")), unknown)


def evaluate(
    edited: EditedPlan,
    anatomy: Anatomy,
    protocol: SiteProtocol,
    source: SeedSource,
    *,
    rig: RigReach | None = None,
) -> Evaluation:
    """Recompute everything for a plan on the patient it is for."""
    plan = edited.plan
    dose, grid, statistics = dose_of_seeds(
        anatomy,
        source,
        plan.seed_centres_mm(),
        plan.seed_directions(),
        plan.air_kerma_strength_u,
        plan.prescription_gy,
    )
    in_patient, needles = broken_in_patient(plan, anatomy, protocol)
    found = expected_figures(statistics)
    return Evaluation(
        plan,
        edited.stated_hash,
        dose,
        grid,
        statistics,
        judge_goals(protocol, statistics, plan.prescription_gy),
        (*broken_in_plan(plan, protocol, source, rig or RigReach()), *in_patient),
        needles,
        tuple(
            name for name in {**plan.expected, **found} if not _same(plan.expected.get(name), found.get(name))
        ),
    )


def _same(stated: Any, found: Any) -> bool:
    if not isinstance(stated, dict) or not isinstance(found, dict) or stated.keys() != found.keys():
        return False
    return all(
        a == b or (isinstance(a, int | float) and isinstance(b, int | float) and abs(a - b) <= SAME_GY)
        for a, b in ((stated[key], found[key]) for key in stated)
    )


def _unknown_keys(body: Any, known: Any, where: str) -> list[str]:
    """Keys of ``body`` that are not in ``known``, item by item; the expected figures are free."""
    found: list[str] = []
    if isinstance(body, dict) and isinstance(known, dict):
        for key, value in body.items():
            name = f"{where}.{key}" if where else str(key)
            if key not in known:
                found.append(name)
            elif name != "expected":
                found += _unknown_keys(value, known[key], name)
    elif isinstance(body, list) and isinstance(known, list):
        for n, (one, other) in enumerate(zip(body, known, strict=False)):
            found += _unknown_keys(one, other, f"{where}[{n}]")
    return found


def as_json(found: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON values (``evaluation.json``); infinite distances are null."""
    return {
        "plan_hash": {"stated": found.stated_hash, "found": found.plan.content_hash},
        "broken": [asdict(broken) for broken in found.broken],
        "goals": [asdict(goal) for goal in found.goals],
        "needles": [
            {key: None if value == float("inf") else value for key, value in asdict(needle).items()}
            for needle in found.needles
        ],
        "figures": expected_figures(found.statistics),
        "stale_figures": list(found.stale_figures),
    }
