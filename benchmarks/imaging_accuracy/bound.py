"""How well a tip's depth can be told at all: ``python -m benchmarks.imaging_accuracy.bound``.

Each scan is made twice more, with every needle half a millimetre further in and as far drawn back. The noise is the
same voxel by voxel, so their difference is the derivative of the image by depth, with all the starvation and streaks
that the scanner models. From it the Cramer-Rao bound, 1 sigma in mm: with all else at truth, and with what imaging has
to fit as well (place across, brightness along the last 9 mm, background) projected out. Neighbouring voxels share
noise: a grain of the kernel counts as one. Beside it what imaging reaches on the same scans, along the needle,
and what it reaches when the plan it is given is the truth. What lies between bound and reach is not noise: it is
what imaging's model of metal does not know.

    --first N    first seed of chance (2001)
    --count N    scans of each column (2)
    --only TEXT  columns whose name contains TEXT
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.imaging_accuracy.rescans import Column, Placed, placed
from imaging.needle import ExpectedNeedle
from imaging.needle_search import find_needles
from imaging.sample import across
from planning.dicom import read_ct
from planning.frame import RigidTransform
from planning.volume import CtVolume
from simulator.fast import NOISE_HU
from simulator.reconstruction import kernel_sigma_mm

Floats = NDArray[np.float64]
HALF_MM = 0.5
BACK_MM, AHEAD_MM, BESIDE_MM = 9.0, 5.0, 3.5  # of a tip: voxels that count
KNOT_MM = 3.0
COLUMNS = (
    Column("0.6 mm, pitch 7-10", 0.6, (7.0, 10.0), 2),
    Column("1.25 mm, pitch 7-10", 1.25, (7.0, 10.0), 2),
    Column("1.25 mm, pitch 5", 1.25, (5.0,), 2),
    Column("2.5 mm, pitch 7-10", 2.5, (7.0, 10.0), 2),
    Column("2.5 mm, pitch 5", 2.5, (5.0,), 2),
    Column("5 mm, pitch 7-10", 5.0, (7.0, 10.0), 2),
)


def bounds_mm(here: CtVolume, slope_hu: Floats, shaft: Floats, slice_mm: float) -> tuple[float, float]:
    """1 sigma of a tip's depth, all else known, and with place, brightness and background unknown.

    Args:
        here: the scan.
        slope_hu: its derivative by depth, HU per mm, of all voxels.
        shaft: ``(k, 3)`` true, from the tip.
    """
    along = (shaft[0] - shaft[1]) / np.linalg.norm(shaft[0] - shaft[1])
    ends = np.stack([shaft[0] - BACK_MM * along, shaft[0] + AHEAD_MM * along])
    rim_mm = BESIDE_MM + 0.4 * slice_mm
    box = here.grid.box(ends.min(axis=0) - rim_mm, ends.max(axis=0) + rim_mm)
    part = here.grid.cropped(box)
    offset = part.point_of(np.indices(part.shape).reshape(3, -1).T) - shaft[0]
    s = offset @ along
    beside = np.linalg.norm(offset - s[:, None] * along, axis=1)
    used = (s > -BACK_MM) & (s < AHEAD_MM) & (beside < rim_mm)
    slope = slope_hu[box].reshape(-1)[used]
    hu = here.hu[box].astype(float)
    dx, dy, dz = here.grid.spacing_mm
    steps = [np.gradient(hu, axis=axis).reshape(-1)[used] for axis in (2, 1, 0)]
    gradient = np.column_stack([g / d for g, d in zip(steps, (dx, dy, dz), strict=True)])
    contrast = np.clip(hu.reshape(-1)[used] - np.median(hu), 0.0, None)
    knots = np.clip(1.0 - np.abs(s[used][:, None] + KNOT_MM * np.arange(4)) / KNOT_MM, 0.0, None)
    unknown = np.column_stack(
        [gradient @ np.stack(across(along)).T, contrast[:, None] * knots, np.ones(len(slope))]
    )
    left = slope - unknown @ np.linalg.lstsq(unknown, slope, rcond=None)[0]
    grain_mm = kernel_sigma_mm(slice_mm)
    alike = max(1.0, 4.0 * np.pi * grain_mm**2 / (dx * dy))
    sigma_hu = NOISE_HU * np.sqrt(1.25 / slice_mm * alike)
    return sigma_hu / float(np.linalg.norm(slope)), sigma_hu / float(np.linalg.norm(left))


def along_mm(
    ct: CtVolume, one: Placed, shafts: list[Floats], moved: RigidTransform, *, true: bool
) -> list[float]:
    """How far the tips that imaging finds lie off along the needles; inf where it finds none."""
    towards = moved.turn(one.direction)
    planned = zip(one.names, moved.apply(one.tips_mm), moved.apply(one.entries_mm), shafts, strict=True)
    expected = [ExpectedNeedle(n, s[0] if true else tip, towards, entry) for n, tip, entry, s in planned]
    found = find_needles(ct, expected)
    off = []
    for name, shaft in zip(one.names, shafts, strict=True):
        needle = found.needle(name)
        end = (shaft[0] - shaft[1]) / np.linalg.norm(shaft[0] - shaft[1])
        off.append(np.inf if needle is None else abs(float((needle.tip_mm - shaft[0]) @ end)))
    return off


def played(column: Column, number: int, seed: int, folder: Path) -> list[tuple[float, float, float, float]]:
    """Per needle both bounds and what is reached, with the plan and with the truth as plan."""
    one = placed(column, number, seed, folder)
    if one is None:
        return []
    made = folder / f"{column.name} {seed}".replace(" ", "-").replace(",", "")
    scans = []
    for k, step_mm in enumerate((0.0, -HALF_MM, 2.0 * HALF_MM)):
        for name in one.names:
            one.patient.retract(name, step_mm)
        one.take(1, made / str(k))
        scans.append(read_ct(made / str(k)))
        if k == 0:
            moved = RigidTransform.from_matrix(one.patient.scanner_from_patient(1))
            shafts = [moved.apply(one.patient.true_shaft_patient_mm(name)) for name in one.names]
    slope = (scans[1].hu.astype(float) - scans[2].hu) / (2.0 * HALF_MM)
    told = [bounds_mm(scans[0], slope, shaft, column.slice_mm) for shaft in shafts]
    reached = [along_mm(scans[0], one, shafts, moved, true=true) for true in (False, True)]
    return [(*bound, *off) for bound, off in zip(told, zip(*reached, strict=True), strict=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imaging_accuracy.bound")
    parser.add_argument("--first", type=int, default=2001)
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(
        "| | needles | bound, all else known | place, brightness, background unknown | reached | plan = truth |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for k, column in enumerate(COLUMNS):
            if options.only not in column.name:
                continue
            rows = []
            for number in range(options.count):
                rows += played(column, number, options.first + 100 * k + number, Path(folder))
                print(
                    f"\r{column.name}: {number + 1} of {options.count}", end="", file=sys.stderr, flush=True
                )
            cells = [" / ".join(f"{v:.2f}" for v in np.percentile(c, (50, 95))) for c in np.array(rows).T]
            print(file=sys.stderr)
            print(f"| {column.name} | {len(rows)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
