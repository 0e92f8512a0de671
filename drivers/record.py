"""The wire traffic of both drivers as lines of JSON, and the same drivers fed with it again.

A recorded driver is the driver itself; every call that its behaviour depends on becomes a line (DRIVERS.md has the
form). Replay makes a new driver, does the calls again, and compares what it sends: drivers have no clock and no chance
in them, so the bytes must be the same. No I/O here: lines go to ``write``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from drivers import applicator_language, rig_language
from drivers.accuseed import AccuSeedConfig
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.rig import EncoderEnd, RigDriver

FORM = 1
ENCODER = "depth encoder"
"""Link of the encoder's bytes; the driver at that port is the rig's."""
HEAD = json.dumps({"seedguide_wire": FORM})


class Recorder:
    """Collects lines and hands them on when no byte waits for it: what leaves, leaves first."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._waiting = [HEAD]
        self._now_ns: dict[str, int] = {}

    def add(self, link: str, what: str, now_ns: int | None = None, **more: Any) -> None:
        """One line; ``now_ns`` None: as in the line before of this link."""
        if now_ns is not None:
            self._now_ns[link] = now_ns
        record = {"t_ns": self._now_ns.get(link, 0), "link": link, "what": what, **more}
        self._waiting.append(json.dumps(record))

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self._write(line)


class RecordedRig(RigDriver):
    """The rig's driver, writing down what happens to it."""

    def __init__(self, config: RigConfig, recorder: Recorder, encoder: AccuSeedConfig | None = None) -> None:
        super().__init__(config, encoder)
        self._recorder = recorder
        beside = {} if encoder is None else {"encoder": asdict(encoder)}
        recorder.add("rig", "driver", 0, config=asdict(config), **beside)

    def start(self, command: rig_language.RigCommand, now_ns: int) -> None:
        self._recorder.add("rig", "start", now_ns, command=_said(command))
        super().start(command, now_ns)

    def stop(self, now_ns: int) -> None:
        self._recorder.add("rig", "stop", now_ns)
        super().stop(now_ns)

    def receive(self, data: bytes, now_ns: int) -> None:
        if data:
            self._recorder.add("rig", "in", now_ns, bytes=data.decode("latin-1"))
        super().receive(data, now_ns)

    def take(self) -> bytes:
        data = super().take()
        if data:
            self._recorder.add("rig", "out", bytes=data.decode("latin-1"))
        return data

    def receive_from_encoder(self, data: bytes, now_ns: int) -> None:
        if data:
            self._recorder.add(ENCODER, "in", now_ns, bytes=data.decode("latin-1"))
        super().receive_from_encoder(data, now_ns)

    def take_for_encoder(self) -> bytes:
        data = super().take_for_encoder()
        if data:
            self._recorder.add(ENCODER, "out", bytes=data.decode("latin-1"))
        return data

    def next_wake(self) -> int | None:
        self._recorder.flush()
        return super().next_wake()

    def wake(self, now_ns: int) -> None:
        self._recorder.add("rig", "wake", now_ns)
        super().wake(now_ns)


class RecordedApplicator(ApplicatorDriver):
    """The applicator's driver, writing down what happens to it."""

    def __init__(self, config: ApplicatorConfig, session_id: str, recorder: Recorder) -> None:
        super().__init__(config, session_id)
        self._recorder = recorder
        recorder.add("applicator", "driver", 0, config=asdict(config), session_id=session_id)

    def start(self, command: applicator_language.ApplicatorCommand, now_ns: int) -> None:
        self._recorder.add("applicator", "start", now_ns, command=_said(command))
        super().start(command, now_ns)

    def stop(self, now_ns: int) -> None:
        self._recorder.add("applicator", "stop", now_ns)
        super().stop(now_ns)

    def receive(self, data: bytes, now_ns: int) -> None:
        if data:
            self._recorder.add("applicator", "in", now_ns, bytes=data.decode("latin-1"))
        super().receive(data, now_ns)

    def take(self) -> bytes:
        data = super().take()
        if data:
            self._recorder.add("applicator", "out", bytes=data.decode("latin-1"))
        return data

    def wake(self, now_ns: int) -> None:
        self._recorder.add("applicator", "wake", now_ns)
        super().wake(now_ns)


