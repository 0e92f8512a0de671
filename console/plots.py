"""Curves and marks over a whole procedure: deviations by needle, dose-volume histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from controller.result import ProcedureResult
from planning.frame import Floats


@dataclass(frozen=True, eq=False)
class DvhCurve:
    """One structure's cumulative DVH: % of its volume at each of ``dose_gy``, planned and delivered."""

    name: str
    dose_gy: Floats
    planned_pct: Floats
    delivered_pct: Floats | None


def deviation_picture(result: ProcedureResult, tolerance_mm: float) -> Figure:
    """First pass and final tip deviation of every needle."""
    count = len(result.final.needles)
    figure = Figure(figsize=(max(5.0, 1.2 + 0.48 * count), 3.0), layout="constrained")
    draw_deviations(figure.subplots(), result, tolerance_mm)
    return figure


def draw_deviations(axes: Axes, result: ProcedureResult, tolerance_mm: float) -> None:
    """As ``deviation_picture``, into given axes."""
    needles = result.final.needles
    for x, needle in enumerate(needles):
        first, final = needle.first_deviation, needle.deviation
        if first is not None and final is not None:
            axes.annotate(
                "",
                (x, final.total_mm),
                (x, first.total_mm),
                arrowprops={"arrowstyle": "-", "color": "#9aa5b1", "lw": 1.2},
            )
        if first is not None:
            axes.plot(x, first.total_mm, "o", mfc="white", mec="#d1495b", ms=6, mew=1.5)
        if final is not None:
            axes.plot(x, final.total_mm, "s", color="#1d7874", ms=5)
    axes.axhline(tolerance_mm, color="#444", ls="--", lw=1.0)
    axes.set_xticks(range(len(needles)), [needle.name for needle in needles], rotation=60, fontsize=8)
    axes.set_xlim(-0.7, len(needles) - 0.3)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("tip deviation, mm")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=[
            Line2D([], [], marker="o", mfc="white", mec="#d1495b", ls="", label="first pass"),
            Line2D([], [], marker="s", color="#1d7874", ls="", label="final"),
            Line2D([], [], color="#444", ls="--", label=f"tolerance {tolerance_mm:g} mm"),
        ],
        ncols=3,
        frameon=False,
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )


def dvh_picture(curves: Sequence[DvhCurve], prescription_gy: float) -> Figure:
    """Cumulative dose-volume histograms, (planned, delivered) per structure."""
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    draw_dvh(figure.subplots(), curves, prescription_gy)
    return figure


def draw_dvh(axes: Axes, curves: Sequence[DvhCurve], prescription_gy: float) -> None:
    """As ``dvh_picture``, into given axes: planned solid, delivered dashed."""
    colours = iter(["#2b59c3", "#1d7874", "#7b2cbf", "#bc6c25", "#606c38", "#0096c7", "#6c757d", "#9d0208"])
    handles: list[Line2D] = []
    for curve in curves:
        colour = {"GTV": "#d90429", "CTV": "#f77f00"}.get(curve.name) or next(colours, "#333")
        handles += axes.plot(curve.dose_gy, curve.planned_pct, color=colour, lw=1.6, label=curve.name)
        if curve.delivered_pct is not None:
            axes.plot(curve.dose_gy, curve.delivered_pct, color=colour, lw=1.6, ls=(0, (4, 2)))
    axes.axvline(prescription_gy, color="#444", lw=1.0, ls=":")
    axes.set_xlim(0, 3.0 * prescription_gy)
    axes.set_ylim(0, 101)
    axes.set_xlabel("dose, Gy")
    axes.set_ylabel("volume, %")
    axes.spines[["top", "right"]].set_visible(False)
    handles += [
        Line2D([], [], color="#444", lw=1.4, label="planned"),
        Line2D([], [], color="#444", lw=1.4, ls=(0, (4, 2)), label="delivered"),
        Line2D([], [], color="#444", lw=1.0, ls=":", label="prescription"),
    ]
    columns = min(
        5, (len(handles) + 1) // 2
    )  # above the axes: beside the curves there is no place that none crosses
    axes.legend(
        handles=handles,
        ncols=columns,
        frameon=False,
        fontsize=8,
        columnspacing=1.2,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
