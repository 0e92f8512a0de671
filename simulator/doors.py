"""The simulated devices behind doors that any serial program can open: pseudo-terminals and TCP ports.

The only file of the simulator that does I/O on wires or asks what time it is. One loop, no threads; what takes
long (a CT) is done in a copy of the process.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from simulator.cable import Endpoint
from simulator.forked import Forked

Request = dict[str, Any]
_LONGEST_NAP_S = 0.5
_WORKING_NAP_S = 0.02
_READ_BYTES = 4096


class Door(Protocol):
    """A way in for one host at a time."""

    def register(self, selector: selectors.BaseSelector) -> None: ...
    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def unplug(self, selector: selectors.BaseSelector) -> None: ...
    def plug_in(self, selector: selectors.BaseSelector) -> None: ...
    def refuse(self, selector: selectors.BaseSelector) -> None: ...
    def close(self) -> None: ...


class Clock:
    """The devices' time: faster than the wall's clock, yet fair to a host on a busy machine.

    It runs ``speed`` times faster, but once only for what this process was held up between two looks, and while a
    device listens for a host that has been silent for ``LEASH_NS``: time-outs must not shrink with the speed.
    """

    LEASH_NS = 250_000_000
    EXCUSED_NS = 5_000_000

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._wall_ns = time.monotonic_ns()
        self._now_ns = 0.0
        self._heard_ns = 0.0

    def heard(self) -> None:
        """A host has spoken."""
        self._heard_ns = self._now_ns

    def now_ns(self, *, nap_s: float = 0.0, listens: bool = False) -> int:
        """The time now, after a nap that was meant to last at most ``nap_s``."""
        wall_ns = time.monotonic_ns()
        passed_ns, self._wall_ns = wall_ns - self._wall_ns, wall_ns
        fast_ns = min(passed_ns, nap_s * 1e9 + self.EXCUSED_NS)
        if listens:
            fast_ns = min(fast_ns, max(0.0, (self._heard_ns + self.LEASH_NS - self._now_ns) / self.speed))
        self._now_ns += fast_ns * self.speed + (passed_ns - fast_ns)
        return int(self._now_ns)


class Visitor(Protocol):
    """Whoever else takes part in the bench's loop: people, their requests, a keyboard, a clock of faults.

    ``ready`` is called for what it registered, ``turn`` in every round; False from either ends the bench. ``nap_s``
    is how long it can be left alone.
    """

    def register(self, selector: selectors.BaseSelector) -> None: ...
    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector, now_ns: int) -> bool: ...
    def turn(self, selector: selectors.BaseSelector, now_ns: int) -> bool: ...
    def nap_s(self) -> float: ...
    def close(self) -> None: ...


class PseudoTerminal:
    """A raw pseudo-terminal under a fixed name.

    Like a serial line it has no flow control: what nobody reads is lost once the kernel's buffer is full.

    Args:
        link: symbolic link to the terminal; an old link is replaced.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._is_plugged = False
        self._make()

    def _make(self) -> None:
        self._master, self._slave = os.openpty()  # the slave stays open, so that a host may come and go
        self._is_plugged = True
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.name = os.ttyname(self._slave)
        self._show()

    def _show(self) -> None:
        if self._link.is_symlink():
            self._link.unlink()
        self._link.symlink_to(self.name)

    def register(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._master, selectors.EVENT_READ, self)

    def unplug(self, selector: selectors.BaseSelector) -> None:
        """The device is gone from the system; who has it open is told by an error."""
        self._link.unlink(missing_ok=True)
        if self._is_plugged:
            self._is_plugged = False
            selector.unregister(self._master)
            os.close(self._master)
            os.close(self._slave)

    def plug_in(self, selector: selectors.BaseSelector) -> None:
        """There again, under the same name (as another terminal); or new hosts are let in again."""
        if self._is_plugged:
            self._show()
        else:
            self._make()
            self.register(selector)

    def refuse(self, selector: selectors.BaseSelector) -> None:
        """No new host finds it; the present one keeps it."""
        del selector
        self._link.unlink(missing_ok=True)

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> bytes:
        del key, selector
        try:
            return os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        if not self._is_plugged:
            return
        try:
            os.write(self._master, data)
        except BlockingIOError:
            return

    def close(self) -> None:
        self._link.unlink(missing_ok=True)
        if self._is_plugged:
            os.close(self._master)
            os.close(self._slave)


