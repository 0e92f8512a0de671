"""The kernels of the search in ``planning.placement``: the price of dose, and the best loading of one needle.

Everything is relative to the prescription. ``levels`` is ``float32 (6, n_points)``, the rows of ``DosePoints``:
low, under, high, over, hot, over_hot. ``matrix`` is ``(n_places, n_points)``; the places of needle ``n`` are
``first[n] .. first[n + 1] - 1``. Plain loops, not array expressions: numba takes far longer to compile those.
"""

from __future__ import annotations

import numba
import numpy as np

MOST_IN_ONE_NEEDLE = 64
LEAST_GAIN = np.float32(1e-6)  # smaller gains are rounding


@numba.njit(cache=True, nogil=True, fastmath=True)
def price_of(dose, extra, levels):  # type: ignore[no-untyped-def]
    """Price of the dose ``dose + extra``."""
    zero = np.float32(0.0)
    total = zero
    for m in range(dose.size):
        d = dose[m] + extra[m]
        total += levels[1, m] * max(levels[0, m] - d, zero)
        total += levels[3, m] * max(d - levels[2, m], zero) + levels[5, m] * max(d - levels[4, m], zero)
    return total


@numba.njit(cache=True, nogil=True)
def _add(dose, row, sign):  # type: ignore[no-untyped-def]
    for m in range(dose.size):
        dose[m] += sign * row[m]


@numba.njit(cache=True, nogil=True)
def _copy(target, origin):  # type: ignore[no-untyped-def]
    for m in range(target.size):
        target[m] = origin[m]


@numba.njit(cache=True, nogil=True)
def empty(n, dose, matrix, first, chosen):  # type: ignore[no-untyped-def]
    """Take the seeds of needle ``n`` out of ``chosen`` and ``dose``."""
    for c in range(first[n], first[n + 1]):
        if chosen[c]:
            _add(dose, matrix[c], np.float32(-1.0))
            chosen[c] = False


@numba.njit(cache=True, nogil=True)
def _best_place(dose, matrix, start, end, slot, apart, phase, held, count, levels):  # type: ignore[no-untyped-def]
    """The free place of a needle, of the given phase, that makes dose cheapest; -1 when there is none."""
    pick, lowest = -1, np.float32(1e30)
    for c in range(start, end):
        free = slot[c] % apart == phase
        for h in range(count):
            free = free and held[h] != c
        if free:
            price = price_of(dose, matrix[c], levels)
            if price < lowest:
                pick, lowest = c, price
    return pick, lowest


@numba.njit(cache=True, nogil=True)
def _fill(dose, matrix, start, end, slot, apart, phase, levels, prices, most, held):  # type: ignore[no-untyped-def]
    """Seeds of one phase added while that pays, earlier ones exchanged; returns their number and the price.

    ``dose`` (of all others) is changed; ``held`` gets the places.
    """
    count, price = 0, np.float32(1e30)
    while count < min(most, MOST_IN_ONE_NEEDLE):
        pick, lowest = _best_place(dose, matrix, start, end, slot, apart, phase, held, count, levels)
        fixed = prices[0] + (count + 1) * prices[1]
        if pick < 0 or lowest + fixed >= price - LEAST_GAIN:
            break
        held[count] = pick
        count += 1
        _add(dose, matrix[pick], np.float32(1.0))
        price = lowest + fixed
        for h in range(count - 1):
            _add(dose, matrix[held[h]], np.float32(-1.0))
            pick, lowest = _best_place(dose, matrix, start, end, slot, apart, phase, held, count, levels)
            if pick >= 0 and lowest + fixed < price - LEAST_GAIN:
                held[h] = pick
                price = lowest + fixed
            _add(dose, matrix[held[h]], np.float32(1.0))
    return count, price


@numba.njit(cache=True, nogil=True)
def reload(n, dose, matrix, first, slot, apart, levels, prices, most, chosen, trial, zero):  # type: ignore[no-untyped-def]
    """Give needle ``n`` the best loading found for the dose of all others (also: none, or the one it has).

    Args:
        dose: of everything chosen, kept up to date.
        prices: of a needle and of a seed; most: seeds that the needle may take.
        trial, zero: scratch and zeros, ``(n_points,)``.
    """
    best_held = np.empty(MOST_IN_ONE_NEEDLE, dtype=np.int64)
    best, best_count = price_of(dose, zero, levels), 0
    for c in range(first[n], first[n + 1]):
        if chosen[c] and best_count < MOST_IN_ONE_NEEDLE:
            best_held[best_count] = c
            best_count += 1
    if best_count:
        best += prices[0] + best_count * prices[1]
    empty(n, dose, matrix, first, chosen)
    if best_count:
        without = price_of(dose, zero, levels)
        if without < best - LEAST_GAIN:
            best, best_count = without, 0
    held = np.empty(MOST_IN_ONE_NEEDLE, dtype=np.int64)
    for phase in range(apart):
        _copy(trial, dose)
        count, price = _fill(
            trial, matrix, first[n], first[n + 1], slot, apart, phase, levels, prices, most, held
        )
        if count and price < best - LEAST_GAIN:
            best, best_count = price, count
            for h in range(count):
                best_held[h] = held[h]
    for h in range(best_count):
        chosen[best_held[h]] = True
        _add(dose, matrix[best_held[h]], np.float32(1.0))


@numba.njit(cache=True, nogil=True)
def descend(  # type: ignore[no-untyped-def]
    sequence, shut, dose, matrix, first, slot, apart, clash, levels, prices, limits, chosen, trial, zero
):
    """Reload the needles of ``sequence`` one after the other; returns whether any loading changed.

    Args:
        shut: ``(n_needles,)`` needles that stay as they are.
        clash: ``(n_needles, n_needles)`` pairs too close to be used together.
        limits: most needles and most seeds of the whole implant.
    """
    needles = first.size - 1
    before = np.empty(chosen.size, dtype=np.bool_)
    changed = False
    for n in sequence:
        if shut[n]:
            continue
        used, seeds, blocked = 0, 0, False
        for other in range(needles):
            count = 0
            for c in range(first[other], first[other + 1]):
                count += chosen[c]
            if count and other != n:
                used += 1
                seeds += count
                blocked = blocked or clash[n, other]
        if blocked or used >= limits[0] or seeds >= limits[1]:
            continue
        for c in range(first[n], first[n + 1]):
            before[c] = chosen[c]
        most = limits[1] - seeds
        reload(n, dose, matrix, first, slot, apart, levels, prices, most, chosen, trial, zero)
        for c in range(first[n], first[n + 1]):
            changed = changed or before[c] != chosen[c]
    return changed


@numba.njit(cache=True, nogil=True)
def whole_price(dose, zero, first, chosen, levels, prices):  # type: ignore[no-untyped-def]
    """Price of dose, needles and seeds together."""
    total = price_of(dose, zero, levels)
    for n in range(first.size - 1):
        count = 0
        for c in range(first[n], first[n + 1]):
            count += chosen[c]
        if count:
            total += prices[0] + count * prices[1]
    return total
