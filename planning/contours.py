"""Outlines of a mask's slice, each closed and without holes: a hole is joined to its outline by a keyhole.

Readers disagree about nested contours (filled, cut out, exclusive or), but a single line that runs to the hole,
round it and back means the same to all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from planning.frame import Floats


def outlines(mask: NDArray[np.bool_]) -> list[Floats]:
    """Closed outlines of a ``(ny, nx)`` mask: each ``(n, 2)`` of (row, column) in voxels, not repeating the start.

    They run half-way between the centres of inside and outside voxels.
    """
    # A frame of outside voxels: a structure at the edge of the image gets closed outlines too.
    padded = np.pad(np.asarray(mask, dtype=float), 1)
    rings = [ring[:-1] - 1.0 for ring in measure.find_contours(padded, 0.5)]  # type: ignore[no-untyped-call]
    # Outer rings and holes run opposite ways round; the largest ring is an outer one.
    areas = [_signed_area(ring) for ring in rings]
    if not rings:
        return []
    outward = np.sign(max(areas, key=abs))
    outer = sorted(
        ((abs(a), ring) for a, ring in zip(areas, rings, strict=True) if a * outward > 0), key=lambda p: p[0]
    )
    holes: list[list[Floats]] = [[] for _ in outer]
    for area, ring in zip(areas, rings, strict=True):
        if area * outward < 0:
            # The smallest outline around it is its own: outlines inside holes are smaller but do not hold it.
            owner = next(k for k, (_, line) in enumerate(outer) if _holds(line, ring))
            holes[owner].append(ring)
    return [_with_keyholes(line, inner) for (_, line), inner in zip(outer, holes, strict=True)]


def _holds(line: Floats, ring: Floats) -> bool:
    return bool(measure.points_in_poly(ring[:1], line)[0])  # type: ignore[no-untyped-call]


def _with_keyholes(outline: Floats, holes: list[Floats]) -> Floats:
    remaining = list(holes)
    while remaining:
        # Always the nearest of the remaining holes: the shortest bridge can't cut through another one.
        gaps = [np.linalg.norm(outline[:, None] - hole, axis=2) for hole in remaining]
        nearest = min(range(len(gaps)), key=lambda k: float(gaps[k].min()))
        hole = remaining.pop(nearest)
        i, j = np.unravel_index(int(gaps[nearest].argmin()), gaps[nearest].shape)
        round_trip = np.concatenate([hole[j:], hole[: j + 1]])
        outline = np.concatenate([outline[: i + 1], round_trip, outline[i:]])
    return outline


def _signed_area(ring: Floats) -> float:
    following = np.roll(ring, -1, axis=0)
    return float(0.5 * np.sum(ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]))
