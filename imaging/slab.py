"""A piece of a scan, resampled with one axis along the needles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.sample import across, sample_hu
from planning.frame import Floats
from planning.volume import CtVolume

LATERAL_STEP_MM = 0.7
AXIAL_STEP_MM = 1.5


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
    u, v = across(direction)
    frame = np.stack([u, v, direction])
    local = corners_mm @ frame.T
    low, high = local.min(axis=0), local.max(axis=0)
    us, vs = (np.arange(low[k], high[k] + LATERAL_STEP_MM, LATERAL_STEP_MM) for k in (0, 1))
    ws = np.arange(low[2], high[2] + AXIAL_STEP_MM, AXIAL_STEP_MM)
    plane = vs[:, None, None] * frame[1] + us[:, None] * frame[0]
    hu = np.empty((len(ws), len(vs), len(us)), dtype=np.float32)
    for k, w in enumerate(ws):
        hu[k] = sample_hu(ct, plane + w * frame[2])
    return Slab(np.clip(hu, -150.0, None, out=hu), us, vs, ws, frame)
