"""The applicator's board without its wire: states, conditions, latches, watchdog, one seed at a time.

From drivers/WIRE.md 1.3-1.6. Knows motors, sensors and the non-volatile record; does not know packets.
Each command is a method that acts and returns, or raises ``RefusedError`` having done nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.applicator_ledger import Memory, Outcome
from simulator.applicator_mechanics import ApplicatorMechanics

_MS = 1_000_000
WATCHDOG_NS = 500 * _MS
TOKEN_NS = 2000 * _MS
CONTROL_NS = 20 * _MS  # of the position loop, while the retraction axis moves
TRAVEL_UM = 150_000
SPEEDS_UM_S = (100, 20_000)
HOMING_UM_S = 10_000
FOLLOWING_UM = 300
PLACE_UM = 100
FULL_STROKE_UM, STROKE_SLACK_UM = 205_000, 500
SEED_FORCE_MN = (200, 2500)  # assumed
_IN_MOTION = "HOMING", "MOVING", "FIRING"


class RefusedError(Exception):
    """``code`` and the extra pairs of an ERR reply."""

    def __init__(self, code: str, **extra: int | str) -> None:
        super().__init__(code)
        self.code, self.extra = code, extra


@dataclass(frozen=True)
class ApplicatorIdentity:
    """What HELLO tells; capacity, detent and gauge are the host's to compare."""

    id: str = "SG-MICK"
    serial: str = "1042"
    firmware: int = 100
    is_simulated: bool = True
    capacity: int = 15
    detent_um: int = 5000
    gauge: int = 18


@dataclass(frozen=True)
class _Armed:
    n: int
    z: int
    token: str
    at_ns: int


