"""How each command is carried out: a script of questions and waits, ending in one event.

Knows: the order of commands on the wire, what to ask after a doubt. Does not know: bytes, numbers, resending;
time only as "wait at most so long". A motion or a FIRE stands once in a script and is never asked for again.

A script yields an ``Ask`` (gets the reply), a ``Wait`` (gets an event, or None when the time is up or an
event was lost on the way) or a ``Greet`` (gets the HELLO), and returns the command's last event. A refusal
arrives as the exception ``Refusal``, a stop that came before a question left as ``Interrupted``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass

from drivers.applicator_language import (
    ApplicatorCommand,
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorEvent,
    ApplicatorFailed,
    ApplicatorRefused,
    AskSeed,
    BeginLedger,
    ClearLatch,
    Connect,
    DeclareCartridge,
    Disarm,
    DropSeed,
    EndLedger,
    HomeRetraction,
    HomeStylet,
    Ledger,
    MoveNeedleTo,
    Outcome,
    ReadLedger,
    ReadState,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
from drivers.applicator_mirror import Mirror
from drivers.packet import Packet

LONGEST_HOMING_MS = 60_000
SHOT_MS = 3_000
LOOK_MS = 1_000
BUSY_LOOK_MS = 200
BUSY_LOOKS = 50


@dataclass(frozen=True)
class Ask:
    name: str
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Wait:
    events: frozenset[str]
    longest_ms: int


@dataclass(frozen=True)
class Greet:
    pass


Step = Ask | Wait | Greet
Script = Generator[Step, Packet | None, ApplicatorEvent]
Questions = Generator[Step, Packet | None, Packet]


class Refusal(Exception):
    """The device answered ERR."""

    def __init__(self, packet: Packet) -> None:
        super().__init__(packet.values["code"])
        self.code = packet.values["code"]
        self.extra = {key: value for key, value in packet.pairs if key != "code"}


class Interrupted(Exception):
    """A stop came first."""


class BrokenOff(Exception):
    """What was begun didn't end as it should; the message says how. ``stop``: it may still go on."""

    def __init__(self, sentence: str, *, stop: bool = False) -> None:
        super().__init__(sentence)
        self.stop = stop


def _ask(name: str, **pairs: object) -> Questions:
    reply = yield Ask(name, tuple((key, str(value)) for key, value in pairs.items()))
    assert reply is not None
    return reply


# ---------------------------------------------------------------- the session


def _connect(config: ApplicatorConfig, mirror: Mirror) -> Script:
    hello = yield Greet()
    assert hello is not None
    values = hello.values
    for key, name, wanted in (
        ("v", "version of the wire", 1),
        ("cap", "cartridge capacity", config.capacity),
        ("det", "spacing detent (um)", config.detent_um),
        ("ga", "needle gauge", config.gauge),
    ):
        if int(values[key]) != wanted:
            sentence = f"the device's {name} is {values[key]}, the configuration demands {wanted}"
            return ApplicatorRefused(Connect(), "CONFIG", sentence, {key: values[key]})
    yield from _ask("STAT")
    state = mirror.state
    return ApplicatorConnected(state.identity, state.simulated, state.boot, values["fw"], state)


def _done(command: ApplicatorCommand, mirror: Mirror, *, resumed: bool = False) -> Script:
    yield from _ask("STAT")
    return ApplicatorDone(command, mirror.state, resumed=resumed)


# ---------------------------------------------------------------- motions


def _motion_over(event: str, longest_ms: int) -> Questions:
    """Wait for the motion's end: its event, or STAT that says nothing moves."""
    waited_ms = 0
    while True:
        packet = yield Wait(frozenset({event, "STOPPED"}), LOOK_MS)
        if packet is not None:
            if packet.name == "STOPPED":
                raise BrokenOff(f"stopped by {packet.values['by']} at {packet.values['z']} um")
            return (yield from _ask("STAT"))
        stat = yield from _ask("STAT")
        st = stat.values["st"]
        if st not in ("MOVING", "HOMING"):
            return stat
        waited_ms += LOOK_MS
        if waited_ms > longest_ms:
            raise BrokenOff(f"still {st} after {waited_ms / 1000:g} s", stop=True)


def _home(command: HomeStylet | HomeRetraction, mirror: Mirror) -> Script:
    yield from _ask("HOME", ax="s" if isinstance(command, HomeStylet) else "z")
    yield from _motion_over("HOMED", LONGEST_HOMING_MS)
    state = mirror.state
    homed = state.stylet_homed if isinstance(command, HomeStylet) else state.retraction_homed
    if not homed or state.st != "IDLE":
        raise BrokenOff(f"not homed: the device is {state.st}, latch {state.latch}")
    return ApplicatorDone(command, state)


