"""How long imaging takes on a CT of 512 x 512 x 100 voxels with 20 needles: ``python -m benchmarks.imaging_speed``.

A phantom (``imaging_accuracy.anatomy``) is scanned, fast, with needles 8 and 5 mm apart, and 5 mm apart in 2.5 mm
slices (the same 110 mm are 44 of them; there several ways to the needles are followed). It is registered to its
planning CT and the needles are found ``--times`` times. Medians without the first turn, in which a process loads its
compiled code (or compiles it, once after each change). CPU seconds are those of the process, wall seconds what passes:
on a busy machine more. The yardstick is one pass over the same voxels by a library: SciPy's Gaussian filter, 1 voxel
wide, timed in the same turns; so many of them an analysis takes on any machine. Asked: registration within 3 s, needles
within 2 s, on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.imaging_accuracy.anatomy import PHANTOM, write_phantom
from benchmarks.imaging_accuracy.rescans import POPULATION, pose
from imaging.needle import ExpectedNeedle, NeedleFindings
from imaging.needle_search import find_needles
from imaging.registration import register
from planning.dicom import read_ct
from planning.frame import Floats, RigidTransform, unit
from planning.volume import CtVolume
from simulator.patient import Patient
from simulator.scanner import ScanRequest, scan

SLICE_MM, PIXEL_MM = 1.1, 0.49  # 110 mm of phantom are 100 slices
DIRECTION = unit((1.0, 0.1, 0.05))
SEED = 3001
T = TypeVar("T")
MOST_S = {"registration": 3.0, "needles": 2.0}


@dataclass(frozen=True, eq=False)
class Case:
    """A planning CT, a rescan, the planned needles (planning CT's frame) and true tips ``(n, 3)`` (rescan's frame)."""

    reference: CtVolume
    ct: CtVolume
    planned: list[ExpectedNeedle]
    tips_mm: Floats


def scanned(folder: Path, pitch_mm: float, slice_mm: float) -> Case:
    """4 x 5 needles in the phantom."""
    reference = folder / "planning"
    if not reference.exists():
        write_phantom(reference, 1, pixel_mm=PIXEL_MM, slice_mm=SLICE_MM, noise_hu=15.0)
    matrix = pose(np.array(PHANTOM.target_mm), DIRECTION)
    patient_from_rig = RigidTransform.from_matrix(matrix)
    patient = Patient(reference, matrix, POPULATION, SEED)
    planned = []
    for k in range(20):
        x, y = pitch_mm * (k % 4 - 1.5), pitch_mm * (k // 4 - 2.0)
        skin = patient.skin_z_mm(x, y)
        assert skin is not None
        name, z = f"N{k + 1:02d}", 100.0 + float(k % 7)
        patient.insert(name, x, y, z)
        patient.release()
        tip, entry = patient_from_rig.apply([(x, y, z), (x, y, skin)])
        planned.append(ExpectedNeedle(name, tip, DIRECTION, entry))
    rescan = folder / f"rescan-{pitch_mm:g}-{slice_mm:g}"
    scan(patient, rescan, ScanRequest(1, slice_mm, -55.0, 55.0, seed=SEED, mode="fast"))
    scanner_from_patient = RigidTransform.from_matrix(patient.scanner_from_patient(1))
    tips = scanner_from_patient.apply([patient.true_shaft_patient_mm(needle.name)[0] for needle in planned])
    return Case(read_ct(reference), read_ct(rescan), planned, tips)


def timed(work: Callable[[], T]) -> tuple[T, Floats]:
    """What it gives, and how long it took: CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, np.array((time.process_time() - cpu, time.perf_counter() - wall))


def turn(case: Case) -> tuple[NeedleFindings, Floats]:
    """One analysis: what was found; ``(3, 2)`` CPU and wall s of registration, needles and yardstick."""
    tips = np.array([needle.tip_mm for needle in case.planned])
    low, high = tips.min(axis=0) - 30.0, tips.max(axis=0) + 30.0
    registration, register_s = timed(
        lambda: register(case.ct, case.reference, box_low_mm=low, box_high_mm=high)
    )
    back = registration.reference_from_scan.inverse()
    expected = [
        ExpectedNeedle(n.name, back.apply(n.tip_mm), back.turn(n.direction), back.apply(n.entry_mm))
        for n in case.planned
    ]
    found, needles_s = timed(lambda: find_needles(case.ct, expected))
    _, yardstick_s = timed(lambda: gaussian_filter(case.ct.hu.astype(np.float32), 1.0))
    return found, np.array((register_s, needles_s, yardstick_s))


def row(pitch_mm: float, case: Case, times: int) -> str:
    """A line of the table."""
    turns = [turn(case) for _ in range(times + 1)]
    found, (_, (first_s, _), _) = turns[0]
    register_s, needles_s, yardstick_s = np.median([spent for _, spent in turns[1:]], axis=0)

    def told(seconds: Floats, most_s: float) -> str:
        return f"{seconds[0]:.2f} / {seconds[1]:.2f}{'' if seconds[0] <= most_s else ' **no**'}"

    seen = {needle.name: needle.tip_mm for needle in found.found}
    errors = [
        float(np.linalg.norm(seen[n.name] - tip))
        for n, tip in zip(case.planned, case.tips_mm, strict=True)
        if n.name in seen
    ]
    cells = (
        f"{len(case.planned)} needles, pitch {pitch_mm:g} mm",
        " x ".join(str(n) for n in reversed(case.ct.grid.shape)),
        f"{len(errors)} of {len(case.planned)}, {len(found.unplanned)} unplanned, "
        f"{np.median(errors):.2f} ({max(errors):.2f})",
        told(register_s, MOST_S["registration"]),
        told(needles_s, MOST_S["needles"]),
        f"{register_s[0] / yardstick_s[0]:.1f}, {needles_s[0] / yardstick_s[0]:.1f}",
        f"{first_s:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.imaging_speed", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    heads = (
        "scan",
        "voxels",
        "needles seen; tip error mm, median (greatest)",
        f"registration, s of CPU / wall ({MOST_S['registration']:g})",
        f"needles, s of CPU / wall ({MOST_S['needles']:g})",
        "registration, needles: in Gaussian filters of the scan",
        "needles, first time in the process, s of CPU",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with tempfile.TemporaryDirectory() as made:
        for pitch_mm, slice_mm in ((8.0, SLICE_MM), (5.0, SLICE_MM), (5.0, 2.5)):
            print(row(pitch_mm, scanned(Path(made), pitch_mm, slice_mm), times), flush=True)
    print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}; needles take one core.")


if __name__ == "__main__":
    main()
