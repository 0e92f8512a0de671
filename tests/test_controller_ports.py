"""A whole procedure over pseudo-terminals, and what becomes of it when a cable is pulled."""

from __future__ import annotations

import os
import pty
import selectors
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.commands import AskOperator
from controller.journal import read_journal, verify
from controller.ports import Aside, PortTransport, open_ports
from controller.session import Session
from drivers.applicator import ApplicatorDriver
from drivers.port import Port
from drivers.rig import RigDriver
from planning.refusal import AskedWrongly
from simulator.benchtop import LISTENING
from simulator.doors import PseudoTerminal, TcpPort, serve
from tests.made_plan import made_plan
from tests.plain_room import Room

PLAN = made_plan(columns=3, rows=1, seeds_per_needle=1)
SPEED = 50.0


class _Caretaker:
    """Pulls a plug, or ends the bench, when told to."""

    def __init__(self) -> None:
        self.doors: dict[str, Any] = {}
        self.pull: str | None = None
        self.is_over = False

    def register(self, selector: selectors.BaseSelector) -> None: ...

    def ready(self, *_: Any) -> bool:
        return True

    def turn(self, selector: selectors.BaseSelector, _now_ns: int) -> bool:
        if self.pull is not None:
            name, self.pull = self.pull, None
            self.doors[name][1].unplug(selector)
        return not self.is_over

    def nap_s(self) -> float:
        return 0.01

    def close(self) -> None: ...


@contextmanager
def _served(room: Room, folder: Path, door: str) -> Iterator[tuple[Session, _Caretaker]]:
    """The room's devices behind two doors, served by another thread, and a session with them."""
    caretaker = _Caretaker()
    urls = {}
    for name, device in (("rig", room.rig), ("applicator", room.applicator)):
        way_in = PseudoTerminal(folder / name) if door == "pty" else TcpPort()
        caretaker.doors[name] = (device, way_in)
        urls[name] = str(folder / name) if door == "pty" else f"socket://127.0.0.1:{way_in.port}"
    bench = threading.Thread(
        target=serve,
        args=(caretaker.doors, None, dict),
        kwargs={
            "speed": SPEED,
            "visitors": [caretaker],
            "listens": lambda: room.applicator.board.state in LISTENING,
        },
    )
    bench.start()
    transports = []

    def over(rig: RigDriver, applicator: ApplicatorDriver) -> PortTransport:
        ends: dict[str, Any] = {
            "rig": (rig, Port(urls["rig"])),
            "applicator": (applicator, Port(urls["applicator"])),
        }
        transports.append(PortTransport(ends, speed=SPEED))
        return transports[0]

    try:
        yield room.session(folder, over, Aside()), caretaker
    finally:
        caretaker.is_over = True
        bench.join()
        transports[0].close()
        room.journal.close()


@pytest.mark.parametrize("door", ["pty", "tcp"])
def test_a_procedure_over_ports_delivers_every_seed_once(tmp_path: Path, door: str) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        room = Room(PLAN, setup_mm=0.2, own_mm=0.2)
        with _served(room, folder, door) as (session, _):
            session.run()
        # Half a second without this process's turn is a dead host to the devices, who are right to stop.
        if "WATCH" not in room.procedure.known.held_because:
            break
    assert room.procedure.state == "COMPLETED", room.procedure.known.held_because
    assert room.template.seeds_dropped == {n.name: len(n.seeds) for n in PLAN.needles}
    assert verify(folder / "journal.sqlite") is None
    dropped = [
        r.body for r in read_journal(folder / "journal.sqlite") if r.body.get("event") == "SeedDropped"
    ]
    assert [d["seed"] for d in dropped] == [seed.number for seed in PLAN.seeds]


@pytest.mark.parametrize(("door", "device"), [("pty", "rig"), ("tcp", "applicator")])
def test_a_pulled_plug_holds_the_procedure_also_while_a_person_thinks(
    tmp_path: Path, door: str, device: str
) -> None:
    room = Room(PLAN, setup_mm=0.2, own_mm=0.2)
    with _served(room, tmp_path, door) as (session, caretaker):
        noticed = threading.Event()
        thinking = threading.Event()

        def pull(command: AskOperator) -> None:
            if command.task == "load_needle" and command.needle == "N02":
                caretaker.pull = device
                thinking.wait(10.0)  # who never answers until all is over

        room.before_answer = pull
        session.run()
        noticed.set()
        thinking.set()
    assert room.procedure.state == "HELD"
    assert device in room.procedure.known.held_because
    assert "the port is gone" in room.procedure.known.held_because
    assert room.template.seeds_dropped == {}


def test_a_port_that_is_gone_is_waited_for_and_opens_once(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    lines: list[str] = []

    def told(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:  # somebody plugs it in
            (tmp_path / "rig").symlink_to(os.ttyname(slave))

    ends = {"rig": (str(tmp_path / "rig"), 115_200)}
    with pytest.raises(AskedWrongly, match=r"the rig: .*no such device; is it plugged in"):
        open_ports(ends)
    ports = open_ports(ends, within_s=30.0, told=told)
    try:
        assert [("Waiting" in line, "there again" in line) for line in lines] == [
            (True, False),
            (False, True),
        ]
        with pytest.raises(AskedWrongly, match="can't be opened"):
            open_ports(ends)
        with pytest.raises(AskedWrongly, match=r"the applicator: .*no such device"):
            open_ports({"applicator": ("/nowhere/x", 9600)}, within_s=30.0, given_up=lambda: True)
    finally:
        ports["rig"].close()
        os.close(master)
        os.close(slave)
