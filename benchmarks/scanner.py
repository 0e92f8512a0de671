"""How the simulated scanner's metal compares with published figures, in both modes, and how long a scan takes.

    python -m benchmarks.scanner [CASE]

Needles are drawn as a first pass leaves them (tilt of 1 degree per axis, arcs of 700 - 4000 mm), 100 mm of them in a
water cylinder of 160 mm; values are in HU before the 12-bit clip, above the surrounding water. The
published figures are those of SCANNER.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.ndimage import map_coordinates

from simulator.dicom_writer import SeriesWriter, uid
from simulator.error_population import ErrorPopulation
from simulator.faithful import VIEWS, FaithfulImager
from simulator.metal import Rods, rods_of
from simulator.patient import Patient
from simulator.reconstruction import MetalImager
from simulator.scanner import ScannerMode, ScanRequest, scan

PIXEL_MM = 0.9
SIDE = 200
CENTRE_MM = PIXEL_MM * SIDE / 2.0
THICKNESSES_MM = (1.25, 2.5, 5.0)
NOTHING = np.zeros((0, 3))
Floats = NDArray[np.float64]


def stack_hu(rods: Rods, thickness_mm: float, heights_mm: Floats, mode: ScannerMode) -> NDArray[np.float32]:
    """The metal's HU on slices at ``heights_mm`` in a water cylinder."""
    v, u = np.meshgrid(*(np.arange(SIDE) * PIXEL_MM - CENTRE_MM,) * 2, indexing="ij")
    water_hu = np.where(np.hypot(u, v) < 80.0, 0.0, -1000.0).astype(np.float32)
    random = np.random.default_rng(0)
    shape, pixel_mm = (SIDE, SIDE), (PIXEL_MM, PIXEL_MM)
    if mode == "fast":
        fast = MetalImager(rods, shape, pixel_mm, thickness_mm)
        way_mm = fast.body_mm(water_hu)
        return np.array([fast.excess_hu(float(w), way_mm, random) for w in heights_mm])
    faithful = FaithfulImager(rods, Rods.none(), shape, pixel_mm, thickness_mm)
    ways_mm, still = faithful.body_mm(water_hu), np.zeros(VIEWS)
    return np.array([faithful.added_hu(float(w), ways_mm, still, random) for w in heights_mm])


def needle_mm(v_mm: float, w_mm: float, random: np.random.Generator, *, lying: bool = True) -> Floats:
    """A needle from tip to hub: 100 mm of arc, 100 mm straight outside; in the slices' plane or across it."""
    depth = np.append(np.linspace(100.0, 0.0, 9), -100.0)
    tilt, way = np.radians(1.0) * random.normal(size=2), random.uniform(0.0, 2.0 * np.pi)
    bent = np.maximum(depth, 0.0) ** 2 / (2.0 * random.uniform(700.0, 4000.0))
    sideways = tilt * depth[:, None] + bent[:, None] * [np.cos(way), np.sin(way)]
    axial = depth - 50.0
    if lying:
        return np.column_stack([CENTRE_MM + axial, v_mm + sideways[:, 0], w_mm + sideways[:, 1]])
    return np.column_stack([CENTRE_MM + sideways[:, 0], v_mm + sideways[:, 1], w_mm + axial])


def profile(image: NDArray[np.float32], u_mm: float, v_mm: float) -> tuple[float, float]:
    """Peak HU and full width at half of it (mm) along v through a point."""
    v = v_mm + np.arange(-8.0, 8.0, 0.05)
    line = map_coordinates(image, [v / PIXEL_MM, np.full_like(v, u_mm / PIXEL_MM)], order=1)
    top = 120 + int(np.argmax(line[120:200]))
    below = line < line[top] / 2.0
    left = top - int(np.argmax(below[: top + 1][::-1]))
    right = top + int(np.argmax(below[top:]))
    return float(line[top]), 0.05 * (right - left)


def along_shaft(stack: NDArray[np.float32], heights_mm: Floats, shaft: Floats) -> Floats:
    """``(n, 2)`` peak and width in the slice nearest to the shaft, every 4 mm but near its ends."""
    places = np.arange(8.0, 94.0, 4.0)
    order = np.argsort(shaft[:, 0])
    u = CENTRE_MM - 50.0 + places
    v, w = (np.interp(u, shaft[order, 0], shaft[order, axis]) for axis in (1, 2))
    nearest = np.abs(heights_mm - w[:, None]).argmin(axis=1)
    return np.array([profile(stack[k], a, b) for k, a, b in zip(nearest, u, v, strict=True)])


