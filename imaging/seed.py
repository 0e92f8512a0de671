"""Iodine-125 seeds in a CT: where each lies, how it points, which planned one it is.

What a CT shows of a seed is its 3 mm silver rod. Seeds of one needle nearly touch (0.5 mm gap), so bright voxels
do not fall apart into seeds; here each seed is a blurred rod of its own, all fitted together, clipped as the
scanner clips. Rods are added where something seed-like is left over and taken away where two explain one. The number of
planned seeds helps nowhere to force one: what isn't seen is not found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from imaging.sample import clip_level_hu
from imaging.seed_match import halves_joined, in_a_shaft, match_seeds, was_there
from imaging.seed_rod import Rods, fitted_rods
from imaging.seed_spot import PEAK_SHARE, bright_box, bright_spots, expected_seed_hu, rod_directions
from planning.frame import Floats, RigidTransform, unit
from planning.volume import CtVolume, Grid

USUAL_SLICE_MM = 1.25  # what the rods' image is set for


@dataclass(frozen=True, eq=False)
class FoundSeed:
    """A seed seen in a CT, in the CT's patient frame.

    Attributes:
        centre_mm: ``(3,)``.
        direction: ``(3,)`` unit vector along the seed (its sign means nothing unless it was planned).
        peak_hu: peak above its surroundings, unclipped.
        planned: index of the planned seed it is, or None.
    """

    centre_mm: Floats
    direction: Floats
    peak_hu: float
    planned: int | None


def find_seeds(
    ct: CtVolume,
    *,
    centres_mm: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    around_mm: float = 20.0,
    before: CtVolume | None = None,
    before_from_scan: RigidTransform | None = None,
) -> tuple[FoundSeed, ...]:
    """Find the seeds of a CT.

    Args:
        ct: the scan, slices preferably <= 1.25 mm.
        centres_mm, directions: ``(n, 3)`` planned seeds in the scan's frame, or None to search the whole scan.
        around_mm: with a plan, how far from the box of the planned seeds to look.
        before: a CT of the patient without seeds, such as the planning CT: what is as bright in it (a filling) is no
            seed, unless one is planned there.
        before_from_scan: takes points of the scan to it.
    """
    scan, ct = ct, averaged_slices(ct)
    planned = None if centres_mm is None else np.asarray(centres_mm, dtype=float).reshape(-1, 3)
    hints = None if directions is None else unit(np.asarray(directions, dtype=float).reshape(-1, 3))
    box = (slice(None), slice(None), slice(None))
    if planned is not None:
        if not len(planned):
            return ()
        box = ct.grid.box(planned.min(axis=0) - around_mm, planned.max(axis=0) + around_mm)
    else:
        box = bright_box(ct)
    grid = ct.grid.cropped(box)
    if 0 in grid.shape:
        return ()
    hu = np.clip(ct.hu[box], -200, None).astype(np.float32)
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    typical = expected_seed_hu(slice_mm)
    clip_hu = clip_level_hu(ct)
    blur = np.array([0.9**2 + 0.03, 0.9**2 + 0.03, 0.12 + slice_mm**2 / 12])
    places = bright_spots(ct, hu, grid, PEAK_SHARE * typical)
    rods = Rods(places, rod_directions(places, planned, hints, ct), np.full(len(places), typical))
    for _ in range(2):
        rods = fitted_rods(hu, grid, rods, blur, clip_hu, sweeps=8).pruned(0.3 * typical)
        rest = hu - np.minimum(rods.render(grid, blur) + 50.0, clip_hu)
        rest[(hu >= clip_hu) & (rest < 0)] = 0.0
        more = bright_spots(ct, rest.astype(np.float32), grid, PEAK_SHARE * typical, original=False)
        if not len(more):
            break
        places = np.concatenate([rods.places, more])
        heights = np.concatenate([rods.heights, np.full(len(more), 0.6 * typical)])
        rods = Rods(places, rod_directions(places, planned, hints, ct), heights)
    rods = Rods(rods.places, rod_directions(rods.places, planned, hints, ct), rods.heights)
    rods = fitted_rods(hu, grid, rods, blur, clip_hu, sweeps=6).pruned(0.3 * typical)
    rods = rods.seed_like(ct, typical)
    partner = match_seeds(rods.places, planned)
    rods, partner = halves_joined(rods, partner)
    strange = np.array([number is None for number in partner], dtype=bool)
    if before is not None and before_from_scan is not None and strange.any():
        strange &= was_there(ct, before, before_from_scan, rods.places)
    else:
        strange[:] = False
    strange |= in_a_shaft(scan, rods, partner)
    rods = Rods(rods.places[~strange], rods.directions[~strange], rods.heights[~strange])
    partner = [number for number, gone in zip(partner, strange, strict=True) if not gone]
    return tuple(
        FoundSeed(rods.places[k], rods.directions[k], float(rods.heights[k]), partner[k])
        for k in range(len(rods.places))
    )


def averaged_slices(ct: CtVolume) -> CtVolume:
    """Neighbouring slices thinner than usual averaged: in them a seed's clipped plateau looks like several seeds.

    Where one of them is clipped, the mean is too dark by an unknown part: between it and the brightest the middle is
    taken, or a seed that lies in one thin slice alone would be as dark as bone.
    """
    x, y, z = ct.grid.spacing_mm
    together = round(USUAL_SLICE_MM / max(z, ct.slice_thickness_mm))
    slices = ct.grid.shape[0] // max(together, 1)
    if together < 2 or not slices:
        return ct
    stacks = ct.hu[: slices * together].reshape(slices, together, *ct.grid.shape[1:])
    hu, brightest = stacks.mean(axis=1), stacks.max(axis=1)
    hu = np.where(brightest >= clip_level_hu(ct), 0.5 * (hu + brightest), hu)
    left, front, low = ct.grid.origin_mm
    origin = (left, front, low + 0.5 * (together - 1) * z)
    grid = Grid((slices, *ct.grid.shape[1:]), origin, (x, y, together * z))
    return replace(ct, hu=np.rint(hu).astype(np.int16), grid=grid, slice_thickness_mm=together * z)
