"""Where needles and seeds should be seen in the next CT, from all that is known.  Pure."""

from __future__ import annotations

import numpy as np

from controller.knowledge import Knowledge
from planning.frame import Floats


def expected_tips(known: Knowledge) -> dict[str, tuple[Floats, Floats]]:
    """For the scan's analysis: where each standing needle should be (tip, direction; plan's patient frame)."""
    pose = known.pose
    tips = {}
    for story in known.inserted:
        if story.aim_rig_mm is None:
            continue
        own = np.mean(story.offsets_rig_mm(pose) or [np.zeros(3)], axis=0)
        tip = pose.apply(story.aim_rig_mm + own)
        axis = story.landings[-1].found_direction if story.landings else pose.turn([0.0, 0.0, 1.0])
        tips[story.plan.name] = (tip, axis)
    return tips


def expected_seeds(known: Knowledge) -> dict[int, tuple[Floats, Floats]]:
    """Where each delivered seed should lie (centre, direction), from where its needle was last seen."""
    seeds = {}
    for story in known.needles.values():
        last = story.landings[-1] if story.landings else None
        tip = np.asarray(story.plan.tip_mm) if last is None else last.found_patient_mm
        axis = story.plan.direction if last is None else last.found_direction
        for seed in story.seeds:
            if seed.number in known.seeds_delivered:
                behind = seed.retraction_mm - known.plan.seed_length_mm / 2.0
                seeds[seed.number] = (tip - axis * behind, axis)
    return seeds
