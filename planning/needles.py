"""Parallel needle paths through a grid of holes: where each can go, or why it can't.

A template pose is a direction of insertion and a lattice of holes square to it. Every hole of the rectangle
that covers the target is followed from free air through the skin into the body (``planning.clearance``); it
becomes a ``NeedlePath`` with the places its seeds may take, or a ``RejectedHole`` with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from planning.clearance import (
    LEAVES_BODY,
    NEVER_IN_BODY,
    NO_SKIN,
    STEP_MM,
    ClearanceMap,
    TracedRays,
    trace,
)
from planning.distance import box_of
from planning.frame import Floats, unit
from planning.mask import Mask
from planning.site_protocol import NeedleRules
from planning.volume import Grid

PHASE_MM = 1.0  # step of the depth at which a needle's chain of seeds may start
SKIN_BEHIND_TIP_MM = 5.0  # assumed: a tip stays this far from skin on the far side


@dataclass(frozen=True)
class RigReach:
    """How far the rig's axes go, in its own frame (assumed; a real rig's configuration replaces it)."""

    lateral_mm: float = 95.0
    shallowest_tip_mm: float = -18.0
    deepest_tip_mm: float = 178.0


@dataclass(frozen=True, eq=False)
class TemplatePose:
    """A lattice of holes in space.

    Attributes:
        axes: ``(3, 3)``, rows are the rig's x, y and z in the patient frame; z is the direction of insertion.
        centre_mm: a point of the patient frame on the axis of the hole with column and row 0.
        pitch_mm: distance between neighbouring holes.
    """

    axes: Floats
    centre_mm: Floats
    pitch_mm: float

    @property
    def direction(self) -> Floats:
        return np.asarray(self.axes[2])


@dataclass(frozen=True, eq=False)
class Target:
    """What the needles shall reach.

    Attributes:
        grid, depth_mm: a box of the CT around the CTV with the signed depth of each voxel: positive inside
            (distance to the nearest voxel outside), negative outside (float32).
        points_mm: ``(n, 3)`` an even sample of the CTV.
    """

    grid: Grid
    depth_mm: NDArray[np.float32]
    points_mm: Floats

    def depth_at(self, points_mm: Floats) -> Floats:
        """Depth of the voxel each point ``(..., 3)`` lies in; -inf outside the box."""
        index = np.floor(self.grid.index_of(points_mm) + 0.5).astype(int)
        inside = np.all((index >= 0) & (index < self.grid.shape), axis=-1)
        k, j, i = np.moveaxis(np.where(inside[..., None], index, 0), -1, 0)
        return np.where(inside, self.depth_mm[k, j, i], -np.inf)


@dataclass(frozen=True, eq=False)
class NeedlePath:
    """A hole whose straight path is clear as far as its deepest seed needs.

    Attributes:
        hole, column, row: name and place in the lattice.
        entry_mm: skin crossing, patient frame.
        entry_along_mm: the same along the direction of insertion, from the plane through ``pose.centre_mm``.
        reach_mm: how deep behind the skin the tip may go.
        seed_depths_mm: ``(m,)`` depths behind the skin, in steps of 1 mm, that a seed's centre may take.
    """

    hole: str
    column: int
    row: int
    entry_mm: Floats
    entry_along_mm: float
    reach_mm: float
    seed_depths_mm: Floats


@dataclass(frozen=True)
class RejectedHole:
    """A hole that no needle is offered for; ``structure`` names what stands in the way, if one does."""

    hole: str
    reason: str
    structure: str | None = None


@dataclass(frozen=True, eq=False)
class NeedleSet:
    """All holes of one template pose that lie over the target."""

    pose: TemplatePose
    paths: tuple[NeedlePath, ...]
    rejected: tuple[RejectedHole, ...]

    def seed_positions(self) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Possible centres ``(n, 3)`` mm, index of each one's path, depth in steps of 1 mm; path by path."""
        if not self.paths:
            return np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        counts = [len(path.seed_depths_mm) for path in self.paths]
        path_of = np.repeat(np.arange(len(self.paths)), counts)
        depths = np.concatenate([path.seed_depths_mm for path in self.paths])
        entries = np.array([path.entry_mm for path in self.paths])[path_of]
        slots = np.round(depths / PHASE_MM).astype(np.int64)
        return entries + depths[:, None] * self.pose.direction, path_of, slots


