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


class MisplacedImplants:
    """One implant at a time, from a chance of its own: what a campaign plays, in any order and on any machine."""

    def __init__(self, plan: Plan, sigmas: PlacementSigmas) -> None:
        self._sigmas = sigmas
        self._paths = [_Path.of(needle) for needle in plan.needles]
        self._entries = np.array([path.entry for path in self._paths]).reshape(-1, 3)
        self._frames = np.array([path.frame for path in self._paths]).reshape(-1, 3, 3)
        self._depths = np.array([needle.depth_mm for needle in plan.needles])
        self._tips = np.array([needle.tip_mm for needle in plan.needles]).reshape(-1, 3)
        self._owner = np.repeat(np.arange(len(plan.needles)), [len(n.seeds) for n in plan.needles])
        self._along = np.concatenate([path.depths for path in self._paths])
        self._beside = np.concatenate([path.beside for path in self._paths])

    def implant(self, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Centres and directions ``(n_seeds, 3)`` of one implant, in the plan's order of seeds."""
        sigmas, count = self._sigmas, len(self._paths)
        start, heading = np.empty((count, 3)), np.empty((count, 3))
        left = np.arange(count)
        for tries in range(MOST_TRIES):
            draw = random.standard_normal((len(left), 5))
            start[left], heading[left] = _stands(self._entries[left], self._frames[left], draw, sigmas)
            if sigmas.tip_within_mm is None or tries == MOST_TRIES - 1:
                break
            tips = start[left] + self._depths[left, None] * heading[left]
            left = left[np.linalg.norm(tips - self._tips[left], axis=1) > sigmas.tip_within_mm]
            if not len(left):
                break
        axes, frames = heading[self._owner], self._frames[self._owner]
        own = random.standard_normal((len(self._owner), 3)) * _seed_spread(sigmas)
        centres = start[self._owner] + self._along[:, None] * axes + self._beside
        centres += np.einsum("ni,nij->nj", own, frames)
        return centres + np.asarray(sigmas.shift_mm), axes


@dataclass(frozen=True, eq=False)
class _Path:
    """A needle as planned: entry ``(3,)``, frame ``(3, 3)`` with two rows across and its direction as the last.

    ``depths`` (n,) of its seeds' centres behind the entry; ``beside`` (n, 3): off the axis by rounding only, kept so
    that no error gives the planned places exactly.
    """

    entry: Floats
    frame: Floats
    depths: Floats
    beside: Floats

    @staticmethod
    def of(needle: PlannedNeedle) -> _Path:
        direction, entry = needle.direction, np.asarray(needle.entry_mm)
        across = unit(np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))]))
        frame = np.stack([across, np.cross(direction, across), direction])
        offsets = np.array([s.centre_mm for s in needle.seeds]).reshape(-1, 3) - entry
        depths = offsets @ direction
        return _Path(entry, frame, depths, offsets - depths[:, None] * direction)


def _stands(entries: Floats, frames: Floats, draw: Floats, sigmas: PlacementSigmas) -> tuple[Floats, Floats]:
    """Where needles cross the skin ``(n, 3)`` and where they head, from five normal numbers each ``(n, 5)``.

    ``entries`` and ``frames``: of each, or one for all.
    """
    across, direction = frames[..., :2, :], frames[..., 2, :]
    aside = (draw[:, :2, None] * across).sum(axis=1)
    start = entries + sigmas.entry_mm * aside + sigmas.depth_mm * draw[:, 4:] * direction
    tilt = np.tan(np.radians(sigmas.angle_deg)) * draw[:, 2:4]
    return start, unit(direction + (tilt[:, :, None] * across).sum(axis=1))


def _seed_spread(sigmas: PlacementSigmas) -> Floats:
    return np.array([sigmas.seed_across_mm, sigmas.seed_across_mm, sigmas.seed_along_mm])


def _misplaced(
    needle: PlannedNeedle, sigmas: PlacementSigmas, samples: int, seed: int
) -> tuple[Floats, Floats]:
    place = [round(1000.0 * value) + 2**31 for value in needle.entry_mm]
    needle_rng = np.random.default_rng([seed, 1, *place])
    path, tip = _Path.of(needle), np.asarray(needle.tip_mm)

    start = np.empty((samples, 3))
    heading = np.empty((samples, 3))
    left = np.arange(samples)
    for tries in range(MOST_TRIES):
        draw = needle_rng.standard_normal((len(left), 5))
        start[left], heading[left] = _stands(path.entry, path.frame, draw, sigmas)
        if sigmas.tip_within_mm is None or tries == MOST_TRIES - 1:
            break
        off = np.linalg.norm(start[left] + needle.depth_mm * heading[left] - tip, axis=1)
        left = left[off > sigmas.tip_within_mm]
        if not len(left):
            break

    centres = start[:, None] + path.depths[:, None] * heading[:, None] + path.beside
    seed_rng = np.random.default_rng([seed, 2, *place])
    own = seed_rng.standard_normal((samples, len(path.depths), 3))
    centres += (own * _seed_spread(sigmas)) @ path.frame
    return centres, np.broadcast_to(heading[:, None], centres.shape).copy()