def rig_driver(
    config: RigConfig, recorder: Recorder | None, encoder: AccuSeedConfig | None = None
) -> RigDriver:
    """Recorded where there is somebody to write; ``encoder``: of the depth encoder on its carriage, if any."""
    if recorder is None:
        return RigDriver(config, encoder)
    return RecordedRig(config, recorder, encoder)


def applicator_driver(
    config: ApplicatorConfig, session_id: str, recorder: Recorder | None
) -> ApplicatorDriver:
    """As ``rig_driver``."""
    if recorder is None:
        return ApplicatorDriver(config, session_id)
    return RecordedApplicator(config, session_id, recorder)


# ---------------------------------------------------------------- replay


@dataclass(frozen=True)
class Difference:
    """The first line at which a driver of today does not do what was recorded."""

    line: int
    link: str
    recorded: bytes
    replayed: bytes

    def __str__(self) -> str:
        return f"line {self.line}: the {self.link}'s driver sent {self.recorded!r}, now {self.replayed!r}"


def replay(lines: Iterable[str]) -> Difference | None:
    """Do a recording again; None when every byte is the same.

    Raises:
        ValueError: not a recording, or a line that can't be read or done; names the line.
    """
    drivers: dict[str, RigDriver | ApplicatorDriver] = {}
    ends: dict[str, RigDriver | ApplicatorDriver | EncoderEnd] = {}
    number = 1
    for number, record in _records(lines):
        try:
            link, what = record["link"], record["what"]
            if what == "driver":
                ends[link] = drivers[link] = driver = _driver(link, record)
                if isinstance(driver, RigDriver):
                    ends[ENCODER] = driver.encoder_end
                continue
            end, now_ns = ends[link], record["t_ns"]
            if what == "out":
                recorded, now_sent = record["bytes"].encode("latin-1"), end.take()
                if recorded != now_sent:
                    return Difference(number, link, recorded, now_sent)
            elif what == "in":
                end.receive(record["bytes"].encode("latin-1"), now_ns)
            elif what == "start":
                drivers[link].start(_command(link, record["command"]), now_ns)
            elif what in ("wake", "stop"):
                getattr(drivers[link], what)(now_ns)
            else:
                raise ValueError(f"'{what}' is unknown")
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise ValueError(f"line {number}: can't be done ({problem})") from problem
    for link, end in ends.items():
        if left := end.take():
            return Difference(number + 1, link, b"", left)
    return None


def _records(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as problem:
            raise ValueError(f"line {number}: is not JSON ({problem})") from problem
        if number == 1:
            if record != {"seedguide_wire": FORM}:
                raise ValueError(f"line 1: is not a wire recording of form {FORM}")
        elif not isinstance(record, dict):
            raise ValueError(f"line {number}: is not a record")
        else:
            yield number, record


def _said(command: Any) -> dict[str, Any]:
    return {"name": type(command).__name__, **asdict(command)}


def _command(link: str, said: dict[str, Any]) -> Any:
    language = rig_language if link == "rig" else applicator_language
    return getattr(language, said["name"])(**{key: value for key, value in said.items() if key != "name"})


def _driver(link: str, record: dict[str, Any]) -> RigDriver | ApplicatorDriver:
    config = dict(record["config"])
    if link == "applicator":
        return ApplicatorDriver(ApplicatorConfig(**config), record["session_id"])
    for name in ("depth_mm", "versions"):
        config[name] = tuple(config[name])
    config["settings"] = {int(key): value for key, value in config["settings"].items()}
    beside = record.get("encoder")
    return RigDriver(RigConfig(**config), None if beside is None else AccuSeedConfig(**beside))
