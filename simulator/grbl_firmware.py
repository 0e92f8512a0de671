"""Stock Grbl 1.1h on the template rig, as a host at its serial line meets it, quirks included.

Knows Grbl's protocol: real-time bytes, lines, planner, states, alarms. Motion is computed from the time
(grbl_motion), what truly moves is the mechanics'. Quirks and what is left out: simulator/DEVICES.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulator import grbl_motion
from simulator.grbl_motion import HomingFailedError, Motion
from simulator.grbl_parser import GcodeError, Instruction, Modal, Offsets, Triple, parse, tidy
from simulator.grbl_reports import banner, modes_report, offsets_report, status_report
from simulator.grbl_settings import GrblSettings
from simulator.nonvolatile import NonVolatile
from simulator.physics import NS_PER_S
from simulator.rig_mechanics import RigMechanics

PLANNER_BLOCKS = 15
RECEIVE_BYTES = 128
LINE_CHARACTERS = 79
ALARM_DELAY_NS = 500_000_000  # Grbl waits after an alarm for its message to leave
COASTING_S = 0.002  # a stepper killed at speed runs on or falls back by up to this long (assumed)
_HARD_LIMIT, _SOFT_LIMIT, _ABORTED, _PROBE_FAILED, _HOMING_RESET = 1, 2, 3, 5, 6
_RECORD = "grbl parameters"
_HOLD_FOR_LIMIT = "Hold "  # reads as a hold, but `~` doesn't resume it: ALARM:2 follows


@dataclass(frozen=True)
class _Block:
    target_mm: Triple
    feed_mm_min: float


@dataclass
class _Wait:
    """The main loop stands still until ``is_over``, then goes on with ``then``."""

    is_over: Callable[[], bool]
    then: Callable[[], None]
    until_ns: int | None = None


class GrblFirmware:
    """One powered-up Grbl; a power cut is a new object on the same store.

    Args:
        mechanics: motors, switches, jaw.
        store: keeps settings, offsets, start-up lines.
        random: where a killed motor comes to rest, and the rare race of a reset.
        serial: told by `$I` as SIM-RIG-<serial>.
        start_ns: when the power came on.
        reset_race: how often a 0x18 in Run comes back Idle without ALARM:3 (measured: 1 in 80).
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
    ) -> None:
        self._mechanics, self._store, self._random, self._serial = mechanics, store, random, serial
        self._reset_race = reset_race
        self.settings = GrblSettings(store)
        saved = store.read(_RECORD, {"systems": [[0.0] * 3] * 6, "g28": [0.0] * 3, "g30": [0.0] * 3})
        self._offsets = Offsets(
            tuple(_triple(s) for s in saved["systems"]), _triple(saved["g28"]), _triple(saved["g30"])
        )
        self._startup: list[str] = store.read("grbl start-up", ["", ""])
        self._now_ns = start_ns
        self._clock: Final = [start_ns]  # shared with the homing iterator
        self._is_dead = False
        self._out = bytearray()
        self._rx = bytearray()
        self._mpos_mm = [0.0, 0.0, 0.0]
        self._planned_mm: Triple = (0.0, 0.0, 0.0)
        self._probe_mm: Triple = (0.0, 0.0, 0.0)
        self._modal = Modal()
        self._state = "Alarm" if self.settings[22] else "Idle"
        self._blocks: deque[_Block] = deque()
        self._motion: Motion | None = None
        self._turned_mm: Triple = (0.0, 0.0, 0.0)
        self._hits_switch_ns: int | None = None
        self._homing: Iterator[Motion] | None = None
        self._wait: _Wait | None = None
        self._is_critical = self._is_stray_ok_due = False
        self._is_status_due = False
        self._wco_countdown = self._ov_countdown = 0
        mechanics.grip(False)
        self._restart()

    @property
    def state(self) -> str:
        """As a status report would tell it."""
        return self._state

    # -- the four verbs -------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host. Nothing that arrives raises."""
        if self._is_dead:
            return
        self.wake(now_ns)
        for byte in data:
            if byte == 0x18:
                self._reset()
            elif byte in b"?!~" or byte >= 0x80:
                self._realtime(byte)
            elif len(self._rx) < RECEIVE_BYTES:
                self._rx.append(byte)
                if byte in b"\r\n" or len(self._rx) > LINE_CHARACTERS + 1:
                    self._main_loop()
            # else lost, and nobody is told

    def take(self) -> bytes:
        """Bytes for the host since the last call."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        if self._is_dead:
            return None
        due = []
        if self._motion is not None:
            carries = self._mechanics.carries
            due.append(self._motion.next_step_ns(self._now_ns) if carries else self._motion.end_ns)
            due += [] if self._hits_switch_ns is None else [self._hits_switch_ns]
        if self._wait is not None and self._wait.until_ns is not None:
            due.append(self._wait.until_ns)
        if self._is_limit_hit():
            due.append(self._now_ns)
        return min(due, default=None)

    def wake(self, now_ns: int) -> None:
        """Do all that is due until ``now_ns``, each at its own time."""
        while not self._is_dead and (due_ns := self.next_wake()) is not None and due_ns <= now_ns:
            self._step(max(due_ns, self._now_ns))
        if not self._is_dead:
            self._step(max(now_ns, self._now_ns))

    def power_cut(self, now_ns: int | None = None) -> None:
        """The power goes: motors and jaw let go, this object is dead."""
        if now_ns is not None and not self._is_dead:
            self.wake(now_ns)
        self._kill_steppers()
        self._mechanics.grip(False)
        self._is_dead = True
        self._out.clear()

    # -- time -----------------------------------------------------------------------------------------

    def _step(self, now_ns: int) -> None:
        self._now_ns = self._clock[0] = now_ns
        if self._motion is not None:
            self._turn_motors()
            if self._hits_switch_ns is not None and now_ns >= self._hits_switch_ns:
                self._alarm_critical(_HARD_LIMIT)
            elif now_ns >= self._motion.end_ns:
                self._finish_motion()
        if self._is_limit_hit():
            self._alarm_critical(_HARD_LIMIT)
        self._main_loop()

    def _turn_motors(self) -> None:
        assert self._motion is not None
        at_mm = self._motion.at_mm(self._now_ns)
        scale = [s / self._mechanics.parameters.steps_per_mm for s in self.settings.axis(100)]
        ways = [(a - t) * k for a, t, k in zip(at_mm, self._turned_mm, scale, strict=True)]
        self._turned_mm = at_mm
        self._mechanics.turn(ways)

    def _start(self, motion: Motion) -> None:
        self._motion, self._turned_mm = motion, motion.start_mm
        self._hits_switch_ns = None
        if self._homing is None and self.settings[21]:
            for axis, share in enumerate(motion.shares):
                way_mm = self._mechanics.way_to_switch_mm(axis) if share > 0 else None
                when_ns = None if way_mm is None else motion.profiles[axis].when_ns(way_mm / share)
                if when_ns is not None:
                    self._hits_switch_ns = min(when_ns, self._hits_switch_ns or when_ns)

    def _finish_motion(self) -> None:
        assert self._motion is not None
        motion, self._motion = self._motion, None
        if self._homing is not None:
            self._home_further()
            return
        self._mpos_mm = [self._on_step(a, axis) for axis, a in enumerate(motion.at_mm(self._now_ns))]
        if self._blocks and math.dist(self._mpos_mm, self._blocks[0].target_mm) < 0.0025:
            self._mpos_mm = list(self._blocks.popleft().target_mm)
        if self._state in ("Hold", "Door"):
            return
        self._start_next_block()

    def _start_next_block(self) -> None:
        if self._state not in ("Idle", "Run"):
            return
        if not self._blocks:
            self._state = "Idle"
            return
        block, self._state = self._blocks[0], "Run"
        self._start(
            grbl_motion.straight(
                self._mpos_mm, block.target_mm, block.feed_mm_min, self.settings, self._now_ns
            )
        )

    def _on_step(self, place_mm: float, axis: int) -> float:
        steps_per_mm = self.settings[100 + axis]
        return round(place_mm * steps_per_mm) / steps_per_mm

    def _kill_steppers(self) -> None:
        """Dead stop: what Grbl believes and where the load stands are not the same afterwards."""
        if self._motion is None:
            return
        self._turn_motors()
        for axis, share in enumerate(self._motion.shares):
            speed = share * self._motion.profiles[axis].speed_mm_s(self._now_ns)
            if speed:
                slip_mm = speed * COASTING_S * self._random.uniform(-0.5, 1.0)
                self._mechanics.lose_steps(axis, slip_mm)
        self._mpos_mm = [self._on_step(a, axis) for axis, a in enumerate(self._motion.at_mm(self._now_ns))]
        self._motion, self._hits_switch_ns = None, None

    # -- real-time bytes --------------------------------------------------------------------------------

    def _realtime(self, byte: int) -> None:
        if byte == ord("?"):
            if self._is_deaf():
                self._is_status_due = not self._is_critical
            else:
                self._report_status()
        elif self._is_deaf():
            return
        elif byte in (ord("!"), 0x84):
            self._hold("Hold" if byte == ord("!") else "Door")
        elif byte == ord("~"):
            self._resume()

    def _is_deaf(self) -> bool:
        """In a homing cycle, in an alarm's delay and in the critical loop nothing but 0x18 is looked at."""
        is_delayed = self._wait is not None and self._wait.until_ns is not None and self._state == "Alarm"
        return self._homing is not None or self._is_critical or is_delayed

    def _hold(self, kind: str) -> None:
        if self._state == "Run" and self._motion is not None:
            self._start(grbl_motion.brake(self._motion, self.settings, self._now_ns))
            self._state = kind
        elif self._state == "Idle":
            self._state = kind

    def _resume(self) -> None:
        if self._state in ("Hold", "Door") and self._motion is None:
            self._state = "Idle"
            self._start_next_block()
            self._main_loop()

    def _reset(self) -> None:
        """0x18. The jaw opens, for a reset switches the coolant off."""
        if self._is_critical and self._wait is not None:
            return  # between the alarm and its message: Grbl throws this reset away
        if self._wait is not None and self._is_deaf() and self._homing is None:
            self._wait = _Wait(lambda: False, self._restart, self._wait.until_ns)
            return  # done when the alarm's delay is over
        alarm = None
        if self._homing is not None:
            alarm = _HOMING_RESET
        elif self._motion is not None:
            is_lost = self._state == "Run" and self._random.random() < self._reset_race
            alarm = None if is_lost else _ABORTED
        self._halt_all()
        if self._is_stray_ok_due:
            self._say("ok")
        if alarm is None:
            self._restart()
        else:
            self._alarm_then_restart(alarm)

    def _halt_all(self) -> None:
        self._kill_steppers()
        self._mechanics.grip(False)
        self._homing = None
        self._wait = None
        self._blocks.clear()

    def _restart(self) -> None:
        """What follows every reset: greeting, parser and planner anew. The belief of position stays."""
        self._rx.clear()
        self._blocks.clear()
        self._wait = None
        self._is_critical = self._is_stray_ok_due = False
        self._modal = Modal()
        self._offsets = Offsets(self._offsets.systems, self._offsets.g28, self._offsets.g30)
        self._planned_mm = _triple(self._mpos_mm)
        self._wco_countdown = self._ov_countdown = 0
        self._out += banner()
        if self._state in ("Alarm", "Sleep"):
            self._state = "Alarm"
            self._say("[MSG:'$H'|'$X' to unlock]")
        else:
            self._state = "Idle"
            self._run_startup()
        if self._is_status_due:
            self._is_status_due = False
            self._report_status()

    # -- alarms -----------------------------------------------------------------------------------------

    def _is_limit_hit(self) -> bool:
        if self._state == "Alarm" or self._homing is not None or not self.settings[21]:
            return False
        return any(self._mechanics.is_pressed(axis) for axis in range(3))

    def _alarm_then_restart(self, alarm: int) -> None:
        self._state = "Alarm"
        self._say(f"ALARM:{alarm}")
        self._wait = _Wait(lambda: False, self._restart, self._now_ns + ALARM_DELAY_NS)

    def _alarm_critical(self, alarm: int) -> None:
        """ALARM:1 and 2: from now on only 0x18 is answered, and not before the message is out."""
        self._halt_all()
        self._state, self._is_critical = "Alarm", True
        self._say(f"ALARM:{alarm}")

        def tell() -> None:
            self._say("[MSG:Reset to continue]")

        self._wait = _Wait(lambda: False, tell, self._now_ns + ALARM_DELAY_NS)

    # -- the main loop ------------------------------------------------------------------------------------

    def _main_loop(self) -> None:
        """Finish what is waited for, then read lines until something must be waited for."""
        while not self._is_dead:
            if self._wait is not None:
                is_time = self._wait.until_ns is not None and self._now_ns >= self._wait.until_ns
                if not is_time and (self._state in ("Hold", "Door") or not self._wait.is_over()):
                    return
                wait, self._wait = self._wait, None
                wait.then()
                continue
            if self._state in ("Hold", "Door") or self._is_critical or self._homing is not None:
                return
            end = next((i for i, byte in enumerate(self._rx) if byte in b"\r\n"), None)
            if end is None:
                self._drop_long_line()
                return
            raw = bytes(self._rx[:end])
            del self._rx[: end + 1]
            self._execute(raw.decode("ascii", "replace"))

    def _drop_long_line(self) -> None:
        """A line without an end must not fill the buffer: Grbl reads it on, and answers error:11 at its end."""
        if len(self._rx) > LINE_CHARACTERS + 1:
            del self._rx[LINE_CHARACTERS + 1 :]

    def _execute(self, raw: str) -> None:
        if len(raw) > LINE_CHARACTERS:
            self._say("error:11")
            return
        text = tidy(raw)
        try:
            if text.startswith("$"):
                self._system(text)
            elif text:
                if self._state in ("Alarm", "Sleep"):
                    raise GcodeError(9)
                self._do(parse(text, self._modal, self._offsets, self._planned_mm))
            else:
                self._ok()
        except GcodeError as error:
            self._say(f"error:{error.number}")

    def _do(self, it: Instruction) -> None:
        """G-code, in Grbl's order: coolant, dwell, offsets, motion, stop. `ok` when parsed and planned."""
        self._modal = it.modal
        if self._state == "Check":
            self._ok()
            return
        if it.coolant is not None or it.dwell_s is not None:

            def after_motion() -> None:
                if it.coolant is not None:
                    self._mechanics.grip(it.coolant == 8)
                    self._ov_countdown = 0
                if it.dwell_s:
                    until_ns = self._now_ns + int(it.dwell_s * NS_PER_S)
                    self._wait = _Wait(lambda: False, lambda: self._go(it), until_ns)
                else:
                    self._go(it)

            self._wait = _Wait(self._is_at_rest, after_motion)
        else:
            self._go(it)

    def _is_at_rest(self) -> bool:
        return not self._blocks and self._motion is None

    def _go(self, it: Instruction) -> None:
        if it.offsets != self._offsets:
            self._offsets = it.offsets
            self._wco_countdown = 0
            o = it.offsets
            saved = {"systems": [list(s) for s in o.systems], "g28": list(o.g28), "g30": list(o.g30)}
            self._store.write(_RECORD, saved)
        targets = list(it.targets_mm)

        def plan() -> None:
            while targets:
                target = targets[0]
                if self.settings[20] and self._is_outside(target):
                    self._wait = _Wait(self._is_soft_limit_stopped, self._soft_limit)
                    return
                if len(self._blocks) >= PLANNER_BLOCKS:
                    self._wait = _Wait(lambda: len(self._blocks) < PLANNER_BLOCKS, plan)
                    return
                self._plan(targets.pop(0), it.feed_mm_min)
            self._end_line(it)

        plan()

    def _plan(self, target_mm: Triple, feed_mm_min: float | None) -> None:
        x, y, z = (self._on_step(t, axis) for axis, t in enumerate(target_mm))
        is_way = (x, y, z) != self._planned_mm
        self._planned_mm = (x, y, z)
        if is_way:
            self._blocks.append(_Block((x, y, z), grbl_motion.RAPID if feed_mm_min is None else feed_mm_min))
            if self._motion is None:
                self._start_next_block()

    def _end_line(self, it: Instruction) -> None:
        if it.probes is not None:
            self._wait = _Wait(self._is_at_rest, lambda: self._end_probe(it.probes == 38.2))
        elif it.stop is not None:
            self._wait = _Wait(self._is_at_rest, lambda: self._stop_program(it.stop))
        else:
            self._ok()

    def _end_probe(self, must_touch: bool) -> None:
        """There is no probe on the rig: G38.2 fails, says so, and answers ok."""
        if must_touch:
            self._state = "Alarm"
            self._say(f"ALARM:{_PROBE_FAILED}")

        def tell() -> None:
            self._probe_mm = _triple(self._mpos_mm)
            x, y, z = self._probe_mm
            self._say(f"[PRB:{x:.3f},{y:.3f},{z:.3f}:0]")
            self._ok()

        self._wait = _Wait(lambda: False, tell, self._now_ns + (ALARM_DELAY_NS if must_touch else 0))

    def _stop_program(self, code: int | None) -> None:
        if code in (0, 1):
            self._state = "Hold"
            self._wait = _Wait(lambda: True, self._ok)
        else:
            self._mechanics.grip(False)
            self._modal = Modal(units=self._modal.units, feed_mm_min=self._modal.feed_mm_min, motion=1.0)
            self._say("[MSG:Pgm End]")
            self._ok()

    def _is_outside(self, target_mm: Triple) -> bool:
        return any(
            t > 0.0 or t < -travel for t, travel in zip(target_mm, self.settings.axis(130), strict=True)
        )

    def _is_soft_limit_stopped(self) -> bool:
        if self._motion is not None and self._state == "Run":
            self._start(grbl_motion.brake(self._motion, self.settings, self._now_ns))
            self._state = _HOLD_FOR_LIMIT
        return self._motion is None

    def _soft_limit(self) -> None:
        self._alarm_critical(_SOFT_LIMIT)
        self._is_stray_ok_due = True  # for the rejected line, when the reset comes

    # -- `$` commands -------------------------------------------------------------------------------------

    def _system(self, text: str) -> None:
        is_quiet = self._state in ("Idle", "Alarm")
        name = text[1:]
        if name in ("", "$", "G", "X", "C"):
            if name == "$" and not (is_quiet or self._state == "Check"):
                raise GcodeError(8)
            if name == "C" and self._state == "Run":
                raise GcodeError(8)
        elif not is_quiet:
            raise GcodeError(8)
        if name == "":
            self._say("[HLP:$$ $# $G $I $N $x=val $Nx=line $J=line $SLP $C $X $H ~ ! ? ctrl-x]")
        elif name == "$":
            self._say(*self.settings.lines())
        elif name == "G":
            self._say(modes_report(self._modal))
        elif name == "X":
            if self._state == "Alarm":
                self._state = "Idle"
                self._say("[MSG:Caution: Unlocked]")
        elif name == "C":
            self._check_mode()
            return
        elif name == "#":
            self._say(*offsets_report(self._offsets, self._probe_mm))
        elif name == "I":
            self._say(f"[VER:1.1h.20190830:SIM-RIG-{self._serial}]", "[OPT:V,15,128]")
        elif name == "N":
            self._say(*(f"$N{i}={text}" for i, text in enumerate(self._startup)))
        elif name == "H":
            self._home()
            return
        elif name == "SLP":
            self._state = "Sleep"
            self._mechanics.grip(False)
            self._say("[MSG:Sleeping]")
        elif name == "RST=$":
            self.settings.restore()
            self._say("[MSG:Restoring defaults]")
        else:
            self._write_setting(name)
        self._ok()

    def _write_setting(self, name: str) -> None:
        key, is_equal, value = name.partition("=")
        if key in ("N0", "N1") and is_equal:
            if self._state != "Idle":
                raise GcodeError(8)
            parse(value, self._modal, self._offsets, self._planned_mm)
            self._startup[int(key[1])] = value
            self._store.write("grbl start-up", self._startup)
            return
        if not is_equal or not key.isdecimal():
            raise GcodeError(3)
        try:
            number = float(value)
        except ValueError:
            raise GcodeError(2) from None
        if not math.isfinite(number):
            raise GcodeError(2)
        self.settings.set(int(key), number)

    def _check_mode(self) -> None:
        if self._state == "Check":
            self._say("[MSG:Disabled]")
            self._ok()
            self._restart()
        elif self._state != "Idle":
            raise GcodeError(8)
        else:
            self._state = "Check"
            self._say("[MSG:Enabled]")
            self._ok()

    def _run_startup(self) -> None:
        for text in self._startup:
            if text:
                self._out += f">{text}:".encode()
                self._execute(text)

    # -- homing -------------------------------------------------------------------------------------------

    def _home(self) -> None:
        if not self.settings[22]:
            raise GcodeError(5)
        self._state = "Home"
        self._homing = grbl_motion.homing(self._mpos_mm, self._mechanics, self.settings, self._clock)
        self._home_further()

    def _home_further(self) -> None:
        assert self._homing is not None
        try:
            self._start(next(self._homing))
        except StopIteration:
            self._homing = None
            self._planned_mm = _triple(self._mpos_mm)
            if self._is_status_due:
                self._is_status_due = False
                self._report_status()
            self._state = "Idle"
            self._run_startup()
            self._ok()
        except HomingFailedError as failed:
            self._halt_all()
            self._alarm_then_restart(failed.alarm)

    # -- what is said -------------------------------------------------------------------------------------

    def _ok(self) -> None:
        self._say("ok")

    def _say(self, *lines: str) -> None:
        for text in lines:
            self._out += text.encode("ascii") + b"\r\n"

    def _report_status(self) -> None:
        state, at_mm, speed = self._state.strip(), _triple(self._mpos_mm), 0.0
        is_moving = self._motion is not None and self._homing is None
        if is_moving and self._motion is not None:
            now_mm = self._motion.at_mm(self._now_ns)
            at_mm = _triple([self._on_step(a, axis) for axis, a in enumerate(now_mm)])
            speed = 60.0 * self._motion.speed_mm_s(self._now_ns)
        if state in ("Hold", "Door"):
            state += ":1" if is_moving and state == "Hold" else ":2" if is_moving else ":0"
        is_busy = state not in ("Idle", "Alarm", "Check", "Sleep")
        wco = None
        if self._wco_countdown > 0:
            self._wco_countdown -= 1
        else:
            self._wco_countdown = 29 if is_busy else 9
            self._ov_countdown = max(self._ov_countdown, 1)
            wco = self._offsets.work_mm(self._modal)
        has_overrides = wco is None and self._ov_countdown <= 0
        if self._ov_countdown > 0:
            self._ov_countdown -= 1
        elif has_overrides:
            self._ov_countdown = 19 if is_busy else 9
        pressed = [axis for axis in range(3) if self._mechanics.is_pressed(axis)]
        grips = self._mechanics.is_closed
        self._say(status_report(state, at_mm, speed, pressed, wco, has_overrides, grips))


def _triple(values: list[float] | Triple) -> Triple:
    x, y, z = values
    return x, y, z
