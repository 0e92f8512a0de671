"""The part of an applicator's self-test that moves the carriage: homing, travel, steps, ranges, at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.applicator_language import Connect, HomeRetraction, HomeStylet, MoveNeedleTo
from drivers.bench_check import Broken
from drivers.bench_check_applicator_words import FIRMWARE, FOLLOW, told_of
from drivers.vocabulary import refusal_in_words

if TYPE_CHECKING:
    from drivers.bench_check_applicator import ApplicatorCheck

TRAVEL_UM = 150_000
FAST_UM_S = 20_000
STEP_UM = 5_000
HOMINGS = 3


class MotionCheck:
    """Checks that belong to an ``ApplicatorCheck``, with its bench and its driver."""

    def __init__(self, check: ApplicatorCheck) -> None:
        self._check, self._bench = check, check.bench

    def homing(self) -> None:
        self._check.must("homing", HomeStylet())
        began_ns = self._bench.now_ns()
        done = self._check.must("homing", HomeRetraction())
        took_s = (self._bench.now_ns() - began_ns) / 1e9
        words = f"stylet at {done.state.stylet_um} um, carriage home in {took_s:.1f} s"
        self._bench.measure("homing", abs(done.state.z_um) / 1000, 0.1, "mm", FOLLOW, words=words)

    def repeatability(self) -> None:
        places_um = []
        for i in range(HOMINGS):
            self._check.must("homing repeatability", MoveNeedleTo(10_000 + 5_000 * i, FAST_UM_S))
            places_um.append(self._check.must("homing repeatability", HomeRetraction()).state.z_um)
        spread_mm = (max(places_um) - min(places_um)) / 1000
        self._bench.measure(
            "homing repeatability",
            spread_mm,
            0.05,
            "mm",
            "The home switch trips at different places: clean and fasten it; check the encoder's coupling.",
            digits=3,
            words=f"encoder after {HOMINGS} homings: {', '.join(map(str, places_um))} um",
        )

    def travel(self) -> None:
        began_ns = self._bench.now_ns()
        far = self._check.must("travel", MoveNeedleTo(TRAVEL_UM, FAST_UM_S)).state.z_um
        took_s = (self._bench.now_ns() - began_ns) / 1e9
        near = self._check.must("travel", MoveNeedleTo(0, FAST_UM_S)).state.z_um
        error_mm = max(abs(far - TRAVEL_UM), abs(near)) / 1000
        self._bench.measure(
            "travel",
            error_mm,
            0.1,
            "mm",
            FOLLOW,
            words=f"0 to {far / 1000:.3f} mm and back to {near / 1000:.3f}",
        )
        self._bench.measure(
            "speed over the travel",
            TRAVEL_UM / 1000 / took_s,
            20.5,
            "mm/s",
            "Check the motor's supply and the firmware's speed scale; a slow carriage may be stiff.",
            least=17.0,
            digits=1,
        )

    def steps(self) -> None:
        targets_um = [*range(0, 50_001, STEP_UM), *range(45_000, -1, -STEP_UM)]
        errors_um: dict[int, list[int]] = {}
        for target_um in targets_um:
            done = self._check.must("step accuracy", MoveNeedleTo(target_um, STEP_UM))
            errors_um.setdefault(target_um, []).append(done.state.z_um - target_um)
        worst_mm = max(abs(error) for both in errors_um.values() for error in both) / 1000
        lag_mm = max(abs(both[0] - both[-1]) for both in errors_um.values()) / 1000
        remedy = FOLLOW + " A figure that grows with the way is a wrong scale."
        words = f"{len(targets_um)} steps of 5 mm at 5 mm/s, out and back, by the encoder"
        self._bench.measure("step accuracy", worst_mm, 0.1, "mm", remedy, digits=3, words=words)
        self._bench.measure(
            "out against back", lag_mm, 0.1, "mm", "Slack: tighten the nut on the lead screw.", digits=3
        )

    def range(self) -> None:
        wire = self._check.talk()
        before = wire.ask("STAT").values
        replies = [
            wire.ask("MOVE", z=z, v=v) for z, v in ((TRAVEL_UM + 1, 5_000), (1_000, 20_001), (1_000, 99))
        ]
        self._bench.rest(200)
        after = wire.ask("STAT").values
        wrong = [told_of(reply) for reply in replies if reply.values.get("code") != "RANGE"]
        if before["z"] != after["z"] or after["st"] != "IDLE":
            wrong.append(f"it moved from {before['z']} to {after['z']} um")
            wire.stop()
        self._bench.require(
            "range refused",
            not wrong,
            "; ".join(wrong) or "beyond travel, too fast, too slow: ERR RANGE",
            FIRMWARE,
        )

    def same_again(self) -> None:
        wire = self._check.talk()
        wrong = []
        for name, pairs, event, way in (
            ("HOME", {"ax": "s"}, "HOMED", "stylet homing"),
            ("MOVE", {"z": 2_000, "v": FAST_UM_S}, "MOVED", "motion to 2 mm"),
        ):
            mark = len(wire.heard)
            first = wire.ask(name, **pairs)
            if first.name == "ERR":
                raise Broken(f"{name} was refused: {refusal_in_words(first.values['code'], {})}")
            if wire.wait_event(mark, event, 2_000) is None:
                raise Broken(f"the {way} did not end")
            if wire.again() != first:
                wrong.append(f"the {way} again got another reply than the stored one")
            self._bench.rest(600)
            if wire.count(mark, event) != 1:
                wrong.append(f"the {way} was done {wire.count(mark, event)} times")
        self._bench.require(
            "same motion again: no action",
            not wrong,
            "; ".join(wrong) or "HOME and MOVE sent twice: stored reply, done once",
            FIRMWARE,
        )

    def lost_reply(self) -> None:
        self._check.do(Connect())
        tap = self._bench.tap
        mark = len(tap.sent)
        tap.swallow(lambda line: line.startswith(b"<") and b":MOVE " in line)
        done = self._check.must("lost reply and resend", MoveNeedleTo(6_000, FAST_UM_S))
        lines = [line for line in bytes(tap.sent[mark:]).split(b"\n") if b":MOVE " in line]
        self._bench.require(
            "lost reply and resend",
            bool(tap.swallowed) and len(lines) >= 2 and len(set(lines)) == 1,
            f"the reply to MOVE was lost once: the same line was sent {len(lines)} times, done once, "
            f"at {done.state.z_um} um",
            FIRMWARE,
        )
