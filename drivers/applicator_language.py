"""What can be asked of the applicator's driver, and what it says: commands, events, state.

Knows: words and units (um, mN, um/s as on the wire). Does not know: bytes, time, or what a procedure is.

Each command ends with exactly one of: ``ApplicatorConnected`` (Connect), ``ApplicatorDone``, ``SeedOutcome``
or ``SeedNotFired`` (DropSeed, AskSeed), ``ApplicatorRefused`` (nothing happened), ``ApplicatorFailed`` (begun
and broken off), ``SeedInDoubt`` (a DropSeed broken off after its FIRE left: reconnect and ``AskSeed``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["PASS", "NOPASS", "DOUBLE", "UNKNOWN"]
BookedAs = Literal["IN", "WA", "LF", "NO"]


@dataclass(frozen=True)
class ApplicatorConfig:
    """What the connected applicator must be; compared with its HELLO and refused when different.

    Attributes:
        capacity: seeds per cartridge. Mandatory: published capacities differ (15, 20).
        detent_um: spacing detent.
        gauge: of the needle.
        place_tolerance_um: how far the encoder may be from where the needle was sent.
        port: how the port is called in messages.
    """

    capacity: int
    detent_um: int
    gauge: int
    place_tolerance_um: int = 100
    port: str = "applicator"


# ---------------------------------------------------------------- commands


@dataclass(frozen=True)
class Connect:
    """Open a session (any motion stops, the device disarms), compare identity, read the state."""


@dataclass(frozen=True)
class HomeStylet:
    """Draw the stylet back to its home."""


@dataclass(frozen=True)
class HomeRetraction:
    """Drive the retraction axis to 0: never with a needle coupled (the controller's interlock)."""


@dataclass(frozen=True)
class BeginLedger:
    """Open the ledger of a procedure: eight upper-case hex digits."""

    procedure: str


@dataclass(frozen=True)
class DeclareCartridge:
    """A person has seated cartridge ``number`` with ``count`` seeds; ``returned`` came out before."""

    number: int
    count: int
    returned: int


@dataclass(frozen=True)
class MoveNeedleTo:
    """Draw the needle to ``z_um`` (absolute, 0 = foremost)."""

    z_um: int
    speed_um_s: int


@dataclass(frozen=True)
class DropSeed:
    """Push seed ``number`` where the needle stands (``z_um``); ``token``: four hex digits, new each time."""

    number: int
    z_um: int
    token: str


@dataclass(frozen=True)
class AskSeed:
    """What happened to seed ``number``? Moves nothing."""

    number: int


@dataclass(frozen=True)
class ReadLedger:
    """Read the device's counts."""


@dataclass(frozen=True)
class EndLedger:
    """Close the ledger; a person has taken ``returned`` seeds out with the last cartridge."""

    returned: int


@dataclass(frozen=True)
class ClearLatch:
    """A person has looked: clear ``latch`` about seed ``number`` (0: none), booked as ``booked_as``."""

    latch: str
    number: int
    booked_as: BookedAs


@dataclass(frozen=True)
class ReadState:
    """Read the device's state now."""


@dataclass(frozen=True)
class Disarm:
    """Back to idle if armed; harmless otherwise."""


ApplicatorCommand = (
    Connect
    | HomeStylet
    | HomeRetraction
    | BeginLedger
    | DeclareCartridge
    | MoveNeedleTo
    | DropSeed
    | AskSeed
    | ReadLedger
    | EndLedger
    | ClearLatch
    | ReadState
    | Disarm
)


# ---------------------------------------------------------------- state


@dataclass(frozen=True)
class ApplicatorState:
    """The last the driver has heard; stale as soon as ``linked`` is False.

    Attributes:
        st: IDLE HOMING MOVING ARMED FIRING LATCHED, or "" before the first news.
        counter: number of the last intended seed.
        left: seeds in the cartridge.
        latch_seed: which seed the latch is about (0: none).
    """

    linked: bool = False
    st: str = ""
    z_um: int = 0
    stylet_um: int = 0
    force_mn: int = 0
    counter: int = 0
    left: int = 0
    seated: bool = False
    estop_open: bool = False
    retraction_homed: bool = False
    stylet_homed: bool = False
    latch: str = "NONE"
    latch_seed: int = 0
    boot: str = "0000"
    identity: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Ledger:
    """The device's own book of one procedure; loaded = implanted + left + wasted + in_doubt."""

    procedure: str
    loaded: int
    implanted: int
    left: int
    wasted: int
    in_doubt: int
    strokes: int
    pulses: int
    cartridges: int


# ---------------------------------------------------------------- events


@dataclass(frozen=True)
class ApplicatorConnected:
    """A session is open with a device that is what the configuration demands."""

    identity: str
    simulated: bool
    boot: str
    firmware: str
    state: ApplicatorState


@dataclass(frozen=True)
class ApplicatorDone:
    """``command`` is done, and ``state`` was read after it.

    Attributes:
        resumed: BeginLedger found the ledger of this procedure already open.
        ledger: answer to ReadLedger.
        who: did it by hand; "" when the applicator did.
    """

    command: ApplicatorCommand
    state: ApplicatorState
    resumed: bool = False
    ledger: Ledger | None = None
    who: str = ""


@dataclass(frozen=True)
class SeedOutcome:
    """The outcome the device has stored for seed ``number``; only PASS counts as implanted.

    Attributes:
        duplicate: this command moved nothing: the seed had been intended before, or was only asked about.
        who: pushed it by hand, and nothing was measured; "" when the applicator did.
    """

    number: int
    outcome: Outcome
    duplicate: bool
    z_um: int
    peak_mn: int
    pulses: int
    stroke_um: int
    who: str = ""


@dataclass(frozen=True)
class SeedNotFired:
    """The device never intended seed ``number``: no plunger moved for it."""

    number: int


@dataclass(frozen=True)
class SeedInDoubt:
    """FIRE for seed ``number`` left, its outcome isn't known: Connect, AskSeed, and only then drop again."""

    number: int
    sentence: str


@dataclass(frozen=True)
class ApplicatorRefused:
    """``command`` was refused, by the device (``code`` of the wire) or by the driver; nothing moved by it.

    Attributes:
        extra: what the device said with it, e.g. ``{"left": "3"}``.
    """

    command: ApplicatorCommand
    code: str
    sentence: str
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ApplicatorFailed:
    """``command`` was begun and broken off (stop, reset, lost link, wrong place)."""

    command: ApplicatorCommand
    sentence: str


@dataclass(frozen=True)
class ApplicatorStopped:
    """The device has stopped all motion. ``by``: HOST ESTOP WATCH AXIS."""

    z_um: int
    by: str


@dataclass(frozen=True)
class ApplicatorLatched:
    """Nothing moves until a person has looked and ``ClearLatch`` was accepted."""

    latch: str
    seed: int
    sentence: str


@dataclass(frozen=True)
class ApplicatorReset:
    """The device was reset: the session is over, homes are gone. ``Connect`` again."""

    old_boot: str
    new_boot: str


@dataclass(frozen=True)
class ApplicatorLinkLost:
    """No answer any more (or an answer out of all order). ``Connect`` again."""

    sentence: str


@dataclass(frozen=True)
class ApplicatorDisarmed:
    """The token grew old before FIRE."""

    number: int


@dataclass(frozen=True)
class EstopChanged:
    """The hard-wired loop opened (motors are dead) or closed again."""

    open: bool


@dataclass(frozen=True)
class CartridgeSwitchChanged:
    """The cartridge was seated or taken out."""

    seated: bool


ApplicatorEvent = (
    ApplicatorConnected
    | ApplicatorDone
    | SeedOutcome
    | SeedNotFired
    | SeedInDoubt
    | ApplicatorRefused
    | ApplicatorFailed
    | ApplicatorStopped
    | ApplicatorLatched
    | ApplicatorReset
    | ApplicatorLinkLost
    | ApplicatorDisarmed
    | EstopChanged
    | CartridgeSwitchChanged
)
