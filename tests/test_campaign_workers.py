"""Chunks over processes, here and on a Dask cluster: each comes back once, also when workers die."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from campaign_workers import CHUNKS, EXPECTED, NeverBegins, Squares

from planning.refusal import AskedWrongly
from simulator.rehearsal.campaign import cluster, workers
from simulator.rehearsal.campaign.cluster import play_on_cluster
from simulator.rehearsal.campaign.workers import MOST_DEATHS, CampaignStoppedError, Workers, play_here


def of_workers(player: Squares, chunks: list[tuple[int, range]], count: int) -> list[tuple[int, Any]]:
    """As ``play_here``, when this process plays none itself: whatever is played, workers have played it."""
    left, others, found = deque(chunks), Workers(player, count), []
    try:
        while left or others.are_busy:
            others.feed(left)
            found += others.played(left, wait_for_one=True)
    finally:
        others.end()
    return found


def test_one_core_and_two_give_each_chunk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORTH_S", 0.0)
    for cores in (1, 2):
        found = list(play_here(Squares(), CHUNKS, cores))
        assert len(found) == len(CHUNKS)
        assert dict(found) == EXPECTED


def test_what_a_worker_that_dies_had_is_played_again_once(tmp_path: Path) -> None:
    found = of_workers(Squares(str(tmp_path), 20, 1), CHUNKS, 1)
    assert len(found) == len(CHUNKS)
    assert dict(found) == EXPECTED
    assert len(list(tmp_path.iterdir())) == 1, "no worker died"


def test_workers_that_always_die_stop_the_campaign_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CampaignStoppedError, match=f"died {MOST_DEATHS} times in a row.*--resume"):
        of_workers(Squares(str(tmp_path), 0, 99), CHUNKS[:2], 1)


def test_a_fault_in_a_worker_is_raised_here_with_its_place() -> None:
    with pytest.raises(TypeError) as fault:
        of_workers(Squares(marks=None, dies_at=0, deaths=1), CHUNKS[:1], 1)  # type: ignore[arg-type]
    assert "campaign_workers.py" in fault.value.__notes__[0]


def test_a_worker_that_has_not_begun_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """More cores may never be slower than one: this process plays from the first moment."""
    monkeypatch.setattr(workers, "WORTH_S", 0.0)
    found = list(play_here(NeverBegins(), CHUNKS, 2))
    assert found == list(EXPECTED.items())
    assert multiprocessing.active_children() == []


def test_no_worker_is_begun_for_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "Workers", lambda player, count: Workers(player, {0: 0}[count]))
    assert list(play_here(Squares(), CHUNKS, 8)) == list(EXPECTED.items())


def test_a_parent_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    """As kill -9 of the command. Its workers hold its output open as long as they live."""
    script = tmp_path / "campaign.py"
    script.write_text(
        "import os, sys\n"
        "from collections import deque\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "from campaign_workers import Squares\n"
        "from simulator.rehearsal.campaign.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers(Squares(), 1)\n"
        "    next(workers.played(deque(), wait_for_one=True), None)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    here = Path(__file__).parent
    command = [sys.executable, str(script), str(here), str(here.parent)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == -9


def test_a_cluster_that_loses_a_worker_gives_each_chunk_once(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra [cluster]")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as lan:
        address = lan.scheduler_address
        found = list(play_on_cluster(Squares(str(tmp_path), 20, 1), CHUNKS, address))
        assert len(found) == len(CHUNKS)
        assert dict(found) == EXPECTED
        assert len(list(tmp_path.iterdir())) == 1, "no worker was lost"


def test_no_scheduler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs the extra [cluster]")
    monkeypatch.setattr(cluster, "WAIT_S", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense://here"):
        with pytest.raises(AskedWrongly, match=r"--scheduler .*no Dask scheduler answers there") as refusal:
            list(play_on_cluster(Squares(), CHUNKS, address))
        assert "\n" not in str(refusal.value)
