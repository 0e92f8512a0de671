"""Grbl on the template rig, as a host at its serial line meets it, quirks included: bytes, time, the main loop.

Stock Grbl 1.1h, or a five-axis grblHAL (``grbl_kind``). Motion is computed from the time, never stepped; what truly
moves is the mechanics'. Quirks and what is left out: simulator/DEVICES.md. The parts: see ``grbl_core``.
"""

from __future__ import annotations

import numpy as np

from simulator import grbl_motion
from simulator.grbl_core import Core
from simulator.grbl_drive import Drive
from simulator.grbl_kind import STOCK, GrblKind
from simulator.grbl_lines import LINE_CHARACTERS, Lines
from simulator.grbl_motion import HomingFailedError
from simulator.grbl_resets import Resets
from simulator.grbl_settings import GrblSettings
from simulator.grbl_system import System
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import RigMechanics

RECEIVE_BYTES = 128
_HARD_LIMIT = 1


class GrblFirmware:
    """One powered-up Grbl; a power cut is a new object on the same store.

    Args:
        mechanics: motors, switches, jaw.
        store: keeps settings, offsets, start-up lines.
        random: where a killed motor comes to rest, and the rare race of a reset.
        serial: told by `$I` as SIM-RIG-<serial>.
        start_ns: when the power came on.
        reset_race: how often a 0x18 in Run comes back Idle without ALARM:3 (measured: 1 in 80).
        kind: stock Grbl, or grblHAL with five axes.
    """

    def __init__(
        self,
        mechanics: RigMechanics,
        store: NonVolatile,
        random: np.random.Generator,
        *,
        serial: str = "1007",
        start_ns: int = 0,
        reset_race: float = 1 / 80,
        kind: GrblKind = STOCK,
    ) -> None:
        self._mechanics = mechanics
        self._core = Core(kind, mechanics, store, random, serial, start_ns)
        self._drive = Drive(self._core)
        self._rx = bytearray()
        self._resets = Resets(self._core, self._drive, reset_race, self._rx.clear, self._run_startup)
        self._system = System(self._core, self._home, self._resets.restart)
        self._lines = Lines(self._core, self._drive, self._resets, self._system)
        self._is_dead = False
        mechanics.grip(False)
        self._resets.restart()

    @property
    def state(self) -> str:
        """As a status report would tell it."""
        return self._core.state

    @property
    def settings(self) -> GrblSettings:
        return self._core.settings

    # -- the four verbs -------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host. Nothing that arrives raises."""
        if self._is_dead:
            return
        self.wake(now_ns)
        for byte in data:
            if byte == 0x18:
                self._resets.reset()
            elif byte in b"?!~" or byte >= 0x80:
                self._realtime(byte)
            elif len(self._rx) < RECEIVE_BYTES:
                self._rx.append(byte)
                if byte in b"\r\n" or len(self._rx) > LINE_CHARACTERS + 1:
                    self._main_loop()
            # else lost, and nobody is told

    def take(self) -> bytes:
        """Bytes for the host since the last call."""
        data = bytes(self._core.out)
        self._core.out.clear()
        return data

    def next_wake(self) -> int | None:
        if self._is_dead:
            return None
        due = self._drive.next_wake()
        wait = self._core.wait
        if wait is not None and wait.until_ns is not None:
            due.append(wait.until_ns)
        if self._is_limit_hit():
            due.append(self._core.now_ns)
        return min(due, default=None)

    def wake(self, now_ns: int) -> None:
        """Do all that is due until ``now_ns``, each at its own time."""
        while not self._is_dead and (due_ns := self.next_wake()) is not None and due_ns <= now_ns:
            self._step(max(due_ns, self._core.now_ns))
        if not self._is_dead and self._core.now_ns < now_ns:
            self._step(now_ns)

    def power_cut(self, now_ns: int | None = None) -> None:
        """The power goes: motors and jaw let go, this object is dead."""
        if now_ns is not None and not self._is_dead:
            self.wake(now_ns)
        self._drive.kill()
        self._mechanics.grip(False)
        self._is_dead = True
        self._core.out.clear()

    # -- time -----------------------------------------------------------------------------------------

    def _step(self, now_ns: int) -> None:
        self._core.now_ns = now_ns
        drive = self._drive
        if drive.motion is not None:
            drive.turn()
            if drive.hits_switch_ns is not None and now_ns >= drive.hits_switch_ns:
                self._resets.alarm_critical(_HARD_LIMIT)
            elif now_ns >= drive.motion.end_ns:
                drive.finish(is_homing=self._is_homing)
                if self._is_homing:
                    self._home_further()
        if self._is_limit_hit():
            self._resets.alarm_critical(_HARD_LIMIT)
        self._main_loop()

    def _is_limit_hit(self) -> bool:
        if self._core.state == "Alarm" or self._is_homing or not self._core.settings[21]:
            return False
        return self._mechanics.is_any_pressed

    # -- real-time bytes --------------------------------------------------------------------------------

    def _realtime(self, byte: int) -> None:
        core, is_deaf = self._core, self._resets.is_deaf()
        if byte == ord("?"):
            if is_deaf and not (self._is_homing and core.kind.reports_in_homing):
                core.is_status_due = not core.is_critical
            else:
                self._drive.report(is_homing=self._is_homing)
        elif is_deaf:
            return
        elif byte in (ord("!"), 0x84):
            kind = "Hold" if byte == ord("!") else "Door"
            if core.state == "Run" and self._drive.motion is not None:
                self._drive.brake()
                core.state = kind
            elif core.state == "Idle":
                core.state = kind
        elif byte == ord("~") and core.state in ("Hold", "Door") and self._drive.motion is None:
            core.state = "Idle"
            self._drive.start_next_block()
            self._main_loop()

    # -- the main loop ------------------------------------------------------------------------------------

    def _main_loop(self) -> None:
        """Finish what is waited for, then read lines until something must be waited for."""
        core, rx = self._core, self._rx
        while not self._is_dead:
            if core.wait is not None:
                is_time = core.wait.until_ns is not None and core.now_ns >= core.wait.until_ns
                if not is_time and (core.state in ("Hold", "Door") or not core.wait.is_over()):
                    return
                wait, core.wait = core.wait, None
                wait.then()
                continue
            if core.state in ("Hold", "Door") or core.is_critical or self._is_homing:
                return
            end = next((i for i, byte in enumerate(rx) if byte in b"\r\n"), None)
            if end is None:
                # A line without an end must not fill the buffer: Grbl reads it on, and answers error:11 at its end.
                del rx[LINE_CHARACTERS + 1 :]
                return
            raw = bytes(rx[:end])
            del rx[: end + 1]
            self._lines.execute(raw.decode("ascii", "replace"))

    def _run_startup(self) -> None:
        for text in self._system.startup:
            if text:
                self._core.out += f">{text}:".encode()
                self._lines.execute(text)

    # -- homing -------------------------------------------------------------------------------------------

    @property
    def _is_homing(self) -> bool:
        return self._resets.homing is not None

    def _home(self) -> None:
        core = self._core
        core.state = "Home"
        self._resets.homing = grbl_motion.homing(
            core.mpos_mm, self._mechanics, core.settings, core.kind, lambda: core.now_ns
        )
        self._home_further()

    def _home_further(self) -> None:
        core, homing = self._core, self._resets.homing
        assert homing is not None
        try:
            self._drive.start(next(homing), heeds_switches=False)
        except StopIteration:
            self._resets.homing = None
            core.planned_mm = tuple(core.mpos_mm)
            if core.is_status_due:
                core.is_status_due = False
                self._drive.report(is_homing=False)
            core.state = "Idle"
            self._run_startup()
            core.ok()
        except HomingFailedError as failed:
            self._resets.halt_all()
            self._resets.alarm_then_restart(failed.alarm)
