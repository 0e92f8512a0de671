"""What the procedure may ask of the world, one small imperative at a time.

Every command names exactly one thing to do; the interlocks judge each by itself. ``number`` counts the
commands of a procedure from 1: it is the command's name in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Command:
    """Parent of all commands."""

    number: int

    def to_json(self) -> dict[str, Any]:
        return {"command": type(self).__name__, **vars(self)}


# --- people -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AskOperator(Command):
    """Ask a person to do something and to confirm it.

    Attributes:
        task: ``confirm_time_out``, ``load_needle``, ``couple_applicator``, ``uncouple_applicator``,
            ``seat_cartridge``, ``remove_cartridge``; after an interruption, for an abandoned needle, or at an
            abortion ``free_grip``, ``take_out_needle``; where a device is absent (``by_hand``) ``guide_needle``,
            ``set_guide``, ``move_needle``, ``slide_forward``, ``draw_back``, ``push_seed``, ``tell_pushed``,
            ``tell_kept``.
        text: the words on the screen; they name what is confirmed.
        needle: the needle concerned, or None.
        cartridge, count, returned: cartridge number, seeds in it, seeds taken out with the one before. ``count`` of a
            seed by hand is its stroke.
        item: of ``confirm_time_out``: what is confirmed: one of ``time_out.ITEMS``.
        is_better: of ``adapt_plan`` (a question that may be declined: then the plan is kept): whether the proposal
            is better by the plan's goals.
        place_mm: by hand: where guide (x, y) and tip (z) shall stand, rig frame.
        z_mm: by hand: how far the needle shall be drawn back.
        choices: of ``judge_needles``: what may be said of each needle, and of the CT (``ruling``); of the CT what is
            proposed comes first.
        proposals_mm: of ``judge_needles``: needle -> how the controller would move the tip, rig frame.
    """

    task: str
    text: str
    needle: str | None = None
    cartridge: int | None = None
    count: int | None = None
    returned: int | None = None
    item: str | None = None
    is_better: bool | None = None
    place_mm: tuple[float, float, float] | None = None
    z_mm: float | None = None
    choices: dict[str, list[str]] | None = None
    proposals_mm: dict[str, list[float]] | None = None

    def to_hands(self) -> dict[str, Any]:
        """What simulated hands are asked to do (``simulator/DEVICES.md``)."""
        asked = {"needle": self.needle, "count": self.count, "returned": self.returned}
        return {"do": self.task, **asked, "place_mm": self.place_mm, "z_mm": self.z_mm}


# --- template rig -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConnectRig(Command):
    """Open the link, identify the rig, compare its settings with the configuration."""


@dataclass(frozen=True)
class HomeRig(Command):
    """Find all axes' homes."""


@dataclass(frozen=True)
class MoveAcross(Command):
    """Move the needle guide over ``(x_mm, y_mm)`` of the rig frame, for ``needle``."""

    needle: str
    x_mm: float
    y_mm: float


@dataclass(frozen=True)
class MoveDepth(Command):
    """Move the carriage so that a tip in its grip stands at ``z_mm`` of the rig frame.

    ``in_tissue``: the needle in the grip is, or will be, in the patient: small steps, each read back.
    """

    needle: str
    z_mm: float
    in_tissue: bool


@dataclass(frozen=True)
class CloseGrip(Command):
    """Take hold of ``needle``: a fresh one in the carriage, or one that stands in the patient."""

    needle: str


@dataclass(frozen=True)
class OpenGrip(Command):
    """Let go of ``needle``."""

    needle: str


# --- applicator -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConnectApplicator(Command):
    """Open the link, identify the applicator, compare capacity, detent and gauge with the configuration."""


@dataclass(frozen=True)
class HomeApplicator(Command):
    """Home one axis: ``stylet``, or ``retraction`` (never with a needle coupled)."""

    axis: Literal["stylet", "retraction"]


@dataclass(frozen=True)
class ClearLatch(Command):
    """A person has looked: clear a latch.

    Attributes:
        latch: ``WATCH``, ``STOP``, ``ESTOP``; about a seed ``JAM``, ``DOUBLE``, ``UNKNOWN``.
        stroke: the stroke that the latch is about; 0 for none.
        booked_as: where a person says that the seed is: ``IN`` the patient, ``WA`` wasted, ``LF`` left in the
            cartridge; ``NO`` when the latch is about no seed.
    """

    latch: str
    stroke: int = 0
    booked_as: Literal["IN", "WA", "LF", "NO"] = "NO"


@dataclass(frozen=True)
class BeginLedger(Command):
    """Open the applicator's count of seeds for this procedure (first 8 hex digits of the plan's hash)."""

    procedure: str


@dataclass(frozen=True)
class DeclareCartridge(Command):
    """Tell the applicator which cartridge a person has seated, with how many seeds."""

    cartridge: int
    count: int
    returned: int


@dataclass(frozen=True)
class RetractNeedle(Command):
    """Draw the coupled needle back to ``z_um`` behind its verified place."""

    needle: str
    z_um: int


@dataclass(frozen=True)
class DropSeed(Command):
    """Push seed ``seed`` out of ``needle``, which stands at retraction ``z_um``.

    ``stroke``: the applicator's own count, 1.. without a gap; it runs ahead of ``seed`` once a seed was pushed again,
    and behind it once a needle was abandoned.
    """

    needle: str
    seed: int
    z_um: int
    token: str
    stroke: int


@dataclass(frozen=True)
class EndLedger(Command):
    """Close the count; refused by the applicator unless every seed is accounted for."""

    returned: int


# --- scanner ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequestScan(Command):
    """Ask for CT ``scan`` and for what it shows.

    Attributes:
        kind: ``reference`` and ``needles`` look for needles, ``seeds`` for seeds.
        motion: number of needle motions made before this scan: what it shows is as new as that.
        slice_mm: slices that a person asked for; None: the site's usual.
    """

    scan: int
    kind: Literal["reference", "needles", "seeds"]
    motion: int
    slice_mm: float | None = None

    def to_json(self) -> dict[str, Any]:
        words = super().to_json()
        if self.slice_mm is None:  # as journals before it have it
            del words["slice_mm"]
        return words


# --- dose -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluateNeedles(Command):
    """Compute the dose with the needles as they stand, and a better loading of them where goals are missed."""


RIG_COMMANDS = (ConnectRig, HomeRig, MoveAcross, MoveDepth, CloseGrip, OpenGrip)
APPLICATOR_COMMANDS = (
    ConnectApplicator,
    HomeApplicator,
    ClearLatch,
    BeginLedger,
    DeclareCartridge,
    RetractNeedle,
    DropSeed,
    EndLedger,
)
