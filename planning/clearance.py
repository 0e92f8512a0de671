"""What stands in a needle's way: forbidden structures with their clearances, and rays traced through them.

Two maps of the same thing:

* a coarse one (voxels of about 2.5 mm, distances by EDT) tells quickly which directions are worth a look;
* the exact one is the CT's own voxels, each with the structure it belongs to. A point of a needle's axis keeps
  its clearance when it is that far from every *voxel box* of the structure, not merely from voxel centres.

All coordinates handed to the kernels are the patient frame's (LPS, mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from planning.anatomy import Anatomy
from planning.distance import box_of
from planning.frame import Floats
from planning.mask import Mask
from planning.site_protocol import EntryRules, matches
from planning.volume import Grid

COARSE_MM = 2.5
STEP_MM = 0.5
SAMPLING_SLACK_MM = 0.02  # between two samples 0.5 mm apart the distance dips by h2/8c: 0.016 mm at c = 2 mm

# What ends a ray; positive numbers are structures (index + 1 into ``ClearanceMap.names``).
REACHED_END = 0
LEAVES_BODY = -1
NO_SKIN = -2
NEVER_IN_BODY = -3
NO_ENTRY = -4

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ClearanceMap:
    """Forbidden structures around a target.

    Attributes:
        grid, body, label: the CT's voxels; ``label`` (uint8) is 0 or structure index + 1; where structures
            overlap, the one with the largest clearance, of equals the smaller one.
        names, clearance_mm: of the forbidden structures, by index.
        coarse_grid, coarse_body, slack_mm: the coarse map; ``slack_mm`` (float32) is the smallest of
            (distance - clearance) over all structures.
        coarse_error_mm: a point's true slack is at least the slack of its coarse voxel less this.
        scan_edge_mm: an entry lies at least this far inside the first and last slice.
        no_entry: uint8 on ``grid``: 0, or 1 + index into ``no_entry_names`` of a structure that an entry keeps
            ``no_entry_mm`` from (centre of voxel to centre of voxel).
    """

    grid: Grid
    body: Bytes
    label: Bytes
    names: tuple[str, ...]
    clearance_mm: Floats
    coarse_grid: Grid
    coarse_body: Bytes
    slack_mm: NDArray[np.float32]
    coarse_error_mm: float
    scan_edge_mm: float
    no_entry: Bytes
    no_entry_names: tuple[str, ...] = ()
    no_entry_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class TracedRays:
    """Parallel rays from outside the body; ``t`` is the distance in mm from a ray's own starting point.

    Attributes:
        stop: ``(n,)`` why the ray ends: ``REACHED_END`` ... or structure index + 1.
        entry_t: where the skin is crossed; reach_t: the last point that is inside the body and clear (both
            meaningless when ``stop`` is NO_SKIN or NEVER_IN_BODY).
        zone: of a ray that stops with NO_ENTRY, 1 + index into ``ClearanceMap.no_entry_names``; else 0.
    """

    stop: NDArray[np.int64]
    entry_t: Floats
    reach_t: Floats
    zone: NDArray[np.int64]


def clearance_map(
    grid: Grid,
    body: Mask,
    organs: dict[str, Mask],
    forbidden: dict[str, float],
    scan_edge_mm: float = 0.0,
    *,
    no_entry: tuple[str, ...] = (),
    no_entry_mm: float = 0.0,
) -> ClearanceMap:
    """Maps of the ``forbidden`` (name -> clearance in mm) among ``organs`` (bool arrays on ``grid``).

    Args:
        no_entry: names in ``organs`` that an entry through the skin keeps ``no_entry_mm`` from.
    """
    by_clearance = sorted(forbidden, key=lambda n: (forbidden[n], -int(organs[n].sum()), n))
    if len(by_clearance) > 255:
        raise ValueError("more than 255 forbidden structures")
    label = np.zeros(grid.shape, dtype=np.uint8)
    for index, name in enumerate(by_clearance):
        label[organs[name]] = index + 1
    clearance = np.array([forbidden[name] for name in by_clearance], dtype=float)

    step = [max(1, round(COARSE_MM / grid.spacing_mm[2 - axis])) for axis in range(3)]
    coarse = _thinned(grid, step)
    spacing_zyx = coarse.spacing_mm[::-1]
    slack = np.full(coarse.shape, np.float32(1e6))
    lookup = np.concatenate(([-1.0], clearance))
    for value in np.unique(clearance):
        blocks = _pooled((lookup == value)[label], step)
        if blocks.any():
            distance = distance_transform_edt(~blocks, sampling=spacing_zyx)
            slack = np.minimum(slack, (distance - value).astype(np.float32))
    # A point lies up to half a coarse diagonal from its voxel's centre, and so does the structure's own.
    error = float(np.linalg.norm(coarse.spacing_mm))
    return ClearanceMap(
        grid,
        body.astype(np.uint8),
        label,
        tuple(by_clearance),
        clearance,
        coarse,
        _pooled(body, step).astype(np.uint8),
        slack,
        error,
        scan_edge_mm,
        _zones(grid, [organs[name] for name in no_entry], no_entry_mm),
        no_entry,
        no_entry_mm,
    )


def clearance_of(anatomy: Anatomy, entry: EntryRules) -> ClearanceMap:
    """The maps of a patient, with the places where no needle may enter."""
    zones = tuple(name for name in anatomy.organs if matches(name, entry.keep_out_names))
    return clearance_map(
        anatomy.grid,
        anatomy.body,
        anatomy.organs,
        anatomy.forbidden,
        entry.scan_edge_mm,
        no_entry=zones,
        no_entry_mm=entry.keep_out_mm,
    )


def trace(clearance: ClearanceMap, starts_mm: Floats, direction: Floats, length_mm: float) -> TracedRays:
    """Follow rays ``(n, 3)`` from outside the body along ``direction``, exactly, to the first obstacle."""
    g = clearance.grid
    keep = np.concatenate(([0.0], clearance.clearance_mm)) + SAMPLING_SLACK_MM
    stop, entry, reach = _trace(
        np.ascontiguousarray(starts_mm, dtype=float),
        np.asarray(direction, dtype=float),
        int(np.ceil(length_mm / STEP_MM)),
        np.array(g.origin_mm),
        np.array(g.spacing_mm),
        clearance.body,
        clearance.label,
        keep,
        float(keep.max()),
        np.array(clearance.coarse_grid.origin_mm),
        np.array(clearance.coarse_grid.spacing_mm),
        clearance.slack_mm,
        clearance.coarse_error_mm,
        clearance.scan_edge_mm,
    )
    index = np.floor(g.index_of(starts_mm + entry[:, None] * np.asarray(direction)) + 0.5).astype(int)
    k, j, i = np.clip(index, 0, np.array(g.shape) - 1).T
    entered = (stop != NO_SKIN) & (stop != NEVER_IN_BODY)
    zone = np.where(entered, clearance.no_entry[k, j, i], 0).astype(np.int64)
    return TracedRays(np.where(zone > 0, NO_ENTRY, stop), entry, reach, zone)


def depths_backwards(clearance: ClearanceMap, points_mm: Floats, directions: Floats) -> NDArray[np.float32]:
    """Depth of skin before each point along each direction of insertion, by the coarse map.

    Returns:
        ``(n_directions, n_points)`` mm; NaN where the way is blocked or does not come from free air.
    """
    return np.asarray(
        _depths_backwards(
            np.ascontiguousarray(points_mm, dtype=float),
            np.ascontiguousarray(directions, dtype=float),
            np.array(clearance.coarse_grid.origin_mm),
            np.array(clearance.coarse_grid.spacing_mm),
            clearance.coarse_body,
            clearance.slack_mm,
            min(2.0, min(clearance.coarse_grid.spacing_mm)),
        )
    )


def nearest_mm(clearance: ClearanceMap, start_mm: Floats, stop_mm: Floats, far_mm: float) -> Floats:
    """Distance of each forbidden structure's nearest voxel box from the line start - stop; inf beyond ``far_mm``."""
    g = clearance.grid
    count = int(np.ceil(np.linalg.norm(np.subtract(stop_mm, start_mm)) / STEP_MM)) + 1
    points = np.linspace(start_mm, stop_mm, count)
    index = np.ascontiguousarray(g.index_of(points))
    found = np.full(len(clearance.names) + 1, np.inf)
    _nearest(clearance.label, index, np.array(g.spacing_mm), far_mm, found)
    return found[1:]


