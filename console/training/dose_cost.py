"""What decisions cost in dose: the implant as it truly is against what it would be with one needle as planned.

For each needle: its seeds are taken out of the true implant and put where the plan has them, all else stays. The
difference is that needle's cost: D90 that was lost, and organ dose that was added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.result import DoseResult
from controller.truth import Truth
from imaging.postplan import dose_of_the_day
from planning.anatomy import Anatomy
from planning.dose import dose_of_samples_gy
from planning.dose_box import dose_box, thinned
from planning.dvh import StructureStatistics, statistics_of
from planning.frame import Floats
from planning.plan import Plan
from planning.samples import Samples, samples_of_anatomy
from planning.sources import SeedSource

Figures = dict[str, StructureStatistics]


@dataclass(frozen=True)
class NeedleCost:
    """Of one needle; positive is worse than planned.

    Attributes:
        gtv_d90_gy, ctv_d90_gy: lost by it.
        organ, organ_d2cc_gy: the organ whose D2cc it raised most, and by how much; "" where none was touched.
        seeds_planned, seeds_true: in this needle.
    """

    needle: str
    gtv_d90_gy: float
    ctv_d90_gy: float
    organ: str
    organ_d2cc_gy: float
    seeds_planned: int
    seeds_true: int


@dataclass(frozen=True, eq=False)
class DoseScore:
    """Dose to infinity: as planned, as it truly is (``found``: as the last CT shows it), and what each needle cost."""

    planned: Figures
    true: Figures
    found: Figures | None
    costs: tuple[NeedleCost, ...]
    true_dose: DoseResult


def dose_score(
    plan: Plan,
    truth: Truth,
    planned: DoseResult,
    found: DoseResult | None,
    anatomy: Anatomy,
    source: SeedSource,
    told: Callable[[float], None] = lambda _share: None,
) -> DoseScore | None:
    """None: no seed is in the patient. ``told``: gets the share that is done."""
    if not truth.seeds:
        return None

    names = np.array([seed.needle for seed in truth.seeds])
    centres = np.array([seed.centre_mm for seed in truth.seeds])
    axes = np.array([seed.direction for seed in truth.seeds])
    rx = plan.prescription_gy
    true = DoseResult(*dose_of_the_day(source, centres, axes, plan.air_kerma_strength_u, anatomy, rx))
    samples = _samples(anatomy)

    def at_samples(centres_mm: Floats, directions: Floats) -> dict[str, Floats]:
        """Dose is a sum over seeds: what one needle's seeds give is computed once."""
        return {
            name: np.asarray(
                dose_of_samples_gy(
                    source, centres_mm[None], directions[None], plan.air_kerma_strength_u, some.points_mm
                )[0]
            )
            for name, some in samples.items()
        }

    whole, costs = at_samples(centres, axes), []
    for place, needle in enumerate(plan.needles):
        told(place / len(plan.needles))
        own = names == needle.name
        there = np.array([seed.centre_mm for seed in needle.seeds]).reshape(-1, 3)
        planned_here = at_samples(there, np.tile(needle.direction, (len(there), 1)))
        given_here = at_samples(centres[own], axes[own]) if own.any() else {}
        other = {
            name: statistics_of(
                name, dose - given_here.get(name, 0.0) + planned_here[name], samples[name].cell_cc, rx
            )
            for name, dose in whole.items()
        }
        costs.append(_cost(needle.name, true.statistics, other, len(needle.seeds), int(own.sum())))
    return DoseScore(
        planned.statistics,
        true.statistics,
        None if found is None else found.statistics,
        tuple(costs),
        true,
    )


def _samples(anatomy: Anatomy) -> dict[str, Samples]:
    """The points that the plan's own figures are taken at."""
    box, stride = dose_box(anatomy)
    z, y, x = (slice(b.start, b.stop, s) for b, s in zip(box, stride, strict=True))
    return samples_of_anatomy(anatomy, thinned(anatomy.grid.cropped(box), stride), (z, y, x))


def _cost(name: str, true: Figures, other: Figures, planned: int, there: int) -> NeedleCost:
    organs = {
        organ: (true[organ].d2cc_gy or 0.0) - (other[organ].d2cc_gy or 0.0)
        for organ in true
        if organ not in ("GTV", "CTV") and organ in other
    }
    worst = max(organs, key=lambda organ: organs[organ], default="")
    raised = organs.get(worst, 0.0)
    return NeedleCost(
        needle=name,
        gtv_d90_gy=other["GTV"].d90_gy - true["GTV"].d90_gy,
        ctv_d90_gy=other["CTV"].d90_gy - true["CTV"].d90_gy,
        organ=worst if raised > 0.0 else "",
        organ_d2cc_gy=max(0.0, raised),
        seeds_planned=planned,
        seeds_true=there,
    )
