"""The anatomy as one slice of a scan cuts it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.geometry import Floats
from simulator.projection import Singles, compiled

AIR_HU = -1024.0


@compiled
def anatomy_slice(
    hu: NDArray[np.int16], index_from_pixel: Floats, rows: int, columns: int, heights: Floats
) -> Singles:
    """Trilinear HU of ``hu (slices, rows, columns)`` on a slice, averaged over its thickness.

    Args:
        index_from_pixel: ``(4, 4)``, takes ``(column, row, height)`` of the new slice to ``(column, row, slice)``
            indices of ``hu``.
        rows, columns: of the new slice.
        heights: to average over, in the unit of ``index_from_pixel``.

    Returns:
        float32 ``(rows, columns)``; air beside the images, the last slice repeated beyond their ends.
    """
    out = np.zeros((rows, columns), dtype=np.float32)
    m = index_from_pixel
    nz, ny, nx = hu.shape
    for height in heights:
        for row in range(rows):
            for column in range(columns):
                x = m[0, 0] * column + m[0, 1] * row + m[0, 2] * height + m[0, 3]
                y = m[1, 0] * column + m[1, 1] * row + m[1, 2] * height + m[1, 3]
                z = m[2, 0] * column + m[2, 1] * row + m[2, 2] * height + m[2, 3]
                if x < 0.0 or y < 0.0 or x > nx - 1 or y > ny - 1:
                    out[row, column] += AIR_HU
                    continue
                z = min(max(z, 0.0), nz - 1.0)
                i, j, k = min(int(x), nx - 2), min(int(y), ny - 2), max(min(int(z), nz - 2), 0)
                fx, fy, fz = x - i, y - j, z - k
                up = min(k + 1, nz - 1)
                low = (hu[k, j, i] * (1.0 - fx) + hu[k, j, i + 1] * fx) * (1.0 - fy) + (
                    hu[k, j + 1, i] * (1.0 - fx) + hu[k, j + 1, i + 1] * fx
                ) * fy
                high = (hu[up, j, i] * (1.0 - fx) + hu[up, j, i + 1] * fx) * (1.0 - fy) + (
                    hu[up, j + 1, i] * (1.0 - fx) + hu[up, j + 1, i + 1] * fx
                ) * fy
                out[row, column] += low * (1.0 - fz) + high * fz
    return out / np.float32(len(heights))
