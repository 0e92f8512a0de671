"""The same chunks on an existing Dask cluster (``pip install 'seedguide[cluster]'``).

A worker that is lost gives its chunks back to the scheduler, which has them played again; each chunk's rows are taken
once. What plays is not scattered but made by a task of its own, so that it is made again when its holder is lost.
"""

from __future__ import annotations

import logging
import pickle
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from planning.refusal import AskedWrongly
from simulator.rehearsal.campaign.workers import CampaignStoppedError, Rows, Runs, play_chunk

WAIT_S = 30
"""For the scheduler to answer, and for its first worker."""
AHEAD = 4
"""Chunks a worker's thread has waiting."""
RETRIES = 3


def unpacked(packed: bytes) -> Runs:
    """On a worker: what plays."""
    player: Runs = pickle.loads(zlib.decompress(packed))
    return player


def play_on_cluster(
    player: Runs, chunks: Iterable[tuple[int, range]], address: str
) -> Iterator[tuple[int, Rows]]:
    """Each chunk's number and rows, as they come.

    Raises:
        AskedWrongly: dask.distributed is not installed, or no scheduler answers at ``address``.
        CampaignStoppedError: no worker, workers that die again and again, or a scheduler that goes away.
    """
    try:
        from distributed import Client, wait
        from distributed.client import FutureCancelledError, FuturesCancelledError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker
    except ImportError as problem:
        raise AskedWrongly(
            "--scheduler needs dask.distributed: pip install 'seedguide[cluster]'."
        ) from problem
    for talker in ("distributed", "tornado", "asyncio"):
        logging.getLogger(talker).setLevel(
            logging.CRITICAL
        )  # what concerns a person is said in one sentence below
    try:
        client = Client(address, timeout=WAIT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as problem:
        why = str(problem).split("\n")[0]
        raise AskedWrongly(f"--scheduler {address}: no Dask scheduler answers there ({why}).") from problem
    try:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError as problem:
            raise CampaignStoppedError(
                f"the scheduler at {address} has no worker; start one (dask worker {address}), then --resume."
            ) from problem
        packed = zlib.compress(pickle.dumps(player), 1)
        there = client.submit(unpacked, packed, pure=False, retries=RETRIES)
        waiting = iter(list(chunks))
        under_way: dict[Any, int] = {}
        while True:
            cores = max(1, sum(client.nthreads().values()))
            while len(under_way) < AHEAD * cores and (following := next(waiting, None)) is not None:
                future = client.submit(play_chunk, there, following[1], pure=False, retries=RETRIES)
                under_way[future] = following[0]
            if not under_way:
                return
            # not as_completed: that one waits for ever for a scheduler that has gone away
            with client.as_current():
                done = wait(list(under_way), return_when="FIRST_COMPLETED").done
            for future in done:
                yield under_way.pop(future), future.result()
    except KilledWorker as problem:
        raise CampaignStoppedError(
            f"workers of {address} die again and again ({problem}); what was played is kept, --resume goes on."
        ) from problem
    except (CommClosedError, FutureCancelledError, FuturesCancelledError, OSError, TimeoutError) as problem:
        raise CampaignStoppedError(
            f"the scheduler at {address} has gone away; what was played is kept, --resume goes on."
        ) from problem
    finally:
        client.close(timeout=5)
