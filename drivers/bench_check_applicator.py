"""The self-test of an applicator: identity, motion, stop, watchdog, at most once; seeds only when asked for.

Knows: what is measured, against which limit, and what to do on failure. Does not know: ports, clocks, the screen.
Every limit is an *assumed* value of engineering, not a clinical one. WIRE.md part 1 says what the device promises.

Nothing moves before the person has agreed; no FIRE is sent that could push a seed unless ``with_seeds``. What a check
latches by design is cleared with the person's word; what latches by itself is a finding and stays for the person.
"""

from __future__ import annotations

from statistics import median

from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import (
    ApplicatorCommand,
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorEvent,
    ApplicatorFailed,
    ApplicatorRefused,
    Connect,
    HomeRetraction,
    HomeStylet,
    MoveNeedleTo,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
from drivers.bench_check import MS, Bench, Broken
from drivers.bench_wire import Wire
from drivers.packet import Packet
from drivers.vocabulary import latch_in_words, refusal_in_words

TRAVEL_UM = 150_000
FAST_UM_S = 20_000
STEP_UM = 5_000
HOMINGS = 3
STOPS = 3
STOP_MS = 50.0
ROUND_TRIP_MS = 100.0
WATCHDOG_MS = (450.0, 650.0)
LONGEST_COMMAND_MS = 90_000.0
KNOWN_FIRMWARE = ("100",)
SEED_LATCHES = ("JAM", "DOUBLE", "UNKNOWN")

_ENDS = (
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorRefused,
    ApplicatorFailed,
    SeedOutcome,
    SeedNotFired,
    SeedInDoubt,
)
_CABLE = "Check plug, cable (shield, length) and the adapter's driver; keep it away from motor leads."
_FOLLOW = (
    "The carriage did not follow its motor: lost steps. Look for a thing in the way, a loose coupling, a dry or bent "
    "lead screw; check the motor's current and the encoder; then test again."
)
_FIRMWARE = "The firmware does not keep drivers/WIRE.md; do not use this device, load a firmware that does."


class ApplicatorCheck:
    """One run over one applicator.

    Args:
        bench: with the line open.
        config: what the device must be.
        session_id: four upper-case hex digits, new for each run.
        identity: ``SG-MICK/1042`` when only that one will do.
        with_seeds: the person has agreed that seeds (or dummies) are pushed into a dish.
    """

    def __init__(
        self,
        bench: Bench,
        config: ApplicatorConfig,
        session_id: str,
        *,
        identity: str | None = None,
        with_seeds: bool = False,
    ) -> None:
        self.bench, self.config, self.with_seeds, self.identity = bench, config, with_seeds, identity
        self.driver = ApplicatorDriver(config, session_id)
        self.wire = Wire(bench, (int(session_id, 16) + 0x8000) % 0x10000)
        self.session_id = session_id
        self.has_ledger = False
        self.may_move = False
        self._by_design: set[str] = set()

    def run(self) -> None:
        """All checks; the findings are the bench's. The device is left stopped and disarmed whatever happens."""
        from drivers.bench_check_seeds import SeedCheck  # it needs this class

        seeds = SeedCheck(self)
        self.bench.run(
            [
                ("identity", self._identity),
                ("state at the beginning", self._beginning),
                ("answer time", self._answer_time),
                ("numbers: at most once", self._numbers),
                ("homing", self._homing),
                ("homing repeatability", self._repeatability),
                ("travel", self._travel),
                ("step accuracy", self._steps),
                ("range refused", self._range),
                ("same motion again: no action", self._same_again),
                ("lost reply and resend", self._lost_reply),
                ("stop latency", self._stop),
                ("stop in mid-line", self._stop_in_mid_line),
                ("watchdog", self._watchdog),
                ("counted seed fired again", seeds.counted_again),
                ("cartridge switch", seeds.cartridge_switch),
                ("e-stop loop", seeds.estop_loop),
                ("seeds", seeds.seeds),
            ]
        )
        self.bench.run([("left stopped and disarmed", self._leave), ("line quality", self._line_quality)])

    # ------------------------------------------------------------ who it is

    def _identity(self) -> None:
        hello = self.wire.open()
        if hello is None or hello.name != "HELLO":
            self.bench.failed(
                "identity",
                "nobody answers HELLO of version 1" if hello is None else "HELLO was refused",
                "Is it switched on, and is this its port? A device with another wire version needs its own driver.",
            )
            raise Broken("no session with the device")
        values = hello.values
        name = f"{values['id']}/{values['sn']}"
        words = f"{name}{', simulated' if values['sim'] == '1' else ''}, boot {hello.boot}"
        wanted = "" if self.identity is None else f"; {self.identity} was demanded"
        right = self.bench.require(
            "identity",
            self.identity in (None, name),
            words + wanted,
            "It is another device: connect the demanded one, or say which is meant.",
        )
        right &= self.bench.require(
            "firmware",
            values["fw"] in KNOWN_FIRMWARE and values["v"] == "1",
            f"firmware {values['fw']}, wire version {values['v']}; known: {', '.join(KNOWN_FIRMWARE)} with version 1",
            "Load a firmware that is known to the driver, or extend the driver's list once it has passed its tests.",
        )
        differing = [
            f"{what} is {values[key]}, the configuration demands {demanded}"
            for key, what, demanded in (
                ("cap", "cartridge capacity", self.config.capacity),
                ("det", "spacing detent (um)", self.config.detent_um),
                ("ga", "needle gauge", self.config.gauge),
            )
            if int(values[key]) != demanded
        ]
        right &= self.bench.require(
            "settings",
            not differing,
            "; ".join(differing)
            or f"capacity {values['cap']}, detent {values['det']} um, gauge {values['ga']}",
            "Which is right, device or configuration? A wrong capacity or gauge delivers wrongly: set it right.",
        )
        if not right:
            raise Broken("it is not the device that the configuration demands")

    def _beginning(self) -> None:
        stat = self.wire.ask("STAT").values
        if stat["es"] == "1":
            self.bench.failed(
                "state at the beginning",
                "the e-stop loop is open",
                "Release the emergency stop (or mend its loop); then test again.",
            )
            raise Broken("the e-stop loop is open")
        if stat["la"] in SEED_LATCHES:
            self.bench.failed(
                "state at the beginning",
                latch_in_words(stat["la"], int(stat["ln"])),
                "A seed is unaccounted for: look, count, and clear it in its procedure before anything is tested.",
            )
            raise Broken(f"latched {stat['la']}")
        ledger = self.wire.ask("LEDGER")
        self.has_ledger = ledger.name == "LEDGER"
        of = f" The ledger of procedure {ledger.values['p']} is open." if self.has_ledger else ""
        self.bench.may(
            f"The applicator's carriage will travel its whole {TRAVEL_UM // 1000} mm and the stylet will be drawn home."
            f"{of} Is no needle coupled, nobody's hand near, and nothing in its way?"
        )
        self.may_move = True
        if stat["la"] != "NONE":
            self.bench.may(
                f"It is latched: {latch_in_words(stat['la'], 0)}. Have you looked, and may it be cleared?"
            )
            self._clear(stat["la"])
        self.bench.passed(
            "state at the beginning",
            f"{stat['st']}, cartridge {'seated' if stat['seat'] == '1' else 'not seated'}, {stat['n']} seeds counted",
        )

    # ------------------------------------------------------------ the wire

    def _answer_time(self) -> None:
        taken_ms = []
        lost = 0
        for _ in range(50):
            self.wire.number += 1
            mark, began_ns = len(self.wire.heard), self.bench.now_ns()
            line = self.wire.line("PING")
            if self.wire.exchange(line, self.wire.number) is None:
                lost += 1
                if self.wire.exchange(line, self.wire.number) is None:
                    self.wire.open()
                continue
            taken_ms.append((self.wire.heard[mark][0] - began_ns) / MS)
        words = f"{len(taken_ms)} of 50 answered, half of them within {median(taken_ms or [0]):.1f} ms"
        self.bench.measure(
            "answer time", max(taken_ms, default=999.0), ROUND_TRIP_MS, "ms", _CABLE, digits=1, words=words
        )
        if not self.bench.measure("answers lost", lost, 0, "of 50", _CABLE, digits=0):
            raise Broken("the line loses answers")  # nothing moves on it, and it isn't the device's fault

    def _numbers(self) -> None:
        wire, wrong = self.wire, []

        def expect(what: str, reply: Packet | None, code: str, **extra: str) -> None:
            values = {} if reply is None else reply.values
            if reply is None or reply.name != "ERR" or not ({"code": code} | extra).items() <= values.items():
                wrong.append(f"{what} was answered {_told(reply)}, not ERR code={code}")

        first = wire.ask("STAT")
        if wire.again() != first:
            wrong.append("the same line again got another reply than the stored one")
        expect("the same number with another content", wire.exchange(wire.line("PING"), wire.number), "SEQ")
        ahead = wire.number + 2
        reply = wire.exchange(wire.line("PING", number=ahead), ahead)
        expect("a gap in the numbers", reply, "GAP", want=str(wire.number + 1))
        other = f"{(int(wire.boot, 16) % 0xFFFF) + 1:04X}"
        ahead = wire.number + 1
        expect("another boot", wire.exchange(wire.line("PING", number=ahead, boot=other), ahead), "BOOT")
        spoilt = wire.line("PING", number=ahead)
        spoilt = spoilt[:-2] + (b"0" if spoilt[-2:-1] != b"0" else b"1") + b"\n"
        if wire.exchange(spoilt, ahead, 150) is not None:
            wrong.append("a line with a wrong checksum was answered")
        if wire.ask("PING").name != "PING":
            wrong.append("after these the session did not go on with the next number")
        self.bench.require(
            "numbers: at most once",
            not wrong,
            "; ".join(wrong) or "stored reply bit for bit; SEQ, GAP, BOOT refused; a wrong checksum ignored",
            _CABLE if self.wire.garbage else _FIRMWARE,
        )

    # ------------------------------------------------------------ motion, by the driver

    def do(self, command: ApplicatorCommand) -> ApplicatorEvent:
        """Carry out one command by the driver; its last event. Broken when it does not end."""
        bench, driver = self.bench, self.driver
        if bench.tap.speaker is not driver or (not driver.state.linked and not isinstance(command, Connect)):
            bench.tap.speaker = driver
            if not isinstance(command, Connect):
                connected = self.do(Connect())
                if not isinstance(connected, ApplicatorConnected):
                    raise Broken(_sentence(connected))
        driver.events()
        driver.start(command, bench.now_ns())
        bench.until(lambda: not driver.is_busy, LONGEST_COMMAND_MS)
        ends = [event for event in driver.events() if isinstance(event, _ENDS)]
        if not ends:
            raise Broken(f"{type(command).__name__} does not end")
        return ends[-1]

    def must(self, check: str, command: ApplicatorCommand) -> ApplicatorDone:
        """As ``do``, but anything else than done is a failure of ``check``, and Broken."""
        end = self.do(command)
        if isinstance(end, ApplicatorDone):
            return end
        self.bench.rest(300)
        latch = self.driver.state.latch
        words = _sentence(end)
        if latch != "NONE":
            words += f"; latched {latch}: {latch_in_words(latch, self.driver.state.latch_seed)}"
        if self.wire.garbage + self.driver.garbage or not self.driver.state.linked:
            remedy = _CABLE
        elif latch == "AXIS" or isinstance(end, ApplicatorFailed):
            remedy = _FOLLOW
        else:
            remedy = "The device refused it: see its words; clear what is in the way, then test again."
        self.bench.failed(check, words, remedy)
        raise Broken(words)

    def _homing(self) -> None:
        self.must("homing", HomeStylet())
        began_ns = self.bench.now_ns()
        done = self.must("homing", HomeRetraction())
        took_s = (self.bench.now_ns() - began_ns) / 1e9
        words = f"stylet at {done.state.stylet_um} um, carriage home in {took_s:.1f} s"
        self.bench.measure("homing", abs(done.state.z_um) / 1000, 0.1, "mm", _FOLLOW, words=words)

    def _repeatability(self) -> None:
        places_um = []
        for i in range(HOMINGS):
            self.must("homing repeatability", MoveNeedleTo(10_000 + 5_000 * i, FAST_UM_S))
            places_um.append(self.must("homing repeatability", HomeRetraction()).state.z_um)
        spread_mm = (max(places_um) - min(places_um)) / 1000
        self.bench.measure(
            "homing repeatability",
            spread_mm,
            0.05,
            "mm",
            "The home switch trips at different places: clean and fasten it; check the encoder's coupling.",
            digits=3,
            words=f"encoder after {HOMINGS} homings: {', '.join(map(str, places_um))} um",
        )

    def _travel(self) -> None:
        began_ns = self.bench.now_ns()
        far = self.must("travel", MoveNeedleTo(TRAVEL_UM, FAST_UM_S)).state.z_um
        took_s = (self.bench.now_ns() - began_ns) / 1e9
        near = self.must("travel", MoveNeedleTo(0, FAST_UM_S)).state.z_um
        error_mm = max(abs(far - TRAVEL_UM), abs(near)) / 1000
        self.bench.measure(
            "travel",
            error_mm,
            0.1,
            "mm",
            _FOLLOW,
            words=f"0 to {far / 1000:.3f} mm and back to {near / 1000:.3f}",
        )
        self.bench.measure(
            "speed over the travel",
            TRAVEL_UM / 1000 / took_s,
            20.5,
            "mm/s",
            "Check the motor's supply and the firmware's speed scale; a slow carriage may be stiff.",
            least=17.0,
            digits=1,
        )

    def _steps(self) -> None:
        targets_um = [*range(0, 50_001, STEP_UM), *range(45_000, -1, -STEP_UM)]
        errors_um: dict[int, list[int]] = {}
        for target_um in targets_um:
            done = self.must("step accuracy", MoveNeedleTo(target_um, STEP_UM))
            errors_um.setdefault(target_um, []).append(done.state.z_um - target_um)
        worst_mm = max(abs(error) for both in errors_um.values() for error in both) / 1000
        lag_mm = max(abs(both[0] - both[-1]) for both in errors_um.values()) / 1000
        remedy = _FOLLOW + " A figure that grows with the way is a wrong scale."
        words = f"{len(targets_um)} steps of 5 mm at 5 mm/s, out and back, by the encoder"
        self.bench.measure("step accuracy", worst_mm, 0.1, "mm", remedy, digits=3, words=words)
        self.bench.measure(
            "out against back", lag_mm, 0.1, "mm", "Slack: tighten the nut on the lead screw.", digits=3
        )

    # ------------------------------------------------------------ motion, without a driver

    def talk(self) -> Wire:
        """A session of its own. Broken when nobody answers."""
        if self.bench.tap.speaker is not self.wire and self.wire.open() is None:
            raise Broken("nobody answers HELLO")
        return self.wire

    def clear_by_design(self, latch: str, question: str) -> None:
        """Clear what a check has latched on purpose, with the person's word (asked once a kind)."""
        if latch not in self._by_design:
            self.bench.may(question)
            self._by_design.add(latch)
        self._clear(latch)

    def _clear(self, latch: str) -> None:
        reply = self.talk().ask("CLEAR", la=latch, n=0, **{"as": "NO"})
        if reply.name == "ERR":
            raise Broken(f"the latch {latch} can't be cleared: {_told(reply)}")

    def _range(self) -> None:
        wire = self.talk()
        before = wire.ask("STAT").values
        replies = [
            wire.ask("MOVE", z=z, v=v) for z, v in ((TRAVEL_UM + 1, 5_000), (1_000, 20_001), (1_000, 99))
        ]
        self.bench.rest(200)
        after = wire.ask("STAT").values
        wrong = [_told(reply) for reply in replies if reply.values.get("code") != "RANGE"]
        if before["z"] != after["z"] or after["st"] != "IDLE":
            wrong.append(f"it moved from {before['z']} to {after['z']} um")
            wire.stop()
        self.bench.require(
            "range refused",
            not wrong,
            "; ".join(wrong) or "beyond travel, too fast, too slow: ERR RANGE",
            _FIRMWARE,
        )

    def _same_again(self) -> None:
        wire = self.talk()
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
            self.bench.rest(600)
            if wire.count(mark, event) != 1:
                wrong.append(f"the {way} was done {wire.count(mark, event)} times")
        self.bench.require(
            "same motion again: no action",
            not wrong,
            "; ".join(wrong) or "HOME and MOVE sent twice: stored reply, done once",
            _FIRMWARE,
        )

    def _lost_reply(self) -> None:
        self.do(Connect())
        tap = self.bench.tap
        mark = len(tap.sent)
        tap.swallow(lambda line: line.startswith(b"<") and b":MOVE " in line)
        done = self.must("lost reply and resend", MoveNeedleTo(6_000, FAST_UM_S))
        lines = [line for line in bytes(tap.sent[mark:]).split(b"\n") if b":MOVE " in line]
        self.bench.require(
            "lost reply and resend",
            bool(tap.swallowed) and len(lines) >= 2 and len(set(lines)) == 1,
            f"the reply to MOVE was lost once: the same line was sent {len(lines)} times, done once, "
            f"at {done.state.z_um} um",
            _FIRMWARE,
        )

    # ------------------------------------------------------------ stops

    def _under_way(self, check: str, target_um: int, speed_um_s: int) -> None:
        """Set it moving, with pings, for half a second."""
        wire = self.talk()
        reply = wire.ask("MOVE", z=target_um, v=speed_um_s)
        if reply.name == "ERR":
            raise Broken(f"{check}: MOVE was refused: {_told(reply)}")
        wire.pinging = True
        self.bench.rest(500)
        wire.pinging = False

    def _stop(self) -> None:
        wire = self.talk()
        latencies_ms, creeps_mm = [], []
        for i in range(STOPS):
            self._under_way("stop latency", 100_000 if i % 2 == 0 else 0, FAST_UM_S)
            mark = len(wire.heard)
            said_ns = wire.stop()
            heard = wire.wait_event(mark, "STOPPED", 1_000, by="HOST")
            stood_um = None if heard is None else heard[1].integer("z")
            self.bench.rest(300)
            after = wire.ask("STAT").values
            if heard is None or stood_um is None:
                for _ in range(3):
                    wire.stop()
                    self.bench.rest(100)
                self.bench.failed(
                    "stop latency",
                    f"the stop byte was not acknowledged within 1 s; the device says {after['st']} at {after['z']} um",
                    "STOP DOES NOT WORK: switch it off by the e-stop; do not use this device.",
                )
                raise Broken("the stop byte is not obeyed")
            latencies_ms.append((heard[0] - said_ns) / MS)
            creeps_mm.append(abs(int(after["z"]) - stood_um) / 1000)
            if after["la"] != "STOP":
                raise Broken(f"after a stop it must be latched STOP; it says {after['la']}")
            self.clear_by_design(
                "STOP",
                "The stop tests latch STOP on purpose. Does the carriage stand still? May it be cleared each time?",
            )
        self.bench.measure(
            "stop latency",
            max(latencies_ms),
            STOP_MS,
            "ms",
            "Stop byte to STOPPED took too long: " + _CABLE + " An adapter's latency timer belongs at 1 ms.",
            digits=1,
            words=f"{STOPS} stops at 20 mm/s, from the stop byte to the device's word",
        )
        self.bench.measure(
            "standing after the stop",
            max(creeps_mm),
            0.1,
            "mm",
            "It moved on after it had said STOPPED: the motor has no holding current, or the firmware lies.",
            digits=3,
        )

    def _stop_in_mid_line(self) -> None:
        wire = self.talk()
        self._under_way("stop in mid-line", 100_000, 5_000)
        mark = len(wire.heard)
        wire.say(wire.line("PING", number=wire.number + 1)[:9])
        self.bench.rest(20)
        wire.stop()
        heard = wire.wait_event(mark, "STOPPED", 1_000, by="HOST")
        self.bench.rest(100)
        goes_on = wire.ask("PING").name == "PING"
        self.bench.require(
            "stop in mid-line",
            heard is not None and goes_on,
            "obeyed in the middle of a line, and the session went on"
            if heard
            else "the stop byte was taken as text",
            _FIRMWARE,
        )
        if heard is None:
            wire.stop()
            raise Broken("the stop byte is not obeyed in the middle of a line")
        self.clear_by_design("STOP", "The device is latched STOP on purpose. May it be cleared?")

    def _watchdog(self) -> None:
        wire = self.talk()
        self._under_way("watchdog", 0 if int(wire.ask("STAT").values["z"]) > 60_000 else 100_000, 2_000)
        mark = len(wire.heard)
        wire.ask("PING")
        silent_ns = wire.said_ns
        heard = wire.wait_event(mark, "STOPPED", 3_000, by="WATCH")
        if heard is None:
            wire.stop()
            self.bench.rest(200)
            self.bench.failed(
                "watchdog",
                "the host was silent for 3 s and the carriage was not stopped (stopped now by the stop byte)",
                "WATCHDOG MISSING: a crashed host would leave the carriage running. " + _FIRMWARE,
            )
            stat = wire.ask("STAT").values
            if stat["la"] == "STOP":
                self.clear_by_design(
                    "STOP", "The device is latched STOP. Does it stand still, and may it be cleared?"
                )
            return
        stood_um = heard[1].integer("z")
        self.bench.rest(300)
        stat = wire.ask("STAT").values
        low_ms, high_ms = WATCHDOG_MS
        self.bench.measure(
            "watchdog",
            (heard[0] - silent_ns) / MS,
            high_ms,
            "ms",
            "It must stop after 500 ms of silence, not sooner (a lost ping would do) and not later. "
            + _FIRMWARE,
            least=low_ms,
            digits=0,
            words=f"silence in mid-motion: STOPPED by=WATCH, latch {stat['la']}",
        )
        self.bench.require(
            "watchdog holds, never retracts",
            stat["la"] == "WATCH" and abs(int(stat["z"]) - stood_um) <= self.config.place_tolerance_um,
            f"latch {stat['la']}, stopped at {stood_um} um and stands at {stat['z']} um",
            _FIRMWARE,
        )
        if stat["la"] != "NONE":
            self.clear_by_design(
                stat["la"],
                "The watchdog test latched WATCH on purpose. Does it stand still, and may it be cleared?",
            )

    # ------------------------------------------------------------ the end

    def _leave(self) -> None:
        """A new session stops and disarms; the carriage goes home if it may."""
        stat = self._last_look()
        if stat is None:
            self.bench.failed(
                "left stopped and disarmed",
                "it does not answer any more: its state is not known",
                "Look whether it moves; use the e-stop; switch it off and on; test again.",
            )
            return
        if stat["la"] == "NONE" and stat["hm"] == "3" and self.may_move:
            self.do(HomeRetraction())
            stat = self._last_look() or stat
        self.bench.require(
            "left stopped and disarmed",
            stat["st"] == "IDLE" or (stat["st"] == "LATCHED" and not self.may_move),
            f"{stat['st']} at {int(stat['z']) / 1000:.3f} mm, latch {stat['la']}"
            + ("" if self.may_move else "; it was not touched"),
            "It stays latched until a person has looked and cleared it: test again, or clear it in its procedure.",
        )

    def _last_look(self) -> dict[str, str] | None:
        """A new session, which stops and disarms, and the state then; asked again on a line that loses answers."""
        for _ in range(5):
            if self.wire.open() is not None:
                try:
                    return self.wire.ask("STAT").values
                except Broken:
                    continue
        return None

    def _line_quality(self) -> None:
        self.bench.measure(
            "line quality", self.wire.garbage + self.driver.garbage, 0, "spoilt lines", _CABLE, digits=0
        )


def _told(reply: Packet | None) -> str:
    if reply is None:
        return "by nothing"
    return " ".join([reply.name, *(f"{key}={value}" for key, value in reply.pairs)])


def _sentence(event: ApplicatorEvent) -> str:
    return str(getattr(event, "sentence", event))
