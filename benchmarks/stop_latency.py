"""From the stop to the axis at rest, in real time: ``python -m benchmarks.stop_latency [--stops 500]`` for each row.

Both simulated devices stand behind pseudo-terminals in a process of their own, at life's pace; here are the real
drivers and ports. The carriage moves at 20 mm/s; for a third of the time the rig moves, too, which has to be homed
again afterwards, so it has few trials. ``stop`` is called as the session does. Measured on one clock: the call -> the
stop byte read by the device, and -> the applicator's axis at rest. The rig is held, not cut off: its own
deceleration, which no wire can shorten, is left out; its byte is measured.
Baseline: no hogs. Then one hog process per core; then the same with this process and the device raised by
``controller.urgency``. Goal: 10 ms for 99.9 of 100 stops. No row takes longer than ``--longest-s`` (default 75 s).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from controller.ports import PortTransport
from controller.urgency import raise_priority
from drivers.applicator import (
    ApplicatorConfig,
    ApplicatorDriver,
    ClearLatch,
    Connect,
    HomeRetraction,
    HomeStylet,
    MoveNeedleTo,
)
from drivers.port import Port
from drivers.rig import ConnectRig, HomeRig, MoveAcross, RigConfig, RigDriver
from simulator.benchtop import Benchtop
from simulator.doors import PseudoTerminal, serve

GOAL_MS = 10.0
RIG_SHARE = 1.0 / 3.0
"""Of the time, for trials in which the rig moves: it has to be homed before each."""
SLOWEST_UM_S = 20_000


class Watched:
    """A device that notes when a stop byte reached it, and when it had acted on it."""

    def __init__(self, device: Any, byte: int, out: Connection) -> None:
        self._device, self._byte, self._out = device, byte, out

    def receive(self, data: bytes, now_ns: int) -> None:
        read_ns = time.monotonic_ns()
        self._device.receive(data, now_ns)
        if self._byte in data:
            self._out.send((read_ns, time.monotonic_ns()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


def devices(folder: Path, rig_out: Connection, applicator_out: Connection, is_urgent: bool) -> None:
    if is_urgent:
        raise_priority()
    bench = Benchtop(1)
    bench.applicator_mechanics.insert_cartridge(15)
    ends: Any = {
        "rig": (Watched(bench.cables["rig"], ord("!"), rig_out), PseudoTerminal(folder / "rig")),
        "applicator": (
            Watched(bench.cables["applicator"], 0x18, applicator_out),
            PseudoTerminal(folder / "applicator"),
        ),
    }
    (folder / "ready").touch()
    serve(ends, None, dict)


def hog() -> None:
    while True:
        pass


class Desk:
    """Drivers at their ports."""

    def __init__(self, folder: Path) -> None:
        self.rig = RigDriver(RigConfig())
        self.applicator = ApplicatorDriver(ApplicatorConfig(15, 5000, 18), "5A17")
        ends: Any = {
            "rig": (self.rig, Port(str(folder / "rig"))),
            "applicator": (self.applicator, Port(str(folder / "applicator"))),
        }
        self.transport = PortTransport(ends)

    def serve(self, until_ns: int | None = None) -> None:
        """Until both are idle, or until that time."""
        while True:
            self.transport.exchange()
            self.looked()
            now = self.transport.now_ns()
            for driver in (self.rig, self.applicator):
                wake = driver.next_wake()
                if wake is not None and wake <= now:
                    driver.wake(now)
            self.rig.events()
            self.applicator.events()
            if until_ns is None and not (self.rig.is_busy or self.applicator.is_busy):
                return
            if until_ns is not None and now >= until_ns:
                return
            wakes = [
                w for w in (self.rig.next_wake(), self.applicator.next_wake(), until_ns) if w is not None
            ]
            self.transport.wait(min(wakes) if wakes else None)

    def looked(self) -> None:
        """What else the loop does each time round."""

    def stop(self, *, has_rig: bool) -> int:
        """As the session does; the moment of the call, ns."""
        called_ns = time.monotonic_ns()
        now = self.transport.now_ns()
        if has_rig:
            self.rig.stop(now)
        self.applicator.stop(now)
        self.transport.exchange()
        return called_ns

    def do(self, driver: Any, command: Any) -> None:
        driver.start(command, self.transport.now_ns())

    def ready(self) -> None:
        """Whatever the last stop has left: connected, cleared, homed."""
        for _ in range(20):
            self.serve()
            rig, applicator = self.rig.state, self.applicator.state
            if not rig.linked:
                self.do(self.rig, ConnectRig())
            if not applicator.linked:
                self.do(self.applicator, Connect())
            elif applicator.latch != "NONE":
                self.do(self.applicator, ClearLatch(applicator.latch, applicator.latch_seed, "NO"))
            elif not applicator.retraction_homed:
                self.do(self.applicator, HomeRetraction())
            elif not applicator.stylet_homed:
                self.do(self.applicator, HomeStylet())
            else:
                return
        raise RuntimeError("the devices don't come back")


def measured(
    stops: int,
    *,
    longest_s: float,
    hogs: int,
    is_urgent: bool,
    desk_at: Callable[[Path], Desk] = Desk,
    rig_share: float = RIG_SHARE,
) -> dict[str, list[float]]:
    """Milliseconds, by what was measured."""
    chance = random.Random(3)
    rig_in, rig_out = multiprocessing.Pipe(False)
    applicator_in, applicator_out = multiprocessing.Pipe(False)
    found: dict[str, list[float]] = {"applicator byte": [], "applicator axis": [], "rig byte": []}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        made_devices = (folder, rig_out, applicator_out, is_urgent)
        others = [multiprocessing.Process(target=devices, args=made_devices, daemon=True)]
        others += [multiprocessing.Process(target=hog, daemon=True) for _ in range(hogs)]
        for other in others:
            other.start()
        while not (folder / "ready").exists():
            time.sleep(0.01)
        try:
            desk, begin, rig_s = desk_at(folder), time.monotonic(), 0.0
            for _ in range(stops):
                began_s = time.monotonic()
                if began_s - begin > longest_s:
                    break
                desk.ready()
                has_rig = rig_share > 0.0 and rig_s <= rig_share * (began_s - begin)
                if has_rig and not desk.rig.state.position_known:
                    desk.do(desk.rig, HomeRig())
                    desk.serve()
                if has_rig:
                    desk.do(desk.rig, MoveAcross(desk.rig.state.x_mm - 90.0, 0.0))
                z_um = 140_000 if desk.applicator.state.z_um < 70_000 else 0
                desk.do(desk.applicator, MoveNeedleTo(z_um, SLOWEST_UM_S))
                desk.serve(desk.transport.now_ns() + chance.randrange(10, 40) * 1_000_000)
                called_ns = desk.stop(has_rig=has_rig)
                desk.serve()
                desk.serve(desk.transport.now_ns() + 5_000_000)
                read_ns, rest_ns = applicator_in.recv()
                found["applicator byte"].append((read_ns - called_ns) / 1e6)
                found["applicator axis"].append((rest_ns - called_ns) / 1e6)
                while applicator_in.poll():
                    applicator_in.recv()  # a stop byte sent again
                if has_rig:
                    found["rig byte"].append((rig_in.recv()[0] - called_ns) / 1e6)
                    while rig_in.poll():
                        rig_in.recv()
                    rig_s += time.monotonic() - began_s
            desk.transport.close()
        finally:
            for other in others:
                other.kill()
                other.join()
    return found


def main() -> int:
    reader = argparse.ArgumentParser(description="Stop latency, in real time.")
    reader.add_argument("--stops", type=int, default=500, help="for each row")
    reader.add_argument("--longest-s", type=float, default=75.0, help="for each row")
    given_args = reader.parse_args()
    cores = os.cpu_count() or 1
    rows = [
        ("no hogs", 0, False),
        (f"{cores} hogs", cores, False),
        (f"{cores} hogs, raised", cores, True),
    ]
    print(f"Machine load before: {os.getloadavg()[0]:.1f} on {cores} cores.\n")
    print("| load | measured | stops | median ms | 99 % | 99.9 % | worst | 99.9 % against alone |")
    print("|---|---|---|---|---|---|---|---|")
    alone: dict[str, float] = {}
    given = ""
    last: dict[str, float] = {}
    for load, hogs, is_urgent in rows:
        if is_urgent:
            given = raise_priority()  # last: it is not given back
        found = measured(given_args.stops, longest_s=given_args.longest_s, hogs=hogs, is_urgent=is_urgent)
        for what, times in found.items():
            middle, high, highest = (
                float(np.quantile(times, q, method="higher")) for q in (0.5, 0.99, 0.999)
            )
            alone.setdefault(what, highest)
            last[what] = highest
            print(
                f"| {load} | {what} | {len(times)} | {middle:.2f} | {high:.2f} | {highest:.2f} | {max(times):.2f} "
                f"| {highest / alone[what]:.1f} |",
                flush=True,
            )
    print(f"\nThe system gave: {given}. Machine load at the end: {os.getloadavg()[0]:.1f}.")
    return int(last["applicator axis"] > GOAL_MS)


if __name__ == "__main__":
    sys.exit(main())
