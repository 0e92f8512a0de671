"""Needles that were seen twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imaging.needle import THICK_MM, TWIN_MM, ExpectedNeedle, FoundNeedle


def distinct(found: Sequence[FoundNeedle], expected: Sequence[ExpectedNeedle]) -> list[FoundNeedle]:
    """Without those that are another one seen twice.

    Groups of different directions may both see a needle that nobody planned, and one broad spot may have been
    taken for two planned needles: two tips can't stand nearer than the needles are thick. The one nearer to its
    planned place stays; the other one was not seen.
    """
    planned = {needle.name: needle.tip_mm for needle in expected}

    def trust(needle: FoundNeedle) -> tuple[bool, float]:
        if needle.name is None:
            return True, needle.sigma_mm
        return False, float(np.linalg.norm(needle.tip_mm - planned[needle.name]))

    kept: list[FoundNeedle] = []
    for needle in sorted(found, key=trust):
        least_mm = TWIN_MM if needle.name is None else THICK_MM
        if all(np.linalg.norm(needle.tip_mm - other.tip_mm) >= least_mm for other in kept):
            kept.append(needle)
    return [needle for needle in found if any(needle is one for one in kept)]
