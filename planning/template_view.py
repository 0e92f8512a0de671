"""How a surface of triangles looks from one side: a plain depth buffer with one light, no graphics library."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.ndimage import percentile_filter

from planning.frame import Floats

GROOVE_MM = 0.35  # a groove this deep or deeper is drawn darkest
GROOVE_PIXELS = 13


@dataclass(frozen=True, eq=False)
class View:
    """A picture of a part.

    Attributes:
        shade: ``float (rows, columns)`` 0..1, NaN where nothing is.
        depth_mm: along the looking direction, inf where nothing is.
        right_mm, down_mm: coordinates of the picture's (left, right) and (top, bottom) edges.
    """

    shade: Floats
    depth_mm: Floats
    right_mm: tuple[float, float]
    down_mm: tuple[float, float]


def view_of(corners_mm: Floats, axes: Floats, pixel_mm: float = 0.2, *, grooves: bool = False) -> View:
    """Look at a surface.

    Args:
        corners_mm: ``(m, 3, 3)``; axes: ``(3, 3)`` rows right, down and away from the eye, right-handed.
        grooves: darken what lies in grooves, so that letters can be read (takes a second).
    """
    local = corners_mm @ axes.T
    low = local[..., :2].min(axis=(0, 1)) - 2.0
    high = local[..., :2].max(axis=(0, 1)) + 2.0
    columns, rows = (int(n) for n in np.ceil((high - low) / pixel_mm))
    normal = np.cross(local[:, 1] - local[:, 0], local[:, 2] - local[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.where(length > 0, length, 1.0)
    light = np.array([-0.45, -0.55, -0.70])  # from the upper left, behind the eye
    bright = (0.25 + 0.75 * np.clip(normal @ (light / np.linalg.norm(light)), 0.0, 1.0)).astype(np.float64)
    scaled = (local - [low[0], low[1], 0.0]) / [pixel_mm, pixel_mm, 1.0] - [0.5, 0.5, 0.0]
    depth, owner = _fill(np.ascontiguousarray(scaled), rows, columns)
    shade = np.where(owner >= 0, bright[np.maximum(owner, 0)], np.nan)
    if grooves:  # what lies in one gets less light from all around than the face beside it
        flat = np.where(owner >= 0, depth, depth[owner >= 0].mean())
        groove = np.clip(flat - percentile_filter(flat, 30, GROOVE_PIXELS), 0.0, GROOVE_MM) / GROOVE_MM
        shade = shade * (1.0 - 0.6 * groove)
    return View(
        shade,
        depth,
        (float(low[0]), float(low[0] + columns * pixel_mm)),
        (float(low[1]), float(low[1] + rows * pixel_mm)),
    )


@numba.njit(cache=True, nogil=True)
def _fill(corners, rows, columns):  # type: ignore[no-untyped-def]
    """Nearest depth and triangle of every pixel; ``corners`` in pixels (x, y) and mm (depth)."""
    depth = np.full((rows, columns), np.inf)
    owner = np.full((rows, columns), -1, dtype=np.int64)
    for m in range(corners.shape[0]):
        x0, y0, z0 = corners[m, 0, 0], corners[m, 0, 1], corners[m, 0, 2]
        x1, y1, z1 = corners[m, 1, 0], corners[m, 1, 1], corners[m, 1, 2]
        x2, y2, z2 = corners[m, 2, 0], corners[m, 2, 1], corners[m, 2, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-12:
            continue
        for row in range(max(0, int(np.ceil(min(y0, y1, y2)))), min(rows - 1, int(max(y0, y1, y2))) + 1):
            for column in range(
                max(0, int(np.ceil(min(x0, x1, x2)))), min(columns - 1, int(max(x0, x1, x2))) + 1
            ):
                a = ((x1 - column) * (y2 - row) - (x2 - column) * (y1 - row)) / area
                b = ((x2 - column) * (y0 - row) - (x0 - column) * (y2 - row)) / area
                c = 1.0 - a - b
                if a < -1e-9 or b < -1e-9 or c < -1e-9:
                    continue
                z = a * z0 + b * z1 + c * z2
                if z < depth[row, column]:
                    depth[row, column] = z
                    owner[row, column] = m
    return depth, owner
