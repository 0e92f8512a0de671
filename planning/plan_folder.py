"""A plan on disk: ``plan.json`` and the RT objects that other systems read."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planning.anatomy import Anatomy
from planning.dicom import Case
from planning.plan import Plan
from planning.planner import PlanResult
from planning.rt_objects import MaskedStructure, Origin, write_rt_dose, write_rt_plan, write_rt_structures
from planning.volume import CtVolume, Grid

PLAN_FILE = "plan.json"
BEFORE_INSERTION = timedelta(hours=16)  # assumed: planned in the afternoon, implanted the next morning


def insertion_day(ct: CtVolume) -> datetime:
    """Nine o'clock on the day after the planning CT (CLINIC: 1-2 days before)."""
    try:
        taken = datetime.strptime(str(ct.attributes.get("StudyDate", "")), "%Y%m%d")
    except ValueError:
        taken = datetime(2000, 1, 1)
    return taken + timedelta(days=1, hours=9)


def write_plan_folder(out: Path, case: Case, anatomy: Anatomy, planned: PlanResult) -> None:
    """Write ``plan.json`` and the RT objects into the folder ``out``."""
    planned.plan.save(out / PLAN_FILE)
    write_rt_objects(out, case.ct, anatomy, planned.plan, planned.dose, planned.dose_grid)


def write_rt_objects(
    out: Path, ct: CtVolume, anatomy: Anatomy, plan: Plan, dose: NDArray[np.float32], dose_grid: Grid
) -> None:
    """Write ``rtstruct.dcm``, ``rtplan.dcm`` and ``rtdose.dcm`` into the folder ``out``.

    The same plan gives the same bytes: UIDs follow from its hash, dates from the planning CT's.

    Args:
        dose: of the plan, Gy to infinity, on ``dose_grid``.
    """
    origin = Origin(plan.content_hash, insertion_day(ct) - BEFORE_INSERTION)
    structures = [
        MaskedStructure("GTV", "GTV", anatomy.gtv),
        MaskedStructure("CTV", "CTV", anatomy.ctv),
        *(MaskedStructure(name, "ORGAN", mask) for name, mask in anatomy.organs.items()),
    ]
    on = write_rt_structures(out / "rtstruct.dcm", structures, plan, ct, origin=origin)
    treatment = write_rt_plan(out / "rtplan.dcm", plan, ct, origin=origin, structure_set_uid=on)
    write_rt_dose(out / "rtdose.dcm", dose, dose_grid, ct, origin=origin, plan_uid=treatment)