class TcpPort:
    """A listening port on the loopback; one host at a time, others are turned away.

    Args:
        port: 0 lets the system choose; then see ``port``.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._host: socket.socket | None = None
        self._listen()

    def _listen(self) -> None:
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])

    def register(self, selector: selectors.BaseSelector) -> None:
        assert self._listener is not None
        selector.register(self._listener, selectors.EVENT_READ, self)

    def unplug(self, selector: selectors.BaseSelector) -> None:
        """The host is hung up on, and who calls is refused."""
        self.refuse(selector)
        self._hang_up(selector)

    def plug_in(self, selector: selectors.BaseSelector) -> None:
        """Listens again on the same port."""
        if self._listener is None:
            self._listen()
            self.register(selector)

    def refuse(self, selector: selectors.BaseSelector) -> None:
        """Who calls is refused; the present host keeps its connection."""
        if self._listener is not None:
            selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> bytes:
        if self._listener is not None and key.fileobj is self._listener:
            host, _ = self._listener.accept()
            if self._host is not None and self._is_still_there(self._host):
                host.close()
                return b""
            self._hang_up(selector)
            host.setblocking(False)
            host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._host = host
            selector.register(host, selectors.EVENT_READ, self)
            return b""
        if key.fileobj is not self._host or self._host is None:
            return b""  # hung up earlier in this round
        try:
            data = self._host.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._hang_up(selector)
        return data

    @staticmethod
    def _is_still_there(host: socket.socket) -> bool:
        """Or it has left, and nobody has looked yet."""
        try:
            return host.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _hang_up(self, selector: selectors.BaseSelector) -> None:
        if self._host is not None:
            selector.unregister(self._host)
            self._host.close()
            self._host = None

    def write(self, data: bytes) -> None:
        if self._host is not None:
            try:
                self._host.send(data)
            except OSError:
                return

    def close(self) -> None:
        for end in (self._host, self._listener):
            if end is not None:
                end.close()


class _Theatre:
    """People's hands: a Unix socket with one JSON object per line, asked and answered, in order."""

    def __init__(self, path: Path, handle: Callable[[Request], Request | Forked]) -> None:
        self._handle, self._path = handle, path
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(path))
        except OSError as problem:
            self._listener.close()
            raise OSError(f"no socket can be made at {path}: {problem}") from problem
        path.chmod(0o600)
        self._listener.listen()
        self._person: socket.socket | None = None
        self._heard = b""
        self._asked: list[bytes] = []
        self._under_way: Forked | None = None

    def register(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._listener, selectors.EVENT_READ, self)

    def nap_s(self) -> float:
        return _LONGEST_NAP_S if self._under_way is None else _WORKING_NAP_S

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector, now_ns: int) -> bool:
        """Answer what was asked; False when the person has gone."""
        if key.fileobj is self._listener:
            person, _ = self._listener.accept()
            if self._person is None:
                self._person = person
                selector.register(person, selectors.EVENT_READ, self)
            else:
                person.close()
            return True
        assert self._person is not None
        try:
            data = self._person.recv(_READ_BYTES)
        except OSError:
            return False
        *lines, self._heard = (self._heard + data).split(b"\n")
        self._asked += [text for text in lines if text.strip()]
        return bool(data) and self.turn(selector, now_ns)

    def turn(self, selector: selectors.BaseSelector, now_ns: int) -> bool:
        """Answer what can be answered."""
        del selector
        if self._under_way is not None:
            answer = self._under_way.answer()
            if answer is None:
                return True
            self._under_way = None
            self._say(answer)
        while self._asked and self._under_way is None:
            done = self._answer(self._asked.pop(0), now_ns)
            if isinstance(done, Forked):
                self._under_way = done
            else:
                self._say(done)
        return True

    def _say(self, answer: Request) -> None:
        assert self._person is not None
        with suppress(OSError):  # who has left is noticed where they are listened to
            self._person.sendall(json.dumps(answer).encode() + b"\n")

    def _answer(self, text: bytes, now_ns: int) -> Request | Forked:
        try:
            request = json.loads(text)
            if not isinstance(request, dict):
                raise ValueError("a request is a JSON object")
            return self._handle({**request, "now_ns": now_ns})
        except Exception as error:  # a person's mistake must not stop the bench
            return {"error": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        if self._under_way is not None:
            self._under_way.close()
        self._path.unlink(missing_ok=True)
        for end in (self._person, self._listener):
            if end is not None:
                end.close()


def serve(
    doors: Mapping[str, tuple[Endpoint, Door]],
    theatre_path: Path | None,
    handle: Callable[[Request], Request | Forked],
    *,
    speed: float = 1.0,
    visitors: Sequence[Visitor] = (),
    listens: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until the person at the theatre's socket leaves, a visitor ends it, or SIGTERM or SIGINT.

    Args:
        doors: each device with its door, by name.
        theatre_path: the socket; it appears last, so that who sees it can open the doors. None: no socket.
        handle: does what a person asks; the request gets ``now_ns``, the devices' time.
        speed: of the devices' time against the clock on the wall.
        visitors: others in the loop; closed at the end.
        listens: whether a device would take a host's silence amiss now (its watchdog runs).
    """
    clock = Clock(speed)

    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _, door in doors.values():
            stack.callback(door.close)
            door.register(selector)
        of_door = {id(door): endpoint for endpoint, door in doors.values()}
        stopped = stack.enter_context(_signals(selector))
        present = list(visitors)
        if theatre_path is not None:
            present.append(_Theatre(theatre_path, handle))
        for visitor in present:
            stack.callback(visitor.close)
            visitor.register(selector)
        of_visitor = {id(visitor): visitor for visitor in present}
        now_ns = 0
        while not stopped():
            nap_s = min([_nap_s(doors, now_ns, speed), *(visitor.nap_s() for visitor in present)])
            ready = selector.select(nap_s)
            now_ns = clock.now_ns(nap_s=nap_s, listens=speed > 1.0 and listens())
            for key, _ in ready:
                if id(key.data) in of_visitor:
                    if not of_visitor[id(key.data)].ready(key, selector, now_ns):
                        return
                elif key.data is not None:
                    data = key.data.ready(key, selector)
                    if data:
                        clock.heard()
                        of_door[id(key.data)].receive(data, now_ns)
            for endpoint, door in doors.values():
                endpoint.wake(now_ns)
                data = endpoint.take()
                if data:
                    door.write(data)
            if not all([visitor.turn(selector, now_ns) for visitor in present]):  # noqa: C419 (all have a turn)
                return


def run_doors(
    rig: Endpoint,
    applicator: Endpoint,
    folder: Path,
    speed: float,
    handle: Callable[[Request], Request | Forked],
    listens: Callable[[], bool] = lambda: False,
) -> None:
    """Both devices on pseudo-terminals ``folder``/rig and ``folder``/applicator, people at ``folder``/theatre.

    Returns when the person at the theatre's socket leaves, or on SIGTERM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"rig": rig, "applicator": applicator}
    doors = {name: (end, PseudoTerminal(folder / name)) for name, end in ends.items()}
    serve(doors, folder / "theatre", handle, speed=speed, listens=listens)


def _nap_s(doors: Mapping[str, tuple[Endpoint, Door]], now_ns: int, speed: float) -> float:
    """Until the first device wants to be woken."""
    due = [endpoint.next_wake() for endpoint, _ in doors.values()]
    waits = [max(0.0, (when - now_ns) / speed / 1e9) for when in due if when is not None]
    return min([*waits, _LONGEST_NAP_S])


@contextmanager
def _signals(selector: selectors.BaseSelector) -> Iterator[Callable[[], bool]]:
    """SIGTERM and SIGINT end the loop at once; elsewhere than in the main thread nothing is installed."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    selector.register(reader, selectors.EVENT_READ, None)
    before_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {
        s: signal.signal(s, lambda number, _: heard.append(number)) for s in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(heard)
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()
