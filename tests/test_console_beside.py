"""Commands beside a procedure: begun with it, heard, and gone with it, also when it is killed."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
from pathlib import Path

from console.beside import Beside
from console.igtl_command import igtl_arguments
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.result import Progress
from tests.made_plan import made_plan

PLAN = made_plan(1, 1, 1)
KILLED = """
import os, signal, sys, queue
from console.beside import Beside
from controller.result import Progress
heard = queue.Queue()
beside = Beside([["igtl", "--procedure", sys.argv[1], "--port", "0"]], heard.put)
beside.begun_with(lambda _: None)(Progress("x", "x", object()))
print(heard.get(timeout=60), beside._processes[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_command_begins_with_the_procedure_and_ends_with_it(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    heard: queue.Queue[str] = queue.Queue()
    beside = Beside(igtl_arguments(tmp_path, 0, "127.0.0.1"), heard.put)
    news: list[Progress] = []
    listener = beside.begun_with(news.append)
    listener(Progress("read", "Reading"))
    assert not beside._processes  # no door yet
    snapshot = Procedure(PLAN, ProcedureSettings()).snapshot(0)
    for _ in range(2):
        listener(Progress("ready", "", snapshot))
    assert heard.get(timeout=60).startswith("OpenIGTLink: 127.0.0.1:")
    (process,) = beside._processes
    beside.end()
    assert process.returncode == -signal.SIGTERM
    assert len(news) == 3


def test_it_ends_too_when_the_procedures_process_is_killed(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    root = str(Path(__file__).parents[1])
    killed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    orphan = int(killed.stdout.split()[-1])
    try:
        pidfd = os.pidfd_open(orphan)  # readable when it has ended
    except ProcessLookupError:
        return  # it has already
    try:
        assert select.select([pidfd], [], [], 60.0)[0]
    finally:
        os.close(pidfd)
