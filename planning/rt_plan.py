"""RT Plan of a permanent implant, written from a plan (read back by ``planning.rt_plan_reading``).

Layout (PS3.3 C.8.8.15): one application setup; one channel per seed, since the source of a fixed channel stands
at one place (the standard's own example of manually placed sources), so that no reader takes a needle's seeds for
dwell positions of a single source; the needle is the channel's source applicator. Two control points per channel
at the same 3-D position, cumulative time weight 0 and 100, with the seed's axis in the direction of insertion
(C.8.8.15.14). A channel's total time is the mean life of the nuclide: rate x time is then the dose to infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage, RTStructureSetStorage

from planning.plan import Plan, Point
from planning.rt_header import Origin, decimal, new_object, point_text, reference, save
from planning.sources import SeedSource, load_source
from planning.volume import CtVolume

SETUP = 1
SOURCE = 1


@dataclass(frozen=True)
class PlacedSeed:
    """A seed of an RT Plan: its channel's number, its needle's name ("": unknown), where it lies, its axis (unit)."""

    number: int
    needle: str
    centre_mm: Point
    direction: Point


def planned_seeds(plan: Plan) -> list[PlacedSeed]:
    """The plan's own, needle by needle."""
    placed = []
    for needle in plan.needles:
        x, y, z = (float(value) for value in needle.direction)
        placed += [PlacedSeed(seed.number, needle.name, seed.centre_mm, (x, y, z)) for seed in needle.seeds]
    return placed


def write_rt_plan(
    path: Path,
    plan: Plan,
    ct: CtVolume,
    *,
    origin: Origin,
    structure_set_uid: str,
    needle_length_mm: float = 200.0,
    label: str = "PRE-PLAN",
    seeds: Sequence[PlacedSeed] | None = None,
    prior_uid: str | None = None,
) -> str:
    """Write the plan as RT Plan (brachy, permanent).

    Args:
        structure_set_uid: SOP Instance UID of the RT Structure Set written for this plan; its region k is
            needle k.
        needle_length_mm: of the needles in use.
        label: at most 16 characters.
        seeds: these instead of the plan's own, e.g. those that a CT shows after the implantation.
        prior_uid: SOP Instance UID of the RT Plan that this one follows.

    Returns:
        The SOP Instance UID, for the RT Dose to refer to.
    """
    source = load_source(plan.source_model, allow_unverified=True)
    placed = planned_seeds(plan) if seeds is None else seeds
    date, time = origin.made_at.strftime("%Y%m%d"), origin.made_at.strftime("%H%M%S")
    new = new_object(ct, RTPlanStorage, "RTPLAN", f"seed implant {label}", origin)
    new.RTPlanLabel = label[:16]
    new.RTPlanName = f"{plan.target} {len(placed)} seeds"[:64]
    new.RTPlanDescription = f"seedguide plan {plan.content_hash}"
    new.RTPlanDate, new.RTPlanTime = date, time
    new.PlanIntent = "RESEARCH"
    new.RTPlanGeometry = "PATIENT"
    new.ReferencedStructureSetSequence = [reference(RTStructureSetStorage, structure_set_uid)]
    if prior_uid is not None:
        prior = reference(RTPlanStorage, prior_uid)
        prior.RTPlanRelationship = "PRIOR"
        new.ReferencedRTPlanSequence = [prior]
    new.ApprovalStatus = "UNAPPROVED"

    prescription = Dataset()
    prescription.DoseReferenceNumber = 1
    prescription.DoseReferenceStructureType = "SITE"
    prescription.DoseReferenceDescription = f"{plan.target} + {plan.margin_mm:g} mm"
    prescription.DoseReferenceType = "TARGET"
    prescription.TargetPrescriptionDose = decimal(plan.prescription_gy)
    new.DoseReferenceSequence = [prescription]

    setup_reference = Dataset()
    setup_reference.ReferencedBrachyApplicationSetupNumber = SETUP
    fraction = Dataset()
    fraction.FractionGroupNumber = 1
    fraction.NumberOfFractionsPlanned = 1
    fraction.NumberOfBeams = 0
    fraction.NumberOfBrachyApplicationSetups = 1
    fraction.ReferencedBrachyApplicationSetupSequence = [setup_reference]
    new.FractionGroupSequence = [fraction]

    new.BrachyTreatmentTechnique = "PERMANENT"
    new.BrachyTreatmentType = "LDR"
    machine = Dataset()
    machine.TreatmentMachineName = "seedguide"
    new.TreatmentMachineSequence = [machine]
    new.SourceSequence = [source_item(plan, source, date, time)]
    life_h = plan.half_life_d * 24.0 / np.log(2.0)
    setup = Dataset()
    setup.ApplicationSetupType = "TEMPLATE"
    setup.ApplicationSetupNumber = SETUP
    setup.ApplicationSetupName = "needles through the template"
    setup.TotalReferenceAirKerma = decimal(plan.air_kerma_strength_u * life_h * len(placed))
    setup.ChannelSequence = [_channel(seed, plan, life_h, needle_length_mm) for seed in placed]
    new.ApplicationSetupSequence = [setup]
    return save(new, path, origin)


