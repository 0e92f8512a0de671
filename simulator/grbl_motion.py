"""Grbl's motion: lines from rest to rest, and the phases of a homing cycle.

Each axis of a motion has its own speed profile: shared in a line, of its own in homing. Blocks end at rest
(no junction speeds): the host sends one line at a time, so a real Grbl stops between them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from simulator.grbl_kind import GrblKind
from simulator.grbl_parser import Axes
from simulator.grbl_settings import GrblSettings
from simulator.physics import Profile, braking, trapezoid
from simulator.rig_mechanics import RigMechanics

PATH_STEP_MM = 0.9  # the needle in the jaw is carried in steps of at most this length
RAPID = math.inf


class HomingFailedError(Exception):
    """``alarm`` 8: the switch stays pressed after pulling off; 9: it was not found."""

    def __init__(self, alarm: int) -> None:
        super().__init__(f"ALARM:{alarm}")
        self.alarm = alarm


@dataclass(frozen=True)
class Motion:
    """From ``start_mm`` (machine) along signed unit shares, each axis by its own profile."""

    start_mm: Axes
    shares: Axes
    profiles: tuple[Profile, ...]

    @cached_property
    def end_ns(self) -> int:
        return max(p.end_ns for p in self.profiles)

    def at_mm(self, now_ns: int) -> Axes:
        return tuple(
            start + share * profile.travelled_mm(now_ns) if share else start
            for start, share, profile in zip(self.start_mm, self.shares, self.profiles, strict=True)
        )

    def speed_mm_s(self, now_ns: int) -> float:
        return max(
            p.speed_mm_s(now_ns) if s else 0.0 for p, s in zip(self.profiles, self.shares, strict=True)
        )

    def next_step_ns(self, now_ns: int) -> int:
        """When the path is a step longer than now, or ends."""
        due = [self.end_ns]
        for share, profile in zip(self.shares, self.profiles, strict=True):
            if share:
                when_ns = profile.when_ns(profile.travelled_mm(now_ns) + PATH_STEP_MM)
                due += [] if when_ns is None else [when_ns]
        return max(now_ns + 1, min(due))


def straight(
    start_mm: Sequence[float],
    target_mm: Sequence[float],
    feed_mm_min: float,
    settings: GrblSettings,
    now_ns: int,
) -> Motion:
    """A line at the feed, or slower as each axis's own limits demand."""
    length_mm, shares = _direction(start_mm, target_mm)
    rate, acceleration = feed_mm_min, math.inf
    for share, most, faster in zip(shares, settings.axis(110), settings.axis(120), strict=True):
        if share:
            rate = min(rate, most / abs(share))
            acceleration = min(acceleration, faster / abs(share))
    profile = trapezoid(now_ns, length_mm, rate / 60.0, acceleration)
    return Motion(tuple(start_mm), shares, (profile,) * len(shares))


def brake(motion: Motion, settings: GrblSettings, now_ns: int) -> Motion:
    """The controlled stop of a line; the line itself when it ends sooner."""
    faster = [a / abs(s) for a, s in zip(settings.axis(120), motion.shares, strict=True) if s]
    stop = braking(now_ns, motion.speed_mm_s(now_ns), min(faster, default=1.0))
    if stop.end_ns >= motion.end_ns:
        return motion
    return Motion(motion.at_mm(now_ns), motion.shares, (stop,) * len(motion.shares))


def homing(
    belief_mm: list[float],
    mechanics: RigMechanics,
    settings: GrblSettings,
    kind: GrblKind,
    now_ns: Callable[[], int],
) -> Iterator[Motion]:
    """The phases of `$H`, each asked for when the one before has ended: Z first, then the others together.

    Args:
        belief_mm: where Grbl believes to be; the homed axes are set in place as they are done.
        now_ns: the time.

    Raises:
        HomingFailedError: by the iterator, after the phase that failed.
    """
    pull_off_mm = settings[27]
    for axes in kind.homing:
        for reach, rate in ((1.5, settings[25]), (None, settings[24])):
            ways, is_found = [0.0] * len(kind.axes), True
            for axis in axes:
                reach_mm = 5 * pull_off_mm if reach is None else reach * settings[130 + axis]
                way_mm = mechanics.approach_way_mm(axis)
                is_found &= way_mm is not None and way_mm <= reach_mm
                ways[axis] = reach_mm if way_mm is None else min(way_mm, reach_mm)
            yield _phase(belief_mm, ways, rate, settings, now_ns())
            if not is_found:
                raise HomingFailedError(9)
            ways = [-pull_off_mm if axis in axes else 0.0 for axis in range(len(kind.axes))]
            yield _phase(belief_mm, ways, settings[25], settings, now_ns())
            if any(mechanics.is_pressed(axis) for axis in axes):
                raise HomingFailedError(8)
        for axis in axes:
            belief_mm[axis] = -pull_off_mm


def _phase(
    start_mm: Sequence[float], ways_mm: Sequence[float], rate: float, settings: GrblSettings, now_ns: int
) -> Motion:
    """Each axis its own way at the same rate, after the debounce time."""
    begin_ns = now_ns + int(settings[26]) * 1_000_000
    profiles = [
        trapezoid(begin_ns, abs(way), rate / 60.0, faster)
        for way, faster in zip(ways_mm, settings.axis(120), strict=True)
    ]
    shares = tuple(math.copysign(1.0, way) if way else 0.0 for way in ways_mm)
    return Motion(tuple(start_mm), shares, tuple(profiles))


def _direction(start_mm: Sequence[float], target_mm: Sequence[float]) -> tuple[float, Axes]:
    ways = [t - s for s, t in zip(start_mm, target_mm, strict=True)]
    length_mm = math.hypot(*ways)
    if length_mm == 0.0:
        return 0.0, (0.0,) * len(ways)
    return length_mm, tuple(way / length_mm for way in ways)
