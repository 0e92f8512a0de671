"""How fast dose is computed, beside plain numpy on the same machine in the same run.

    python -m benchmarks.dose [--seeds 60] [--voxels 64]

Prints times, ratios to plain numpy, and how far the fast path is from the direct evaluation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from planning.dose import dose_at_points_gy, dose_matrix_gy, dose_on_grid_gy
from planning.sources import load_source
from planning.volume import Grid


def best_of(times: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest wall time in seconds, and the result."""
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--voxels", type=int, default=64, help="along each edge of the dose grid")
    options = parser.parse_args()
    n, rng = options.voxels, np.random.default_rng(0)
    grid = Grid((n, n, n), (-n / 2, -n / 2, -n / 2), (1.0, 1.0, 1.0))
    implant = rng.uniform(-20, 20, (options.seeds, 3)), rng.normal(size=(options.seeds, 3)), 0.65 * 1.27
    source = load_source()
    points = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    pairs = options.seeds * len(points)

    start = time.perf_counter()
    dose_on_grid_gy(source, *implant, Grid((1, 1, 1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    first_call = time.perf_counter() - start
    direct_s, direct = best_of(1, lambda: dose_at_points_gy(source, *implant, points))
    one_s, dose = best_of(3, lambda: dose_on_grid_gy(source, *implant, grid))
    two_s, _ = best_of(3, lambda: dose_on_grid_gy(source, *implant, grid, threads=2))
    some = points[rng.integers(0, len(points), 20000)]
    matrix_s, _ = best_of(3, lambda: dose_matrix_gy(source, *implant, some))
    seed_s, _ = best_of(5, lambda: dose_on_grid_gy(source, implant[0][:1], implant[1][:1], implant[2], grid))

    print(f"{options.seeds} seeds x {n}^3 voxels = {pairs / 1e6:.1f} M pairs, any directions")
    print(f"{'':44}{'time':>10}{'ns/pair':>10}{'x numpy':>10}")
    for words, seconds, count in (
        ("plain numpy, direct evaluation", direct_s, pairs),
        ("table lookup, one thread", one_s, pairs),
        ("table lookup, two threads", two_s, pairs),
        ("seed x point matrix, 20000 scattered points", matrix_s, options.seeds * len(some)),
        ("one seed added to the grid", seed_s, len(points)),
    ):
        per_pair = seconds / count
        print(f"{words:44}{seconds:9.3f}s{per_pair * 1e9:10.1f}{direct_s / pairs / per_pair:10.1f}")
    print(f"first call (table made, compiled code loaded or compiled): {first_call:.2f} s")
    nearest = np.min([np.linalg.norm(points - centre, axis=1) for centre in implant[0]], axis=0)
    error = np.abs(dose.ravel() / direct - 1.0)[nearest >= 2.5]
    print(f"fast against direct from 2.5 mm outwards: largest difference {100 * error.max():.3f} %")


if __name__ == "__main__":
    main()
