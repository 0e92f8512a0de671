"""The self-test of a template rig on stock Grbl 1.1h: identity, settings, homing, travel, lost steps, stop.

Knows: what is measured, against which limit, and what to do on failure. Does not know: ports, clocks, the screen.
Every limit is an *assumed* value of engineering, not a clinical one.
"""

from __future__ import annotations

from collections.abc import Callable

from drivers.bench_check import MS, Bench, Broken
from drivers.bench_check_rig_axes import AXES, AxisCheck
from drivers.bench_wire import GrblTalk
from drivers.grbl import Alarm, Banner, Bracket, Line, Ok, Refused, Setting, Status, alarm_in_words
from drivers.kinematics import RigConfig
from drivers.rig import RigDriver
from drivers.rig_language import (
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    OpenGrip,
    RigCommand,
    RigConnected,
    RigDone,
    RigEvent,
    RigFailed,
    RigRefused,
)
from drivers.rig_script import HOLD, RESET

RESET_LONGEST_MS = 6_000
LONGEST_COMMAND_MS = 180_000.0

_CABLE = "Check plug, cable (shield, length) and USB hub; keep it away from motor leads."
_HOMING = {
    8: "The limit switch stays pressed: stuck, dirty, or wired the wrong way; free it.",
    9: "The limit switch was not found: does the motor turn? Is the switch, its plug or its wire broken?",
}


