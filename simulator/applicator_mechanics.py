"""The motorised applicator without its board: retraction axis, stylet, cartridge, sensor, and people's hands.

Knows millimetres and what truly happens; does not know packets or what the board makes of it. The board
uses the motors and sensors; people and tests use the hands and faults; nobody else reads the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.physics import ImpossibleByHandError, Profile, Template, trapezoid

_RETRACT_STEP_MM = 0.5  # of the coupled needle, while the axis moves


@dataclass(frozen=True)
class ApplicatorParameters:
    """Figures of the mechanism; all assumed (none is published for a motorised applicator)."""

    travel_mm: float = 150.0
    acceleration_mm_s2: float = 500.0
    positioning_sigma_mm: float = 0.002
    stroke_mm: float = 205.0
    stylet_speed_mm_s: float = 300.0
    stylet_acceleration_mm_s2: float = 2000.0
    pickup_mm: float = 8.0  # of the stroke: here the stylet takes a seed out of the cartridge
    sensor_mm: float = 20.0  # here the seed passes the sensor in the hub
    idle_force_mn: float = 40.0
    seed_force_mn: float = 820.0
    seed_force_sigma_mn: float = 80.0
    jam_force_mn: float = 3000.0


class ApplicatorMechanics:
    """What stands behind the applicator's board.

    Args:
        template: where needles stand; None for a bench of its own.
        random: draws positioning errors and forces.
        parameters: figures of the mechanism.
    """

    def __init__(
        self,
        random: np.random.Generator,
        template: Template | None = None,
        parameters: ApplicatorParameters | None = None,
    ) -> None:
        self.parameters = parameters or ApplicatorParameters()
        self.template = template or Template()
        self._random = random
        self._now_ns = 0
        self._z_from_mm, self._z_sign, self._z_profile = 0.0, 1, Profile(0, ())
        self._stuck_at_mm: float | None = None
        self._slip_mm = 0.0
        self._s_from_mm, self._s_sign, self._s_profile = 0.0, 1, Profile(0, ())
        self._thresholds: list[tuple[float, str]] = []
        self._needle: str | None = None
        self._drawn_mm = 0.0
        self._cartridge: int | None = None
        self._channel = 0  # seeds between cartridge and needle tip
        self._taken = 0  # by the present stroke
        self._jam_at_mm: float | None = None
        self._pushes_nothing = False
        self._takes_two = False
        self.is_sensor_stuck = False
        self.is_estop_open = False
        self.pulses = 0
        self.peak_mn = 0
        self.seeds_spilled = 0  # pushed out with no needle coupled

    # -- the board's side: sensors ------------------------------------------------------------------

    @property
    def is_seated(self) -> bool:
        """The cartridge switch."""
        return self._cartridge is not None

    def commanded_um(self, now_ns: int) -> int:
        """Where the retraction motor has been told to be by now."""
        return round(1000 * self._commanded_mm(now_ns))

    def encoder_um(self, now_ns: int) -> int:
        """Absolute encoder of the retraction axis."""
        return max(0, round(1000 * self._z_mm(now_ns)))

    def stylet_um(self, now_ns: int) -> int:
        """Encoder of the stylet; 0 = home."""
        return max(0, round(1000 * self._s_mm(now_ns)))

    def force_mn(self, now_ns: int) -> int:
        """Stylet force now: the seed's friction while one is pushed."""
        if now_ns < self._s_profile.end_ns and self._s_sign > 0 and self._channel:
            return round(self.parameters.seed_force_mn / 2)
        return round(self.parameters.jam_force_mn if self._is_blocked() else self.parameters.idle_force_mn)

    # -- the board's side: motors -------------------------------------------------------------------

    def drive_z(self, target_um: int, speed_um_s: int, now_ns: int) -> int:
        """Start the retraction axis from where it stands; when it will be there."""
        self.advance(now_ns)
        start_mm = self._z_mm(now_ns)
        way_mm = target_um / 1000 + self._random.normal(0.0, self.parameters.positioning_sigma_mm) - start_mm
        self._z_from_mm, self._slip_mm, self._z_sign = start_mm, 0.0, 1 if way_mm >= 0 else -1
        acceleration = self.parameters.acceleration_mm_s2
        self._z_profile = trapezoid(now_ns, abs(way_mm), speed_um_s / 1000, acceleration)
        return self._z_profile.end_ns

    def start_stroke(self, now_ns: int) -> None:
        """The stylet starts from where it stands to the end of its stroke."""
        self.advance(now_ns)
        self.pulses, self.peak_mn, self._taken = 0, round(self.parameters.idle_force_mn), 0
        reach_mm = self.parameters.stroke_mm
        if self._jam_at_mm is not None:
            reach_mm = min(reach_mm, self._jam_at_mm)
        start_mm = self._s_mm(now_ns)
        ways = [(self.parameters.pickup_mm, "pickup"), (self.parameters.sensor_mm, "sensor")]
        last = (reach_mm, "jam" if self._jam_at_mm is not None else "tip")
        self._thresholds = [way for way in ways if start_mm < way[0] < reach_mm] + [last]
        self._drive_stylet(reach_mm, now_ns)

    def draw_stylet_home(self, now_ns: int) -> None:
        """The stylet starts back to its home."""
        self.advance(now_ns)
        self._thresholds = []
        self._drive_stylet(0.0, now_ns)

    def halt(self, now_ns: int) -> None:
        """Both axes stop dead: at most 20 mm/s on a lead screw, and a stylet that weighs a gram."""
        self.advance(now_ns)
        commanded_mm = self._commanded_mm(now_ns)
        self._z_from_mm, self._z_profile = commanded_mm, Profile(now_ns, ())
        self._s_from_mm, self._s_profile = self._s_mm(now_ns), Profile(now_ns, ())
        self._thresholds = []
        self.advance(now_ns)

    def stylet_ends_ns(self) -> int:
        """When the stylet's present motion ends, or ended."""
        return self._s_profile.end_ns

    def next_event_ns(self) -> int | None:
        """When the stylet next does something to a seed."""
        return self._threshold_ns() if self._thresholds else None

    def advance(self, now_ns: int) -> None:
        """Let everything that truly happens until ``now_ns`` happen."""
        while self._thresholds:
            when_ns = self._threshold_ns()
            if when_ns > now_ns:
                break
            self._pass(self._thresholds.pop(0)[1])
        self._now_ns = max(self._now_ns, now_ns)
        z_mm = self._z_mm(now_ns)
        more_mm = z_mm - self._drawn_mm
        is_at_rest = now_ns >= self._z_profile.end_ns
        if self._needle is not None and more_mm and (is_at_rest or abs(more_mm) >= _RETRACT_STEP_MM):
            self.template.retract(self._needle, more_mm)
            self._drawn_mm = z_mm

    # -- people's hands -----------------------------------------------------------------------------

    def couple(self, needle: str, scale_mm: float = 0.0) -> None:
        """A person puts the applicator, its scale at ``scale_mm``, on the hub of a needle in the template."""
        if self._needle is not None:
            raise ImpossibleByHandError(f"needle {self._needle} is coupled already")
        if needle not in self.template:
            raise ImpossibleByHandError(f"no needle {needle} stands in the template")
        if abs(self._z_mm(self._now_ns) - scale_mm) > 0.5:
            raise ImpossibleByHandError(f"the applicator's carriage isn't at z = {scale_mm:g} mm")
        self._needle, self._drawn_mm = needle, self._z_mm(self._now_ns)

    def uncouple(self) -> None:
        """A person takes the applicator off; the needle stays where it stands."""
        if self._s_mm(self._now_ns) > 1.0:
            raise ImpossibleByHandError("the stylet is in the needle")
        self._needle = None

    def insert_cartridge(self, count: int) -> None:
        if self._cartridge is not None:
            raise ImpossibleByHandError("a cartridge is in already")
        self._cartridge = count

    def remove_cartridge(self) -> int:
        """Seeds that are in it."""
        if self._cartridge is None:
            raise ImpossibleByHandError("there is no cartridge")
        count, self._cartridge = self._cartridge, None
        return count

    def draw_by_hand(self, z_mm: float) -> None:
        """A person draws the coupled needle back to here on the scale, or the slide without a needle; at rest."""
        self._z_from_mm, self._z_profile, self._slip_mm = z_mm, Profile(self._now_ns, ()), 0.0
        self.advance(self._now_ns)

    def push_by_hand(self) -> None:
        """A person pushes the stylet once and draws it home: one seed leaves the needle.

        Raises:
            ImpossibleByHandError: it is blocked, or no needle is coupled, or no seed there to be pushed.
        """
        if self._jam_at_mm is not None:
            raise ImpossibleByHandError("the stylet is blocked")
        if self._needle is None or not self._cartridge:
            raise ImpossibleByHandError("there is no needle on the applicator, or no seed in the cartridge")
        self._cartridge -= 1
        self.template.drop_seed(self._needle)

    def clear_path(self) -> int:
        """A person frees a jam and takes out the seeds between cartridge and tip; how many they were."""
        if self._thresholds:
            raise ImpossibleByHandError("the stylet is moving")
        count, self._channel, self._jam_at_mm = self._channel, 0, None
        return count

    # -- faults -------------------------------------------------------------------------------------

    def jam_next(self, at_mm: float = 40.0) -> None:
        """The next stroke blocks here, and each one after it until a person has cleared the path."""
        self._jam_at_mm = at_mm

    def push_nothing_next(self) -> None:
        """The next stroke takes no seed out of the cartridge."""
        self._pushes_nothing = True

    def take_two_next(self) -> None:
        self._takes_two = True

    def miscount_cartridge(self, by: int) -> None:
        """The cartridge truly holds this many more (or fewer) than was said."""
        self._cartridge = max(0, (self._cartridge or 0) + by)

    def set_estop(self, is_open: bool, now_ns: int) -> None:
        """The loop opens: the motors stop by themselves, whatever the board does."""
        if is_open:
            self.halt(now_ns)
        self.is_estop_open = is_open

    def stick_z(self, is_stuck: bool, now_ns: int) -> None:
        """The carriage doesn't follow its motor any more."""
        self.advance(now_ns)
        if is_stuck:
            self._stuck_at_mm = self._z_mm(now_ns)
        elif self._stuck_at_mm is not None:
            self._slip_mm = self._stuck_at_mm - self._commanded_mm(now_ns)
            self._stuck_at_mm = None

    def lose_steps_z(self, lost_mm: float, now_ns: int) -> None:
        """The carriage slips behind its motor by this much (< 0: ahead)."""
        self.advance(now_ns)
        self._slip_mm -= lost_mm

    # -- the truth, for tests and debriefing ----------------------------------------------------------

    @property
    def coupled(self) -> str | None:
        return self._needle

    @property
    def cartridge(self) -> int | None:
        return self._cartridge

    @property
    def channel(self) -> int:
        """Seeds between cartridge and tip."""
        return self._channel

    # -- inner workings -----------------------------------------------------------------------------

    def _commanded_mm(self, now_ns: int) -> float:
        return self._z_from_mm + self._z_sign * self._z_profile.travelled_mm(now_ns)

    def _z_mm(self, now_ns: int) -> float:
        if self._stuck_at_mm is not None:
            return self._stuck_at_mm
        return min(max(self._commanded_mm(now_ns) + self._slip_mm, 0.0), self.parameters.travel_mm)

    def _s_mm(self, now_ns: int) -> float:
        return self._s_from_mm + self._s_sign * self._s_profile.travelled_mm(now_ns)

    def _drive_stylet(self, target_mm: float, now_ns: int) -> None:
        start_mm = self._s_mm(now_ns)
        self._s_from_mm, self._s_sign = start_mm, 1 if target_mm >= start_mm else -1
        p = self.parameters
        way_mm = abs(target_mm - start_mm)
        self._s_profile = trapezoid(now_ns, way_mm, p.stylet_speed_mm_s, p.stylet_acceleration_mm_s2)

    def _threshold_ns(self) -> int:
        way_mm = self._thresholds[0][0] - self._s_from_mm
        when_ns = self._s_profile.when_ns(way_mm)
        return self._s_profile.end_ns if when_ns is None else when_ns

    def _is_blocked(self) -> bool:
        return self._jam_at_mm is not None and self._s_mm(self._now_ns) >= self._jam_at_mm - 1e-6

    def _pass(self, threshold: str) -> None:
        p = self.parameters
        if threshold == "pickup":
            wanted = 0 if self._pushes_nothing else 2 if self._takes_two else 1
            self._pushes_nothing = self._takes_two = False
            self._taken = min(wanted, self._cartridge or 0)
            if self._taken:
                self._cartridge = (self._cartridge or 0) - self._taken
                self._channel += self._taken
                drawn_mn = self._random.normal(p.seed_force_mn, p.seed_force_sigma_mn)
                self.peak_mn = round(max(drawn_mn, 250.0))
        elif threshold == "sensor":
            self.pulses += 0 if self.is_sensor_stuck else self._taken
        elif threshold == "jam":
            self.peak_mn = round(p.jam_force_mn)
        else:
            dropped, self._channel = self._channel, 0
            if self._needle is None:
                self.seeds_spilled += dropped
            else:
                for _ in range(dropped):
                    self.template.drop_seed(self._needle)
