"""SIGKILL against firmware in another process: after it and ``take_up`` every planned seed is delivered once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.journal import inspect, read_journal, verify
from controller.undertaking import finished
from tests.sigkill_room import PLAN

MOMENTS = (
    "after intention MoveDepth 2",  # a needle goes into the tissue
    "after intention DropSeed 1",  # intended, not sent
    "before event SeedDropped 1",  # dropped, not recorded
    "after decision COMPLETED 1",  # all is done, the end is not written
)
"""In the order in which one procedure meets them; each start counts its records anew."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.sigkill_room", "bench", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.terminate()


def _controller(bench: Path, moment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.sigkill_room", "controller", str(bench), moment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_sigkills_lose_and_repeat_no_seed(bench: subprocess.Popen[str], tmp_path: Path) -> None:
    for moment in MOMENTS:
        status, told = _controller(tmp_path, moment)
        assert status == -signal.SIGKILL, f"{moment}: {told}"
    journal = tmp_path / "run" / "journal.sqlite"
    assert not inspect(journal).is_ended
    assert finished(tmp_path / "run", PLAN) is not None
    assert inspect(journal).is_ended
    assert verify(journal) is None
    delivered = [r.body["seed"] for r in read_journal(journal) if r.body.get("event") == "SeedDropped"]
    assert sorted(set(delivered)) == [seed.number for seed in PLAN.seeds]
    status, told = _controller(tmp_path, "")
    assert status == 1
    assert "the procedure is completed; nothing is there to go on with" in told

    bench.terminate()
    truth = json.loads(bench.communicate(timeout=60)[0])
    assert truth["seeds"] == {needle.name: len(needle.seeds) for needle in PLAN.needles}
    assert truth["spilled"] == 0
