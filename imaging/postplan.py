"""The dose of the day: what the seeds that the last CT shows really give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planning.anatomy import Anatomy
from planning.dvh import StructureStatistics
from planning.implant_dose import dose_of_seeds
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
        dose in Gy ``(nz, ny, nx)``, its grid, and statistics by structure: GTV, CTV, then the organs the grid
        touches; taken as the plan's own figures are, so that both can stand side by side.
    """
    return dose_of_seeds(anatomy, source, centres_mm, directions, strength_u, prescription_gy)
