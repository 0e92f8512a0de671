"""The pictures of a procedure as PNG or SVG, and the sheet that shows it at a glance.

matplotlib is used without its global state (no pyplot), so that a picture has no influence on the next.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from console.plots import DvhCurve, draw_deviations, draw_dvh
from console.slices import (
    FOUND,
    draw_axial,
    draw_needle,
    draw_needles,
    draw_seeds,
    draw_unplanned_seeds,
    found_seeds,
    target_slices_mm,
)
from controller.result import ProcedureResult, RoundRecord
from planning.plan import PlannedNeedle
from planning.volume import CtVolume

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "seedguide",
}


def png(figure: Figure, *, dpi: int = 120) -> bytes:
    """The figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an SVG element to stand in a page."""
    stream = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def overview_picture(
    result: ProcedureResult,
    curves: Sequence[DvhCurve],
    tolerance_mm: float,
    needle_scan: tuple[RoundRecord, CtVolume, PlannedNeedle] | None,
) -> Figure:
    """Four pictures on one sheet: slice, a needle in the first CT, deviations, DVH."""
    figure = Figure(figsize=(11.0, 7.4), layout="constrained", facecolor="white")
    (slice_axes, needle_axes), (deviation_axes, dvh_axes) = figure.subplots(2, 2)
    z_mm = target_slices_mm(result, 1)[0]
    shown = "Planned" if result.delivered is None else "Delivered"
    draw_axial(slice_axes, result, z_mm, result.delivered or result.planned)
    draw_seeds(slice_axes, *found_seeds(result), result.plan.seed_length_mm, z_mm, FOUND)
    draw_unplanned_seeds(slice_axes, result, z_mm)
    draw_needles(slice_axes, result.plan.needles, z_mm)
    slice_axes.set_title(f"{shown}: GTV, CTV, isodose 50, 100, 150, 200 %", fontsize=9)
    if needle_scan is None:
        needle_axes.set_axis_off()
    else:
        draw_needle(needle_axes, result, *needle_scan)
        needle_axes.set_title(
            f"CT {needle_scan[0].scan_number}, needle {needle_scan[2].name}: planned (+) and found (x)",
            fontsize=9,
        )
    draw_deviations(deviation_axes, result, tolerance_mm)
    draw_dvh(dvh_axes, curves, result.plan.prescription_gy)
    return figure
