"""Twelve needles side by side in a slice, and how many of them another starves of rays."""

from __future__ import annotations

import numpy as np


def twelve_shafts(centre: np.ndarray) -> list[np.ndarray]:
    """``(41, 3)`` points each, 5 mm apart across and 10 mm along w, a little tilted and bent."""
    random = np.random.default_rng(3)
    along = np.linspace(50.0, -50.0, 41)
    shafts = []
    for y in (-7.5, -2.5, 2.5, 7.5):
        for z in (-10.0, 0.0, 10.0):
            tilt, bend = np.radians(1.0) * random.normal(size=2), random.normal(size=2) / 1500.0
            sideways = tilt * along[:, None] + bend * along[:, None] ** 2 / 2.0
            shafts.append(centre + np.column_stack([along, y + sideways[:, 0], z + sideways[:, 1]]))
    return shafts


def starved(stack: np.ndarray, heights: np.ndarray, shafts: list[np.ndarray]) -> int:
    """On how many shafts the level halves somewhere; ``stack (heights, rows, columns)`` has pixels of 1 mm."""
    count = 0
    for shaft in shafts:
        nearest = np.abs(heights - shaft[3:-3, 2:]).argmin(axis=1)
        levels = [
            stack[k, round(y) - 1 : round(y) + 2, round(x)].max()
            for k, (x, y) in zip(nearest, shaft[3:-3, :2], strict=True)
        ]
        count += bool(min(levels) < 0.5 * np.median(levels))
    return count
