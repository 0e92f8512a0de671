"""The AccuSeed depth encoder's driver: it asks and acknowledges, and never changes anything in the device.

Knows: questions and their repetition, when the encoder is lost, counts to mm by configuration and reference. Does not
know: the rig, ports, clocks. The four verbs as in ``rig``; time is an integer in ns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drivers.accuseed_packet import (
    ACKNOWLEDGE,
    POSITION,
    STATUS,
    VERSION,
    CountersInvalid,
    EncoderCounts,
    EncoderStatus,
    EncoderVersion,
    Heard,
    PacketSplitter,
    encode,
)
from drivers.depth_check import ENCODER_TOLERANCE_MM

BAUD = 19_200
ANSWER_NS = 300_000_000
TIMES = 3
TRAVEL_MM = 200.0


@dataclass(frozen=True)
class AccuSeedConfig:
    """The one encoder on the needle carriage.

    Attributes:
        counts_per_mm: how far the counts go per mm of depth; negative where they fall with depth. No default: it
            depends on the gear.
        serial: the one encoder wanted; None takes any.
        tolerance_mm: how far its reading may be from the depth commanded; assumed.
        port: how the port is called in messages.

    Raises:
        ValueError: tolerance not above 0; counts zero, not finite, or so large that 200 mm do not fit the
            device's 16 bits.
    """

    counts_per_mm: float
    serial: int | None = None
    tolerance_mm: float = ENCODER_TOLERANCE_MM
    port: str = "depth encoder"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_mm) and self.tolerance_mm > 0):
            raise ValueError("the encoder's tolerance must be a length above 0 mm")
        if not (math.isfinite(self.counts_per_mm) and self.counts_per_mm):
            raise ValueError("the encoder's counts per mm must be a number other than 0")
        if abs(self.counts_per_mm) * TRAVEL_MM > 32767:
            raise ValueError(
                f"{self.counts_per_mm:g} counts per mm: 200 mm of travel do not fit the encoder's 16 bits"
            )


@dataclass(frozen=True)
class EncoderConnected:
    """It is there and is the one wanted."""

    version: str
    model: int
    serial: int
    status: int
    simulated: bool


@dataclass(frozen=True)
class EncoderRead:
    """One reading; ``depth_mm`` is None until ``reference`` was called."""

    counts: int
    depth_mm: float | None
    button: str


@dataclass(frozen=True)
class EncoderRefused:
    """It answers, but can't be used; ``reason`` says why and what to do."""

    reason: str


@dataclass(frozen=True)
class EncoderLost:
    """It doesn't answer any more."""

    sentence: str


EncoderEvent = EncoderConnected | EncoderRead | EncoderRefused | EncoderLost


class AccuSeedDriver:
    """One encoder. Each ``connect`` and ``read`` ends with exactly one event."""

    def __init__(self, config: AccuSeedConfig) -> None:
        self.config = config
        self._splitter = PacketSplitter()
        self._out = bytearray()
        self._events: list[EncoderEvent] = []
        self._questions: list[int] = []
        self._asked = 0
        self._again_ns = 0
        self._version: EncoderVersion | None = None
        self._counts: int | None = None
        self._zero: tuple[int, float] | None = None
        self.linked = False

    @property
    def is_busy(self) -> bool:
        return bool(self._questions)

    @property
    def garbage(self) -> int:
        """Packets and bytes that could not be read."""
        return self._splitter.garbage

    def connect(self, now_ns: int) -> None:
        """Who is there, and is it alive. What was referenced is void."""
        self._begin([VERSION, STATUS], now_ns)
        self._zero, self._counts, self.linked = None, None, False

    def read(self, now_ns: int) -> None:
        """Where the carriage is."""
        self._begin([POSITION], now_ns)

    def abandon(self) -> None:
        """Nobody waits for the answer any more; one that still comes is acknowledged and taken for nothing."""
        self._questions.clear()
        self._events.clear()

    def reference(self, depth_mm: float) -> None:
        """The last reading was at this depth. ValueError where there is none."""
        if self._counts is None:
            raise ValueError("the encoder has not been read yet")
        self._zero = (self._counts, depth_mm)

    def events(self) -> list[EncoderEvent]:
        """What happened since the last call, in order."""
        drained, self._events = self._events, []
        return drained

    # ------------------------------------------------------------ the four verbs

    def receive(self, data: bytes, now_ns: int) -> None:
        for packet in self._splitter.receive(data):
            if packet.code != ACKNOWLEDGE:
                self._out += encode(ACKNOWLEDGE, bytes([packet.code]))
            if self._questions and packet.question == self._questions[0]:
                self._take_answer(packet, now_ns)

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_wake(self) -> int | None:
        return self._again_ns if self._questions else None

    def wake(self, now_ns: int) -> None:
        if not self._questions or now_ns < self._again_ns:
            return
        if self._asked < TIMES:
            self._ask(now_ns)
            return
        self._questions.clear()
        self.linked, self._zero, self._counts = False, None, None
        self._events.append(EncoderLost(f"{self.config.port}: the depth encoder doesn't answer"))

    # ------------------------------------------------------------ inner workings

    def _begin(self, questions: list[int], now_ns: int) -> None:
        if self._questions:
            raise ValueError("the encoder is still being asked")
        self._questions, self._asked = questions, 0
        self._ask(now_ns)

    def _ask(self, now_ns: int) -> None:
        self._out += encode(self._questions[0])
        self._asked += 1
        self._again_ns = now_ns + ANSWER_NS

    def _take_answer(self, packet: Heard, now_ns: int) -> None:
        self._questions.pop(0)
        self._asked = 0
        match packet.answer:
            case EncoderVersion() as version:
                self._version = version
                wanted = self.config.serial
                if wanted is not None and version.serial != wanted:
                    self._refuse(f"it is number {version.serial}, the configuration demands {wanted}")
                    return
            case EncoderStatus(status) if self._version is not None:
                v, self.linked = self._version, True
                self._events.append(EncoderConnected(v.version, v.model, v.serial, status, v.model == 0))
            case EncoderCounts() as counts:
                self._counts = counts.probe
                self._events.append(EncoderRead(counts.probe, self._depth_mm(counts.probe), counts.button))
            case CountersInvalid():
                self._zero = self._counts = None
                self._refuse("its counters are invalid: step it to its home by hand, then reference it again")
        if self._questions:
            self._ask(now_ns)

    def _refuse(self, reason: str) -> None:
        self._questions.clear()
        self._events.append(EncoderRefused(f"{self.config.port}: {reason}"))

    def _depth_mm(self, counts: int) -> float | None:
        if self._zero is None:
            return None
        at_zero, depth_mm = self._zero
        return depth_mm + (counts - at_zero) / self.config.counts_per_mm
