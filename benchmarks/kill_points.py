"""The controller killed at every point: ``python -m benchmarks.kill_points [--deep] [--every N] [--resume FILE]``.

Plays a small, whole procedure once (real drivers, bytes and firmware in virtual time; plain tissue, a truthful
scanner). At each point (before and after each journal write and commit, and at each boundary of the bytes: nothing of a
message sent, half of it, all of it, the answer come, the answer taken in) a copy of the process goes on as if the
controller had been killed there: its journal's files as they lie on the disk, devices and people alive, ``replay``, a
look at the devices, resumed, to the end. Then: are the planned seeds delivered, none twice, none lost, the journal's
chain whole, and does ``tests.audit`` find each interlock's demand kept in every record? Each point that isn't so is
named; then the exit status is 1. Baseline: the undisturbed procedure. ``--deep``: 60 mm deep, people and CTs take
minutes (hours).
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.journal import read_journal, verify
from controller.order import JOURNAL_FILE
from tests.audit import audit
from tests.compact_case import PLAN, compact_room
from tests.killed_room import Killed, KilledRoom, Killing, amiss, play
from tests.made_plan import made_plan

DEEP = made_plan(2, 1, 2)
LONGEST_S = 120
"""A copy that has not come to its end by then never will (the whole procedure takes less than a second)."""
PROGRESS_S = 10.0


@dataclass
class Case:
    """What is played."""

    name: str
    deep: bool

    def room(self) -> KilledRoom:
        return KilledRoom(DEEP, setup_mm=3.0, own_mm=1.2, seed=1) if self.deep else compact_room()

    def judged(self, room: KilledRoom, folder: Path, killing: Killing | None) -> list[str]:
        """Played, what is not as it must be."""
        outcome = play(room, folder, [] if killing is None else [killing])
        wrong = amiss(room, outcome)
        journal = (killing.elsewhere if killing and killing.elsewhere else folder) / JOURNAL_FILE
        broken = verify(journal)
        if broken is not None:
            return [*wrong, broken]
        return wrong + audit(list(read_journal(journal)), room.plan)


class Forking(Killing):
    """Goes on past every point itself; at each of ``points`` a copy of this process is killed instead."""

    def __init__(self, points: frozenset[int], said: int, at: Path) -> None:
        super().__init__(None)
        self._points, self._said, self._at = points, said, at

    def point(self, where: str) -> None:
        self.passed += 1
        if self.elsewhere is not None or self.passed not in self._points:
            return
        copy = os.fork()
        if copy == 0:
            signal.alarm(LONGEST_S)
            self.elsewhere = Path(tempfile.mkdtemp(dir=self._at))
            self.where = [where]
            self.end = Killed(where)
            raise self.end
        _, status = os.waitpid(copy, 0)
        if status:
            say(self._said, self.passed, where, [f"its process ended with status {status}"])


def say(to: int, at: int, where: str, wrong: list[str]) -> None:
    """One line, written at once: also from several processes into one pipe."""
    line = "\t".join([str(at), where[:120], "; ".join(wrong)[:2000]]).replace("\n", " ")
    os.write(to, line.encode(errors="replace")[:4000] + b"\n")


def walk(case: Case, points: frozenset[int], said: int, folder: Path) -> None:
    """The undisturbed procedure once, and from it each of ``points``."""
    killing = Forking(points, said, folder)
    gc.freeze()
    try:
        wrong = case.judged(case.room(), Path(tempfile.mkdtemp(dir=folder)), killing)
    except Exception as problem:
        wrong = [f"{type(problem).__name__}: {problem}"]
    if killing.elsewhere is not None:
        say(said, killing.passed, killing.where[0], wrong)
        for left in killing.elsewhere.iterdir():
            left.unlink()
        killing.elsewhere.rmdir()
        os._exit(0)
    os._exit(0)


class Told:
    """What became of each point so far, kept in a file so that an interrupted run goes on."""

    def __init__(self, case: str, count: int, kept: Path | None) -> None:
        self.count, self._kept = count, kept
        self.done: dict[int, tuple[str, str]] = {}
        first = f"{case} {count}"
        if kept is not None and kept.exists():
            lines = kept.read_text(encoding="utf-8").splitlines()
            if lines[:1] != [first]:
                raise SystemExit(f"{kept} is of another case ({lines[:1]}); give another file.")
            for line in lines[1:]:
                self._take(line)
        elif kept is not None:
            kept.write_text(first + "\n", encoding="utf-8")

    def hear(self, line: str) -> None:
        self._take(line)
        if self._kept is not None:
            with self._kept.open("a", encoding="utf-8") as out:
                out.write(line + "\n")

    def _take(self, line: str) -> None:
        at, where, wrong = line.split("\t", 2)
        self.done[int(at)] = where, wrong


def heard(walkers: list[int], read_end: int) -> Iterator[str]:
    """Lines of the walkers until the last has gone."""
    with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
        yield from (line.rstrip("\n") for line in lines)
    for walker in walkers:
        os.waitpid(walker, 0)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--deep", action="store_true", help="the long case")
    arguments.add_argument("--every", type=int, default=1, help="only every N-th point")
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments.add_argument(
        "--resume", type=Path, metavar="FILE", help="keeps what is done, and goes on there"
    )
    chosen = arguments.parse_args()
    case = Case("deep" if chosen.deep else "compact", chosen.deep)
    memory = Path("/dev/shm")  # a killed process loses nothing of it; only the power does
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as at:
        counting, started_s = Killing(None), time.process_time()
        wrong = case.judged(case.room(), Path(tempfile.mkdtemp(dir=at)), counting)
        if wrong:
            print(f"the undisturbed procedure is amiss: {wrong}")
            return 1
        once_s = time.process_time() - started_s
        commits = sum(where.startswith("after the commit") for where in counting.where)
        told = Told(f"{case.name} every {chosen.every}", counting.passed, chosen.resume)
        todo = [n for n in range(1, counting.passed + 1, chosen.every) if n not in told.done]
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        walkers = []
        for index in range(chosen.processes):
            walker = os.fork()
            if walker == 0:
                os.close(read_end)
                walk(case, frozenset(todo[index :: chosen.processes]), write_end, Path(at))
            walkers.append(walker)
        os.close(write_end)
        started_s = shown_s = time.perf_counter()
        for done, line in enumerate(heard(walkers, read_end), 1):
            told.hear(line)
            now_s = time.perf_counter()
            if now_s - shown_s > PROGRESS_S:
                shown_s, left_s = now_s, (now_s - started_s) / done * (len(todo) - done)
                print(
                    f"{done} of {len(todo)} points, {left_s / 60:.1f} minutes to go",
                    file=sys.stderr,
                    flush=True,
                )
    took_s = time.perf_counter() - started_s
    failed = {at: it for at, it in sorted(told.done.items()) if it[1]}
    for at, (where, wrong) in failed.items():
        print(f"point {at} ({where}): {wrong}")
    missing = len(range(1, counting.passed + 1, chosen.every)) - len(told.done)
    of_wires = sum(where.endswith(("sent", "come", "taken in")) for where in counting.where)
    print(
        f"{case.name} case: {len(PLAN.needles if not case.deep else DEEP.needles)} needles, "
        f"undisturbed {once_s:.2f} s, {counting.passed} points ({of_wires} of the bytes, {commits} commits)"
    )
    rate = len(todo) / max(took_s, 1e-9)
    print(
        f"{len(told.done)} points killed and resumed, {len(failed)} violations, {missing} without an answer; "
        f"{took_s:.0f} s, {rate:.1f} points/s on {chosen.processes} processes"
    )
    print(f"{rate * once_s / chosen.processes:.2f} of the rate of undisturbed procedures on one core each")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
