"""Dose-volume figures of one structure.

A structure is given voxel by voxel: a bool mask, or the fraction 0..1 of each voxel that lies inside (a
supersampled mask). Dose is taken at the voxel centres, trilinear when the dose has its own, coarser or finer,
grid. Between the sorted voxels the cumulative curve is linear (a voxel's volume is centred at its dose), so D90
does not jump with a single voxel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from planning.frame import Floats
from planning.order_statistics import at_ranks
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
        ci, ei_pct, hi_pct: of a target only, else None; with V its volume, P the part of it that gets the
            prescription, R all volume that does, H the part of the target that gets 1.5 times as much:
            ci = P/V x P/R (conformation number, van 't Riet 1997, Int J Radiat Oncol Biol Phys 37:731),
            ei = (R - P)/V in % (external volume index, Saw and Suntharalingam 1991, ibid. 20:135),
            hi = (P - H)/P in % (dose homogeneity index, Wu 1988, Med Phys 15:104). R is counted on the dose
            grid, air included; ci and ei are None where the prescription's isodose leaves that grid, hi and ci
            where no part of the target gets it.
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
    ci: float | None = None
    ei_pct: float | None = None
    hi_pct: float | None = None


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
    return statistics_of(name, dose, volume_cc, prescription_gy)


def statistics_of(
    name: str, dose_gy: ArrayLike, volume_cc: Floats | float, prescription_gy: float
) -> StructureStatistics:
    """The figures of one structure whose dose is known at points.

    Args:
        dose_gy: ``(n,)``, in any order; volume_cc: that each point stands for, ``(n,)`` or one for all. (With
            one for all nothing is sorted, which is several times faster.)

    Raises:
        AskedWrongly: no point; a dose that is negative or no finite number; a prescription that is none.
    """
    dose = np.asarray(dose_gy)
    if not len(dose):
        raise AskedWrongly(f"structure '{name}' is empty on the CT grid; draw it, or leave it out.")
    least, most = float(dose.min()), float(dose.max())  # NaN, if there is one
    if not 0.0 <= least <= most < np.inf:
        raise AskedWrongly(f"the dose in structure '{name}' is not a number everywhere; compute it again.")
    if not prescription_gy > 0:
        raise AskedWrongly(f"the prescription must be above 0 Gy, not {prescription_gy}.")
    each = np.asarray(volume_cc, dtype=float)
    total_cc = float(each.sum()) if each.ndim else float(each) * len(dose)
    parts_cc = [part for part in (0.5 * total_cc, 0.9 * total_cc, 2.0, 1.0, 0.1) if part <= total_cc]
    hottest = dict(zip(parts_cc, _doses_to_hottest(dose, each, parts_cc), strict=True))

    def above(percent: float) -> float:
        hot = dose >= prescription_gy * percent / 100.0
        part = each[hot].sum() if each.ndim else np.count_nonzero(hot) * each
        return 100.0 * float(part) / total_cc

    return StructureStatistics(
        name=name,
        volume_cc=total_cc,
        mean_gy=float(np.average(dose, weights=each)) if each.ndim else float(dose.mean(dtype=float)),
        max_gy=most,
        d100_gy=least,
        d90_gy=hottest[0.9 * total_cc],
        d50_gy=hottest[0.5 * total_cc],
        v100_pct=above(100.0),
        v150_pct=above(150.0),
        v200_pct=above(200.0),
        d2cc_gy=hottest.get(2.0),
        d1cc_gy=hottest.get(1.0),
        d01cc_gy=hottest.get(0.1),
    )


def with_indices(target: StructureStatistics, reference_cc: float | None) -> StructureStatistics:
    """The target's figures with CI, EI and HI; ``reference_cc`` as from ``reference_volume_cc``."""
    covered_cc = target.volume_cc * target.v100_pct / 100.0
    ci = ei = hi = None
    if reference_cc is not None:
        ei = 100.0 * max(0.0, reference_cc - covered_cc) / target.volume_cc
        # Target and isodose are counted on different lattices; no index may exceed the perfect one.
        ci = (
            covered_cc / target.volume_cc * min(1.0, covered_cc / reference_cc)
            if reference_cc > 0.0
            else None
        )
    if covered_cc > 0.0:
        hi = 100.0 * (target.v100_pct - target.v150_pct) / target.v100_pct
    return replace(target, ci=ci, ei_pct=ei, hi_pct=hi)


def reference_volume_cc(dose_gy: ArrayLike, grid: Grid, prescription_gy: float) -> float | None:
    """Volume that receives the prescription; None where it reaches the dose grid's edge, for more may lie beyond."""
    hot = np.asarray(dose_gy) >= prescription_gy
    edges = (hot[0], hot[-1], hot[:, 0], hot[:, -1], hot[:, :, 0], hot[:, :, -1])
    return None if any(edge.any() for edge in edges) else float(np.count_nonzero(hot)) * grid.voxel_cc


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


def _doses_to_hottest(dose: NDArray[Any], each_cc: Floats, parts_cc: list[float]) -> list[float]:
    """Least dose in the hottest part, for each of the parts; each point's volume is centred at its dose."""
    if each_cc.ndim:
        order = np.argsort(-dose, kind="stable")
        volume = each_cc[order]
        middles = np.cumsum(volume) - 0.5 * volume
        return [float(np.interp(part, middles, dose[order])) for part in parts_cc]
    last = len(dose) - 1
    place = np.clip([last - (part / float(each_cc) - 0.5) for part in parts_cc], 0.0, float(last))
    below = np.floor(place).astype(np.intp)
    above = np.minimum(below + 1, last)
    low, high = at_ranks(np.asarray(dose, dtype=float), np.stack((below, above)))
    return [float(value) for value in low + (place - below) * (high - low)]
