"""Between the controller's words and the drivers': commands one way, events the other, facts for the interlocks.

Pure. An event that answers no command and stops nothing (a step in tissue, a switch) is no event of the procedure.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller import commands as c
from controller.events import CommandDone, CommandFailed, DeviceFaulted, Event, SeedDropped
from controller.interlocks import DeviceFacts
from controller.knowledge import Knowledge
from drivers import applicator_language as a
from drivers import rig_language as r

RETRACTION_SPEED_UM_S = 5000
"""Drawing the needle back in tissue: 5 mm/s (assumed)."""
_ANSWERS = (CommandDone, CommandFailed, SeedDropped)
_MOVING = ("Run", "Home", "Jog", "Hold", "Door")


def rig_command(command: c.Command, known: Knowledge) -> r.RigCommand:
    match command:
        case c.ConnectRig():
            return r.ConnectRig()
        case c.HomeRig():
            return r.HomeRig()
        case c.MoveAcross():
            return r.MoveAcross(command.x_mm, command.y_mm)
        case c.MoveDepth() if command.z_mm <= known.settings.home_z_mm:
            return r.MoveDepthHome(command.in_tissue)
        case c.MoveDepth():
            return r.MoveDepth(command.z_mm, command.in_tissue)
        case c.CloseGrip():
            return r.CloseGrip()
        case c.OpenGrip():
            return r.OpenGrip()
    raise TypeError(f"{type(command).__name__} is no command of the rig")


def applicator_command(command: c.Command) -> a.ApplicatorCommand:
    match command:
        case c.ConnectApplicator():
            return a.Connect()
        case c.HomeApplicator(axis="stylet"):
            return a.HomeStylet()
        case c.HomeApplicator():
            return a.HomeRetraction()
        case c.ClearLatch():
            return a.ClearLatch(command.latch, command.stroke, command.booked_as)
        case c.BeginLedger():
            return a.BeginLedger(command.procedure)
        case c.DeclareCartridge():
            return a.DeclareCartridge(command.cartridge, command.count, command.returned)
        case c.RetractNeedle():
            return a.MoveNeedleTo(command.z_um, RETRACTION_SPEED_UM_S)
        case c.DropSeed():
            return a.DropSeed(command.stroke, command.z_um, command.token)
        case c.EndLedger():
            return a.EndLedger(command.returned)
    raise TypeError(f"{type(command).__name__} is no command of the applicator")


def rig_events(heard: Iterable[r.RigEvent], pending: c.Command | None) -> list[Event]:
    number = pending.number if isinstance(pending, c.RIG_COMMANDS) else None
    told: list[Event] = []
    for event in heard:
        match event:
            case r.RigConnected() if number is not None:
                beside = {"depth_encoder": event.encoder} if event.encoder else {}
                readback = {"identity": event.identity, "simulated": event.simulated, **beside}
                told.append(CommandDone(number, readback))
            case r.RigDone() if number is not None:
                seen = {} if event.encoder_mm is None else {"encoder_mm": event.encoder_mm}
                place = {"x_mm": event.x_mm, "y_mm": event.y_mm, "z_mm": event.z_mm, **seen, **_by(event.who)}
                told.append(CommandDone(number, place))
            case r.RigRefused() | r.RigFailed() if number is not None:
                told.append(CommandFailed(number, f"rig: {event.reason}"))
            case r.RigAlarmed() | r.RigReset() | r.RigLinkLost():
                told.append(DeviceFaulted("rig", event.sentence))
            case _:
                continue
        if isinstance(told[-1], _ANSWERS):
            number = None
    return _answers_first(told)


def applicator_events(heard: Iterable[a.ApplicatorEvent], pending: c.Command | None) -> list[Event]:
    number = pending.number if isinstance(pending, c.APPLICATOR_COMMANDS) else None
    told: list[Event] = []
    for event in heard:
        match event:
            case a.ApplicatorConnected() if number is not None:
                readback = {"identity": event.identity, "simulated": event.simulated, "boot": event.boot}
                told.append(CommandDone(number, readback))
            case a.ApplicatorDone() if number is not None:
                count = {"z_um": event.state.z_um, "counter": event.state.counter}
                told.append(CommandDone(number, {**count, **_by(event.who)}))
            case a.SeedOutcome() if number is not None:
                told.append(
                    SeedDropped(
                        number,
                        pending.seed if isinstance(pending, c.DropSeed) else event.number,
                        event.outcome,
                        event.duplicate,
                        event.z_um,
                        event.peak_mn,
                        event.pulses,
                        event.stroke_um,
                        event.who,
                    )
                )
            case a.SeedInDoubt() if number is not None:
                seed = pending.seed if isinstance(pending, c.DropSeed) else event.number
                why = (
                    f"seed {seed} is in doubt: count the seeds, look at a CT; resuming asks what became of it"
                )
                told.append(CommandFailed(number, f"applicator: {event.sentence}; {why}"))
            case a.ApplicatorRefused() | a.ApplicatorFailed() if number is not None:
                told.append(CommandFailed(number, f"applicator: {event.sentence}"))
            case a.SeedNotFired() if number is not None:
                told.append(CommandFailed(number, f"applicator: seed {event.number} was not fired"))
            case a.ApplicatorStopped():
                told.append(
                    DeviceFaulted("applicator", f"stopped by {event.by} at {event.z_um / 1000:.1f} mm")
                )
            case a.ApplicatorLatched() | a.ApplicatorLinkLost():
                told.append(DeviceFaulted("applicator", event.sentence))
            case a.ApplicatorReset():
                told.append(
                    DeviceFaulted("applicator", f"was reset (boot {event.old_boot} -> {event.new_boot})")
                )
            case a.EstopChanged(open=True):
                told.append(DeviceFaulted("applicator", "the e-stop loop is open"))
            case _:
                continue
        if isinstance(told[-1], _ANSWERS):
            number = None
    return _answers_first(told)


def _by(who: str) -> dict[str, str]:
    return {"by_hand_of": who} if who else {}


def _answers_first(told: list[Event]) -> list[Event]:
    """What became of a command is taken in before what else came with it: a jam's outcome before its latch."""
    return sorted(told, key=lambda event: not isinstance(event, _ANSWERS))


def device_facts(rig: r.RigState, applicator: a.ApplicatorState) -> DeviceFacts:
    """What the interlocks look at, from what the drivers have read back."""
    return DeviceFacts(
        rig_is_live=rig.linked,
        rig_knows_position=rig.position_known,
        rig_is_moving=rig.status in _MOVING,
        applicator_is_live=applicator.linked,
        applicator_is_moving=applicator.st in ("HOMING", "MOVING", "ARMED", "FIRING"),
        estop_open=applicator.estop_open,
        latch=applicator.latch,
        needle_z_um=applicator.z_um,
        stylet_z_um=applicator.stylet_um,
        seed_counter=applicator.counter,
        cartridge_left=applicator.left,
        cartridge_is_seated=applicator.seated,
    )
