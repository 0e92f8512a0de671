"""A serial cable with seeded faults, and the wires' common shape: an endpoint with four verbs and no I/O.

A cable is itself an endpoint: the host holds one end, the device hangs on the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Endpoint(Protocol):
    """Anything that bytes go into and come out of. Time is an argument, integer ns, never going back."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes arrive."""

    def take(self) -> bytes:
        """Bytes to be sent, since the last call."""

    def next_wake(self) -> int | None:
        """When it wants to be woken, or None; a time that has passed means at once."""

    def wake(self, now_ns: int) -> None:
        """Do what is due."""


@dataclass(frozen=True)
class Faults:
    """What a cable does to each byte; probabilities 0..1.

    Attributes:
        delay_ns: least and most delay; order is kept.
        byte_ns: least time between two bytes, each delivered alone (86 806 at 115200 8N1); 0 keeps chunks.
        loss, flip, duplicate: of a byte: gone; one of its bits turned; twice.
    """

    delay_ns: tuple[int, int] = (0, 0)
    byte_ns: int = 0
    loss: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0


PERFECT = Faults()


class Lane:
    """One direction of a cable.

    Args:
        faults: what it does to bytes.
        random: decides when.
    """

    def __init__(self, faults: Faults, random: np.random.Generator) -> None:
        self.faults = faults
        self.is_cut = False
        self._random = random
        self._under_way: deque[tuple[int, bytes]] = deque()
        self._last_ns = 0
        self._arrived = bytearray()

    def receive(self, data: bytes, now_ns: int) -> None:
        if self.is_cut or not data:
            return
        if self.faults == PERFECT:
            self._under_way.append((max(now_ns, self._last_ns), data))
            return
        data = self._spoiled(data)
        pieces = [data[i : i + 1] for i in range(len(data))] if self.faults.byte_ns else [data]
        for piece in pieces:
            low, high = self.faults.delay_ns
            delay_ns = low if low == high else int(self._random.integers(low, high + 1))
            self._last_ns = max(now_ns + delay_ns, self._last_ns + self.faults.byte_ns)
            if piece:
                self._under_way.append((self._last_ns, piece))

    def take(self) -> bytes:
        if not self._arrived:
            return b""
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    def next_wake(self) -> int | None:
        return self._under_way[0][0] if self._under_way else None

    def wake(self, now_ns: int) -> None:
        while self._under_way and self._under_way[0][0] <= now_ns:
            self._arrived += self._under_way.popleft()[1]

    def cut(self) -> None:
        """Nothing more gets through, nor does what is under way."""
        self.is_cut = True
        self._under_way.clear()
        self._arrived.clear()

    def mend(self) -> None:
        self.is_cut = False

    def _spoiled(self, data: bytes) -> bytes:
        faults, random = self.faults, self._random
        if not (faults.loss or faults.flip or faults.duplicate):
            return data
        out = bytearray()
        for byte, (lost, flipped, twice) in zip(data, random.random((len(data), 3)), strict=True):
            if lost < faults.loss:
                continue
            arriving = byte ^ (1 << int(random.integers(8))) if flipped < faults.flip else byte
            out += bytes([arriving]) * (2 if twice < faults.duplicate else 1)
        return bytes(out)


class Cable:
    """A device at the far end of a cable; to the host, an endpoint like the device itself.

    Args:
        device: hangs on the far end; may be replaced (``cable.device = ...``).
        random: seeds both lanes' faults.
        faults: of both directions, or of host-to-device only when ``back`` is given.
        back: of device-to-host.
    """

    def __init__(
        self,
        device: Endpoint,
        random: np.random.Generator,
        faults: Faults = PERFECT,
        back: Faults | None = None,
    ) -> None:
        self.device = device
        self.down = Lane(faults, random)
        self.up = Lane(faults if back is None else back, random)
        self._now_ns = 0

    def receive(self, data: bytes, now_ns: int) -> None:
        self.wake(now_ns)
        self.down.receive(data, now_ns)
        self.wake(now_ns)

    def take(self) -> bytes:
        self._collect()
        return self.up.take()

    def next_wake(self) -> int | None:
        self._collect()
        due_ns = self.device.next_wake()
        for lane in (self.down, self.up):
            lane_ns = lane.next_wake()
            if lane_ns is not None and (due_ns is None or lane_ns < due_ns):
                due_ns = lane_ns
        return due_ns

    def wake(self, now_ns: int) -> None:
        """Deliver and wake all that is due until ``now_ns``, each at its own time."""
        while True:
            due_ns = self.next_wake()
            if due_ns is None or due_ns > now_ns:
                break
            self._step(max(due_ns, self._now_ns))
        if self._now_ns < now_ns:
            self._step(now_ns)

    def cut(self) -> None:
        """Both directions."""
        self.down.cut()
        self.up.cut()

    def mend(self) -> None:
        self.down.mend()
        self.up.mend()

    def _step(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self.down.wake(now_ns)
        data = self.down.take()
        if data:
            self.device.receive(data, now_ns)
        else:
            self.device.wake(now_ns)
        self._collect()
        self.up.wake(now_ns)

    def _collect(self) -> None:
        data = self.device.take()
        if data:
            self.up.receive(data, self._now_ns)
            self.up.wake(self._now_ns)
