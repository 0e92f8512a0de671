"""The worker process: what it answers, and in which words a job is lost. Waits end with a condition, not by a clock."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from controller.worker import HeavyWorkLost, Worker
from planning.refusal import AskedWrongly

LIMIT_S = 60.0
"""Longer than any of this takes on a machine that is busy."""


class Workplace:
    """Jobs that succeed, and all the ways they can't. Picklable by its module's name, as real workplaces are."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def product(self, value: int, *, plus: int = 0) -> int:
        return self.factor * value + plus

    def process(self) -> int:
        return os.getpid()

    def refuse(self, why: str) -> NoReturn:
        raise AskedWrongly(why)

    def fail(self) -> NoReturn:
        raise ZeroDivisionError("nothing to divide by")

    def leave(self, status: int) -> NoReturn:
        os._exit(status)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def no_value(self) -> object:
        return lambda: None

    def hang(self, began: Path) -> None:
        began.with_suffix(".new").write_text(str(os.getpid()))
        began.with_suffix(".new").rename(began)
        signal.pause()


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(Workplace(7), longest_s=LIMIT_S)


@pytest.fixture(scope="module", autouse=True)
def ended(worker: Worker) -> object:
    yield None
    worker.close()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_job_is_done_elsewhere_with_its_values(worker: Worker) -> None:
    assert worker.do("product", 6, plus=1) == 43
    assert worker.do("process") != os.getpid()


def test_one_process_does_all_jobs(worker: Worker) -> None:
    assert worker.do("process") == worker.do("process")


def test_a_wrong_question_comes_back_as_it_was_said(worker: Worker) -> None:
    with pytest.raises(AskedWrongly, match=r"^CT 3 has no slices$"):
        worker.do("refuse", "CT 3 has no slices")


@pytest.mark.parametrize(
    ("job", "words"), [("fail", "nothing to divide by"), ("no_value", "it failed"), ("none", "it failed")]
)
def test_a_job_that_fails_says_how_and_the_process_goes_on(worker: Worker, job: str, words: str) -> None:
    process = worker.do("process")
    with pytest.raises(HeavyWorkLost, match=words):
        worker.do(job)
    assert worker.do("process") == process


def test_a_crash_is_told_and_the_next_job_has_a_new_process(worker: Worker) -> None:
    process = worker.do("process")
    with pytest.raises(HeavyWorkLost, match=r"its process ended by itself \(exit status 3\)"):
        worker.do("leave", 3)
    assert worker.do("process") != process


def test_a_kill_names_the_signal(worker: Worker) -> None:
    with pytest.raises(HeavyWorkLost, match="SIGKILL"):
        worker.do("die")
    assert worker.do("product", 2) == 14


def test_a_job_that_hangs_is_ended(tmp_path: Path) -> None:
    worker = Worker(Workplace(1), longest_s=LIMIT_S)
    worker.do("process")  # it is up: what follows measures the job alone
    worker.longest_s = 0.3
    try:
        with pytest.raises(HeavyWorkLost, match="did not end within"):
            worker.do("hang", tmp_path / "began")
    finally:
        worker.close()


def test_a_job_nobody_waits_for_is_cancelled(worker: Worker, tmp_path: Path) -> None:
    began, told = tmp_path / "began", []

    def ask() -> None:
        with pytest.raises(HeavyWorkLost, match="cancelled") as lost:
            worker.do("hang", began)
        told.append(str(lost.value))

    asking = threading.Thread(target=ask)
    asking.start()
    while not began.exists() and asking.is_alive():
        asking.join(0.01)
    worker.cancel()
    asking.join(LIMIT_S)
    assert told
    assert not is_alive(int(began.read_text()))
    assert worker.do("product", 1) == 7


def test_cancelling_nothing_is_nothing(worker: Worker) -> None:
    process = worker.do("process")
    worker.cancel()
    assert worker.do("process") == process


def test_closing_ends_the_process() -> None:
    worker = Worker(Workplace(1), longest_s=LIMIT_S)
    process = worker.do("process")
    worker.close()
    assert not is_alive(process)
