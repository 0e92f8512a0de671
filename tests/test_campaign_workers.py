"""Chunks over processes, here and on a Dask cluster: each comes back once, also when workers die."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from campaign_workers import CHUNKS, EXPECTED, Squares

from planning.refusal import AskedWrongly
from simulator.rehearsal.campaign import cluster
from simulator.rehearsal.campaign.cluster import play_on_cluster
from simulator.rehearsal.campaign.workers import MOST_DEATHS, CampaignStoppedError, play_here


def test_one_core_and_two_give_each_chunk_once(tmp_path: Path) -> None:
    """Two cores, and a worker that dies once in the middle."""
    one = list(play_here(Squares(), CHUNKS, 1))
    assert one == list(EXPECTED.items())
    two = list(play_here(Squares(str(tmp_path), 20, 1), CHUNKS, 2))
    assert len(two) == len(CHUNKS)
    assert dict(two) == EXPECTED
    assert len(list(tmp_path.iterdir())) == 1, "no worker died"


def test_workers_that_always_die_stop_the_campaign_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CampaignStoppedError, match=f"died {MOST_DEATHS} times in a row.*--resume"):
        list(play_here(Squares(str(tmp_path), 0, 99), CHUNKS[:2], 2))


def test_a_parent_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    """As kill -9 of the command. Its workers hold its output open as long as they live."""
    script = tmp_path / "campaign.py"
    script.write_text(
        "import os, sys\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "from campaign_workers import CHUNKS, Squares\n"
        "from simulator.rehearsal.campaign.workers import play_here\n"
        "if __name__ == '__main__':\n"
        "    played = play_here(Squares(), CHUNKS, 2)\n"
        "    next(played), next(played)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    here = Path(__file__).parent
    command = [sys.executable, str(script), str(here), str(here.parent)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == -9


def test_a_cluster_that_loses_a_worker_gives_each_chunk_once(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra [cluster]")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as workers:
        address = workers.scheduler_address
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