def source_item(plan: Plan, source: SeedSource, date: str, time: str) -> Dataset:
    """The plan's kind of seed, of the plan's strength at that date (DICOM DA) and time (TM)."""
    item = Dataset()
    item.SourceNumber = SOURCE
    item.SourceType = "CYLINDER"
    item.SourceModelID = source.name
    item.SourceDescription = source.description[:64]
    item.ActiveSourceLength = decimal(round(source.active_length_cm * 10.0, 6))
    item.SourceIsotopeName = "I-125"
    item.SourceIsotopeHalfLife = decimal(plan.half_life_d)
    item.ReferenceAirKermaRate = decimal(plan.air_kerma_strength_u)  # 1 U = 1 uGy/h at 1 m
    # Asked for only of sources that emit no gammas, but validators want them of every source.
    item.SourceStrengthUnits = "AIR_KERMA_RATE"
    item.SourceStrength = item.ReferenceAirKermaRate
    item.SourceStrengthReferenceDate, item.SourceStrengthReferenceTime = date, time
    return item


def applicator(item: Dataset, plan: Plan, needle: str, length_mm: float) -> None:
    """Say in a channel through which needle its seed goes; nothing where no needle is known."""
    names = [each.name for each in plan.needles]
    if needle not in names:
        return
    item.SourceApplicatorNumber = names.index(needle) + 1
    item.SourceApplicatorID = f"{needle} {plan.needle(needle).hole}".strip()[:16]
    item.SourceApplicatorType = "RIGID"
    item.SourceApplicatorName = needle
    item.SourceApplicatorLength = decimal(length_mm)


def _channel(seed: PlacedSeed, plan: Plan, life_h: float, length_mm: float) -> Dataset:
    item = Dataset()
    item.ChannelNumber = seed.number
    item.ChannelLength = None
    item.ChannelTotalTime = decimal(life_h * 3600.0)
    item.SourceMovementType = "FIXED"
    applicator(item, plan, seed.needle, length_mm)
    if "SourceApplicatorNumber" in item:
        item.ReferencedROINumber = item.SourceApplicatorNumber
    item.TransferTubeNumber = None
    item.NumberOfControlPoints = 2
    item.ReferencedSourceNumber = SOURCE
    item.FinalCumulativeTimeWeight = decimal(100.0)
    item.BrachyControlPointSequence = []
    for index, weight in enumerate((0.0, 100.0)):
        point = Dataset()
        point.ControlPointIndex = index
        point.CumulativeTimeWeight = decimal(weight)
        point.ControlPointRelativePosition = decimal(0.0)
        point.ControlPoint3DPosition = point_text(seed.centre_mm)
        point.ControlPointOrientation = [float(value) for value in seed.direction]
        item.BrachyControlPointSequence.append(point)
    return item
