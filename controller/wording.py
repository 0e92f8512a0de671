"""Commands in words, for a screen.  Pure."""

from __future__ import annotations

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
    EvaluateNeedles,
    HomeApplicator,
    HomeRig,
    MoveAcross,
    MoveDepth,
    OpenGrip,
    RequestScan,
    RetractNeedle,
)


def in_words(command: Command) -> str:
    """What a command does, for a screen."""
    match command:
        case AskOperator():
            return command.text
        case ConnectRig():
            return "Template rig connected and checked"
        case HomeRig():
            return "Template rig homed"
        case MoveAcross():
            return f"Guide over needle {command.needle}'s place"
        case CloseGrip():
            return f"Needle {command.needle} held"
        case OpenGrip():
            return f"Needle {command.needle} let go"
        case MoveDepth() if command.in_tissue:
            return f"Needle {command.needle} to depth {command.z_mm:.1f} mm"
        case MoveDepth():
            return f"Carriage to {command.z_mm:.1f} mm"
        case ConnectApplicator():
            return "Applicator connected and checked"
        case HomeApplicator():
            return f"Applicator: {command.axis} homed"
        case ClearLatch():
            return f"Applicator's latch {command.latch} cleared"
        case BeginLedger():
            return "Count of seeds opened"
        case DeclareCartridge():
            return f"Cartridge {command.cartridge} counted in: {command.count} seeds"
        case RetractNeedle():
            return f"Needle {command.needle} drawn back {command.z_um / 1000:.1f} mm"
        case DropSeed():
            return f"Seed {command.seed} in needle {command.needle}"
        case EndLedger():
            return "Count of seeds closed: every seed accounted for"
        case RequestScan():
            slices = "" if command.slice_mm is None else f", slices of {command.slice_mm:g} mm"
            return f"CT {command.scan} ({command.kind}{slices})"
        case EvaluateNeedles():
            return "Dose with the needles as they stand"
    return type(command).__name__