def lying_needles(thickness_mm: float, mode: ScannerMode) -> str:
    heights = np.arange(-8.0, 8.0, thickness_mm)
    found = []
    for number in range(8):
        random = np.random.default_rng(number)
        shaft = needle_mm(CENTRE_MM + random.uniform(-20, 20), random.uniform(-0.6, 0.6), random)
        stack = stack_hu(rods_of([shaft], NOTHING, NOTHING), thickness_mm, heights, mode)
        found.append(np.median(along_shaft(stack, heights, shaft), axis=0))
    low, middle, high = np.percentile([peak for peak, _ in found], (10, 50, 90))
    return f"{middle:.0f} ({low:.0f}-{high:.0f}) HU, FWHM {np.median([width for _, width in found]):.1f} mm"


def crossing_needles(mode: ScannerMode) -> str:
    found = []
    for number in range(6):
        random = np.random.default_rng(number)
        shaft = needle_mm(CENTRE_MM + random.uniform(-20, 20), 0.0, random, lying=False)
        image = stack_hu(rods_of([shaft], NOTHING, NOTHING), 1.25, np.zeros(1), mode)[0]
        row, column = np.unravel_index(int(np.argmax(image)), image.shape)
        found.append(profile(image, float(column) * PIXEL_MM, float(row) * PIXEL_MM))
    return f"{np.median([p for p, _ in found]):.0f} HU, FWHM {np.median([w for _, w in found]):.1f} mm"


def seeds(thickness_mm: float, mode: ScannerMode) -> str:
    random = np.random.default_rng(5)
    lanes, chain = np.meshgrid(np.arange(6) * 14.0 - 35.0, np.arange(8) * 5.0 - 17.5, indexing="ij")
    centres = np.column_stack([CENTRE_MM + chain.ravel(), CENTRE_MM + lanes.ravel(), 0.0 * chain.ravel()])
    centres += random.normal(size=centres.shape) * (0.5, 0.3, 0.3)
    heights = np.arange(-4.0, 4.0, thickness_mm) + random.uniform(0.0, thickness_mm)
    directions = np.tile((1.0, 0.0, 0.0), (len(centres), 1))
    stack = stack_hu(rods_of([], centres, directions), thickness_mm, heights, mode)
    peaks = []
    for u, v, _ in centres:
        i, j = round(float(v) / PIXEL_MM), round(float(u) / PIXEL_MM)
        peaks.append(stack[:, i - 1 : i + 2, j - 1 : j + 2].max())
    return f"{np.median(peaks):.0f} HU, {int(np.sum(np.array(peaks) > 2000.0))} of 48 above 2000 HU"


def starved(thickness_mm: float, mode: ScannerMode) -> str:
    heights = np.arange(-16.0, 16.0, thickness_mm)
    random = np.random.default_rng(3)
    shafts = [needle_mm(CENTRE_MM + v, w, random) for v in (-7.5, -2.5, 2.5, 7.5) for w in (-10.0, 0.0, 10.0)]
    stack = stack_hu(rods_of(shafts, NOTHING, NOTHING), thickness_mm, heights, mode)
    lowest = [along_shaft(stack, heights, shaft)[:, 0].min() for shaft in shafts]
    half = [
        along[:, 0].min() < 0.5 * np.median(along[:, 0])
        for along in (along_shaft(stack, heights, shaft) for shaft in shafts)
    ]
    return (
        f"{int(np.sum(np.array(lowest) <= 400.0))} of 12 fall to <= 400 HU, "
        f"{int(np.sum(half))} of 12 to half of their own median"
    )


