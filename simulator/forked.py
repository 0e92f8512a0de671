"""Slow work of the bench in a copy of its process: the wires are served meanwhile, and time does not jump.

The copy sees the room as it is when the work is asked for; only its answer comes back (a JSON value).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Answer = dict[str, Any]


class Forked:
    """One piece of work under way.

    Args:
        work: what is done in the copy; it may write files, and changes nothing here.
    """

    def __init__(self, work: Callable[[], Answer]) -> None:
        reader, writer = os.pipe()
        self._reader = reader
        self._heard = b""
        self._process = os.fork()
        if self._process == 0:
            _work_and_leave(work, writer)
        os.close(writer)
        os.set_blocking(reader, False)

    def answer(self) -> Answer | None:
        """The answer once it is there; None before."""
        while True:
            try:
                data = os.read(self._reader, 65_536)
            except BlockingIOError:
                return None
            if not data:
                break
            self._heard += data
        self._end()
        try:
            answer: Answer = json.loads(self._heard)
        except ValueError:
            return {"error": "the work ended without an answer"}
        return answer

    def close(self) -> None:
        """End it, if it is still under way."""
        if self._process:
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            self._end()

    def _end(self) -> None:
        os.close(self._reader)
        os.waitpid(self._process, 0)
        self._process = 0


def _work_and_leave(work: Callable[[], Answer], writer: int) -> None:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = work()
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        with open(writer, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
    finally:
        os._exit(0)
