"""CT slices with the plan and what was found drawn in, as matplotlib figures.

Everything is drawn in the plan's patient frame (LPS, mm). Axial slices are seen from the patient's feet, the
patient's left on the right of the picture, as radiologists look at them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates

from controller.result import DoseResult, ProcedureResult, RoundRecord
from planning.frame import Floats, RigidTransform, unit
from planning.plan import PlannedNeedle
from planning.volume import CtVolume

WINDOW_HU = (-160.0, 240.0)
METAL_WINDOW_HU = (-300.0, 900.0)
ISODOSE = {50.0: "#4cc9f0", 100.0: "#f9c74f", 150.0: "#f8961e", 200.0: "#f94144"}
TARGETS = {"GTV": "#ff4d6d", "CTV": "#ffb3c1"}
PLANNED, FOUND, UNPLANNED = "#70e000", "#00f5ff", "#ff00d4"
SLAB_MM = 2.5
"""What lies this near to a drawn plane is drawn in it."""


def axial_picture(result: ProcedureResult, z_mm: float) -> Figure:
    """The slice at ``z_mm``: as planned, and, when there is a last CT, as delivered beside it."""
    panels = 1 if result.delivered is None else 2
    figure = Figure(figsize=(4.6 * panels, 4.6), layout="constrained", facecolor="white")
    planned_mm = result.plan.seed_centres_mm()
    directions = result.plan.seed_directions()
    axes = figure.subplots(1, panels, squeeze=False)[0]
    draw_axial(axes[0], result, z_mm, result.planned)
    draw_needles(axes[0], result.plan.needles, z_mm)
    draw_seeds(axes[0], planned_mm, directions, result.plan.seed_length_mm, z_mm, PLANNED)
    axes[0].set_title(f"Planned, z = {z_mm:.1f} mm", fontsize=9)
    if result.delivered is not None:
        draw_axial(axes[1], result, z_mm, result.delivered)
        draw_seeds(axes[1], planned_mm, directions, result.plan.seed_length_mm, z_mm, PLANNED)
        draw_seeds(axes[1], *found_seeds(result), result.plan.seed_length_mm, z_mm, FOUND)
        draw_unplanned_seeds(axes[1], result, z_mm)
        axes[1].set_title("Delivered", fontsize=9)
    return figure


def draw_axial(axes: Axes, result: ProcedureResult, z_mm: float, dose: DoseResult) -> None:
    """CT slice, outlines of GTV and CTV, isodose lines."""
    ct, anatomy, grid = result.ct, result.anatomy, result.anatomy.grid
    low, high = _around_target(result, margin_mm=35.0)
    x, y = ct.grid.centres_mm(0), ct.grid.centres_mm(1)
    half_x, half_y = ct.grid.spacing_mm[0] / 2, ct.grid.spacing_mm[1] / 2
    axes.imshow(
        ct.hu[_nearest(ct.grid.centres_mm(2), z_mm)],
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        extent=(x[0] - half_x, x[-1] + half_x, y[-1] + half_y, y[0] - half_y),
        interpolation="bilinear",
    )
    for name, mask in (("CTV", anatomy.ctv), ("GTV", anatomy.gtv)):
        plane = mask[_nearest(grid.centres_mm(2), z_mm)]
        if plane.any():
            axes.contour(
                grid.centres_mm(0), grid.centres_mm(1), plane, [0.5], colors=TARGETS[name], linewidths=1.4
            )
    _draw_isodose(axes, dose, z_mm, result.plan.prescription_gy)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(high[1], low[1])
    axes.set_xticks([])
    axes.set_yticks([])


def needle_picture(
    result: ProcedureResult, record: RoundRecord, scan: CtVolume, needle: PlannedNeedle
) -> Figure:
    """The plane of a rescan that holds the planned needle and shows its deviation in full."""
    figure = Figure(figsize=(7.0, 3.4), layout="constrained", facecolor="white")
    draw_needle(figure.subplots(), result, record, scan, needle)
    return figure


def draw_needle(
    axes: Axes, result: ProcedureResult, record: RoundRecord, scan: CtVolume, needle: PlannedNeedle
) -> None:
    """As ``needle_picture``, into given axes: to the right along the needle, upwards the deviation."""
    entry = np.asarray(needle.entry_mm)
    tip = np.asarray(needle.reference_tip_mm if record.kind == "reference" else needle.tip_mm)
    along = needle.direction
    found = record.found_tips_mm.get(needle.name)
    across = _across(along, np.zeros(3) if found is None else np.subtract(found, tip))
    depth = float(np.dot(tip - entry, along))
    s = np.arange(-25.0, depth + 20.0, 0.5)
    t = np.arange(-22.0, 22.1, 0.5)
    points = entry + s[None, :, None] * along + t[:, None, None] * across
    extent = (s[0], s[-1], t[0], t[-1])
    scan_from_plan: RigidTransform = record.scan_from_plan
    image = _sampled(scan, scan_from_plan.apply(points))
    axes.imshow(
        image, cmap="gray", vmin=METAL_WINDOW_HU[0], vmax=METAL_WINDOW_HU[1], extent=extent, origin="lower"
    )
    for name, mask in (("CTV", result.anatomy.ctv), ("GTV", result.anatomy.gtv)):
        index = np.moveaxis(result.anatomy.grid.index_of(points), -1, 0)
        inside = map_coordinates(mask.astype(np.float32), index, order=1, prefilter=False)
        if inside.max() > 0.5:
            axes.contour(s, t, inside, [0.5], colors=TARGETS[name], linewidths=1.2)
    axes.plot([-10, depth], [0, 0], color=PLANNED, lw=1.0)
    axes.plot(depth, 0, "+", color=PLANNED, ms=10, mew=1.6)
    if found is not None:
        heading = unit(record.found_directions[needle.name])
        back = np.asarray(found) - heading * (depth + 10.0)
        line = np.array([back, found]) - entry
        axes.plot(line @ along, line @ across, color=FOUND, lw=1.0, ls=(0, (4, 3)))
        axes.plot(line[1] @ along, line[1] @ across, "x", color=FOUND, ms=8, mew=1.6)
    if record.kind == "seeds":
        _draw_seeds_along(axes, result, needle, entry, along, across)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_aspect("equal")
    axes.set_xlabel("mm behind the skin, along the planned needle", fontsize=8)
    axes.set_ylabel("mm across", fontsize=8)
    axes.tick_params(labelsize=8)


def target_slices_mm(result: ProcedureResult, count: int) -> list[float]:
    """``count`` z positions evenly through the CTV, on slices of the planning CT."""
    z = result.anatomy.grid.centres_mm(2)[result.anatomy.ctv.any(axis=(1, 2))]
    shares = (np.arange(count) + 1) / (count + 1)
    return [float(z[round(share * (len(z) - 1))]) for share in shares]


def _around_target(result: ProcedureResult, margin_mm: float) -> tuple[Floats, Floats]:
    grid = result.anatomy.grid
    found = np.argwhere(result.anatomy.ctv)
    low, high = grid.point_of(found.min(axis=0)) - margin_mm, grid.point_of(found.max(axis=0)) + margin_mm
    centre, half = (low + high) / 2, float((high - low)[:2].max()) / 2
    return centre - half, centre + half


def _draw_isodose(axes: Axes, dose: DoseResult, z_mm: float, prescription_gy: float) -> None:
    position = (z_mm - dose.grid.origin_mm[2]) / dose.grid.spacing_mm[2]
    if not 0 <= position <= dose.grid.shape[0] - 1:
        return
    below = int(position)
    above = min(below + 1, dose.grid.shape[0] - 1)
    share = position - below
    plane = (1 - share) * dose.dose_gy[below] + share * dose.dose_gy[above]
    levels = {pct * prescription_gy / 100: colour for pct, colour in ISODOSE.items()}
    shown = [level for level in levels if plane.min() < level < plane.max()]
    if shown:
        axes.contour(
            dose.grid.centres_mm(0),
            dose.grid.centres_mm(1),
            plane,
            shown,
            colors=[levels[level] for level in shown],
            linewidths=0.9,
        )


def draw_needles(axes: Axes, needles: Iterable[PlannedNeedle], z_mm: float) -> None:
    """The part of each planned needle that lies in the slab."""
    for needle in needles:
        ends = np.array([needle.entry_mm, needle.tip_mm])
        part = _in_slab(ends, z_mm)
        if part is not None:
            axes.plot(part[:, 0], part[:, 1], color="#d8f3dc", lw=0.8, alpha=0.8, solid_capstyle="round")


def draw_seeds(
    axes: Axes, centres_mm: Floats, directions: Floats, length_mm: float, z_mm: float, colour: str
) -> None:
    """The seeds whose centre lies in the slab, as long as they are."""
    for centre, direction in zip(centres_mm, directions, strict=True):
        if abs(centre[2] - z_mm) <= SLAB_MM:
            ends = np.array([centre - direction * length_mm / 2, centre + direction * length_mm / 2])
            axes.plot(ends[:, 0], ends[:, 1], color=colour, lw=2.6, solid_capstyle="round")


def draw_unplanned_seeds(axes: Axes, result: ProcedureResult, z_mm: float) -> None:
    """Seeds of the last CT that match no planned one, near the slice."""
    for x, y, z in result.unplanned_seeds_mm:
        if abs(z - z_mm) <= SLAB_MM:
            axes.plot(x, y, "x", color=UNPLANNED, ms=6, mew=1.6, scalex=False, scaley=False)


def _draw_seeds_along(
    axes: Axes, result: ProcedureResult, needle: PlannedNeedle, entry: Floats, along: Floats, across: Floats
) -> None:
    half = result.plan.seed_length_mm / 2
    for seed in result.seeds:
        if seed.needle != needle.name:
            continue
        at = float(np.dot(np.subtract(seed.planned_mm, entry), along))
        axes.plot([at - half, at + half], [0, 0], color=PLANNED, lw=2.5, solid_capstyle="round")
        if seed.found_mm is not None:
            offset = np.subtract(seed.found_mm, entry)
            axes.plot(offset @ along, offset @ across, "x", color=FOUND, ms=7, mew=1.6)


def found_seeds(result: ProcedureResult) -> tuple[Floats, Floats]:
    """Centres found in the last CT and, for drawing, the planned directions of their needles."""
    pairs = [
        (seed.found_mm, result.plan.needle(seed.needle).direction)
        for seed in result.seeds
        if seed.found_mm is not None
    ]
    return (
        np.array([centre for centre, _ in pairs]).reshape(-1, 3),
        np.array([direction for _, direction in pairs]).reshape(-1, 3),
    )


def _in_slab(ends: Floats, z_mm: float) -> Floats | None:
    """The part of a line between two points ``(2, 3)`` within SLAB_MM of a z; None when there is none."""
    start, run = ends[0], ends[1] - ends[0]
    if abs(run[2]) < 1e-9:
        return ends if abs(start[2] - z_mm) <= SLAB_MM else None
    shares = np.sort((z_mm + np.array([-SLAB_MM, SLAB_MM]) - start[2]) / run[2]).clip(0.0, 1.0)
    return None if shares[0] == shares[1] else start + shares[:, None] * run


def _across(along: Floats, deviation_mm: ArrayLike) -> Floats:
    """The direction across a needle in which it deviates (any, when it doesn't)."""
    deviation = np.asarray(deviation_mm, dtype=float)
    across = deviation - (deviation @ along) * along
    if np.linalg.norm(across) < 0.05:
        axis = np.eye(3)[int(np.argmin(np.abs(along)))]
        across = axis - (axis @ along) * along
    return unit(across)


def _sampled(volume: CtVolume, points_mm: Floats) -> Floats:
    index = np.moveaxis(volume.grid.index_of(points_mm), -1, 0)
    low = np.maximum(np.floor(index.reshape(3, -1).min(axis=1)).astype(int) - 1, 0)
    high = np.ceil(index.reshape(3, -1).max(axis=1)).astype(int) + 2
    box = volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    if box.size == 0:
        return np.full(points_mm.shape[:2], -1000.0)
    shifted = index - low.reshape(3, 1, 1)
    return np.asarray(
        map_coordinates(box.astype(np.float32), shifted, order=1, cval=-1000.0, prefilter=False)
    )


def _nearest(centres: Floats, value: float) -> int:
    return int(np.argmin(np.abs(centres - value)))
