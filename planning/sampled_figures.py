"""Dose figures taken on sampled points: many versions of one implant, quickly, nothing linearised.

The target's points are spread evenly over it, an organ's mean likewise; for an organ's hottest 2 cm3 (1, 0.1) only its
hottest part as planned is sampled, ten times as large as the volume asked for. Every sample is exact TG-43 by the fast
table. Figures on points differ from the dose grid's by 1-2 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planning.anatomy import Anatomy
from planning.dose import dose_of_samples_gy, dose_on_grid_gy
from planning.dose_box import dose_box, thinned
from planning.frame import Floats
from planning.mask import Mask
from planning.plan import Plan
from planning.site_protocol import DoseLimit, SiteProtocol, matches
from planning.sources import SeedSource
from planning.spread import spread_points
from planning.volume import Grid

TARGET_POINTS = 1500
MEAN_POINTS = 2000  # near seeds dose is steep, so a mean needs many
HOT_POINTS = 500
HOTTEST_CC = {"d2cc_gy": 2.0, "d1cc_gy": 1.0, "d01cc_gy": 0.1}
HOTTER_PART = 10.0  # the sampled part of an organ is this many times the volume asked for
ALWAYS = (("CTV", "d90_gy"), ("CTV", "v100_pct"), ("GTV", "d90_gy"))


@dataclass(frozen=True, eq=False)
class SampledFigure:
    """One figure: columns ``start:stop`` of the points that it is taken on, and how.

    Attributes:
        structure, metric: e.g. CTV, d90_gy.
        limit: the site protocol's goal or limit; None when there is none.
        part: of the points, for a dose to a hottest volume.
    """

    structure: str
    metric: str
    limit: DoseLimit | None
    start: int
    stop: int
    part: float

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


@dataclass(frozen=True, eq=False)
class SampledFigures:
    """All figures of one plan, and the points they are taken on.

    Attributes:
        source, strength_u, prescription_gy: of the plan.
        points_mm: ``(n_points, 3)``, one structure after the other.
        wanted: the figures.
    """

    source: SeedSource
    strength_u: float
    prescription_gy: float
    points_mm: Floats
    wanted: tuple[SampledFigure, ...]

    def of(self, centres_mm: Floats, directions: Floats, *, threads: int = 1) -> Floats:
        """``(n_samples, n_figures)`` of implants whose seeds lie at ``(n_samples, n_seeds, 3)``."""
        dose = dose_of_samples_gy(
            self.source, centres_mm, directions, self.strength_u, self.points_mm, threads=threads
        )
        return np.stack([figure.of(dose, self.prescription_gy) for figure in self.wanted], axis=1)

    def columns(self, structure: str) -> slice:
        """The points that lie evenly in ``structure``."""
        whole = next(w for w in self.wanted if w.structure == structure and w.metric not in HOTTEST_CC)
        return slice(whole.start, whole.stop)


def sampled_figures(
    plan: Plan,
    anatomy: Anatomy,
    protocol: SiteProtocol,
    source: SeedSource,
    always: Iterable[tuple[str, str]] = ALWAYS,
) -> SampledFigures:
    """The figures of the site protocol's goals and limits, and those of ``always``, for a plan on its anatomy."""
    points, wanted = _points(plan, anatomy, protocol, source, always)
    return SampledFigures(source, plan.air_kerma_strength_u, plan.prescription_gy, points, tuple(wanted))


def _points(
    plan: Plan,
    anatomy: Anatomy,
    protocol: SiteProtocol,
    source: SeedSource,
    always: Iterable[tuple[str, str]],
) -> tuple[Floats, list[SampledFigure]]:
    """The points of all figures, one structure after the other, and the figures."""
    masks = {"GTV": anatomy.gtv, "CTV": anatomy.ctv, **anatomy.organs}
    asked: dict[tuple[str, str], DoseLimit | None] = dict.fromkeys(always)
    for asks in (*protocol.goals, *protocol.limits):
        for name in masks:
            if matches(name, asks.names):
                asked[name, asks.metric] = asks
    dose, grid, box, stride = _planned_dose(plan, anatomy, source)
    points: list[Floats] = []
    wanted: list[SampledFigure] = []
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
            wanted.append(SampledFigure(name, metric, limit, start, stop, part))
            continue
        else:
            own = spread_points(mask, anatomy.grid, TARGET_POINTS if name in ("CTV", "GTV") else MEAN_POINTS)
            whole[name] = (count, count + len(own))
        points.append(own)
        wanted.append(SampledFigure(name, metric, limit, count, count + len(own), part))
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
