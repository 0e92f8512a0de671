"""The part of an applicator's self-test that stops it in motion: stop byte, stop in mid-line, watchdog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.bench_check import MS, Broken
from drivers.bench_check_applicator_motion import FAST_UM_S
from drivers.bench_check_applicator_words import CABLE, FIRMWARE, told_of

if TYPE_CHECKING:
    from drivers.bench_check_applicator import ApplicatorCheck

STOPS = 3
STOP_MS = 50.0
WATCHDOG_MS = (450.0, 650.0)


class StopCheck:
    """Checks that belong to an ``ApplicatorCheck``, with its bench and its wire."""

    def __init__(self, check: ApplicatorCheck) -> None:
        self._check, self._bench = check, check.bench

    def _under_way(self, check: str, target_um: int, speed_um_s: int) -> None:
        """Set it moving, with pings, for half a second."""
        wire = self._check.talk()
        reply = wire.ask("MOVE", z=target_um, v=speed_um_s)
        if reply.name == "ERR":
            raise Broken(f"{check}: MOVE was refused: {told_of(reply)}")
        wire.pinging = True
        self._bench.rest(500)
        wire.pinging = False

    def stop(self) -> None:
        wire = self._check.talk()
        latencies_ms, creeps_mm = [], []
        for i in range(STOPS):
            self._under_way("stop latency", 100_000 if i % 2 == 0 else 0, FAST_UM_S)
            mark = len(wire.heard)
            said_ns = wire.stop()
            heard = wire.wait_event(mark, "STOPPED", 1_000, by="HOST")
            stood_um = None if heard is None else heard[1].integer("z")
            self._bench.rest(300)
            after = wire.ask("STAT").values
            if heard is None or stood_um is None:
                for _ in range(3):
                    wire.stop()
                    self._bench.rest(100)
                self._bench.failed(
                    "stop latency",
                    f"the stop byte was not acknowledged within 1 s; the device says {after['st']} at {after['z']} um",
                    "STOP DOES NOT WORK: switch it off by the e-stop; do not use this device.",
                )
                raise Broken("the stop byte is not obeyed")
            latencies_ms.append((heard[0] - said_ns) / MS)
            creeps_mm.append(abs(int(after["z"]) - stood_um) / 1000)
            if after["la"] != "STOP":
                raise Broken(f"after a stop it must be latched STOP; it says {after['la']}")
            self._check.clear_by_design(
                "STOP",
                "The stop tests latch STOP on purpose. Does the carriage stand still? May it be cleared each time?",
            )
        self._bench.measure(
            "stop latency",
            max(latencies_ms),
            STOP_MS,
            "ms",
            "Stop byte to STOPPED took too long: " + CABLE + " An adapter's latency timer belongs at 1 ms.",
            digits=1,
            words=f"{STOPS} stops at 20 mm/s, from the stop byte to the device's word",
        )
        self._bench.measure(
            "standing after the stop",
            max(creeps_mm),
            0.1,
            "mm",
            "It moved on after it had said STOPPED: the motor has no holding current, or the firmware lies.",
            digits=3,
        )

    def stop_in_mid_line(self) -> None:
        wire = self._check.talk()
        self._under_way("stop in mid-line", 100_000, 5_000)
        mark = len(wire.heard)
        wire.say(wire.line("PING", number=wire.number + 1)[:9])
        self._bench.rest(20)
        wire.stop()
        heard = wire.wait_event(mark, "STOPPED", 1_000, by="HOST")
        self._bench.rest(100)
        goes_on = wire.ask("PING").name == "PING"
        self._bench.require(
            "stop in mid-line",
            heard is not None and goes_on,
            "obeyed in the middle of a line, and the session went on"
            if heard
            else "the stop byte was taken as text",
            FIRMWARE,
        )
        if heard is None:
            wire.stop()
            raise Broken("the stop byte is not obeyed in the middle of a line")
        self._check.clear_by_design("STOP", "The device is latched STOP on purpose. May it be cleared?")

    def watchdog(self) -> None:
        wire = self._check.talk()
        self._under_way("watchdog", 0 if int(wire.ask("STAT").values["z"]) > 60_000 else 100_000, 2_000)
        mark = len(wire.heard)
        wire.ask("PING")
        silent_ns = wire.said_ns
        heard = wire.wait_event(mark, "STOPPED", 3_000, by="WATCH")
        if heard is None:
            wire.stop()
            self._bench.rest(200)
            self._bench.failed(
                "watchdog",
                "the host was silent for 3 s and the carriage was not stopped (stopped now by the stop byte)",
                "WATCHDOG MISSING: a crashed host would leave the carriage running. " + FIRMWARE,
            )
            stat = wire.ask("STAT").values
            if stat["la"] == "STOP":
                self._check.clear_by_design(
                    "STOP", "The device is latched STOP. Does it stand still, and may it be cleared?"
                )
            return
        stood_um = heard[1].integer("z")
        self._bench.rest(300)
        stat = wire.ask("STAT").values
        low_ms, high_ms = WATCHDOG_MS
        self._bench.measure(
            "watchdog",
            (heard[0] - silent_ns) / MS,
            high_ms,
            "ms",
            "It must stop after 500 ms of silence, not sooner (a lost ping would do) and not later. "
            + FIRMWARE,
            least=low_ms,
            digits=0,
            words=f"silence in mid-motion: STOPPED by=WATCH, latch {stat['la']}",
        )
        self._bench.require(
            "watchdog holds, never retracts",
            stat["la"] == "WATCH" and abs(int(stat["z"]) - stood_um) <= self._check.config.place_tolerance_um,
            f"latch {stat['la']}, stopped at {stood_um} um and stands at {stat['z']} um",
            FIRMWARE,
        )
        if stat["la"] != "NONE":
            self._check.clear_by_design(
                stat["la"],
                "The watchdog test latched WATCH on purpose. Does it stand still, and may it be cleared?",
            )
