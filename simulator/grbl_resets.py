"""How the simulated Grbl resets and raises alarms, with what was measured on the real one.

After ALARM:1 and 2 only 0x18 is looked at, and one sent before the alarm's message is thrown away; ALARM:2's
rejected line is answered ``ok`` when the reset comes; a reset in Run comes back without ALARM:3 now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from simulator.grbl_core import Core, Wait, never
from simulator.grbl_drive import Drive
from simulator.grbl_motion import Motion
from simulator.grbl_parser import Modal, Offsets
from simulator.grbl_reports import banner

ALARM_DELAY_NS = 500_000_000  # Grbl waits after an alarm for its message to leave
_ABORTED, _HOMING_RESET = 3, 6


class Resets:
    """Resets, alarms, and what is left afterwards.

    Args:
        reset_race: how often a 0x18 in Run comes back Idle without ALARM:3.
        forget_lines: empties the receive buffer.
        run_startup: carries out the start-up lines.

    Attributes:
        homing: the homing cycle under way, or None.
    """

    def __init__(
        self,
        core: Core,
        drive: Drive,
        reset_race: float,
        forget_lines: Callable[[], None],
        run_startup: Callable[[], None],
    ) -> None:
        self._core, self._drive, self._race = core, drive, reset_race
        self._forget_lines, self._run_startup = forget_lines, run_startup
        self.homing: Iterator[Motion] | None = None

    def is_deaf(self) -> bool:
        """In a homing cycle, in an alarm's delay and in the critical loop nothing but 0x18 is looked at."""
        core = self._core
        is_delayed = core.wait is not None and core.wait.until_ns is not None and core.state == "Alarm"
        return self.homing is not None or core.is_critical or is_delayed

    def reset(self) -> None:
        """0x18. The jaw opens, for a reset switches the coolant off."""
        core = self._core
        if core.is_critical and core.wait is not None:
            return  # between the alarm and its message: Grbl throws this reset away
        if core.wait is not None and self.is_deaf() and self.homing is None:
            core.wait = Wait(never, self.restart, core.wait.until_ns)
            return  # done when the alarm's delay is over
        alarm = None
        if self.homing is not None:
            alarm = _HOMING_RESET
        elif self._drive.motion is not None:
            is_lost = core.state == "Run" and core.random.random() < self._race
            alarm = None if is_lost else _ABORTED
        self.halt_all()
        if core.is_stray_ok_due:
            core.ok()
        if alarm is None:
            self.restart()
        else:
            self.alarm_then_restart(alarm)

    def halt_all(self) -> None:
        self._drive.kill()
        self._core.mechanics.grip(False)
        self.homing = None
        self._core.wait = None
        self._drive.blocks.clear()

    def restart(self) -> None:
        """What follows every reset: greeting, parser and planner anew. The belief of position stays."""
        core = self._core
        self._forget_lines()
        self._drive.blocks.clear()
        core.wait = None
        core.is_critical = core.is_stray_ok_due = False
        core.modal = Modal()
        zero = (0.0,) * len(core.kind.axes)
        core.offsets = Offsets(core.offsets.systems, core.offsets.g28, core.offsets.g30, zero)
        core.planned_mm = tuple(core.mpos_mm)
        core.tell_all_next()
        core.out += banner(core.kind)
        if core.state in ("Alarm", "Sleep"):
            core.state = "Alarm"
            core.say("[MSG:'$H'|'$X' to unlock]")
        else:
            core.state = "Idle"
            self._run_startup()
        if core.is_status_due:
            core.is_status_due = False
            self._drive.report(is_homing=False)

    def alarm_then_restart(self, alarm: int) -> None:
        core = self._core
        core.state = "Alarm"
        core.say(f"ALARM:{alarm}")
        core.wait = Wait(never, self.restart, core.now_ns + ALARM_DELAY_NS)

    def alarm_critical(self, alarm: int) -> None:
        """ALARM:1 and 2: from now on only 0x18 is answered, and not before the message is out."""
        core = self._core
        self.halt_all()
        core.state, core.is_critical = "Alarm", True
        core.say(f"ALARM:{alarm}")
        core.wait = Wait(never, lambda: core.say("[MSG:Reset to continue]"), core.now_ns + ALARM_DELAY_NS)
