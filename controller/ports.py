"""Both wires at real serial ports, in real time (or, against a simulator, faster).

Knows: ports, the clock, how to wait for bytes. Does not know: what the bytes mean.
"""

from __future__ import annotations

import select
import time
from typing import Protocol

from drivers.port import Port

_LONGEST_NAP_S = 0.05


class _Driver(Protocol):
    def receive(self, data: bytes, now_ns: int) -> None: ...
    def take(self) -> bytes: ...


class PortTransport:
    """Drivers joined with their ports.

    Args:
        pairs: each driver with its open port.
        speed: how many times faster than the wall's clock the devices' time runs; 1 for hardware.
    """

    def __init__(self, pairs: tuple[tuple[_Driver, Port], ...], *, speed: float = 1.0) -> None:
        self._pairs = pairs
        self._speed = speed
        self._start_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        return int((time.monotonic_ns() - self._start_ns) * self._speed)

    def exchange(self) -> bool:
        """Bytes out first: a stop never waits behind what has come in."""
        moved = False
        for driver, port in self._pairs:
            out = driver.take()
            port.write(out)
            back = port.read()
            if back:
                driver.receive(back, self.now_ns())
                port.write(driver.take())
            moved = moved or bool(out or back)
        return moved

    def wait(self, wake_ns: int | None) -> None:
        nap_s = _LONGEST_NAP_S
        if wake_ns is not None:
            nap_s = min(nap_s, max(0.0, (wake_ns - self.now_ns()) / 1e9 / self._speed))
        descriptors = [fd for _, port in self._pairs if (fd := port.fileno()) is not None]
        select.select(descriptors, [], [], nap_s)

    def close(self) -> None:
        for _, port in self._pairs:
            port.close()
