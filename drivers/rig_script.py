"""How each of the rig's commands is carried out: a script of turns, ending in one event.

Knows: Grbl's commands, their order, what each answer proves, and what it doesn't: ``ok`` is never taken for
done, ``$H`` is believed only when the home position is read back. Does not know: how bytes travel.

A script yields a ``Turn`` and gets what was heard in it. Only single real-time bytes (``?``, 0x18, ``!``) are
ever sent again; a line never is. After a doubt the script asks ``?`` where the rig is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import replace

from drivers.depth_script import connect_encoder, encoder_in_words, reference_at_home, verify_depth
from drivers.grbl import Axes, Banner, Bracket, Line, Ok, Refused, Setting, Status, error_in_words
from drivers.kinematics import depth_steps_mm
from drivers.kinematics_oblique import GuideLine
from drivers.rig_geometry import (
    STRAIGHT,
    axes_for_depth,
    axes_for_line,
    home_depth_mm,
    why_not_guide,
    why_not_so_deep,
)
from drivers.rig_language import (
    AimGuide,
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    MoveDepthHome,
    OpenGrip,
    ReadRig,
    RigAdvanced,
    RigCommand,
    RigConnected,
    RigDone,
    RigRefused,
    RigState,
    RigStopped,
)
from drivers.rig_turn import Board, BrokenOff, NotDone, Script, Silent, Turn

RESET = b"\x18"
HOLD = b"!"
LOOK_AGAIN_MS = 100
LOOK_MS = 1_000
LINE_MS = 2_000
GRIP_MS = 5_000
RESET_AGAIN_MS = 500
RESET_MS = 5_000
HOLD_MS = 500
QUIET_MS = 100
WRONG_MS = 300
"""Idle at a wrong place must be said for so long: just after ``ok`` Grbl may still say Idle where it was."""

_OFF_PATH_MM = 0.05


def _answered(heard: list[Line]) -> bool:
    return any(isinstance(line, Ok | Refused) for line in heard)


def _has_status(heard: list[Line]) -> bool:
    return any(isinstance(line, Status) for line in heard)


def _restarted(heard: list[Line]) -> bool:
    return any(isinstance(line, Banner) for line in heard)


def _never(_heard: list[Line]) -> bool:
    return False


def _wait(milliseconds: float, *, expects_restart: bool = False) -> Generator[Turn, list[Line], None]:
    yield Turn(b"", _never, milliseconds, expects_restart=expects_restart)


def _say(line: str, longest_ms: float = LINE_MS) -> Generator[Turn, list[Line], bool]:
    """One line; True when acknowledged, False when no answer came. NotDone when refused."""
    heard = yield Turn(line.encode() + b"\n", _answered, longest_ms)
    for answer in heard:
        if isinstance(answer, Refused):
            raise NotDone(error_in_words(answer.code))
    return any(isinstance(answer, Ok) for answer in heard)


def _look(longest_ms: float = LOOK_MS) -> Generator[Turn, list[Line], Status]:
    """Where the rig is now. Silent when the board doesn't say."""
    heard = yield Turn(b"?", _has_status, longest_ms, again_ms=LOOK_AGAIN_MS)
    reports = [line for line in heard if isinstance(line, Status)]
    if not reports:
        raise Silent("the rig doesn't say where it is")
    return reports[-1]


def _reset(board: Board) -> Generator[Turn, list[Line], Banner]:
    """0x18 until the banner comes, then let stray answers (and a second banner) run out."""
    board.forget_position()
    heard = yield Turn(RESET, _restarted, RESET_MS, again_ms=RESET_AGAIN_MS, expects_restart=True)
    banners = [line for line in heard if isinstance(line, Banner)]
    if not banners:
        raise Silent("the rig doesn't answer a reset")
    board.needs_reset = False
    board.state = replace(board.state, grip_closed=False)  # a reset switches the coolant output off
    yield from _wait(QUIET_MS, expects_restart=True)
    return banners[-1]


