"""What the rig's scripts ask of either geometry: the coplanar rig's three axes, or the oblique one's five. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.grbl import Axes
from drivers.kinematics import (
    RigConfig,
    Triple,
    machine_from_rig,
    rig_from_machine,
    why_not_across,
    why_not_depth,
)
from drivers.kinematics_oblique import (
    GuideLine,
    ObliqueConfig,
    line_from_machine,
    machine_from_line,
    why_not_depth_along,
    why_not_line,
)

Z = 2
STRAIGHT: Triple = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Place:
    """Guide and tip, rig frame: (x, y) where the guide line crosses z = 0, the tip's depth along it, its direction."""

    x_mm: float
    y_mm: float
    z_mm: float
    direction: Triple

    @property
    def line(self) -> GuideLine:
        return GuideLine(self.x_mm, self.y_mm, self.direction)


def place_of(config: RigConfig, axes_mm: Axes) -> Place:
    """Where guide and tip are with these axes."""
    if isinstance(config, ObliqueConfig):
        x, y, z, a, b = axes_mm
        line, depth_mm = line_from_machine(config, (x, y, z, a, b))
        return Place(line.x_mm, line.y_mm, depth_mm, line.direction)
    x, y, z = axes_mm
    return Place(*rig_from_machine(config, (x, y, z)), STRAIGHT)


def axes_for_line(config: RigConfig, line: GuideLine, z_axis_mm: float) -> Axes:
    """Axes that set the guide; the carriage stays."""
    if isinstance(config, ObliqueConfig):
        x, y, _, a, b = machine_from_line(config, line, 0.0)
        return x, y, z_axis_mm, a, b
    x, y, _ = machine_from_rig(config, (line.x_mm, line.y_mm, 0.0))
    return x, y, z_axis_mm


def axes_for_depth(config: RigConfig, axes_mm: Axes, depth_mm: float) -> Axes:
    """Axes that send the tip to this depth on the present guide line."""
    if isinstance(config, ObliqueConfig):
        z_axis_mm = axes_mm[Z] + place_of(config, axes_mm).z_mm - depth_mm
    else:
        z_axis_mm = config.offset_z_mm - depth_mm
    return (*axes_mm[:Z], z_axis_mm, *axes_mm[Z + 1 :])


def home_depth_mm(config: RigConfig, axes_mm: Axes) -> float:
    """The tip's depth with the carriage at home, on the present guide line."""
    return place_of(config, (*axes_mm[:Z], -config.pull_off_mm, *axes_mm[Z + 1 :])).z_mm


def is_at_home(config: RigConfig, axes_mm: Axes) -> bool:
    return axes_mm[Z] >= -config.pull_off_mm - config.tolerance_mm - 1e-9


def why_not_guide(config: RigConfig, line: GuideLine) -> str | None:
    """Why the guide can't be set so, or None."""
    if isinstance(config, ObliqueConfig):
        return why_not_line(config, line)
    if line.direction != STRAIGHT:
        return "this rig can't tilt its guide"
    return why_not_across(config, line.x_mm, line.y_mm)


def why_not_so_deep(config: RigConfig, axes_mm: Axes, depth_mm: float) -> str | None:
    """Why the tip can't be sent so deep on the present guide line, or None."""
    if isinstance(config, ObliqueConfig):
        return why_not_depth_along(config, place_of(config, axes_mm).line, depth_mm)
    return why_not_depth(config, depth_mm)
