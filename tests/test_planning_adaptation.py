"""Seeds placed anew on the needles as they stand: never worse, and never against the plan's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planning.adaptation import Implant, StandingNeedle, adapt, seed_centre_mm
from planning.frame import Floats
from planning.plan import Plan, rounded_point
from planning.sources import load_source
from tests.conftest import PlannedCase


def standing(plan: Plan, shift_mm: Floats | tuple[float, float, float], stock: int | None = None) -> Implant:
    """Every needle off by the same shift, nothing delivered."""
    return Implant(
        tuple(
            StandingNeedle(
                needle.name,
                rounded_point(np.asarray(needle.tip_mm) + shift_mm),
                rounded_point(needle.direction),
                tuple(seed.retraction_mm for seed in needle.seeds),
                needle.seeds[0].retraction_mm,
            )
            for needle in plan.needles
        ),
        (),
        (),
        len(plan.seeds) if stock is None else stock,
    )


def test_needles_as_planned_give_the_plans_figures_and_no_proposal(phantom_plan: PlannedCase) -> None:
    plan = phantom_plan.result.plan
    found = adapt(plan, phantom_plan.anatomy, phantom_plan.protocol, load_source(), standing(plan, (0, 0, 0)))
    assert found.missed == ()
    assert found.retractions_mm is None
    assert found.now["CTV"].d90_gy == pytest.approx(found.planned["CTV"].d90_gy, rel=1e-4)


@pytest.mark.parametrize("shift_mm", [(0.0, 0.0, 6.0), (5.0, -3.0, 0.0)])
def test_shifted_needles_are_loaded_better_and_by_the_rules(
    phantom_plan: PlannedCase, shift_mm: tuple[float, float, float]
) -> None:
    plan, anatomy, protocol = phantom_plan.result.plan, phantom_plan.anatomy, phantom_plan.protocol
    implant = standing(plan, shift_mm)
    found = adapt(plan, anatomy, protocol, load_source(), implant)
    assert found.missed, "the shift is chosen so that a goal is missed"
    assert found.now["CTV"].d90_gy < found.planned["CTV"].d90_gy
    if found.retractions_mm is None:
        assert not found.is_better
        return
    assert found.then is not None
    assert found.then["CTV"].d90_gy >= min(found.now["CTV"].d90_gy, found.planned["CTV"].d90_gy)
    assert len(found.still_missed) <= len(found.missed)
    centres = np.array(
        [
            seed_centre_mm(needle, mm, plan.seed_length_mm)
            for needle in implant.needles
            for mm in found.retractions_mm[needle.name]
        ]
    )
    assert len(centres) <= implant.stock
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    least = min(protocol.needle.seed_spacing_mm, protocol.needle.min_distance_mm)
    assert apart.min() >= least - 0.01
    index = np.rint(anatomy.grid.index_of(centres)).astype(int)
    assert all(anatomy.ctv[tuple(at)] for at in index)
    again = adapt(plan, anatomy, protocol, load_source(), implant)
    assert again.retractions_mm == found.retractions_mm


def test_no_more_seeds_than_in_stock_and_none_deeper_than_the_needle_stands(
    phantom_plan: PlannedCase,
) -> None:
    plan, anatomy, protocol = phantom_plan.result.plan, phantom_plan.anatomy, phantom_plan.protocol
    implant = standing(plan, (0.0, 0.0, 6.0), stock=len(plan.seeds) - 3)
    drawn = replace(implant.needles[0], drawn_back_mm=12.0, retractions_mm=())
    implant = replace(implant, needles=(drawn, *implant.needles[1:]))
    found = adapt(plan, anatomy, protocol, load_source(), implant)
    if found.retractions_mm is not None:
        assert sum(map(len, found.retractions_mm.values())) <= implant.stock
        assert all(mm >= 12.0 - 0.01 for mm in found.retractions_mm[drawn.name])