def _report(command: str, is_whole: Callable[[list[Line]], bool]) -> Generator[Turn, list[Line], list[Line]]:
    """A report such as ``$$``: over with the ``ok`` after its last line; an ``ok`` before it is a stray one."""
    heard = yield Turn(
        command.encode() + b"\n",
        lambda lines: (is_whole(lines) and isinstance(lines[-1], Ok)) or isinstance(lines[-1], Refused),
        LINE_MS,
    )
    for line in heard:
        if isinstance(line, Refused):
            raise NotDone(f"{command}: {error_in_words(line.code)}")
    if not is_whole(heard):
        raise Silent(f"the rig doesn't answer {command} in full")
    return heard


# ---------------------------------------------------------------- commands


def _connect(command: ConnectRig, board: Board) -> Script:
    config = board.config
    board.state = RigState()
    banner = yield from _reset(board)
    heard = yield from _report("$I", lambda lines: any(_tagged(line, "VER") for line in lines))
    version, identity = _identity(heard)
    if version not in config.versions or banner.version != version:
        return RigRefused(
            command, f"it runs Grbl {version}, known to the driver: {', '.join(config.versions)}"
        )
    if not re.fullmatch(r"(SIM-)?RIG-[0-9A-Za-z-]+", identity):
        return RigRefused(command, f"the device calls itself {identity!r}, not RIG-<serial>: no template rig")
    axes = next((line.text for line in heard if isinstance(line, Bracket) and line.tag == "AXS"), "3:XYZ")
    if axes != f"{len(config.axes)}:{config.axes}":
        return RigRefused(command, f"its axes are {axes}, the configuration demands {config.axes}")
    if config.serial is not None and identity != config.serial:
        return RigRefused(command, f"it is {identity}, the configuration demands {config.serial}")
    heard = yield from _report("$$", lambda lines: any(isinstance(line, Setting) for line in lines))
    settings = {line.number: line.value for line in heard if isinstance(line, Setting)}
    differing = [
        f"${number}={settings.get(number, 'missing')} (demanded {value:g})"
        for number, value in config.settings.items()
        if abs(settings.get(number, float("nan")) - value) > 1e-6 or number not in settings
    ]
    if differing:
        return RigRefused(command, f"its settings differ from the configuration: {', '.join(differing)}")
    heard = yield from _report("$#", lambda lines: any(_tagged(line, "PRB") for line in lines))
    moved = [
        line.tag for line in heard if isinstance(line, Bracket) and _is_offset(line) and not _is_zero(line)
    ]
    if moved:
        return RigRefused(command, f"its work offsets {', '.join(moved)} are not zero")
    encoder = yield from connect_encoder(board)
    status = yield from _look()
    simulated = identity.startswith("SIM-") and (encoder is None or encoder.simulated)
    beside = "" if encoder is None else encoder_in_words(encoder)
    board.state = replace(board.state, linked=True, identity=identity, simulated=simulated, encoder=beside)
    board.learn(status)
    return RigConnected(identity, simulated, version, beside)


def _tagged(line: Line, tag: str) -> bool:
    return isinstance(line, Bracket) and line.tag == tag


def _identity(heard: list[Line]) -> tuple[str, str]:
    text = next(line.text for line in heard if isinstance(line, Bracket) and line.tag == "VER")
    version_date, _, identity = text.partition(":")
    return version_date.partition(".20")[0], identity


def _is_offset(line: Bracket) -> bool:
    return line.tag in ("G54", "G55", "G56", "G57", "G58", "G59", "G92", "TLO")


def _is_zero(line: Bracket) -> bool:
    try:
        return all(float(number) == 0.0 for number in line.text.split(","))
    except ValueError:
        return False


def _home(command: HomeRig, board: Board) -> Script:
    config = board.config
    if board.needs_reset:
        yield from _reset(board)
    board.forget_position()
    longest_ms = 1_000 * config.homing_timeout_s
    if not (yield from _say("$H", longest_ms)):
        raise BrokenOff("homing did not end", stop=True)
    # A stray ok would look like "homed"; during $H the board doesn't answer "?", so this waits for the truth.
    status = yield from _look(longest_ms)
    while status.word in ("Home", "Run"):  # grblHAL does answer
        yield from _wait(LOOK_AGAIN_MS)
        status = yield from _look(longest_ms)
    board.learn(status)
    home_mm = (-config.pull_off_mm,) * len(config.axes)
    if status.word != "Idle" or not _near(status.axes_mm, home_mm, config.tolerance_mm):
        raise BrokenOff(f"after homing it says {status.word} at {_in_words(status.axes_mm)}", stop=True)
    yield from _wait(QUIET_MS)  # the true ok may come after the report; it must not answer the next line
    for line in ("G21G90G94", "M9"):
        try:
            acknowledged = yield from _say(line)
        except NotDone as problem:
            raise BrokenOff(f"{line} was refused: {problem}") from problem
        if not acknowledged:
            raise BrokenOff(f"{line} was not acknowledged")
    yield from reference_at_home(board)
    board.state = replace(board.state, position_known=True, grip_closed=False)
    board.learn(status)
    return _done(command, board)


