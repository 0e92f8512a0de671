"""Dose-volume figures of one structure.

A structure is given voxel by voxel: a bool mask, or the fraction 0..1 of each voxel that lies inside (a
supersampled mask). Dose is taken at the voxel centres, trilinear when the dose has its own, coarser or finer,
grid. Between the sorted voxels the cumulative curve is linear (a voxel's volume is centred at its dose), so D90
does not jump with a single voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from planning.frame import Floats
from planning.refusal import AskedWrongly
from planning.volume import Grid


@dataclass(frozen=True)
class StructureStatistics:
    """What is reported of one structure.

    Attributes:
        volume_cc: volume of the mask.
        dN_gy: least dose that the hottest N % of the volume receive (D100 is the minimum, over voxel centres).
        vN_pct: volume, in % of the structure, that receives at least N % of the prescription.
        d2cc_gy, d1cc_gy, d01cc_gy: least dose in the hottest 2, 1, 0.1 cm3; None when the structure is smaller.
    """

    name: str
    volume_cc: float
    mean_gy: float
    max_gy: float
    d100_gy: float
    d90_gy: float
    d50_gy: float
    v100_pct: float
    v150_pct: float
    v200_pct: float
    d2cc_gy: float | None
    d1cc_gy: float | None
    d01cc_gy: float | None


def structure_statistics(
    name: str,
    mask: NDArray[np.bool_] | ArrayLike,
    dose_gy: ArrayLike,
    grid: Grid,
    prescription_gy: float,
    *,
    dose_grid: Grid | None = None,
) -> StructureStatistics:
    """The dose-volume figures of one structure.

    Args:
        mask: ``(nz, ny, nx)`` on ``grid``; bool, or the inside fraction of each voxel.
        dose_gy: on ``dose_grid``, or on ``grid`` when that is None.

    Raises:
        AskedWrongly: an empty structure; a dose that does not cover the structure or is not finite in it.
    """
    dose, volume_cc = dose_in(name, mask, dose_gy, grid, dose_grid=dose_grid)
    if not prescription_gy > 0:
        raise AskedWrongly(f"the prescription must be above 0 Gy, not {prescription_gy}.")
    total_cc = float(volume_cc.sum())

    def hottest(part_cc: float) -> float | None:
        return _dose_to_hottest(dose, volume_cc, part_cc) if total_cc >= part_cc else None

    def above(percent: float) -> float:
        return 100.0 * float(volume_cc[dose >= prescription_gy * percent / 100.0].sum()) / total_cc

    return StructureStatistics(
        name=name,
        volume_cc=total_cc,
        mean_gy=float(np.average(dose, weights=volume_cc)),
        max_gy=float(dose[0]),
        d100_gy=float(dose[-1]),
        d90_gy=_dose_to_hottest(dose, volume_cc, 0.9 * total_cc),
        d50_gy=_dose_to_hottest(dose, volume_cc, 0.5 * total_cc),
        v100_pct=above(100.0),
        v150_pct=above(150.0),
        v200_pct=above(200.0),
        d2cc_gy=hottest(2.0),
        d1cc_gy=hottest(1.0),
        d01cc_gy=hottest(0.1),
    )


def dvh_curve(
    name: str,
    mask: NDArray[np.bool_] | ArrayLike,
    dose_gy: ArrayLike,
    grid: Grid,
    levels_gy: ArrayLike,
    *,
    dose_grid: Grid | None = None,
) -> Floats:
    """Cumulative DVH: % of the structure that receives at least each of ``levels_gy``; arguments as above."""
    dose, volume_cc = dose_in(name, mask, dose_gy, grid, dose_grid=dose_grid)
    cumulative = np.concatenate([[0.0], np.cumsum(volume_cc)])
    # dose falls along the array, so its mirror image rises and can be searched: how many are >= the level.
    count = np.searchsorted(-dose, -np.asarray(levels_gy, dtype=float), side="right")
    return np.asarray(100.0 * cumulative[count] / cumulative[-1])


def dose_in(
    name: str,
    mask: NDArray[np.bool_] | ArrayLike,
    dose_gy: ArrayLike,
    grid: Grid,
    *,
    dose_grid: Grid | None = None,
) -> tuple[Floats, Floats]:
    """Dose of each voxel of the structure, hottest first, and the volume in cm3 that it stands for."""
    inside, dose_array = np.asarray(mask), np.asarray(dose_gy)
    if inside.shape != grid.shape:
        raise ValueError(f"{name}: mask of shape {inside.shape} on a grid of shape {grid.shape}")
    if dose_array.shape != (dose_grid or grid).shape:
        raise ValueError(f"{name}: dose of shape {dose_array.shape} on a grid of another shape")
    where = np.nonzero(inside)
    if not len(where[0]):
        raise AskedWrongly(f"structure '{name}' is empty on the CT grid; draw it, or leave it out.")
    fraction = inside[where].astype(float)
    if fraction.min() < 0.0 or fraction.max() > 1.0:
        raise ValueError(f"{name}: a voxel's inside fraction lies outside 0..1")
    if dose_grid is None:
        dose = dose_array[where].astype(float)
    else:
        index = dose_grid.index_of(grid.point_of(np.stack(where, axis=-1)))
        # Half a voxel beyond the outermost centres still belongs to the dose grid.
        outside = np.any((index < -0.5) | (index > np.asarray(dose_grid.shape) - 0.5), axis=1)
        if outside.any():
            missing_cc = float(fraction[outside].sum()) * grid.voxel_cc
            raise AskedWrongly(
                f"the dose grid does not cover structure '{name}': {missing_cc:.2f} of "
                f"{float(fraction.sum()) * grid.voxel_cc:.2f} cm3 lie outside; enlarge the dose grid."
            )
        dose = ndimage.map_coordinates(
            dose_array.astype(float), index.T, order=1, mode="nearest", output=np.float64
        )
    if not np.all(np.isfinite(dose)):
        raise AskedWrongly(f"the dose in structure '{name}' is not a number everywhere; compute it again.")
    order = np.argsort(-dose, kind="stable")
    return dose[order], fraction[order] * grid.voxel_cc


def _dose_to_hottest(dose: Floats, volume_cc: Floats, part_cc: float) -> float:
    middles = np.cumsum(volume_cc) - 0.5 * volume_cc
    return float(np.interp(part_cc, middles, dose))
