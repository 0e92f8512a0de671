"""Guide line to machine axes and back, for the oblique rig: two parallel plates, and a carriage that pushes along it.

The needle guide hangs in a ball joint in each of two plates, both perpendicular to rig z: the front plate (axes X, Y)
``front_mm`` before the template's plane z = 0, the back plate (A, B) ``gap_mm`` behind the front one. The carriage
(Z) rides behind the back joint and pushes the needle along the line, whatever its angle. Pure arithmetic in mm.

Knows: geometry, reach, angle. Does not know: Grbl's lines, the needle, the patient. Every length is an *assumed* value
of configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from drivers.kinematics import RigConfig, Triple, demanded_settings

Five = tuple[float, float, float, float, float]
"""Machine axes X, Y, Z, A, B in mm: the order of the controller's reports."""


def demanded_settings_oblique() -> dict[int, float]:
    """grblHAL settings by number (WIRE.md part 2); others are not compared."""
    return {
        **demanded_settings(),
        **{22: 5, 44: 4, 45: 27, 376: 0},
        **{103: 200.0, 104: 200.0, 113: 3000.0, 114: 3000.0, 123: 200.0, 124: 200.0, 133: 200.0, 134: 200.0},
    }  # fmt: skip


@dataclass(frozen=True)
class ObliqueConfig(RigConfig):
    """The oblique rig on grblHAL; every length is assumed.

    Attributes:
        front_mm: from the front plate's joints to the template's plane z = 0.
        gap_mm: between the two plates' joints.
        angle_deg: greatest angle between guide line and rig z.
    """

    front_mm: float = 10.0
    gap_mm: float = 60.0
    angle_deg: float = 20.0
    axes: str = "XYZAB"
    versions: tuple[str, ...] = ("1.1f",)
    settings: dict[int, float] = field(default_factory=demanded_settings_oblique)


@dataclass(frozen=True)
class GuideLine:
    """Where the needle goes: through (x, y, 0) of the rig frame along a unit ``direction`` with z > 0."""

    x_mm: float
    y_mm: float
    direction: Triple = (0.0, 0.0, 1.0)

    @property
    def angle_deg(self) -> float:
        """Against rig z."""
        x, y, z = self.direction
        return math.degrees(math.atan2(math.hypot(x, y), z))


def plates_from_line(config: ObliqueConfig, line: GuideLine) -> tuple[float, float, float, float]:
    """Where the line meets the plates, rig frame: front x, y, back x, y."""
    dx, dy, dz = line.direction
    front_mm, back_mm = -config.front_mm, -config.front_mm - config.gap_mm
    return (
        line.x_mm + front_mm * dx / dz,
        line.y_mm + front_mm * dy / dz,
        line.x_mm + back_mm * dx / dz,
        line.y_mm + back_mm * dy / dz,
    )


def line_from_plates(
    config: ObliqueConfig, front_mm: tuple[float, float], back_mm: tuple[float, float]
) -> GuideLine:
    """The line through both joints."""
    run_x, run_y = front_mm[0] - back_mm[0], front_mm[1] - back_mm[1]
    length_mm = math.hypot(run_x, run_y, config.gap_mm)
    share = config.front_mm / config.gap_mm
    return GuideLine(
        front_mm[0] + share * run_x,
        front_mm[1] + share * run_y,
        (run_x / length_mm, run_y / length_mm, config.gap_mm / length_mm),
    )


def machine_from_line(config: ObliqueConfig, line: GuideLine, depth_mm: float) -> Five:
    """Axes for a needle on ``line`` with its tip ``depth_mm`` beyond the template's plane, along the line."""
    front_x, front_y, back_x, back_y = plates_from_line(config, line)
    offset_mm = config.offset_xy_mm
    z_mm = config.offset_z_mm - depth_mm - _detour_mm(config, line)
    return front_x - offset_mm, front_y - offset_mm, z_mm, back_x - offset_mm, back_y - offset_mm


def line_from_machine(config: ObliqueConfig, axes_mm: Five) -> tuple[GuideLine, float]:
    """The guide line, and the tip's depth along it."""
    x_mm, y_mm, z_mm, a_mm, b_mm = axes_mm
    offset_mm = config.offset_xy_mm
    line = line_from_plates(
        config, (x_mm + offset_mm, y_mm + offset_mm), (a_mm + offset_mm, b_mm + offset_mm)
    )
    return line, config.offset_z_mm - z_mm - _detour_mm(config, line)


def tip_mm(line: GuideLine, depth_mm: float) -> Triple:
    """The tip in the rig frame."""
    dx, dy, dz = line.direction
    return line.x_mm + depth_mm * dx, line.y_mm + depth_mm * dy, depth_mm * dz


def why_not_line(config: ObliqueConfig, line: GuideLine) -> str | None:
    """Why this line can't be set, or None."""
    if not all(math.isfinite(value) for value in (line.x_mm, line.y_mm, *line.direction)):
        return "the guide line is not made of numbers"
    if abs(math.hypot(*line.direction) - 1.0) > 1e-6:
        return "the guide line's direction is not of length 1"
    if line.direction[2] <= 0.0:
        return "the guide line does not lead into the patient (its z is not above 0)"
    if line.angle_deg > config.angle_deg + 1e-9:
        return (
            f"the guide line is tilted by {line.angle_deg:.1f} deg, beyond the rig's {config.angle_deg:g} deg"
        )
    names = ("front plate's x", "front plate's y", "back plate's x", "back plate's y")
    for name, value in zip(names, plates_from_line(config, line), strict=True):
        if abs(value) > config.reach_mm + 1e-9:
            return f"the {name} = {value:.3f} mm is beyond the rig's reach of +-{config.reach_mm:g} mm"
    return None


def why_not_depth_along(config: ObliqueConfig, line: GuideLine, depth_mm: float) -> str | None:
    """Why the tip can't be sent so deep along this line, or None: a tilted line takes some of the carriage's travel."""
    least, greatest = config.depth_mm[0], config.depth_mm[1] - _detour_mm(config, line)
    if not math.isfinite(depth_mm):
        return "the depth is not a number"
    if not least <= depth_mm <= greatest:
        return f"depth {depth_mm:.3f} mm is outside this line's {least:g} to {greatest:.3f} mm"
    return None


def _detour_mm(config: ObliqueConfig, line: GuideLine) -> float:
    """How much longer the way from the back joint to the template's plane is on this line than straight on."""
    return (config.front_mm + config.gap_mm) * (1.0 / line.direction[2] - 1.0)
