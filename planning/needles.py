"""Needle paths through a grid of holes: where each can go, or why it can't.

A template pose is a direction of insertion and a lattice of holes square to it. Every hole of the rectangle
that covers the target is followed from free air through the skin into the body (``planning.clearance``); it
becomes a ``NeedlePath`` with the places its seeds may take, or a ``RejectedHole`` with the reason. Here all needles
are parallel; ``planning.oblique`` sends them through the same kind of holes at angles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planning.bundle import PHASE_MM, follow
from planning.clearance import ClearanceMap
from planning.frame import Floats, unit
from planning.site_protocol import NeedleRules
from planning.target_depth import Target

PARALLEL = 1.0 - 1e-9  # cosine of what counts as one direction


@dataclass(frozen=True)
class RigReach:
    """How far the rig's axes go, in its own frame (assumed; a real rig's configuration replaces it).

    Attributes:
        angle_deg: an oblique rig's guide against its z.
        front_mm, back_mm: the planes z in which an oblique rig holds its guide; ``lateral_mm`` counts there.
    """

    lateral_mm: float = 95.0
    shallowest_tip_mm: float = -18.0
    deepest_tip_mm: float = 178.0
    angle_deg: float = 20.0
    front_mm: float = -10.0
    back_mm: float = -70.0

    def deepest_along_mm(self, cosine: float) -> float:
        """How far behind the plane z = 0 a tip may go along a line whose direction has this z component.

        A tilted line takes some of the carriage's travel for its longer way from the back plane.
        """
        return self.deepest_tip_mm + self.back_mm * (1.0 / cosine - 1.0)


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

    def hole_mm(self, cell: NDArray[np.integer]) -> Floats:
        """``(n, 3)`` centres of the holes ``(n, 2)`` (column, row), in the plane through ``centre_mm``."""
        return np.asarray(self.centre_mm + self.pitch_mm * (cell @ self.axes[:2]))


@dataclass(frozen=True, eq=False)
class NeedlePath:
    """A hole whose straight path is clear as far as its deepest seed needs.

    Attributes:
        hole, column, row: name and place in the lattice.
        entry_mm: skin crossing, patient frame.
        direction: unit vector of insertion, patient frame.
        entry_along_mm: the entry's distance from the plane through ``pose.centre_mm``, along the pose's direction.
        reach_mm: how deep behind the skin the tip may go.
        seed_depths_mm: ``(m,)`` depths behind the skin, in steps of 1 mm, that a seed's centre may take.
    """

    hole: str
    column: int
    row: int
    entry_mm: Floats
    direction: Floats
    entry_along_mm: float
    reach_mm: float
    seed_depths_mm: Floats

    def at_mm(self, along_mm: float, pose: TemplatePose) -> Floats:
        """Where the axis crosses the plane ``along_mm`` from the one through ``pose.centre_mm``."""
        slant = float(self.direction @ pose.direction)
        return np.asarray(self.entry_mm + (along_mm - self.entry_along_mm) / slant * self.direction)


@dataclass(frozen=True)
class RejectedHole:
    """A hole that no needle is offered for; ``structure`` names what stands in the way, if one does."""

    hole: str
    reason: str
    structure: str | None = None


@dataclass(frozen=True, eq=False)
class NeedleSet:
    """All holes of one template pose that lie over the target.

    Attributes:
        paths: by hole, in coplanar sets one each; in oblique sets a hole may have several.
        rejected: holes without a path.
        face_along_mm: the template's outer face, from the plane through ``pose.centre_mm`` along its direction; None
            where the entries in use decide.
    """

    pose: TemplatePose
    paths: tuple[NeedlePath, ...]
    rejected: tuple[RejectedHole, ...]
    face_along_mm: float | None = None

    def are_parallel(self) -> NDArray[np.bool_]:
        """``(n_paths,)``: which run along the pose's own direction."""
        directions = np.array([path.direction for path in self.paths]).reshape(-1, 3)
        return np.asarray(directions @ self.pose.direction >= PARALLEL)

    def seed_positions(self) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Possible centres ``(n, 3)`` mm, index of each one's path, depth in steps of 1 mm; path by path."""
        if not self.paths:
            return np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        counts = [len(path.seed_depths_mm) for path in self.paths]
        path_of = np.repeat(np.arange(len(self.paths)), counts)
        depths = np.concatenate([path.seed_depths_mm for path in self.paths])
        entries = np.array([path.entry_mm for path in self.paths])[path_of]
        directions = np.array([path.direction for path in self.paths])[path_of]
        slots = np.round(depths / PHASE_MM).astype(np.int64)
        return entries + depths[:, None] * directions, path_of, slots

    def seed_directions(self) -> Floats:
        """``(n, 3)`` unit vectors of the possible seeds, in the order of ``seed_positions``."""
        counts = [len(path.seed_depths_mm) for path in self.paths]
        return np.repeat(np.array([path.direction for path in self.paths]).reshape(-1, 3), counts, axis=0)


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

    bundle = follow(clearance, target, pose.hole_mm(cell), pose.direction, rules)
    rays = bundle.rays
    depths = [bundle.seed_depths(n) for n in range(len(cell))]
    open_rays = [n for n in range(len(cell)) if len(depths[n])]
    along = (bundle.starts_mm - pose.centre_mm) @ pose.direction + rays.entry_t
    # The template's face lies outside the outermost entry; all depths of the rig count from there.
    face = min((along[n] for n in open_rays), default=0.0) - rules.template_gap_mm
    paths: list[NeedlePath] = []
    rejected: list[RejectedHole] = []
    for n, (column, row) in enumerate(cell - cell.min(axis=0)):
        hole = hole_name(int(column), int(row))
        if np.abs(cell[n]).max() > widest:
            rejected.append(RejectedHole(hole, "out of reach: beyond the rig's sideways travel"))
            continue
        if not len(depths[n]):
            rejected.append(RejectedHole(hole, *bundle.why_not(n)))
            continue
        longest = min(
            rules.max_depth_mm,
            face + min(rig.deepest_tip_mm, rules.length_mm) - along[n],
            rays.reach_t[n] - rays.entry_t[n],
        )
        usable = depths[n][depths[n] + rules.tip_beyond_seed_mm <= longest]
        if not len(usable):
            needed = depths[n][0] + rules.tip_beyond_seed_mm
            rejected.append(RejectedHole(hole, out_of_reach(needed, longest)))
            continue
        entry = bundle.point(n, rays.entry_t[n])
        paths.append(
            NeedlePath(
                hole, int(column), int(row), entry, pose.direction, float(along[n]), float(longest), usable
            )
        )
    return NeedleSet(pose, tuple(paths), tuple(rejected))


def lattice_gaps_mm(needles: NeedleSet) -> Floats:
    """``(n, n)`` distances between the axes of parallel needles."""
    cells = np.array([(path.column, path.row) for path in needles.paths]) * needles.pose.pitch_mm
    return np.asarray(np.linalg.norm(cells[:, None] - cells[None], axis=2))


def out_of_reach(needed_mm: float, longest_mm: float) -> str:
    """Why a hole is rejected whose target lies deeper than needle or rig go."""
    return f"out of reach: the target begins {needed_mm:.0f} mm deep, {longest_mm:.0f} mm can be reached"
