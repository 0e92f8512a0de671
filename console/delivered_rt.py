"""What was delivered, as other systems read it: treatment record, plan and dose of the seeds in the last CT."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import ArrayLike

from controller.journal import Record, read_journal
from controller.result import ProcedureResult
from planning.dicom_files import reading
from planning.plan import Point
from planning.plan_folder import insertion_day, write_rt_objects
from planning.rt_dose import write_rt_dose
from planning.rt_header import Origin
from planning.rt_plan import PlacedSeed, planned_seeds, write_rt_plan
from planning.rt_record import DeliveredSeed, write_rt_record

RECORD, PLAN_FOUND, DOSE_FOUND = "rtrecord.dcm", "rtplan_delivered.dcm", "rtdose_delivered.dcm"
PLAN_ADAPTED = "rtplan_adapted.dcm"


def write_delivered(
    result: ProcedureResult, folder: Path, journal: Path, ended_at: datetime | None
) -> list[Path]:
    """Write into the run's folder; nothing where no seed was delivered.

    The RT Plan that the record refers to is the one in the folder (written there where it is missing; the same plan has
    the same UID everywhere), or, where the loading was adapted on the way, one of the seeds as they were then planned.

    Args:
        ended_at: when the journal's last record was made; None: in a rehearsal, which plays on the day after the CT.

    Returns:
        what was written for the delivery.
    """
    records = list(read_journal(journal)) if journal.is_file() else []
    last_ns = records[-1].t_ns if records else 0
    begun = (
        insertion_day(result.ct) if ended_at is None else ended_at - timedelta(microseconds=last_ns // 1000)
    )
    dropped = _dropped_ns(records)
    delivered = sorted(
        (
            DeliveredSeed(
                seed.number,
                seed.needle,
                begun + timedelta(microseconds=dropped.get(seed.number, last_ns) // 1000),
            )
            for seed in result.seeds
            if seed.outcome == "PASS"
        ),
        key=lambda seed: (seed.at, seed.number),
    )
    if not delivered:
        return []
    plan, ct = result.plan, result.ct
    origin = Origin(f"{plan.content_hash} {result.digest}", begun + timedelta(microseconds=last_ns // 1000))
    structures, treatment = _uids_of_the_plan(result, folder)
    written = []
    as_planned = {seed.number: seed.centre_mm for seed in planned_seeds(plan)}
    if {seed.number: seed.planned_mm for seed in result.seeds} != as_planned:
        adapted = [
            _placed(s.number, s.needle, s.planned_mm, plan.needle(s.needle).direction) for s in result.seeds
        ]
        written.append(folder / PLAN_ADAPTED)
        treatment = write_rt_plan(
            written[-1],
            plan,
            ct,
            origin=origin,
            structure_set_uid=structures,
            label="ADAPTED",
            seeds=adapted,
            prior_uid=treatment,
        )
    written.append(folder / RECORD)
    write_rt_record(
        written[-1],
        plan,
        ct,
        delivered,
        origin=origin,
        plan_uid=treatment,
        is_complete=len(delivered) == len(result.seeds),
    )
    if result.delivered is not None and result.delivered.seeds:
        needles = {seed.number: seed.needle for seed in result.seeds}
        free = max(needles, default=0)
        found = []
        for seed in result.delivered.seeds:
            free += seed.number is None
            number = free if seed.number is None else seed.number
            found.append(_placed(number, needles.get(number, ""), seed.centre_mm, seed.direction))
        written += [folder / PLAN_FOUND, folder / DOSE_FOUND]
        post = write_rt_plan(
            written[-2],
            plan,
            ct,
            origin=origin,
            structure_set_uid=structures,
            label="POST-PLAN",
            seeds=found,
            prior_uid=treatment,
        )
        write_rt_dose(
            written[-1],
            result.delivered.dose_gy,
            result.delivered.grid,
            ct,
            origin=origin,
            plan_uid=post,
            comment="dose to infinity of the seeds found in the CT, TG-43 in water",
        )
    return written


def _uids_of_the_plan(result: ProcedureResult, folder: Path) -> tuple[str, str]:
    """SOP Instance UIDs of RT Structure Set and RT Plan, which are written where they are missing."""
    structures, treatment = folder / "rtstruct.dcm", folder / "rtplan.dcm"
    if not (structures.is_file() and treatment.is_file()):
        planned = result.planned
        write_rt_objects(folder, result.ct, result.anatomy, result.plan, planned.dose_gy, planned.grid)
    uids = []
    for path in (structures, treatment):
        with reading(path):
            uids.append(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID))
    return uids[0], uids[1]


def _placed(number: int, needle: str, centre_mm: Point, direction: ArrayLike) -> PlacedSeed:
    x, y, z = (float(value) for value in np.asarray(direction, dtype=float))
    return PlacedSeed(number, needle, centre_mm, (x, y, z))


def _dropped_ns(records: Sequence[Record]) -> dict[int, int]:
    """By seed: when the applicator, or a person, first told that it was out."""
    found: dict[int, int] = {}
    for record in records:
        if record.body.get("event") == "SeedDropped" and record.body.get("outcome") == "PASS":
            found.setdefault(int(record.body["seed"]), record.t_ns)
    return found
