"""The part of a rig's self-test that travels its axes: where the switches trip, travel, speed, lost steps.

Grbl counts its own steps and sees no lost one. So after homing, and again after an axis has worked, the axis is driven
slowly onto its limit switch: Grbl keeps the position at which the switch trips, and what that has wandered since
homing was lost. The switch lies at 0, where soft limits end, so they are off (``$20=0``) for these seconds and on
again afterwards; should the line break in between, every driver of ours refuses the rig until ``$20=1`` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.bench_check import Broken, LineGone
from drivers.grbl import Alarm, Ok, Refused
from drivers.kinematics import machine_from_rig
from drivers.rig_language import MoveAcross, MoveDepth, RigCommand, RigDone
from drivers.rig_script import HOLD, RESET

if TYPE_CHECKING:
    from drivers.bench_check_rig import RigCheck

HOMINGS = 2
SEARCH_MM = 2.0
LOST_MM = 0.1
REPEAT_MM = 0.05
AXES = "XYZ"
_LOST = (
    "Lost steps: the axis did not go where Grbl counts it. Look for a thing in the way, a loose pulley or coupling, a "
    "dry or bent screw; check motor current, speed and acceleration. Do not use the rig until this passes."
)


class AxisCheck:
    """Checks that belong to a ``RigCheck``, with its bench, its driver and its talk."""

    def __init__(self, check: RigCheck) -> None:
        self._check, self._bench = check, check.bench
        self._touched_mm: dict[int, float] = {}

    def repeatability(self) -> None:
        places: dict[int, list[float]] = {axis: [] for axis in range(3)}
        for axis, found in places.items():
            for _ in range(HOMINGS):
                self._check.home("homing repeatability")
                found.append(self._touch(axis))
            self._touched_mm[axis] = sum(found) / len(found)
        told = "; ".join(f"{AXES[a]} {', '.join(f'{p:+.3f}' for p in found)}" for a, found in places.items())
        self._bench.measure(
            "homing repeatability",
            max(abs(place) for found in places.values() for place in found),
            REPEAT_MM,
            "mm",
            "The switch trips elsewhere than homing said: a loose or dirty switch, or steps lost in homing. Fasten it.",
            digits=3,
            words=f"where the switches trip after homing (0 wanted): {told} mm",
        )

    def _touch(self, axis: int) -> float:
        """Where the axis's switch trips by Grbl's count (mm; 0 when nothing was lost). Needs homing afterwards."""
        talk, letter = self._check.talk, AXES[axis]
        talk.open()
        if not isinstance(talk.ask(b"$20=0\n", (Ok, Refused), 2_000), Ok):
            raise Broken("$20=0 was refused")
        try:
            mark = len(talk.heard)
            talk.ask(f"G53G1{letter}-1.000F600\n".encode(), (Ok, Refused, Alarm), 2_000)
            talk.say(f"G53G1{letter}{SEARCH_MM:.3f}F60\n".encode())
            alarm = talk.until(mark, Alarm, 6_000 + 1_000 * SEARCH_MM)
            if not self._check.reset():
                raise Broken("it does not answer a reset; soft limits may be off: set $20=1")
        except LineGone as gone:
            raise LineGone(f"{gone}; soft limits may still be off: set $20=1") from gone
        except KeyboardInterrupt:
            talk.say(HOLD + RESET)
            self._bench.rest(800)
            talk.say(b"$20=1\n")
            self._bench.rest(200)
            raise
        if not isinstance(talk.ask(b"$20=1\n", (Ok, Refused), 2_000), Ok):
            raise Broken("soft limits could not be switched on again: set $20=1 by hand")
        place_mm = talk.status().axes_mm[axis]
        return place_mm if alarm is not None else max(place_mm, SEARCH_MM)

    def axis(self, axis: int) -> None:
        check, config, bench = f"axis {AXES[axis]}", self._check.config, self._bench
        self._check.home(check)
        reach_mm, (least_mm, most_mm) = config.reach_mm, config.depth_mm

        def at(place_mm: float, *, fine: bool = False) -> RigCommand:
            if axis == 2:
                return MoveDepth(place_mm, fine)
            return MoveAcross(place_mm, reach_mm) if axis == 0 else MoveAcross(reach_mm, place_mm)

        near_mm, far_mm = (least_mm, most_mm) if axis == 2 else (reach_mm, -reach_mm)
        feed_mm_s = (config.feed_depth_mm_min if axis == 2 else config.feed_across_mm_min) / 60.0
        step_mm = 5.0 if far_mm > near_mm else -5.0
        way: list[RigCommand] = [at(near_mm), at(far_mm), at(near_mm + 2 * step_mm)]
        way += [at(near_mm + (2 + i) * step_mm) for i in range(1, 11)]
        way += [at(near_mm + 12 * step_mm - step_mm * i, fine=True) for i in (1, 2)]
        way += [at(near_mm + 3 * step_mm), at(near_mm)]
        worst_mm, took_s = 0.0, 0.0
        for i, command in enumerate(way):
            began_ns = bench.now_ns()
            end = self._check.do(command)
            if not isinstance(end, RigDone):
                bench.failed(f"{check}: lost steps", getattr(end, "reason", str(end)), _LOST)
                return
            place_mm = (end.x_mm, end.y_mm, end.z_mm)[axis]
            wanted_mm = machine_from_rig(config, _point(command))[axis]
            reported_mm = machine_from_rig(config, (end.x_mm, end.y_mm, end.z_mm))[axis]
            worst_mm = max(worst_mm, abs(wanted_mm - reported_mm))
            if i == 1:
                took_s = (bench.now_ns() - began_ns) / 1e9
                bench.passed(f"{check}: travel", f"{near_mm:g} to {place_mm:g} mm in the rig's frame")
        bench.measure(
            f"{check}: speed over the travel",
            abs(far_mm - near_mm) / took_s,
            feed_mm_s * 1.03,
            "mm/s",
            f"Check $11{axis}, $12{axis} and the feed override (reset it).",
            least=feed_mm_s * 0.8,
            digits=1,
        )
        bench.measure(
            f"{check}: step accuracy by Grbl's count",
            worst_mm,
            config.tolerance_mm,
            "mm",
            f"Grbl did not go where it was sent: check $10{axis} (steps per mm) and the line.",
            digits=3,
            words=f"{len(way)} motions, steps of 5 mm; what was lost is in the next line",
        )
        tripped_mm = self._touch(axis)
        lost_mm = tripped_mm - self._touched_mm.get(axis, 0.0)
        beyond = (
            f"more than {SEARCH_MM:g} mm away from the switch"
            if tripped_mm >= SEARCH_MM
            else f"{lost_mm:+.3f} mm"
        )
        bench.measure(
            f"{check}: lost steps",
            abs(lost_mm),
            LOST_MM,
            "mm",
            _LOST,
            digits=3,
            words=f"the limit switch tripped at {tripped_mm:+.3f} mm by Grbl's count: slipped by {beyond} since homing",
        )


def _point(command: RigCommand) -> tuple[float, float, float]:
    if isinstance(command, MoveAcross):
        return command.x_mm, command.y_mm, 0.0
    assert isinstance(command, MoveDepth)
    return 0.0, 0.0, command.z_mm
