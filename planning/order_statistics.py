"""Values at given ranks without sorting: for dose-volume figures many times a second.

The values are counted into bins by the leading bits of the number (128 bins to an octave), the bins that hold a
wanted rank are collected and only these few are sorted. Exact: bins never overlap.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from planning.frame import Floats

_BITS = 16  # of a single-precision number left out of its bin
_compiled = numba.njit(cache=True, nogil=True)


def at_ranks(values: Floats, ranks: NDArray[np.intp]) -> Floats:
    """``np.sort(values)[ranks]`` of ``float64 (n,)``, 0 <= values < 1e38; ranks 0 .. n - 1."""
    # -0.0 + 0.0 is +0.0, whose bits are in order.
    keys = (np.asarray(values, dtype=np.float32) + np.float32(0.0)).view(np.int32) >> _BITS
    first = int(keys.min())
    counts = np.zeros(int(keys.max()) - first + 1, dtype=np.int64)
    _count(keys, first, counts)
    upto = np.cumsum(counts)
    holds = np.searchsorted(upto, ranks, side="right")
    wanted = np.zeros(len(counts), dtype=np.bool_)
    wanted[holds] = True
    few = np.empty(int(counts[wanted].sum()))
    _collect(values, keys, first, wanted, few)
    few.sort()
    # How many values lie below a bin and were not collected.
    left_out = np.cumsum(np.where(wanted, 0, counts))
    return np.asarray(few[ranks - left_out[holds]])


@_compiled
def _count(keys, first, counts):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        counts[np.uint64(keys[i] - first)] += 1


@_compiled
def _collect(values, keys, first, wanted, few):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(values.size):
        if wanted[np.uint64(keys[i] - first)]:
            few[n] = values[i]
            n += 1
