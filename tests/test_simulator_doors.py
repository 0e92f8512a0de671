"""The devices behind pseudo-terminals and TCP, as any serial program meets them."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import line
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.doors import TcpPort, run_doors, serve
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.rig_mechanics import RigMechanics

PATIENCE_S = 10.0  # only ever spent when the test fails


def _rig() -> GrblFirmware:
    return GrblFirmware(RigMechanics(np.random.default_rng(1)), NonVolatile(), np.random.default_rng(2))


def _applicator() -> ApplicatorFirmware:
    return ApplicatorFirmware(ApplicatorMechanics(np.random.default_rng(3)), NonVolatile())


def _handle(request: dict[str, Any]) -> dict[str, Any]:
    return {"did": request["do"], "when": request["now_ns"]}


@contextmanager
def _person(path: Path, house: threading.Thread) -> Iterator[socket.socket]:
    """Someone at the theatre's socket; the house closes when they leave."""
    with socket.socket(socket.AF_UNIX) as person:
        person.settimeout(PATIENCE_S)
        for _ in range(1000):
            # the path is there when the socket is bound, a moment before it listens
            if person.connect_ex(str(path)) == 0:
                break
            house.join(0.01)
        else:
            raise AssertionError(f"nobody listens at {path}")
        yield person
    house.join(PATIENCE_S)
    assert not house.is_alive()


def _read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while end not in data:
        assert select.select([fd], [], [], PATIENCE_S)[0], data
        data += os.read(fd, 4096)
    return data


def test_both_devices_answer_at_pseudo_terminals_and_people_at_a_socket(tmp_path: Path) -> None:
    house = threading.Thread(target=run_doors, args=(_rig(), _applicator(), tmp_path, 50.0, _handle))
    house.start()
    with _person(tmp_path / "theatre", house) as person:
        for name, question, answer in (
            ("rig", b"$I\n", b"SIM-RIG"),
            ("rig", b"$H\n", b"ok\r\n"),
            ("applicator", line.encode(">", "0000", 0, "HELLO", v=1, sid="5A17"), b"id=SG-MICK sn=1042"),
            ("applicator", line.encode(">", "0001", 1, "HOME", ax="s"), b"HOMED ax=s"),
        ):
            fd = os.open(tmp_path / name, os.O_RDWR | os.O_NOCTTY)
            try:
                os.write(fd, question)
                assert answer in _read_until(fd, answer)
            finally:
                os.close(fd)
        person.sendall(b'{"do": "hand"}\nnonsense\n[]\n{}\n')
        with person.makefile() as heard:
            answers = [json.loads(heard.readline()) for _ in range(4)]
        assert answers[0]["did"] == "hand"
        assert answers[0]["when"] > 0
        assert [next(iter(answer)) for answer in answers[1:]] == ["error"] * 3
    assert list(tmp_path.iterdir()) == [], "links and socket are taken away"


def test_a_tcp_port_serves_one_host_at_a_time(tmp_path: Path) -> None:
    door = TcpPort()
    doors = {"rig": (_rig(), door)}
    house = threading.Thread(target=serve, args=(doors, tmp_path / "theatre", _handle))
    house.start()
    with _person(tmp_path / "theatre", house):
        for _ in range(2):  # the second after the first has left
            with socket.create_connection(("127.0.0.1", door.port), PATIENCE_S) as host:
                host.sendall(b"$I\n")
                data = b""
                while b"ok\r\n" not in data:
                    data += host.recv(4096)
                with socket.create_connection(("127.0.0.1", door.port), PATIENCE_S) as late:
                    assert late.recv(1) == b"", "turned away"


def test_a_terminal_that_nobody_reads_does_not_stop_the_devices(tmp_path: Path) -> None:
    house = threading.Thread(target=run_doors, args=(_rig(), _applicator(), tmp_path, 1.0, _handle))
    house.start()
    with _person(tmp_path / "theatre", house) as person:
        fd = os.open(tmp_path / "rig", os.O_RDWR | os.O_NOCTTY)
        for _ in range(40):
            os.write(fd, b"$$\n" * 20)
        person.sendall(b'{"do": "wait"}\n')
        assert b"wait" in person.recv(4096)
        os.close(fd)


def test_no_door_stays_open_when_the_socket_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no socket can be made"):
        serve({"rig": (_rig(), TcpPort())}, tmp_path / "missing" / "theatre", _handle)
