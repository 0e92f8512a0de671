"""A procedure's result made up for tests of the console: a small patient, four scans, six needles, 24 seeds.

Nothing was planned, driven or measured; the figures only have to be consistent enough to be shown. The dose is
an inverse square, the needles are drawn as bright voxels, each scan lies 4 mm off the planning CT.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_dicom import make_case
from made_plan import POSE, made_plan

from controller.result import DoseResult, ProcedureResult, RoundRecord, SeedRecord
from controller.snapshot import NeedleStatus, Snapshot
from imaging.deviation import Deviation, Verdict
from planning.anatomy import Anatomy
from planning.dvh import structure_statistics
from planning.frame import Floats, RigidTransform
from planning.plan import Plan, PlannedNeedle, rounded_point
from planning.volume import CtVolume, Grid

STEPS = (
    "Reference needles",
    "CT",
    "Seed needles",
    "CT",
    "Seeds, deepest first",
    "CT of the seeds",
    "Completed",
)
SCAN_FROM_PLAN = RigidTransform(np.eye(3), np.array([3.0, -2.0, 2.0]))


def made_deviation(lateral_mm: float, depth_mm: float = 0.4, angle_deg: float = 1.2) -> Deviation:
    """A deviation whose verdict follows from a 2 mm tolerance and nothing else."""
    total_mm = float(np.hypot(lateral_mm, depth_mm))
    return Deviation(
        total_mm=total_mm,
        lateral_mm=lateral_mm,
        depth_mm=depth_mm,
        angle_deg=angle_deg,
        sigma_mm=0.4,
        verdict=Verdict.WITHIN if total_mm <= 2.0 else Verdict.BEYOND,
    )


def made_snapshot(plan: Plan, **changes: Any) -> Snapshot:
    """The end of a procedure in which every second needle had to be corrected once."""
    needles = tuple(
        NeedleStatus(
            name=needle.name,
            hole=needle.hole,
            is_reference=needle.is_reference,
            state="delivered",
            attempt=1 + index % 2,
            first_deviation=made_deviation(1.0 + 2.0 * (index % 2)),
            deviation=made_deviation(1.0),
            seeds_delivered=len(needle.seeds),
            seeds_planned=len(needle.seeds),
        )
        for index, needle in enumerate(plan.needles)
    )
    end = Snapshot(
        state="COMPLETED",
        step_index=len(STEPS) - 1,
        steps=STEPS,
        needles=needles,
        seeds_delivered=len(plan.seeds),
        seeds_planned=len(plan.seeds),
        cartridge_left=6,
        rig="idle, simulated",
        applicator="idle, simulated",
        waiting_for="nothing",
        virtual_time_s=1834.5,
        message="The procedure is completed.",
    )
    return replace(end, **changes)


def made_result(folder: Path) -> ProcedureResult:
    """A completed procedure; its scans' DICOM files are written below ``folder``."""
    plan = made_plan()
    ct = _ct(plan)
    anatomy = _anatomy(plan, ct)
    rng = np.random.default_rng(5)
    found_mm = plan.seed_centres_mm() + rng.normal(0.0, 0.7, (len(plan.seeds), 3))
    owners = [needle.name for needle in plan.needles for _ in needle.seeds]
    seeds = tuple(
        SeedRecord(
            number=seed.number,
            needle=owner,
            planned_mm=seed.centre_mm,
            outcome="PASS",
            found_mm=rounded_point(found),
            distance_mm=float(np.linalg.norm(found - seed.centre_mm)),
        )
        for seed, owner, found in zip(plan.seeds, owners, found_mm, strict=True)
    )
    return ProcedureResult(
        status="completed",
        reason="",
        folder=folder,
        ct=ct,
        anatomy=anatomy,
        plan=plan,
        planned=_dose(plan, anatomy, plan.seed_centres_mm()),
        delivered=_dose(plan, anatomy, found_mm),
        rounds=_rounds(plan, ct, folder),
        seeds=seeds,
        unplanned_seeds_mm=(),
        seeds_in_journal=len(plan.seeds),
        digest="5eed" * 16,
        seconds={"read": 1.25, "plan": 9.5, "guide": 20.0, "judge": 3.0},
        faults=("The link to the rig was lost for 0.3 s.",),
        final=made_snapshot(plan),
        true_tips_mm={},
    )


