"""Malformed lines to every end of both wires: ``python -m benchmarks.wire [LINES]`` (default 1 000 000 to each).

Sound lines that would move something (or, to a driver, tell of a motion) are broken: bytes turned, lost, doubled, cut
off, replaced, or noise altogether; the stop byte alone is left out, it is no malformed line. Grbl has no checksum,
so there a line is broken by a character that G-code does not have: a turned digit makes a sound line, which only
reading back finds (tests/test_drivers_bad_wire.py). Violations: an exception, a motion, a seed, a changed state,
bytes sent in answer by a driver, deafness afterwards. Baseline: the same end fed with sound lines that do nothing.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from bad_wire import BadWire
from firmware_bench import Host, host_device, ledger, sealed, stat
from simulated_bench import ApplicatorBench, RigBench

from drivers.applicator import ApplicatorConfig, ApplicatorDriver, Connect
from drivers.rig import ConnectRig, HomeRig, RigConfig, RigDriver
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.cable import PERFECT
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import RigMechanics

BATCH = 1000
NOT_GCODE = b"#%&\"*=_@^:'[]{}\\"


@dataclass
class End:
    """One end of a wire: takes bytes, says what is wrong with it afterwards."""

    name: str
    feed: Callable[[bytes], object]
    amiss: Callable[[], list[str]]
    breaker: Callable[[random.Random], bytes]
    harmless: bytes
    answered: Callable[[], int] = lambda: 0


def broken(sound: list[bytes]) -> Callable[[random.Random], bytes]:
    """A line like one of these, but not one of them; never with a stop byte."""
    known = set(sound)

    def one(chance: random.Random) -> bytes:
        while True:
            line = bytearray(chance.choice(sound))
            kind = chance.randrange(6)
            at = chance.randrange(len(line))
            if kind == 0:
                for _ in range(chance.randint(1, 3)):
                    line[chance.randrange(len(line))] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del line[at]
            elif kind == 2:
                line.insert(at, line[at])
            elif kind == 3:
                line = line[:at] + b"\n"
            elif kind == 4:
                line[at] = chance.randrange(256)
            else:
                line = bytearray(chance.randbytes(chance.randint(1, 150)) + b"\n")
            data = bytes(line).replace(b"\x18", b"")
            if not data.endswith(b"\n"):
                data += b"~\n"
            if known.isdisjoint(part + b"\n" for part in data.split(b"\n")):
                return data

    return one


def no_gcode(sound: list[bytes]) -> Callable[[random.Random], bytes]:
    """A line with a character that is not G-code, well within Grbl's length or far beyond it."""

    def one(chance: random.Random) -> bytes:
        line = bytearray(chance.choice(sound))
        for _ in range(chance.randint(1, 3)):
            line.insert(chance.randrange(len(line.rstrip())), chance.choice(NOT_GCODE))
        if chance.random() < 0.05:
            line[:-1] = line[:-1] * 12
        return bytes(line)

    return one


def python_firmware() -> End:
    bench = ApplicatorBench()
    bench.make_ready()
    number = bench.number + 1
    sound = [
        sealed(f">{bench.boot}:{number}:{body}")
        for body in ("MOVE z=90000 v=5000", "HOME ax=z", "ARM n=1 z=4500 tok=8F3C", "FIRE n=1 tok=8F3C")
    ]
    before = bench.firmware.board.status()
    heard = [0]

    def feed(data: bytes) -> None:
        bench.firmware.receive(data, bench.now_ns)
        heard[0] += bench.firmware.take().count(b"\n")

    def amiss() -> list[str]:
        now = bench.firmware.board.status()
        found = [] if now == before else [f"state {now}"]
        found += ["a seed fell"] if bench.mechanics.seeds_spilled else []
        bench.firmware.receive(b"\n", bench.now_ns)
        bench.firmware.take()
        bench.hello()
        return found + ([] if bench.ask("PING") == {"st": "IDLE"} else ["deaf"])

    harmless = sealed(f">{bench.boot}:{number - 1}:STAT")
    return End("applicator firmware (Python)", feed, amiss, broken(sound), harmless, lambda: heard[0])


def c_firmware() -> End:
    device = host_device()
    host = Host(device).ready()
    number = host.number + 1
    sound = [
        sealed(f">0001:{number}:{body}")
        for body in ("MOVE z=90000 v=5000", "HOME ax=z", "ARM n=1 z=0 tok=8F3C", "FIRE n=1 tok=8F3C")
    ]
    before = stat(host)
    for line in sound:
        assert line != host.sent
    number_at_rest = host.number
    heard = [0]

    def feed(data: bytes) -> None:
        for at in range(0, len(data), 4000):
            device.put(data[at : at + 4000])
            device.run(0)
        heard[0] += device._unread().count(b"\n")

    def amiss() -> list[str]:
        device.put(b"\n")
        device.run(0)
        device._unread()
        host.replies.clear()
        host.number = number_at_rest
        host.hello("0ABC")
        now = stat(host)
        found = [] if now == before else [f"state {now}"]
        return found + (["a stroke"] if ledger(host)["sk"] else [])

    for at, line in enumerate(sound):  # STAT above has taken one number
        sound[at] = sealed(line.decode().partition("|")[0].replace(f":{number}:", f":{number + 1}:"))
    return End(
        "applicator firmware (C)", feed, amiss, broken(sound), sealed(">0001:1:STAT"), lambda: heard[0]
    )


def _wired(driver: object, boot: Callable[[int], object], *commands: object) -> BadWire:
    wire = BadWire(driver, boot, PERFECT, [])
    for command in commands:
        wire.ask(command)
    return wire


