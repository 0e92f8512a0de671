"""Both wires at real serial ports, in real time (or, against a simulator, faster).

Knows: ports, the clock, how to wait for bytes, and when a port is gone. Does not know: what the bytes mean.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Protocol, TypeVar

from drivers.fault import DeviceMisbehaved
from drivers.port import Port
from planning.refusal import AskedWrongly

_LONGEST_NAP_S = 0.05
_LOOK_EVERY_S = 0.2
_BLIND_NAP_S = 0.005
"""Where nothing can be waited on (rfc2217 has no descriptor) the port is looked at this often."""
_HELD_UP_NS = 5_000_000
_ANSWER_NS = 500_000
T = TypeVar("T")


def is_there(url: str) -> bool:
    """Whether a device path exists; of what has no path nothing can be told without opening it."""
    return "://" in url or os.path.exists(url)


def open_ports(
    ends: Mapping[str, tuple[str, int]],
    *,
    within_s: float = 0.0,
    told: Callable[[str], None] = lambda _line: None,
    given_up: Callable[[], bool] = lambda: False,
) -> dict[str, Port]:
    """Open each device's port, by name, from its URL and baud rate; all of them or none.

    Args:
        within_s: wait so long for a port that is not there (any more).
        told: gets a line when a port is waited for, and when it has come.
        given_up: looked at while waiting; True ends it.

    Raises:
        AskedWrongly: one can't be opened; why, and what to do.
    """
    until_s = time.monotonic() + within_s
    ports: dict[str, Port] = {}
    waiting: set[str] = set()
    try:
        while len(ports) < len(ends):
            for name, (url, baud) in ends.items():
                if name in ports:
                    continue
                try:
                    ports[name] = Port(url, baud)
                except ValueError as problem:
                    if time.monotonic() >= until_s or given_up():
                        raise AskedWrongly(f"the {name}: {problem}") from problem
                    if name not in waiting:
                        waiting.add(name)
                        told(f"the {name}: {problem} Waiting for it, at most {within_s:.0f} s.")
                else:
                    if name in waiting:
                        told(f"the {name}: {url} is there again.")
            if len(ports) < len(ends):
                time.sleep(_LOOK_EVERY_S)
    except BaseException:
        for port in ports.values():
            port.close()
        raise
    return ports


class _Driver(Protocol):
    def receive(self, data: bytes, now_ns: int) -> None: ...
    def take(self) -> bytes: ...


class PortTransport:
    """Drivers joined with their ports.

    Args:
        ends: each driver with its open port, by the device's name. A port that goes is closed and told of
            once; its driver then speaks to nobody and hears nothing.
        speed: how many times faster than the wall's clock the devices' time runs; 1 for hardware. Time-outs must
            not shrink with it on a busy machine: the time that a device takes for its answer, and what this
            process was held up, count once only.
        bells: descriptors that end a wait when they can be read (a stop at the door).
    """

    def __init__(
        self, ends: Mapping[str, tuple[_Driver, Port]], *, speed: float = 1.0, bells: Sequence[int] = ()
    ) -> None:
        self._ends = dict(ends)
        self._bells = list(bells)
        self._gone: set[str] = set()
        self._to_tell: list[tuple[str, str]] = []
        self._speed = speed
        self._wall_ns = time.monotonic_ns()
        self._now_ns = 0.0
        self._unanswered: set[str] = set()
        self._left_ns = 0.0

    def now_ns(self) -> int:
        self._pass(0.0)
        return int(self._now_ns)

    def _pass(self, nap_s: float) -> None:
        """Let the time be what it is after a nap that was meant to last ``nap_s``."""
        wall_ns = time.monotonic_ns()
        passed_ns, self._wall_ns = wall_ns - self._wall_ns, wall_ns
        fast_ns = min(float(passed_ns), self._left_ns if self._unanswered else nap_s * 1e9 + _HELD_UP_NS)
        self._left_ns -= fast_ns
        self._now_ns += fast_ns * self._speed + (passed_ns - fast_ns)

    def exchange(self) -> bool:
        """Bytes out first: a stop never waits behind what has come in."""
        moved = False
        for name, (driver, port) in self._ends.items():
            out = driver.take()
            if name in self._gone:
                continue
            try:
                port.write(out)
                back = port.read()
                if out:
                    if not self._unanswered:
                        self._left_ns = _ANSWER_NS
                    self._unanswered.add(name)
                if back:
                    self._unanswered.discard(name)
                    driver.receive(back, self.now_ns())
                    port.write(driver.take())
            except DeviceMisbehaved as problem:
                self._gone.add(name)
                self._unanswered.discard(name)
                self._to_tell.append((name, f"{problem.port}: {problem.sentence}; is it plugged in?"))
                port.close()
                continue
            moved = moved or bool(out or back)
        return moved

    def lost(self) -> list[tuple[str, str]]:
        told, self._to_tell = self._to_tell, []
        return told

    def wait(self, wake_ns: int | None) -> None:
        nap_s = _LONGEST_NAP_S
        if wake_ns is not None:
            nap_s = min(nap_s, max(0.0, (wake_ns - self.now_ns()) / 1e9 / self._speed))
        ports = [port for name, (_, port) in self._ends.items() if name not in self._gone]
        descriptors = [fd for port in ports if (fd := port.fileno()) is not None]
        if len(descriptors) < len(ports):
            nap_s = min(nap_s, _BLIND_NAP_S)
        self._pass(0.0)
        select.select([*descriptors, *self._bells], [], [], nap_s)
        self._pass(nap_s)

    def close(self) -> None:
        for _, port in self._ends.values():
            port.close()


class Aside(Executor):
    """Does each piece of work in a thread of its own that nobody waits for at the end: a person may never answer."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as problem:
                future.set_exception(problem)

        threading.Thread(target=work, daemon=True, name="aside").start()
        return future