def _across(command: MoveAcross | AimGuide, board: Board) -> Script:
    config = board.config
    target_mm = _rounded(axes_for_line(config, _line_of(command), board.axes_mm[2]))
    words = "".join(
        f"{axis}{value:.3f}" for axis, value in zip(config.axes, target_mm, strict=True) if axis != "Z"
    )
    line = f"G53G1{words}F{config.feed_across_mm_min:.0f}"
    yield from _go(board, line, target_mm, config.feed_across_mm_min)
    return _done(command, board)


def _depth(command: MoveDepth | MoveDepthHome, board: Board) -> Script:
    config = board.config
    z_mm = command.z_mm if isinstance(command, MoveDepth) else home_depth_mm(config, board.axes_mm)
    longest_mm = config.step_in_tissue_mm if command.in_tissue else float("inf")
    steps_mm = depth_steps_mm(board.state.z_mm, z_mm, longest_mm)
    for i, step_mm in enumerate(steps_mm):
        target_mm = _rounded(axes_for_depth(config, board.axes_mm, step_mm))
        line = f"G53G1Z{target_mm[2]:.3f}F{config.feed_depth_mm_min:.0f}"
        try:
            yield from _go(board, line, target_mm, config.feed_depth_mm_min)
        except NotDone as problem:
            if i == 0:
                raise
            raise BrokenOff(f"a step was refused: {problem}") from problem
        yield from verify_depth(board, target_mm)
        if i + 1 < len(steps_mm):
            board.progress.append(RigAdvanced(board.state.z_mm))
    return _done(command, board)


def _go(board: Board, line: str, target_mm: Axes, feed_mm_min: float) -> Generator[Turn, list[Line], None]:
    """One motion, sent once, and looked after until it has provably ended at ``target_mm``."""
    config, start_mm = board.config, board.axes_mm
    acknowledged = yield from _say(line)
    distance_mm = max(abs(a - b) for a, b in zip(start_mm, target_mm, strict=True))
    left_ms = 2_000.0 + 2.0 * 60_000.0 * distance_mm / feed_mm_min
    wrong_ms = 0
    while True:
        status = yield from _look()
        board.learn(status)
        if status.word == "Idle" and _near(status.axes_mm, target_mm, config.tolerance_mm):
            break
        if status.word not in ("Idle", "Run"):
            raise BrokenOff(f"it says {status.word} in the middle of a motion", stop=True)
        on_the_way = _between(status.axes_mm, start_mm, target_mm, _OFF_PATH_MM)
        wrong_ms = wrong_ms + LOOK_AGAIN_MS if status.word == "Idle" or not on_the_way else 0
        if wrong_ms >= (WRONG_MS if on_the_way else 2 * LOOK_AGAIN_MS):
            if status.word == "Idle" and not acknowledged and _near(status.axes_mm, start_mm, 1e-6):
                raise BrokenOff("the line was lost on the way: it has not moved")
            where = _in_words(status.axes_mm)
            raise BrokenOff(f"sent to {_in_words(target_mm)}, it is {status.word} at {where}", stop=True)
        if left_ms <= 0:
            raise BrokenOff(f"the motion to {_in_words(target_mm)} does not end", stop=True)
        left_ms -= LOOK_AGAIN_MS
        yield from _wait(LOOK_AGAIN_MS)
    if not acknowledged:  # its ok may still come; it must not answer the next line
        yield from _wait(LOOK_MS)


