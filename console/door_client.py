"""A console's end of the controller's door: connect, follow, answer, stop (controller/DOOR.md).

Knows address, token and lines; shows nothing. One thread at a time.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from pathlib import Path
from typing import Any

from planning.refusal import AskedWrongly

TOKEN_FILE, ADDRESS_FILE = "door.token", "door.json"
VERSION = 1
_PATIENCE_S = 5.0


class DoorClient:
    """Connected and greeted.

    Args:
        folder: of the run.
        who: name in the journal; 1 to 130 printable signs.

    Raises:
        AskedWrongly: no door is open there, it may not be read, or it does not let this console in.
    """

    def __init__(self, folder: Path, who: str) -> None:
        self._folder = folder
        try:
            address = json.loads((folder / ADDRESS_FILE).read_text(encoding="utf-8"))
            token = (folder / TOKEN_FILE).read_text(encoding="utf-8")
            self._link = _connected(address)
        except FileNotFoundError as problem:
            raise AskedWrongly(f"{folder}: no procedure is running here (no door is open).") from problem
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise AskedWrongly(f"{folder}: the procedure's door does not open ({problem}).") from problem
        self._heard = b""
        self._news: deque[dict[str, Any]] = deque()
        self._asked = 0
        try:
            self._say({"do": "hello", "token": token, "who": who})
            words = self._next(_PATIENCE_S)
        except OSError as problem:
            self.close()
            raise AskedWrongly(f"{folder}: the procedure's door does not answer ({problem}).") from problem
        if words is None or words.get("welcome") != VERSION:
            self.close()
            raise AskedWrongly(f"{folder}: not let in: {(words or {}).get('refused', 'no welcome')}.")
        self.is_simulated = bool(words["simulated"])

    def __enter__(self) -> DoorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when something has come."""
        return self._link.fileno()

    def close(self) -> None:
        self._link.close()

    def follow(self, since: int | None = None) -> None:
        """From now on ``news`` gives snapshots, and (``since``) the journal's records after that number."""
        words: dict[str, Any] = {"do": "follow"}
        self.ask(words if since is None else {**words, "since": since})

    def news(self, within_s: float | None = None) -> dict[str, Any] | None:
        """The next snapshot (``snapshot``, ``ask``, ``devices``), record (``record``) or beat (``beat``: s since the
        loop that owns the ports looked in); None when none came in time.

        Raises:
            ConnectionError: the door is closed: the procedure's process has ended, or sent this console away.
        """
        return self._news.popleft() if self._news else self._next(within_s)

    def answer(self, number: int, values: dict[str, Any] | None = None) -> str | None:
        """Confirm command ``number``, with what was read or measured; why it did not count, or None."""
        words: dict[str, Any] = {"do": "answer", "number": number}
        return self._refusal(words if not values else {**words, "values": values})

    def decline(self, number: int, because: str) -> str | None:
        """Say no to command ``number``; why it did not count, or None."""
        return self._refusal({"do": "decline", "number": number, "because": because})

    def decide(
        self, kind: str, because: str = "", *, needle: str | None = None, count: int = 0, where: str = ""
    ) -> str | None:
        """Decide what may be decided (PROTOCOL.md, last table); why it was not taken, or None."""
        words: dict[str, Any] = {
            "do": "decide",
            "kind": kind,
            "because": because,
            "count": count,
            "where": where,
        }
        return self._refusal(words if needle is None else {**words, "needle": needle})

    def propose(self, kind: str, because: str = "", **about: Any) -> int | str:
        """Ask a person for an answer or a decision (DOOR.md, proposals): its number, or why it can't be asked for.

        ``about``: ``number``, ``needle``, ``place_mm``, ``count``, ``where`` as its kind needs them. What became of it
        is in the news; it lapses with this connection.
        """
        words = {name: value for name, value in about.items() if value is not None}
        reply = self.ask({"do": "propose", "kind": kind, "because": because, **words})
        return int(reply["number"]) if reply["accepted"] else str(reply["why"])

    def settle(self, number: int, outcome: str, because: str = "") -> str | None:
        """``confirm``, ``decline`` (with a reason) or ``withdraw`` a proposal; why it did not count, or None."""
        return self._refusal({"do": f"{outcome}_proposal", "number": number, "because": because})

    def go_on(self) -> str | None:
        """Let a held procedure go on; it asks for a confirmation first. Why that can't be, or None."""
        return self._refusal({"do": "go_on"})

    def leave(self) -> str | None:
        """Leave a held procedure held: its process ends, ``seedguide resume`` takes it up. Why not, or None."""
        return self._refusal({"do": "leave"})

    def stop(self) -> str | None:
        """Press stop; why it could not be handed over, or None."""
        return self._refusal({"do": "stop"})

    def hand_over(self, words: dict[str, Any]) -> int:
        """Any request; its reply comes through ``news``, with the number returned here as ``to``."""
        self._asked += 1
        self._say({**words, "id": self._asked})
        return self._asked

    def ask(self, words: dict[str, Any]) -> dict[str, Any]:
        """Any request, and its reply; news that come before are kept for ``news``.

        Raises:
            ConnectionError: the door is closed, or does not reply.
        """
        asked = self.hand_over(words)
        while True:
            reply = self._next(_PATIENCE_S)
            if reply is None:
                raise ConnectionError("the door does not reply")
            if reply.get("to") == asked:
                return reply
            if "refused" in reply:
                raise ConnectionError(str(reply["refused"]))
            self._news.append(reply)

    def _refusal(self, words: dict[str, Any]) -> str | None:
        reply = self.ask(words)
        return None if reply["accepted"] else str(reply["why"])

    def _say(self, words: dict[str, Any]) -> None:
        self._link.settimeout(_PATIENCE_S)
        self._link.sendall(json.dumps(words).encode() + b"\n")

    def _next(self, within_s: float | None) -> dict[str, Any] | None:
        self._link.settimeout(within_s)
        while b"\n" not in self._heard:
            try:
                data = self._link.recv(65_536)
            except TimeoutError:
                return None
            if not data:
                raise ConnectionError("the door is closed")
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        words: dict[str, Any] = json.loads(line)
        return words


def _connected(address: dict[str, Any]) -> socket.socket:
    if address["version"] != VERSION:
        raise ValueError(f"it speaks version {address['version']}, this console {VERSION}")
    if "tcp" in address:
        host, port = address["tcp"]
        return socket.create_connection((str(host), int(port)), _PATIENCE_S)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(_PATIENCE_S)
    try:
        link.connect(str(address["socket"]))
    except OSError:
        link.close()
        raise
    return link
