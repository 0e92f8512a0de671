"""The applicator behind each of its doors, all taking the same tests.

The Python firmware in this process on virtual time, behind a pseudo-terminal and behind a TCP port; the C firmware
compiled for this machine on virtual time, and its AVR build, cycle-true in simavr (firmware_bench.py).
A served device's time runs ``SPEED`` times faster, but at life's pace as soon as its host is silent while the
watchdog runs. Its hands and faults happen in the bench's own thread.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firmware_bench import (
    JAM,
    LOOP_OPEN,
    NO_SEED,
    STALL,
    TWO,
    UNSEATED,
    Device,
    Host,
    host_device,
    simavr_device,
)

from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.benchtop import LISTENING
from simulator.doors import PseudoTerminal, TcpPort, serve
from simulator.nonvolatile import NonVolatile

MS = 1_000_000
SPEED = 20.0
SEEDS = 15
VIRTUAL = ("python", "c")
"""Doors at which time costs nothing."""
DOORS = (*VIRTUAL, "pty", "tcp", "simavr")


class _PageRandom:
    """Draws what the page's example shows: 2 um too far, 820 mN."""

    def normal(self, mean: float, sigma: float) -> float:
        return mean + (0.002 if sigma < 1.0 else 0.0)


class Applicator:
    """The simulated applicator with its supply and a person's hands; an endpoint. Without power until ``boot``."""

    def __init__(self) -> None:
        self.store = NonVolatile()
        self.mechanics = ApplicatorMechanics(_PageRandom())  # type: ignore[arg-type]
        self.mechanics.insert_cartridge(SEEDS)
        self.firmware: ApplicatorFirmware | None = None
        self._bits = 0

    def boot(self, now_ns: int) -> None:
        """Power on, or off and on."""
        if self.firmware is not None:
            self.firmware.power_cut(now_ns)
        self.firmware = ApplicatorFirmware(self.mechanics, self.store, start_ns=now_ns)

    def inputs(self, bits: int, now_ns: int) -> None:
        """The jumpers of the C build, as hands and faults."""
        mechanics, was = self.mechanics, self._bits
        self._bits = bits
        if (bits ^ was) & LOOP_OPEN:
            mechanics.set_estop(bool(bits & LOOP_OPEN), now_ns)
        if (bits ^ was) & UNSEATED:
            mechanics.remove_cartridge() if bits & UNSEATED else mechanics.insert_cartridge(SEEDS)
        if (bits ^ was) & STALL:
            mechanics.stick_z(bool(bits & STALL), now_ns)
        if bits & JAM:
            mechanics.jam_next()
        elif was & JAM:
            mechanics.clear_path()
        if bits & NO_SEED:
            mechanics.push_nothing_next()
        if bits & TWO:
            mechanics.take_two_next()

    def receive(self, data: bytes, now_ns: int) -> None:
        if self.firmware is not None:
            self.firmware.receive(data, now_ns)

    def take(self) -> bytes:
        return b"" if self.firmware is None else self.firmware.take()

    def next_wake(self) -> int | None:
        return None if self.firmware is None else self.firmware.next_wake()

    def wake(self, now_ns: int) -> None:
        if self.firmware is not None:
            self.firmware.wake(now_ns)

    def listens(self) -> bool:
        return self.firmware is not None and self.firmware.board.state in LISTENING


class PythonDevice:
    """In this process; time passes when it is asked for."""

    def __init__(self, start_inputs: int = 0) -> None:
        self.applicator = Applicator()
        self._now_ns = 0
        self.boots = 0
        self.inputs(start_inputs)
        self.reset()

    def reset(self) -> None:
        self.boots += 1
        self.applicator.boot(self._now_ns)

    def inputs(self, bits: int) -> None:
        self.applicator.inputs(bits, self._now_ns)

    def now_ms(self) -> float:
        return self._now_ns / MS

    def put(self, data: bytes) -> None:
        self.applicator.receive(data, self._now_ns)

    def take(self, at_most_ms: int) -> bytes:
        end_ns = self._now_ns + at_most_ms * MS
        self.applicator.wake(self._now_ns)
        while not (got := self.applicator.take()) and self._now_ns < end_ns:
            due_ns = self.applicator.next_wake()
            self._now_ns = end_ns if due_ns is None else max(self._now_ns, min(end_ns, due_ns))
            self.applicator.wake(self._now_ns)
        return got


class _Bench:
    """What the bench's loop is asked to do between two rounds."""

    def __init__(self) -> None:
        self.is_over = False
        self.now_ns = 0
        self._asked: deque[tuple[Callable[[int], None], threading.Event]] = deque()

    def do(self, act: Callable[[int], None]) -> None:
        done = threading.Event()
        self._asked.append((act, done))
        assert done.wait(10.0), "the bench stands still"

    def register(self, selector: selectors.BaseSelector) -> None: ...

    def ready(self, *_: Any) -> bool:
        return True

    def turn(self, _selector: selectors.BaseSelector, now_ns: int) -> bool:
        self.now_ns = now_ns
        while self._asked:
            act, done = self._asked.popleft()
            act(now_ns)
            done.set()
        return not self.is_over

    def nap_s(self) -> float:
        return 0.002

    def close(self) -> None: ...


class ServedDevice:
    """Behind a pseudo-terminal or a TCP port, served by another thread."""

    def __init__(self, door: str, link: Path, start_inputs: int = 0) -> None:
        self._bench, self._applicator = _Bench(), Applicator()
        way_in = PseudoTerminal(link) if door == "pty" else TcpPort()
        self._thread = threading.Thread(
            target=serve,
            args=({"applicator": (self._applicator, way_in)}, None, dict),
            kwargs={"speed": SPEED, "visitors": [self._bench], "listens": self._applicator.listens},
        )
        self._thread.start()
        if isinstance(way_in, TcpPort):
            self._socket: socket.socket | None = socket.create_connection(("127.0.0.1", way_in.port))
            self._descriptor = self._socket.fileno()
        else:
            self._socket = None
            self._descriptor = os.open(link, os.O_RDWR | os.O_NOCTTY)
        self.boots = 0
        self.inputs(start_inputs)
        self.reset()

    def reset(self) -> None:
        self.boots += 1
        self._bench.do(self._applicator.boot)

    def inputs(self, bits: int) -> None:
        self._bench.do(lambda now_ns: self._applicator.inputs(bits, now_ns))

    def now_ms(self) -> float:
        return self._bench.now_ns / MS

    def put(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    def take(self, at_most_ms: int) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.002, at_most_ms / 1000 / SPEED))
        return os.read(self._descriptor, 4096) if ready else b""

    def close(self) -> None:
        self._bench.is_over = True
        self._thread.join()
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)


@contextmanager
def behind(door: str, folder: Path, start_inputs: int = 0) -> Iterator[Device]:
    """A fresh device behind that door, just booted for the first time. Skips where a tool is absent."""
    if door == "python":
        yield PythonDevice(start_inputs)
    elif door == "c":
        yield host_device(start_inputs)
    elif door == "simavr":
        simavr = simavr_device(folder / "eeprom.bin")
        if start_inputs:  # pins keep their levels over a reset
            first = Host(simavr)
            first.event("BOOTED")
            simavr.inputs(start_inputs)
            first.event("STOPPED")
            simavr.reset()
        try:
            yield simavr
        finally:
            simavr.close()
    else:
        served = ServedDevice(door, folder / "applicator", start_inputs)
        try:
            yield served
        finally:
            served.close()
