"""The part of an applicator's self-test that needs hands: switches, and seeds pushed into a dish.

Knows: how a seed's sensor, force and stroke are judged and that a counted seed is never pushed again. Does not know:
who does the hands' work. Seeds are pushed only ``with_seeds``; a counted one is fired again only when none can
come out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.applicator_language import (
    AskSeed,
    BeginLedger,
    ClearLatch,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    HomeStylet,
    MoveNeedleTo,
    ReadLedger,
    SeedOutcome,
)
from drivers.bench_check import Broken

if TYPE_CHECKING:
    from drivers.bench_check_applicator import ApplicatorCheck

SEEDS = 3
"""Put into the cartridge; two are pushed, one is taken out again."""
FORCE_MN = (200.0, 2500.0)
STROKE_UM = 204_500
_AT_MOST_ONCE = (
    "A SEED COULD BE DROPPED TWICE: do not use this device; load a firmware that keeps drivers/WIRE.md."
)
_SENSOR = (
    "No pulse though the stroke was full: is a seed in the dish? If so the seed sensor is stuck, dirty or unplugged; "
    "if not, the cartridge gave none. Clean and test it with a wire; a device without it can't count."
)


class SeedCheck:
    """Checks that belong to an ``ApplicatorCheck``, with its bench and its driver."""

    def __init__(self, check: ApplicatorCheck) -> None:
        self._check, self._bench = check, check.bench

    def counted_again(self) -> None:
        """FIRE of a counted seed: dup=1, no motion. Only where no seed can come out even of a faulty device."""
        if self._check.with_seeds:
            return  # it is part of the seeds
        wire = self._check.talk()
        stat = wire.ask("STAT").values
        if stat["n"] == "0" or stat["seat"] == "1":
            why = (
                "it has counted no seed"
                if stat["n"] == "0"
                else "a cartridge is seated, and a faulty device could push a seed: take it out"
            )
            self._bench.not_tested("counted seed fired again", f"{why}, or test --with-seeds")
            return
        self._fire_again(int(stat["n"]), "0000")

    def _fire_again(self, number: int, token: str) -> None:
        wire = self._check.talk()
        stored = wire.ask("RES", n=number).values
        before = wire.ask("LEDGER").values
        mark = len(wire.heard)
        reply = wire.ask("FIRE", n=number, tok=token)
        self._bench.rest(1_500)
        after = wire.ask("LEDGER").values
        stat = wire.ask("STAT").values
        is_dup = reply.name == "FIRE" and (reply.values["dup"], reply.values.get("out")) == (
            "1",
            stored["out"],
        )
        is_still = wire.count(mark, "SHOT") == 0 and before == after and stat["st"] in ("IDLE", "LATCHED")
        said = " ".join(f"{key}={value}" for key, value in reply.pairs)
        self._bench.require(
            "counted seed fired again",
            is_dup and is_still,
            f"FIRE of seed {number} again: {reply.name} {said}; "
            f"strokes {before.get('sk')} before, {after.get('sk')} after",
            _AT_MOST_ONCE,
        )

    # ------------------------------------------------------------ switches

    def cartridge_switch(self) -> None:
        name = "cartridge switch"
        if self._check.with_seeds:
            return  # a cartridge is seated and taken out with the seeds
        if self._check.has_ledger:
            self._bench.not_tested(name, "a procedure's ledger is open: its cartridge is not to be touched")
            return
        was = self._seat()
        left = int(self._check.talk().ask("STAT").values["left"])
        hands = self._bench.person
        if was == "1" and not hands.does("remove_cartridge", "Take the cartridge out", returned=left):
            self._bench.not_tested(name, "nobody took the cartridge out")
            return
        seen = [self._seat()]
        if not hands.does("seat_cartridge", "Seat an empty cartridge", count=0):
            self._bench.not_tested(name, "nobody seated an empty cartridge")
            return
        seen.append(self._seat())
        if hands.does("remove_cartridge", "Take the empty cartridge out", returned=0):
            seen.append(self._seat())
        self._judge_switch(seen)

    def _judge_switch(self, seen: list[str]) -> None:
        wanted = ["0", "1", "0"][: len(seen)]
        self._bench.require(
            "cartridge switch",
            seen == wanted,
            f"out, in, out: the switch says {', '.join('seated' if s == '1' else 'open' for s in seen)}",
            "The cartridge switch is stuck or unplugged: check lever and plug; without it no seed is accounted for.",
        )

    def _seat(self) -> str:
        self._bench.rest(200)
        return self._check.talk().ask("STAT").values["seat"]

    def estop_loop(self) -> None:
        name, hands, wire = "e-stop loop", self._bench.person, self._check.talk()
        if not hands.does("open_estop", "Press the emergency stop"):
            self._bench.not_tested(name, "nobody pressed the emergency stop")
            return
        self._bench.rest(300)
        pressed = wire.ask("STAT").values
        refused = wire.ask("MOVE", z=1_000, v=5_000)
        hands.does("close_estop", "Release the emergency stop")
        self._bench.rest(300)
        released = wire.ask("STAT").values
        self._bench.require(
            name,
            (pressed["es"], pressed["la"], refused.values.get("code"), released["es"])
            == ("1", "ESTOP", "ESTOP", "0"),
            f"pressed: es={pressed['es']}, latch {pressed['la']}, MOVE {refused.values.get('code', 'accepted')}; "
            f"released: es={released['es']}",
            "The e-stop loop is not seen: check contact and wiring. Nothing moves near a person until it is.",
        )
        if refused.name != "ERR":
            wire.stop()
            raise Broken("it moves while the emergency stop is pressed")
        if released["es"] == "0" and released["la"] == "ESTOP":
            self._check.clear_by_design(
                "ESTOP", "The e-stop test latched ESTOP on purpose. May it be cleared?"
            )

    # ------------------------------------------------------------ seeds

    def seeds(self) -> None:
        """Two seeds into a dish: sensor, force, stroke; a counted one again; a lost reply to FIRE."""
        if not self._check.with_seeds:
            self._bench.not_tested("seeds: sensor, force, stroke", "only --with-seeds")
            return
        check, bench, hands = self._check, self._bench, self._bench.person
        bench.may(
            "Two seeds (better: dummies) will be PUSHED OUT. Is a dish under the hub, shielded if they are live?"
        )
        if self._seat() == "1":
            left = int(check.talk().ask("STAT").values["left"])
            if not hands.does("remove_cartridge", "Take the cartridge out", returned=left):
                bench.not_tested("seeds: sensor, force, stroke", "nobody took the cartridge out")
                return
        seen = [self._seat()]
        if not hands.does("seat_cartridge", f"Seat a cartridge with exactly {SEEDS} seeds", count=SEEDS):
            bench.not_tested("seeds: sensor, force, stroke", "nobody seated a cartridge")
            return
        seen.append(self._seat())
        procedure = f"BEC4{check.session_id}"
        check.must("seeds: ledger", BeginLedger(procedure))
        check.must("seeds: ledger", DeclareCartridge(1, SEEDS, 0))
        check.must("seeds: ledger", MoveNeedleTo(0, 20_000))
        passed = self._drop(1, lose_reply=False)
        if passed:
            self._fire_again(1, _token(check.session_id, 1))
            passed = self._drop(2, lose_reply=True)
        ledger = check.must("seeds: ledger", ReadLedger()).ledger
        assert ledger is not None
        left = ledger.left
        if hands.does(
            "remove_cartridge", f"Take the cartridge out: {left} seeds should be in it", returned=left
        ):
            seen.append(self._seat())
            check.must("seeds: ledger", EndLedger(left))
        else:
            bench.failed(
                "seeds: ledger",
                f"nobody took the cartridge out with {left} seeds in it; the ledger {procedure} stays open",
                "Count the seeds in dish and cartridge; end the ledger before the next procedure.",
            )
        accounted = ledger.implanted + ledger.left + ledger.wasted
        bench.require(
            "seeds: ledger",
            ledger.loaded == accounted and ledger.in_doubt == 0,
            f"loaded {ledger.loaded} = pushed {ledger.implanted} + left {ledger.left} + wasted {ledger.wasted}; "
            f"strokes {ledger.strokes}, pulses {ledger.pulses}",
            "The device's book does not agree with itself: " + _AT_MOST_ONCE,
        )
        self._judge_switch(seen)

    def _drop(self, number: int, *, lose_reply: bool) -> bool:
        check, bench = self._check, self._bench
        tap = bench.tap
        check.must(f"seed {number}", HomeStylet())
        mark = len(tap.sent)
        if lose_reply:
            tap.swallow(lambda line: line.startswith(b"<") and b":FIRE " in line)
        stand_um = check.driver.state.z_um
        end = check.do(DropSeed(number, stand_um, _token(check.session_id, number)))
        if not isinstance(end, SeedOutcome):
            end = check.do(AskSeed(number))
        if not isinstance(end, SeedOutcome):
            bench.failed(f"seed {number}", str(getattr(end, "sentence", end)), _AT_MOST_ONCE)
            raise Broken(f"seed {number} was not pushed")
        bench.measure(
            f"seed {number}: pulses of the seed sensor", end.pulses, 1, "", _SENSOR, least=1, digits=0
        )
        jam = "A weak force: no seed was pushed. A strong one: a jam. Never force it: a forced jam has ruptured seeds."
        low, high = FORCE_MN
        bench.measure(f"seed {number}: peak force", end.peak_mn, high, "mN", jam, least=low, digits=0)
        bench.measure(
            f"seed {number}: stroke", end.stroke_um / 1000, 206, "mm", jam, least=STROKE_UM / 1000, digits=1
        )
        passed = bench.require(
            f"seed {number}: outcome",
            end.outcome == "PASS",
            f"{end.outcome}: only PASS counts as delivered",
            jam,
        )
        if lose_reply:
            lines = [line for line in bytes(tap.sent[mark:]).split(b"\n") if b":FIRE " in line]
            ledger = check.must(f"seed {number}", ReadLedger()).ledger
            assert ledger is not None
            bench.require(
                "lost reply to FIRE and resend",
                len(set(lines)) == 1
                and len(lines) >= 2
                and ledger.strokes == number
                and ledger.pulses == number,
                f"the same FIRE was sent {len(lines)} times; {ledger.strokes} strokes for {number} seeds",
                _AT_MOST_ONCE,
            )
        latch = check.driver.state.latch
        if latch in ("JAM", "DOUBLE", "UNKNOWN"):
            bench.may(
                f"Seed {number}: {end.outcome}, latched {latch}. Clear the path, find the seed, put it aside. Book it "
                "as wasted and clear the latch?"
            )
            check.must(f"seed {number}", ClearLatch(latch, check.driver.state.latch_seed, "WA"))
            check.must(f"seed {number}", HomeStylet())
        return passed


def _token(session_id: str, number: int) -> str:
    return f"{(int(session_id, 16) + number) % 0x10000:04X}"
