"""How needles and seeds come to lie elsewhere than planned: the error model of ``planning.robustness``.

A needle's error is its entry's (across), its angle's (turned about the entry) and its depth's; each seed has one of its
own. Needles err independently of each other; a part common to all is ``shift_mm``. Chance depends on a needle's planned
place alone, so the order or the names of the needles change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning.frame import Floats, unit
from planning.plan import Plan, PlannedNeedle

RAYLEIGH_MEAN = float(np.sqrt(np.pi / 2.0))  # mean length of a 2-D normal error / its sigma
HALF_NORMAL_MEAN = float(np.sqrt(2.0 / np.pi))  # mean size of a 1-D normal error / its sigma
MOST_TRIES = 200


@dataclass(frozen=True)
class PlacementSigmas:
    """Standard deviations, per axis; the defaults are those of 430 head-and-neck needles through a printed template.

    That series (10.3389/fonc.2021.664996) states *mean* errors: entry 0.90 mm, angle 1.56 degrees, depth 1.68 mm. The
    sigmas are derived from them, taken as independent and zero-mean.

    Attributes:
        entry_mm, angle_deg: across the needle, in each of two directions.
        depth_mm: along the needle.
        seed_along_mm, seed_across_mm: of each seed in its channel, across in each of two directions (both assumed).
        tip_within_mm: a needle whose tip errs by more is put in again, as the protocol demands (Jiang 2021: 2 mm);
            None leaves every needle as it went in first.
        shift_mm: the same for all needles, patient frame.
    """

    entry_mm: float = 0.90 / RAYLEIGH_MEAN
    angle_deg: float = 1.56 / RAYLEIGH_MEAN
    depth_mm: float = 1.68 / HALF_NORMAL_MEAN
    seed_along_mm: float = 1.0
    seed_across_mm: float = 0.5
    tip_within_mm: float | None = 2.0
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def in_words(self) -> str:
        corrected = (
            "needles as they went in first"
            if self.tip_within_mm is None
            else f"tips beyond {self.tip_within_mm:g} mm put in again"
        )
        return (
            f"sigma of entry {self.entry_mm:.2f} mm, angle {self.angle_deg:.2f} degrees, depth {self.depth_mm:.2f} mm "
            f"(derived from 10.3389/fonc.2021.664996), seed {self.seed_along_mm:g} mm along and "
            f"{self.seed_across_mm:g} mm across (assumed); {corrected}"
        )


def misplaced(plan: Plan, sigmas: PlacementSigmas, samples: int, seed: int) -> tuple[Floats, Floats]:
    """Centres and directions ``(samples, n_seeds, 3)`` of that many implants, in the plan's order of seeds."""
    parts = [_misplaced(needle, sigmas, samples, seed) for needle in plan.needles]
    centres = np.concatenate([part[0] for part in parts], axis=1) + np.asarray(sigmas.shift_mm)
    return centres, np.concatenate([part[1] for part in parts], axis=1)


def _misplaced(
    needle: PlannedNeedle, sigmas: PlacementSigmas, samples: int, seed: int
) -> tuple[Floats, Floats]:
    place = [round(1000.0 * value) + 2**31 for value in needle.entry_mm]
    needle_rng = np.random.default_rng([seed, 1, *place])
    direction, entry = needle.direction, np.asarray(needle.entry_mm)
    across = unit(np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))]))
    frame = np.stack([across, np.cross(direction, across), direction])
    tip = np.asarray(needle.tip_mm)

    start = np.empty((samples, 3))
    heading = np.empty((samples, 3))
    left = np.arange(samples)
    for tries in range(MOST_TRIES):
        draw = needle_rng.standard_normal((len(left), 5))
        start[left] = (
            entry + sigmas.entry_mm * draw[:, :2] @ frame[:2] + sigmas.depth_mm * draw[:, 4:] * direction
        )
        tilt = np.tan(np.radians(sigmas.angle_deg)) * draw[:, 2:4]
        heading[left] = unit(direction + tilt @ frame[:2])
        if sigmas.tip_within_mm is None or tries == MOST_TRIES - 1:
            break
        off = np.linalg.norm(start[left] + needle.depth_mm * heading[left] - tip, axis=1)
        left = left[off > sigmas.tip_within_mm]
        if not len(left):
            break

    depths = (np.array([s.centre_mm for s in needle.seeds]).reshape(-1, 3) - entry) @ direction
    centres = start[:, None] + depths[:, None] * heading[:, None]
    # Off-axis by rounding only; kept, so that no error gives the planned places exactly.
    centres += (
        np.array([s.centre_mm for s in needle.seeds]).reshape(-1, 3) - entry - depths[:, None] * direction
    )
    seed_rng = np.random.default_rng([seed, 2, *place])
    own = seed_rng.standard_normal((samples, len(depths), 3))
    spread = np.array([sigmas.seed_across_mm, sigmas.seed_across_mm, sigmas.seed_along_mm])
    return centres + (own * spread) @ frame, np.broadcast_to(heading[:, None], centres.shape).copy()
