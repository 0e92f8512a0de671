"""The template rig without its controller board: three open-loop axes, homing switches, needle jaw, hands.

Knows motors' ways and what truly happens; does not know Grbl. Machine coordinates are Grbl's (mm, 0 at the
switches, negative inwards); the rig's frame is the template's: x = X + 100, y = Y + 100, tip depth z = -20 - Z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.physics import (
    ImpossibleByHandError,
    ImpossibleMotionError,
    Template,
    follow_with_slack,
)

X, Y, Z = 0, 1, 2
HOME_Z_MM = -19.0  # rig depth of a fresh needle's tip when the carriage is at home: out of the template
_AT_HOME_MM = 0.5


@dataclass(frozen=True)
class RigParameters:
    """Figures of the mechanism; all assumed for a 3D-printed rig with lead screws."""

    travel_mm: float = 200.0
    steps_per_mm: float = 200.0
    slack_mm: float = 0.02
    homing_sigma_mm: float = 0.01
    pull_out_n: float = 60.0  # thrust on Z beyond which its motor loses steps
    start_mm: tuple[float, ...] = (-60.0, -80.0, -5.0)  # machine, when the power first comes on


OBLIQUE = RigParameters(start_mm=(-60.0, -80.0, -5.0, -70.0, -75.0))
"""Two plates, X Y and A B, and the carriage Z behind them."""


class RigMechanics:
    """What stands behind the rig's board.

    Args:
        random: draws where switches trip.
        template: where needles stand; None for a bench of its own.
        parameters: figures of the mechanism.
    """

    def __init__(
        self,
        random: np.random.Generator,
        template: Template | None = None,
        parameters: RigParameters | None = None,
    ) -> None:
        self.parameters = parameters or RigParameters()
        self.template = template or Template()
        self._random = random
        self._motor_mm = list(self.parameters.start_mm)
        self._load_mm = list(self.parameters.start_mm)
        count = len(self.parameters.start_mm)
        self._axes = range(count)
        self._is_stalled = [False] * count
        self._is_broken = [False] * count
        self._is_pushed = [False] * count
        self._pull_out_n = self.parameters.pull_out_n
        self._is_closed = False
        self._in_jaw: str | None = None
        self._held: str | None = None
        self._offset_mm = (0.0, 0.0, 0.0)

    # -- the board's side -----------------------------------------------------------------------------

    def turn(self, ways_mm: Sequence[float]) -> None:
        """The motors turn by these ways (machine X, Y, Z, ...); a stalled one, or one at its end, does not."""
        before_mm = list(self._motor_mm), list(self._load_mm)
        for axis, way_mm in enumerate(ways_mm):
            if way_mm and not self._is_stalled[axis] and not self._is_overloaded(axis, way_mm):
                end_mm = -self.parameters.travel_mm - 1.0
                motor_mm = min(max(self._motor_mm[axis] + way_mm, end_mm), 1.0)
                self._motor_mm[axis] = motor_mm
                slack_mm = self.parameters.slack_mm
                self._load_mm[axis] = follow_with_slack(self._load_mm[axis], motor_mm, slack_mm)
        if self.carriage_mm[Z] > HOME_Z_MM + _AT_HOME_MM and self._held is None:
            self._in_jaw = None  # never gripped: it fell out
        try:
            self._carry()
        except ImpossibleMotionError:  # tissue holds the needle, and the needle the carriage: steps are lost
            self._motor_mm, self._load_mm = before_mm

    def _is_overloaded(self, axis: int, way_mm: float) -> bool:
        """Advancing against more force than the motor has: it stays where it is, and Grbl counts on."""
        if axis != Z or way_mm >= 0.0 or self._held is None:
            return False
        return self.template.resistance_n(self._held) > self._pull_out_n

    def way_to_switch_mm(self, axis: int) -> float | None:
        """How far the motor can turn outwards until the switch trips; None if it never does."""
        if self._is_pushed[axis]:
            return 0.0
        if self._is_broken[axis] or self._is_stalled[axis]:
            return None
        return max(0.0, -self._motor_mm[axis])

    def approach_way_mm(self, axis: int) -> float | None:
        """As above, for one homing approach: a switch trips not quite at the same place each time."""
        way_mm = self.way_to_switch_mm(axis)
        if way_mm is None or self._is_pushed[axis]:
            return way_mm
        return max(0.0, way_mm + self._random.normal(0.0, self.parameters.homing_sigma_mm))

    def is_pressed(self, axis: int) -> bool:
        """The limit switch as the board reads it."""
        return self._is_pushed[axis] or (not self._is_broken[axis] and self._load_mm[axis] >= 0.0)

    @property
    def is_any_pressed(self) -> bool:
        """One of the limit switches is, as the board reads them."""
        if True in self._is_pushed:
            return True
        return max(self._load_mm) >= 0.0 and any(map(self.is_pressed, self._axes))

    @property
    def carries(self) -> bool:
        """A needle is gripped, so the path matters and not only its end."""
        return self._held is not None

    def grip(self, is_closed: bool) -> None:
        """The coolant output: the jaw closes on what lies in it or stands under it, or opens."""
        if is_closed == self._is_closed:
            return
        self._is_closed = is_closed
        place_mm = self.carriage_mm
        if not is_closed:
            if self._held is not None:
                self.template.release(self._held, is_out=place_mm[Z] <= HOME_Z_MM + _AT_HOME_MM)
            self._held = self._in_jaw = None
        elif self._in_jaw is not None:
            self._held, self._in_jaw, self._offset_mm = self._in_jaw, None, (0.0, 0.0, 0.0)
            self._carry()
        else:
            self._held = self.template.grip(*place_mm)
            if self._held is not None:
                there_mm = self.template.place_mm(self._held)
                x, y, z = (there - place for there, place in zip(there_mm, place_mm, strict=True))
                self._offset_mm = (x, y, z)

    # -- people's hands -------------------------------------------------------------------------------

    def hand_needle(self, needle: str) -> None:
        """A person puts a fresh needle into the open jaw, at carriage home.

        Raises:
            ImpossibleByHandError: the jaw is closed or taken, not at home, or the needle stands already.
        """
        if self._is_closed or self._in_jaw is not None:
            raise ImpossibleByHandError("the jaw is not open and empty")
        if abs(self.carriage_mm[Z] - HOME_Z_MM) > _AT_HOME_MM:
            raise ImpossibleByHandError("the carriage is not at home")
        if needle in self.template:
            raise ImpossibleByHandError(f"needle {needle} stands in the template")
        self._in_jaw = needle

    def take_needle(self, needle: str) -> None:
        """A person takes a needle out, wherever it is: of the open jaw, or of patient and template.

        Raises:
            ImpossibleByHandError: the closed jaw holds it.
        """
        if self._held == needle:
            raise ImpossibleByHandError(f"the jaw is closed on needle {needle}")
        if self._in_jaw == needle:
            self._in_jaw = None
        elif needle in self.template:
            self.template.take_out(needle, may_be_in_air=True)

    # -- faults ---------------------------------------------------------------------------------------

    def lose_steps(self, axis: int, way_mm: float) -> None:
        """The load slips by this much (machine mm); nobody is told."""
        before_mm = list(self._motor_mm), list(self._load_mm)
        self._motor_mm[axis] += way_mm
        self._load_mm[axis] += way_mm
        try:
            self._carry()
        except ImpossibleMotionError:
            self._motor_mm, self._load_mm = before_mm

    def weaken(self, pull_out_n: float) -> None:
        """The depth motor loses steps beyond this force (a driver's current set too low)."""
        self._pull_out_n = pull_out_n

    def stall(self, axis: int, is_stalled: bool = True) -> None:
        """The motor hums and doesn't turn; Grbl can't see it."""
        self._is_stalled[axis] = is_stalled

    def break_switch(self, axis: int, is_broken: bool = True) -> None:
        """The limit switch never closes."""
        self._is_broken[axis] = is_broken

    def push_switch(self, axis: int, is_pushed: bool = True) -> None:
        """Something presses the limit switch."""
        self._is_pushed[axis] = is_pushed

    # -- the truth, for tests and debriefing ------------------------------------------------------------

    @property
    def carriage_mm(self) -> tuple[float, float, float]:
        """Where the carriage truly stands: x, y and tip depth z, rig frame."""
        x, y, z = self._load_mm[:3]
        return x + 100.0, y + 100.0, -20.0 - z

    @property
    def axes_mm(self) -> tuple[float, ...]:
        """Where each axis's load truly stands, machine mm: X, Y, Z, and A, B on an oblique rig."""
        return tuple(self._load_mm)

    @property
    def held(self) -> str | None:
        return self._held

    @property
    def in_jaw(self) -> str | None:
        """The needle that lies in the open jaw."""
        return self._in_jaw

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def _carry(self) -> None:
        if self._held is not None:
            x, y, z = (c + o for c, o in zip(self.carriage_mm, self._offset_mm, strict=True))
            self.template.hold(self._held, x, y, z)