def _zones(grid: Grid, masks: list[Mask], keep_mm: float) -> Bytes:
    """Per voxel 1 + index of the first mask that has a voxel's centre within ``keep_mm``, or 0."""
    zones = np.zeros(grid.shape, dtype=np.uint8)
    for n in reversed(range(len(masks))):
        if masks[n].any():
            box = box_of(masks[n], grid, keep_mm)
            near = distance_transform_edt(~masks[n][box], sampling=grid.spacing_mm[::-1]) <= keep_mm
            zones[box][near] = n + 1
    return zones


def _thinned(grid: Grid, step_zyx: list[int]) -> Grid:
    """The grid of blocks of voxels; the last block of an axis may be filled in part only."""
    nz, ny, nx = (-(-n // s) for n, s in zip(grid.shape, step_zyx, strict=True))
    dx, dy, dz = grid.spacing_mm
    sz, sy, sx = step_zyx
    x0, y0, z0 = (
        o + 0.5 * (s - 1) * d for o, s, d in zip(grid.origin_mm, (sx, sy, sz), grid.spacing_mm, strict=True)
    )
    return Grid((nz, ny, nx), (x0, y0, z0), (dx * sx, dy * sy, dz * sz))


def _pooled(mask: Mask, step_zyx: list[int]) -> Mask:
    """True where any voxel of the block is."""
    for axis, s in enumerate(step_zyx):
        if s > 1:
            mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], s), axis=axis)
    return mask


