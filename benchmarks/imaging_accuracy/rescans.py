"""Simulated rescans with their truth, made once and kept in a folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.imaging_accuracy.anatomy import (
    EXAMPLE,
    FILLINGS,
    LEFT,
    PHANTOM,
    RIGHT,
    STEEP,
    Site,
    write_phantom,
)
from planning.frame import RigidTransform, unit
from simulator.error_population import ErrorPopulation
from simulator.patient import NEEDLE_DIAMETER_MM, Patient
from simulator.scanner import ScannerMode, ScanRequest, scan

Floats = NDArray[np.float64]
POPULATION = ErrorPopulation(setup_translation_sigma_mm=0.7)  # as after the reference needles
MARGIN_MM = 36.0  # scanned above and below the needles
HALF_FIELD_MM = 60.0  # of a reduced field


@dataclass(frozen=True)
class Column:
    """One kind of rescan: a column of the table.

    Attributes:
        name: its heading.
        slice_mm: of the rescan.
        pitches_mm: of the needles' square array; one is drawn.
        count: rescans of it.
        mode: of the scanner.
        variants: patients, taken in turn.
    """

    name: str
    slice_mm: float
    pitches_mm: tuple[float, ...]
    count: int
    mode: ScannerMode = "fast"
    variants: tuple[str, ...] = ("right",)

    @property
    def crowded(self) -> bool:
        """Whether the array is 3 x 3 or 4 x 4 instead of 2 x 2 or 3 x 3."""
        return max(self.pitches_mm) < 6.0


@dataclass(frozen=True, eq=False)
class Rescan:
    """A rescan of needles and one of seeds, and what is true in them (patient frame of each scan).

    Attributes:
        reference: folder of the planning CT.
        needles, seeds: folders of the scans.
        direction: ``(3,)`` planned direction of all needles, planning CT.
        tips_mm, entries_mm: ``(n, 3)`` planned, planning CT.
        shafts_mm: per needle ``(k, 3)`` from tip to hub, frame of the needle scan.
        moved: ``(2, 4, 4)`` scan from planning CT, of both scans.
        seeds_mm, seed_directions: ``(m, 3)`` in the frame of the seed scan.
    """

    reference: Path
    needles: Path
    seeds: Path
    direction: Floats
    tips_mm: Floats
    entries_mm: Floats
    shafts_mm: list[Floats]
    moved: Floats
    seeds_mm: Floats
    seed_directions: Floats

    @property
    def names(self) -> list[str]:
        return [f"N{k + 1:02d}" for k in range(len(self.tips_mm))]


@dataclass(frozen=True)
class _Variant:
    """A patient and what is special about his scans."""

    site: Site
    phantom: int = 0
    noise_times: float = 1.0
    dental: bool = False
    reduced: bool = False
    breathing_mm: float = 0.0


VARIANTS = {
    "right": _Variant(RIGHT),
    "left": _Variant(LEFT),
    "steep": _Variant(STEEP),
    "low dose": _Variant(RIGHT, noise_times=1.8),
    "dental": _Variant(RIGHT, dental=True),
    "reduced field": _Variant(RIGHT, reduced=True),
    "breathing": _Variant(RIGHT, breathing_mm=0.5),
    "phantom 1": _Variant(PHANTOM, phantom=1),
    "phantom 2": _Variant(PHANTOM, phantom=2),
}
PHANTOM_CT = {1: (0.49, 1.25, 25.0), 2: (0.6, 2.5, 12.0)}  # pixel, slice, noise of its planning CT


def _reference(variant: _Variant, folder: Path) -> Path:
    if not variant.phantom:
        return EXAMPLE
    made = folder / f"phantom-{variant.phantom}"
    if not made.exists():
        growing = folder / f".phantom-{variant.phantom}-{os.getpid()}"
        shutil.rmtree(growing, ignore_errors=True)
        pixel_mm, slice_mm, noise_hu = PHANTOM_CT[variant.phantom]
        write_phantom(growing, variant.phantom, pixel_mm=pixel_mm, slice_mm=slice_mm, noise_hu=noise_hu)
        try:
            os.replace(growing, made)
        except OSError:  # another process was faster
            shutil.rmtree(growing)
    return made


def pose(target_mm: Floats, direction: Floats) -> Floats:
    """A rig 100 mm in front of the target that looks along ``direction``."""
    u = unit(np.cross((0.0, 0.0, 1.0), direction))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([u, np.cross(direction, u), direction], axis=1)
    matrix[:3, 3] = target_mm - 100.0 * direction
    return matrix


def rescan_of(column: Column, number: int, seed: int, folder: Path) -> Rescan | None:
    """Rescan ``number`` of a column, drawn from ``seed``; None when no needle finds a place.

    A needle that would have to pass through one that already stands is not put in: steel can't.
    """
    named = column.variants[number % len(column.variants)]
    variant = VARIANTS[named]
    reference = _reference(variant, folder)
    made = folder / f"{column.name} {named} {seed}".replace(" ", "-").replace(",", "").replace("/", "-")
    if not (made / "truth.npz").exists():
        _make(column, number, seed, folder, made)
    with np.load(made / "truth.npz", allow_pickle=False) as truth:
        if not len(truth["tips_mm"]):
            return None
        shafts = np.split(truth["shafts_mm"], np.cumsum(truth["shaft_lengths"])[:-1])
        same = {
            name: truth[name]
            for name in ("direction", "tips_mm", "entries_mm", "moved", "seeds_mm", "seed_directions")
        }
    return Rescan(reference, made / "needles", made / "seeds", shafts_mm=shafts, **same)


@dataclass(frozen=True, eq=False)
class Placed:
    """A patient with needles, ready to be scanned.

    Attributes:
        patient: the simulator's.
        names: of his needles.
        direction: ``(3,)`` planned for all of them.
        tips_mm, entries_mm: ``(n, 3)`` planned, planning CT.
        ask: for what the scanner is asked, but for the number of the scan.
    """

    patient: Patient
    names: list[str]
    direction: Floats
    tips_mm: Floats
    entries_mm: Floats
    ask: ScanRequest

    def take(self, number: int, folder: Path) -> None:
        """Scan ``number`` of the session."""
        scan(self.patient, folder, replace(self.ask, number=number))


def placed(column: Column, number: int, seed: int, folder: Path) -> Placed | None:
    """The patient of rescan ``number`` of a column with his needles; None when no needle finds a place."""
    variant = VARIANTS[column.variants[number % len(column.variants)]]
    reference = _reference(variant, folder)
    random = np.random.default_rng(seed)
    site = variant.site
    direction = unit(np.array([site.inwards, random.uniform(*site.front), random.uniform(*site.up)]))
    target = np.array(site.target_mm)
    patient_from_rig = RigidTransform.from_matrix(pose(target, direction))
    patient = Patient(reference, pose(target, direction), POPULATION, seed)
    side = int(random.integers(3, 5)) if column.crowded else int(random.integers(2, 4))
    pitch_mm = float(random.choice(column.pitches_mm))
    tips, entries, names = [], [], []
    for k in range(side**2):
        x, y = (pitch_mm * (i - (side - 1) / 2) for i in divmod(k, side))
        z, skin = 100.0 + random.uniform(0.0, 15.0), patient.skin_z_mm(x, y)
        if skin is None or z - skin < 30.0:
            continue
        name = f"N{k + 1:02d}"
        patient.insert(name, x, y, z)
        patient.release()
        shaft = patient.true_shaft_patient_mm(name)
        if any(_gap_mm(shaft, patient.true_shaft_patient_mm(other)) < NEEDLE_DIAMETER_MM for other in names):
            patient.retract(name, 300.0)
            continue
        places = patient_from_rig.apply([(x, y, z), (x, y, skin)])
        names.append(name)
        tips.append(places[0])
        entries.append(places[1])
    if not names:
        return None
    ends = np.array([*tips, *entries])
    low, high = float(ends[:, 2].min() - MARGIN_MM), float(ends[:, 2].max() + MARGIN_MM)
    field = None
    if variant.reduced:
        middle = np.array(tips).mean(axis=0) - 20.0 * direction
        field = tuple(float(v) for m in middle[:2] for v in (m - HALF_FIELD_MM, m + HALF_FIELD_MM))
    ask = ScanRequest(
        1, column.slice_mm, low, high, seed=seed, mode=column.mode, field_mm=field,
        dental=FILLINGS if variant.dental else (), breathing_mm=variant.breathing_mm,
        noise_times=variant.noise_times,
    )  # fmt: skip
    return Placed(patient, names, direction, np.array(tips), np.array(entries), ask)


def _make(column: Column, number: int, seed: int, folder: Path, made: Path) -> None:
    shutil.rmtree(made, ignore_errors=True)
    one = placed(column, number, seed, folder)
    made.mkdir(parents=True)
    if one is None:
        np.savez(made / "truth.npz", tips_mm=np.zeros((0, 3)))
        return
    patient, names = one.patient, one.names
    one.take(1, made / "needles")
    moved = np.array([patient.scanner_from_patient(n) for n in (1, 2)])
    now, later = (RigidTransform.from_matrix(m) for m in moved)
    shafts = [now.apply(patient.true_shaft_patient_mm(name)) for name in names]
    for name in names:
        for distance_mm in (4.5, 5.0, 10.0):
            patient.retract(name, distance_mm)
            patient.drop_seed(name)
    for name in names[:-1] if column.slice_mm <= 1.25 else names:  # one needle still stands beside the chains
        patient.retract(name, 150.0)
    one.take(2, made / "seeds")
    np.savez(
        made / "growing.npz",
        direction=one.direction,
        tips_mm=one.tips_mm,
        entries_mm=one.entries_mm,
        shafts_mm=np.concatenate(shafts),
        shaft_lengths=np.array([len(s) for s in shafts]),
        moved=moved,
        seeds_mm=later.apply(np.array([s.centre_mm for s in patient.true_seeds])),
        seed_directions=later.turn(np.array([s.direction for s in patient.true_seeds])),
    )
    os.replace(made / "growing.npz", made / "truth.npz")


def _gap_mm(one: Floats, other: Floats) -> float:
    """Least distance of two axes, sampled every half millimetre."""
    a, b = (_dense(shaft) for shaft in (one, other))
    return float(min(np.linalg.norm(b - point, axis=1).min() for point in a))


def _dense(shaft: Floats) -> Floats:
    along = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(shaft, axis=0), axis=1)))
    s = np.arange(0.0, along[-1], 0.5)
    return np.column_stack([np.interp(s, along, shaft[:, k]) for k in range(3)])