def hole_name(column: int, row: int) -> str:
    """``A1`` for (0, 0); columns go A .. Z, AA, AB ..., rows 1, 2, ..."""
    letters = ""
    column += 1
    while column > 0:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row + 1}"


def hole_cell(name: str) -> tuple[int, int] | None:
    """Column and row, from 0, of a hole's name; None for what is no such name."""
    parts = re.fullmatch(r"([A-Z]{1,3})([1-9][0-9]{0,3})", name)
    if parts is None:
        return None
    column = 0
    for letter in parts[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    return column - 1, int(parts[2]) - 1


def template_pose(
    direction: Floats,
    through_mm: Floats,
    pitch_mm: float,
    *,
    turn_deg: float = 0.0,
    shift: tuple[float, float] = (0, 0),
) -> TemplatePose:
    """A lattice across ``direction``; x is as near to the patient's left as it can be, turned by ``turn_deg``.

    Args:
        through_mm: a point near the middle of the target; shift: of the lattice, in parts of the pitch.
    """
    z = unit(direction)
    # The patient's left-right axis, but head-foot where the needles themselves go nearly left-right.
    reference = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 0.0, 1.0])
    x = unit(reference - (reference @ z) * z)
    y = np.cross(z, x)
    turn = np.radians(turn_deg)
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    centre = np.asarray(through_mm, dtype=float) + pitch_mm * (shift[0] * x + shift[1] * y)
    return TemplatePose(np.array([x, y, z]), centre, pitch_mm)


def target_of(ctv: Mask, grid: Grid, *, room_mm: float = 12.0, points: int = 700) -> Target:
    """The target's box, depth map and sample points; ``ctv``: bool on ``grid``, at least one voxel."""
    box = box_of(ctv, grid, room_mm)
    inside, spacing = np.pad(ctv[box], 1), grid.spacing_mm[::-1]
    depth = distance_transform_edt(inside, sampling=spacing) - distance_transform_edt(
        ~inside, sampling=spacing
    )
    return Target(
        grid.cropped(box), depth[1:-1, 1:-1, 1:-1].astype(np.float32), spread_points(ctv, grid, points)
    )


