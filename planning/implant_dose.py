"""The dose of an implant that is being changed: kept up to date seed by seed, figures included.

The dose grid and the sampled points of every structure hold the sum over all seeds in double precision; a seed that
is added, taken out or moved changes only its own part of it, in milliseconds (``benchmarks.dose``). The dose of a whole
plan is nothing else than all its seeds added at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planning.anatomy import Anatomy
from planning.dose import PreparedPoints
from planning.dose_box import dose_box, thinned
from planning.dvh import StructureStatistics, reference_volume_cc, statistics_of, with_indices
from planning.frame import Floats
from planning.samples import Samples, samples_of_anatomy
from planning.sources import SeedSource
from planning.volume import Grid

TARGETS = ("GTV", "CTV")


class ImplantDose:
    """Seeds, their dose on a grid and in the structures, and its figures.

    A seed is known by the number that ``add`` gave it; numbers are not used again.

    Args:
        samples: points by structure, see ``planning.samples``.
        threads: that share the work of a change.

    Attributes:
        grid: of the dose.
    """

    def __init__(
        self,
        source: SeedSource,
        grid: Grid,
        samples: Mapping[str, Samples],
        prescription_gy: float,
        *,
        threads: int = 1,
    ) -> None:
        self.grid = grid
        self._source, self._prescription_gy = source, prescription_gy
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._seeds: dict[int, tuple[Floats, Floats, float]] = {}
        self._added = 0
        # Voxels and all structures' points in one run: a change is one pass over them.
        names = sorted(samples, key=_target_first)
        voxels = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
        wholes = {name: each.whole for name, each in samples.items() if each.whole is not None}
        parts = [
            voxels,
            *(samples[name].points_mm for name in names),
            *(w.points_mm for w in wholes.values()),
        ]
        self._points = PreparedPoints.of(np.concatenate(parts))
        self._all_gy = np.zeros(sum(map(len, parts)))
        on_grid, *at_points = np.split(self._all_gy, np.cumsum([len(part) for part in parts])[:-1])
        self._on_grid_gy = on_grid.reshape(grid.shape)
        self._of_structure = dict(zip(names, at_points[: len(names)], strict=True))
        self._of_whole = dict(zip(wholes, at_points[len(names) :], strict=True))
        self._cell_cc = {name: samples[name].cell_cc for name in names}
        self._whole_cell_cc = {name: whole.cell_cc for name, whole in wholes.items()}

    @property
    def dose_gy(self) -> NDArray[np.float32]:
        """To infinity, ``(nz, ny, nx)`` on the grid; a copy."""
        # What is left where seeds were taken out is the last digit of a large number, of either sign.
        return np.maximum(self._on_grid_gy, 0.0).astype(np.float32)

    def add(self, centres_mm: ArrayLike, directions: ArrayLike, strength_u: ArrayLike) -> list[int]:
        """Add seeds ``(n, 3)``, of one strength or ``(n,)``; their numbers."""
        centres = np.asarray(centres_mm, dtype=float).reshape(-1, 3)
        axes = np.asarray(directions, dtype=float).reshape(-1, 3)
        strengths = np.broadcast_to(np.asarray(strength_u, dtype=float), (len(centres),))
        self._change(centres, axes, strengths)
        numbers = list(range(self._added, self._added + len(centres)))
        self._added += len(centres)
        for number, centre, axis, strength in zip(numbers, centres, axes, strengths, strict=True):
            self._seeds[number] = centre.copy(), axis.copy(), float(strength)
        return numbers

    def remove(self, number: int) -> None:
        """Take a seed out."""
        centre, axis, strength = self._seeds.pop(number)
        self._change(centre[None], axis[None], np.array([-strength]))

    def move(self, number: int, centre_mm: ArrayLike, direction: ArrayLike) -> None:
        """Put a seed elsewhere."""
        centre, axis, strength = self._seeds[number]
        moved = np.array(centre_mm, dtype=float), np.array(direction, dtype=float)
        self._change(
            np.stack([centre, moved[0]]), np.stack([axis, moved[1]]), strength * np.array([-1.0, 1.0])
        )
        self._seeds[number] = *moved, strength

    def become(self, centres_mm: ArrayLike, directions: ArrayLike, strength_u: ArrayLike) -> list[int]:
        """Change to these seeds, arguments as ``add``: what is the same stays. Their numbers, in this order."""
        centres = np.asarray(centres_mm, dtype=float).reshape(-1, 3)
        axes = np.asarray(directions, dtype=float).reshape(-1, 3)
        strengths = np.broadcast_to(np.asarray(strength_u, dtype=float), (len(centres),))

        def key(centre: Floats, axis: Floats, strength: float) -> tuple[float, ...]:
            return (*map(float, centre), *map(float, axis), float(strength))

        there: dict[tuple[float, ...], list[int]] = {}
        for number, seed in self._seeds.items():
            there.setdefault(key(*seed), []).append(number)
        numbers = np.full(len(centres), -1)
        for k, seed in enumerate(zip(centres, axes, strengths, strict=True)):
            if same := there.get(key(*seed)):
                numbers[k] = same.pop(0)
        gone = [self._seeds.pop(number) for number in sorted(set(self._seeds) - set(numbers.tolist()))]
        if gone:
            old_centres, old_axes, old_strengths = (np.array(part) for part in zip(*gone, strict=True))
            self._change(old_centres, old_axes, -old_strengths)
        new = numbers < 0
        numbers[new] = self.add(centres[new], axes[new], strengths[new])
        return [int(number) for number in numbers]

    def figures(self) -> dict[str, StructureStatistics]:
        """Of every structure, targets first; of CTV and GTV conformity, external volume and homogeneity too.

        Raises:
            AskedWrongly: a structure without points; a dose that is no number.
        """

        def of(name: str) -> StructureStatistics:
            dose = np.maximum(self._of_structure[name], 0.0)
            near = statistics_of(name, dose, self._cell_cc[name], self._prescription_gy)
            if name not in self._of_whole:
                return near
            dose = np.maximum(self._of_whole[name], 0.0)
            whole = statistics_of(name, dose, self._whole_cell_cc[name], self._prescription_gy)
            # Its hottest parts lie in the grid, where the points are fine.
            hottest = {key: getattr(near, key) for key in ("max_gy", "d2cc_gy", "d1cc_gy", "d01cc_gy")}
            return replace(whole, **hottest)

        names = list(self._of_structure)
        found = dict(zip(names, self._pool.map(of, names) if self._pool else map(of, names), strict=True))
        around_cc = reference_volume_cc(self._on_grid_gy, self.grid, self._prescription_gy)
        for name in TARGETS:
            if name in found:
                found[name] = with_indices(found[name], around_cc)
        return found

    def _change(self, centres: Floats, axes: Floats, strengths_u: Floats) -> None:
        self._points.add_gy(self._all_gy, self._source, centres, axes, strengths_u, self._pool)


def implant_dose(
    anatomy: Anatomy, source: SeedSource, prescription_gy: float, *, threads: int = 1
) -> ImplantDose:
    """Of a patient: on the plan's dose grid, in every structure that it touches; no seed yet."""
    box, stride = dose_box(anatomy)
    grid = thinned(anatomy.grid.cropped(box), stride)
    z, y, x = (slice(b.start, b.stop, s) for b, s in zip(box, stride, strict=True))
    return ImplantDose(
        source, grid, samples_of_anatomy(anatomy, grid, (z, y, x)), prescription_gy, threads=threads
    )


def dose_of_seeds(
    anatomy: Anatomy,
    source: SeedSource,
    centres_mm: ArrayLike,
    directions: ArrayLike,
    strength_u: ArrayLike,
    prescription_gy: float,
) -> tuple[NDArray[np.float32], Grid, dict[str, StructureStatistics]]:
    """Dose to infinity of seeds ``(n, 3)`` on the dose grid, and the figures of every structure it touches.

    The figures are taken where ``planning.samples`` puts its points, not at the grid's voxels; their dose is
    evaluated at these very points.
    """
    dose = implant_dose(anatomy, source, prescription_gy)
    dose.add(centres_mm, directions, strength_u)
    return dose.dose_gy, dose.grid, dose.figures()


def _target_first(name: str) -> tuple[int, str]:
    return {"GTV": 0, "CTV": 1}.get(name, 2), name
