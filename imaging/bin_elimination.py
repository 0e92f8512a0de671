"""Heights and backgrounds eliminated from a bin's equations (Schur complement), and found again afterwards."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from planning.frame import Floats


@njit(cache=True, fastmath=True, error_model="numpy")
def eliminate(local: Floats, right: Floats, curvature: Floats, gradient: Floats, bin_basis: Floats) -> None:
    """Turn equations as :func:`imaging.rod_kernel.line_equations` returns them into those of the curves alone.

    In their place: ``local`` becomes its Cholesky factor, ``right`` is divided by it; ``curvature`` and ``gradient``
    (unless empty) become what they are when heights and grounds follow. ``bin_basis`` ``(bins, 3)`` is what place,
    slope and bend add in the middle of a bin.
    """
    for k in range(len(local)):
        _divide(local[k], right[k])
        if curvature.shape[1]:
            _reduce(right[k], curvature[k], gradient, bin_basis[k])


@njit(cache=True, fastmath=True, error_model="numpy")
def _divide(local: Floats, right: Floats) -> None:
    """Cholesky factor of ``local`` in its place (lower half), and ``right`` divided by it.

    A row's leading zeros stay zero and are skipped: only lines that stand beside each other couple.
    """
    size, columns = right.shape
    begins = np.empty(size, dtype=np.int64)
    for i in range(size):
        begin = 0
        while local[i, begin] == 0.0:
            begin += 1
        begins[i] = begin
        for j in range(begin, i):
            total = local[i, j]
            for m in range(max(begin, begins[j]), j):
                total -= local[i, m] * local[j, m]
            local[i, j] = total / local[j, j]
        total = local[i, i]
        for m in range(begin, i):
            total -= local[i, m] ** 2
        local[i, i] = math.sqrt(total)
        for j in range(begin, i):
            factor = local[i, j]
            for c in range(columns):
                right[i, c] -= factor * right[j, c]
        factor = 1.0 / local[i, i]
        for c in range(columns):
            right[i, c] *= factor


@njit(cache=True, fastmath=True, error_model="numpy")
def _reduce(right: Floats, curvature: Floats, gradient: Floats, basis: Floats) -> None:
    """Take what heights and grounds explain out of curvature and gradient."""
    size = len(curvature)
    for i in range(size):
        for p in range(size):
            factor = right[i, p]
            if factor != 0.0:
                for r in range(p + 1):
                    curvature[p, r] -= factor * right[i, r]
                factor *= right[i, size]
                for j in range(3):
                    gradient[3 * p + j] -= factor * basis[j]


@njit(cache=True, fastmath=True, error_model="numpy")
def followed(local: Floats, right: Floats, moved_mm: Floats) -> Floats:
    """``(bins, 2n)``: how heights and grounds change, by turns, when lines move by ``moved_mm`` ``(bins, 2n)``.

    ``local`` and ``right`` as :func:`eliminate` leaves them.
    """
    bins, size, columns = right.shape
    out = np.empty((bins, size))
    for k in range(bins):
        for i in range(size):
            total = right[k, i, columns - 1]
            for c in range(columns - 1):
                total -= right[k, i, c] * moved_mm[k, c]
            out[k, i] = total
        for i in range(size - 1, -1, -1):
            out[k, i] /= local[k, i, i]
            for j in range(i):
                out[k, j] -= local[k, i, j] * out[k, i]
    return out
