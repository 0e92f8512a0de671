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
from controller.knowledge import Knowledge, NeedleStory
from planning.frame import Floats, RigidTransform


def device_check() -> list[Command]:
    return [
        ConnectRig(0),
        HomeRig(0),
        ConnectApplicator(0),
        HomeApplicator(0, "stylet"),
        HomeApplicator(0, "retraction"),
    ]


def time_out(known: Knowledge) -> list[Command]:
    plan = known.plan
    text = (
        f"Time-out. Patient {plan.patient_name} ({plan.patient_id}); plan {known.plan_hash[:8].upper()}: "
        f"{len(plan.needles)} needles, {len(plan.seeds)} seeds {plan.source_model}, "
        f"{plan.activity_mci:.3g} mCi each, {plan.prescription_gy:g} Gy. Confirm that all of it is right."
    )
    return [AskOperator(0, "confirm_time_out", text)]


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
    load = f"Needle {name} into the carriage, through hole {story.plan.hole}. Confirm when it is in."
    return [
        MoveAcross(0, name, x, y),
        AskOperator(0, "load_needle", load, needle=name),
        CloseGrip(0, name),
        *_go_in(known, story, z, patient_from_rig),
    ]


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


def seed_token(plan_hash: str, seed: int) -> str:
    """Four hex digits that arm exactly this seed of exactly this plan."""
    return hashlib.sha256(f"{plan_hash}:{seed}".encode()).hexdigest()[:4].upper()


def deliver(known: Knowledge) -> list[Command]:
    """All seeds of all needles, needle by needle, deepest first, with the cartridges they need."""
    commands: list[Command] = [BeginLedger(0, known.plan_hash[:8].upper())]
    capacity = known.settings.cartridge_capacity
    total = len(known.plan.seeds)
    dropped, cartridge, left = 0, 0, 0
    for story in known.needles.values():
        name = story.plan.name
        couple = f"Applicator onto the hub of needle {name} (hole {story.plan.hole}), locked. Confirm."
        commands.append(AskOperator(0, "couple_applicator", couple, needle=name))
        for seed in story.plan.seeds:
            if left == 0:
                if cartridge > 0:
                    commands.append(_take_out(cartridge, left))
                cartridge += 1
                left = min(capacity, total - dropped)
                seat = (
                    f"Cartridge {cartridge} with {left} seeds into the applicator. Count them, then confirm."
                )
                commands += [
                    AskOperator(0, "seat_cartridge", seat, cartridge=cartridge, count=left, returned=0),
                    DeclareCartridge(0, cartridge, left, 0),
                ]
            z_um = int(np.rint(seed.retraction_mm * 1000.0))
            commands += [
                RetractNeedle(0, name, z_um),
                DropSeed(0, name, seed.number, z_um, seed_token(known.plan_hash, seed.number)),
            ]
            dropped, left = dropped + 1, left - 1
        done = f"Applicator off, needle {name} out of the patient. Confirm."
        commands += [
            AskOperator(0, "uncouple_applicator", done, needle=name),
            HomeApplicator(0, "retraction"),
        ]
    commands += [_take_out(cartridge, left), EndLedger(0, left)]
    return commands


def _take_out(cartridge: int, left: int) -> AskOperator:
    text = (
        f"Cartridge {cartridge} out of the applicator. It should hold {left} seeds. Count them, then confirm."
    )
    return AskOperator(0, "remove_cartridge", text, cartridge=cartridge, returned=left)
