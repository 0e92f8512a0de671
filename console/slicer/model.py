"""Surfaces as PLY: bytes. Slicer reads a model's axes from a comment in its head: ``SPACE=LPS`` or ``SPACE=RAS``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from planning.frame import Floats, RigidTransform
from planning.mask import Mask
from planning.volume import Grid

MOST_TRIANGLES = 200_000
"""Slicer turns so many without effort on an office computer (assumed)."""
NEEDLE_RADIUS_MM = 1.27 / 2.0
"""18 G (CLINIC.md)."""
_SIDES = 16


@dataclass(frozen=True, eq=False)
class Surface:
    """Points ``(n, 3)`` in mm and triangles ``(m, 3)``, counted from outside against the clock."""

    points_mm: Floats
    triangles: NDArray[np.int64]

    def moved(self, to_from: RigidTransform) -> Surface:
        return Surface(to_from.apply(self.points_mm), self.triangles)


def surface_of(mask: Mask, grid: Grid) -> Surface | None:
    """The boundary of a mask ``(nz, ny, nx)``, closed at the edges of the grid; None: there is nothing.

    Sampled so coarsely that it has at most ``MOST_TRIANGLES``.
    """
    where = np.argwhere(mask)
    if not len(where):
        return None
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    part, place = mask[box], grid.cropped(box)
    for step in range(1, 33):
        stride = (max(1, round(step * place.spacing_mm[0] / place.spacing_mm[2])), step, step)
        coarse = np.pad(part[tuple(slice(None, None, s) for s in stride)].astype(np.float32), 1)
        points, triangles, _, _ = measure.marching_cubes(coarse, 0.5)  # type: ignore[no-untyped-call]
        if len(triangles) <= MOST_TRIANGLES:
            at = place.point_of((points - 1.0) * np.asarray(stride))
            return Surface(at, np.asarray(triangles, dtype=np.int64))
    return None


def needle_surface(length_mm: float, radius_mm: float = NEEDLE_RADIUS_MM) -> Surface:
    """A needle in its own frame: tip at the origin, a cone of 3 mm (drawn, not measured), its shaft along -z."""
    angles = np.linspace(0.0, 2.0 * np.pi, _SIDES, endpoint=False)
    ring = np.column_stack([radius_mm * np.cos(angles), radius_mm * np.sin(angles), np.zeros(_SIDES)])
    points = np.vstack([[[0, 0, 0]], ring - [0, 0, 3.0], ring - [0, 0, length_mm], [[0, 0, -length_mm]]])
    triangles = []
    for a in range(_SIDES):
        b = (a + 1) % _SIDES
        near_a, near_b, far_a, far_b = 1 + a, 1 + b, 1 + _SIDES + a, 1 + _SIDES + b
        triangles += [[0, near_a, near_b], [near_a, far_a, far_b], [near_a, far_b, near_b]]
        triangles.append([1 + 2 * _SIDES, far_b, far_a])
    return Surface(points.astype(float), np.array(triangles, dtype=np.int64))


def joined(surfaces: list[Surface]) -> Surface:
    """Several as one file."""
    starts = np.cumsum([0, *(len(surface.points_mm) for surface in surfaces)])
    return Surface(
        np.vstack([surface.points_mm for surface in surfaces]),
        np.vstack([s.triangles + start for s, start in zip(surfaces, starts, strict=False)]),
    )


def ply_bytes(surface: Surface, space: Literal["LPS", "RAS"], title: str) -> bytes:
    """Binary PLY, little endian, single precision."""
    head = (
        f"ply\nformat binary_little_endian 1.0\ncomment {title}\ncomment SPACE={space}\n"
        f"element vertex {len(surface.points_mm)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(surface.triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.zeros(len(surface.triangles), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, surface.triangles
    return head.encode("ascii") + np.asarray(surface.points_mm, dtype="<f4").tobytes() + faces.tobytes()
