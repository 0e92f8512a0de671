"""Rig frame to machine axes and back, for the coplanar rig; what it can reach.

Knows: the table "rig frame / machine" of WIRE.md part 2 and the settings that go with it. Does not know:
Grbl's lines, the needle, the patient. Pure arithmetic in mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Triple = tuple[float, float, float]


def demanded_settings() -> dict[int, float]:
    """Grbl settings by number (WIRE.md part 2); others are not compared."""
    return {
        0: 10, 1: 255, 3: 0, 5: 0, 6: 0, 10: 1, 13: 0, 20: 1, 21: 1, 22: 1, 23: 0, 27: 1.0, 30: 1000, 32: 0,
        100: 200.0, 101: 200.0, 102: 200.0, 110: 3000.0, 111: 3000.0, 112: 1200.0,
        120: 200.0, 121: 200.0, 122: 100.0, 130: 200.0, 131: 200.0, 132: 200.0,
    }  # fmt: skip


@dataclass(frozen=True)
class RigConfig:
    """The coplanar rig; every length is an assumed value of configuration, not a clinical one.

    Attributes:
        reach_mm: x and y of the needle guide, +-.
        depth_mm: least and greatest depth of the tip.
        offset_xy_mm, offset_z_mm: X = x - offset_xy, Y = y - offset_xy, Z = offset_z - z.
        pull_off_mm: where homing leaves each axis, before its switch at machine 0.
        tolerance_mm: how far the position read back may be from the one asked for.
        step_in_tissue_mm: longest single motion in tissue.
        feed_across_mm_min, feed_depth_mm_min: speeds.
        versions: Grbl versions known to behave as the driver expects.
        serial: the one rig wanted, e.g. ``RIG-0007``; None takes any.
        settings: demanded ``$n=value``.
        homing_timeout_s: a homing cycle that lasts longer has failed.
        port: how the port is called in messages.
        axes: letters, in the order of the board's reports.
    """

    reach_mm: float = 95.0
    depth_mm: tuple[float, float] = (-18.0, 178.0)
    offset_xy_mm: float = 100.0
    offset_z_mm: float = -20.0
    pull_off_mm: float = 1.0
    tolerance_mm: float = 0.01
    step_in_tissue_mm: float = 1.0
    feed_across_mm_min: float = 3000.0
    feed_depth_mm_min: float = 600.0
    versions: tuple[str, ...] = ("1.1h",)
    serial: str | None = None
    settings: dict[int, float] = field(default_factory=demanded_settings)
    homing_timeout_s: float = 120.0
    port: str = "rig"
    axes: str = "XYZ"


def machine_from_rig(config: RigConfig, point_mm: Triple) -> Triple:
    """Axes X, Y, Z of a point (x, y, tip depth z)."""
    x_mm, y_mm, z_mm = point_mm
    return x_mm - config.offset_xy_mm, y_mm - config.offset_xy_mm, config.offset_z_mm - z_mm


def rig_from_machine(config: RigConfig, axes_mm: Triple) -> Triple:
    """The point (x, y, tip depth z) of axes X, Y, Z."""
    x_mm, y_mm, z_mm = axes_mm
    return x_mm + config.offset_xy_mm, y_mm + config.offset_xy_mm, config.offset_z_mm - z_mm


def depth_home_mm(config: RigConfig) -> float:
    """Tip depth when the carriage stands at home (-19 mm)."""
    return config.offset_z_mm + config.pull_off_mm


def why_not_across(config: RigConfig, x_mm: float, y_mm: float) -> str | None:
    """Why (x, y) can't be reached, or None."""
    for name, value in (("x", x_mm), ("y", y_mm)):
        if not math.isfinite(value):
            return f"{name} is not a number"
        if abs(value) > config.reach_mm:
            return f"{name} = {value:.3f} mm is beyond the rig's reach of +-{config.reach_mm:g} mm"
    return None


def why_not_depth(config: RigConfig, z_mm: float) -> str | None:
    """Why tip depth z can't be reached, or None."""
    least, greatest = config.depth_mm
    if not math.isfinite(z_mm):
        return "z is not a number"
    if not least <= z_mm <= greatest:
        return f"z = {z_mm:.3f} mm is outside the rig's depth of {least:g} to {greatest:g} mm"
    return None


def depth_steps_mm(start_mm: float, end_mm: float, longest_mm: float) -> tuple[float, ...]:
    """Depths to call at on the way, ``end_mm`` last, no step longer than ``longest_mm`` (equal steps)."""
    count = max(1, math.ceil(abs(end_mm - start_mm) / longest_mm - 1e-9))
    inner = (start_mm + (end_mm - start_mm) * i / count for i in range(1, count))
    return (*inner, end_mm)
