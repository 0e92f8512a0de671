"""What all parts of the simulated Grbl share: its state word, positions it believes in, what it says.

Holds and says; decides nothing. The parts: ``grbl_drive`` (motors), ``grbl_lines`` (G-code), ``grbl_system`` (``$``),
``grbl_resets`` (resets and alarms), ``grbl_firmware`` (bytes, time, the main loop).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulator.grbl_kind import GrblKind
from simulator.grbl_parser import Axes, Modal, Offsets
from simulator.grbl_reports import status_report
from simulator.grbl_settings import GrblSettings
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import RigMechanics

_RECORD = "grbl parameters"


@dataclass
class Wait:
    """The main loop stands still until ``is_over``, then goes on with ``then``."""

    is_over: Callable[[], bool]
    then: Callable[[], None]
    until_ns: int | None = None


def never() -> bool:
    """A wait that only time ends."""
    return False


class Core:
    """One powered-up board's memory.

    Attributes:
        state: as a status report tells it, and "Hold " (with a blank): braking for ALARM:2.
        mpos_mm: where Grbl believes its motors to be; steps that were lost are not in it.
        planned_mm: where all planned motion will end.
        is_critical: after ALARM:1 or 2 nothing but 0x18 is looked at.
        is_stray_ok_due: ALARM:2 left a line unanswered; its ``ok`` comes with the reset.
        is_status_due: a ``?`` came when nothing could answer it.
    """

    def __init__(
        self,
        kind: GrblKind,
        mechanics: RigMechanics,
        store: NonVolatile,
        random: np.random.Generator,
        serial: str,
        start_ns: int,
    ) -> None:
        self.kind, self.mechanics, self.store, self.random, self.serial = (
            kind,
            mechanics,
            store,
            random,
            serial,
        )
        self.settings = GrblSettings(store, kind)
        zero: Axes = (0.0,) * len(kind.axes)
        saved = store.read(_RECORD, {"systems": [list(zero)] * 6, "g28": list(zero), "g30": list(zero)})
        systems = tuple(tuple(system) for system in saved["systems"])
        self.offsets = Offsets(systems, tuple(saved["g28"]), tuple(saved["g30"]), zero)
        self.modal = Modal()
        self.now_ns = start_ns
        self.state = "Alarm" if self.settings[22] else "Idle"
        self.mpos_mm = list(zero)
        self.planned_mm = self.probe_mm = zero
        self.wait: Wait | None = None
        self.is_critical = self.is_stray_ok_due = self.is_status_due = False
        self.out = bytearray()
        self._wco_countdown = self._ov_countdown = 0

    def on_step(self, place_mm: float, axis: int) -> float:
        """The nearest whole step."""
        steps_per_mm = self.settings[100 + axis]
        return round(place_mm * steps_per_mm) / steps_per_mm

    def set_offsets(self, offsets: Offsets) -> None:
        """Take over and keep; G92 is not kept without power."""
        self.offsets, self._wco_countdown = offsets, 0
        o = offsets
        saved = {"systems": [list(s) for s in o.systems], "g28": list(o.g28), "g30": list(o.g30)}
        self.store.write(_RECORD, saved)

    def say(self, *lines: str) -> None:
        for text in lines:
            self.out += text.encode("ascii") + b"\r\n"

    def ok(self) -> None:
        self.say("ok")

    def tell_overrides_next(self) -> None:
        """The next report carries the outputs."""
        self._ov_countdown = 0

    def tell_all_next(self) -> None:
        self._wco_countdown = self._ov_countdown = 0

    def report_status(self, at_mm: Axes, speed_mm_min: float, *, is_moving: bool) -> None:
        """The answer to ``?``; offsets and overrides only now and then."""
        state = self.state.strip()
        if state in ("Hold", "Door"):
            state += ":1" if is_moving and state == "Hold" else ":2" if is_moving else ":0"
        is_busy = state not in ("Idle", "Alarm", "Check", "Sleep")
        wco = None
        if self._wco_countdown > 0:
            self._wco_countdown -= 1
        else:
            self._wco_countdown = 29 if is_busy else 9
            self._ov_countdown = max(self._ov_countdown, 1)
            wco = self.offsets.work_mm(self.modal)
        has_overrides = wco is None and self._ov_countdown <= 0
        if self._ov_countdown > 0:
            self._ov_countdown -= 1
        elif has_overrides:
            self._ov_countdown = 19 if is_busy else 9
        pressed = [axis for axis in range(len(self.kind.axes)) if self.mechanics.is_pressed(axis)]
        grips = self.mechanics.is_closed
        self.say(status_report(state, at_mm, speed_mm_min, pressed, wco, has_overrides, grips))
