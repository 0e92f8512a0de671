"""What needles look like in the voxels of a CT: blurred lines, averaged over slices.

Nothing is interpolated between slices: a thick slice cuts a slanting needle into steps, and only a model that averages
over the slice as the scanner does puts the line through the middle of the steps. A needle is a line with one gentle
bend (``axis``) whose brightness is free along it, because neighbours starve it. Its image is Gaussian across, with the
scanner's blur in the image plane and the needle's own radius across it, integrated over the slice's box in closed form
(a difference of two error functions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.axis import basis
from planning.frame import Floats
from planning.volume import CtVolume

REACH_MM = 3.2  # in the image plane: voxels this near to a line take part
OWN_RADIUS_MM = 0.35  # 1 sigma of a needle's cross-section across the slices
COARSEST_PIXEL_MM = (
    1.0  # finer ones are left out as long as this is not exceeded: they tell hardly more about a line
)
LEAST_HU = -150.0  # air looks like fat: only what is brighter matters


@dataclass(frozen=True, eq=False)
class Lines:
    """Needles as lines, in the coordinates of a slab (u, v across, w along).

    Attributes:
        skin_w_mm: where the bend begins.
        curves: ``(n, 3, 2)``, see :class:`imaging.axis.Axis`.
        ends_w_mm: ``(n,)`` how far each is believed; beyond, it says nothing about its curve.
    """

    skin_w_mm: float
    curves: Floats
    ends_w_mm: Floats

    def places(self, ws_mm: Floats) -> Floats:
        """``(n, len(ws), 2)``."""
        return np.asarray(np.einsum("wi,nij->nwj", basis(ws_mm, self.skin_w_mm), self.curves))

    def only(self, which: NDArray[np.bool_]) -> Lines:
        """Some of them."""
        return Lines(self.skin_w_mm, self.curves[which].copy(), self.ends_w_mm[which].copy())


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels near lines, sorted by bin.

    Attributes:
        at: ``(m, 3)`` in slab coordinates.
        hu: ``(m,)``.
        first: ``(bins + 1,)`` where each bin begins.
        bin_w_mm: ``(bins,)`` middles.
        index: ``(m, 3)`` (slice, row, column).
    """

    at: Floats
    hu: Floats
    first: NDArray[np.int64]
    bin_w_mm: Floats
    index: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Blur:
    """How the scanner blurs.

    Attributes:
        in_plane_mm: 1 sigma in the image plane.
        slice_mm: thickness of the slices.
        frame: ``(3, 3)``, the slab's.
        own_mm: 1 sigma of a needle across the slices, before the slice.
    """

    in_plane_mm: float
    slice_mm: float
    frame: Floats
    own_mm: float = OWN_RADIUS_MM

    def tables(self, slopes: Floats) -> Floats:
        """Per line what :func:`share` needs, ``(n, 9)``: M (3), q (2), a, k, half slice, 1 / peak."""
        blur = np.diag([self.in_plane_mm**2, self.in_plane_mm**2, self.own_mm**2])
        rows = []
        for slope in slopes:
            project = self.frame[:2] - np.outer(slope, self.frame[2])
            m = np.linalg.inv(project @ blur @ project.T)
            q = project[:, 2]
            a = max(float(q @ m @ q), 1e-4)
            k, half = math.sqrt(a / 2.0), self.slice_mm / 2.0
            rows.append([m[0, 0], m[0, 1], m[1, 1], *q, a, k, half, 1.0 / (2.0 * math.erf(k * half))])
        return np.array(rows).reshape(-1, 9)


