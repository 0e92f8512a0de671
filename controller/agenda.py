"""From "insert this needle" to single commands.  Pure: each function returns commands without numbers.

The sequences are the only places where the order of small steps is decided:
the guide moves across only with the carriage at home; a needle is let go before the carriage leaves it.
"""

from __future__ import annotations

import hashlib

import numpy as np

from controller.commands import (
    AskOperator,
    BeginLedger,
    ClearLatch,
    CloseGrip,
    Command,
    ConnectApplicator,
    ConnectRig,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    HomeApplicator,
    HomeRig,
    MoveAcross,
    MoveDepth,
    OpenGrip,
    RetractNeedle,
)
from controller.knowledge import BOOKED_AS, Knowledge, NeedleStory
from planning.frame import Floats, RigidTransform


def device_check() -> list[Command]:
    return [
        ConnectRig(0),
        HomeRig(0),
        ConnectApplicator(0),
        HomeApplicator(0, "stylet"),
        HomeApplicator(0, "retraction"),
    ]


def approach_z_mm(known: Knowledge, story: NeedleStory, patient_from_rig: RigidTransform) -> float:
    """How deep a tip may go freely: this far before the skin, at the planned entry."""
    entry_z = float(patient_from_rig.inverse().apply(story.plan.entry_mm)[2])
    return round(max(entry_z - known.settings.approach_mm, known.settings.home_z_mm), 3)


def insert(
    known: Knowledge, story: NeedleStory, aim: Floats, patient_from_rig: RigidTransform
) -> list[Command]:
    """A fresh needle through hole (x, y) to tip depth z."""
    name = story.plan.name
    x, y, z = (float(v) for v in aim)
    return [
        MoveAcross(0, name, x, y),
        load(known, story),
        CloseGrip(0, name),
        *_go_in(known, story, z, patient_from_rig),
    ]


def load(known: Knowledge, story: NeedleStory, unless: str = "") -> AskOperator:
    """A fresh needle to where it is taken hold of; ``unless``: words for one that may be there already."""
    name, hole = story.plan.name, story.plan.hole
    if known.rig_by_hand:
        text = f"Needle {name} into hole {hole} of the template by hand, its tip before the skin{unless}. Confirm."
        return AskOperator(0, "guide_needle", text, needle=name)
    text = f"Needle {name} into the carriage, through hole {hole}{unless}. Confirm when it is in."
    return AskOperator(0, "load_needle", text, needle=name)


def _go_in(
    known: Knowledge, story: NeedleStory, z_mm: float, patient_from_rig: RigidTransform
) -> list[Command]:
    name = story.plan.name
    return [
        MoveDepth(0, name, approach_z_mm(known, story, patient_from_rig), in_tissue=False),
        MoveDepth(0, name, z_mm, in_tissue=True),
        OpenGrip(0, name),
        MoveDepth(0, name, known.settings.home_z_mm, in_tissue=False),
    ]


def _take_hold(story: NeedleStory) -> list[Command]:
    if story.aim_rig_mm is None:
        raise ValueError(f"needle {story.plan.name} does not stand in the patient")
    name = story.plan.name
    x, y, z = (float(v) for v in story.aim_rig_mm)
    return [MoveAcross(0, name, x, y), MoveDepth(0, name, z, in_tissue=False), CloseGrip(0, name)]


def change_depth(known: Knowledge, story: NeedleStory, z_mm: float) -> list[Command]:
    """A standing needle further in or out on its own path."""
    name = story.plan.name
    return [
        *_take_hold(story),
        MoveDepth(0, name, float(z_mm), in_tissue=True),
        OpenGrip(0, name),
        MoveDepth(0, name, known.settings.home_z_mm, in_tissue=False),
    ]


def aim_again(
    known: Knowledge, story: NeedleStory, aim: Floats, patient_from_rig: RigidTransform
) -> list[Command]:
    """A standing needle out of the patient, and in again on another path."""
    name = story.plan.name
    x, y, z = (float(v) for v in aim)
    return [
        *_take_hold(story),
        MoveDepth(0, name, approach_z_mm(known, story, patient_from_rig), in_tissue=True),
        MoveDepth(0, name, known.settings.home_z_mm, in_tissue=False),
        MoveAcross(0, name, x, y),
        *_go_in(known, story, z, patient_from_rig),
    ]


def seed_token(plan_hash: str, stroke: int) -> str:
    """Four hex digits that arm exactly this stroke for exactly this plan."""
    return hashlib.sha256(f"{plan_hash}:{stroke}".encode()).hexdigest()[:4].upper()


