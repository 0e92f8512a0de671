"""RT Brachy Treatment Record: which seeds were put into the patient, when, through which needles.

The standard's record of a brachytherapy session (PS3.3, RT Brachy Treatment Record IOD, RT Brachy Session
Record module); it has no better one for permanent implants. A channel is a seed, as in the RT Plan that is referred to.
Specified and delivered time are both the mean life of the nuclide: a seed that was put in stays. Where the seeds
lie is no part of this record; that is told by an RT Plan of the seeds found, see ``planning.rt_plan``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import RTBrachyTreatmentRecordStorage, RTPlanStorage

from planning.plan import Plan
from planning.rt_header import Origin, ct_image_references, decimal, new_object, reference, save
from planning.rt_plan import SETUP, SOURCE, applicator, source_item
from planning.sources import load_source
from planning.volume import CtVolume


@dataclass(frozen=True)
class DeliveredSeed:
    """One seed that was put in.

    Attributes:
        number: the plan's; needle: its name; at: when.
    """

    number: int
    needle: str
    at: datetime


def write_rt_record(
    path: Path,
    plan: Plan,
    ct: CtVolume,
    delivered: Sequence[DeliveredSeed],
    *,
    origin: Origin,
    plan_uid: str,
    is_complete: bool,
    needle_length_mm: float = 200.0,
) -> str:
    """Write what was delivered of the plan.

    Args:
        delivered: in the order of delivery; at least one.
        origin: ``made_at``: when the session ended.
        plan_uid: SOP Instance UID of the RT Plan that was carried out.
        is_complete: False: ended by a person before its end.

    Returns:
        The SOP Instance UID.

    Raises:
        AskedWrongly: the file can't be written.
    """
    if not delivered:
        raise ValueError("no seed was delivered: there is no session to record")
    source = load_source(plan.source_model, allow_unverified=True)
    new = new_object(ct, RTBrachyTreatmentRecordStorage, "RTRECORD", "seed implant as delivered", origin)
    new.TreatmentDate = delivered[0].at.strftime("%Y%m%d")
    new.TreatmentTime = delivered[0].at.strftime("%H%M%S")
    new.ReferencedRTPlanSequence = [reference(RTPlanStorage, plan_uid)]
    machine = Dataset()
    machine.TreatmentMachineName = "seedguide"
    machine.Manufacturer = new.Manufacturer
    machine.InstitutionName = ""
    machine.ManufacturerModelName = new.ManufacturerModelName
    machine.DeviceSerialNumber = ""
    new.TreatmentMachineSequence = [machine]

    new.ReferencedFractionGroupNumber = 1
    new.NumberOfFractionsPlanned = 1
    new.BrachyTreatmentTechnique = "PERMANENT"
    new.BrachyTreatmentType = "LDR"
    life_s = source.life_h * 3600.0
    first = delivered[0].at
    recorded = source_item(plan, source, first.strftime("%Y%m%d"), first.strftime("%H%M%S"))
    recorded.SourceManufacturer = recorded.SourceSerialNumber = ""
    new.RecordedSourceSequence = [recorded]
    setup = Dataset()
    setup.ApplicationSetupType = "TEMPLATE"
    setup.ReferencedBrachyApplicationSetupNumber = SETUP
    setup.ApplicationSetupName = "needles through the template"
    setup.TotalReferenceAirKerma = decimal(plan.air_kerma_strength_u * source.life_h * len(delivered))
    setup.CurrentFractionNumber = 1
    setup.TreatmentDeliveryType = "TREATMENT"
    setup.TreatmentTerminationStatus = "NORMAL" if is_complete else "OPERATOR"
    setup.TreatmentVerificationStatus = ""  # type 2; its terms are about treatment machines
    setup.RecordedChannelSequence = [_channel(plan, seed, life_s, needle_length_mm) for seed in delivered]
    new.TreatmentSessionApplicationSetupSequence = [setup]

    # The CT that the plan was made on.
    new.ReferencedImageSequence = ct_image_references(ct)
    series = Dataset()
    series.SeriesInstanceUID = ct.series_uid
    series.ReferencedInstanceSequence = ct_image_references(ct)
    new.ReferencedSeriesSequence = [series]
    return save(new, path, origin)


def _channel(plan: Plan, seed: DeliveredSeed, life_s: float, length_mm: float) -> Dataset:
    item = Dataset()
    item.ChannelNumber = seed.number
    item.ChannelLength = None
    item.SpecifiedChannelTotalTime = decimal(life_s)
    item.DeliveredChannelTotalTime = decimal(life_s)
    item.SourceMovementType = "FIXED"
    applicator(item, plan, seed.needle, length_mm)
    item.TransferTubeNumber = None
    item.ReferencedSourceNumber = SOURCE
    item.SafePositionExitDate = item.SafePositionReturnDate = seed.at.strftime("%Y%m%d")
    item.SafePositionExitTime = item.SafePositionReturnTime = seed.at.strftime("%H%M%S")
    item.NumberOfControlPoints = 2
    item.BrachyControlPointDeliveredSequence = []
    for index in range(2):
        point = Dataset()
        point.ReferencedControlPointIndex = index
        point.TreatmentControlPointDate = seed.at.strftime("%Y%m%d")
        point.TreatmentControlPointTime = seed.at.strftime("%H%M%S.%f")
        point.ControlPointRelativePosition = decimal(0.0)
        item.BrachyControlPointDeliveredSequence.append(point)
    return item