@numba.njit(cache=True, nogil=True)
def _depths_backwards(points, directions, origin, spacing, body, slack, step):  # type: ignore[no-untyped-def]
    nz, ny, nx = body.shape
    depth = np.full((directions.shape[0], points.shape[0]), np.nan, dtype=np.float32)
    for d in range(directions.shape[0]):
        for p in range(points.shape[0]):
            skin = -1.0
            t = 0.0
            while True:
                i = int(np.floor((points[p, 0] - t * directions[d, 0] - origin[0]) / spacing[0] + 0.5))
                j = int(np.floor((points[p, 1] - t * directions[d, 1] - origin[1]) / spacing[1] + 0.5))
                k = int(np.floor((points[p, 2] - t * directions[d, 2] - origin[2]) / spacing[2] + 0.5))
                if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz:
                    if skin > 0.0:  # else the scan ended before the skin was met
                        depth[d, p] = skin
                    break
                if body[k, j, i]:
                    if skin >= 0.0 or slack[k, j, i] < 0.0:
                        break
                elif skin < 0.0:
                    skin = t
                t += step
    return depth


@numba.njit(cache=True, nogil=True)
def _occupied(mask, x, y, z):  # type: ignore[no-untyped-def]
    """Trilinear occupancy of a 0/1 mask at fractional indices; 0 outside."""
    nz, ny, nx = mask.shape
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    total = 0.0
    for dk in range(2):
        for dj in range(2):
            for di in range(2):
                if (
                    0 <= i + di < nx
                    and 0 <= j + dj < ny
                    and 0 <= k + dk < nz
                    and mask[k + dk, j + dj, i + di]
                ):
                    total += (u if di else 1.0 - u) * (v if dj else 1.0 - v) * (w if dk else 1.0 - w)
    return total


@numba.njit(cache=True, nogil=True)
def _blocking(label, keep, far, x, y, z, spacing):  # type: ignore[no-untyped-def]
    """Label of a structure whose voxel boxes come nearer than ``keep[label]`` to a point (indices), or 0."""
    nz, ny, nx = label.shape
    found, found_gap = 0, 0.0
    k0, k1 = max(0, int(np.floor(z - far / spacing[2]))), min(nz - 1, int(np.ceil(z + far / spacing[2])))
    j0, j1 = max(0, int(np.floor(y - far / spacing[1]))), min(ny - 1, int(np.ceil(y + far / spacing[1])))
    i0, i1 = max(0, int(np.floor(x - far / spacing[0]))), min(nx - 1, int(np.ceil(x + far / spacing[0])))
    for k in range(k0, k1 + 1):
        dz = max(0.0, abs(k - z) - 0.5) * spacing[2]
        for j in range(j0, j1 + 1):
            dy = max(0.0, abs(j - y) - 0.5) * spacing[1]
            for i in range(i0, i1 + 1):
                here = label[k, j, i]
                if here:
                    dx = max(0.0, abs(i - x) - 0.5) * spacing[0]
                    gap = np.sqrt(dx * dx + dy * dy + dz * dz) - keep[here]
                    if gap < found_gap:
                        found, found_gap = here, gap
    return found