def spread_points(mask: Mask, grid: Grid, count: int) -> Floats:
    """About ``count`` voxel centres spread evenly over a mask: its voxels on a body-centred lattice."""
    volume = float(mask.sum()) * grid.voxel_cc * 1000.0
    if volume == 0.0:
        return np.zeros((0, 3))
    pitch = (2.0 * volume / count) ** (1.0 / 3.0)  # two points per cube of this side
    where = np.argwhere(mask)
    low, high = grid.point_of(where.min(axis=0) - 0.5), grid.point_of(where.max(axis=0) + 0.5)
    corners = [np.arange(a + 0.25 * pitch, b, pitch) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    lattice = np.concatenate((lattice, lattice + 0.5 * pitch))
    index = np.floor(grid.index_of(lattice) + 0.5).astype(int)
    index = np.minimum(index, np.array(grid.shape) - 1)
    kept = lattice[mask[index[:, 0], index[:, 1], index[:, 2]]]
    return kept if len(kept) else grid.point_of(where[:1])


def needle_set(
    clearance: ClearanceMap, target: Target, pose: TemplatePose, rules: NeedleRules, rig: RigReach
) -> NeedleSet:
    """Every hole of the pose that lies over the target, as a path or with the reason why not."""
    local = (target.points_mm - pose.centre_mm) @ pose.axes.T
    widest = np.floor(rig.lateral_mm / pose.pitch_mm)
    low = np.floor(local[:, :2].min(axis=0) / pose.pitch_mm).astype(int)
    high = np.ceil(local[:, :2].max(axis=0) / pose.pitch_mm).astype(int)
    columns, rows = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
    cell = np.stack(np.meshgrid(columns, rows, indexing="ij"), axis=-1).reshape(-1, 2)
    axis_mm = pose.centre_mm + pose.pitch_mm * (cell @ pose.axes[:2])

    behind = float(local[:, 2].max()) + 8.0  # past the target's far side
    ahead = _distance_out_of(clearance.grid, pose)
    rays = trace(clearance, axis_mm - ahead * pose.direction, pose.direction, ahead + behind)
    depths = _seed_depths(rays, axis_mm, ahead, behind, target, pose, rules)

    paths: list[NeedlePath] = []
    rejected: list[RejectedHole] = []
    open_rays = [n for n in range(len(cell)) if len(depths[n])]
    # The template's face lies outside the outermost entry; all depths of the rig count from there.
    face = min((rays.entry_t[n] for n in open_rays), default=0.0) - rules.template_gap_mm
    for n, (column, row) in enumerate(cell - cell.min(axis=0)):
        hole = hole_name(int(column), int(row))
        if np.abs(cell[n]).max() > widest:
            rejected.append(RejectedHole(hole, "out of reach: beyond the rig's sideways travel"))
            continue
        if not len(depths[n]):
            rejected.append(
                _rejection(hole, n, rays, axis_mm[n], ahead, behind, target, pose, clearance, rules)
            )
            continue
        longest = min(
            rules.max_depth_mm,
            face + min(rig.deepest_tip_mm, rules.length_mm) - rays.entry_t[n],
            rays.reach_t[n] - rays.entry_t[n],
        )
        usable = depths[n][depths[n] + rules.tip_beyond_seed_mm <= longest]
        if not len(usable):
            needed = depths[n][0] + rules.tip_beyond_seed_mm
            rejected.append(
                RejectedHole(
                    hole,
                    f"out of reach: the target begins {needed:.0f} mm deep, {longest:.0f} mm can be reached",
                )
            )
            continue
        entry = axis_mm[n] + (rays.entry_t[n] - ahead) * pose.direction
        paths.append(
            NeedlePath(
                hole, int(column), int(row), entry, float(rays.entry_t[n] - ahead), float(longest), usable
            )
        )
    return NeedleSet(pose, tuple(paths), tuple(rejected))


def _distance_out_of(grid: Grid, pose: TemplatePose) -> float:
    """How far before the lattice's centre plane all rays are outside the CT."""
    corners = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * (
        np.array(grid.shape) - 1
    )
    along = (grid.point_of(corners) - pose.centre_mm) @ pose.direction
    return float(np.ceil(max(0.0, -along.min()) + 2.0))


def _seed_depths(
    rays: TracedRays,
    axis_mm: Floats,
    ahead: float,
    behind: float,
    target: Target,
    pose: TemplatePose,
    rules: NeedleRules,
) -> list[Floats]:
    """Of each ray, the depths behind the skin (whole steps of ``PHASE_MM``) that a seed's centre may take."""
    result = []
    for n in range(len(axis_mm)):
        if rays.stop[n] in (NO_SKIN, NEVER_IN_BODY):
            result.append(np.zeros(0))
            continue
        reach = rays.reach_t[n] - rays.entry_t[n]
        if rays.stop[n] == LEAVES_BODY:
            reach -= SKIN_BEHIND_TIP_MM
        last = min(reach - rules.tip_beyond_seed_mm, ahead + behind - rays.entry_t[n])
        depths = PHASE_MM * np.arange(
            np.ceil(0.5 * rules.seed_spacing_mm), np.floor(max(last, 0.0) / PHASE_MM) + 1
        )
        points = axis_mm[n] + (rays.entry_t[n] - ahead + depths)[:, None] * pose.direction
        result.append(depths[target.depth_at(points) > rules.seed_inside_mm])
    return result


def _rejection(
    hole: str,
    n: int,
    rays: TracedRays,
    axis_mm: Floats,
    ahead: float,
    behind: float,
    target: Target,
    pose: TemplatePose,
    clearance: ClearanceMap,
    rules: NeedleRules,
) -> RejectedHole:
    t = np.arange(0.0, ahead + behind, STEP_MM)
    in_target = target.depth_at(axis_mm + (t - ahead)[:, None] * pose.direction) > rules.seed_inside_mm
    stop = int(rays.stop[n])
    if not in_target.any():
        return RejectedHole(hole, "misses the target")
    if stop == NEVER_IN_BODY:
        return RejectedHole(hole, "does not enter the body")
    if stop == NO_SKIN:
        return RejectedHole(hole, "the skin it would pass lies outside the scan")
    if stop == LEAVES_BODY:
        return RejectedHole(hole, "leaves the body again before the target, or just behind it")
    depth = rays.reach_t[n] - rays.entry_t[n]
    if stop > 0:
        name = clearance.names[stop - 1]
        keep = clearance.clearance_mm[stop - 1]
        return RejectedHole(
            hole, f"{name}: comes within {keep:g} mm of it {depth:.0f} mm behind the skin", structure=name
        )
    return RejectedHole(hole, "no place for a seed in the target")