def _grip(command: CloseGrip | OpenGrip, board: Board) -> Script:
    close = isinstance(command, CloseGrip)
    board.state = replace(board.state, grip_closed=True)  # until it is known to be open
    if not (yield from _say("M8" if close else "M9", GRIP_MS)):
        yield from _look()
        raise BrokenOff(f"{'M8' if close else 'M9'} was not acknowledged")
    for _ in range(3):  # Grbl tells the output in some of its reports only
        status = yield from _look()
        board.learn(status)
        if status.flood is not None:
            if status.flood != close:
                raise BrokenOff(f"the grip's output is {'on' if status.flood else 'off'} after the command")
            break
    board.state = replace(board.state, grip_closed=close)
    return _done(command, board)


def _read(command: ReadRig, board: Board) -> Script:
    board.learn((yield from _look()))
    return _done(command, board)


def _done(command: RigCommand, board: Board) -> RigDone:
    state = board.state
    deep = isinstance(command, MoveDepth | MoveDepthHome)
    return RigDone(command, state.x_mm, state.y_mm, state.z_mm, state.encoder_mm if deep else None)


def _near(first_mm: Axes, second_mm: Axes, tolerance_mm: float) -> bool:
    return all(abs(a - b) <= tolerance_mm + 1e-9 for a, b in zip(first_mm, second_mm, strict=True))


def _between(point_mm: Axes, start_mm: Axes, end_mm: Axes, slack_mm: float) -> bool:
    return all(
        min(a, b) - slack_mm <= p <= max(a, b) + slack_mm
        for p, a, b in zip(point_mm, start_mm, end_mm, strict=True)
    )


def _in_words(axes_mm: Axes) -> str:
    return " ".join(f"{axis}{value:.3f}" for axis, value in zip("XYZAB", axes_mm, strict=False))


def _rounded(axes_mm: Axes) -> Axes:
    return tuple(round(value, 3) for value in axes_mm)


def _line_of(command: MoveAcross | AimGuide) -> GuideLine:
    direction = command.direction if isinstance(command, AimGuide) else STRAIGHT
    return GuideLine(command.x_mm, command.y_mm, direction)


# ---------------------------------------------------------------- without a command


def stop_script(board: Board) -> Script:
    """Hold first (controlled), then reset; told when the board has acknowledged by its banner."""
    heard = yield Turn(HOLD + b"?", _held, HOLD_MS, again_ms=LOOK_AGAIN_MS, expects_restart=True)
    for line in heard:
        if isinstance(line, Status):
            board.learn(line)
    yield from _reset(board)
    return RigStopped(board.state.x_mm, board.state.y_mm, board.state.z_mm)


def _held(heard: list[Line]) -> bool:
    last = next((line for line in reversed(heard) if isinstance(line, Status)), None)
    return last is not None and (last.word in ("Alarm", "Sleep") or (last.word, last.substate) == ("Hold", 0))


def watch_script(board: Board) -> Script:
    """The sign of life while nothing else is done."""
    board.learn((yield from _look()))
    return RigAdvanced(board.state.z_mm)


def script_for(command: RigCommand, board: Board) -> Script:
    """The script that carries out ``command``."""
    match command:
        case ConnectRig():
            return _connect(command, board)
        case HomeRig():
            return _home(command, board)
        case MoveAcross() | AimGuide():
            return _across(command, board)
        case MoveDepth() | MoveDepthHome():
            return _depth(command, board)
        case CloseGrip() | OpenGrip():
            return _grip(command, board)
        case ReadRig():
            return _read(command, board)


def why_not(command: RigCommand, board: Board) -> str | None:
    """Why the driver itself refuses this command now, or None."""
    state = board.state
    if isinstance(command, ConnectRig):
        return None
    if not state.linked:
        return "the rig isn't connected"
    if isinstance(command, HomeRig | ReadRig):
        return None
    if not state.position_known:
        return "the rig's position isn't known: home it first"
    match command:
        case MoveAcross() | AimGuide():
            if not state.at_home and state.grip_closed:
                return "not across while the grip is closed and the carriage isn't at its home"
            return why_not_guide(board.config, _line_of(command))
        case MoveDepth(z_mm, _):
            return why_not_so_deep(board.config, board.axes_mm, z_mm)
        case _:
            return None
