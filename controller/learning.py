"""What is known after (and, where in doubt, before) a command.  The only place where an answer becomes knowledge."""

from __future__ import annotations

import numpy as np

from controller.commands import (
    AskOperator,
    BeginLedger,
    ClearLatch,
    CloseGrip,
    Command,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    EvaluateNeedles,
    HomeApplicator,
    HomeRig,
    MoveAcross,
    MoveDepth,
    OpenGrip,
    RequestScan,
    RetractNeedle,
)
from controller.events import SeedDropped
from controller.knowledge import LATCH_OF, Knowledge, SeedInDoubt
from controller.wording import in_words


def prepare(known: Knowledge, command: Command) -> None:
    """What must count as having happened as soon as the command may have left."""
    match command:
        case CloseGrip(needle=name):
            known.motion += 1
            known.needles[name].moved = known.motion
            known.needles[name].verified = None
        case RequestScan():
            known.scans = command.scan
            known.scan_wished = False
        case RetractNeedle():
            known.retraction_at_home = False
            story = known.needles[command.needle]
            story.intended_z_um = max(story.intended_z_um, command.z_um)


def learn(known: Knowledge, command: Command) -> None:
    """A command was carried out."""
    match command:
        case AskOperator(task="load_needle" | "guide_needle"):
            known.loaded = command.needle
        case AskOperator(task="couple_applicator"):
            known.coupled = command.needle
        case AskOperator(task="uncouple_applicator"):
            if command.needle is not None:
                story = known.needles[command.needle]
                story.state = story.state if story.state == "abandoned" else "delivered"
                story.aim_rig_mm = None
            known.coupled = None
        case AskOperator(task="take_out_needle"):
            if command.needle is not None:
                story = known.needles[command.needle]
                story.aim_rig_mm = None
                if known.ledger_begun and story.state == "in place" and not known.seeds_left(story):
                    story.state = "delivered"  # the adapted plan has no seed for it
                if known.loaded == command.needle:
                    known.loaded = None
        case AskOperator(task="free_grip"):
            known.gripped = None
        case AskOperator(task="seat_cartridge"):
            known.seated = (command.cartridge or 0, command.count or 0)
        case AskOperator(task="remove_cartridge"):
            known.seated = None
        case HomeRig():
            known.rig_homed, known.carriage_z_mm = True, known.settings.home_z_mm
        case MoveAcross():
            known.across_for = command.needle
            if known.gripped is not None:
                _aim(known, command.needle, x_mm=command.x_mm, y_mm=command.y_mm, new_path=True)
            else:
                known.across_mm = (command.x_mm, command.y_mm)
        case CloseGrip():
            known.gripped = command.needle
            if known.loaded == command.needle:
                known.loaded = None
                x, y = known.across_mm
                _aim(known, command.needle, x_mm=x, y_mm=y, new_path=True)
        case MoveDepth():
            known.carriage_z_mm = command.z_mm
            if known.gripped == command.needle:
                known.motion += 1
                known.needles[command.needle].moved = known.motion
                _aim(known, command.needle, z_mm=command.z_mm)
        case OpenGrip():
            known.gripped = None
            known.needles[command.needle].attempt += 1
        case HomeApplicator(axis="stylet"):
            known.stylet_homed = True
        case HomeApplicator(axis="retraction"):
            known.retraction_homed = known.retraction_at_home = True
        case ClearLatch() if command.booked_as != "NO":
            _book(known)
        case BeginLedger():
            known.ledger_begun = True
        case DeclareCartridge():
            known.cartridge, known.cartridge_left = command.cartridge, command.count
            known.cartridge_to_change = False
        case RetractNeedle():
            known.needles[command.needle].last_z_um = command.z_um
        case EvaluateNeedles():
            known.evaluation_due = False
        case EndLedger():
            known.cartridge_left, known.ledger_ended = 0, True
    known.message = in_words(command)


def _aim(
    known: Knowledge,
    name: str,
    *,
    x_mm: float | None = None,
    y_mm: float | None = None,
    z_mm: float | None = None,
    new_path: bool = False,
) -> None:
    story = known.needles[name]
    aim = np.zeros(3) if story.aim_rig_mm is None else story.aim_rig_mm.copy()
    for axis, value in enumerate((x_mm, y_mm, z_mm)):
        if value is not None:
            aim[axis] = value
    story.aim_rig_mm = aim
    story.is_new_path = story.is_new_path or new_path


def learn_seed(known: Knowledge, command: DropSeed, event: SeedDropped) -> str | None:
    """The applicator told a seed's outcome; what is amiss with it, in words, or None."""
    known.strokes = command.stroke
    if event.outcome != "PASS":
        left = known.cartridge_left or 0
        seeds = min(2, left) if event.outcome == "DOUBLE" else 1
        latch = LATCH_OF[event.outcome]
        known.doubt = SeedInDoubt(command.needle, command.seed, command.stroke, latch, seeds)
        known.cartridge_left = left - seeds
        return (
            f"seed {command.seed} in needle {command.needle}: {event.outcome}; count the seeds and look at a "
            "CT before anything is cleared"
        )
    known.seeds_delivered.append(command.seed)
    known.needles[command.needle].seeds_delivered += 1
    if known.cartridge_left is not None:
        known.cartridge_left -= 1
    known.message = f"Seed {command.seed} dropped in needle {command.needle}"
    return None


def _book(known: Knowledge) -> None:
    """What was in doubt is where a person found it, and the applicator has booked it so."""
    doubt = known.doubt
    if doubt is None:
        return
    match doubt.where:
        case "patient":
            known.seeds_delivered.append(doubt.seed)
            known.needles[doubt.needle].seeds_delivered += 1
            known.extra_seeds += doubt.seeds - 1
        case "needle":
            known.wasted += doubt.seeds
        case "cartridge":
            known.cartridge_left = (known.cartridge_left or 0) + doubt.seeds
    known.doubt = None
