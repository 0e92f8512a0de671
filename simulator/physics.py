"""Motion and matter that both simulated devices share: speed profiles, slack, and the template's needles.

Knows millimetres, seconds and newtons; does not know bytes. Positions are computed from the time asked for,
never stepped, so that a procedure in virtual time costs events and not ticks.
"""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

NS_PER_S = 1_000_000_000


class Tissue(Protocol):
    """What the devices act on, in the rig's frame (mm). The simulated patient is one."""

    def insert(self, needle: str, x_mm: float, y_mm: float, tip_z_mm: float) -> None:
        """Hold the needle on guide line (x, y) with its tip at depth z; called as often as it moves."""

    def retract(self, needle: str, distance_mm: float) -> None:
        """Draw the needle back by this much more (further in, if negative)."""

    def release(self) -> None:
        """Let go of the held needle."""

    def grip(self, x_mm: float, y_mm: float) -> str | None:
        """Take hold of the needle that stands on this guide line, if there is one."""

    def drop_seed(self, needle: str) -> object:
        """A seed leaves the needle's tip."""


@runtime_checkable
class Resisting(Protocol):
    """Tissue that is felt."""

    def resistance_n(self, needle: str) -> float:
        """Force against advancing the needle from where it stands, N."""


@dataclass(frozen=True)
class Profile:
    """Distance over time in phases of constant acceleration, along one line.

    Attributes:
        start_ns: when the first phase begins.
        phases: of each its duration (s), speed at its start (mm/s) and acceleration (mm/s^2).
    """

    start_ns: int
    phases: tuple[tuple[float, float, float], ...]

    @cached_property
    def end_ns(self) -> int:
        return self.start_ns + math.ceil(sum(phase[0] for phase in self.phases) * NS_PER_S)

    @cached_property
    def length_mm(self) -> float:
        return self._travelled_mm(self.end_ns)

    def travelled_mm(self, now_ns: int) -> float:
        if now_ns >= self.end_ns:
            return self.length_mm
        return 0.0 if now_ns <= self.start_ns else self._travelled_mm(now_ns)

    def _travelled_mm(self, now_ns: int) -> float:
        left_s = (now_ns - self.start_ns) / NS_PER_S
        way_mm = 0.0
        for duration_s, speed, acceleration in self.phases:
            t = min(left_s, duration_s)
            way_mm += speed * t + acceleration * t * t / 2
            left_s -= t
        return way_mm

    def speed_mm_s(self, now_ns: int) -> float:
        left_s = (now_ns - self.start_ns) / NS_PER_S
        for duration_s, speed, acceleration in self.phases:
            if 0.0 <= left_s < duration_s:
                return speed + acceleration * left_s
            left_s -= duration_s
        return 0.0

    def when_ns(self, way_mm: float) -> int | None:
        """When this distance has been travelled; None if it never is."""
        before_s = 0.0
        for duration_s, speed, acceleration in self.phases:
            length_mm = speed * duration_s + acceleration * duration_s**2 / 2
            if way_mm <= length_mm:
                root = math.sqrt(max(0.0, speed * speed + 2 * acceleration * way_mm))
                t = 2 * way_mm / (speed + root) if way_mm > 0.0 else 0.0
                return self.start_ns + math.ceil((before_s + t) * NS_PER_S)
            way_mm -= length_mm
            before_s += duration_s
        return None


def trapezoid(start_ns: int, way_mm: float, speed_mm_s: float, acceleration_mm_s2: float) -> Profile:
    """From rest to rest over ``way_mm`` (>= 0); a triangle when the way is too short for the speed."""
    peak = min(speed_mm_s, math.sqrt(way_mm * acceleration_mm_s2))
    if peak <= 0.0:
        return Profile(start_ns, ())
    ramp_s = peak / acceleration_mm_s2
    cruise_s = max(0.0, way_mm / peak - ramp_s)
    ramps = (ramp_s, 0.0, acceleration_mm_s2), (ramp_s, peak, -acceleration_mm_s2)
    return Profile(start_ns, (ramps[0], (cruise_s, peak, 0.0), ramps[1]))


