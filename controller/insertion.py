"""Which way each needle goes next: in, on to full depth, corrected.  Commands without numbers."""

from __future__ import annotations

import numpy as np

from controller import agenda
from controller.commands import Command
from controller.correction import Correction
from controller.guidance import aim_rig_mm
from controller.interlocks import deepest_z_mm
from controller.knowledge import Knowledge, NeedleStory
from planning.frame import Floats


def insert_fresh(known: Knowledge, story: NeedleStory) -> list[Command]:
    """A fresh needle to its target."""
    aim = aim_rig_mm(known.pose, story.target_mm, [])
    return agenda.insert(known, story, aim, known.pose)


def insert_all(known: Knowledge) -> list[Command]:
    """The reference needles on to full depth on their own paths, then all others."""
    commands: list[Command] = []
    for story in known.needles.values():
        if story.state == "at reference depth":
            story.state = "in place"
            story.verified = None
            story.first_deviation = None
            story.attempt = 0
            aim = aim_rig_mm(known.pose, story.target_mm, story.offsets_rig_mm(known.pose))
            story.landings.clear()
            commands += agenda.change_depth(known, story, float(aim[2]))
        elif story.state == "planned":
            story.state = "in place"
            commands += insert_fresh(known, story)
    return commands


def correct(known: Knowledge, story: NeedleStory) -> list[Command]:
    """Depth alone by depth; a lateral error by another path."""
    aim = corrected_aim_mm(known, story)
    return _aim_at(known, story, aim, is_depth_only=_is_depth_only(known, story))


def corrected_aim_mm(known: Knowledge, story: NeedleStory) -> Floats:
    """Where the next aim of a needle that was measured off target would be, ``(3,)``, rig frame.

    No deeper than ``interlocks.depth_is_no_more_than_planned`` lets it go; what that takes away is ``short_mm``.
    """
    aim = _wanted_aim_mm(known, story)
    deepest_mm = np.floor(deepest_z_mm(known, story) * 1000.0) / 1000.0
    return np.array([aim[0], aim[1], min(float(aim[2]), deepest_mm)])


def short_mm(known: Knowledge, story: NeedleStory) -> float:
    """By how much a corrected tip would still be too shallow, because it may go no deeper; else 0."""
    if story.deviation is None or story.aim_rig_mm is None:
        return 0.0
    return max(0.0, float(_wanted_aim_mm(known, story)[2]) - deepest_z_mm(known, story))


def is_within_reach(known: Knowledge, story: NeedleStory) -> bool:
    """A correction can bring the tip within the tolerance, as far as the depth that is allowed goes."""
    return short_mm(known, story) < known.settings.tolerance_mm


def _wanted_aim_mm(known: Knowledge, story: NeedleStory) -> Floats:
    found, pose = story.deviation, known.pose
    assert found is not None
    assert story.aim_rig_mm is not None
    if _is_depth_only(known, story):
        x, y, z = (float(v) for v in story.aim_rig_mm)
        return np.array([x, y, round(z - found.depth_mm, 3)])
    return aim_rig_mm(pose, story.target_mm, story.offsets_rig_mm(pose))


def move_tip(known: Knowledge, story: NeedleStory, way_mm: Floats) -> list[Command]:
    """As a person wants it moved, ``(3,)`` in the rig's frame: along the needle alone, or out and in again."""
    assert story.aim_rig_mm is not None
    aim = np.round(story.aim_rig_mm + way_mm, 3) + 0.0
    return _aim_at(known, story, aim, is_depth_only=not np.any(way_mm[:2]))


def _is_depth_only(known: Knowledge, story: NeedleStory) -> bool:
    found = story.deviation
    assert found is not None
    return found.lateral_mm + found.sigma_mm <= known.settings.tolerance_mm


def _aim_at(known: Knowledge, story: NeedleStory, aim: Floats, *, is_depth_only: bool) -> list[Command]:
    assert story.aim_rig_mm is not None
    across, deeper = aim[:2] - story.aim_rig_mm[:2], float(aim[2] - story.aim_rig_mm[2])
    story.correction = Correction(
        not is_depth_only, (round(float(across[0]), 3), round(float(across[1]), 3)), round(deeper, 3)
    )
    if is_depth_only:
        return agenda.change_depth(known, story, float(aim[2]))
    return agenda.aim_again(known, story, aim, known.pose)
