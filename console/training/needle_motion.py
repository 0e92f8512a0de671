"""The five standard measures of needle motion, defined as Perk Tutor does.  Pure; mm, s.

Elapsed time, path length, path in tissue, time in tissue, tissue damage, as its scripts (PerkTutor/PythonMetrics)
define them: a step counts as in tissue when it ends there; damage is the area that the shaft in tissue sweeps, two
triangles a step, where a step begins and ends in tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planning.frame import Floats
from planning.volume import Grid

NEEDLE_MM = 300.0
"""So far behind the tip the shaft is looked for in the tissue (Perk Tutor's own)."""
_STEP_MM = 0.5


class Tissue(Protocol):
    """A closed piece of tissue."""

    def inside(self, points_mm: Floats) -> NDArray[np.bool_]:
        """Of points ``(n, 3)``."""

    def way_out_mm(self, tips_mm: Floats, backwards: Floats) -> Floats:
        """From each tip ``(n, 3)`` inside, along the unit vectors ``(n, 3)``, to where the line first leaves it."""


@dataclass(frozen=True)
class NeedleMotion:
    """Of one needle, or of all together."""

    elapsed_s: float
    path_mm: float
    tissue_path_mm: float
    tissue_s: float
    damage_mm2: float


def motion_of(t_s: Floats, poses: Floats, tissue: Tissue) -> NeedleMotion:
    """Of one recording.

    Args:
        t_s: ``(n,)`` rising.
        poses: ``(n, 4, 4)``: the tip at the origin, z towards the tip, in the tissue's frame.
    """
    if len(t_s) < 2:
        return NeedleMotion(0.0, 0.0, 0.0, 0.0, 0.0)
    tips, backwards = poses[:, :3, 3], -poses[:, :3, 2]
    steps_mm, steps_s = np.linalg.norm(np.diff(tips, axis=0), axis=1), np.diff(t_s)
    inside = tissue.inside(tips)
    ends_inside = inside[1:]
    return NeedleMotion(
        elapsed_s=float(steps_s.sum()),
        path_mm=float(steps_mm.sum()),
        tissue_path_mm=float(steps_mm[ends_inside].sum()),
        tissue_s=float(steps_s[ends_inside].sum()),
        damage_mm2=_damage_mm2(tips, backwards, inside, tissue),
    )


def together(motions: list[NeedleMotion], elapsed_s: float) -> NeedleMotion:
    """Sums over the needles of one run, which lasted ``elapsed_s``."""
    return NeedleMotion(
        elapsed_s,
        sum(motion.path_mm for motion in motions),
        sum(motion.tissue_path_mm for motion in motions),
        sum(motion.tissue_s for motion in motions),
        sum(motion.damage_mm2 for motion in motions),
    )


def _damage_mm2(tips: Floats, backwards: Floats, inside: NDArray[np.bool_], tissue: Tissue) -> float:
    moved = np.any(np.diff(tips, axis=0) != 0.0, axis=1) | np.any(np.diff(backwards, axis=0) != 0.0, axis=1)
    at = np.flatnonzero(inside[:-1] & inside[1:] & moved)
    if not len(at):
        return 0.0
    before, after = tips[at], tips[at + 1]
    out_before = before + backwards[at] * tissue.way_out_mm(before, backwards[at])[:, None]
    out_after = after + backwards[at + 1] * tissue.way_out_mm(after, backwards[at + 1])[:, None]
    return float((_area(before, after, out_after) + _area(before, out_before, out_after)).sum())


def _area(a: Floats, b: Floats, c: Floats) -> Floats:
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0)


class BodyTissue:
    """A mask ``bool (nz, ny, nx)`` on its grid as tissue; a point belongs to the nearest voxel."""

    def __init__(self, mask: NDArray[np.bool_], grid: Grid) -> None:
        self._mask, self._grid = mask, grid

    def inside(self, points_mm: Floats) -> NDArray[np.bool_]:
        index = np.rint(self._grid.index_of(points_mm)).astype(int)
        shape = np.array(self._mask.shape)
        is_on = np.all((index >= 0) & (index < shape), axis=-1)
        z, y, x = np.moveaxis(np.clip(index, 0, shape - 1), -1, 0)
        return np.asarray(is_on & self._mask[z, y, x])

    def way_out_mm(self, tips_mm: Floats, backwards: Floats) -> Floats:
        out = np.full(len(tips_mm), NEEDLE_MM)
        waiting = np.arange(len(tips_mm))
        for way in np.arange(_STEP_MM, NEEDLE_MM, _STEP_MM):
            left = ~self.inside(tips_mm[waiting] + backwards[waiting] * way)
            out[waiting[left]] = way - _STEP_MM / 2.0
            waiting = waiting[~left]
            if not len(waiting):
                break
        return out
