"""The picture of a printed template: as the operator sees it, from the side, and its skin side."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from planning.frame import Floats, unit
from planning.template import Template
from planning.template_file import read_stl
from planning.template_view import view_of

PIXEL_MM = 0.14
_BALL, _LASER, _NEEDLE = "#d62728", "#2ca02c", "#1f4e9c"


def template_picture(template: Template) -> Figure:
    """Three views of the part as its STL file holds it, with names, balls and laser planes."""
    corners = read_stl(template.stl, "template.stl")
    figure = Figure(figsize=(15.0, 6.4), layout="constrained", facecolor="white")
    front, side, back = figure.subplots(1, 3)
    # The operator looks along the rig's +z; x to the right, y downwards.
    _draw(
        front, corners, np.eye(3), "as the operator sees it (rig x to the right, y downwards)", grooves=True
    )
    _names(front, template)
    away = unit([0.75, 0.45, 0.55])
    right = unit(np.cross([0.0, 0.0, 1.0], away))
    tilted = np.array([right, np.cross(away, right), away])
    _draw(side, corners, tilted, "from the side, tubes upwards")
    _draw(back, corners, np.diag([-1.0, 1.0, -1.0]), "skin side")
    rules, balls = template.rules, len(template.layout.balls_mm)
    text = (
        f"Template for plan {template.plan_hash[:8].upper()}, patient {template.patient_id}: "
        f"{len(template.guides)} bores of {rules.bore_mm:.2f} mm, {balls} balls of {rules.ball_mm:g} mm (F), mm"
    )
    figure.suptitle(text, fontsize=10)
    return figure


def _draw(axes: Any, corners_mm: Floats, look: Floats, title: str, *, grooves: bool = False) -> None:
    view = view_of(corners_mm, look, PIXEL_MM, grooves=grooves)
    extent = (*view.right_mm, view.down_mm[1], view.down_mm[0])
    axes.imshow(view.shade, extent=extent, cmap="bone", vmin=-0.1, vmax=1.1, interpolation="antialiased")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.set_aspect("equal")


def _names(axes: Any, template: Template) -> None:
    for guide in template.guides:
        axes.annotate(
            guide.hole,
            guide.top_mm[:2],
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=6.0,
            color=_NEEDLE,
            ha="center",
        )
    for number, ball in enumerate(template.layout.balls_mm, start=1):
        axes.plot(*ball[:2], "o", mfc="none", mec=_BALL, ms=11)
        axes.annotate(
            f"F{number}",
            ball[:2],
            xytext=(8, 4),
            textcoords="offset points",
            fontsize=8,
            color=_BALL,
        )
    for cross in template.layout.crosses:
        axes.plot(*cross.middle_mm[:2], "s", mfc="none", mec=_LASER, ms=16, lw=0.8)
