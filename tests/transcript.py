"""Written conversations for driver tests: what the host must say, what the device says, when.

The checksum here is computed bit by bit, on purpose not with the drivers' own function.
"""

from __future__ import annotations

from typing import Any, Protocol

MS = 1_000_000


def crc_bit_by_bit(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def sealed(text: str) -> bytes:
    """A packet's line from its text before the ``|``."""
    return f"{text}|{crc_bit_by_bit(text.encode()):04X}\n".encode()


class Endpoint(Protocol):
    def start(self, command: Any, now_ns: int) -> None: ...
    def stop(self, now_ns: int) -> None: ...
    def receive(self, data: bytes, now_ns: int) -> None: ...
    def take(self) -> bytes: ...
    def next_wake(self) -> int | None: ...
    def wake(self, now_ns: int) -> None: ...
    def events(self) -> list[Any]: ...


class Transcript:
    """A driver, a clock, and the bytes between them."""

    def __init__(self, driver: Endpoint) -> None:
        self.driver = driver
        self.now_ns = 1_000_000_000

    def start(self, command: object) -> None:
        self.driver.start(command, self.now_ns)

    def stop(self) -> None:
        self.driver.stop(self.now_ns)

    def host(self, *expected: bytes) -> None:
        """The host has now said exactly this."""
        assert self.driver.take() == b"".join(expected)

    def device(self, *said: bytes) -> None:
        """The device says this."""
        for data in said:
            self.driver.receive(data, self.now_ns)

    def after(self, milliseconds: float) -> None:
        """Let time pass, waking the driver whenever it wants to be."""
        end_ns = self.now_ns + round(milliseconds * MS)
        while (due_ns := self.driver.next_wake()) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.driver.wake(self.now_ns)
        self.now_ns = end_ns

    def events(self) -> list[Any]:
        return self.driver.events()