def seconds_per_scan(case: Path, mode: ScannerMode) -> str:
    """A scan of the whole case with 16 needles, three times: the first also compiles."""
    patient = Patient(case, np.eye(4), ErrorPopulation(), 1)
    slices, rows, columns = patient.ct.hu.shape
    index = np.array([columns / 2.0, rows / 2.0, slices / 2.0])
    middle = patient.ct.patient_from_index[:3, :3] @ index + patient.ct.patient_from_index[:3, 3]
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([(0, 0, 1), (0, 1, 0), (-1, 0, 0)])  # needles from the left, lying
    pose[:3, 3] = middle + np.array([150.0, 0.0, 0.0])
    patient = Patient(case, pose, ErrorPopulation(), 1)
    for number in range(16):
        patient.insert(f"N{number}", 10.0 * (number % 4) - 15.0, 10.0 * (number // 4) - 15.0, 140.0)
        patient.release()
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2, 3):
            start = time.perf_counter()
            scan(patient, Path(folder) / str(number), ScanRequest(number, mode=mode))
            times.append(time.perf_counter() - start)
        images = len(list((Path(folder) / "1").iterdir()))
    return f"{min(times):.1f} s for {images} slices of {columns} x {rows} (first call {times[0]:.1f} s)"


def seconds_of_large_slices(mode: ScannerMode) -> str:
    """20 slices of 512 x 512 pixels of 0.9 mm with 12 needles lying in them; the scanner's own part."""
    side, thickness_mm = 512, 1.25
    middle = 0.45 * side
    v, u = np.meshgrid(*(np.arange(side) * 0.9 - middle,) * 2, indexing="ij")
    water_hu = np.where(np.hypot(u, v) < 90.0, 0.0, -1000.0).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        write_water(Path(folder) / "ct", np.stack([water_hu] * 20), 0.9, thickness_mm)
        pose = np.eye(4)
        pose[:3, :3] = np.column_stack([(0, 0, 1), (0, 1, 0), (-1, 0, 0)])
        pose[:3, 3] = (middle + 100.0, middle, 12.5)
        patient = Patient(Path(folder) / "ct", pose, ErrorPopulation(), 1)
        for number in range(12):
            patient.insert(f"N{number}", 5.0 * (number // 4) - 5.0, 10.0 * (number % 4) - 15.0, 120.0)
            patient.release()
        times = []
        for number in (1, 2, 3):
            start = time.perf_counter()
            scan(patient, Path(folder) / str(number), ScanRequest(number, thickness_mm, mode=mode))
            times.append(time.perf_counter() - start)
    return f"{min(times):.1f} s, {len(patient.needles)} needles (first call {times[0]:.1f} s)"


def write_water(folder: Path, hu: NDArray[np.int16], pixel_mm: float, thickness_mm: float) -> None:
    """A CT of ``hu (slices, rows, columns)``, its first pixel's centre at the origin."""
    folder.mkdir()
    header = Dataset()
    header.PatientID = header.PatientName = "water"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = (uid(n) for n in "abc")
    writer = SeriesWriter(
        folder,
        header,
        "water",
        1,
        datetime(2020, 1, 2, 9),
        np.array([1.0, 0.0, 0.0]),
        np.array([0.0, 1.0, 0.0]),
        (pixel_mm, pixel_mm),
        thickness_mm,
    )
    for index, image in enumerate(hu):
        writer.write(index, image.astype(np.float32), np.array([0.0, 0.0, index * thickness_mm]))


PUBLISHED = {
    "lying needle": ("4200-6000 HU, FWHM 2.3-2.7 mm", "1300-2100 HU, FWHM 3.6 mm", "570 HU, FWHM 3.6 mm"),
    "lying seed": ("4100 HU, 48 of 48", "2200 HU, 33 of 48", "1200 HU, 0 of 48"),
    "12 parallel": ("4 of 12 to <= 400 HU", "half-drop rule stops in 7 of 12", "-"),
}


def main() -> None:
    """Print the table."""
    case = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/hn-recurrence")

    def row(name: str, slices: str, measure: Callable[[ScannerMode], str], published: str) -> None:
        print(f"| {name} | {slices} | {measure('fast')} | {measure('faithful')} | {published} |", flush=True)

    print("| | slices mm | fast | faithful | published |\n|---|---|---|---|---|")
    for name, measure in (("lying needle", lying_needles), ("lying seed", seeds), ("12 parallel", starved)):
        for thickness_mm, published in zip(THICKNESSES_MM, PUBLISHED[name], strict=True):
            row(name, f"{thickness_mm:g}", partial(measure, thickness_mm), published)
    row("crossing needle", "1.25", crossing_needles, "6000-16000 HU, FWHM 1.5-1.7 mm")
    row(f"whole scan of {case.name}, 16 needles", "1.25", partial(seconds_per_scan, case), "-")
    row("20 slices of 512 x 512", "1.25", seconds_of_large_slices, "-")
    print(f"\n{os.cpu_count()} cores, load before the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
