"""A driver and a simulated device on a bad wire, in virtual time: faults at their times, bytes between.

Knows time, bytes, the cable, the supply. Does not know what the commands mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simulator.cable import PERFECT, Cable, Faults
from simulator.power import Powered

MS = 1_000_000
BYTE_NS = 86_806
"""One byte at 115200 8N1."""


class BadWire:
    """One driver at one device.

    Args:
        driver: with the four verbs, ``start`` and ``events``.
        boot: makes the device's firmware at a time (ns).
        faults: of the cable.
        due: what happens when: (ms, act), in any order.
    """

    def __init__(
        self,
        driver: Any,
        boot: Callable[[int], Any],
        faults: Faults,
        due: list[tuple[int, Callable[[BadWire], None]]],
        seed: int = 1,
    ) -> None:
        self.driver = driver
        self.power = Powered(boot)
        self.cable = Cable(self.power, np.random.default_rng(seed), faults)
        self.now_ns = 0
        self.sent = 0
        self.byte_acts: dict[int, Callable[[BadWire], None]] = {}
        self._due = sorted(due, key=lambda pair: pair[0])

    def mend(self) -> None:
        """From now on the wire is perfect and nothing more goes wrong."""
        self._due.clear()
        self.byte_acts.clear()
        self.cable.mend()
        self.cable.down.faults = self.cable.up.faults = PERFECT

    def ask(self, command: Any, at_most_ms: int = 200_000) -> list[Any]:
        """Everything heard until the command has ended."""
        self.driver.start(command, self.now_ns)
        end_ns = self.now_ns + at_most_ms * MS
        heard: list[Any] = []
        while True:
            heard += self._exchange()
            if not self.driver.is_busy:
                return heard
            assert self.now_ns < end_ns, f"{command} never ended: {heard}"
            self._sleep(end_ns)

    def pass_time(self, ms: int) -> list[Any]:
        end_ns = self.now_ns + ms * MS
        heard = self._exchange()
        while self.now_ns < end_ns:
            self._sleep(end_ns)
            heard += self._exchange()
        return heard

    def _exchange(self) -> list[Any]:
        while True:
            out, back = self.driver.take(), self.cable.take()
            if not out and not back:
                return list(self.driver.events())
            if not self.byte_acts:
                self.cable.receive(out, self.now_ns)
                self.sent += len(out)
                out = b""
            for i in range(len(out)):
                self.cable.receive(out[i : i + 1], self.now_ns)
                self.sent += 1
                act = self.byte_acts.pop(self.sent, None)
                if act is not None:
                    act(self)
            if back:
                self.driver.receive(back, self.now_ns)

    def _sleep(self, end_ns: int) -> None:
        """Until the next thing is due."""
        wakes = [self.driver.next_wake(), self.cable.next_wake(), end_ns]
        if self._due:
            wakes.append(self._due[0][0] * MS)
        self.now_ns = max(self.now_ns, min(wake for wake in wakes if wake is not None))
        while self._due and self._due[0][0] * MS <= self.now_ns:
            self._due.pop(0)[1](self)
        self.cable.wake(self.now_ns)
        if back := self.cable.take():  # what has come is heard before anybody concludes that nothing came
            self.driver.receive(back, self.now_ns)
        wake_ns = self.driver.next_wake()
        if wake_ns is not None and wake_ns <= self.now_ns:
            self.driver.wake(self.now_ns)


def brown_out(wire: BadWire) -> None:
    wire.power.brown_out(wire.now_ns)


def stop(wire: BadWire) -> None:
    wire.driver.stop(wire.now_ns)


def half_a_line(wire: BadWire) -> None:
    """What a crashed host has left behind."""
    wire.cable.receive(b">0001:3:MOVE z=9", wire.now_ns)


def stale_answer(wire: BadWire) -> None:
    """What the device said to somebody else."""
    wire.driver.receive(b"<0001:4:FIRE n=1 dup=0|0000\n<0001:2:PI", wire.now_ns)


def cut(wire: BadWire) -> None:
    wire.cable.cut()


def mend_cut(wire: BadWire) -> None:
    wire.cable.mend()
