"""The power switch of a simulated device: off, on again as a new boot, brown-outs, also in mid-write.

Stands between cable and firmware with the same four verbs. A device without power hears and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from simulator.cable import Endpoint
from simulator.nonvolatile import PowerCutError


class Firmware(Endpoint, Protocol):
    """An endpoint that can lose its power."""

    def power_cut(self, now_ns: int | None = None) -> None: ...


class Powered:
    """A firmware and its supply.

    Args:
        boot: makes the firmware of the next boot at a time (ns), on the same store and mechanics.
        start_ns: first switched on.
        boot_ns: from power to the first word.
    """

    def __init__(
        self, boot: Callable[[int], Firmware], *, start_ns: int = 0, boot_ns: int = 50_000_000
    ) -> None:
        self._boot, self._boot_ns = boot, boot_ns
        self._up_at_ns: int | None = None
        self._now_ns = start_ns
        self.firmware: Firmware | None = boot(start_ns)

    def power_off(self, now_ns: int) -> None:
        if self.firmware is not None:
            firmware, self.firmware = self.firmware, None
            try:
                firmware.power_cut(now_ns)
            except PowerCutError:
                firmware.power_cut()
        self._up_at_ns = None

    def power_on(self, now_ns: int) -> None:
        if self.firmware is None and self._up_at_ns is None:
            self._up_at_ns = now_ns + self._boot_ns

    def brown_out(self, now_ns: int) -> None:
        """Reset: off and on again."""
        self.power_off(now_ns)
        self.power_on(now_ns)

    def receive(self, data: bytes, now_ns: int) -> None:
        self.wake(now_ns)
        self._guarded(lambda firmware: firmware.receive(data, now_ns), now_ns)

    def take(self) -> bytes:
        return b"" if self.firmware is None else self.firmware.take()

    def next_wake(self) -> int | None:
        return self._up_at_ns if self.firmware is None else self.firmware.next_wake()

    def wake(self, now_ns: int) -> None:
        if self._up_at_ns is not None and now_ns >= self._up_at_ns:
            up_at_ns, self._up_at_ns = self._up_at_ns, None
            try:
                self.firmware = self._boot(up_at_ns)
            except PowerCutError:
                self.power_on(up_at_ns)
        self._guarded(lambda firmware: firmware.wake(now_ns), now_ns)

    def _guarded(self, act: Callable[[Firmware], None], now_ns: int) -> None:
        """A power cut planned in the store is a brown-out here."""
        if self.firmware is None:
            return
        try:
            act(self.firmware)
        except PowerCutError:
            self.firmware.power_cut()
            self.firmware = None
            self.power_on(now_ns)
