"""What is still to do when an interrupted procedure goes on.  Pure: knowledge and the old agenda -> a new one.

The law: nothing goes on in the middle of a motion. The rig's board was reset, so its grip is open and it is homed
first; a needle that stood in the grip counts as moved, is taken hold of where the carriage was read back, or, when
that is not known or the tip is not deep in the tissue, taken out by a person and inserted afresh. A scan follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controller import agenda, ruling
from controller.commands import (
    RIG_COMMANDS,
    AskOperator,
    ClearLatch,
    CloseGrip,
    Command,
    HomeApplicator,
    HomeRig,
    MoveAcross,
    MoveDepth,
)
from controller.events import ProcedureResumed
from controller.knowledge import BOOKED_AS, Knowledge, NeedleStory
from planning.frame import Floats

_BY_APPLICATOR = ("DELIVERING_SEEDS", "AWAITING_SEED_SCAN")
"""States in which the rig has no more to do; it is left alone."""
_SAME_DEPTH_MM = 0.05


def held_needle(known: Knowledge, interrupted: Command | None) -> str | None:
    """The needle that stood, or may have stood, in the rig's grip."""
    if known.gripped is not None:
        return known.gripped
    return interrupted.needle if isinstance(interrupted, CloseGrip) else None


def agenda_after(
    state: str,
    known: Knowledge,
    interrupted: Command | None,
    agenda_left: Sequence[Command],
    event: ProcedureResumed,
) -> list[Command]:
    """The commands that remain, in order; ``known`` is brought up to what the interruption leaves of it.

    Args:
        interrupted: the command under way, to be carried out (again); None when there was none or its outcome
            is known.
        agenda_left: what stood on the state's agenda behind it.
    """
    front: list[Command] = _latch_cleared(known, event)
    if event.home_applicator:
        front += [HomeApplicator(0, "stylet")]
        front += [HomeApplicator(0, "retraction")] if known.coupled is None else []
    if state == "ABORTING":
        return [command for command in (interrupted, *agenda_left) if command is not None]
    left = [*([] if interrupted is None else [interrupted]), *agenda_left]
    left = [command for command in left if not _is_of_an_earlier_resumption(command)]
    left = [ruling.question(known) if _is_about_needles(command) else command for command in left]
    if state == "CHECKING_DEVICES":
        known.rig_homed = known.stylet_homed = known.retraction_homed = False
        return [*front[:1], *agenda.device_check()] if event.latch != "NONE" else agenda.device_check()
    if state in _BY_APPLICATOR:
        if state == "DELIVERING_SEEDS" and known.delivery_changed:
            left = []  # decided anew once what was in doubt is booked
        return [*front, *left]
    held = held_needle(known, interrupted)
    abandoned = {s.plan.name: s for s in known.needles.values() if s.state == "abandoned"}
    left = [c for c in left if getattr(c, "needle", None) not in abandoned]
    if known.rig_taken_over:  # what was planned for the carriage's jaw goes into people's hands
        left = [_by_hand(known, command) for command in left]
    if known.rig_by_hand and not known.rig_taken_over:
        return [*front, *_by_hand_again(known, held, abandoned, left)]
    known.rig_taken_over = False
    if held is not None:
        text = (
            f"The grip held needle {held} when the controller stopped; it is open now. See that the needle stands "
            "free, then confirm: the carriage goes home without it."
        )
        front.append(AskOperator(0, "free_grip", text, needle=held))
    front.append(HomeRig(0))
    front += [
        agenda.take_out(s) for n, s in abandoned.items() if s.aim_rig_mm is not None or n == known.loaded
    ]
    held = None if held in abandoned else held
    name = held or next((n for c in left if (n := _needle_of(c)) is not None), None)
    if name is not None:
        story = known.needles[name]
        tail = [c for c in left if _needle_of(c) == name]
        others = [c for c in left if _needle_of(c) != name]
        if held is not None:
            front += _held_again(known, story, tail, event.carriage_z_mm)
        else:
            front += _begun_again(known, story, tail)
        left = others
    known.rig_homed, known.carriage_z_mm, known.across_for = False, None, None
    known.gripped = known.loaded = None
    return [*front, *left]


def _by_hand(known: Knowledge, command: Command) -> Command:
    if isinstance(command, AskOperator) and command.task == "load_needle" and command.needle is not None:
        return agenda.load(known, known.needles[command.needle])
    return command


