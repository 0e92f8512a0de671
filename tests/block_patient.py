"""A block of water as a patient for the made-up plan, and dose figures on its points: runs that take milliseconds."""

from __future__ import annotations

import numpy as np
import pydicom
from made_plan import POSE, made_plan

from planning.frame import Floats
from planning.plan import Plan
from planning.sampled_figures import SampledFigure, SampledFigures
from planning.sources import load_source
from simulator.ct_reader import PatientCt
from simulator.rehearsal.campaign.procedure_run import ProcedureRuns
from simulator.rehearsal.campaign.variation import (
    NeedleVariation,
    ScanVariation,
    SeedVariation,
    SetupVariation,
    Variation,
)

NO_ERROR = Variation(
    needle=NeedleVariation(0.0, 0.0, 0.0, stop_repeatability_mm=0.0, bend_radius_mm=()),
    seed=SeedVariation(0.0, 0.0),
    setup=SetupVariation(0.0, 0.0),
    scan=ScanVariation(0.0, 0.1, 0.0),
)


def block_ct() -> PatientCt:
    """Air down to rig z = 20 mm, water below: voxels of 4 mm along the rig's own axes."""
    hu = np.full((40, 30, 30), -1000, dtype=np.int16)
    hu[15:] = (
        0  # half way between the centres at rig z = 16 and 20 mm... the surface lies where HU passes -300
    )
    index_to_rig = np.diag([4.0, 4.0, 4.0, 1.0])
    index_to_rig[:3, 3] = (-58.0, -58.0, -41.2)
    return PatientCt(hu, np.asarray(POSE.matrix()) @ index_to_rig, pydicom.Dataset())


def figures(plan: Plan) -> SampledFigures:
    """A ball of points around the middle of the implant."""
    random = np.random.default_rng(3)
    centre = plan.seed_centres_mm().mean(axis=0)
    directions = random.standard_normal((200, 3))
    radii = 8.0 * random.random(200) ** (1 / 3)
    points: Floats = centre + radii[:, None] * directions / np.linalg.norm(directions, axis=1)[:, None]
    wanted = tuple(
        SampledFigure("CTV", metric, None, 0, 200, part)
        for metric, part in (("d90_gy", 0.9), ("v100_pct", 1.0))
    )
    return SampledFigures(load_source(), plan.air_kerma_strength_u, plan.prescription_gy, points, wanted)


def procedure_runs(variation: Variation, seed: int = 1) -> ProcedureRuns:
    plan = made_plan(2, 2, 2)
    return ProcedureRuns(plan, figures(plan), block_ct(), variation, seed)
