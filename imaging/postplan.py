"""The dose of the day: what the seeds that the last CT shows really give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planning.anatomy import Anatomy
from planning.dose import dose_on_grid_gy
from planning.dvh import StructureStatistics, structure_statistics
from planning.planner import dose_box, thinned
from planning.sources import SeedSource
from planning.volume import Grid


def dose_of_the_day(
    source: SeedSource,
    centres_mm: ArrayLike,
    directions: ArrayLike,
    strength_u: float,
    anatomy: Anatomy,
    prescription_gy: float,
) -> tuple[NDArray[np.float32], Grid, dict[str, StructureStatistics]]:
    """Dose to infinity of the seeds on the plan's dose grid, and the figures of target and organs.

    Args:
        centres_mm, directions: ``(n, 3)`` of the seeds found, in the plan's patient frame.

    Returns:
        dose in Gy ``(nz, ny, nx)``, its grid, and statistics by structure: CTV, GTV, then the organs the grid
        touches; the same voxels as the plan's own figures, so that both can stand side by side.
    """
    box, stride = dose_box(anatomy)
    grid = thinned(anatomy.grid.cropped(box), stride)
    centres = np.asarray(centres_mm, dtype=float).reshape(-1, 3)
    dose = dose_on_grid_gy(
        source, centres, np.asarray(directions, dtype=float).reshape(-1, 3), strength_u, grid
    )
    z, y, x = (slice(b.start, b.stop, s) for b, s in zip(box, stride, strict=True))
    statistics = {
        name: structure_statistics(name, mask[z, y, x], dose, grid, prescription_gy)
        for name, mask in {"CTV": anatomy.ctv, "GTV": anatomy.gtv, **anatomy.organs}.items()
        if mask[z, y, x].any()
    }
    return dose, grid, statistics
