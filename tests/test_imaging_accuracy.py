"""Imaging against the simulated scanner: real anatomy, metal by projection, DICOM files in between.

A small sample of ``benchmarks/imaging_accuracy``, limits: the goals that it meets; the truth is the simulator's.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from imaging.deviation import Verdict, deviation
from imaging.rescan import analyse_rescan
from planning.dicom import read_ct
from planning.frame import RigidTransform, angle_between_deg, unit
from planning.plan import Plan, PlannedNeedle, PlannedSeed, rounded_point
from planning.volume import CtVolume
from simulator.error_population import ErrorPopulation
from simulator.patient import Patient
from simulator.scanner import ScanRequest, scan

CASE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
TARGET_MM = np.array((-14.0, -15.0, -60.0))
PITCH_MM = 6.0
Z_LOW_MM, Z_HIGH_MM = -90.0, -30.0


def pose() -> RigidTransform:
    direction = unit((0.8, 0.6, 0.1))
    u = unit(np.cross((0.0, 0.0, 1.0), direction))
    rotation = np.stack([u, np.cross(direction, u), direction], axis=1)
    return RigidTransform(rotation, TARGET_MM - 100.0 * direction)


def plan_for(reference: CtVolume, patient: Patient) -> Plan:
    """Six needles with three seeds each; where the skin is, the simulator is asked."""
    needles, number = [], 0
    for k in range(6):
        x, y = PITCH_MM * (k % 3 - 1), PITCH_MM * (k // 3 - 0.5)
        z, skin = 102.0 + 2.0 * k, patient.skin_z_mm(x, y)
        assert skin is not None
        seeds = []
        for j in range(3):
            number += 1
            centre = rounded_point(pose().apply((x, y, z - 2.25 - 5.0 * j)))
            seeds.append(PlannedSeed(number, centre, 4.5 + 5.0 * j))
        entry, tip = (rounded_point(pose().apply((x, y, depth))) for depth in (skin, z))
        needles.append(PlannedNeedle(f"N{k + 1:02d}", f"A{k + 1}", entry, tip, None, tuple(seeds)))
    rows = tuple(tuple(float(v) for v in row) for row in pose().matrix())
    return Plan(
        reference.patient_id, reference.patient_name, reference.study_uid, reference.series_uid,
        reference.frame_of_reference_uid, "GTV", 5.0, 120.0, "6711", 4.5, 59.4, 0.65, 0.8255,
        "made", "0" * 64, rows, tuple(needles),
    )  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[CtVolume, Patient, Plan, Path]:
    """Needles in, scan; seeds out, scan."""
    folder = tmp_path_factory.mktemp("scans")
    reference = read_ct(CASE)
    patient = Patient(CASE, pose().matrix(), ErrorPopulation(setup_translation_sigma_mm=0.7), 4)
    plan = plan_for(reference, patient)
    for needle in plan.needles:
        x, y, z = (float(v) for v in pose().inverse().apply(needle.tip_mm))
        patient.insert(needle.name, x, y, z)
        patient.release()
    scan(patient, folder / "needles", ScanRequest(1, 1.25, Z_LOW_MM, Z_HIGH_MM, seed=1))
    for needle in plan.needles:
        drawn = 0.0
        for seed in needle.seeds:
            patient.retract(needle.name, seed.retraction_mm - drawn)
            drawn = seed.retraction_mm
            patient.drop_seed(needle.name)
    for name in patient.needles:
        patient.retract(name, 120.0)
    scan(patient, folder / "seeds", ScanRequest(2, 1.25, Z_LOW_MM, Z_HIGH_MM, seed=1))
    return reference, patient, plan, folder


def test_needles_come_back_in_the_plans_frame_well_within_the_tolerance(
    played: tuple[CtVolume, Patient, Plan, Path],
) -> None:
    reference, patient, plan, folder = played
    findings = analyse_rescan(folder / "needles", reference, plan, kind="needles")
    assert findings.registered, findings.problem
    assert findings.unseen_needles == ()
    assert findings.unplanned_needles == ()
    moved = RigidTransform.from_matrix(patient.scanner_from_patient(1))
    back = RigidTransform.from_matrix(findings.plan_from_scan) @ moved
    assert np.linalg.norm(back.apply(TARGET_MM) - TARGET_MM) < 0.5
    assert findings.identity.patient_id == reference.patient_id
    assert findings.identity.slice_thickness_mm == pytest.approx(1.25)
    # the truth as the simulator keeps it, read after the needles were drawn back: so from a second, equal patient
    again = Patient(CASE, pose().matrix(), ErrorPopulation(setup_translation_sigma_mm=0.7), 4)
    errors, angles = [], []
    for needle in plan.needles:
        x, y, z = (float(v) for v in pose().inverse().apply(needle.tip_mm))
        again.insert(needle.name, x, y, z)
        again.release()
        true_tip, seen = again.true_tip_patient_mm(needle.name), findings.needle(needle.name)
        assert seen is not None
        errors.append(float(np.linalg.norm(np.asarray(seen.tip_mm) - true_tip)))
        assert errors[-1] < 3.0 * seen.sigma_mm
        shaft = again.true_shaft_patient_mm(needle.name)
        at_skin = (np.asarray(seen.entry_mm) - true_tip) @ needle.direction
        along = (shaft - true_tip) @ needle.direction
        entry = np.array([np.interp(at_skin, along[::-1], shaft[::-1, i]) for i in range(3)])
        angles.append(angle_between_deg(np.subtract(seen.tip_mm, seen.entry_mm), true_tip - entry))
        told = deviation(needle.tip_mm, needle.direction, seen.tip_mm, seen.direction, seen.sigma_mm)
        true_mm = float(np.linalg.norm(true_tip - needle.tip_mm))
        assert told.total_mm == pytest.approx(true_mm, abs=0.8)
        if told.verdict is not Verdict.CANNOT_TELL:
            assert (told.verdict is Verdict.WITHIN) == (true_mm <= 2.0)
    assert np.median(errors) <= 0.4
    assert max(errors) <= 0.8
    assert max(angles) <= 0.5
    body = findings.to_json()
    assert json.loads(json.dumps(body)) == body


def test_seeds_come_back_and_are_matched(played: tuple[CtVolume, Patient, Plan, Path]) -> None:
    reference, patient, plan, folder = played
    findings = analyse_rescan(folder / "seeds", reference, plan, kind="seeds")
    assert findings.registered, findings.problem
    assert findings.unseen_seeds == ()
    assert findings.unplanned_seeds == ()
    true = {seed.number: patient.true_seeds[k] for k, seed in enumerate(plan.seeds)}
    errors = [
        np.linalg.norm(np.asarray(s.centre_mm) - true[s.number].centre_mm)
        for s in findings.seeds
        if s.number is not None
    ]
    assert len(errors) == len(plan.seeds)
    assert np.median(errors) <= 0.7


def test_a_scan_that_does_not_show_the_target_reports_nothing(
    played: tuple[CtVolume, Patient, Plan, Path], tmp_path: Path
) -> None:
    reference, patient, plan, _ = played
    scan(patient, tmp_path / "low", ScanRequest(3, 2.5, -115.0, -105.0))
    findings = analyse_rescan(tmp_path / "low", reference, plan, kind="needles")
    assert not findings.registered
    assert findings.problem
    assert findings.needles == ()
    assert set(findings.unseen_needles) == {needle.name for needle in plan.needles}