@numba.njit(cache=True, nogil=True)
def _nearest(label, index, spacing, far, found):  # type: ignore[no-untyped-def]
    """Least distance (mm) from points (z, y, x indices) to each label's voxel boxes, into ``found`` by label."""
    nz, ny, nx = label.shape
    for p in range(index.shape[0]):
        z, y, x = index[p, 0], index[p, 1], index[p, 2]
        k0, k1 = max(0, int(np.floor(z - far / spacing[2]))), min(nz - 1, int(np.ceil(z + far / spacing[2])))
        j0, j1 = max(0, int(np.floor(y - far / spacing[1]))), min(ny - 1, int(np.ceil(y + far / spacing[1])))
        i0, i1 = max(0, int(np.floor(x - far / spacing[0]))), min(nx - 1, int(np.ceil(x + far / spacing[0])))
        for k in range(k0, k1 + 1):
            dz = max(0.0, abs(k - z) - 0.5) * spacing[2]
            for j in range(j0, j1 + 1):
                dy = max(0.0, abs(j - y) - 0.5) * spacing[1]
                for i in range(i0, i1 + 1):
                    here = label[k, j, i]
                    if here:
                        dx = max(0.0, abs(i - x) - 0.5) * spacing[0]
                        gap = np.sqrt(dx * dx + dy * dy + dz * dz)
                        if gap <= far and gap < found[here]:
                            found[here] = gap


@numba.njit(cache=True, nogil=True)
def _trace(  # type: ignore[no-untyped-def]
    starts, direction, steps, origin, spacing, body, label, keep, far, origin2, spacing2, slack, error, edge
):
    nz, ny, nx = body.shape
    n = starts.shape[0]
    stop = np.full(n, NEVER_IN_BODY, dtype=np.int64)
    entry, reach = np.zeros(n), np.zeros(n)
    for ray in range(n):
        inside_before, grid_before = False, False
        for s in range(steps):
            t = s * STEP_MM
            px = starts[ray, 0] + t * direction[0]
            py = starts[ray, 1] + t * direction[1]
            pz = starts[ray, 2] + t * direction[2]
            x, y, z = (
                (px - origin[0]) / spacing[0],
                (py - origin[1]) / spacing[1],
                (pz - origin[2]) / spacing[2],
            )
            in_grid = 0 <= x <= nx - 1 and 0 <= y <= ny - 1 and 0 <= z <= nz - 1
            if not in_grid:
                if inside_before:
                    stop[ray] = LEAVES_BODY
                    break
                grid_before = False
                continue
            inside = _occupied(body, x, y, z) >= 0.5
            if inside and not inside_before:
                to_edge = min(z, nz - 1 - z) * spacing[2]
                if not grid_before or to_edge < edge:
                    stop[ray] = NO_SKIN
                    break
                entry[ray], reach[ray] = t, t
                stop[ray] = REACHED_END
            elif inside_before and not inside:
                stop[ray] = LEAVES_BODY
                break
            if inside:
                i2 = int(np.floor((px - origin2[0]) / spacing2[0] + 0.5))
                j2 = int(np.floor((py - origin2[1]) / spacing2[1] + 0.5))
                k2 = int(np.floor((pz - origin2[2]) / spacing2[2] + 0.5))
                if slack[k2, j2, i2] < error + SAMPLING_SLACK_MM:
                    blocked = _blocking(label, keep, far, x, y, z, spacing)
                    if blocked:
                        stop[ray] = blocked
                        break
                reach[ray] = t
            inside_before, grid_before = inside, True
    return stop, entry, reach
