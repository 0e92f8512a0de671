"""What the door puts into a run's folder, for this user alone: its token, its address, its socket."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

TOKEN_FILE, ADDRESS_FILE, SOCKET_FILE = "door.token", "door.json", "door.sock"
_LONGEST_SOCKET_NAME = 100


class DoorFiles:
    """Made one by one, taken away together. Each raises OSError where it can't be made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = []

    def new_token(self) -> str:
        """Who shows it may speak; 64 hex digits that nobody can guess."""
        token = secrets.token_hex(32)
        self._write(TOKEN_FILE, token)
        return token

    def _write(self, name: str, text: str) -> None:
        """Readable by this user alone, from its first moment on; there whole or not at all."""
        path = self._folder / name
        growing = self._folder / f".{name}.growing"
        growing.unlink(missing_ok=True)
        with open(
            os.open(growing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8"
        ) as out:
            out.write(text)
        os.replace(growing, path)
        self._made.append(path)

    def listen(self, tcp_port: int | None, *, backlog: int) -> tuple[socket.socket, dict[str, Any]]:
        """A listening socket that never waits, and its address; ``tcp_port`` as ``Door``'s."""
        if tcp_port is not None:
            listener = socket.create_server(("127.0.0.1", tcp_port), backlog=backlog)
            listener.setblocking(False)
            return listener, {"tcp": ["127.0.0.1", listener.getsockname()[1]]}
        path = (self._folder / SOCKET_FILE).resolve()
        if len(os.fsencode(path)) > _LONGEST_SOCKET_NAME:  # the system takes 107 bytes
            path = Path(tempfile.mkdtemp(prefix="seedguide-")) / SOCKET_FILE  # 0700
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        self._made.append(path)
        listener.listen(backlog)
        listener.setblocking(False)
        return listener, {"socket": str(path)}

    def write_address(self, address: dict[str, Any]) -> None:
        """Where the door is, for who looks for it in the folder."""
        self._write(ADDRESS_FILE, json.dumps(address))

    def clear_away(self) -> None:
        """Everything that was made."""
        for path in self._made:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._made.clear()
