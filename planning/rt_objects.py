"""The RT objects of an implant in one place: structures, then the plan on them, then the plan's dose.

Each writer returns the SOP Instance UID that the next one refers to::

    origin = Origin(plan.content_hash, made_at)
    structures = write_rt_structures(folder / "rtstruct.dcm", masks, plan, ct, origin=origin)
    treatment = write_rt_plan(folder / "rtplan.dcm", plan, ct, origin=origin, structure_set_uid=structures)
    write_rt_dose(folder / "rtdose.dcm", dose_gy, grid, ct, origin=origin, plan_uid=treatment)
"""

from planning.rt_dose import write_rt_dose
from planning.rt_header import Origin
from planning.rt_plan import write_rt_plan
from planning.rt_plan_reading import RtPlanSeeds, read_rt_plan_seeds
from planning.rt_structures import MaskedStructure, write_rt_structures

__all__ = [
    "MaskedStructure",
    "Origin",
    "RtPlanSeeds",
    "read_rt_plan_seeds",
    "write_rt_dose",
    "write_rt_plan",
    "write_rt_structures",
]
