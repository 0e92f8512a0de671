"""The real driver against the reference firmware: two hands, one page.

In this process on virtual time, and through a pseudo-terminal in simavr on real time.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from firmware_bench import JAM, HostDevice, SimavrDevice, host_device, simavr_device

from drivers.applicator import (
    ApplicatorCommand,
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorDriver,
    ApplicatorEvent,
    ApplicatorLatched,
    ApplicatorStopped,
    AskSeed,
    BeginLedger,
    ClearLatch,
    Connect,
    DeclareCartridge,
    DropSeed,
    EndLedger,
    HomeRetraction,
    HomeStylet,
    MoveNeedleTo,
    ReadLedger,
    SeedOutcome,
)
from drivers.port import Port

MS = 1_000_000
E = TypeVar("E")
CONFIG = ApplicatorConfig(capacity=15, detent_um=5000, gauge=18)


class HostBench:
    """Driver and firmware in one process."""

    def __init__(self, device: HostDevice) -> None:
        self.device = device

    def step(self, driver: ApplicatorDriver) -> int:
        if out := driver.take():
            self.device.put(out)
        if data := self.device.take(1):
            driver.receive(data, int(self.device.now_ms()) * MS)
        return int(self.device.now_ms()) * MS

    def now_ns(self) -> int:
        return int(self.device.now_ms()) * MS


class SimavrBench:
    """The firmware in simavr, the driver through its own port."""

    def __init__(self, device: SimavrDevice) -> None:
        self.device = device
        self.port = Port(device.path)

    def step(self, driver: ApplicatorDriver) -> int:
        if out := driver.take():
            self.port.write(out)
        select.select([self.port.fileno()], [], [], 0.01)
        if data := self.port.read():
            driver.receive(data, self.now_ns())
        return self.now_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns()


Bench = HostBench | SimavrBench


@pytest.fixture(params=["host", "simavr"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "host":
        yield HostBench(host_device())
        return
    device = simavr_device(tmp_path / "eeprom.bin")
    bench = SimavrBench(device)
    yield bench
    bench.port.close()
    device.close()


def pump(
    bench: Bench, driver: ApplicatorDriver, at_most_ms: int, *, until_idle: bool = True
) -> list[ApplicatorEvent]:
    seen: list[ApplicatorEvent] = []
    end = bench.now_ns() + at_most_ms * MS
    while (now := bench.step(driver)) < end:
        wake = driver.next_wake()
        if wake is not None and wake <= now:
            driver.wake(now)
        seen += driver.events()
        if until_idle and not driver.is_busy:
            break
    return seen


def ask(bench: Bench, driver: ApplicatorDriver, command: ApplicatorCommand) -> list[ApplicatorEvent]:
    driver.start(command, bench.now_ns())
    return pump(bench, driver, 8000)


def one(events: list[ApplicatorEvent], kind: type[E]) -> E:
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1, events
    return found[0]


def made_ready(bench: Bench) -> ApplicatorDriver:
    driver = ApplicatorDriver(CONFIG, "5A17")
    assert one(ask(bench, driver, Connect()), ApplicatorConnected).simulated
    for command in (HomeRetraction(), HomeStylet(), BeginLedger("9C41D2E0"), DeclareCartridge(1, 15, 0)):
        one(ask(bench, driver, command), ApplicatorDone)
    return driver


def test_the_driver_implants_two_seeds_and_closes_the_ledger(bench: Bench) -> None:
    driver = made_ready(bench)
    for number, z_um in ((1, 2000), (2, 7000)):
        one(ask(bench, driver, MoveNeedleTo(z_um, 20000)), ApplicatorDone)
        assert one(ask(bench, driver, DropSeed(number, z_um, f"A00{number}")), SeedOutcome).outcome == "PASS"
    assert one(ask(bench, driver, AskSeed(2)), SeedOutcome).outcome == "PASS"
    counts = one(ask(bench, driver, ReadLedger()), ApplicatorDone).ledger
    assert counts is not None
    assert (counts.loaded, counts.implanted, counts.left, counts.in_doubt, counts.strokes) == (
        15,
        2,
        13,
        0,
        2,
    )
    one(ask(bench, driver, EndLedger(13)), ApplicatorDone)
    assert driver.garbage == 0


def test_the_driver_hears_a_jam_and_clears_it_by_a_person(bench: Bench) -> None:
    driver = made_ready(bench)
    bench.device.inputs(JAM)
    assert one(ask(bench, driver, DropSeed(1, 0, "A001")), SeedOutcome).outcome == "NOPASS"
    bench.device.inputs(0)
    assert driver.state.latch == "JAM"
    one(ask(bench, driver, ClearLatch("JAM", 1, "LF")), ApplicatorDone)
    one(ask(bench, driver, HomeStylet()), ApplicatorDone)
    assert one(ask(bench, driver, DropSeed(2, 0, "A002")), SeedOutcome).outcome == "PASS"


def test_the_drivers_stop_is_obeyed_while_the_carriage_moves(bench: Bench) -> None:
    driver = made_ready(bench)
    driver.start(MoveNeedleTo(90000, 5000), bench.now_ns())
    pump(bench, driver, 100, until_idle=False)
    driver.stop(bench.now_ns())
    seen = pump(bench, driver, 400, until_idle=False)
    assert any(isinstance(event, ApplicatorStopped) for event in seen)
    assert any(isinstance(event, ApplicatorLatched) for event in seen) or driver.state.latch == "STOP"
    assert driver.state.z_um < 10000
