"""A simulated AccuSeed stepper encoder on the rig's needle carriage, from WIRE.md part 3, with a codec of its own.

It sees where the carriage truly is, whatever the motor's board believes.
"""

from __future__ import annotations

from collections.abc import Callable

_SHOWN_AS = {"up": 0x07, "pressed": 0x47, "latched": 0x67}


def sealed(values: list[int]) -> bytes:
    """STX, the bytes and their sum as hex digits, ETX."""
    text = "".join(f"{value:02X}" for value in [*values, sum(values) % 256])
    return b"\x02" + text.encode("ascii") + b"\x03"


def unsealed(text: str) -> list[int] | None:
    """The bytes before the sum; None where anything does not fit."""
    if len(text) < 4 or len(text) % 2 or text != text.upper():
        return None
    try:
        values = [int(text[i : i + 2], 16) for i in range(0, len(text), 2)]
    except ValueError:
        return None
    if any(not character.isalnum() for character in text):
        return None
    return values[:-1] if values[0] % 8 == len(values) - 1 and sum(values[:-1]) % 256 == values[-1] else None


class AccuSeedFirmware:
    """One powered-up encoder: four verbs, no I/O.

    Args:
        depth_mm: where the carriage truly is now (depth grows into the patient).
        counts_per_mm: of its gear; assumed 20.
        serial: its number; model 0 is a simulated one.
        answers_first: its answer leaves before its acknowledgement.

    Attributes:
        is_valid: its counters are; False after a power failure until somebody steps it home.
        button: up, pressed or latched.
        acknowledged: codes of its packets that the host has acknowledged.
    """

    def __init__(
        self,
        depth_mm: Callable[[], float],
        *,
        counts_per_mm: float = 20.0,
        serial: int = 1010,
        answers_first: bool = False,
    ) -> None:
        self._depth_mm, self._scale, self._serial = depth_mm, counts_per_mm, serial
        self._answers_first = answers_first
        self._zero_mm = depth_mm()
        self.is_valid = True
        self.button = "up"
        self.acknowledged: list[int] = []
        self.discarded = 0
        self._heard: str | None = None
        self._out = bytearray()

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host; nothing that arrives raises."""
        del now_ns
        for character in data.decode("latin-1"):
            if character == "\x02":
                self._heard = ""
            elif self._heard is None:
                self.discarded += 1
            elif character == "\x03":
                values, self._heard = unsealed(self._heard), None
                if values is None:
                    self.discarded += 1
                else:
                    self._do(values)
            else:
                self._heard = self._heard + character if len(self._heard) < 16 else None

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        return None

    def wake(self, now_ns: int) -> None:
        del now_ns

    @property
    def counts(self) -> int:
        """As its 16-bit counter holds them, wrapped."""
        counts = round((self._depth_mm() - self._zero_mm) * self._scale)
        return (counts + 0x8000) % 0x10000 - 0x8000

    def _do(self, values: list[int]) -> None:
        code = values[0]
        if code == 0xFA:
            self.acknowledged.append(values[1])
            return
        answer = self._answer(code)
        acknowledgement = sealed([0xFA, code])
        if answer is None:
            self._out += acknowledgement
        else:
            first, second = (answer, acknowledgement) if self._answers_first else (acknowledgement, answer)
            self._out += first + second

    def _answer(self, code: int) -> bytes | None:
        if code == 0x51:
            return sealed([0x37, 3, 2, 0, 0, *divmod(self._serial, 256)])
        if code == 0x21:
            return sealed([0x22, 0])
        if code == 0x19:
            if not self.is_valid:
                return sealed([0x29])
            return sealed([_SHOWN_AS[self.button], *divmod(self.counts % 0x10000, 256), 0, 0, 0, 0])
        return None
