"""What can be asked of the template rig's driver, and what it says: commands, events, state.

Knows: words and the rig frame (mm; +z is the direction of insertion, z of the needle's tip). Does not know:
Grbl, machine coordinates, the patient.

Each command ends with exactly one of: ``RigConnected`` (ConnectRig), ``RigDone``, ``RigRefused`` (nothing
happened), ``RigFailed`` (begun and broken off, also by a stop or a lost link, which are told as well).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConnectRig:
    """Reset the board, compare identity, settings and offsets. The position is unknown afterwards."""


@dataclass(frozen=True)
class HomeRig:
    """Find the limit switches, depth first: never with a needle held in tissue (controller's interlock)."""


@dataclass(frozen=True)
class MoveAcross:
    """Bring the needle guide over (x, y); needs the carriage at home or the grip open."""

    x_mm: float
    y_mm: float


@dataclass(frozen=True)
class AimGuide:
    """Set the guide along an oblique line: through (x, y, 0), unit ``direction``; as ``MoveAcross`` else."""

    x_mm: float
    y_mm: float
    direction: tuple[float, float, float]


@dataclass(frozen=True)
class MoveDepth:
    """Bring the needle's tip to depth ``z_mm``; in tissue by steps of at most 1 mm, each read back."""

    z_mm: float
    in_tissue: bool


@dataclass(frozen=True)
class MoveDepthHome:
    """Draw the carriage back to its home (z = -19 mm): the needle, or the empty grip, is out of the template.

    ``in_tissue``: the grip draws a needle out of tissue, so by steps of at most 1 mm.
    """

    in_tissue: bool = False


@dataclass(frozen=True)
class CloseGrip:
    """Hold the needle."""


@dataclass(frozen=True)
class OpenGrip:
    """Let the needle go."""


@dataclass(frozen=True)
class ReadRig:
    """Ask where the rig is."""


RigCommand = (
    ConnectRig | HomeRig | MoveAcross | AimGuide | MoveDepth | MoveDepthHome | CloseGrip | OpenGrip | ReadRig
)


@dataclass(frozen=True)
class RigState:
    """The last the driver has heard; stale as soon as ``linked`` is False.

    Attributes:
        status: Grbl's word (Idle Run Hold Alarm Home ...), or "" before the first report.
        position_known: homed, and neither reset, alarm nor lost link since.
        x_mm, y_mm, z_mm: rig frame, as last reported (meaningless unless ``position_known``): where the guide line
            crosses z = 0, and the tip's depth along it.
        direction: of the guide line, unit; always straight on the coplanar rig.
        at_home: the carriage stands at its home (and the position is known).
        grip_closed: as commanded and confirmed last.
        encoder: the depth encoder on the carriage, as it calls itself; "" where none is fitted.
        encoder_mm: depth that it saw last, after the last motion of the carriage; None: never read.
    """

    linked: bool = False
    status: str = ""
    position_known: bool = False
    x_mm: float = 0.0
    y_mm: float = 0.0
    z_mm: float = 0.0
    at_home: bool = False
    grip_closed: bool = False
    identity: str = ""
    simulated: bool = False
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    encoder: str = ""
    encoder_mm: float | None = None


@dataclass(frozen=True)
class RigConnected:
    """The board is what the configuration demands. It must be homed before it moves.

    ``simulated``: the board, and the depth encoder where one is fitted. ``encoder``: as in ``RigState``.
    """

    identity: str
    simulated: bool
    version: str
    encoder: str = ""


@dataclass(frozen=True)
class RigDone:
    """``command`` is done; the position as read back, rig frame; ``encoder_mm``: depth that the encoder saw.

    ``who``: did it by hand; "" when the rig did.
    """

    command: RigCommand
    x_mm: float
    y_mm: float
    z_mm: float
    encoder_mm: float | None = None
    who: str = ""


@dataclass(frozen=True)
class RigAdvanced:
    """One step in tissue is done and read back; more follow."""

    z_mm: float


@dataclass(frozen=True)
class RigRefused:
    """``command`` was refused, by the driver or by the board; nothing moved by it."""

    command: RigCommand
    reason: str


@dataclass(frozen=True)
class RigFailed:
    """``command`` was begun and broken off. Unless ``position_known`` the rig must be homed again."""

    command: RigCommand
    reason: str
    position_known: bool


@dataclass(frozen=True)
class RigStopped:
    """The stop was carried out and acknowledged by the board. Where it stood at last report; home again."""

    x_mm: float
    y_mm: float
    z_mm: float


@dataclass(frozen=True)
class RigAlarmed:
    """The board raised an alarm; position unknown until homed."""

    code: int
    sentence: str


@dataclass(frozen=True)
class RigReset:
    """The board restarted though nobody asked; position unknown until homed."""

    sentence: str


@dataclass(frozen=True)
class RigLinkLost:
    """No answer any more. ``ConnectRig`` again, then home."""

    sentence: str


RigEvent = (
    RigConnected
    | RigDone
    | RigAdvanced
    | RigRefused
    | RigFailed
    | RigStopped
    | RigAlarmed
    | RigReset
    | RigLinkLost
)
