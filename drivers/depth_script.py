"""What the rig's scripts ask of the depth encoder on the carriage: who is there, its zero, and is it as deep as sent.

It is asked only while the rig rests: after connecting, at the end of homing, after every single motion of the carriage
(in tissue each step of at most 1 mm). Knows turns and the verdict. Does not know: packets, how bytes travel.
Depths here are the carriage's, as the machine counts them (``offset_z - Z``): on the coplanar rig the tip's.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Literal

from drivers.accuseed import ANSWER_NS, TIMES, EncoderConnected, EncoderEvent, EncoderLost, EncoderRead
from drivers.depth_check import judge_depth
from drivers.grbl import Axes, Line
from drivers.kinematics import RigConfig, depth_home_mm
from drivers.rig_geometry import Z
from drivers.rig_turn import Board, BrokenOff, NotDone, Turn

ANSWERS_MS = 2 * TIMES * ANSWER_NS // 1_000_000 + 500
LATE_MS = ANSWER_NS // 1_000_000
"""So long an answer that comes late to an earlier question may still take; then the carriage is read again."""
_BUT_NOT_MOVED = "nothing moves until it answers"

Asked = Generator[Turn, list[Line], EncoderEvent]


def encoder_in_words(connected: EncoderConnected) -> str:
    """How this one encoder is called in journal and messages."""
    simulated = "SIM-" if connected.simulated else ""
    return f"{simulated}ACCUSEED-{connected.serial}"


def connect_encoder(board: Board) -> Generator[Turn, list[Line], EncoderConnected | None]:
    """Who is there; None where none is fitted. NotDone: it doesn't answer, or is another one."""
    if board.encoder is None:
        return None
    said = yield from _ask(board, "connect")
    if not isinstance(said, EncoderConnected):
        raise NotDone(_why(said))
    return said


def reference_at_home(board: Board) -> Generator[Turn, list[Line], None]:
    """The carriage rests at its home: that is the encoder's zero. Two readings must be the same."""
    encoder = board.encoder
    if encoder is None:
        return
    first = yield from _read(board)
    second = yield from _read(board)
    off_mm = abs((second.counts - first.counts) / encoder.config.counts_per_mm)
    if off_mm > encoder.config.tolerance_mm:
        raise BrokenOff(
            f"at home the depth encoder moves by {off_mm:.2f} mm though the carriage rests: check it"
        )
    home_mm = depth_home_mm(board.config)
    encoder.reference(home_mm)
    board.state = replace(board.state, encoder_mm=home_mm)


def verify_depth(board: Board, target_mm: Axes) -> Generator[Turn, list[Line], None]:
    """The rig rests at ``target_mm`` by its own count: does the encoder see that, too?

    Raises:
        BrokenOff: it does not, or does not answer. The position is unknown then; nothing is moved, nothing let go.
    """
    encoder = board.encoder
    if encoder is None:
        return
    for last in (False, True):
        reading = yield from _read(board)
        depth_mm = None if reading.depth_mm is None else round(reading.depth_mm, 3)
        board.state = replace(board.state, encoder_mm=depth_mm)
        verdict = judge_depth(
            _carriage_mm(board.config, target_mm),
            _carriage_mm(board.config, board.axes_mm),
            reading.depth_mm,
            encoder.config.tolerance_mm,
            board.config.tolerance_mm,
        )
        if verdict.agrees:
            return
        if last:
            board.forget_position()
            raise BrokenOff(verdict.sentence)
        yield Turn(b"", _never, LATE_MS)


def _carriage_mm(config: RigConfig, axes_mm: Axes) -> float:
    return config.offset_z_mm - axes_mm[Z]


def _read(board: Board) -> Generator[Turn, list[Line], EncoderRead]:
    said = yield from _ask(board, "read")
    if not isinstance(said, EncoderRead):
        board.forget_position()
        raise BrokenOff(_why(said))
    return said


def _ask(board: Board, question: Literal["connect", "read"]) -> Asked:
    board.encoder_said = None
    yield Turn(b"", _never, ANSWERS_MS, encoder=question)
    said: EncoderEvent | None = board.encoder_said
    return EncoderLost("the depth encoder doesn't answer") if said is None else said


def _why(said: EncoderEvent) -> str:
    """An end that is none to go on with."""
    if isinstance(said, EncoderLost):
        return f"{said.sentence}; {_BUT_NOT_MOVED}: check plug and cable"
    return getattr(said, "reason", "the depth encoder gave no answer to what it was asked")


def _never(_heard: list[Line]) -> bool:
    return False