def applicator_driver() -> End:
    mechanics, store = ApplicatorMechanics(np.random.default_rng(1)), NonVolatile()
    driver = ApplicatorDriver(ApplicatorConfig(15, 5000, 18), "5A17")
    wire = _wired(driver, lambda now_ns: ApplicatorFirmware(mechanics, store, start_ns=now_ns), Connect())
    before = driver.state
    sound = [
        sealed(f"<0001:{n}:{body}")
        for n in range(1, 4)
        for body in ("PING st=FIRING", "STAT st=IDLE z=9 sty=0 n=3 left=9 seat=1 es=0 hm=3 la=NONE ln=0")
    ] + [sealed("!0001:2:SHOT n=1 out=PASS peak=820 pulses=1 stroke=205000"), sealed("<0002:1:ERR code=BOOT")]
    sent = [0]

    def feed(data: bytes) -> None:
        driver.receive(data, wire.now_ns)
        sent[0] += len(driver.take())

    def amiss() -> list[str]:
        found = [] if driver.state == before else [f"state {driver.state}"]
        found += [f"{sent[0]} bytes sent"] if sent[0] else []
        found += [f"told {event}" for event in driver.events()]
        driver.receive(b"\n", wire.now_ns)
        wire.pass_time(1500)
        return found + ([] if driver.state.linked else ["deaf"])

    return End("applicator driver", feed, amiss, broken(sound), sealed("<0001:900:PING st=IDLE"))


def rig_driver() -> End:
    mechanics, store, chance = RigMechanics(np.random.default_rng(1)), NonVolatile(), np.random.default_rng(2)
    driver = RigDriver(RigConfig())
    wire = _wired(
        driver,
        lambda now_ns: GrblFirmware(mechanics, store, chance, start_ns=now_ns),
        ConnectRig(),
        HomeRig(),
    )
    before, place = driver.state, mechanics.carriage_mm
    sound = [
        b"<Run|MPos:-50.000,-45.000,-1.000|FS:0,0>\r\n",
        b"ALARM:1\r\n",
        b"error:9\r\n",
        b"[VER:1.1h.20190830:RIG-1]\r\n",
        b"$110=1.000\r\n",
    ]
    sent = [0]

    def feed(data: bytes) -> None:
        driver.receive(data, wire.now_ns)
        sent[0] += len(driver.take())

    def amiss() -> list[str]:
        found = [] if driver.state == before else [f"state {driver.state}"]
        found += [f"{sent[0]} bytes sent"] if sent[0] else []
        found += [f"told {event}" for event in driver.events()]
        wire.pass_time(2500)
        found += [] if mechanics.carriage_mm == place else ["moved"]
        return found + ([] if driver.state.linked and driver.state.position_known else ["deaf"])

    return End("rig driver", feed, amiss, no_gcode(sound), b"\r\n")


def grbl() -> End:
    bench = RigBench()
    bench.say("", 1.0)
    bench.home()
    place = bench.mechanics.carriage_mm
    sound = [
        b"G53G1X-100.000Y-90.000F3000\n",
        b"G53G1Z-21.000F600\n",
        b"$H\n",
        b"M8\n",
        b"G91X-10\n",
        b"$110=9\n",
    ]
    settings = bench.say("$$\n")
    heard = [0]

    def feed(data: bytes) -> None:
        for line in data.splitlines(keepends=True):  # as a host sends: one in flight
            bench.firmware.receive(line, bench.now_ns)
            bench.now_ns += 10_000_000
            bench.firmware.wake(bench.now_ns)
            heard[0] += bench.firmware.take().count(b"\n")

    def amiss() -> list[str]:
        bench.say("\n", 60.0)
        found = [] if bench.mechanics.carriage_mm == place else [f"moved to {bench.mechanics.carriage_mm}"]
        found += ["the grip closed"] if bench.mechanics.is_closed else []
        found += [] if bench.say("$$\n") == settings else ["its settings changed"]
        return found + ([] if bench.state() == "Idle" else [f"it is {bench.state()}"])

    return End("Grbl (simulated)", feed, amiss, no_gcode(sound), b"G4P0\n", lambda: heard[0])


def batches(end: End, count: int) -> Iterator[bytes]:
    chance = random.Random(7)
    for _ in range(0, count, BATCH):
        yield b"".join(end.breaker(chance) for _ in range(BATCH))


def rate(end: End, made: Iterator[bytes], problems: list[str]) -> float:
    """Lines per second that the end itself took."""
    lines, seconds = 0, 0.0
    for batch in made:
        begin = time.perf_counter()
        try:
            end.feed(batch)
        except Exception as problem:
            problems.append(f"{type(problem).__name__}: {problem}")
        seconds += time.perf_counter() - begin
        lines += BATCH
    return lines / seconds


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    ends: list[Callable[[], End]] = [applicator_driver, python_firmware, rig_driver, grbl]
    if shutil.which("cc") and shutil.which("make"):
        ends.insert(2, c_firmware)
    print(
        "| end | malformed lines | lines/s | sound lines/s | answered | violations |\n|---|---|---|---|---|---|"
    )
    failed = False
    for make in ends:
        end, problems = make(), list[str]()
        malformed = rate(end, batches(end, count), problems)
        answered = end.answered()
        problems += end.amiss()
        plain = make()
        sound = rate(plain, iter([plain.harmless * BATCH] * max(1, min(100, count // BATCH))), [])
        failed |= bool(problems)
        told = "0" if not problems else f"{len(problems)}: {'; '.join(problems[:3])}"
        print(f"| {end.name} | {count} | {malformed:.0f} | {sound:.0f} | {answered} | {told} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
