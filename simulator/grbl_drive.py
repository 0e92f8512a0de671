"""The simulated Grbl's motors: planned blocks, the motion under way, and the dead stop.

What Grbl believes (``core.mpos_mm``) follows the steps it sent; what truly moves is the mechanics'.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from simulator import grbl_motion
from simulator.grbl_core import Core
from simulator.grbl_motion import Motion
from simulator.grbl_parser import Axes

PLANNER_BLOCKS = 15
COASTING_S = 0.002  # a stepper killed at speed runs on or falls back by up to this long (assumed)


@dataclass(frozen=True)
class Block:
    """One planned line."""

    target_mm: Axes
    feed_mm_min: float


class Drive:
    """Blocks in, motor ways out."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.blocks: deque[Block] = deque()
        self.motion: Motion | None = None
        self._turned_mm: Axes = ()
        self._asked: tuple[Motion, int, int] | None = None
        self.hits_switch_ns: int | None = None

    def is_at_rest(self) -> bool:
        return not self.blocks and self.motion is None

    def plan(self, target_mm: Axes, feed_mm_min: float | None) -> None:
        """One more block, unless it leads nowhere."""
        core = self._core
        target = tuple(core.on_step(t, axis) for axis, t in enumerate(target_mm))
        is_way = target != core.planned_mm
        core.planned_mm = target
        if is_way:
            self.blocks.append(Block(target, grbl_motion.RAPID if feed_mm_min is None else feed_mm_min))
            if self.motion is None:
                self.start_next_block()

    def start(self, motion: Motion, *, heeds_switches: bool) -> None:
        core = self._core
        self.motion, self._turned_mm = motion, motion.start_mm
        self.hits_switch_ns = None
        if heeds_switches and core.settings[21]:
            for axis, share in enumerate(motion.shares):
                way_mm = core.mechanics.way_to_switch_mm(axis) if share > 0 else None
                when_ns = None if way_mm is None else motion.profiles[axis].when_ns(way_mm / share)
                if when_ns is not None:
                    self.hits_switch_ns = min(when_ns, self.hits_switch_ns or when_ns)

    def start_next_block(self) -> None:
        core = self._core
        if core.state not in ("Idle", "Run"):
            return
        if not self.blocks:
            core.state = "Idle"
            return
        block, core.state = self.blocks[0], "Run"
        line = grbl_motion.straight(
            core.mpos_mm, block.target_mm, block.feed_mm_min, core.settings, core.now_ns
        )
        self.start(line, heeds_switches=True)

    def brake(self) -> None:
        """The controlled stop of what moves."""
        if self.motion is not None:
            stop = grbl_motion.brake(self.motion, self._core.settings, self._core.now_ns)
            self.start(stop, heeds_switches=True)

    def turn(self) -> None:
        """The motors turn as far as they should have until now."""
        assert self.motion is not None
        core = self._core
        at_mm = self.motion.at_mm(core.now_ns)
        scale = [s / core.mechanics.parameters.steps_per_mm for s in core.settings.axis(100)]
        ways = [(a - t) * k for a, t, k in zip(at_mm, self._turned_mm, scale, strict=True)]
        self._turned_mm = at_mm
        core.mechanics.turn(ways)

    def finish(self, *, is_homing: bool) -> None:
        """The motion has ended; the next block begins, unless held."""
        assert self.motion is not None
        motion, self.motion = self.motion, None
        if is_homing:
            return
        core = self._core
        core.mpos_mm = [core.on_step(a, axis) for axis, a in enumerate(motion.at_mm(core.now_ns))]
        if self.blocks and math.dist(core.mpos_mm, self.blocks[0].target_mm) < 0.0025:
            core.mpos_mm = list(self.blocks.popleft().target_mm)
        if core.state not in ("Hold", "Door"):
            self.start_next_block()

    def kill(self) -> None:
        """Dead stop: what Grbl believes and where the load stands are not the same afterwards."""
        if self.motion is None:
            return
        core = self._core
        self.turn()
        for axis, share in enumerate(self.motion.shares):
            speed = share * self.motion.profiles[axis].speed_mm_s(core.now_ns)
            if speed:
                slip_mm = speed * COASTING_S * core.random.uniform(-0.5, 1.0)
                core.mechanics.lose_steps(axis, slip_mm)
        core.mpos_mm = [core.on_step(a, axis) for axis, a in enumerate(self.motion.at_mm(core.now_ns))]
        self.motion, self.hits_switch_ns = None, None

    def next_wake(self) -> list[int]:
        if self.motion is None:
            return []
        due = [self._next_step_ns() if self._core.mechanics.carries else self.motion.end_ns]
        return due if self.hits_switch_ns is None else [*due, self.hits_switch_ns]

    def _next_step_ns(self) -> int:
        """Asked many times of the same moment."""
        assert self.motion is not None
        now_ns, asked = self._core.now_ns, self._asked
        if asked is None or asked[0] is not self.motion or asked[1] != now_ns:
            self._asked = asked = self.motion, now_ns, self.motion.next_step_ns(now_ns)
        return asked[2]

    def report(self, *, is_homing: bool) -> None:
        """Where it believes to be, and how fast."""
        core, at_mm, speed = self._core, tuple(self._core.mpos_mm), 0.0
        is_moving = self.motion is not None and not is_homing
        if is_moving and self.motion is not None:
            now_mm = self.motion.at_mm(core.now_ns)
            at_mm = tuple(core.on_step(a, axis) for axis, a in enumerate(now_mm))
            speed = 60.0 * self.motion.speed_mm_s(core.now_ns)
        core.report_status(at_mm, speed, is_moving=is_moving)
