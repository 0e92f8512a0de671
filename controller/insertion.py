"""Which way each needle goes next: in, on to full depth, corrected.  Commands without numbers."""

from __future__ import annotations

from controller import agenda
from controller.commands import Command
from controller.guidance import aim_rig_mm
from controller.knowledge import Knowledge, NeedleStory


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
    pose = known.pose
    found = story.deviation
    assert found is not None
    assert story.aim_rig_mm is not None
    aim = aim_rig_mm(pose, story.target_mm, story.offsets_rig_mm(pose))
    if found.lateral_mm + found.sigma_mm <= known.settings.tolerance_mm:
        wanted = float(story.aim_rig_mm[2]) - found.depth_mm
        return agenda.change_depth(known, story, round(wanted, 3))
    return agenda.aim_again(known, story, aim, pose)
