"""``seedguide evaluate RTPLAN CASE``: dose and goals of an RT Plan that another planning system may have written."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from planning.sources import Formalism

DEFAULT_PROTOCOL = "head-and-neck"
GOAL_MISSED = 4


def evaluate_rt_plan(path: Path, case_folder: Path, chosen: dict[str, Any]) -> int:
    """Show the dose-volume figures and the goals; 0, or 4 when a goal is missed.

    Strengths count as stated, at their reference time, or decayed to the day of the implantation; the dose is that of
    all the time from then on, or of the days asked for.
    """
    from console.live import Screen
    from console.plan_command import print_goals, print_indices, print_remarks
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
    formalism: Formalism = chosen["formalism"] or "2d"
    # In one dimension a direction changes nothing outside the seed, so any will do where none is told.
    told = given if given is not None or formalism == "2d" else (0.0, 0.0, 1.0)
    seeds = read_rt_plan_seeds(path, None if told is None else np.array(told, dtype=float))
    protocol = load_site_protocol(chosen["protocol"] or DEFAULT_PROTOCOL)
    known = seeds.source_model in source_names()
    model = seeds.source_model if known else protocol.source_model
    source = replace(load_source(model, allow_unverified=chosen["allow_unverified"]), formalism=formalism)
    if abs(seeds.half_life_d - source.half_life_d) > 0.02 * source.half_life_d:
        raise AskedWrongly(
            f"{path}: states a half-life of {seeds.half_life_d:g} d; that is not I-125 ({source.half_life_d:g} d)."
        )
    case = read_case(case_folder)
    stated = seeds.frame_of_reference_uid
    if stated and stated != case.ct.frame_of_reference_uid:
        raise AskedWrongly(f"{path}: its frame of reference is not that of the CT in {case_folder}.")
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    rx, implanted, days = protocol.prescription_gy, chosen["implanted"], chosen["after_days"]
    strength_u = seeds.strength_u
    if implanted is not None:
        since = (implanted - seeds.strength_at.replace(hour=0, minute=0, second=0)).days
        strength_u = strength_u * source.decayed(since)
    part = 1.0 if days is None else source.dose_fraction_by(days)
    _, _, statistics = dose_of_seeds(
        anatomy, source, seeds.centres_mm, seeds.directions, strength_u * part, rx
    )
    goals = judge_goals(protocol, statistics, rx)
    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    stated_model = "" if known else f" (the RT Plan states '{seeds.source_model}', which is unknown here)"
    screen.print(
        f"RT Plan        {len(seeds.centres_mm)} seeds of {seeds.strength_u.min():.3f} to "
        f"{seeds.strength_u.max():.3f} U on {seeds.strength_at:%Y-%m-%d %H:%M}, as source {model}{stated_model}"
    )
    if implanted is not None:
        screen.print(
            f"Implanted      {implanted:%Y-%m-%d}, {since} days later: {strength_u.min():.3f} to "
            f"{strength_u.max():.3f} U by half-lives of {source.half_life_d:g} d"
        )
    span = "to infinity" if days is None else f"of the first {days:g} days ({100 * part:.1f} % of all)"
    screen.print(f"Dose           TG-43, {formalism.upper()}, {span}")
    screen.print(f"Protocol       {protocol.name}, {rx:g} Gy, CTV = target + {protocol.margin_mm:g} mm")
    print_remarks(screen, case.ct.remarks)
    print_goals(screen, goals)
    print_indices(screen, statistics)
    return 0 if all(goal.met for goal in goals) else GOAL_MISSED
