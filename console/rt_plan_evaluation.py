"""``seedguide evaluate RTPLAN CASE``: dose and goals of an RT Plan that another planning system may have written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from planning.refusal import AskedWrongly

DEFAULT_PROTOCOL = "head-and-neck"
GOAL_MISSED = 4


def evaluate_rt_plan(path: Path, case_folder: Path, chosen: dict[str, Any]) -> int:
    """Show the dose-volume figures and the goals; 0, or 4 when a goal is missed.

    Strengths count as stated, at their reference time; the dose is to infinity from then on.
    """
    from console.live import Screen
    from console.plan_command import print_goals, print_indices
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.goals import judge_goals
    from planning.implant_dose import dose_of_seeds
    from planning.rt_objects import read_rt_plan_seeds
    from planning.site_protocol import load_site_protocol
    from planning.sources import load_source, source_names

    given = chosen["seed_direction"]
    if given is not None and not (np.isfinite(given).all() and np.linalg.norm(given) > 0.0):
        raise AskedWrongly("--seed-direction: give three numbers that are not all zero.")
    seeds = read_rt_plan_seeds(path, None if given is None else np.array(given, dtype=float))
    protocol = load_site_protocol(chosen["protocol"] or DEFAULT_PROTOCOL)
    known = seeds.source_model in source_names()
    model = seeds.source_model if known else protocol.source_model
    source = load_source(model, allow_unverified=chosen["allow_unverified"])
    if abs(seeds.half_life_d - source.half_life_d) > 0.02 * source.half_life_d:
        raise AskedWrongly(
            f"{path}: states a half-life of {seeds.half_life_d:g} d; that is not I-125 ({source.half_life_d:g} d)."
        )
    case = read_case(case_folder)
    stated = seeds.frame_of_reference_uid
    if stated and stated != case.ct.frame_of_reference_uid:
        raise AskedWrongly(f"{path}: its frame of reference is not that of the CT in {case_folder}.")
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    rx = protocol.prescription_gy
    _, _, statistics = dose_of_seeds(
        anatomy, source, seeds.centres_mm, seeds.directions, seeds.strength_u, rx
    )
    goals = judge_goals(protocol, statistics, rx)
    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    stated_model = "" if known else f" (the RT Plan states '{seeds.source_model}', which is unknown here)"
    screen.print(
        f"RT Plan        {len(seeds.centres_mm)} seeds of {seeds.strength_u.min():.3f} to "
        f"{seeds.strength_u.max():.3f} U on {seeds.strength_at:%Y-%m-%d %H:%M}, as source {model}{stated_model}"
    )
    screen.print(f"Protocol       {protocol.name}, {rx:g} Gy, CTV = target + {protocol.margin_mm:g} mm")
    print_goals(screen, goals)
    print_indices(screen, statistics)
    return 0 if all(goal.met for goal in goals) else GOAL_MISSED
