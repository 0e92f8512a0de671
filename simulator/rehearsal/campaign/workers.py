"""Chunks of runs on this machine's cores: this process plays, and beside it one worker on each other core.

A worker takes a second or two of work to begin (imports, compiled code). So none is begun before two chunks have told
that more than that is left, and nothing waits for one that has not begun: more cores are not slower than one, however
few the runs. A worker that dies is replaced, and what it had is played again.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

MOST_DEATHS = 3
"""Times in a row that workers may die without a chunk coming back (assumed)."""
WORTH_S = 2.0
"""Work left, in seconds of this core, for which workers are begun: what one needs to begin."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Rows = list[dict[str, Any]]


class Runs(Protocol):
    """What plays: ``DoseRuns`` or ``ProcedureRuns``."""

    def play(self, runs: Sequence[int], /) -> Rows: ...


class CampaignStoppedError(Exception):
    """It can't go on now; what was played is kept. The message is a sentence."""


def play_chunk(player: Runs, runs: range) -> Rows:
    """What a worker does, here or on a cluster."""
    return player.play(runs)


def play_here(player: Runs, chunks: Iterable[tuple[int, range]], cores: int) -> Iterator[tuple[int, Rows]]:
    """Each chunk's number and rows, as they come.

    Raises:
        CampaignStoppedError: workers die again and again.
    """
    left = deque(chunks)
    others, own_s = Workers(player, 0), list[float]()
    try:
        while left or others.are_busy:
            if len(own_s) == 2 and min(own_s) * len(left) > WORTH_S:
                others = Workers(player, min(cores, len(left)) - 1)
            others.feed(left)
            yield from others.played(left, wait_for_one=not left)
            if left:
                number, runs = left.popleft()
                begun = time.process_time()
                rows = player.play(runs)
                own_s.append(time.process_time() - begun)
                yield number, rows
    finally:
        others.end()


class _Worker:
    """One process, and the chunks that it has been given."""

    def __init__(self, pickled: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.under_way: deque[tuple[int, range]] = deque()
        self.is_ready = False
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, pickled), daemon=True)
        with _one_thread_each():
            self.process.start()
        theirs.close()

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


class Workers:
    """``count`` processes beside this one; ``end`` them in the end."""

    def __init__(self, player: Runs, count: int) -> None:
        self._pickled = pickle.dumps(player) if count > 0 else b""
        self._workers = [_Worker(self._pickled) for _ in range(count)]
        self._deaths = 0

    @property
    def are_busy(self) -> bool:
        return any(worker.under_way for worker in self._workers)

    def feed(self, left: deque[tuple[int, range]]) -> None:
        """One chunk to play and, while there are plenty, one to go on with."""
        for ahead in (1, 2):
            for worker in self._workers:
                plenty = len(left) > (ahead - 1) * 2 * len(self._workers)
                if worker.is_ready and plenty and left and len(worker.under_way) < ahead:
                    worker.under_way.append(left.popleft())
                    with suppress(OSError):  # it has died: ``played`` meets the end of its pipe
                        worker.pipe.send(worker.under_way[-1][1])

    def played(self, left: deque[tuple[int, range]], *, wait_for_one: bool) -> Iterator[tuple[int, Rows]]:
        """What has come from them; the chunks of those that died go back to ``left``."""
        told = wait([worker.pipe for worker in self._workers], None if wait_for_one else 0)
        for at, worker in enumerate(self._workers):
            if worker.pipe not in told:
                continue
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                left.extendleft(reversed(worker.under_way))
                worker.end()
                self._died(min((runs.start for _, runs in worker.under_way), default=0))
                self._workers[at] = _Worker(self._pickled)
                continue
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                worker.is_ready = True
                continue
            self._deaths = 0
            number, _ = worker.under_way.popleft()
            yield number, answer

    def _died(self, run: int) -> None:
        self._deaths += 1
        if self._deaths >= MOST_DEATHS:
            raise CampaignStoppedError(
                f"a worker process died {self._deaths} times in a row (out of memory?), around run {run}; what was "
                "played is kept, --resume goes on, --workers 1 plays in one process."
            )

    def end(self) -> None:
        for worker in self._workers:
            worker.end()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """What a process begun here finds in its environment: its libraries are not to share the cores out again."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(pipe: Connection, pickled: bytes) -> None:
    """The worker: None once it can play, then the rows of each chunk, until the pipe ends (its parent was killed)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    with suppress(EOFError, OSError):
        player: Runs = pickle.loads(pickled)
        begun = _answer(player, range(1))  # the first run compiles
        pipe.send(begun if isinstance(begun, Exception) else None)
        while True:
            pipe.send(_answer(player, pipe.recv()))


def _answer(player: Runs, runs: range) -> Rows | Exception:
    try:
        return play_chunk(player, runs)
    except Exception as problem:
        problem.add_note(f"in a worker:\n{traceback.format_exc()}")
        return problem