def _move(command: MoveNeedleTo, config: ApplicatorConfig, mirror: Mirror) -> Script:
    distance_um = abs(command.z_um - mirror.state.z_um)
    yield from _ask("MOVE", z=command.z_um, v=command.speed_um_s)
    yield from _motion_over("MOVED", 5_000 + 2_000 * distance_um // command.speed_um_s)
    state = mirror.state
    if state.st != "IDLE":
        raise BrokenOff(f"the device is {state.st}, latch {state.latch}, at {state.z_um} um")
    if abs(state.z_um - command.z_um) > config.place_tolerance_um:
        raise BrokenOff(f"the needle was sent to {command.z_um} um and stands at {state.z_um} um")
    return ApplicatorDone(command, state)


# ---------------------------------------------------------------- a seed


def _drop(command: DropSeed) -> Script:
    yield from _ask("ARM", n=command.number, z=command.z_um, tok=command.token)
    try:
        fired = yield from _ask("FIRE", n=command.number, tok=command.token)
    except Refusal:
        yield from _ask("DISARM")
        raise
    duplicate = fired.values["dup"] == "1"
    if not duplicate:
        yield Wait(frozenset({"SHOT", "STOPPED"}), SHOT_MS)
    event = yield from _outcome(command.number, duplicate)
    if isinstance(event, SeedNotFired):
        return SeedInDoubt(
            command.number, "the device acknowledged FIRE and now says it never intended the seed"
        )
    return event


def _outcome(number: int, duplicate: bool) -> Script:
    """Ask for the stored outcome until there is one: what is stored counts, not what was said in passing."""
    for _ in range(BUSY_LOOKS):
        result = yield from _ask("RES", n=number)
        outcome = result.values["out"]
        if outcome != "BUSY":
            break
        yield Wait(frozenset({"SHOT"}), BUSY_LOOK_MS)
    else:
        return SeedInDoubt(number, "the plunger has been under way for too long")
    yield from _ask("STAT")
    if outcome == "NONE":
        return SeedNotFired(number)
    return SeedOutcome(
        number,
        _OUTCOMES[outcome],
        duplicate,
        result.integer("z"),
        result.integer("peak"),
        result.integer("pulses"),
        result.integer("stroke"),
    )


_OUTCOMES: dict[str, Outcome] = {
    "PASS": "PASS",
    "NOPASS": "NOPASS",
    "DOUBLE": "DOUBLE",
    "UNKNOWN": "UNKNOWN",
}


# ---------------------------------------------------------------- the ledger


def _read_ledger(command: ReadLedger, mirror: Mirror) -> Script:
    reply = yield from _ask("LEDGER")
    counts = (reply.integer(key) for key in ("ld", "im", "lf", "wa", "db", "sk", "pu", "k"))
    return ApplicatorDone(command, mirror.state, ledger=Ledger(reply.values["p"], *counts))


def _plain(command: ApplicatorCommand, mirror: Mirror, name: str, **pairs: object) -> Script:
    reply = yield from _ask(name, **pairs)
    return (yield from _done(command, mirror, resumed=reply.values.get("dup") == "1"))


def script_for(command: ApplicatorCommand, config: ApplicatorConfig, mirror: Mirror) -> Script:
    """The script that carries out ``command``."""
    match command:
        case Connect():
            return _connect(config, mirror)
        case HomeStylet() | HomeRetraction():
            return _home(command, mirror)
        case MoveNeedleTo():
            return _move(command, config, mirror)
        case DropSeed():
            return _drop(command)
        case AskSeed(number):
            return _outcome(number, True)
        case BeginLedger(procedure):
            return _plain(command, mirror, "BEGIN", p=procedure)
        case DeclareCartridge(number, count, returned):
            return _plain(command, mirror, "CART", k=number, c=count, w=returned)
        case EndLedger(returned):
            return _plain(command, mirror, "END", w=returned)
        case ClearLatch(latch, number, booked_as):
            return _plain(command, mirror, "CLEAR", la=latch, n=number, **{"as": booked_as})
        case ReadLedger():
            return _read_ledger(command, mirror)
        case ReadState():
            return _done(command, mirror)
        case Disarm():
            return _plain(command, mirror, "DISARM")


def why_not_asked_rightly(command: ApplicatorCommand) -> str | None:
    """Why this command can't even be written on the wire, or None."""

    def outside(name: str, value: int, least: int, greatest: int) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= greatest:
            return None
        return f"{name} is {value!r}, not a whole number from {least} to {greatest}"

    def not_of(name: str, value: str, form: str, words: str) -> str | None:
        return None if re.fullmatch(form, value) else f"{name} is {value!r}, not {words}"

    checks: list[Callable[[], str | None]] = []
    match command:
        case MoveNeedleTo(z_um, speed_um_s):
            checks = [
                lambda: outside("z_um", z_um, 0, 150_000),
                lambda: outside("speed_um_s", speed_um_s, 100, 20_000),
            ]
        case DropSeed(number, z_um, token):
            checks = [
                lambda: outside("number", number, 1, 9999),
                lambda: outside("z_um", z_um, 0, 150_000),
                lambda: not_of("token", token, "[0-9A-F]{4}", "four upper-case hex digits"),
            ]
        case AskSeed(number):
            checks = [lambda: outside("number", number, 1, 9999)]
        case BeginLedger(procedure):
            checks = [lambda: not_of("procedure", procedure, "[0-9A-F]{8}", "eight upper-case hex digits")]
        case DeclareCartridge(number, count, returned):
            checks = [
                lambda: outside("number", number, 1, 9999),
                lambda: outside("count", count, 1, 9999),
                lambda: outside("returned", returned, 0, 9999),
            ]
        case EndLedger(returned):
            checks = [lambda: outside("returned", returned, 0, 9999)]
        case ClearLatch(latch, number, booked_as):
            checks = [
                lambda: not_of("latch", latch, "JAM|DOUBLE|UNKNOWN|AXIS|ESTOP|STOP|WATCH", "a latch"),
                lambda: outside("number", number, 0, 9999),
                lambda: not_of("booked_as", booked_as, "IN|WA|LF|NO", "one of IN, WA, LF, NO"),
            ]
        case _:
            pass
    return next((why for check in checks if (why := check()) is not None), None)


def failed(command: ApplicatorCommand, sentence: str, *, fire_left: bool) -> ApplicatorEvent:
    """The last event of a command that was broken off: doubt, if a FIRE had left."""
    if fire_left and isinstance(command, DropSeed):
        return SeedInDoubt(command.number, sentence)
    return ApplicatorFailed(command, sentence)
