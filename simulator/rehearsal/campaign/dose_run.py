"""The dose part alone: needles and seeds misplaced by chance, and the figures that the implant then gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from planning.placement_error import MisplacedImplants
from planning.plan import Plan
from planning.sampled_figures import SampledFigures
from simulator.rehearsal.campaign.variation import Variation

FAR_AWAY_MM = 5000.0
"""Where a lost seed is put: it gives no dose worth naming."""


@dataclass(frozen=True)
class DoseRuns:
    """Plays runs of the dose part. Each run's chance is that of its number, so a run is the same wherever it is played.

    Attributes:
        figures: taken of each run.
        seed: of the campaign.
    """

    plan: Plan
    figures: SampledFigures
    variation: Variation
    seed: int

    kind = "dose"
    chunk = 50
    """Runs played at a time: more saves calls, fewer loses less when killed."""

    @cached_property
    def _implants(self) -> MisplacedImplants:
        return MisplacedImplants(self.plan, self.variation.sigmas())

    def play(self, runs: Sequence[int]) -> list[dict[str, Any]]:
        """One row a run."""
        centres, directions, lost = [], [], []
        for run in runs:
            random = chance_of(self.seed, run)
            places, axes = self._implants.implant(random)
            places = places + self.variation.setup.left_over_sigma_mm * random.standard_normal(3)
            is_lost = random.random(len(places)) < self.variation.seed.lost_share
            places[is_lost] = FAR_AWAY_MM
            centres.append(places)
            directions.append(axes)
            lost.append(int(is_lost.sum()))
        found = self.figures.of(np.array(centres), np.array(directions))
        names = figure_names(self.figures)
        return [
            {
                "run": run,
                "seeds": len(self.plan.seeds),
                "seeds_lost": gone,
                **dict(zip(names, row, strict=True)),
            }
            for run, gone, row in zip(runs, lost, found.tolist(), strict=True)
        ]


def chance_of(seed: int, run: int) -> np.random.Generator:
    """The chance of one run: what ``SeedSequence(seed).spawn`` would give it, without spawning those before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(run,)))


def figure_names(figures: SampledFigures) -> list[str]:
    """Columns of the figures, e.g. ``CTV.d90_gy``."""
    return [f"{figure.structure}.{figure.metric}" for figure in figures.wanted]


def as_planned(plan: Plan, figures: SampledFigures) -> dict[str, float]:
    """The figures of the plan itself, on the same points."""
    row = figures.of(plan.seed_centres_mm()[None], plan.seed_directions()[None])[0]
    return dict(zip(figure_names(figures), row.tolist(), strict=True))
