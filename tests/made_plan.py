"""A small plan made up for tests of the controller: no patient, no dose, only a geometry that is easy to check.

``made_plan(columns, rows, seeds_per_needle)``: needles on a 10 mm grid along the rig's +z, skin at rig z = 20 mm,
tips at 80 mm unless told otherwise; the rig's pose in the patient is turned and shifted so that frames can't be
confused unnoticed.
"""

from __future__ import annotations

import numpy as np

from planning.frame import RigidTransform
from planning.plan import Plan, PlannedNeedle, PlannedSeed, rounded_point

POSE = RigidTransform.from_rotation_vector((20.0, -35.0, 50.0), (30.0, -80.0, 45.0))
SEED_LENGTH_MM = 4.5


def made_plan(
    columns: int = 3,
    rows: int = 2,
    seeds_per_needle: int = 4,
    skin_mm: float = 20.0,
    *,
    tip_mm: float = 80.0,
    reference_depth_mm: float = 25.0,
) -> Plan:
    needles = []
    number = 0
    corners = {(0, 0), (columns - 1, 0), (columns - 1, rows - 1)}
    for column in range(columns):
        for row in range(rows):
            x, y = 10.0 * column - 5.0 * (columns - 1), 10.0 * row - 5.0 * (rows - 1)
            seeds = []
            for step in range(seeds_per_needle):
                number += 1
                retraction = SEED_LENGTH_MM + 5.0 * step
                centre = POSE.apply((x, y, tip_mm - retraction + SEED_LENGTH_MM / 2))
                seeds.append(PlannedSeed(number, rounded_point(centre), retraction))
            needles.append(
                PlannedNeedle(
                    name=f"N{len(needles) + 1:02d}",
                    hole=f"{'ABCDEFGH'[column]}{row + 1}",
                    entry_mm=rounded_point(POSE.apply((x, y, skin_mm))),
                    tip_mm=rounded_point(POSE.apply((x, y, tip_mm))),
                    reference_depth_mm=reference_depth_mm if (column, row) in corners else None,
                    seeds=tuple(seeds),
                )
            )
    return Plan(
        patient_id="MADE-1",
        patient_name="Made^Up",
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        frame_of_reference_uid="1.2.3.5",
        target="GTV",
        margin_mm=5.0,
        prescription_gy=120.0,
        source_model="6711",
        seed_length_mm=SEED_LENGTH_MM,
        half_life_d=59.4,
        activity_mci=0.65,
        air_kerma_strength_u=0.8255,
        site_protocol="made",
        site_protocol_hash="0" * 64,
        patient_from_rig=tuple(tuple(float(v) for v in row) for row in np.asarray(POSE.matrix())),
        needles=tuple(needles),
    )
