"""OpenIGTLink beside a controller: rate, age, cost by number of clients; stops: ``python -m benchmarks.igtl``.

Three processes as in a run: here the controller's door and a loop that looks in as the session does (a position told 50
times a second, the stop picked up); ``seedguide igtl`` beside it; and the clients, plain sockets in a process of their
own. First table: how often each client hears where the carriage is, and how old that is when it is heard (from the
loop's ``devices_seen``). Second: from pressing stop to the loop having it; the baseline is a console at the door with
no OpenIGTLink beside. In the crowd of the other rows one never reads and one floods until it is sent away. Goals:
5 Hz at every client; the stop of a console no later with OpenIGTLink beside than without. About 50 s when quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import select
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from console.door_client import DoorClient
from console.igtl.body import pack_string, unpack_transform
from console.igtl.message import Body, Reader
from console.igtl.ras import patient_from_own
from console.igtl.server import MOST_CLIENTS
from controller.door import Door
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from drivers.applicator_language import ApplicatorState
from drivers.rig_language import RigState
from tests.made_plan import POSE, made_plan

PLAN = made_plan(4, 3, 4)
STEP_MM = 0.001
"""The carriage goes on by this each time it is told: what a client hears says when it was told."""
GOAL_HZ = 5.0
PACE_S = 0.02


class Controller:
    """The door, and a loop that tells and listens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        PLAN.save(folder / "plan.json")
        self.door = Door(folder, is_simulated=True)
        self.told_ns: list[int] = []
        self.stops_ns: list[int] = []
        shown = Procedure(PLAN, ProcedureSettings()).snapshot(0, rig="Idle", applicator="IDLE")
        self.door.show(replace(shown, state="INSERTING_SEED_NEEDLES"))

    def run_until(self, is_over: Callable[[], bool]) -> None:
        rig = RigState(linked=True, status="Run", position_known=True, simulated=True)
        applicator = ApplicatorState(linked=True, st="IDLE", simulated=True)
        next_s = time.monotonic()
        while not is_over():
            select.select([self.door], [], [], max(0.0, next_s - time.monotonic()))
            if self.door.stop_pressed() is not None:
                self.stops_ns.append(time.monotonic_ns())
            if time.monotonic() >= next_s:
                next_s += PACE_S
                self.door.devices_seen(replace(rig, x_mm=STEP_MM * len(self.told_ns)), applicator, False)
                self.told_ns.append(time.monotonic_ns())


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "console.cli", "igtl", "--procedure", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().split(":")[2].split()[0])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listen(port: int, count: int, harm: bool, seconds: float, out: Connection) -> None:
    """``count`` clients; sends for each [(number heard, ns)]. ``harm``: also one that never reads, one that floods."""
    selector = selectors.DefaultSelector()
    heard: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for index in range(count):
        link = socket.create_connection(("127.0.0.1", port))
        link.setblocking(False)
        selector.register(link, selectors.EVENT_READ, (index, Reader()))
    bad = [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * harm)]
    for link in bad:
        link.setblocking(False)
    question = Body.of("GET_POINT", "", b"").packed(0)
    rig_from_patient = POSE.inverse()
    out.send("ready")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for key, _ in selector.select(0.02):
            index, reader = key.data
            for message in reader.read(key.fileobj.recv(1 << 16)):  # type: ignore[union-attr]
                if message.name == "CURRENT_POSITION":
                    at = patient_from_own(unpack_transform(message.content)).translation_mm
                    number = round(float(rig_from_patient.apply(at)[0]) / STEP_MM)
                    heard[index].append((number, time.monotonic_ns()))
        for link in bad[1:]:
            with contextlib.suppress(OSError):
                link.send(question * 20)
                link.recv(1 << 20)
    out.send(heard)


def press(folder: Path, port: int, stops: int, seed: int, out: Connection) -> None:
    """Press stop by chance; by OpenIGTLink where ``port`` is one, else at the door. Sends when each was pressed, ns."""
    chance, pressed = random.Random(seed), []
    door = DoorClient(folder, "bench") if not port else None
    link = socket.create_connection(("127.0.0.1", port)) if port else None
    said = Body.of("STRING", "CMD_1", pack_string("STOP")).packed(0)
    for _ in range(stops):
        time.sleep(chance.uniform(0.02, 0.06))
        pressed.append(time.monotonic_ns())
        if door is not None:
            door.stop()
        else:
            assert link is not None
            link.sendall(said)
            link.settimeout(5.0)
            link.recv(1 << 16)
    time.sleep(0.3)
    out.send(pressed)


def beside(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(*arguments, there), daemon=True
    )
    process.start()
    return process, here


def rates(folder: Path, counts: list[int], seconds: float) -> None:
    print("| clients | Hz at each (least) | age of the position p50 | p99 | server's CPU | per client |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        controller = Controller(folder)
        with served(folder) as (server, port):
            _, ear = beside(listen, port, count, False, seconds)
            controller.run_until(ear.poll)
            ear.recv()
            before = cpu_s(server.pid)
            controller.run_until(ear.poll)
            used = (cpu_s(server.pid) - before) / seconds
            ages = []
            least = float("inf")
            for client in ear.recv():
                span_s = (client[-1][1] - client[0][1]) / 1e9
                least = min(least, (len(client) - 1) / span_s)
                first: dict[int, int] = {}
                for number, at_ns in client:
                    first.setdefault(number, at_ns)
                ages += [(at_ns - controller.told_ns[number]) / 1e6 for number, at_ns in first.items()]
        controller.door.close()
        p50, p99 = np.percentile(ages, [50, 99])
        goal = "" if least >= GOAL_HZ else " **below 5**"
        print(
            f"| {count} | {least:.1f}{goal} | {p50:.0f} ms | {p99:.0f} ms | {100 * used:.1f} % of a core "
            f"| {100 * used / count:.2f} % |",
            flush=True,
        )


def stops(folder: Path, count: int) -> None:
    print("\n| stop pressed | beside | n | p50 | p99 | worst | p99 to baseline |")
    print("|---|---|---|---|---|---|---|")
    baseline = 0.0
    for how, others in (("at the door", ""), ("at the door", "16 clients, 2 of them bad"), ("by OpenIGTLink", ""),
                        ("by OpenIGTLink", "15 clients, 2 of them bad")):  # fmt: skip
        controller = Controller(folder)
        with contextlib.ExitStack() as stack:
            port, seconds = 0, count * 0.06 + 2.0
            if others or how != "at the door":
                _, port = stack.enter_context(served(folder))
            if others:
                listening = MOST_CLIENTS - 3 if how != "at the door" else MOST_CLIENTS - 2
                _, ear = beside(listen, port, listening, True, seconds + 3.0)
                controller.run_until(ear.poll)
            _, hand = beside(press, folder, port if how != "at the door" else 0, count, 1)
            controller.run_until(hand.poll)
            pressed = hand.recv()
        controller.door.close()
        took = [(got - asked) / 1e6 for asked, got in zip(pressed, controller.stops_ns, strict=False)]
        p50, p99 = np.percentile(took, [50, 99])
        baseline = baseline or p99
        print(
            f"| {how} | {others or '-'} | {len(took)} of {count} | {p50:.2f} ms | {p99:.2f} ms | {max(took):.2f} ms "
            f"| {p99 / baseline:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row of the first table")
    parser.add_argument("--stops", type=int, default=100, help="of each row of the second")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seedguide-") as folder:
        rates(Path(folder), [1, 4, MOST_CLIENTS], asked.seconds)
        stops(Path(folder), asked.stops)


if __name__ == "__main__":
    main()
