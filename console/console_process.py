"""Starts ``seedguide console`` beside a procedure that this program plays, and ends it with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from controller.result import Progress


class ConsoleProcess:
    """The page's server, in a process of its own.

    Args:
        folder: the run's.
        port: 0: any free one.
        told: gets the line with the address, or why there is none; called from a thread.
    """

    def __init__(self, folder: Path, port: int, told: Callable[[str], None]) -> None:
        self._folder, self._port, self._told = folder, port, told
        self._process: subprocess.Popen[str] | None = None

    def begun_with(self, listener: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """``listener``, and the console as soon as the procedure has begun: its door is open then."""

        def heard(progress: Progress) -> None:
            if self._process is None and progress.snapshot is not None:
                self._begin()
            listener(progress)

        return heard

    def _begin(self) -> None:
        command = [sys.executable, "-m", "console.cli", "console", "--procedure", str(self._folder)]
        self._process = subprocess.Popen(
            [*command, "--port", str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the procedure; the page goes with it
        )
        threading.Thread(target=self._tell, args=(self._process,), daemon=True, name="console").start()

    def _tell(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._told(line.rstrip())

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