def _by_hand_again(
    known: Knowledge, held: str | None, abandoned: dict[str, NeedleStory], left: list[Command]
) -> list[Command]:
    """People move the needles: there is no grip and no axis to be homed; they are asked the same once more."""
    if held is not None:
        known.motion += 1
        known.needles[held].moved, known.needles[held].verified = known.motion, None
    out = [
        agenda.take_out(s)
        for n, s in abandoned.items()
        if s.aim_rig_mm is not None or n in (known.loaded, held)
    ]
    known.gripped = None if known.gripped in abandoned else known.gripped
    known.loaded = None if known.loaded in abandoned else known.loaded
    return [*out, *left]


def _latch_cleared(known: Knowledge, event: ProcedureResumed) -> list[Command]:
    """What a person has looked at is cleared; a seed's latch as that person said, and the stylet drawn home."""
    if event.latch == "NONE":
        return []
    doubt = known.doubt
    if doubt is not None and doubt.where and doubt.latch == event.latch:
        cleared = ClearLatch(0, event.latch, doubt.stroke, BOOKED_AS[doubt.where])
        return [cleared, *([] if event.home_applicator else [HomeApplicator(0, "stylet")])]
    return [ClearLatch(0, event.latch)]


def _is_of_an_earlier_resumption(command: Command) -> bool:
    is_ask = isinstance(command, AskOperator) and command.task == "free_grip"
    return is_ask or isinstance(command, ClearLatch | HomeRig)


def _is_about_needles(command: Command) -> bool:
    """A person's word about the needles: what may be said may have changed while it was held."""
    return isinstance(command, AskOperator) and command.task == ruling.TASK


def _needle_of(command: Command) -> str | None:
    """The needle that a command of the rig's work is about."""
    if isinstance(command, AskOperator):
        return command.needle if command.task in ("load_needle", "guide_needle", "take_out_needle") else None
    return getattr(command, "needle", None) if isinstance(command, RIG_COMMANDS) else None


def _begun_again(known: Knowledge, story: NeedleStory, tail: list[Command]) -> list[Command]:
    """A needle that the grip has not taken yet: from the way across on. After it was let go nothing is left."""
    at = next((i for i, command in enumerate(tail) if isinstance(command, CloseGrip)), None)
    if at is None:
        return []
    name, aim = story.plan.name, story.aim_rig_mm
    asked = [command for command in tail[:at] if isinstance(command, AskOperator)]
    way = next((command for command in tail[:at] if isinstance(command, MoveAcross)), None)
    if aim is not None:
        x, y, z = (float(v) for v in aim)
        return [MoveAcross(0, name, x, y), MoveDepth(0, name, z, in_tissue=False), *tail[at:]]
    x, y = known.across_mm if way is None else (way.x_mm, way.y_mm)
    out = [command for command in asked if command.task == "take_out_needle"]
    return [*out, MoveAcross(0, name, x, y), agenda.load(known, story, ", unless it is there"), *tail[at:]]


def _held_again(
    known: Knowledge,
    story: NeedleStory,
    tail: list[Command],
    carriage_z_mm: float | None,
) -> list[Command]:
    """A needle that was in the grip: where it stands is as the carriage tells, and no scan has seen it there."""
    name, aim = story.plan.name, story.aim_rig_mm
    known.motion += 1
    story.moved, story.verified = known.motion, None
    x, y = (float(aim[0]), float(aim[1])) if aim is not None else known.across_mm
    way = next((command for command in tail if isinstance(command, MoveAcross)), None)
    depths = [c.z_mm for c in tail if isinstance(c, MoveDepth) and c.in_tissue]
    z_target = depths[-1] if depths else (float(aim[2]) if aim is not None else 0.0)
    target: Floats = np.array([x, y, z_target] if way is None else [way.x_mm, way.y_mm, z_target])
    # As far behind the planned entry as the free approach ends before it: so far the tissue surely holds a needle.
    held_from_mm = agenda.approach_z_mm(known, story, known.pose) + 2.0 * known.settings.approach_mm
    if carriage_z_mm is None or carriage_z_mm < held_from_mm:
        story.aim_rig_mm, story.is_new_path = None, True
        text = f"Needle {name} out of the patient and of the guide, and laid aside. Confirm when it is out."
        out = AskOperator(0, "take_out_needle", text, needle=name)
        return [out, *agenda.insert(known, story, target, known.pose)]
    story.aim_rig_mm = np.array([x, y, round(carriage_z_mm, 3)])
    if way is not None:
        return agenda.aim_again(known, story, target, known.pose)
    if abs(carriage_z_mm - z_target) <= _SAME_DEPTH_MM:
        story.attempt += 1
        return []
    return agenda.change_depth(known, story, z_target)
