"""The stop beside busy consoles: drivers and devices as in ``stop_latency``, and a door at which consoles follow.

Three ``seedguide console`` processes follow the door and serve browsers that read voxels and dose figures without a
pause. Measured: from the controller's own stop to the axis at rest, and from a stop pressed at a page (its request)
to the axis at rest. Baseline: the controller's own stop without a console.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.console_page import served
from benchmarks.stop_latency import Desk, measured
from controller.door import Door
from controller.knowledge import ProcedureSettings
from controller.ports import PortTransport
from controller.procedure import Procedure
from drivers.port import Port
from planning.plan import Plan

CONSOLES = 3
SHOW_EVERY_S = 0.05
_READ = ("api/scans/0/hu", "api/dose-figures/planned", "api/dose/planned", "api/scene", "api/journal")


def read_without_pause(address: str) -> None:
    """A greedy page."""
    while True:
        for path in _READ:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address + path, timeout=30).read()


class DoorDesk(Desk):
    """Drivers whose loop also shows snapshots at a door, twenty times a second, and hears the stop there."""

    def __init__(self, folder: Path, door: Door, plan: Plan, page: str | None) -> None:
        super().__init__(folder)
        self.transport.close()
        ends = {
            "rig": (self.rig, Port(str(folder / "rig"))),
            "applicator": (self.applicator, Port(str(folder / "applicator"))),
        }
        self.transport = PortTransport(ends, bells=(door.fileno(),))
        self._door, self._page = door, page
        self._picture = Procedure(plan, ProcedureSettings()).snapshot(0)
        self._shown_s = 0.0
        self._number = 0
        self._who: str | None = None

    def looked(self) -> None:
        self._who = self._door.stop_pressed() or self._who
        self._door.devices_seen(self.rig.state, self.applicator.state, False)
        if time.monotonic() - self._shown_s > SHOW_EVERY_S:
            self._shown_s = time.monotonic()
            self._number += 1
            self._door.show(replace(self._picture, message=f"picture {self._number}"))

    def stop(self, *, has_rig: bool) -> int:
        if self._page is None:
            return super().stop(has_rig=has_rig)
        self._who = None
        headers = {"Origin": self._page.rstrip("/"), "X-Seedguide": "1"}
        request = urllib.request.Request(self._page + "api/stop", b"{}", headers)
        called_ns = time.monotonic_ns()
        pressing = threading.Thread(target=lambda: urllib.request.urlopen(request, timeout=30).read())
        pressing.start()
        while self._who is None:
            self.serve(self.transport.now_ns() + 2_000_000)
        super().stop(has_rig=has_rig)
        pressing.join()
        return called_ns


@contextmanager
def consoles(folder: Path, count: int) -> Iterator[list[str]]:
    """Addresses of that many consoles at the door in ``folder``, each read without a pause."""
    with ExitStack() as stack:
        addresses = [stack.enter_context(served(folder)) for _ in range(count)]
        readers = [
            multiprocessing.Process(target=read_without_pause, args=(at,), daemon=True) for at in addresses
        ]
        for reader in readers:
            reader.start()
            stack.callback(reader.kill)
        yield addresses


def stop_rows(plan: Plan, folder: Path, *, longest_s: float) -> dict[str, list[float]]:
    """Milliseconds to the applicator's axis at rest, by row; the first is the baseline."""
    plan.save(folder / "plan.json")
    door = Door(folder, is_simulated=True)
    rows: dict[str, list[float]] = {}

    def row(name: str, page: str | None) -> None:
        found = measured(
            10_000,
            longest_s=longest_s,
            hogs=0,
            is_urgent=True,
            rig_share=0.0,  # it has to be homed for 9 s before each
            desk_at=lambda ports: DoorDesk(ports, door, plan, page),
        )
        rows[name] = found["applicator axis"]

    try:
        row("no console (baseline)", None)
        with consoles(folder, CONSOLES) as pages:
            row(f"{CONSOLES} busy consoles", None)
            row(f"{CONSOLES} busy consoles, pressed at a page", pages[0])
    finally:
        door.close()
    return rows
