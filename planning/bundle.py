"""A bundle of parallel rays traced from free air through the skin to the target: what needles can do along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.clearance import (
    LEAVES_BODY,
    NEVER_IN_BODY,
    NO_ENTRY,
    NO_SKIN,
    STEP_MM,
    ClearanceMap,
    TracedRays,
    trace,
)
from planning.frame import Floats
from planning.site_protocol import NeedleRules
from planning.target_depth import Target
from planning.volume import Grid

PHASE_MM = 1.0  # step of the depth at which a needle's chain of seeds may start
SKIN_BEHIND_TIP_MM = 5.0  # assumed: a tip stays this far from skin on the far side
BEYOND_TARGET_MM = 8.0  # rays are followed this far past the target


@dataclass(frozen=True, eq=False)
class Bundle:
    """Parallel rays; ``t`` is the distance in mm from a ray's own start.

    Attributes:
        starts_mm: ``(n, 3)`` patient frame, outside the CT.
        direction: unit vector of insertion.
        length_mm: how far each is followed.
        rays: what was met.
    """

    starts_mm: Floats
    direction: Floats
    length_mm: float
    rays: TracedRays
    clearance: ClearanceMap
    target: Target
    rules: NeedleRules

    def point(self, n: int, t_mm: Floats | float) -> Floats:
        """``(..., 3)`` points of ray ``n``."""
        return np.asarray(self.starts_mm[n] + np.asarray(t_mm)[..., None] * self.direction)

    def seed_depths(self, n: int) -> Floats:
        """Depths behind the skin (whole steps of ``PHASE_MM``) that a seed's centre may take on ray ``n``."""
        rays, rules = self.rays, self.rules
        if rays.stop[n] in (NO_SKIN, NEVER_IN_BODY, NO_ENTRY):
            return np.zeros(0)
        reach = rays.reach_t[n] - rays.entry_t[n]
        if rays.stop[n] == LEAVES_BODY:
            reach -= SKIN_BEHIND_TIP_MM
        last = min(reach - rules.tip_beyond_seed_mm, self.length_mm - rays.entry_t[n])
        depths = PHASE_MM * np.arange(
            np.ceil(0.5 * rules.seed_spacing_mm), np.floor(max(last, 0.0) / PHASE_MM) + 1
        )
        points = self.point(n, rays.entry_t[n] + depths)
        return depths[self.target.depth_at(points) > rules.seed_inside_mm]

    def why_not(self, n: int) -> tuple[str, str | None]:
        """Why no seed can be brought along ray ``n``: in words, and the structure in the way, if one is."""
        rays = self.rays
        t = np.arange(0.0, self.length_mm, STEP_MM)
        in_target = self.target.depth_at(self.point(n, t)) > self.rules.seed_inside_mm
        stop = int(rays.stop[n])
        if not in_target.any():
            return "misses the target", None
        if stop == NEVER_IN_BODY:
            return "does not enter the body", None
        if stop == NO_SKIN:
            return "the skin it would pass lies outside the scan", None
        if stop == NO_ENTRY:
            zone = self.clearance.no_entry_names[int(rays.zone[n]) - 1]
            return f"{zone}: enters within {self.clearance.no_entry_mm:g} mm of it", zone
        if stop == LEAVES_BODY:
            return "leaves the body again before the target, or just behind it", None
        depth = rays.reach_t[n] - rays.entry_t[n]
        if stop > 0:
            name = self.clearance.names[stop - 1]
            keep = self.clearance.clearance_mm[stop - 1]
            return f"{name}: comes within {keep:g} mm of it {depth:.0f} mm behind the skin", name
        return "no place for a seed in the target", None


def follow(
    clearance: ClearanceMap, target: Target, through_mm: Floats, direction: Floats, rules: NeedleRules
) -> Bundle:
    """The rays along ``direction`` through points ``(n, 3)``, from outside the CT to past the target."""
    ahead = distance_out_of(clearance.grid, through_mm, direction)
    behind = float(((target.points_mm - through_mm.mean(axis=0)) @ direction).max()) + BEYOND_TARGET_MM
    # Points of one plane square to the direction have one height; others add how far the last lies behind.
    behind += float(np.ptp(through_mm @ direction))
    starts = through_mm - ahead * direction
    rays = trace(clearance, starts, direction, ahead + behind)
    return Bundle(starts, direction, ahead + behind, rays, clearance, target, rules)


def distance_out_of(grid: Grid, points_mm: Floats, direction: Floats) -> float:
    """How far before points ``(n, 3)`` all rays along ``direction`` are outside the CT."""
    corners = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * (
        np.array(grid.shape) - 1
    )
    along = (grid.point_of(corners) @ direction).min() - (np.asarray(points_mm) @ direction).max()
    return float(np.ceil(max(0.0, -along) + 2.0))
