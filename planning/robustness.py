"""What placement errors do to a plan's dose: many implants played, dose only, on sampled points.

Figures are taken on points, not on the dose grid: the target's are spread evenly over it, an organ's mean likewise; for
an organ's hottest 2 cm3 (1, 0.1) only its hottest part as planned is sampled, ten times as large as the volume asked
for. Every sample is exact TG-43 by the fast table; nothing is linearised.

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
from planning.dose import dose_matrix_gy, dose_of_samples_gy, dose_on_grid_gy
from planning.frame import Floats
from planning.goals import label_of
from planning.mask import Mask
from planning.needles import spread_points
from planning.placement_error import PlacementSigmas, misplaced
from planning.plan import Plan
from planning.planner import dose_box, thinned
from planning.site_protocol import DoseLimit, SiteProtocol, matches
from planning.sources import SeedSource
from planning.volume import Grid

TARGET_POINTS = 1500
MEAN_POINTS = 2000  # near seeds dose is steep, so a mean needs many
HOT_POINTS = 500
HOTTEST_CC = {"d2cc_gy": 2.0, "d1cc_gy": 1.0, "d01cc_gy": 0.1}
HOTTER_PART = 10.0  # the sampled part of an organ is this many times the volume asked for
CHUNK = 50  # samples between two calls of ``progress``
PERCENTILES = (5.0, 50.0, 95.0)
ALWAYS = (("CTV", "d90_gy"), ("CTV", "v100_pct"), ("GTV", "d90_gy"))


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


@dataclass(frozen=True, eq=False)
class _Wanted:
    """One figure: columns of the points that it is taken on, and how."""

    structure: str
    metric: str
    limit: DoseLimit | None
    start: int
    stop: int
    part: float  # of the points, for a dose to a hottest volume

    def of(self, dose: NDArray[np.float32], prescription_gy: float) -> Floats:
        """The figure of each sample; ``dose``: ``(n_samples, n_points)``."""
        own = dose[:, self.start : self.stop]
        if self.metric == "mean_gy":
            return np.asarray(own.mean(axis=1, dtype=float))
        if self.metric.startswith("v"):
            level = np.float32(prescription_gy * float(self.metric[1:4]) / 100.0)
            return np.asarray(100.0 * (own >= level).mean(axis=1, dtype=float))
        rank = max(0, min(own.shape[1] - 1, round(self.part * own.shape[1]) - 1))
        at = own.shape[1] - 1 - rank
        return np.asarray(np.partition(own, at, axis=1)[:, at], dtype=float)


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
    points, wanted = _points(plan, anatomy, protocol, source)
    each = dose_matrix_gy(source, centres, axes, strength, points, threads=threads)
    as_planned = each.sum(axis=0, dtype=float).astype(np.float32)
    owner = np.repeat(np.arange(len(plan.needles)), [len(needle.seeds) for needle in plan.needles])

    d90 = next(w for w in wanted if (w.structure, w.metric) == ("CTV", "d90_gy"))
    target = slice(d90.start, d90.stop)
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


def _spread_of(figure: _Wanted, values: Floats, nominal: float, prescription_gy: float) -> FigureSpread:
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


def _points(
    plan: Plan, anatomy: Anatomy, protocol: SiteProtocol, source: SeedSource
) -> tuple[Floats, list[_Wanted]]:
    """The points of all figures, one structure after the other, and the figures."""
    masks = {"GTV": anatomy.gtv, "CTV": anatomy.ctv, **anatomy.organs}
    asked: dict[tuple[str, str], DoseLimit | None] = dict.fromkeys(ALWAYS)
    for asks in (*protocol.goals, *protocol.limits):
        for name in masks:
            if matches(name, asks.names):
                asked[name, asks.metric] = asks
    dose, grid, box, stride = _planned_dose(plan, anatomy, source)
    points: list[Floats] = []
    wanted: list[_Wanted] = []
    whole: dict[str, tuple[int, int]] = {}
    count = 0
    for (name, metric), limit in asked.items():
        part, mask = (
            {"d90_gy": 0.9, "d50_gy": 0.5, "d100_gy": 1.0, "max_gy": 0.0}.get(metric, 1.0),
            masks[name],
        )
        if metric in HOTTEST_CC:
            z, y, x = (slice(b.start, b.stop, s) for b, s in zip(box, stride, strict=True))
            near = _hottest(mask[z, y, x], dose, HOTTER_PART * HOTTEST_CC[metric] / grid.voxel_cc)
            volume_cc = float(near.sum()) * grid.voxel_cc
            if volume_cc < HOTTEST_CC[metric]:
                continue  # the organ is smaller than that, or out of the dose grid
            own, part = spread_points(near, grid, HOT_POINTS), HOTTEST_CC[metric] / volume_cc
        elif name in whole:
            start, stop = whole[name]
            wanted.append(_Wanted(name, metric, limit, start, stop, part))
            continue
        else:
            own = spread_points(mask, anatomy.grid, TARGET_POINTS if name in ("CTV", "GTV") else MEAN_POINTS)
            whole[name] = (count, count + len(own))
        points.append(own)
        wanted.append(_Wanted(name, metric, limit, count, count + len(own), part))
        count += len(own)
    return np.concatenate(points), wanted


def _planned_dose(
    plan: Plan, anatomy: Anatomy, source: SeedSource
) -> tuple[NDArray[np.float32], Grid, tuple[slice, slice, slice], tuple[int, int, int]]:
    box, stride = dose_box(anatomy)
    grid = thinned(anatomy.grid.cropped(box), stride)
    dose = dose_on_grid_gy(
        source, plan.seed_centres_mm(), plan.seed_directions(), plan.air_kerma_strength_u, grid
    )
    return dose, grid, box, stride


def _hottest(mask: Mask, dose: NDArray[np.float32], voxels: float) -> Mask:
    """The hottest ``voxels`` of a mask."""
    own = dose[mask]
    if len(own) <= voxels:
        return mask
    level = np.partition(own, len(own) - int(voxels))[len(own) - int(voxels)]
    return np.asarray(mask & (dose >= level))
