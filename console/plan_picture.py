"""One picture of a plan: three slices through the target with dose and seeds, and the dose-volume curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from console.plots import DvhCurve, draw_dvh
from console.slices import ISODOSE, PLANNED, TARGETS, WINDOW_HU, draw_needles, draw_seeds
from planning.anatomy import Anatomy
from planning.dicom import Case
from planning.dose_box import dose_box
from planning.dvh import StructureStatistics, dvh_curve
from planning.plan import Plan
from planning.volume import Grid

ROOM_MM = 35.0  # shown around the target
MOST_CURVES = 7


def write_plan_picture(
    path: Path,
    case: Case,
    anatomy: Anatomy,
    plan: Plan,
    dose: NDArray[np.float32],
    grid: Grid,
    statistics: dict[str, StructureStatistics],
) -> None:
    """Write a PNG; ``dose`` is the plan's, on ``grid``."""
    figure = Figure(figsize=(13.0, 9.0), layout="constrained", facecolor="white")
    layout = figure.add_gridspec(2, 3, height_ratios=(1.15, 1.0))
    planes = np.flatnonzero(anatomy.ctv.any(axis=(1, 2)))
    for column, share in enumerate((0.25, 0.5, 0.75)):
        k = int(planes[round(share * (len(planes) - 1))])
        _draw_slice(figure.add_subplot(layout[0, column]), case, anatomy, plan, dose, grid, k)
    curves = _curves(anatomy, plan, dose, grid, statistics)
    draw_dvh(figure.add_subplot(layout[1, :]), curves, plan.prescription_gy)
    figure.savefig(path, dpi=110)


def _draw_slice(
    axes: Axes, case: Case, anatomy: Anatomy, plan: Plan, dose: NDArray[np.float32], grid: Grid, k: int
) -> None:
    full = anatomy.grid
    x, y, z_mm = full.centres_mm(0), full.centres_mm(1), float(full.centres_mm(2)[k])
    axes.imshow(
        case.ct.hu[k],
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        extent=(x[0], x[-1], y[-1], y[0]),
        interpolation="bilinear",
    )
    for name, mask in (("CTV", anatomy.ctv), ("GTV", anatomy.gtv)):
        if mask[k].any():
            axes.contour(x, y, mask[k], [0.5], colors=TARGETS[name], linewidths=1.4)
    plane = dose[int(np.argmin(np.abs(grid.centres_mm(2) - z_mm)))]
    levels = {pct * plan.prescription_gy / 100: colour for pct, colour in ISODOSE.items()}
    shown = [level for level in levels if plane.min() < level < plane.max()]
    if shown:
        colours = [levels[level] for level in shown]
        axes.contour(grid.centres_mm(0), grid.centres_mm(1), plane, shown, colors=colours, linewidths=0.9)
    draw_needles(axes, plan.needles, z_mm)
    draw_seeds(axes, plan.seed_centres_mm(), plan.seed_directions(), plan.seed_length_mm, z_mm, PLANNED)
    found = full.point_of(np.argwhere(anatomy.ctv))
    low, high = found.min(axis=0) - ROOM_MM, found.max(axis=0) + ROOM_MM
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(high[1], low[1])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"z = {z_mm:.1f} mm", fontsize=9)


def _curves(
    anatomy: Anatomy,
    plan: Plan,
    dose: NDArray[np.float32],
    grid: Grid,
    statistics: dict[str, StructureStatistics],
) -> list[DvhCurve]:
    """The target's and the most irradiated organs' curves."""
    box, stride = dose_box(anatomy)
    z, y, x = (slice(b.start, b.stop, s) for b, s in zip(box, stride, strict=True))
    masks = {**anatomy.organs, "CTV": anatomy.ctv, "GTV": anatomy.gtv}
    organs = sorted((n for n in statistics if n not in ("CTV", "GTV")), key=lambda n: -statistics[n].mean_gy)
    names = [n for n in ("GTV", "CTV") if n in statistics] + organs
    levels = np.linspace(0.0, 3.0 * plan.prescription_gy, 301)
    return [
        DvhCurve(name, levels, dvh_curve(name, masks[name][z, y, x], dose, grid, levels), None)
        for name in names[:MOST_CURVES]
    ]
