"""The server's one connection to the controller's door: news in, a client's wishes out, opened again for ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.door_client import DoorClient
from console.igtl.robot import Wish
from console.igtl.view import RunView
from planning.refusal import AskedWrongly

NAME = "OpenIGTLink"
"""Who proposes and who pressed stop, in the journal; the client's address is in the reason."""
AGAIN_NS = 500_000_000
_AT_ONCE_S = 1e-4


class DoorLink:
    """Never waits for the door longer than its own answer to a hello.

    Args:
        folder: the run's.
        view: gets the news.
    """

    def __init__(self, folder: Path, view: RunView) -> None:
        self._folder, self._view = folder, view
        self._client: DoorClient | None = None
        self._again_ns = 0
        self._awaited: dict[int, Callable[[dict[str, Any] | None], None]] = {}

    @property
    def client(self) -> DoorClient | None:
        """To be watched for something to read; None while there is no door."""
        return self._client

    @property
    def next_wake_ns(self) -> int | None:
        """When the door is tried again."""
        return self._again_ns if self._client is None else None

    def open(self, now_ns: int) -> bool:
        """Try, if it is time; whether it has just been opened."""
        if self._client is not None or now_ns < self._again_ns:
            return False
        self._again_ns = now_ns + AGAIN_NS
        try:
            client = DoorClient(self._folder, NAME)
            client.hand_over({"do": "follow", "since": self._view.last_record})
        except (AskedWrongly, OSError):
            return False
        self._client, self._view.is_connected = client, True
        return True

    def hear(self) -> None:
        """Everything that has come."""
        if self._client is None:
            return
        try:
            while (words := self._client.news(_AT_ONCE_S)) is not None:
                if "to" in words:
                    answered = self._awaited.pop(int(words["to"]), None)
                    if answered is not None:
                        answered(words)
                elif "refused" in words:
                    raise ConnectionError(str(words["refused"]))
                else:
                    self._view.take(words)
        except (OSError, ValueError):
            self.close()

    def say(self, wish: Wish) -> None:
        """Hand it over; without a door it is answered by that."""
        try:
            if self._client is None:
                raise ConnectionError("no door")
            self._awaited[self._client.hand_over(wish.words)] = wish.answered
        except OSError:
            wish.answered(None)
            self.close()

    def close(self) -> None:
        """Whoever waits for a reply gets none."""
        if self._client is not None:
            self._client.close()
            self._client = None
            self._view.lost()
        awaited, self._awaited = self._awaited, {}
        for answered in awaited.values():
            answered(None)