def deliver(known: Knowledge) -> list[Command]:
    """All seeds that are left, needle by needle, deepest first, with the cartridges they need.

    From whatever is known: at the beginning, and again after a decision in the middle of it.
    """
    commands: list[Command] = [] if known.ledger_begun else [BeginLedger(0, known.plan_hash[:8].upper())]
    to_drop = sum(len(known.seeds_left(story)) for story in known.needles.values())
    cartridge, left, stroke = known.cartridge, known.cartridge_left or 0, known.strokes
    seated, change = known.seated, known.cartridge_to_change
    if known.coupled is None and known.ledger_begun and not known.retraction_at_home:
        commands.append(HomeApplicator(0, "retraction"))
    for story in known.needles.values():
        name, seeds = story.plan.name, known.seeds_left(story)
        if story.state == "abandoned" and story.aim_rig_mm is not None and known.coupled != name:
            commands.append(take_out(story))
        if story.state != "in place" and known.coupled != name:
            continue
        if not seeds and known.coupled != name and story.adapted is not None:
            commands.append(take_out(story))
            continue
        if known.coupled != name:
            commands.append(_couple(known, story))
        for seed in seeds:
            if left == 0 or change:
                returned = 0
                if seated is not None and seated[0] == cartridge:
                    commands.append(_cartridge_out(cartridge, left))
                    returned, seated = left, None
                cartridge += 1
                left, change = min(known.settings.cartridge_capacity, to_drop), False
                if seated is None:
                    commands.append(_cartridge_in(cartridge, left))
                else:
                    left = seated[1]
                commands.append(DeclareCartridge(0, cartridge, left, returned))
                seated = (cartridge, left)
            z_um, stroke = int(np.rint(seed.retraction_mm * 1000.0)), stroke + 1
            token = seed_token(known.plan_hash, stroke)
            commands += [RetractNeedle(0, name, z_um), DropSeed(0, name, seed.number, z_um, token, stroke)]
            to_drop, left = to_drop - 1, left - 1
        commands += [_uncouple(story), HomeApplicator(0, "retraction")]
    if seated is not None:
        commands.append(_cartridge_out(cartridge, left))
    return [*commands, EndLedger(0, left)]


def _couple(known: Knowledge, story: NeedleStory) -> AskOperator:
    name, hole = story.plan.name, story.plan.hole
    if not known.applicator_by_hand:
        text = f"Applicator onto the hub of needle {name} (hole {hole}), locked. Confirm."
        return AskOperator(0, "couple_applicator", text, needle=name)
    at_mm = story.last_z_um / 1000  # not 0 where people have taken over in the middle of a needle
    text = f"Applicator onto the hub of needle {name} (hole {hole}), locked, its scale at {at_mm:.1f} mm. Confirm."
    return AskOperator(0, "couple_applicator", text, needle=name, z_mm=at_mm)


def _uncouple(story: NeedleStory) -> AskOperator:
    name = story.plan.name
    text = f"Applicator off, needle {name} out of the patient. Confirm."
    return AskOperator(0, "uncouple_applicator", text, needle=name)


def take_out(story: NeedleStory) -> AskOperator:
    """An abandoned needle, one that an adapted plan has no seed for, or any at an abortion."""
    name = story.plan.name
    text = f"Needle {name} out of the patient and of the guide, and laid aside. Confirm when it is out."
    return AskOperator(0, "take_out_needle", text, needle=name)


def _cartridge_in(cartridge: int, count: int) -> AskOperator:
    text = f"Cartridge {cartridge} with {count} seeds into the applicator. Count them, then confirm."
    return AskOperator(0, "seat_cartridge", text, cartridge=cartridge, count=count, returned=0)


def _cartridge_out(cartridge: int, left: int) -> AskOperator:
    text = (
        f"Cartridge {cartridge} out of the applicator. It should hold {left} seeds. Count them, then confirm."
    )
    return AskOperator(0, "remove_cartridge", text, cartridge=cartridge, returned=left)


def _left_after_doubt(known: Knowledge) -> int:
    doubt = known.doubt
    back = doubt.seeds if doubt is not None and doubt.where == "cartridge" else 0
    return (known.cartridge_left or 0) + back


def abort(known: Knowledge) -> list[Command]:
    """Every needle out, every seed counted, the count closed. No device moves a needle any more: people do.

    Where a person has told where a seed in doubt is, its latch is cleared first and the stylet drawn home.
    By hand: no device is asked for anything; the applicator's count stays open, and people reconcile it.
    """
    commands: list[Command] = []
    doubt, by_hand = known.doubt, known.abort_by_hand
    if doubt is not None and doubt.where and not by_hand:
        cleared = ClearLatch(0, doubt.latch, doubt.stroke, BOOKED_AS[doubt.where])
        commands += [cleared, HomeApplicator(0, "stylet")]
    if known.gripped is not None and not known.rig_by_hand:
        text = f"Free needle {known.gripped} from the rig's grip by hand. Confirm when it is free."
        commands.append(AskOperator(0, "free_grip", text, needle=known.gripped))
    if known.coupled is not None:
        commands.append(_uncouple(known.needles[known.coupled]))
    commands += [take_out(story) for story in known.in_body if story.plan.name != known.coupled]
    left = _left_after_doubt(known)
    if known.seated is not None:
        number, count = known.seated
        commands.append(_cartridge_out(number, left if number == known.cartridge else count))
    if known.ledger_begun and not known.ledger_ended and not by_hand:
        commands.append(EndLedger(0, left))
    return commands
