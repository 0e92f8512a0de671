"""A piece of a scan, resampled with one axis along the needles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.sample import across
from planning.frame import Floats, unit
from planning.volume import CtVolume

LATERAL_STEP_MM = 0.7
AXIAL_STEP_MM = 1.5
_AIR_HU = -1024.0


@dataclass(frozen=True, eq=False)
class Slab:
    """The scan resampled along a rough needle direction.

    Attributes:
        hu: ``(w, v, u)`` float32, never below -150 (air looks like fat: only what is brighter matters).
        us, vs, ws: coordinates of the samples, mm, along the rows of ``frame``.
        frame: ``(3, 3)`` rows u, v, w in the patient frame; ``point @ frame.T`` gives (u, v, w).
    """

    hu: NDArray[np.float32]
    us: Floats
    vs: Floats
    ws: Floats
    frame: Floats


def resample(ct: CtVolume, direction: Floats, corners_mm: Floats) -> Slab:
    """The scan along ``direction``, in the box (aligned with it) that holds all ``corners_mm`` ``(n, 3)``."""
    w = unit(direction)
    u, v = across(w)
    frame = np.stack([u, v, w])
    local = corners_mm @ frame.T
    low, high = local.min(axis=0), local.max(axis=0)
    us, vs = (np.arange(low[k], high[k] + LATERAL_STEP_MM, LATERAL_STEP_MM) for k in (0, 1))
    ws = np.arange(low[2], high[2] + AXIAL_STEP_MM, AXIAL_STEP_MM)
    corner = np.array((us[0], vs[0], ws[0])) @ frame
    first, *steps = ct.grid.index_of(
        corner + np.stack([np.zeros(3), AXIAL_STEP_MM * w, LATERAL_STEP_MM * v, LATERAL_STEP_MM * u])
    )
    hu = np.empty((len(ws), len(vs), len(us)), dtype=np.float32)
    _sample(ct.hu, first, np.array(steps) - first, hu)
    return Slab(np.clip(hu, -150.0, None, out=hu), us, vs, ws, frame)


@njit(cache=True)
def _sample(hu: NDArray[np.int16], first: Floats, steps: Floats, out: NDArray[np.float32]) -> None:
    """Trilinear HU at ``first + k steps[0] + j steps[1] + i steps[2]`` (indices) into ``out``; air outside the scan."""
    nz, ny, nx = hu.shape
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = first[0] + k * steps[0, 0] + j * steps[1, 0] + i * steps[2, 0]
                y = first[1] + k * steps[0, 1] + j * steps[1, 1] + i * steps[2, 1]
                x = first[2] + k * steps[0, 2] + j * steps[1, 2] + i * steps[2, 2]
                if not (0.0 <= z <= nz - 1 and 0.0 <= y <= ny - 1 and 0.0 <= x <= nx - 1):
                    out[k, j, i] = _AIR_HU
                    continue
                c, b, a = int(z), int(y), int(x)
                c1, b1, a1 = min(c + 1, nz - 1), min(b + 1, ny - 1), min(a + 1, nx - 1)
                z, y, x = z - c, y - b, x - a
                near = (1.0 - y) * ((1.0 - x) * hu[c, b, a] + x * hu[c, b, a1])
                near += y * ((1.0 - x) * hu[c, b1, a] + x * hu[c, b1, a1])
                far = (1.0 - y) * ((1.0 - x) * hu[c1, b, a] + x * hu[c1, b, a1])
                far += y * ((1.0 - x) * hu[c1, b1, a] + x * hu[c1, b1, a1])
                out[k, j, i] = (1.0 - z) * near + z * far