class ApplicatorBoard:
    """The state machine.

    Attributes:
        events: what happened and nobody has been told yet: name and pairs.
        heard_ns: when the host was last heard.
    """

    def __init__(
        self, mechanics: ApplicatorMechanics, memory: Memory, identity: ApplicatorIdentity, now_ns: int
    ) -> None:
        self._mechanics, self.memory, self._identity = mechanics, memory, identity
        self.events: list[tuple[str, dict[str, int | str]]] = []
        self.heard_ns = self._now_ns = self._checked_ns = now_ns
        self._state = "IDLE"
        self._homing = ""
        self._homed = 0
        self._armed: _Armed | None = None
        self._is_coming_home = False
        self._stroke_um = 0
        self._motion_ends_ns = now_ns
        self._volatile_latch = "NONE"
        self._is_seated = mechanics.is_seated
        self._is_estop_open = False  # a loop that is open already is told after BOOTED, as one that opens
        self._was_unheard = False
        if not self._is_seated:
            memory.note_open_switch()

    # -- what can be read -----------------------------------------------------------------------------

    @property
    def latch(self) -> str:
        """The latch in force; a seed's outranks the others."""
        return self.memory.now.latch if self.memory.now.latch != "NONE" else self._volatile_latch

    @property
    def state(self) -> str:
        return "LATCHED" if self._state == "IDLE" and self.latch != "NONE" else self._state

    def status(self) -> dict[str, int | str]:
        memory, mechanics, now_ns = self.memory.now, self._mechanics, self._now_ns
        return {
            "st": self.state,
            "z": mechanics.encoder_um(now_ns),
            "sty": mechanics.stylet_um(now_ns),
            "n": memory.counter,
            "left": memory.left,
            "seat": int(self._is_seated),
            "es": int(self._is_estop_open),
            "hm": self._homed,
            "la": self.latch,
            "ln": memory.latch_n,
        }

    def telemetry(self) -> dict[str, int | str]:
        status = self.status()
        force = {"f": self._mechanics.force_mn(self._now_ns)}
        return {
            **{key: status[key] for key in ("st", "z", "sty")},
            **force,
            **{key: status[key] for key in ("left", "es", "la")},
        }

    def result(self, n: int) -> dict[str, int | str]:
        it = self.memory.outcome(n) or Outcome("NONE", 0)
        return {"n": n, "out": it.out, "z": it.z, "peak": it.peak, "pulses": it.pulses, "stroke": it.stroke}

    def ledger(self) -> dict[str, int | str]:
        now = self.memory.now
        self._need_ledger()
        return {
            "p": now.procedure,
            "ld": now.loaded,
            "im": now.implanted,
            "lf": now.left,
            "wa": now.wasted,
            "db": now.in_doubt,
            "sk": now.strokes,
            "pu": now.pulses,
            "k": now.cartridges,
        }

    # -- commands -------------------------------------------------------------------------------------

    def home(self, axis: str) -> None:
        self._refuse("ESTOP", "BUSY")
        self._state, self._homing = "HOMING", axis
        if axis == "z":
            self._homed &= ~1
            self._motion_ends_ns = self._mechanics.drive_z(0, HOMING_UM_S, self._now_ns)
        else:
            self._homed &= ~2
            self._mechanics.draw_stylet_home(self._now_ns)
            self._motion_ends_ns = self._mechanics.stylet_ends_ns()

    def move(self, z: int, v: int) -> None:
        self._refuse("ESTOP", "BUSY")
        if self._homed != 3:
            raise RefusedError("HOME")
        in_range = 0 <= z <= TRAVEL_UM and SPEEDS_UM_S[0] <= v <= SPEEDS_UM_S[1]
        if not in_range or not self._is_stylet_home():
            raise RefusedError("RANGE")
        self._state = "MOVING"
        self._motion_ends_ns = self._mechanics.drive_z(z, v, self._now_ns)

    def begin(self, procedure: str) -> int:
        """0, or 1 when this ledger was begun before (also when it has ended: it never starts anew)."""
        self._refuse()
        if procedure == self.memory.now.procedure:
            return 1
        if self.memory.now.is_open:
            raise RefusedError("OPEN")
        self.memory.begin(procedure)
        return 0

    def cartridge(self, number: int, seeds: int, taken_out: int) -> None:
        self._refuse("BUSY")
        self._need_ledger()
        now = self.memory.now
        if not self._is_seated or not now.has_opened:
            raise RefusedError("SEAT")
        if number != now.cartridges + 1 or taken_out != now.left:
            raise RefusedError("COUNT", left=now.left)
        if not 1 <= seeds <= self._identity.capacity:
            raise RefusedError("RANGE")
        self.memory.load_cartridge(number, seeds, taken_out)

    def arm(self, n: int, z: int, token: str) -> int:
        """Where the encoder stands."""
        self._refuse("ESTOP", "BUSY", is_armed_busy=False)
        self._check_seed(n, z)
        self._state, self._armed = "ARMED", _Armed(n, z, token, self._now_ns)
        return self._mechanics.encoder_um(self._now_ns)

    def fire(self, n: int, token: str) -> str | None:
        """None: the plunger starts. Otherwise the stored outcome of a seed that was intended before."""
        if 1 <= n <= self.memory.now.counter:
            return str(self.result(n)["out"])
        self._refuse("ESTOP", "BUSY", is_armed_busy=False)
        armed = self._armed
        if armed is None or (armed.n, armed.token) != (n, token) or self._now_ns > armed.at_ns + TOKEN_NS:
            raise RefusedError("TOKEN")
        self._check_seed(n, armed.z)
        self.memory.intend(n, self._mechanics.encoder_um(self._now_ns))
        self._state, self._armed, self._is_coming_home = "FIRING", None, False
        self._was_unheard = False
        self._mechanics.start_stroke(self._now_ns)
        self._motion_ends_ns = self._mechanics.stylet_ends_ns()
        return None

    def disarm(self) -> None:
        if self._state == "ARMED":
            self._state, self._armed = "IDLE", None

    def clear(self, latch: str, n: int, verdict: str) -> None:
        if self._is_estop_open:
            raise RefusedError("ESTOP")
        about_a_seed = self.memory.now.latch != "NONE"
        if (latch, n) != (self.latch, self.memory.now.latch_n) or about_a_seed == (verdict == "NO"):
            raise RefusedError("COUNT")
        if about_a_seed:
            self.memory.clear_seed_latch(verdict)  # what lies beneath, a stop perhaps, is looked at by itself
        else:
            self._volatile_latch = "NONE"

    def end(self, taken_out: int) -> None:
        self._refuse()
        self._need_ledger()
        now = self.memory.now
        accounted = now.implanted + now.left + now.wasted
        if taken_out != now.left or now.in_doubt or now.loaded != accounted:
            raise RefusedError("COUNT")
        self.memory.end()

    # -- stops ----------------------------------------------------------------------------------------

    def new_session(self) -> None:
        """Another host: motion stops and nothing is latched; a stroke past its intent is finished."""
        self.disarm()
        if self._state in ("MOVING", "HOMING"):
            self._mechanics.halt(self._now_ns)
            self._state = "IDLE"

    def stop(self, by: str, latch: str) -> None:
        """All motion ends now, also a stroke."""
        self._mechanics.halt(self._now_ns)
        was, self._state, self._armed = self._state, "IDLE", None
        self._was_unheard = False
        if was == "FIRING":
            self._conclude("UNKNOWN")
        self._stopped(by, latch)
        if was == "FIRING":
            self._tell_shot()

    # -- time -----------------------------------------------------------------------------------------

    def next_wake(self) -> int | None:
        """When the board next has something to do; may lie in the past when a switch has changed."""
        mechanics = self._mechanics
        if (mechanics.is_seated, mechanics.is_estop_open) != (self._is_seated, self._is_estop_open):
            return self._now_ns
        due = []
        if self._state in _IN_MOTION:
            due.append(self._motion_ends_ns)
        if self._is_z_moving():
            due.append(self._checked_ns + CONTROL_NS)
        if self._state != "IDLE" and not self._was_unheard:
            due.append(self.heard_ns + WATCHDOG_NS)
        if self._armed is not None:
            due.append(self._armed.at_ns + TOKEN_NS + 1)
        stroke_ns = mechanics.next_event_ns()
        return min([*due, stroke_ns] if stroke_ns is not None else due, default=None)

    def step(self, now_ns: int) -> None:
        """Do what is due at ``now_ns``."""
        self._now_ns = max(self._now_ns, now_ns)
        self._mechanics.advance(now_ns)
        self._read_switches()
        if self._is_z_moving():
            self._checked_ns = now_ns
            error_um = self._mechanics.commanded_um(now_ns) - self._mechanics.encoder_um(now_ns)
            if abs(error_um) > FOLLOWING_UM:
                self.stop("AXIS", "AXIS")
        silent = now_ns >= self.heard_ns + WATCHDOG_NS
        if silent and self._state == "FIRING":
            self._was_unheard = True  # the stroke is finished first, whoever comes back meanwhile
        if self._state in _IN_MOTION and now_ns >= self._motion_ends_ns:
            self._finish_motion()
        if silent and self._state in ("ARMED", "MOVING", "HOMING"):
            self.stop("WATCH", "WATCH")
        if self._armed is not None and now_ns > self._armed.at_ns + TOKEN_NS:
            self.events.append(("DISARMED", {"n": self._armed.n}))
            self.disarm()

    # -- inner workings -------------------------------------------------------------------------------

    def _refuse(self, *listed: str, is_armed_busy: bool = True) -> None:
        """ESTOP, LATCH and BUSY come before all else, in this order."""
        if "ESTOP" in listed and self._is_estop_open:
            raise RefusedError("ESTOP")
        if self.latch != "NONE":
            raise RefusedError("LATCH", la=self.latch)
        if "BUSY" in listed and (self._state in _IN_MOTION or (is_armed_busy and self._state == "ARMED")):
            raise RefusedError("BUSY")

    def _need_ledger(self) -> None:
        if not self.memory.now.is_open:
            raise RefusedError("NEW")

    def _check_seed(self, n: int, z: int) -> None:
        now, encoder_um = self.memory.now, self._mechanics.encoder_um(self._now_ns)
        self._need_ledger()
        if self._homed != 3 or not self._is_stylet_home():
            raise RefusedError("HOME")
        if not self._is_seated or now.has_opened:
            raise RefusedError("SEAT")
        if now.left < 1:
            raise RefusedError("EMPTY")
        if n != now.counter + 1:
            raise RefusedError("COUNT", n=now.counter)
        if abs(encoder_um - z) > PLACE_UM:
            raise RefusedError("PLACE", z=encoder_um)

    def _is_stylet_home(self) -> bool:
        return self._mechanics.stylet_um(self._now_ns) <= STROKE_SLACK_UM

    def _is_z_moving(self) -> bool:
        return self._state == "MOVING" or (self._state == "HOMING" and self._homing == "z")

    def _read_switches(self) -> None:
        mechanics = self._mechanics
        if mechanics.is_seated != self._is_seated:
            self._is_seated = mechanics.is_seated
            if not self._is_seated:
                self.memory.note_open_switch()
            self.events.append(("SEAT", {"seat": int(self._is_seated)}))
        if mechanics.is_estop_open != self._is_estop_open:
            self._is_estop_open = mechanics.is_estop_open
            self.events.append(("ESTOP", {"es": int(self._is_estop_open)}))
            if self._is_estop_open:
                self.stop("ESTOP", "ESTOP")

    def _finish_motion(self) -> None:
        if self._state == "MOVING":
            self._state = "IDLE"
            self.events.append(("MOVED", {"z": self._mechanics.encoder_um(self._now_ns)}))
        elif self._state == "HOMING":
            self._state = "IDLE"
            self._homed |= 1 if self._homing == "z" else 2
            self.events.append(("HOMED", {"ax": self._homing}))
        elif self._is_coming_home:
            self._finish_shot(self._judge())
        else:
            self._stroke_um = self._mechanics.stylet_um(self._now_ns)
            if self._judge() == "NOPASS":
                self._finish_shot("NOPASS")
            else:
                self._is_coming_home = True
                self._mechanics.draw_stylet_home(self._now_ns)
                self._motion_ends_ns = self._mechanics.stylet_ends_ns()

    def _judge(self) -> str:
        mechanics = self._mechanics
        if mechanics.pulses >= 2:
            return "DOUBLE"
        is_full = self._stroke_um >= FULL_STROKE_UM - STROKE_SLACK_UM
        has_pattern = SEED_FORCE_MN[0] <= mechanics.peak_mn <= SEED_FORCE_MN[1]
        return "PASS" if is_full and mechanics.pulses == 1 and has_pattern else "NOPASS"

    def _finish_shot(self, out: str) -> None:
        self._state = "IDLE"
        self._conclude(out)
        self._tell_shot()
        if self._was_unheard:
            self._was_unheard = False
            self._stopped("WATCH", "WATCH")

    def _conclude(self, out: str) -> None:
        mechanics, n = self._mechanics, self.memory.now.counter
        intent = self.memory.outcome(n)
        assert intent is not None, "a stroke without its intent"
        stylet_um = mechanics.stylet_um(self._now_ns)
        stroke_um = self._stroke_um if self._is_coming_home or out != "UNKNOWN" else stylet_um
        self.memory.conclude(Outcome(out, intent.z, mechanics.peak_mn, mechanics.pulses, stroke_um))
        if out == "UNKNOWN" or not self._is_stylet_home():
            self._homed &= ~2  # it did not come home by itself: where it stands is in doubt

    def _tell_shot(self) -> None:
        result = self.result(self.memory.now.counter)
        self.events.append(("SHOT", {key: result[key] for key in ("n", "out", "peak", "pulses", "stroke")}))

    def _stopped(self, by: str, latch: str) -> None:
        if self._volatile_latch == "NONE":  # beneath a seed's latch, if there is one
            self._volatile_latch = latch
        self.events.append(("STOPPED", {"z": self._mechanics.encoder_um(self._now_ns), "by": by}))