def braking(start_ns: int, speed_mm_s: float, deceleration_mm_s2: float) -> Profile:
    """From a speed to rest."""
    if speed_mm_s <= 0.0:
        return Profile(start_ns, ())
    return Profile(start_ns, ((speed_mm_s / deceleration_mm_s2, speed_mm_s, -deceleration_mm_s2),))


def follow_with_slack(load_mm: float, motor_mm: float, slack_mm: float) -> float:
    """Where the load stands when the motor that drives it with slack stands at ``motor_mm``."""
    return min(max(load_mm, motor_mm), motor_mm + slack_mm)


@dataclass
class _Needle:
    x_mm: float
    y_mm: float
    z_mm: float


class Template:
    """The template with the needles in it: what the rig's jaw and the applicator's hub take hold of.

    Keeps the commanded place of each needle, as the devices know it; where it truly runs is the tissue's.

    Args:
        tissue: the patient behind the template; None for a bench without one.
    """

    GRIP_ACROSS_MM = 1.0
    GRIP_ALONG_MM = 2.0
    OUT_MM = 400.0  # more than any needle's length

    def __init__(self, tissue: Tissue | None = None) -> None:
        self.tissue = tissue
        self._needles: dict[str, _Needle] = {}
        self.seeds_dropped: dict[str, int] = {}

    @property
    def tissue(self) -> Tissue | None:
        return self._tissue

    @tissue.setter
    def tissue(self, tissue: Tissue | None) -> None:
        self._tissue, self._felt = tissue, tissue if isinstance(tissue, Resisting) else None

    def __contains__(self, needle: str) -> bool:
        return needle in self._needles

    def place_mm(self, needle: str) -> tuple[float, float, float]:
        """Commanded guide position x, y and depth z of the tip, rig frame."""
        it = self._needles[needle]
        return it.x_mm, it.y_mm, it.z_mm

    def hold(self, needle: str, x_mm: float, y_mm: float, z_mm: float) -> None:
        """The jaw carries the needle here."""
        self._needles[needle] = _Needle(x_mm, y_mm, z_mm)
        if self.tissue is not None:
            self.tissue.insert(needle, x_mm, y_mm, z_mm)

    def grip(self, x_mm: float, y_mm: float, z_mm: float) -> str | None:
        """The needle that the jaw closes on at this carriage place, if one stands there."""
        for name, it in self._needles.items():
            across_mm = math.hypot(it.x_mm - x_mm, it.y_mm - y_mm)
            if across_mm <= self.GRIP_ACROSS_MM and abs(it.z_mm - z_mm) <= self.GRIP_ALONG_MM:
                if self.tissue is not None and self.tissue.grip(it.x_mm, it.y_mm) != name:
                    self.tissue.release()
                    continue
                return name
        return None

    def resistance_n(self, needle: str) -> float:
        """Force against advancing the needle; 0 where nothing can be felt."""
        return 0.0 if self._felt is None else self._felt.resistance_n(needle)

    def release(self, needle: str, *, is_out: bool) -> None:
        """The jaw opens: the needle stands where it is, or is laid aside when it is out of the template."""
        if self.tissue is not None:
            self.tissue.release()
        if is_out:
            del self._needles[needle]

    def retract(self, needle: str, distance_mm: float) -> None:
        """The applicator draws the needle back by this much more (further in, if negative)."""
        self._needles[needle].z_mm -= distance_mm
        if self.tissue is not None:
            self.tissue.retract(needle, distance_mm)

    def take_out(self, needle: str, *, may_be_in_air: bool = False) -> None:
        """A person pulls the needle out and lays it aside.

        Args:
            may_be_in_air: it may have been let go before the skin, and stand in the template alone.
        """
        if self.tissue is not None:
            with suppress(ImpossibleMotionError) if may_be_in_air else nullcontext():
                self.tissue.retract(needle, self.OUT_MM)
        del self._needles[needle]

    def drop_seed(self, needle: str) -> None:
        """A seed leaves the needle's tip."""
        self.seeds_dropped[needle] = self.seeds_dropped.get(needle, 0) + 1
        if self.tissue is not None:
            self.tissue.drop_seed(needle)


class ImpossibleMotionError(ValueError):
    """The devices tried something that matter forbids, e.g. to move a needle sideways in tissue."""


class ImpossibleByHandError(ValueError):
    """A person was asked to do with the device what can't be done with it now."""
