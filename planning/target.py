"""Which structure is the target, and whether the scan holds it."""

from __future__ import annotations

import numpy as np

from planning.dicom import Structure
from planning.mask import Mask, mask_of
from planning.refusal import AskedWrongly
from planning.volume import Grid


def find_target(structures: tuple[Structure, ...], target: str | None) -> Structure:
    """The structure that is the GTV, by name or, failing that, by its type."""
    wanted = "GTV" if target is None else target.strip()
    for fits in (
        [s for s in structures if s.name == wanted],
        [s for s in structures if s.name.lower() == wanted.lower()],
        [s for s in structures if s.interpreted_type == "GTV" and s.contours] if target is None else [],
    ):
        filled = [s for s in fits if s.contours]
        if len(filled) == 1:
            return filled[0]
        if len(filled) > 1 and target is None and filled[0].name.lower() != "gtv":
            break
        if len(filled) > 1:
            raise AskedWrongly(
                f"target '{wanted}': {len(filled)} structures have this name; rename all but one."
            )
        if fits:
            raise AskedWrongly(f"target '{fits[0].name}': the structure is empty, nothing is drawn in it.")
    there = ", ".join(s.name for s in structures if s.contours) or "none that is drawn"
    ask = "name the target with --target" if target is None else "name one of them"
    raise AskedWrongly(f"no structure named '{wanted}'; there are: {there}; {ask}.")


def target_mask(chosen: Structure, grid: Grid) -> Mask:
    """The target's voxels; refused when a part lies outside the CT, or it is smaller than any voxel."""
    points = np.concatenate(chosen.contours)
    index = grid.index_of(points)
    last = np.array(grid.shape) - 1
    if (index < -0.5 - 1e-3).any() or (index > last + 0.5 + 1e-3).any():
        raise AskedWrongly(f"target '{chosen.name}': a part of it lies outside the CT.")
    mask = mask_of(chosen, grid)
    if not mask.any():
        raise AskedWrongly(f"target '{chosen.name}': too small, no voxel of the CT lies inside it.")
    return mask


def check_slices(name: str, gtv: Mask, grid: Grid, margin_mm: float) -> None:
    """Refuses a target whose margin would leave the scanned slices: nobody knows what lies there."""
    hit = np.flatnonzero(gtv.any(axis=(1, 2)))
    dz = grid.spacing_mm[2]
    short_mm = margin_mm - dz * min(int(hit[0]), grid.shape[0] - 1 - int(hit[-1])) - 0.5 * dz
    if short_mm > 0.0:
        raise AskedWrongly(
            f"target '{name}': the CTV (GTV + {margin_mm:g} mm) leaves the scanned slices by "
            f"{short_mm:.1f} mm; scan further or lessen the margin."
        )
