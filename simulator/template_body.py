"""The printed template as the scanner sees it: a plastic plate in front of the skin with radio-opaque balls in it.

Neither starves a beam as steel does, so they are drawn by the share of each pixel that they fill, softened by the
kernel, and cast no streaks. Coordinates are the rig's, to which the template is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from simulator.geometry import Floats, apply, inverse
from simulator.projection import Singles

PLASTIC_HU = 120.0  # printed resin (assumed)
BALL_HU = 2800.0  # ceramic (assumed)
_CUTS = 4  # sub-samples of a pixel along each axis


@dataclass(frozen=True)
class TemplateBody:
    """A template.

    Attributes:
        balls_rig_mm: centres.
        ball_mm: diameter.
        plate_low_rig_mm, plate_high_rig_mm: corners of the plate; it gives way to the body behind it.
    """

    balls_rig_mm: tuple[tuple[float, float, float], ...]
    ball_mm: float = 3.0
    plate_low_rig_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    plate_high_rig_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def drawn_on(
        self,
        hu: Singles,
        rig_from_gantry: Floats,
        pixel_mm: tuple[float, float],
        w_mm: float,
        thickness_mm: float,
        kernel_mm: float,
    ) -> Singles:
        """The slice ``(rows, columns)`` at height ``w_mm`` with the template in it."""
        cuts = (np.arange(_CUTS) + 0.5) / _CUTS - 0.5
        sub = np.stack(np.meshgrid(cuts * pixel_mm[0], cuts * pixel_mm[1], cuts * thickness_mm), axis=-1)
        out = hu
        low, high = np.array(self.plate_low_rig_mm), np.array(self.plate_high_rig_mm)
        if np.all(high > low):
            corners = np.array(
                [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
            )

            def in_plate(rig_mm: Floats) -> Floats:
                return np.asarray(np.all((rig_mm >= low) & (rig_mm <= high), axis=-1), dtype=float)

            gantry = apply(inverse(rig_from_gantry), corners)
            share, rows, columns = _filled(
                in_plate, gantry, rig_from_gantry, hu.shape, pixel_mm, w_mm, sub, kernel_mm
            )
            part = out[rows, columns]
            air = part < -300.0  # where there is skin, the plate is not
            out = out.copy()
            out[rows, columns] = np.where(air, part + share * (PLASTIC_HU - part), part)
        for ball in np.array(self.balls_rig_mm, dtype=float).reshape(-1, 3):
            middle = apply(inverse(rig_from_gantry), ball)
            if abs(middle[2] - w_mm) > 0.5 * (self.ball_mm + thickness_mm):
                continue

            def in_ball(rig_mm: Floats, ball: Floats = ball) -> Floats:
                return np.asarray(np.linalg.norm(rig_mm - ball, axis=-1) <= self.ball_mm / 2.0, dtype=float)

            reach = np.array([self.ball_mm] * 3)
            share, rows, columns = _filled(
                in_ball,
                np.stack([middle - reach, middle + reach]),
                rig_from_gantry,
                hu.shape,
                pixel_mm,
                w_mm,
                sub,
                kernel_mm,
            )
            out = out.copy()
            out[rows, columns] += share * (BALL_HU - out[rows, columns])
        return np.asarray(out, dtype=np.float32)


def _filled(
    inside: Callable[[Floats], Floats],
    corners_mm: Floats,
    rig_from_gantry: Floats,
    shape: tuple[int, ...],
    pixel_mm: tuple[float, float],
    w_mm: float,
    sub_mm: Floats,
    kernel_mm: float,
) -> tuple[Floats, slice, slice]:
    """How much of each pixel near ``corners_mm`` (gantry) a body fills, blurred; and which pixels these are."""
    margin = 3.0 * kernel_mm + 1.0
    first = np.floor((corners_mm.min(axis=0)[:2] - margin) / pixel_mm).astype(int)
    last = np.ceil((corners_mm.max(axis=0)[:2] + margin) / pixel_mm).astype(int)
    columns = slice(max(0, int(first[0])), max(0, min(shape[1], int(last[0]) + 1)))
    rows = slice(max(0, int(first[1])), max(0, min(shape[0], int(last[1]) + 1)))
    u, v = np.meshgrid(
        np.arange(columns.start, columns.stop) * pixel_mm[0], np.arange(rows.start, rows.stop) * pixel_mm[1]
    )
    centre = np.stack([u, v, np.full_like(u, w_mm)], axis=-1)
    share = np.zeros(u.shape)
    offsets = sub_mm.reshape(-1, 3)
    if share.size:
        for offset in offsets:
            share += inside(apply(rig_from_gantry, (centre + offset).reshape(-1, 3))).reshape(u.shape)
        share = gaussian_filter(share / len(offsets), (kernel_mm / pixel_mm[1], kernel_mm / pixel_mm[0]))
    return share, rows, columns
