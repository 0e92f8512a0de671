"""The door's visitors: whole lines in and out, each at its own pace, on a thread of their own (DOOR.md).

Knows sockets, lengths and who is late; what a line means and what there is to tell is its ``Host``'s, the door's.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.door_words import LONGEST_LINE, line_of

MOST_CLIENTS = 8
HELLO_WITHIN_S = 5.0
BEAT_EVERY_S = 0.5
"""So often followers are told how long ago the loop that owns the ports last looked in."""
LAST_WORDS_S = 0.5
"""So long what is still to be said is waited for at the end."""
_LOOK_EVERY_S = 0.1
_CHUNK = 65_536
_MOST_UNREAD = 1_000_000


@dataclass(eq=False)
class Visitor:
    """One link. ``who`` is empty until it has said hello; ``seen``, ``since``: news and records it has been told."""

    link: socket.socket
    hello_by_s: float
    heard: bytearray = field(default_factory=bytearray)
    to_say: bytearray = field(default_factory=bytearray)
    who: str = ""
    follows: bool = False
    seen: int = 0
    since: int | None = None
    is_leaving: bool = False


class Host(Protocol):
    """Whose visitors these are. All of it is called on their thread."""

    def obey(self, client: Visitor, line: bytes) -> None:
        """One whole line that it said."""

    def look(self) -> None:
        """Before anybody is told anything, at every turn."""

    def tell_news(self, client: Visitor) -> None:
        """Put into ``to_say`` what is new to a follower that has read all it was told."""

    def silence_s(self) -> float:
        """How long ago the loop that owns the ports last looked in."""

    def sent_away(self, client: Visitor, why: str) -> None:
        """It was refused."""

    def gone(self, client: Visitor) -> None:
        """Its link is closed."""


class Visitors:
    """Serves ``listener`` from ``start`` on; ``close`` lets nobody in any more.

    Args:
        listener: bound and listening, not blocking.
        host: what is asked and told.
        clock_s: never goes back.
    """

    def __init__(self, listener: socket.socket, host: Host, clock_s: Callable[[], float]) -> None:
        self._listener, self._host, self._clock_s = listener, host, clock_s
        self._clients: list[Visitor] = []
        self._is_closing = False
        self._last_beat_s = clock_s()
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._selector.register(self._awake, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="door")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something to tell. Of any thread; waits for nobody."""
        with contextlib.suppress(OSError):
            self._alarm.send(b"!")

    def close(self) -> None:
        """Say what is still to be said, then nobody is heard any more."""
        self._is_closing = True
        self.wake()
        self._thread.join(2.0)
        for end in (self._awake, self._alarm, self._listener):
            end.close()

    def names(self) -> list[tuple[str, int]]:
        """Who is in, and the last news each was told."""
        return [(client.who, client.seen) for client in self._clients[:]]

    # --- on the thread --------------------------------------------------------------------------------------

    def tell(self, client: Visitor, words: dict[str, Any]) -> None:
        client.to_say += line_of(words)
        if len(client.to_say) > _MOST_UNREAD:
            self._drop(client)

    def refuse(self, client: Visitor, why: str) -> None:
        """Told why, and sent away."""
        client.is_leaving = True
        client.heard.clear()
        client.to_say += line_of({"refused": why})
        self._host.sent_away(client, why)

    def _serve(self) -> None:
        until_s: float | None = None
        while until_s is None or (self._clock_s() < until_s and any(c.to_say for c in self._clients)):
            for key, ready in self._selector.select(0.05 if until_s is not None else _LOOK_EVERY_S):
                if key.fileobj is self._listener:
                    self._let_in()
                elif key.fileobj is self._awake:
                    with contextlib.suppress(BlockingIOError):
                        self._awake.recv(4096)
                elif ready & selectors.EVENT_READ:
                    self._hear(key.data)
            now_s = self._clock_s()
            self._host.look()
            is_beat = now_s - self._last_beat_s >= BEAT_EVERY_S
            if is_beat:
                self._last_beat_s = now_s
            for client in self._clients[:]:
                if is_beat and client.follows and not client.to_say:
                    client.to_say += line_of({"beat": round(self._host.silence_s(), 3)})
                if not client.who and not client.is_leaving and now_s > client.hello_by_s:
                    self.refuse(client, f"said no hello within {HELLO_WITHIN_S:g} s")
                self._tell_news(client)
                self._speak(client)
            if self._is_closing and until_s is None:
                until_s = now_s + LAST_WORDS_S
        for client in self._clients[:]:
            self._drop(client)
        self._selector.close()

    def _let_in(self) -> None:
        try:
            link, _ = self._listener.accept()
        except OSError:
            return
        link.setblocking(False)
        client = Visitor(link, self._clock_s() + HELLO_WITHIN_S)
        self._clients.append(client)
        self._selector.register(link, selectors.EVENT_READ, client)
        if len(self._clients) > MOST_CLIENTS:
            self.refuse(client, f"more than {MOST_CLIENTS} clients")

    def _hear(self, client: Visitor) -> None:
        try:
            data = client.link.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.heard += data
        while not client.is_leaving and (end := client.heard.find(b"\n")) >= 0:
            line = bytes(client.heard[:end])
            del client.heard[: end + 1]
            if len(line) <= LONGEST_LINE:
                self._host.obey(client, line)
            else:
                self.refuse(client, f"a line of more than {LONGEST_LINE} bytes")
        if len(client.heard) > LONGEST_LINE:
            self.refuse(client, f"a line of more than {LONGEST_LINE} bytes")

    def _tell_news(self, client: Visitor) -> None:
        """Only to who has read everything before: a slow reader misses pictures, and holds up nobody."""
        if client.follows and not client.to_say and not client.is_leaving:
            self._host.tell_news(client)

    def _speak(self, client: Visitor) -> None:
        if client not in self._clients:
            return
        while client.to_say:
            try:
                sent = client.link.send(client.to_say[:_CHUNK])
            except BlockingIOError:
                break
            except OSError:
                self._drop(client)
                return
            del client.to_say[:sent]
            self._tell_news(client)
        if client.is_leaving and not client.to_say:
            self._drop(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.to_say else 0)
        self._selector.modify(client.link, wanted, client)

    def _drop(self, client: Visitor) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.link)
            client.link.close()
            self._host.gone(client)