class RigCheck:
    """One run over one rig; ``bench`` has the line open, ``config`` is what the rig must be."""

    def __init__(self, bench: Bench, config: RigConfig) -> None:
        self.bench, self.config = bench, config
        self.driver = RigDriver(config)
        self.talk = GrblTalk(bench)
        self.may_move = False
        self.may_home = False
        """It is the right rig and could be homed when last tried."""

    def run(self) -> None:
        """All checks; the findings are the bench's. The rig is left standing, its grip open, whatever happens."""

        axes = AxisCheck(self)

        def axis(number: int) -> tuple[str, Callable[[], None]]:
            return f"axis {AXES[number]}: travel and lost steps", lambda: axes.axis(number)

        self.bench.run(
            [
                ("identity", self._identity),
                ("settings", self._settings),
                ("state at the beginning", self._beginning),
                ("answer time", self._answer_time),
                ("homing", self._homing),
                ("homing repeatability", axes.repeatability),
                *map(axis, range(3)),
                ("soft limits", self._soft_limits),
                ("grip", self._grip),
                ("stop latency", self._stop),
                ("lost reply: never sent again", self._lost_reply),
                ("silence of the host", self._silence),
            ]
        )
        self.bench.run([("left standing", self._leave), ("line quality", self._line_quality)])

    # ------------------------------------------------------------ who it is

    def _identity(self) -> None:
        bench = self.bench
        self.talk.open()
        if self.talk.ask(b"?", Status, 600) is None:
            self._agree()  # only a reset wakes it, and that opens the grip
            if not self.reset():
                bench.failed(
                    "identity",
                    "it answers neither ? nor a reset",
                    "Is it switched on, and is this its port (115200 baud)?",
                )
                raise Broken("the board is silent")
        version = next((line for line in self._report(b"$I\n") if isinstance(line, Bracket)), None)
        if version is None or version.tag != "VER":
            bench.failed("identity", "it does not answer $I", "Home or reset it; is it Grbl 1.1h?")
            raise Broken("the board does not tell its name")
        number, _, name = version.text.partition(":")
        number = number.partition(".20")[0]
        known = ", ".join(self.config.versions)
        right = bench.require(
            "firmware",
            number in self.config.versions,
            f"Grbl {number}; known to the driver: {known}",
            "Load Grbl 1.1h: other versions stop, alarm and report in other ways than the driver expects.",
        )
        wanted = self.config.serial
        is_rig = name.removeprefix("SIM-").startswith("RIG-") and wanted in (None, name)
        right &= bench.require(
            "identity",
            is_rig,
            f"it calls itself {name!r}" + ("" if wanted is None else f"; {wanted} was demanded"),
            "Not the template rig that was demanded: another machine? A rig is named once, with $I=RIG-<serial>.",
        )
        if not right:
            raise Broken("it is not the rig that the configuration demands")

    def _settings(self) -> None:
        found = {line.number: line.value for line in self._report(b"$$\n") if isinstance(line, Setting)}
        wrong = {n: v for n, v in self.config.settings.items() if n not in found or abs(found[n] - v) > 1e-6}
        told = ", ".join(f"${n}={found.get(n, 'missing')} (demanded {v:g})" for n, v in wrong.items())
        right = self.bench.require(
            "settings",
            not wrong,
            told or f"{len(self.config.settings)} compared, all as demanded",
            "Send these lines to Grbl: " + " ".join(f"${n}={v:g}" for n, v in wrong.items()),
        )
        offsets = [
            f"{line.tag}:{line.text}"
            for line in self._report(b"$#\n")
            if isinstance(line, Bracket)
            and (line.tag in ("G54", "G55", "G56", "G57", "G58", "G59", "G92", "TLO"))
            and any(float(number) != 0.0 for number in line.text.split(","))
        ]
        right &= self.bench.require(
            "work offsets",
            not offsets,
            ", ".join(offsets) or "all zero",
            "Set them to zero: G10 L2 P1 X0 Y0 Z0 (P2 to P6 likewise), G92.1, G49.",
        )
        if not right:
            raise Broken("its settings are not those of the configuration")

    def _beginning(self) -> None:
        status = self.talk.status()
        pressed = bytes(self.talk.raw).rpartition(b"|Pn:")[2].partition(b"|")[0].partition(b">")[0]
        words = f"Grbl says {status.word}"
        if b"|Pn:" in self.talk.raw:
            words += f"; limit inputs pressed: {pressed.decode('ascii', 'replace')}"
        if status.word not in ("Idle", "Alarm"):
            self.bench.failed(
                "state at the beginning", words, "It is at work: let it end, or stop it; then test again."
            )
            raise Broken(words)
        self._agree()
        self.bench.passed("state at the beginning", words)

    def _agree(self) -> None:
        if not self.may_move:
            self.bench.may(
                "The rig will be reset (its grip opens), homed several times, and travel each axis to its ends. Is "
                "no needle in grip or template, no patient and no hand near it, and nothing in its way?"
            )
            self.may_move = True

    def _answer_time(self) -> None:
        taken_ms, lost = [], 0
        for _ in range(50):
            mark, began_ns = len(self.talk.heard), self.bench.now_ns()
            self.talk.say(b"?")
            found = self.talk.until(mark, Status, 400)
            if found is None:
                lost += 1
            else:
                taken_ms.append((found[0] - began_ns) / MS)
        words = f"{len(taken_ms)} of 50 answered"
        self.bench.measure(
            "answer time", max(taken_ms, default=999.0), 100.0, "ms", _CABLE, digits=1, words=words
        )
        if not self.bench.measure("answers lost", lost, 0, "of 50", _CABLE, digits=0):
            raise Broken("the line loses answers")

    # ------------------------------------------------------------ homing and lost steps

    def do(self, command: RigCommand) -> RigEvent:
        """Carry out one command by the driver; its last event. Broken when it does not end."""
        bench, driver = self.bench, self.driver
        bench.tap.speaker = driver
        driver.events()
        driver.start(command, bench.now_ns())
        bench.until(lambda: not driver.is_busy, LONGEST_COMMAND_MS)
        ends = [e for e in driver.events() if isinstance(e, RigConnected | RigDone | RigRefused | RigFailed)]
        if not ends:
            raise Broken(f"{type(command).__name__} does not end")
        return ends[-1]

    def home(self, check: str) -> None:
        """Reset, compare, home. A failure of ``check``, and Broken, when it does not."""
        self.may_home = False
        end = self._connect_and_home()
        if isinstance(end, RigFailed) and "ALARM:8" in end.reason:
            self.bench.rest(1_000)  # run onto its switch at speed, an axis needs two pull-offs
            end = self._connect_and_home()
        if isinstance(end, RigRefused | RigFailed):
            code = next((n for n in _HOMING if f"ALARM:{n}" in end.reason), None)
            remedy = _HOMING.get(code or 0, "Read the words; reset and home it by hand, then test again.")
            self.bench.failed(check, end.reason, remedy)
            raise Broken(end.reason)
        self.may_home = True

    def _connect_and_home(self) -> RigEvent:
        end = self.do(ConnectRig())
        return self.do(HomeRig()) if isinstance(end, RigConnected) else end

    def _homing(self) -> None:
        began_ns = self.bench.now_ns()
        self.home("homing")
        took_s = (self.bench.now_ns() - began_ns) / 1e9
        self.bench.measure(
            "homing",
            took_s,
            self.config.homing_timeout_s,
            "s",
            "Homing is slow: check $24, $25 and the switches.",
            digits=1,
        )

    # ------------------------------------------------------------ limits, grip, stop

    def _soft_limits(self) -> None:
        self.home("soft limits")
        talk = self.talk
        talk.open()
        before_mm, mark = talk.status().axes_mm, len(talk.heard)
        talk.say(b"G53G1X5.000F3000\n")
        found = talk.until(mark, (Alarm, Refused), 2_000)
        if found is None:
            talk.say(HOLD)
            self.bench.rest(300)
        self.reset()
        after_mm = talk.status().axes_mm
        code = found[1].code if found is not None and isinstance(found[1], Alarm) else 0
        told = alarm_in_words(code) if code else "no alarm"
        self.bench.require(
            "soft limits",
            code == 2 and after_mm == before_mm,
            f"a motion 5 mm beyond the travel: {told}; X {before_mm[0]:.3f} before, {after_mm[0]:.3f} after",
            "Soft limits do not work: set $20=1 and $130 to $132, home, test again.",
        )

    def _grip(self) -> None:
        self.home("grip")
        wrong = []
        for command in (CloseGrip(), OpenGrip()):
            end = self.do(command)
            if not isinstance(end, RigDone):
                wrong.append(f"{type(command).__name__}: {getattr(end, 'reason', end)}")
        self.bench.require(
            "grip",
            not wrong,
            "; ".join(wrong)
            or "M8 and M9 acknowledged, output as commanded (whether the jaw moved, only eyes can tell)",
            "Check the coolant output, its relay and the jaw.",
        )

    def _stop(self) -> None:
        self.home("stop latency")
        talk = self.talk
        talk.open()
        talk.ask(b"G53G1X-180.000F3000\n", (Ok, Refused), 2_000)
        self.bench.rest(1_000)
        moving = talk.status()
        said_ns, held = talk.say(HOLD), None
        while held is None and self.bench.now_ns() - said_ns < 3_000 * MS:
            status = talk.ask(b"?", Status, 200)
            if isinstance(status, Status) and (status.word, status.substate) == ("Hold", 0):
                held = status
            else:
                self.bench.rest(10)
        took_ms = (self.bench.now_ns() - said_ns) / MS
        reset_ns = self.bench.now_ns()
        answered = self.reset()
        reset_ms = (self.bench.now_ns() - reset_ns) / MS
        if held is None or moving.word != "Run":
            self.bench.failed(
                "stop latency",
                f"it said {moving.word} before and {'Hold' if held else 'no Hold:0'} after the hold; reset by 0x18",
                "STOP DOES NOT WORK as it must: use the e-stop; do not use this rig; check the firmware.",
            )
            raise Broken("the hold is not obeyed")
        braking_ms = 1_000 * self.config.feed_across_mm_min / 60.0 / self.config.settings.get(120, 200.0)
        remedy = "The hold takes too long: check $120 to $122 (acceleration) and the cable. Use the e-stop meanwhile."
        self.bench.measure(
            "stop latency",
            took_ms,
            braking_ms + 100.0,
            "ms",
            remedy,
            digits=0,
            words=f"hold at 50 mm/s until it stands; {braking_ms:.0f} ms of it braking, "
            f"{abs(held.axes_mm[0] - moving.axes_mm[0]):.1f} mm way",
        )
        self.bench.measure(
            "reset answered", reset_ms if answered else 9_999.0, 1_500.0, "ms", _CABLE, digits=0
        )
        self.bench.rest(300)
        creep_mm = max(abs(a - b) for a, b in zip(talk.status().axes_mm, held.axes_mm, strict=True))
        self.bench.measure("standing after the stop", creep_mm, 0.01, "mm", remedy, digits=3)

    def _lost_reply(self) -> None:
        self.home("lost reply: never sent again")
        tap = self.bench.tap
        mark = len(tap.sent)
        tap.swallow(lambda line: line.strip() == b"ok")
        end = self.do(MoveAcross(60.0, self.config.reach_mm))
        sent = bytes(tap.sent[mark:]).count(b"G53G1")
        self.bench.require(
            "lost reply: never sent again",
            isinstance(end, RigDone) and bool(tap.swallowed) and sent == 1,
            f"its ok was lost once: the motion was sent {sent} time, and looked after until it had ended: "
            + ("done" if isinstance(end, RigDone) else str(getattr(end, "reason", end))),
            "The board's answers are out of order: reset it, check the cable, test again.",
        )

    def _silence(self) -> None:
        self.home("silence of the host")
        talk = self.talk
        talk.open()
        talk.ask(b"G53G1X-21.000F1200\n", (Ok, Refused), 2_000)
        self.bench.rest(3_000)
        status = talk.status()
        self.bench.require(
            "silence of the host",
            status.word == "Idle" and abs(status.axes_mm[0] + 21.0) <= self.config.tolerance_mm,
            f"stock Grbl has no watchdog: it ended the one line it had and stands, {status.word} at X "
            f"{status.axes_mm[0]:.3f} (so no line in tissue is longer than {self.config.step_in_tissue_mm:g} mm)",
            "It did not stand at the end of its one line: check the firmware.",
        )

    # ------------------------------------------------------------ the end

    def _leave(self) -> None:
        if self.may_move and self.may_home:
            self.home("left standing")
        self.talk.open()
        try:
            status = self.talk.status()
        except Broken:  # after ALARM:1 or 2 nothing but a reset is answered
            if not self.may_move or not self.reset():
                raise
            status = self.talk.status()
        if status.word not in ("Idle", "Alarm"):
            self.talk.say(HOLD)
            self.bench.rest(500)
            self.reset()
            status = self.talk.status()
        self.bench.require(
            "left standing",
            status.word in ("Idle", "Alarm"),
            f"Grbl says {status.word}"
            + ("; it must be homed before it moves" if status.word == "Alarm" else ", homed"),
            "It does not stand: use the e-stop.",
        )

    def _line_quality(self) -> None:
        self.bench.measure(
            "line quality", self.talk.garbage + self.driver.garbage, 0, "spoilt lines", _CABLE, digits=0
        )

    # ------------------------------------------------------------ Grbl

    def reset(self) -> bool:
        """0x18 until the banner comes; after an alarm the board is deaf for half a second."""
        talk = self.talk
        for _ in range(RESET_LONGEST_MS // 600):
            if talk.ask(RESET, Banner, 600) is not None:
                self.bench.rest(150)
                return True
        return False

    def _report(self, command: bytes) -> list[Line]:
        """The lines before the ``ok`` of a report; asked twice, should a half line of a crashed host be left."""
        for _ in range(2):
            mark = len(self.talk.heard)
            self.talk.say(command)
            found = self.talk.until(mark, (Ok, Refused), 2_000)
            if found is not None and isinstance(found[1], Ok):
                return [line for _, line in self.talk.heard[mark:]]
        return []
