"""What the rig's scripts are made of: a turn on a wire, the board they share, and how a script ends badly.

Knows: state and progress. Does not know: any command, how bytes travel.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Literal

from drivers.accuseed import AccuSeedDriver, EncoderEvent
from drivers.grbl import Axes, Line, Status
from drivers.kinematics import RigConfig
from drivers.rig_geometry import is_at_home, place_of
from drivers.rig_language import RigEvent, RigState


@dataclass(frozen=True)
class Turn:
    """Send ``send``, then listen until ``is_over(heard)`` or ``longest_ms`` have passed.

    ``again_ms``: send the same real-time byte again at this interval. ``expects_restart``: a banner or an alarm
    is part of the answer. ``encoder``: what the depth encoder is asked; its last word ends the turn, too.
    """

    send: bytes
    is_over: Callable[[list[Line]], bool]
    longest_ms: float
    again_ms: int | None = None
    expects_restart: bool = False
    encoder: Literal["", "connect", "read"] = ""


@dataclass
class Board:
    """What the scripts share with the driver: the state, and the progress to tell."""

    config: RigConfig
    state: RigState = field(default_factory=RigState)
    axes_mm: Axes = ()
    needs_reset: bool = False
    """After ALARM:1/2 the board answers nothing but 0x18."""
    progress: list[RigEvent] = field(default_factory=list)
    encoder: AccuSeedDriver | None = None
    """On the needle carriage; None: none is fitted."""
    encoder_said: EncoderEvent | None = None
    """How its last question ended."""
    learnt: tuple[Status, RigState] | None = None
    """The last status report, and the state that came of it."""

    def learn(self, status: Status) -> None:
        """Take over a status report; one that tells nothing new changes nothing."""
        if self.learnt is not None and status == self.learnt[0] and self.state is self.learnt[1]:
            return
        self.axes_mm = status.axes_mm
        place = place_of(self.config, status.axes_mm)
        known = self.state.position_known and status.word != "Alarm"
        self.state = replace(
            self.state,
            status=status.word,
            position_known=known,
            x_mm=round(place.x_mm, 3),
            y_mm=round(place.y_mm, 3),
            z_mm=round(place.z_mm, 3),
            direction=place.direction,
            at_home=known and is_at_home(self.config, status.axes_mm),
        )
        self.learnt = status, self.state

    def forget_position(self) -> None:
        """After a reset, an alarm, a doubt: unknown until homed, whatever Grbl says."""
        self.state = replace(self.state, position_known=False, at_home=False)


Script = Generator[Turn, list[Line], RigEvent]


class NotDone(Exception):
    """Refused by the board before anything moved."""


class BrokenOff(Exception):
    """Begun and not ended as it should. ``stop``: the rig may be in motion or in a wrong place."""

    def __init__(self, sentence: str, *, stop: bool = False) -> None:
        super().__init__(sentence)
        self.stop = stop


class Silent(Exception):
    """The board doesn't answer any more."""