def _ct(plan: Plan) -> CtVolume:
    low, high = plan.seed_centres_mm().min(axis=0) - 45.0, plan.seed_centres_mm().max(axis=0) + 45.0
    spacing = (2.0, 2.0, 2.5)
    nx, ny, nz = np.ceil((high - low) / spacing).astype(int) + 1
    grid = Grid((int(nz), int(ny), int(nx)), rounded_point(low), spacing)
    depth_mm = POSE.inverse().apply(_points(grid))[..., 2] - 20.0
    hu = np.where(depth_mm > 0.0, np.where(depth_mm < 6.0, -90.0, 40.0), -1000.0)
    hu += np.random.default_rng(1).normal(0.0, 12.0, grid.shape)
    return CtVolume(
        hu=hu.astype(np.int16),
        grid=grid,
        frame_of_reference_uid=plan.frame_of_reference_uid,
        series_uid=plan.series_uid,
        study_uid=plan.study_uid,
        patient_id=plan.patient_id,
        patient_name=plan.patient_name,
        sop_uids=tuple(f"1.2.3.9.{k}" for k in range(grid.shape[0])),
        slice_thickness_mm=2.5,
    )


def _anatomy(plan: Plan, ct: CtVolume) -> Anatomy:
    points = _points(ct.grid)
    centre = plan.seed_centres_mm().mean(axis=0)
    rig_mm = POSE.inverse().apply(points) - POSE.inverse().apply(centre)
    radius = np.linalg.norm(rig_mm / (16.0, 12.0, 12.0), axis=-1)
    cord = np.linalg.norm(points - centre - (0.0, 30.0, 0.0), axis=-1) < 7.0
    return Anatomy(
        ct=ct,
        gtv=radius < 0.75,
        ctv=radius < 1.0,
        body=ct.hu > -400,
        organs={"SpinalCord": cord},
        forbidden={"SpinalCord": 5.0},
        dose_limited=(),
        derived=(),
        target_name=plan.target,
        couch=np.array([0.0, 1.0, 0.0]),
    )


def _dose(plan: Plan, anatomy: Anatomy, centres_mm: Floats) -> DoseResult:
    points = _points(anatomy.grid)
    dose = np.zeros(anatomy.grid.shape)
    for centre in centres_mm:
        dose += 1800.0 / np.maximum(((points - centre) ** 2).sum(axis=-1), 1.0)
    masks = {"GTV": anatomy.gtv, "CTV": anatomy.ctv, **anatomy.organs}
    statistics = {
        name: structure_statistics(name, mask, dose, anatomy.grid, plan.prescription_gy)
        for name, mask in masks.items()
    }
    return DoseResult(dose.astype(np.float32), anatomy.grid, statistics)


def _rounds(plan: Plan, ct: CtVolume, folder: Path) -> tuple[RoundRecord, ...]:
    kinds = (("reference", 3.0), ("needles", 3.0), ("needles", 1.0), ("seeds", 1.0))
    return tuple(
        _round(plan, ct, folder / f"scan{number}", number, kind, off_mm)
        for number, (kind, off_mm) in enumerate(kinds, start=1)
    )


def _round(plan: Plan, ct: CtVolume, folder: Path, number: int, kind: Any, off_mm: float) -> RoundRecord:
    needles = () if kind == "seeds" else plan.reference_needles if kind == "reference" else plan.needles
    side = POSE.turn((0.6, 0.8, 0.0))
    tips = {needle.name: np.asarray(_goal(needle, kind)) + off_mm * side for needle in needles}
    hu = ct.hu.copy()
    for needle in needles:
        shaft = tips[needle.name] - np.arange(0.0, 90.0, 0.5)[:, None] * needle.direction
        index = np.rint(ct.grid.index_of(shaft)).astype(int)
        index = index[np.all((index >= 0) & (index < ct.grid.shape), axis=1)]
        hu[tuple(index.T)] = 2800
    origin = rounded_point(SCAN_FROM_PLAN.apply(ct.grid.origin_mm))
    make_case(
        folder,
        shape=ct.grid.shape,
        spacing_mm=ct.grid.spacing_mm,
        origin_mm=origin,
        hu=hu,
        structures={},
        with_structures=False,
    )
    return RoundRecord(
        scan_number=number,
        kind=kind,
        folder=folder,
        slice_thickness_mm=2.5,
        deviations=tuple((needle.name, made_deviation(off_mm, 0.0)) for needle in needles),
        found_tips_mm={name: rounded_point(tip) for name, tip in tips.items()},
        found_directions={needle.name: rounded_point(needle.direction) for needle in needles},
        corrected=tuple(needle.name for needle in needles) if off_mm > 2.0 else (),
        scan_from_plan=SCAN_FROM_PLAN,
    )


def _goal(needle: PlannedNeedle, kind: str) -> Any:
    return needle.reference_tip_mm if kind == "reference" else needle.tip_mm


def _points(grid: Grid) -> Floats:
    z, y, x = np.meshgrid(*(grid.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    return np.stack([x, y, z], axis=-1)
