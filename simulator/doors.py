"""The simulated devices behind doors that any serial program can open: pseudo-terminals and TCP ports.

The only file of the simulator that does I/O on wires or asks what time it is. One process, one loop, no threads.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from simulator.cable import Endpoint

Request = dict[str, Any]
_LONGEST_NAP_S = 0.5
_READ_BYTES = 4096


class Door(Protocol):
    """A way in for one host at a time."""

    def register(self, selector: selectors.BaseSelector) -> None: ...
    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class PseudoTerminal:
    """A raw pseudo-terminal under a fixed name.

    Like a serial line it has no flow control: what nobody reads is lost once the kernel's buffer is full.

    Args:
        link: symbolic link to the terminal; an old link is replaced.
    """

    def __init__(self, link: Path) -> None:
        self._master, self._slave = os.openpty()  # the slave stays open, so that a host may come and go
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.name = os.ttyname(self._slave)
        self._link = link
        if link.is_symlink():
            link.unlink()
        link.symlink_to(self.name)

    def register(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._master, selectors.EVENT_READ, self)

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> bytes:
        del key, selector
        try:
            return os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except BlockingIOError:
            return

    def close(self) -> None:
        self._link.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)


class TcpPort:
    """A listening port on the loopback; one host at a time, others are turned away.

    Args:
        port: 0 lets the system choose; then see ``port``.
    """

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._host: socket.socket | None = None

    def register(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._listener, selectors.EVENT_READ, self)

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> bytes:
        if key.fileobj is self._listener:
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
    """People's hands: a Unix socket with one JSON object per line, asked and answered."""

    def __init__(self, path: Path, handle: Callable[[Request], Request]) -> None:
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

    def register(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._listener, selectors.EVENT_READ, self)

    def serve(self, key: selectors.SelectorKey, selector: selectors.BaseSelector, now_ns: int) -> bool:
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
        for text in lines:
            if text.strip():
                self._person.sendall(json.dumps(self._answer(text, now_ns)).encode() + b"\n")
        return bool(data)

    def _answer(self, text: bytes, now_ns: int) -> Request:
        try:
            request = json.loads(text)
            if not isinstance(request, dict):
                raise ValueError("a request is a JSON object")
            return self._handle({**request, "now_ns": now_ns})
        except Exception as error:  # a person's mistake must not stop the bench
            return {"error": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        for end in (self._person, self._listener):
            if end is not None:
                end.close()


def serve(
    doors: Mapping[str, tuple[Endpoint, Door]],
    theatre_path: Path,
    handle: Callable[[Request], Request],
    *,
    speed: float = 1.0,
) -> None:
    """Serve until the person at the theatre's socket leaves, or SIGTERM or SIGINT.

    Args:
        doors: each device with its door, by name.
        theatre_path: the socket; it appears last, so that who sees it can open the doors.
        handle: does what a person asks; the request gets ``now_ns``, the devices' time.
        speed: of the devices' time against the clock on the wall.
    """
    start_ns = time.monotonic_ns()

    def now() -> int:
        return int((time.monotonic_ns() - start_ns) * speed)

    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _, door in doors.values():
            stack.callback(door.close)
            door.register(selector)
        of_door = {id(door): endpoint for endpoint, door in doors.values()}
        stopped = stack.enter_context(_signals(selector))
        theatre = _Theatre(theatre_path, handle)
        stack.callback(theatre.close)
        theatre.register(selector)
        while not stopped():
            for key, _ in selector.select(_nap_s(doors, now(), speed)):
                if key.data is theatre:
                    if not theatre.serve(key, selector, now()):
                        return
                elif key.data is not None:
                    data = key.data.ready(key, selector)
                    if data:
                        of_door[id(key.data)].receive(data, now())
            for endpoint, door in doors.values():
                endpoint.wake(now())
                data = endpoint.take()
                if data:
                    door.write(data)


def run_doors(
    rig: Endpoint,
    applicator: Endpoint,
    folder: Path,
    speed: float,
    handle: Callable[[Request], Request],
) -> None:
    """Both devices on pseudo-terminals ``folder``/rig and ``folder``/applicator, people at ``folder``/theatre.

    Returns when the person at the theatre's socket leaves, or on SIGTERM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"rig": rig, "applicator": applicator}
    doors = {name: (end, PseudoTerminal(folder / name)) for name, end in ends.items()}
    serve(doors, folder / "theatre", handle, speed=speed)


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
