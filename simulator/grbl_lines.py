"""What the simulated Grbl does with a line of G-code: in Grbl's order, ``ok`` when parsed and planned."""

from __future__ import annotations

from simulator.grbl_core import Core, Wait, never
from simulator.grbl_drive import PLANNER_BLOCKS, Drive
from simulator.grbl_parser import Axes, GcodeError, Instruction, Modal, parse, tidy
from simulator.grbl_resets import ALARM_DELAY_NS, Resets
from simulator.grbl_system import System
from simulator.physics import NS_PER_S

LINE_CHARACTERS = 79
_PROBE_FAILED = 5
HOLD_FOR_LIMIT = "Hold "  # reads as a hold, but `~` doesn't resume it: ALARM:2 follows


class Lines:
    """Reads one line at a time; what must be waited for it leaves in ``core.wait``."""

    def __init__(self, core: Core, drive: Drive, resets: Resets, system: System) -> None:
        self._core, self._drive, self._resets, self._system = core, drive, resets, system

    def execute(self, raw: str) -> None:
        core = self._core
        if len(raw) > LINE_CHARACTERS:
            core.say("error:11")
            return
        text = tidy(raw)
        try:
            if text.startswith("$"):
                self._system.do(text)
            elif text:
                if core.state in ("Alarm", "Sleep"):
                    raise GcodeError(9)
                self._do(parse(text, core.modal, core.offsets, core.planned_mm))
            else:
                core.ok()
        except GcodeError as error:
            core.say(f"error:{error.number}")

    def _do(self, it: Instruction) -> None:
        """Coolant, dwell, offsets, motion, stop."""
        core = self._core
        core.modal = it.modal
        if core.state == "Check":
            core.ok()
            return
        if it.coolant is None and it.dwell_s is None:
            self._go(it)
            return

        def after_motion() -> None:
            if it.coolant is not None:
                core.mechanics.grip(it.coolant == 8)
                core.tell_overrides_next()
            if it.dwell_s:
                until_ns = core.now_ns + int(it.dwell_s * NS_PER_S)
                core.wait = Wait(never, lambda: self._go(it), until_ns)
            else:
                self._go(it)

        core.wait = Wait(self._drive.is_at_rest, after_motion)

    def _go(self, it: Instruction) -> None:
        core, blocks = self._core, self._drive.blocks
        if it.offsets != core.offsets:
            core.set_offsets(it.offsets)
        targets = list(it.targets_mm)

        def plan() -> None:
            while targets:
                if core.settings[20] and self._is_outside(targets[0]):
                    core.wait = Wait(self._is_stopped_for_limit, self._soft_limit)
                    return
                if len(blocks) >= PLANNER_BLOCKS:
                    core.wait = Wait(lambda: len(blocks) < PLANNER_BLOCKS, plan)
                    return
                self._drive.plan(targets.pop(0), it.feed_mm_min)
            self._end_line(it)

        plan()

    def _end_line(self, it: Instruction) -> None:
        if it.probes is not None:
            self._core.wait = Wait(self._drive.is_at_rest, lambda: self._end_probe(it.probes == 38.2))
        elif it.stop is not None:
            self._core.wait = Wait(self._drive.is_at_rest, lambda: self._stop_program(it.stop))
        else:
            self._core.ok()

    def _end_probe(self, must_touch: bool) -> None:
        """There is no probe on the rig: G38.2 fails, says so, and answers ok."""
        core = self._core
        if must_touch:
            core.state = "Alarm"
            core.say(f"ALARM:{_PROBE_FAILED}")

        def tell() -> None:
            core.probe_mm = tuple(core.mpos_mm)
            place = ",".join(f"{value:.3f}" for value in core.probe_mm)
            core.say(f"[PRB:{place}:0]")
            core.ok()

        core.wait = Wait(never, tell, core.now_ns + (ALARM_DELAY_NS if must_touch else 0))

    def _stop_program(self, code: int | None) -> None:
        core = self._core
        if code in (0, 1):
            core.state = "Hold"
            core.wait = Wait(lambda: True, core.ok)
        else:
            core.mechanics.grip(False)
            core.modal = Modal(units=core.modal.units, feed_mm_min=core.modal.feed_mm_min, motion=1.0)
            core.say("[MSG:Pgm End]")
            core.ok()

    def _is_outside(self, target_mm: Axes) -> bool:
        travels = self._core.settings.axis(130)
        return any(t > 0.0 or t < -travel for t, travel in zip(target_mm, travels, strict=True))

    def _is_stopped_for_limit(self) -> bool:
        if self._drive.motion is not None and self._core.state == "Run":
            self._drive.brake()
            self._core.state = HOLD_FOR_LIMIT
        return self._drive.motion is None

    def _soft_limit(self) -> None:
        self._resets.alarm_critical(2)
        self._core.is_stray_ok_due = True  # for the rejected line, when the reset comes
