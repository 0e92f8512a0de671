"""How long imaging takes on a CT of 512 x 512 x 100 voxels with 20 needles: ``python -m benchmarks.imaging_speed``.

A phantom (``imaging_accuracy.anatomy``) is scanned, fast, with needles 8 and 5 mm apart; it is registered to its
planning CT and the needles are found ``--times`` times. CPU seconds of the process, medians without the first turn,
which compiles. Asked: registration within 3 s, needles within 2 s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.imaging_accuracy.anatomy import PHANTOM, write_phantom
from benchmarks.imaging_accuracy.rescans import POPULATION, pose
from imaging.needle import ExpectedNeedle, find_needles
from imaging.registration import register
from planning.dicom import read_ct
from planning.frame import RigidTransform, unit
from simulator.patient import Patient
from simulator.scanner import ScanRequest, scan

SLICE_MM, PIXEL_MM = 1.1, 0.49  # 110 mm of phantom are 100 slices
DIRECTION = unit((1.0, 0.1, 0.05))
SEED = 3001


def scanned(folder: Path, pitch_mm: float) -> tuple[Path, Path, list[ExpectedNeedle]]:
    """Planning CT, rescan, and the planned needles (planning CT's frame); 4 x 5 of them."""
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
    rescan = folder / f"rescan-{pitch_mm:g}"
    scan(patient, rescan, ScanRequest(1, SLICE_MM, -55.0, 55.0, seed=SEED, mode="fast"))
    return reference, rescan, planned


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.imaging_speed", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    print(
        "| scan | voxels | needles seen | registration, CPU s (3) | needles, CPU s (2) |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as made:
        for pitch_mm in (8.0, 5.0):
            reference_at, rescan_at, planned = scanned(Path(made), pitch_mm)
            reference, ct = read_ct(reference_at), read_ct(rescan_at)
            tips = np.array([needle.tip_mm for needle in planned])
            box = tips.min(axis=0) - 30.0, tips.max(axis=0) + 30.0
            spent = []
            for _ in range(times + 1):
                began = time.process_time()
                registration = register(ct, reference, box_low_mm=box[0], box_high_mm=box[1])
                after = time.process_time()
                back = registration.reference_from_scan.inverse()
                expected = [
                    ExpectedNeedle(
                        n.name, back.apply(n.tip_mm), back.turn(n.direction), back.apply(n.entry_mm)
                    )
                    for n in planned
                ]
                found = find_needles(ct, expected)
                spent.append((after - began, time.process_time() - after))
            register_s, needles_s = np.median(spent[1:], axis=0)
            told = [
                f"{value:.1f}{'' if value <= most else ' **no**'}"
                for value, most in ((register_s, 3.0), (needles_s, 2.0))
            ]
            shape = " x ".join(str(n) for n in reversed(ct.grid.shape))
            seen = f"{len(planned) - len(found.unseen)} of {len(planned)}, {len(found.unplanned)} unplanned"
            print(
                f"| {len(planned)} needles, pitch {pitch_mm:g} mm | {shape} | {seen} | {told[0]} | {told[1]} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
