"""How fast dose is computed and kept up to date, beside plain numpy and a plain compiled look-up in the same run.

    python -m benchmarks.dose [--seeds 60] [--voxels 64] [--edits 60]

Prints times, ratios to both peers, how far the fast path is from the direct evaluation, and what one seed added,
moved or taken out costs: dose on the grid, dose in every structure, and all dose-volume figures. CPU times tell what
a loaded machine's wall times hide.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.dose import dose_at_points_gy, dose_matrix_gy, dose_on_grid_gy, dose_per_u_gy
from planning.frame import Floats
from planning.implant_dose import ImplantDose, implant_dose
from planning.samples import Samples
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from planning.volume import Grid

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
POINTS, STRUCTURES = 40_000, 10


def best_of(times: int, work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Shortest wall and CPU time in seconds, and the result."""
    wall = cpu = float("inf")
    result = None
    for _ in range(times):
        start, begun = time.perf_counter(), time.process_time()
        result = work()
        wall, cpu = min(wall, time.perf_counter() - start), min(cpu, time.process_time() - begun)
    return wall, cpu, result


@numba.njit(nogil=True, fastmath=True)
def plain_lookup(table, step_cm, step_rad, centres, axes, strength, x, y, z, dose):  # type: ignore[no-untyped-def]
    """What one writes first: bilinear in distance and angle, a table in even steps, arccos for each pair."""
    for k in range(z.size):
        for j in range(y.size):
            for i in range(x.size):
                total = 0.0
                for s in range(centres.shape[0]):
                    dx, dy, dz = x[i] - centres[s, 0], y[j] - centres[s, 1], z[k] - centres[s, 2]
                    r = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
                    cosine = (dx * axes[s, 0] + dy * axes[s, 1] + dz * axes[s, 2]) / r
                    at_r = min(r / step_cm, table.shape[0] - 1.001)
                    at_theta = np.arccos(min(1.0, abs(cosine))) / step_rad
                    m, n = int(at_r), min(int(at_theta), table.shape[1] - 2)
                    u, v = at_r - m, at_theta - n
                    near = (1.0 - v) * table[m, n] + v * table[m, n + 1]
                    far = (1.0 - v) * table[m + 1, n] + v * table[m + 1, n + 1]
                    total += strength * ((1.0 - u) * near + u * far) / (r * r)
                dose[k, j, i] = total


def plain_table(step_cm: float, step_rad: float) -> Floats:
    r = (step_cm * np.arange(1, int(15.0 / step_cm)))[:, None]
    theta = step_rad * np.arange(round(np.pi / 2 / step_rad) + 1)
    dose = dose_per_u_gy(load_source(), 10.0 * r * np.cos(theta), 10.0 * r * np.sin(theta)) * r**2
    return np.concatenate([dose[:1], dose])


