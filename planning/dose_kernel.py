"""The compiled loops of the fast dose: seeds times points, by look-up in a table over radius and angle.

The table holds dose times r2, so that what is left to interpolate is flat:

* the radial nodes divide each doubling of r2 into 64 steps, so the index is read from the bits of the number
  and the step keeps its relative size at all distances; the radii where the published tables bend
  (0.5, 0.75, 1, 1.5, 2 cm ...) are nodes;
* the angular nodes are uniform in theta, never in cos theta: near the axis cos theta hardly changes while F
  falls to a third. theta = 2 arctan(away / (r + along)), by a polynomial that is as exact on the axis as off it.
  A source that is the same at both ends has a table of one quarter turn.

Points are taken a block at a time through short loops, of which the compiler makes vector
instructions: where the points lie to the seed, which cell of the table that is, then the look-up alone.
Everything is single precision but the sums: those are double, and a seed taken out subtracts the very numbers that
it added. The loops release the GIL; numba's own threading is not used, since it aborts when two Python threads
enter it.

All lengths here are cm, counted from an origin near the seeds.
"""

from __future__ import annotations

import numba
import numpy as np

STEP_BITS = 6  # 64 radial steps per doubling of r2
FIRST_R2_CM2 = 2.0**-10  # r = 0.31 mm, inside the seed; nearer points count as this far
LAST_R2_CM2 = 2.0**12  # r = 64 cm; farther points count as this far
ANGLE_STEPS_PER_DEG = 2
BLOCK = 1024  # points at a time: what the loops hand on stays in the first cache
LANES = 64  # a multiple of what the compiler takes at once: no remainder, so a point's dose is the same in any company

_SHIFT = np.int32(23 - STEP_BITS)
_FIRST = np.int32(np.float32(FIRST_R2_CM2).view(np.int32) >> (23 - STEP_BITS))
_LOW_BITS = np.int32((1 << (23 - STEP_BITS)) - 1)
_PART = np.float32(1.0 / (1 << (23 - STEP_BITS)))
_NEAREST, _FARTHEST = np.float32(FIRST_R2_CM2), np.float32(LAST_R2_CM2)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_HALF_TURN = np.float32(180.0 * ANGLE_STEPS_PER_DEG)

# 2 arctan(t) for t in 0..1, odd in t; minimax, |error| < 4e-6 rad. In steps of the table's angle.
_ARCTAN = (1.9999544378, -0.6652456467, 0.3870806963, -0.2328528253, 0.1052945538, -0.0234382135)
_A0, _A1, _A2, _A3, _A4, _A5 = (np.float32(c * 180.0 / np.pi * ANGLE_STEPS_PER_DEG) for c in _ARCTAN)

_compiled = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")


@_compiled
def _to_seed(x, y, z, centre, axis, along, away2):  # type: ignore[no-untyped-def]
    """Points to one seed: along its axis, and squared distance from it (cross product)."""
    ax, ay, az = axis[0], axis[1], axis[2]
    cx, cy, cz = centre[0], centre[1], centre[2]
    for i in range(x.size):
        dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
        across_x, across_y, across_z = dy * az - dz * ay, dz * ax - dx * az, dx * ay - dy * ax
        along[i] = dx * ax + dy * ay + dz * az
        away2[i] = across_x * across_x + across_y * across_y + across_z * across_z


@_compiled
def _to_polar(along, away2, weight, strength, columns):  # type: ignore[no-untyped-def]
    """In place: ``along`` becomes the angle in steps, ``away2`` r2; ``weight`` is strength / r2."""
    two_sided = columns > _HALF_TURN
    for i in range(along.size):
        r2 = min(max(along[i] * along[i] + away2[i], _NEAREST), _FARTHEST)
        t = min(np.sqrt(away2[i]) / (np.sqrt(r2) + abs(along[i])), _ONE)
        q = t * t
        angle = t * (_A0 + q * (_A1 + q * (_A2 + q * (_A3 + q * (_A4 + q * _A5)))))
        along[i] = _HALF_TURN - angle if two_sided and along[i] < _ZERO else angle
        away2[i] = r2
        weight[i] = strength / r2


@_compiled
def _to_cells(r2_bits, angle, radial_part, columns):  # type: ignore[no-untyped-def]
    """In place: the bits of r2 become the cell's index, ``angle`` the part (0..1) of the way through it."""
    for i in range(angle.size):
        bits = r2_bits[i]
        column = np.int32(angle[i])
        radial_part[i] = np.float32(bits & _LOW_BITS) * _PART
        angle[i] -= np.float32(column)
        r2_bits[i] = ((bits >> _SHIFT) - _FIRST) * columns + column


@_compiled
def _add_cells(table, cell, radial_part, angle_part, weight, columns, total):  # type: ignore[no-untyped-def]
    for i in range(total.size):
        # Unsigned, or each access would first be looked at for a negative index.
        here = np.uint64(np.uint32(cell[i]))
        beyond = here + np.uint64(columns)
        near = table[here] + angle_part[i] * (table[here + np.uint64(1)] - table[here])
        far = table[beyond] + angle_part[i] * (table[beyond + np.uint64(1)] - table[beyond])
        total[i] += weight[i] * (near + radial_part[i] * (far - near))


@_compiled
def add_to_points(table, columns, centres, axes, strength, points, total):  # type: ignore[no-untyped-def]
    """Add the seeds' dose at ``points`` to ``total``.

    Args:
        table: ``float32 (radii * columns,)``, see ``planning.dose.dose_table``; columns: ``int32``.
        centres, axes: ``float32 (n, 3)``; strength: ``float32 (n,)``, negative to take a seed out.
        points: ``float32 (3, m)``; total: ``float64 (m,)``.
    """
    x, y, z = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    along, away2 = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    weight, radial_part = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    cell = away2.view(np.int32)
    for start in range(0, points.shape[1], BLOCK):
        n = min(BLOCK, points.shape[1] - start)
        m = (n + LANES - 1) // LANES * LANES
        x[:n], y[:n], z[:n] = (
            points[0, start : start + n],
            points[1, start : start + n],
            points[2, start : start + n],
        )
        x[n:m], y[n:m], z[n:m] = _ZERO, _ZERO, _ZERO
        for s in range(centres.shape[0]):
            _to_seed(x[:m], y[:m], z[:m], centres[s], axes[s], along[:m], away2[:m])
            _to_polar(along[:m], away2[:m], weight[:m], strength[s], columns)
            _to_cells(cell[:m], along[:m], radial_part[:m], columns)
            _add_cells(table, cell, radial_part, along, weight, columns, total[start : start + n])
