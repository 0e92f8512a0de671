"""The server's sockets: many clients, one loop, and the door of the procedure.

In a process of its own: whatever its clients do, the controller's loop is not slowed down; the door hands it the newest
picture and waits for nobody. No client can hold up another: each has what it does not read at its own expense.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from console.igtl.door_link import DoorLink
from console.igtl.peer import Peer
from console.igtl.robot import Robot
from console.igtl.told import SharedTick, Told
from console.igtl.view import RunView
from planning.plan import Plan
from planning.refusal import AskedWrongly

MOST_CLIENTS = 16
STUCK_NS = 5_000_000_000
"""A client that takes nothing for so long, though there is something for it, is sent away (assumed)."""
SAY_EVERY_NS = 10_000_000_000
_BUFFER = 262_144
_CHUNK = 65_536
_LONGEST_WAIT_S = 1.0


@dataclass(eq=False)
class _Client:
    link: socket.socket
    peer: Peer
    name: str
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    moved_ns: int = 0


class IgtlServer:
    """Listens at once.

    Args:
        folder: of the run; ``plan``: its plan.
        host, port: to listen at; port 0: any free one.
        said: gets lines for the person at the terminal, few enough for one.
        now_ns, wall_ns: a clock that never goes back, and the time of day for the messages' stamps.

    Raises:
        AskedWrongly: it can't listen there.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        host: str,
        port: int,
        said: Callable[[str], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._said, self._now_ns, self._wall_ns = said, now_ns, wall_ns
        self._view = RunView(plan)
        self._told = Told(self._view)
        self._tick = SharedTick(self._told, wall_ns)
        self._door = DoorLink(folder, self._view)
        self._clients: list[_Client] = []
        self._gone: list[Peer] = []
        self.refusals: Counter[str] = Counter()
        self._said_ns = -SAY_EVERY_NS
        self._seen = self._view.changes
        self._listener = _listen(host, port)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._watched_door = -1

    def close(self) -> None:
        for client in self._clients[:]:
            self._drop(client, "")
        self._door.close()
        self._selector.close()
        self._listener.close()

    def run(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Until ``is_over``, looked at once a second at least."""
        while not is_over():
            self.step()

    def step(self) -> None:
        """Wait for the next thing, and do it."""
        self._watch_door()
        there_is_news = False
        for key, ready in self._selector.select(self._wait_s()):
            if key.fileobj is self._listener:
                self._let_in()
            elif isinstance(key.data, _Client):
                if ready & selectors.EVENT_READ:
                    self._hear(key.data)
            else:
                there_is_news = True
        self._speak_to_door()  # a stop leaves before anybody is told anything
        if there_is_news:
            self._door.hear()
        if self._seen != self._view.changes:
            self._seen = self._view.changes
            for client in self._clients:
                client.peer.look(self._now_ns())
        for client in self._clients[:]:
            self._serve(client)
        self._speak_to_door()

    # --- the door ---------------------------------------------------------------------------------------

    def _watch_door(self) -> None:
        if self._watched_door >= 0 and self._door.client is None:
            self._selector.unregister(self._watched_door)
            self._watched_door = -1
        if self._door.open(self._now_ns()) and self._door.client is not None:
            self._watched_door = self._door.client.fileno()
            self._selector.register(self._watched_door, selectors.EVENT_READ, "door")

    def _speak_to_door(self) -> None:
        peers = [*(client.peer for client in self._clients), *self._gone]
        wishes = [wish for peer in peers for wish in peer.wishes()]
        wishes.sort(key=lambda wish: wish.words["do"] != "stop")
        for wish in wishes:
            self._door.say(wish)
            if wish.words["do"] == "stop":
                self._said(f"OpenIGTLink: STOP from {wish.client}")
        self._gone = [peer for peer in self._gone if peer.awaits_door]

    # --- clients ----------------------------------------------------------------------------------------

    def _wait_s(self) -> float:
        now_ns = self._now_ns()
        wakes = [self._door.next_wake_ns, *(client.peer.next_wake() for client in self._clients)]
        due = [wake - now_ns for wake in wakes if wake is not None]
        return min(_LONGEST_WAIT_S, max(0.0, min(due, default=10**9) / 1e9))

    def _let_in(self) -> None:
        try:
            link, address = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor is left for it
        name = f"{address[0]}:{address[1]}"
        if len(self._clients) >= MOST_CLIENTS:
            link.close()
            self._count(f"more than {MOST_CLIENTS} clients", name)
            return
        link.setblocking(False)
        _tune(link)
        now_ns = self._now_ns()
        peer = Peer(self._told, self._tick, Robot(self._view, name), self._wall_ns, now_ns)
        client = _Client(link, peer, name, moved_ns=now_ns)
        self._clients.append(client)
        self._selector.register(link, selectors.EVENT_READ, client)

    def _hear(self, client: _Client) -> None:
        try:
            data = client.link.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client, "")
            return
        client.peer.receive(data, self._now_ns())

    def _serve(self, client: _Client) -> None:
        now_ns = self._now_ns()
        wake_ns = client.peer.next_wake()
        if wake_ns is not None and wake_ns <= now_ns:
            client.peer.wake(now_ns)
        if not client.unsent:
            client.unsent, client.moved_ns = memoryview(client.peer.take()), now_ns
        try:
            while client.unsent:
                sent = client.link.send(client.unsent[:_CHUNK])
                client.unsent, client.moved_ns = client.unsent[sent:], now_ns
        except BlockingIOError:
            if now_ns - client.moved_ns > STUCK_NS:
                self._drop(client, "it does not read what it is told")
                return
        except OSError:
            self._drop(client, "")
            return
        if client.peer.over and not client.unsent:
            self._drop(client, client.peer.over)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        self._selector.modify(client.link, wanted, client)

    def _drop(self, client: _Client, why: str) -> None:
        """It has gone by itself (no ``why``), or is sent away."""
        if client not in self._clients:
            return
        self._clients.remove(client)
        self._selector.unregister(client.link)
        client.link.close()
        client.peer.leave()
        self._gone.append(client.peer)
        if why:
            self._count(why, client.name)

    def _count(self, why: str, name: str) -> None:
        self.refusals[why] += 1
        now_ns = self._now_ns()
        if now_ns - self._said_ns >= SAY_EVERY_NS:
            self._said_ns = now_ns
            self._said(f"OpenIGTLink: {name} was sent away: {why} ({self.refusals.total()} so far)")


def _tune(link: socket.socket) -> None:
    """Small messages at once; a peer that has vanished is noticed; no more than a second or so waits in the kernel."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            with contextlib.suppress(OSError):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=64
        )
    except OSError as problem:
        raise AskedWrongly(
            f"{host}:{port} can't be listened at for OpenIGTLink ({problem.strerror or problem}); choose another port."
        ) from problem
    listener.setblocking(False)
    return listener
