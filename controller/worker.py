"""Heavy work in a process of its own: who serves devices never waits for it, nor for the interpreter that does it.

One job at a time, a method of the workplace by its name; values go both ways as pickles. The process is a fresh
interpreter (never a fork), ends when this one does, whatever ends it, and yields the cores to whoever needs them.
A job that crashes, hangs or is cancelled ends as ``HeavyWorkLost``, in words; nothing is tried again by itself.
Knows processes. Does not know what the work is.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any

from planning.refusal import AskedWrongly

LONGEST_S = 300.0
"""A job that takes longer hangs (assumed; the analysis of a CT takes seconds)."""
NICENESS = 5
_DONE, _ASKED_WRONGLY, _FAILED = "done", "asked wrongly", "failed"


class HeavyWorkLost(RuntimeError):
    """A job has no result; the message says what became of it."""


class Worker:
    """A process that does jobs; it starts now, and again with the next job after it was lost.

    Args:
        workplace: its methods are the jobs; it goes over once and must be picklable, from an importable module.
        longest_s: a job that takes longer is ended.
    """

    def __init__(self, workplace: object, *, longest_s: float = LONGEST_S) -> None:
        self._packed = pickle.dumps(workplace, protocol=pickle.HIGHEST_PROTOCOL)
        self.longest_s = longest_s
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._is_busy = self._is_cancelled = False
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Connection[Any, Any] | None = None
        self._start()

    def do(self, job: str, *values: Any, **named: Any) -> Any:
        """The result of the workplace's method ``job``; waits for it.

        Raises:
            AskedWrongly: as the job raised it.
            HeavyWorkLost: the job failed otherwise, or its process crashed, hung or was ended.
        """
        asked = pickle.dumps((job, values, named), protocol=pickle.HIGHEST_PROTOCOL)
        with self._turn:
            with self._guard:
                self._is_busy, self._is_cancelled = True, False
            try:
                if self._process is None or self._link is None or self._process.poll() is not None:
                    self._start()
                kind, value = self._asked(asked)
            finally:
                with self._guard:
                    self._is_busy = False
        if kind == _ASKED_WRONGLY:
            raise AskedWrongly(value)
        if kind == _FAILED:
            raise HeavyWorkLost(f"it failed ({value})")
        return value

    def cancel(self) -> None:
        """End the job under way, if there is one: nobody waits for it any more. Returns at once."""
        with self._guard:
            if self._is_busy and self._process is not None:
                self._is_cancelled = True
                self._process.kill()

    def close(self) -> None:
        """End the process."""
        with self._guard:
            self._is_cancelled = True
            if self._process is not None:
                self._process.kill()
        with self._turn:
            self._end()

    def _asked(self, asked: bytes) -> tuple[str, Any]:
        assert self._link is not None
        try:
            self._link.send_bytes(asked)
            if not self._link.poll(self.longest_s):
                self._end()
                raise HeavyWorkLost(f"it did not end within {self.longest_s:.0f} s")
            kind, value = self._link.recv()
        except (EOFError, OSError) as problem:
            status = self._end()
            if self._is_cancelled:
                raise HeavyWorkLost("it was cancelled") from problem
            raise HeavyWorkLost(f"its process {_ended(status)}") from problem
        return kind, value

    def _start(self) -> None:
        self._end()
        here, there = Pipe()
        with there:
            process = subprocess.Popen(
                [sys.executable, "-m", "controller.worker", str(there.fileno())],
                pass_fds=(there.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for who leads the devices
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        with self._guard:
            self._process, self._link = process, here
        with suppress(OSError):  # it has died already: the first job tells
            here.send_bytes(self._packed)

    def _end(self) -> int:
        """The process gone and waited for; its exit status."""
        with self._guard:
            process, link = self._process, self._link
            self._process = self._link = None
        if link is not None:
            link.close()
        if process is None:
            return 0
        with suppress(subprocess.TimeoutExpired):  # one that ends by itself tells how
            return process.wait(0.2)
        process.kill()
        return process.wait()


def _ended(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name} (out of memory?)"
    return f"ended by itself (exit status {status})"


def _serve(descriptor: int) -> None:
    """The far side: jobs until whoever asks is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    link: Connection[Any, Any] = Connection(descriptor)
    arrived: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                arrived.put(link.recv_bytes())
        os._exit(0)  # also in the middle of a job: nobody wants it any more

    threading.Thread(target=listen, daemon=True).start()
    workplace = pickle.loads(arrived.get())
    while True:
        job, values, named = pickle.loads(arrived.get())
        try:
            answer = pickle.dumps((_DONE, getattr(workplace, job)(*values, **named)))
        except AskedWrongly as problem:
            answer = pickle.dumps((_ASKED_WRONGLY, str(problem)))
        except Exception as problem:
            answer = pickle.dumps((_FAILED, f"{type(problem).__name__}: {problem}"))
        link.send_bytes(answer)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
