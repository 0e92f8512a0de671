"""One needle of one CT as a picture: two slices through its axis and the one across its tip.

Everything in the scan's own patient frame (LPS, mm). Along the needle the picture runs from the hub side (left) to
the tip; the planned needle is drawn as planned, whether or not one was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from console.slices import FOUND, METAL_WINDOW_HU, PLANNED
from imaging.detected import DetectedNeedle, Placed
from imaging.sample import across, sample_hu
from planning.frame import Floats, unit
from planning.volume import CtVolume

STEP_MM = 0.4
BESIDE_MM = 18.0
BEYOND_MM = 18.0
OUTSIDE_MM = 20.0
SHORTEST_MM = 40.0


@dataclass(frozen=True, eq=False)
class _View:
    """Axes of the picture: origin at the tip, ``along`` towards it."""

    tip: Floats
    along: Floats
    sides: tuple[Floats, Floats]
    behind_mm: float

    def of(self, point: Floats, side: Floats) -> tuple[float, float]:
        offset = point - self.tip
        return float(offset @ self.along), float(offset @ side)


def needle_picture(scan: CtVolume, name: str, needle: DetectedNeedle | None, place: Placed | None) -> Figure:
    """The picture of a needle that was found, planned, or both (at least one of them is given)."""
    view = _view(needle, place)
    figure = Figure(figsize=(11.0, 6.4), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, width_ratios=[2.6, 1.0])
    for row, side in enumerate(view.sides):
        _draw_along(figure.add_subplot(grid[row, 0]), scan, view, side, needle, place, f"side {row + 1}")
    _draw_across(figure.add_subplot(grid[0, 1]), scan, view, needle, place)
    words = figure.add_subplot(grid[1, 1])
    words.set_axis_off()
    words.text(0.0, 1.0, "\n".join(_words(name, needle, place)), va="top", fontsize=9, family="monospace")
    return figure


def _view(needle: DetectedNeedle | None, place: Placed | None) -> _View:
    if needle is not None:
        tip, along = np.asarray(needle.tip_mm), unit(needle.direction)
        behind = float(np.linalg.norm(tip - np.asarray(needle.entry_mm))) + OUTSIDE_MM
    else:
        assert place is not None
        tip, along, behind = np.asarray(place.point_mm), unit(place.direction), 80.0
    first, second = across(along)
    if needle is not None and place is not None:  # the first side shows the lateral deviation in full
        offset = np.asarray(place.point_mm) - tip
        lateral = offset - (offset @ along) * along
        if np.linalg.norm(lateral) > 0.05:
            first = unit(lateral)
            second = np.cross(along, first)
    return _View(tip, along, (first, second), max(behind, SHORTEST_MM))


def _draw_along(
    axes: Axes,
    scan: CtVolume,
    view: _View,
    side: Floats,
    needle: DetectedNeedle | None,
    place: Placed | None,
    title: str,
) -> None:
    s = np.arange(-view.behind_mm, BEYOND_MM + STEP_MM / 2, STEP_MM)
    t = np.arange(-BESIDE_MM, BESIDE_MM + STEP_MM / 2, STEP_MM)
    points = view.tip + s[None, :, None] * view.along + t[:, None, None] * side
    _show(axes, sample_hu(scan, points), (s[0], s[-1], t[0], t[-1]))
    if place is not None:
        end, direction = np.asarray(place.point_mm), unit(place.direction)
        _line(axes, view, side, end, direction, PLANNED, "-", "+")
    if needle is not None:
        _line(axes, view, side, np.asarray(needle.tip_mm), unit(needle.direction), FOUND, (0, (4, 4)), "x")
    axes.set_xlim(s[0], s[-1])
    axes.set_ylim(t[0], t[-1])
    axes.set_title(f"along the needle, {title}", fontsize=9)
    axes.set_xlabel("mm from the tip", fontsize=8)


def _line(
    axes: Axes,
    view: _View,
    side: Floats,
    tip: Floats,
    direction: Floats,
    colour: str,
    style: str | tuple[int, tuple[int, ...]],
    mark: str,
) -> None:
    ends = [view.of(tip - view.behind_mm * direction, side), view.of(tip, side)]
    axes.plot(*zip(*ends, strict=True), color=colour, lw=0.9, ls=style)
    axes.plot(*ends[1], mark, color=colour, ms=10, mew=1.6)


def _draw_across(
    axes: Axes, scan: CtVolume, view: _View, needle: DetectedNeedle | None, place: Placed | None
) -> None:
    t = np.arange(-10.0, 10.0 + STEP_MM / 2, STEP_MM)
    first, second = view.sides
    back = view.tip - 2.0 * view.along
    points = back + t[None, :, None] * first + t[:, None, None] * second
    _show(axes, sample_hu(scan, points), (t[0], t[-1], t[0], t[-1]))
    for shown, colour, mark in (
        (None if place is None else place.point_mm, PLANNED, "+"),
        (None if needle is None else needle.tip_mm, FOUND, "x"),
    ):
        if shown is not None:
            offset = np.asarray(shown) - view.tip
            axes.plot(offset @ first, offset @ second, mark, color=colour, ms=10, mew=1.6)
    axes.set_xlim(t[0], t[-1])
    axes.set_ylim(t[0], t[-1])
    axes.set_title("across, 2 mm behind the tip", fontsize=9)


def _show(axes: Axes, image: NDArray[np.float32], extent: tuple[float, float, float, float]) -> None:
    low, high = METAL_WINDOW_HU
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent, origin="lower")
    axes.set_aspect("equal")
    axes.tick_params(labelsize=8)


def _words(name: str, needle: DetectedNeedle | None, place: Placed | None) -> list[str]:
    lines = [f"needle {name}", ""]
    if place is not None:
        lines += ["+ planned tip (green)", "  " + _point(place.point_mm)]
    if needle is None:
        return [*lines, "", "not seen in this CT"]
    lines += ["x found tip (cyan)", "  " + _point(needle.tip_mm), f"  1 sigma {needle.sigma_mm:.2f} mm"]
    if needle.apart is not None:
        apart = needle.apart
        lines += [
            "",
            f"apart   {apart.total_mm:.2f} mm (1 sigma {apart.sigma_mm:.2f})",
            f"lateral {apart.lateral_mm:.2f} mm",
            f"depth   {apart.depth_mm:+.2f} mm",
            f"angle   {apart.angle_deg:.2f} deg",
            f"2 mm:   {apart.verdict.value}",
        ]
    return lines


def _point(point: tuple[float, float, float]) -> str:
    return "({:.1f}, {:.1f}, {:.1f}) mm".format(*point)