def voxels_near(
    ct: CtVolume,
    frame: Floats,
    lines: Lines,
    low_w_mm: float,
    high_w_mm: float,
    bin_mm: float,
    slice_mm: float,
    reach_mm: float = REACH_MM,
) -> Voxels:
    """The voxels that any of the lines may brighten, between two depths, in bins of ``bin_mm``."""
    count = max(int(np.ceil((high_w_mm - low_w_mm) / bin_mm)), 1)
    ws = np.arange(low_w_mm, high_w_mm + 0.5, 1.0)
    places = lines.places(ws)
    centres = np.concatenate([np.column_stack([place, ws]) for place in places]) @ frame
    box = ct.grid.box(centres.min(axis=0) - reach_mm - slice_mm, centres.max(axis=0) + reach_mm + slice_mm)
    part = ct.grid.cropped(box)
    near = np.zeros(part.shape, dtype=np.bool_)
    if near.size:
        dx, dy, dz = ct.grid.spacing_mm
        steps = np.array([max(1, int(COARSEST_PIXEL_MM / d)) for d in (dy, dx)])
        reach = np.array((slice_mm / 2.0 + reach_mm - 2.2, reach_mm, reach_mm)) / (dz, dy, dx)
        _mark(near, np.asarray(part.index_of(centres), dtype=float), reach, steps)
    index = np.argwhere(near)
    at = part.point_of(index) @ frame.T
    bins = np.floor((at[:, 2] - low_w_mm) / bin_mm).astype(np.int64)
    used = np.flatnonzero((bins >= 0) & (bins < count))
    used = used[np.argsort(bins[used], kind="stable")]
    index, at, bins = index[used], at[used], bins[used]
    hu = np.maximum(ct.hu[box][tuple(index.T)].astype(float), LEAST_HU)
    first = np.searchsorted(bins, np.arange(count + 1))
    index = index + [side.start for side in box]
    middles = np.asarray(low_w_mm + bin_mm * (np.arange(count) + 0.5), dtype=float)
    return Voxels(np.ascontiguousarray(at), hu, first, middles, index)


@njit(cache=True)
def _mark(near: NDArray[np.bool_], centres: Floats, reach: Floats, steps: NDArray[np.int64]) -> None:
    nz, ny, nx = near.shape
    for n in range(len(centres)):
        z, y, x = centres[n]
        for k in range(max(math.ceil(z - reach[0]), 0), min(math.floor(z + reach[0]), nz - 1) + 1):
            for j in range(max(math.ceil(y - reach[1]), 0), min(math.floor(y + reach[1]), ny - 1) + 1):
                if j % steps[0]:
                    continue
                for i in range(max(math.ceil(x - reach[2]), 0), min(math.floor(x + reach[2]), nx - 1) + 1):
                    if i % steps[1] == 0:
                        near[k, j, i] = True


def rendered_hu(points: Floats, lines: Lines, heights: Floats, bin_w_mm: Floats, blur: Blur) -> Floats:
    """What lines add at points ``(m, 3)`` (slab coordinates): ``(n, m)``, unclipped, without background."""
    tables = blur.tables(lines.curves[:, 1])
    places = lines.places(points[:, 2])
    out = np.empty((len(heights), len(points)))
    for n in range(len(heights)):
        bright = shares(points[:, :2] - places[n], tables[n])
        out[n] = bright * np.interp(points[:, 2], bin_w_mm, heights[n])
    return out


@njit(cache=True)
def shares(offset: Floats, table: Floats) -> Floats:
    """:func:`share` at ``(n, 2)``."""
    out = np.empty(len(offset))
    for m in range(len(offset)):
        out[m] = share(offset[m, 0], offset[m, 1], table)[0]
    return out


@njit(cache=True)
def share(u: float, v: float, table: Floats) -> tuple[float, float, float]:
    """Brightness at ``(u, v)`` beside a line, 1 on a line in the middle of a slice, and its two derivatives."""
    m00, m01, m11, q0, q1, a, k, half, scale = table
    mu, mv = m00 * u + m01 * v, m01 * u + m11 * v
    nu, nv = m00 * q0 + m01 * q1, m01 * q0 + m11 * q1
    b = q0 * mu + q1 * mv
    c = u * mu + v * mv
    near = b / a
    exponent = 0.5 * (c - b * near)
    if exponent > 20.0:
        return 0.0, 0.0, 0.0
    across = math.exp(-exponent) * scale
    one, two = k * (half + near), k * (near - half)
    width = math.erf(one) - math.erf(two)
    edge = 1.1283791670955126 * k * (math.exp(-one * one) - math.exp(-two * two)) / a
    return (
        across * width,
        across * (edge * nu - width * (mu - near * nu)),
        across * (edge * nv - width * (mv - near * nv)),
    )
