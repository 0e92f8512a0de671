"""How well needles, seeds and the patient's position are found: ``python -m benchmarks.imaging_accuracy [N [FIRST]]``.

Makes N simulated rescans (default 12) of the example's patient, with other needles, directions, pitches and
patients' positions each time, lets imaging look at the DICOM files, and compares with the simulator's truth.
Every third has 2.5 mm slices, the others 1.25 mm. FIRST (default 401) is the first seed of chance: nothing in imaging
was set on seeds from 401 on. The first scan also compiles the kernels. Arrays at 5 mm pitch are counted apart: planning
keeps needles 7 mm apart, because nearer ones that are within tolerance may touch.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imaging.deviation import Verdict, deviation
from imaging.needle import ExpectedNeedle, find_needles, thickness_sigma_mm
from imaging.registration import register
from imaging.seed import find_seeds, match_seeds
from planning.dicom import read_ct
from planning.frame import Floats, RigidTransform, angle_between_deg, unit
from planning.volume import CtVolume
from simulator.error_population import ErrorPopulation
from simulator.patient import Patient
from simulator.scanner import ScanRequest, scan

CASE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
WIDE, NARROW = "pitch 7 and 10 mm", "pitch 5 mm"
TARGET_MM = np.array((-14.0, -15.0, -60.0))  # middle of the example's GTV


@dataclass
class Tally:
    """What came out of the scans of one slice thickness."""

    scans: int = 0
    planned: int = 0
    seen: int = 0
    false: int = 0
    tip_mm: list[float] = field(default_factory=list)
    sigma_mm: list[float] = field(default_factory=list)
    angle_deg: list[float] = field(default_factory=list)
    line_deg: list[float] = field(default_factory=list)
    cannot_tell: int = 0
    tre_mm: list[float] = field(default_factory=list)
    seeds: int = 0
    seeds_seen: int = 0
    seeds_false: int = 0
    seed_mm: list[float] = field(default_factory=list)
    register_s: list[float] = field(default_factory=list)
    needles_s: list[float] = field(default_factory=list)
    seeds_s: list[float] = field(default_factory=list)

    def print(self, slice_mm: float, pitch: str) -> None:
        tip, sigma = np.array(self.tip_mm), np.array(self.sigma_mm)
        print(f"\nslices of {slice_mm:g} mm, {pitch}, {self.scans} scans")
        print(f"  needles seen          {self.seen} of {self.planned}, {self.false} that nobody planned")
        print(f"  tip error             median {np.median(tip):.2f}, 95 % {np.percentile(tip, 95):.2f} mm")
        print(f"  within 2 sigma        {100 * np.mean(tip < 2 * sigma):.0f} %")
        print(f"  verdict cannot tell   {100 * self.cannot_tell / max(self.seen, 1):.0f} %")
        for what, angles in (("tip to entry", self.line_deg), ("at the tip", self.angle_deg)):
            middle, most = np.percentile(angles, (50, 95))
            print(f"  angle, {what:<12}   median {middle:.2f}, 95 % {most:.2f} deg")
        print(f"  registration (TRE)    {np.sqrt(np.mean(np.square(self.tre_mm))):.2f} mm")
        print(f"  seeds seen            {self.seeds_seen} of {self.seeds}, {self.seeds_false} false")
        print(f"  seed position         median {np.median(self.seed_mm):.2f} mm")
        times = (np.median(t) for t in (self.register_s, self.needles_s, self.seeds_s))
        print("  time                  registration {:.1f}, needles {:.1f}, seeds {:.1f} s".format(*times))


def pose(direction: Floats) -> Floats:
    """A rig 100 mm in front of the target that looks along ``direction``."""
    u = unit(np.cross((0.0, 0.0, 1.0), direction))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([u, np.cross(direction, u), direction], axis=1)
    matrix[:3, 3] = TARGET_MM - 100.0 * direction
    return matrix


def play(
    seed: int, slice_mm: float, reference: CtVolume, work: Path, tallies: dict[tuple[float, str], Tally]
) -> None:
    """One patient: needles in, CT, needles found; seeds out, CT, seeds found."""
    rng = np.random.default_rng(seed)
    direction = unit(np.array([1.0, rng.uniform(-0.2, 1.0), rng.uniform(-0.2, 0.3)]))
    population = ErrorPopulation(setup_translation_sigma_mm=0.7)  # as after the reference needles
    patient = Patient(CASE, pose(direction), population, seed)
    patient_from_rig = RigidTransform.from_matrix(pose(direction))
    side, spacing_mm = int(rng.integers(2, 5)), float(rng.choice((5.0, 7.0, 10.0)))
    tally = tallies[slice_mm, NARROW if spacing_mm < 6.0 else WIDE]
    expected, columns = [], side if spacing_mm < 6.0 else min(side, 3)
    for k in range(columns**2):
        x, y = (spacing_mm * (i - (columns - 1) / 2) for i in divmod(k, columns))
        z, skin = 100.0 + rng.uniform(0.0, 15.0), patient.skin_z_mm(x, y)
        if skin is None or z - skin < 30.0:
            continue
        patient.insert(f"N{k + 1:02d}", x, y, z)
        patient.release()
        places = patient_from_rig.apply([(x, y, z), (x, y, skin)])
        expected.append((f"N{k + 1:02d}", places[0], places[1]))
    if not expected:
        return
    scan(patient, work / "needles", ScanRequest(1, slice_mm, seed=seed))
    seen_ct = read_ct(work / "needles")
    tips = np.array([tip for _, tip, _ in expected])
    began = time.perf_counter()
    registration = register(
        seen_ct, reference, box_low_mm=tips.min(axis=0) - 30, box_high_mm=tips.max(axis=0) + 30
    )
    tally.register_s.append(time.perf_counter() - began)
    truth = RigidTransform.from_matrix(patient.scanner_from_patient(1))
    scan_from_plan = registration.reference_from_scan.inverse()
    tally.tre_mm += list(np.linalg.norm(scan_from_plan.apply(tips) - truth.apply(tips), axis=1))
    towards = scan_from_plan.turn(direction)
    began = time.perf_counter()
    found = find_needles(
        seen_ct,
        [
            ExpectedNeedle(n, scan_from_plan.apply(tip), towards, scan_from_plan.apply(entry))
            for n, tip, entry in expected
        ],
    )
    tally.needles_s.append(time.perf_counter() - began)
    tally.scans += 1
    tally.planned += len(expected)
    tally.false += len(found.unplanned)
    for name, tip, _ in expected:
        needle = found.needle(name)
        if needle is not None:
            shaft = truth.apply(patient.true_shaft_patient_mm(name))
            tally.seen += 1
            tally.tip_mm.append(float(np.linalg.norm(needle.tip_mm - shaft[0])))
            tally.sigma_mm.append(_sigma_mm(needle.sigma_mm, registration.expected_tre_mm, slice_mm))
            tally.angle_deg.append(angle_between_deg(needle.direction, shaft[0] - shaft[1]))
            told = deviation(
                scan_from_plan.apply(tip), towards, needle.tip_mm, needle.direction, tally.sigma_mm[-1]
            )
            tally.cannot_tell += told.verdict is Verdict.CANNOT_TELL
            depths = (shaft - shaft[0]) @ towards
            at_skin = float((needle.entry_mm - shaft[0]) @ towards)
            true_entry = np.array([np.interp(at_skin, depths[::-1], shaft[::-1, i]) for i in range(3)])
            tally.line_deg.append(angle_between_deg(needle.tip_mm - needle.entry_mm, shaft[0] - true_entry))
    _seeds(patient, seed, slice_mm, work, tally)


def _sigma_mm(own_mm: float, tre_mm: float, slice_mm: float) -> float:
    """As a rescan states it."""
    return float(np.sqrt(own_mm**2 + tre_mm**2 + thickness_sigma_mm(slice_mm) ** 2))


def _seeds(patient: Patient, seed: int, slice_mm: float, work: Path, tally: Tally) -> None:
    for name in patient.needles:
        for distance_mm in (4.5, 5.0, 10.0):
            patient.retract(name, distance_mm)
            patient.drop_seed(name)
    for name in patient.needles:
        patient.retract(name, 150.0)
    scan(patient, work / "seeds", ScanRequest(2, slice_mm, seed=seed))
    truth = RigidTransform.from_matrix(patient.scanner_from_patient(2))
    centres = truth.apply(np.array([s.centre_mm for s in patient.true_seeds]))
    directions = truth.turn(np.array([s.direction for s in patient.true_seeds]))
    planned = centres + np.random.default_rng(seed).normal(0.0, 1.0, centres.shape)
    ct = read_ct(work / "seeds")
    began = time.perf_counter()
    found = find_seeds(ct, centres_mm=planned, directions=directions)
    tally.seeds_s.append(time.perf_counter() - began)
    places = np.array([s.centre_mm for s in found]).reshape(-1, 3)
    partner = match_seeds(places, centres, 2.5)
    tally.seeds += len(centres)
    for k, n in enumerate(partner):
        if n is None:
            tally.seeds_false += 1
        else:
            tally.seeds_seen += 1
            tally.seed_mm.append(float(np.linalg.norm(places[k] - centres[n])))


def main(count: int, first: int) -> None:
    reference = read_ct(CASE)
    tallies = {(slice_mm, pitch): Tally() for slice_mm in (1.25, 2.5) for pitch in (WIDE, NARROW)}
    for k in range(count):
        with tempfile.TemporaryDirectory() as folder:
            play(first + k, (1.25, 1.25, 2.5)[k % 3], reference, Path(folder), tallies)
        print(f"\r{k + 1} of {count}", end="", flush=True)
    for (slice_mm, pitch), tally in tallies.items():
        if tally.scans:
            tally.print(slice_mm, pitch)


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], *("12", "401")[len(sys.argv) - 1 :])[:2]))
