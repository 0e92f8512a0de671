"""What imaging makes of one rescan, compared with the truth."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.imaging_accuracy.rescans import Column, Rescan, rescan_of
from imaging.deviation import TOLERANCE_MM, Verdict, deviation
from imaging.needle import ExpectedNeedle, thickness_sigma_mm
from imaging.needle_search import find_needles
from imaging.registration import register
from imaging.seed import find_seeds
from imaging.seed_match import match_seeds
from planning.dicom import read_ct
from planning.frame import RigidTransform, angle_between_deg
from planning.volume import CtVolume

Floats = NDArray[np.float64]
WRONG_MM = 2.5  # a seed further than this from every true one is false
_references: dict[str, CtVolume] = {}


@dataclass
class Measured:
    """Lists over needles, seeds or rescans; they are added up over the rescans of a column."""

    planned: int = 0
    unplanned: int = 0
    registration_failed: int = 0
    seeds: int = 0
    seeds_false: int = 0
    scans: int = 0
    names: list[str] = field(default_factory=list)
    tip_mm: list[float] = field(default_factory=list)
    along_mm: list[float] = field(default_factory=list)
    sigma_mm: list[float] = field(default_factory=list)
    angle_deg: list[float] = field(default_factory=list)
    line_deg: list[float] = field(default_factory=list)
    cannot_tell: list[bool] = field(default_factory=list)
    within_wrongly: list[bool] = field(default_factory=list)
    beyond_wrongly: list[bool] = field(default_factory=list)
    tre_mm: list[float] = field(default_factory=list)
    expected_tre_mm: list[float] = field(default_factory=list)
    seed_mm: list[float] = field(default_factory=list)
    seed_deg: list[float] = field(default_factory=list)
    seed_sigma_mm: list[float] = field(default_factory=list)
    register_cpu_s: list[float] = field(default_factory=list)
    needles_cpu_s: list[float] = field(default_factory=list)
    seeds_cpu_s: list[float] = field(default_factory=list)

    def __iadd__(self, other: Measured) -> Measured:
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))
        return self


def play(job: tuple[Column, int, int, str]) -> Measured | None:
    """One rescan, made (column, its number, seed, folder) and looked at; None when no needle found a place in it."""
    column, number, seed, folder = job
    rescan = rescan_of(column, number, seed, Path(folder))
    return None if rescan is None else measured(rescan)


def measured(rescan: Rescan, *, with_seeds: bool = True) -> Measured:
    """Register, find needles, find seeds."""
    reference = _references.setdefault(str(rescan.reference), read_ct(rescan.reference))
    out = Measured(scans=1, planned=len(rescan.tips_mm))
    scan_from_plan = _registered(out, rescan, reference)
    if scan_from_plan is None:
        return out
    ct = read_ct(rescan.needles)
    towards = scan_from_plan.turn(rescan.direction)
    planned = scan_from_plan.apply(rescan.tips_mm)
    expected = [
        ExpectedNeedle(name, tip, towards, entry)
        for name, tip, entry in zip(
            rescan.names, planned, scan_from_plan.apply(rescan.entries_mm), strict=True
        )
    ]
    began = time.process_time()
    found = find_needles(ct, expected)
    out.needles_cpu_s.append(time.process_time() - began)
    out.unplanned += len(found.unplanned)
    slice_sigma = thickness_sigma_mm(max(ct.grid.spacing_mm[2], ct.slice_thickness_mm))
    for n, (name, shaft) in enumerate(zip(rescan.names, rescan.shafts_mm, strict=True)):
        needle = found.needle(name)
        if needle is None:
            continue
        off = needle.tip_mm - shaft[0]
        end = (shaft[0] - shaft[1]) / np.linalg.norm(shaft[0] - shaft[1])
        sigma = float(np.linalg.norm((needle.sigma_mm, out.expected_tre_mm[-1], slice_sigma)))
        told = deviation(planned[n], towards, needle.tip_mm, needle.direction, sigma)
        true = float(np.linalg.norm(shaft[0] - planned[n]))
        out.names.append(name)
        out.tip_mm.append(float(np.linalg.norm(off)))
        out.along_mm.append(float(off @ end))
        out.sigma_mm.append(sigma)
        out.angle_deg.append(angle_between_deg(needle.direction, end))
        out.cannot_tell.append(told.verdict is Verdict.CANNOT_TELL)
        out.within_wrongly.append(told.verdict is Verdict.WITHIN and true > TOLERANCE_MM)
        out.beyond_wrongly.append(told.verdict is Verdict.BEYOND and true <= TOLERANCE_MM)
        depths = (shaft - shaft[0]) @ towards
        at_skin = float((needle.entry_mm - shaft[0]) @ towards)
        entry = np.array([np.interp(at_skin, depths[::-1], shaft[::-1, i]) for i in range(3)])
        out.line_deg.append(angle_between_deg(needle.tip_mm - needle.entry_mm, shaft[0] - entry))
    if with_seeds:
        _seeds(out, rescan, reference)
    return out


def _registered(out: Measured, rescan: Rescan, reference: CtVolume) -> RigidTransform | None:
    low, high = rescan.tips_mm.min(axis=0) - 30.0, rescan.tips_mm.max(axis=0) + 30.0
    ct = read_ct(rescan.needles)
    began = time.process_time()
    registration = register(ct, reference, box_low_mm=low, box_high_mm=high)
    out.register_cpu_s.append(time.process_time() - began)
    if not registration.succeeded:
        out.registration_failed += 1
        return None
    scan_from_plan = registration.reference_from_scan.inverse()
    off = scan_from_plan.apply(rescan.tips_mm) - RigidTransform.from_matrix(rescan.moved[0]).apply(
        rescan.tips_mm
    )
    out.tre_mm.append(float(np.sqrt(np.mean(np.sum(off**2, axis=1)))))
    out.expected_tre_mm.append(registration.expected_tre_mm)
    return scan_from_plan


def _seeds(out: Measured, rescan: Rescan, reference: CtVolume) -> None:
    """Planned seeds lie 1 mm (1 sigma per axis) beside the true ones, along the needles' planned direction, not their
    true one, as in a run; the registration is the true one."""
    ct = read_ct(rescan.seeds)
    random = np.random.default_rng(len(rescan.seeds_mm))
    planned = rescan.seeds_mm + random.normal(0.0, 1.0, rescan.seeds_mm.shape)
    began = time.process_time()
    scan_from_plan = RigidTransform.from_matrix(rescan.moved[1])
    back = scan_from_plan.inverse()
    directions = np.tile(scan_from_plan.turn(rescan.direction), (len(planned), 1))
    found = find_seeds(ct, centres_mm=planned, directions=directions, before=reference, before_from_scan=back)
    out.seeds_cpu_s.append(time.process_time() - began)
    places = np.array([s.centre_mm for s in found]).reshape(-1, 3)
    out.seeds += len(planned)
    for k, n in enumerate(match_seeds(places, rescan.seeds_mm, WRONG_MM)):
        if n is None:
            out.seeds_false += 1
            continue
        out.seed_mm.append(float(np.linalg.norm(places[k] - rescan.seeds_mm[n])))
        turn = angle_between_deg(found[k].direction, rescan.seed_directions[n])
        out.seed_deg.append(min(turn, 180.0 - turn))