def edits(name: str, implant: ImplantDose, centres: Floats, axes: Floats, count: int) -> None:
    """Print the cost of a seed added, moved, taken out, each followed by all figures."""
    rng = np.random.default_rng(1)
    wall: dict[str, list[float]] = {"added": [], "moved": [], "taken out": [], "all figures": []}
    total: list[tuple[float, float]] = []

    def timed(what: str, work: Callable[[], Any]) -> Any:
        start, begun = time.perf_counter(), time.process_time()
        result = work()
        middle = time.perf_counter()
        implant.figures()
        end = time.perf_counter()
        wall[what].append(middle - start)
        wall["all figures"].append(end - middle)
        total.append((end - start, time.process_time() - begun))
        return result

    implant.figures()
    for _ in range(count // 3):
        k, shift = int(rng.integers(len(centres))), rng.normal(0.0, 4.0, 3)
        number = timed("added", lambda k=k, d=shift: implant.add(centres[k] + d, axes[k], 0.8)[0])
        timed("moved", lambda k=k, d=shift, n=number: implant.move(n, centres[k] - d, axes[k]))
        timed("taken out", lambda n=number: implant.remove(n))
    parts = ", ".join(f"{what} {1e3 * np.median(values):.1f}" for what, values in wall.items())
    both = 1e3 * np.array(total)
    print(
        f"{name}: dose and figures together {np.median(both[:, 0]):.1f} ms wall ({np.median(both[:, 1]):.1f} CPU),"
    )
    print(f"    95 % within {np.percentile(both[:, 0], 95):.1f} ms; medians in ms: {parts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--voxels", type=int, default=64, help="along each edge of the dose grid")
    parser.add_argument("--edits", type=int, default=60)
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
    direct = best_of(1, lambda: dose_at_points_gy(source, *implant, points))
    steps = 0.02, np.radians(1.0)
    table, axes = plain_table(*steps), implant[1] / np.linalg.norm(implant[1], axis=1)[:, None]
    axis_cm = [grid.centres_mm(k) / 10.0 for k in range(3)]
    filled = np.empty(grid.shape)
    arguments = table, *steps, implant[0] / 10.0, axes, implant[2], *axis_cm, filled
    plain_lookup(*arguments[:6], *(each[:1] for each in axis_cm), filled)
    plain = best_of(2, lambda: plain_lookup(*arguments))
    one = best_of(5, lambda: dose_on_grid_gy(source, *implant, grid))
    two = best_of(5, lambda: dose_on_grid_gy(source, *implant, grid, threads=2))
    some = points[rng.integers(0, len(points), 20000)]
    matrix = best_of(3, lambda: dose_matrix_gy(source, *implant, some))

    print(f"{options.seeds} seeds x {n}^3 voxels = {pairs / 1e6:.1f} M pairs, any directions")
    print(f"{'':46}{'wall':>10}{'CPU':>10}{'ns/pair':>9}{'x numpy':>9}{'x plain':>9}")
    for words, (wall, cpu, _), count in (
        ("plain numpy, direct evaluation", direct, pairs),
        ("plain compiled look-up, one thread", plain, pairs),
        ("fast path, one thread", one, pairs),
        ("fast path, two threads", two, pairs),
        ("seed x point matrix, 20000 scattered points", matrix, options.seeds * len(some)),
    ):
        each = cpu / count
        ratios = direct[1] / pairs / each, plain[1] / pairs / each
        print(f"{words:46}{wall:9.3f}s{cpu:9.3f}s{each * 1e9:9.1f}{ratios[0]:9.1f}{ratios[1]:9.1f}")
    print(
        f"ns and ratios are of CPU time; two threads are {one[0] / two[0]:.2f} times as fast as one by the clock"
    )
    print(f"first call (table made, compiled code loaded or compiled): {first_call:.2f} s")
    nearest = np.min([np.linalg.norm(points - centre, axis=1) for centre in implant[0]], axis=0)
    for words, dose in (("fast path", one[2]), ("plain look-up", filled)):
        error = np.abs(dose.ravel() / direct[2] - 1.0)[nearest >= 2.5]
        print(f"{words} against direct from 2.5 mm outwards: largest difference {100 * error.max():.3f} %")

    print("\none seed added, moved or taken out")
    balls = {
        f"S{k}": Samples(rng.normal(size=3) * 12 + rng.uniform(-9, 9, (POINTS, 3)), 1e-4)
        for k in range(STRUCTURES)
    }
    for threads in (1, 2):
        made = ImplantDose(source, grid, balls, 120.0, threads=threads)
        made.add(*implant)
        name = f"{n}^3 voxels, {STRUCTURES} structures of {POINTS} points, {threads} thread(s)"
        edits(name, made, implant[0], implant[1], options.edits)
    if not EXAMPLE.is_dir():
        return
    protocol = load_site_protocol("head-and-neck")
    anatomy = build_anatomy(read_case(EXAMPLE), protocol, target=None, margin_mm=protocol.margin_mm)
    shifted = implant[0] + anatomy.grid.point_of(np.argwhere(anatomy.ctv)).mean(axis=0)
    for threads in (1, 2):
        patient = implant_dose(anatomy, source, 120.0, threads=threads)
        patient.add(shifted, implant[1], implant[2])
        nz, ny, nx = patient.grid.shape
        name = f"the example's {nx} x {ny} x {nz} voxels and {len(patient.figures())} structures, {threads} thread(s)"
        edits(name, patient, shifted, implant[1], options.edits)


if __name__ == "__main__":
    main()
