"""What placement errors do to a plan's dose: many implants played, dose only, on sampled points.

Figures are taken on points, not on the dose grid (``sampled_figures``).

*Which needle matters most*: each needle alone is misplaced while all others lie as planned; its share is its part of
the sum of these variances of the CTV's D90.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.anatomy import Anatomy
from planning.dose import dose_matrix_gy, dose_of_samples_gy
from planning.frame import Floats
from planning.goals import label_of
from planning.placement_error import PlacementSigmas, misplaced
from planning.plan import Plan
from planning.sampled_figures import SampledFigure, sampled_figures
from planning.site_protocol import SiteProtocol
from planning.sources import SeedSource

CHUNK = 50  # samples between two calls of ``progress``
PERCENTILES = (5.0, 50.0, 95.0)


@dataclass(frozen=True)
class FigureSpread:
    """One figure over all samples.

    Attributes:
        structure, metric, label, unit: e.g. CTV, d90_gy, D90, Gy.
        nominal: on the same points, everything as planned.
        percentiles: 5th, 50th, 95th.
        mean, sigma: over the samples.
        kept: part of the samples (0..1) that meet the site protocol's goal or limit; None when there is none.
    """

    structure: str
    metric: str
    label: str
    unit: str
    nominal: float
    percentiles: tuple[float, float, float]
    mean: float
    sigma: float
    kept: float | None


@dataclass(frozen=True)
class NeedleWeight:
    """How much one needle matters: its share of the variance of the CTV's D90, and the D90 lost without its seeds."""

    name: str
    share: float
    lost_gy: float


@dataclass(frozen=True)
class Robustness:
    """The spread of each figure, and the needles in the order of their shares."""

    samples: int
    seed: int
    sigmas: PlacementSigmas
    figures: tuple[FigureSpread, ...]
    needles: tuple[NeedleWeight, ...]

    def figure(self, structure: str, metric: str) -> FigureSpread:
        return next(f for f in self.figures if (f.structure, f.metric) == (structure, metric))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def play_implants(
    plan: Plan,
    anatomy: Anatomy,
    protocol: SiteProtocol,
    source: SeedSource,
    *,
    sigmas: PlacementSigmas | None = None,
    samples: int = 1000,
    seed: int = 1,
    threads: int = 2,
    progress: Callable[[float], None] | None = None,
) -> Robustness:
    """Play ``samples`` implants; the same seed gives the same figures, whatever ``threads`` is."""
    spread = PlacementSigmas() if sigmas is None else sigmas
    centres, axes = plan.seed_centres_mm(), plan.seed_directions()
    strength, rx = plan.air_kerma_strength_u, plan.prescription_gy
    sampler = sampled_figures(plan, anatomy, protocol, source)
    points, wanted = sampler.points_mm, sampler.wanted
    each = dose_matrix_gy(source, centres, axes, strength, points, threads=threads)
    as_planned = each.sum(axis=0, dtype=float).astype(np.float32)
    owner = np.repeat(np.arange(len(plan.needles)), [len(needle.seeds) for needle in plan.needles])

    target = sampler.columns("CTV")
    found: list[list[Floats]] = [[] for _ in wanted]
    alone: list[list[Floats]] = [[] for _ in plan.needles]
    all_centres, all_axes = misplaced(plan, spread, samples, seed)
    for begun in range(0, samples, CHUNK):
        some = slice(begun, min(samples, begun + CHUNK))
        dose = dose_of_samples_gy(
            source, all_centres[some], all_axes[some], strength, points, threads=threads
        )
        for n, figure in enumerate(wanted):
            found[n].append(figure.of(dose, rx))
        for k in range(len(plan.needles)):
            own = owner == k
            moved = dose_of_samples_gy(
                source,
                all_centres[some][:, own],
                all_axes[some][:, own],
                strength,
                points[target],
                threads=threads,
            )
            rest = as_planned[target] - each[own][:, target].sum(axis=0)
            alone[k].append(_covered(moved + rest))
        if progress:
            progress((begun + CHUNK) / samples)

    figures = tuple(
        _spread_of(figure, np.concatenate(values), float(figure.of(as_planned[None], rx)[0]), rx)
        for figure, values in zip(wanted, found, strict=True)
    )
    nominal = float(_covered(as_planned[None, target])[0])
    variance = np.array([np.concatenate(values).var() for values in alone])
    total = float(variance.sum())
    weights = []
    for k, needle in enumerate(plan.needles):
        without = float(_covered((as_planned[target] - each[owner == k][:, target].sum(axis=0))[None])[0])
        share = float(variance[k]) / total if total > 0.0 else 0.0
        weights.append(NeedleWeight(needle.name, share, nominal - without))
    weights.sort(key=lambda weight: (-weight.share, -weight.lost_gy, weight.name))
    return Robustness(samples, seed, spread, figures, tuple(weights))


def _covered(dose: NDArray[np.float32]) -> Floats:
    """D90 of each sample on equally weighted points."""
    at = dose.shape[1] - round(0.9 * dose.shape[1])
    return np.asarray(np.partition(dose, at, axis=1)[:, at], dtype=float)


def _spread_of(figure: SampledFigure, values: Floats, nominal: float, prescription_gy: float) -> FigureSpread:
    kept = None
    if figure.limit is not None:
        bound = figure.limit.limit(prescription_gy)
        good = values >= bound if figure.limit.bound == "at_least" else values <= bound
        kept = float(good.mean())
    low, middle, high = (float(v) for v in np.percentile(values, PERCENTILES))
    label, unit = label_of(figure.metric)
    return FigureSpread(
        figure.structure,
        figure.metric,
        label,
        unit,
        nominal,
        (low, middle, high),
        float(values.mean()),
        float(values.std()),
        kept,
    )
