"""Straight lines through a surface of triangles: where each one crosses it first and second."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from planning.frame import Floats

SAME_MM = 1e-5  # two crossings nearer than this are one, on an edge that two triangles share


def crossings(
    corners_mm: Floats, origins_mm: Floats, directions: Floats, longest_mm: float
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Crossings of rays with triangles.

    Args:
        corners_mm: ``(m, 3, 3)``; origins_mm, directions: ``(n, 3)``, unit vectors.
        longest_mm: crossings farther along a ray don't count.

    Returns:
        Number of crossings ``(n,)``, distance of the first and of the second (inf where there is none).
    """
    count, first, second = _crossings(
        np.ascontiguousarray(corners_mm, dtype=float),
        np.ascontiguousarray(origins_mm, dtype=float),
        np.ascontiguousarray(directions, dtype=float),
        float(longest_mm),
    )
    return count, first, second


@numba.njit(cache=True, nogil=True)
def _crossings(corners, origins, directions, longest):  # type: ignore[no-untyped-def]
    """Moeller and Trumbore 1997, J Graphics Tools 2:21; crossings are kept sorted for up to 32 of them."""
    n = origins.shape[0]
    count = np.zeros(n, dtype=np.int64)
    first, second = np.full(n, np.inf), np.full(n, np.inf)
    found = np.empty(32)
    for r in range(n):
        ox, oy, oz = origins[r, 0], origins[r, 1], origins[r, 2]
        dx, dy, dz = directions[r, 0], directions[r, 1], directions[r, 2]
        hits = 0
        for m in range(corners.shape[0]):
            ax, ay, az = corners[m, 0, 0], corners[m, 0, 1], corners[m, 0, 2]
            ux, uy, uz = corners[m, 1, 0] - ax, corners[m, 1, 1] - ay, corners[m, 1, 2] - az
            vx, vy, vz = corners[m, 2, 0] - ax, corners[m, 2, 1] - ay, corners[m, 2, 2] - az
            px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
            det = ux * px + uy * py + uz * pz
            if abs(det) < 1e-14:
                continue
            sx, sy, sz = ox - ax, oy - ay, oz - az
            u = (sx * px + sy * py + sz * pz) / det
            if u < 0.0 or u > 1.0:
                continue
            qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
            v = (dx * qx + dy * qy + dz * qz) / det
            if v < 0.0 or u + v > 1.0:
                continue
            t = (vx * qx + vy * qy + vz * qz) / det
            if t <= 0.0 or t > longest:
                continue
            known = False
            for h in range(hits):
                known = known or abs(found[h] - t) < SAME_MM
            if known:
                continue
            if hits < 32:
                found[hits] = t
                hits += 1
            if t < first[r]:
                second[r] = first[r]
                first[r] = t
            elif t < second[r]:
                second[r] = t
        count[r] = hits
    return count, first, second
