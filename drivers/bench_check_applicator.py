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
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
from drivers.bench_check import MS, Bench, Broken
from drivers.bench_check_applicator_motion import TRAVEL_UM, MotionCheck
from drivers.bench_check_applicator_seeds import SeedCheck
from drivers.bench_check_applicator_stop import StopCheck
from drivers.bench_check_applicator_words import CABLE, FIRMWARE, FOLLOW, told_of
from drivers.bench_wire import Wire
from drivers.packet import Packet
from drivers.vocabulary import latch_in_words

ROUND_TRIP_MS = 100.0
LONGEST_COMMAND_MS = 90_000.0
KNOWNFIRMWARE = ("100",)
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
        motion, stops, seeds = MotionCheck(self), StopCheck(self), SeedCheck(self)
        self.bench.run(
            [
                ("identity", self._identity),
                ("state at the beginning", self._beginning),
                ("answer time", self._answer_time),
                ("numbers: at most once", self._numbers),
                ("homing", motion.homing),
                ("homing repeatability", motion.repeatability),
                ("travel", motion.travel),
                ("step accuracy", motion.steps),
                ("range refused", motion.range),
                ("same motion again: no action", motion.same_again),
                ("lost reply and resend", motion.lost_reply),
                ("stop latency", stops.stop),
                ("stop in mid-line", stops.stop_in_mid_line),
                ("watchdog", stops.watchdog),
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
            values["fw"] in KNOWNFIRMWARE and values["v"] == "1",
            f"firmware {values['fw']}, wire version {values['v']}; known: {', '.join(KNOWNFIRMWARE)} with version 1",
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
            "answer time", max(taken_ms, default=999.0), ROUND_TRIP_MS, "ms", CABLE, digits=1, words=words
        )
        if not self.bench.measure("answers lost", lost, 0, "of 50", CABLE, digits=0):
            raise Broken("the line loses answers")  # nothing moves on it, and it isn't the device's fault

    def _numbers(self) -> None:
        wire, wrong = self.wire, []

        def expect(what: str, reply: Packet | None, code: str, **extra: str) -> None:
            values = {} if reply is None else reply.values
            if reply is None or reply.name != "ERR" or not ({"code": code} | extra).items() <= values.items():
                wrong.append(f"{what} was answered {told_of(reply)}, not ERR code={code}")

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
            CABLE if self.wire.garbage else FIRMWARE,
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
            remedy = CABLE
        elif latch == "AXIS" or isinstance(end, ApplicatorFailed):
            remedy = FOLLOW
        else:
            remedy = "The device refused it: see its words; clear what is in the way, then test again."
        self.bench.failed(check, words, remedy)
        raise Broken(words)

    # ------------------------------------------------------------ sessions and latches

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
            raise Broken(f"the latch {latch} can't be cleared: {told_of(reply)}")

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
            "line quality", self.wire.garbage + self.driver.garbage, 0, "spoilt lines", CABLE, digits=0
        )


def _sentence(event: ApplicatorEvent) -> str:
    return str(getattr(event, "sentence", event))
