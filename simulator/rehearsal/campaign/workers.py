"""Chunks of runs on this machine's cores: a worker that dies is replaced, and its chunk is played again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, Protocol

MOST_DEATHS = 3
"""Times in a row that workers may die without a chunk coming back (assumed)."""
AHEAD = 3
"""Chunks a worker has waiting."""
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
    left = dict(chunks)
    if cores == 1 or len(left) <= 1:
        for number, runs in left.items():
            yield number, player.play(runs)
        return
    deaths = 0
    while left:
        try:
            for number, rows in _with_pool(player, left, cores):
                deaths = 0
                del left[number]
                yield number, rows
        except BrokenProcessPool:
            deaths += 1
            if deaths >= MOST_DEATHS:
                low = min(runs.start for runs in left.values())
                raise CampaignStoppedError(
                    f"a worker process died {deaths} times in a row (out of memory?), around run {low}; what was "
                    "played is kept, --resume goes on, --workers 1 plays in one process."
                ) from None


def _with_pool(player: Runs, left: dict[int, range], cores: int) -> Iterator[tuple[int, Rows]]:
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    context = multiprocessing.get_context(
        "forkserver"
    )  # what is heavy to import is imported once, not per core
    context.set_forkserver_preload([type(player).__module__])
    pool = ProcessPoolExecutor(min(cores, len(left)), context, _begin, (pickle.dumps(player),))
    try:
        waiting = iter(list(left.items()))
        under_way: dict[Future[Rows], int] = {}
        while True:
            while len(under_way) < AHEAD * cores and (following := next(waiting, None)) is not None:
                under_way[pool.submit(_play, following[1])] = following[0]
            if not under_way:
                return
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                yield under_way.pop(done), done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_player: Runs | None = None


def _begin(pickled: bytes) -> None:
    """In the worker, once."""
    global _player
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _player = pickle.loads(pickled)


def _end_with_the_parent() -> None:
    """A parent that was killed gives no more chunks, and nobody else would end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _play(runs: range) -> Rows:
    assert _player is not None
    return play_chunk(_player, runs)
