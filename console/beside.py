"""Starts commands of ours beside a procedure that this program plays (its page, OpenIGTLink), and ends them with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from controller.result import Progress

_PARENT = "SEEDGUIDE_BESIDE"
_LOOK_EVERY_S = 1.0


def end_with_parent() -> None:
    """In a command that ``Beside`` began: end when the procedure's process has gone, also when it was killed.

    Otherwise its port would stay taken for nothing. Does nothing in a command that a person began.
    """
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def watch() -> None:
        while str(os.getppid()) == parent:
            threading.Event().wait(_LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


class Beside:
    """Each command in a process of its own, begun when the procedure has begun: its door is open then.

    Args:
        commands: arguments of ``seedguide``, one sequence a process.
        told: gets each line that they say: an address, or why there is none; called from threads.
    """

    def __init__(self, commands: Sequence[Sequence[str]], told: Callable[[str], None]) -> None:
        self._commands, self._told = commands, told
        self._processes: list[subprocess.Popen[str]] = []

    def begun_with(self, listener: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """``listener``, and the commands as soon as the procedure has begun."""

        def heard(progress: Progress) -> None:
            if not self._processes and progress.snapshot is not None:
                for command in self._commands:
                    self._begin(command)
            listener(progress)

        return heard

    def _begin(self, command: Sequence[str]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "console.cli", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, _PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C is for the procedure; they go with it
        )
        self._processes.append(process)
        threading.Thread(target=self._tell, args=(process,), daemon=True, name=command[0]).start()

    def _tell(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._told(line.rstrip())

    def wait(self) -> None:
        """Until they have ended, or Ctrl-C."""
        for process in self._processes:
            process.wait()

    def end(self) -> None:
        """Ask them to end, and wait until they have."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
