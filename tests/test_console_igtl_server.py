"""The server over real sockets: foreign peers (pyigtl, the C++ library), clients that do harm, the controller's door.

The server is stepped by the test itself: nothing here waits for a clock, only for what must come.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyigtl
import pytest

from console.cli import main
from console.door_client import DoorClient
from console.igtl import server as server_module
from console.igtl.body import pack_string, pack_transform
from console.igtl.message import HEADER, Body, Message, Reader
from console.igtl.peer import MOST_ANSWERS, MOST_MESSAGES
from console.igtl.ras import ras_from_own, ras_point
from console.igtl.server import MOST_CLIENTS, STUCK_NS, IgtlServer
from controller.commands import AskOperator
from controller.door import Door
from controller.events import OperatorConfirmed
from controller.knowledge import ProcedureSettings
from controller.ports import Aside
from controller.procedure import Procedure
from drivers.applicator_language import ApplicatorState
from drivers.rig_language import RigState
from planning.frame import RigidTransform
from tests.igtl_room import in_words, matrix_of
from tests.made_plan import POSE, made_plan

PLAN = made_plan(2, 1, 2)
PATIENCE = 1000
"""Steps of the server for a test that fails."""
SNAPSHOT = replace(
    Procedure(PLAN, ProcedureSettings()).snapshot(0, rig="Idle", applicator="IDLE"),
    state="INSERTING_REFERENCE_NEEDLES",
    message="inserting",
)
RIG = RigState(
    linked=True, status="Idle", position_known=True, x_mm=1.0, y_mm=-2.0, z_mm=-19.0, simulated=True
)
APPLICATOR = ApplicatorState(linked=True, st="IDLE", boot="0003", simulated=True)
ASK = AskOperator(7, "load_needle", "Needle N01 into the carriage.", needle="N01")


class Bench:
    """A door and the server beside it, in one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.door = Door(folder, is_simulated=True)
        self.said: list[str] = []
        self.clients: list[Client] = []
        self.shift_ns = 0
        self.server = IgtlServer(
            folder, PLAN, "127.0.0.1", 0, self.said.append, now_ns=lambda: time.monotonic_ns() + self.shift_ns
        )
        self.door.devices_seen(RIG, APPLICATOR, have_stopped=False)
        self.door.show(SNAPSHOT)

    def close(self) -> None:
        for client in self.clients:
            client.link.close()
        self.server.close()
        self.door.close()

    def until(self, is_so: Callable[[], Any]) -> Any:
        for _ in range(PATIENCE):
            found = is_so()
            if found:
                return found
            self.server.step()
        raise AssertionError("it did not come")

    def client(self) -> Client:
        self.clients.append(Client(self))
        return self.clients[-1]


class Client:
    """A plain socket with our own reader."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.link = socket.create_connection(("127.0.0.1", bench.server.port))
        self.link.setblocking(False)
        self.reader, self.heard, self.is_closed = Reader(), list[Message](), False

    def hear(self) -> list[Message]:
        with contextlib.suppress(BlockingIOError):
            try:
                data = self.link.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            self.is_closed = not data
            self.heard += self.reader.read(data)
        return self.heard

    def say(self, kind: str, name: str, content: bytes = b"") -> None:
        self.link.send(Body.of(kind, name, content).packed(0))

    def until(self, *wanted: str) -> list[str]:
        """Steps until all of these have been heard in this order, others between them or not."""

        def is_there() -> list[str]:
            words = iter([in_words(message) for message in self.hear()])
            return (
                [in_words(m) for m in self.heard]
                if all(any(w in said for said in words) for w in wanted)
                else []
            )

        return list(self.bench.until(is_there))

    def until_closed(self) -> None:
        self.bench.until(lambda: self.hear() is not None and self.is_closed)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.until(lambda: made.server._view.state)  # the door's first picture is there
    yield made
    made.close()


# --- what is told -------------------------------------------------------------------------------------------------


def test_a_client_is_told_everything_without_asking(bench: Bench) -> None:
    client = bench.client()
    client.until("STATUS Procedure 1 [INSERTING_REFERENCE]", "POINT Targets")
    there = {(m.kind, m.name) for m in client.heard}
    assert there == {
        *(("TRANSFORM", name) for name in ("RigToPatient", "CURRENT_POSITION", "N01_planned", "N02_planned")),
        *(("POINT", name) for name in ("Targets", "Entries", "SeedsPlanned")),
        *(("STATUS", name) for name in ("Procedure", "Rig", "Applicator")),
        *(("STRING", name) for name in ("Message", "Question")),
    }
    assert matrix_of(client.heard, "RigToPatient") == pytest.approx(ras_from_own(POSE), abs=1e-5)
    at = POSE.apply((1.0, -2.0, -19.0))
    assert matrix_of(client.heard, "CURRENT_POSITION")[:3, 3] == pytest.approx(ras_point(at), abs=1e-4)


def test_strings_come_again_only_when_they_change(bench: Bench) -> None:
    client = bench.client()
    client.until("STRING Message inserting", "POINT Targets", "POINT Targets")
    assert sum(m.name == "Message" for m in client.heard) == 1
    bench.door.show(replace(SNAPSHOT, message="the next thing"))
    client.until("STRING Message the next thing")


def test_questions_are_answered_and_the_stream_can_be_stopped(bench: Bench) -> None:
    client = bench.client()
    client.say("STP_TRANS", "")
    client.until("RTS_TRANS")
    client.heard.clear()
    client.say("GET_TRANS", "N02_planned")
    client.say("GET_POSITION", "N01_planned")
    client.say("GET_POINT", "Targets")
    client.say("GET_STATUS", "")
    client.say("GET_TRANSFOR", "nothing")
    client.say("GET_CAPABIL", "")
    client.say("IMAGE", "unasked", b"123")
    client.say("GET_STRING", "Message")
    client.until("STRING Message")
    assert [in_words(m).split(" [")[0] for m in client.heard] == [
        "TRANSFORM N02_planned",
        "POSITION N01_planned",
        "POINT Targets",
        "STATUS Procedure 1",
        "STATUS Rig 1",
        "STATUS Applicator 1",
        "TRANSFORM nothing",
        "CAPABILITY ",
        "STRING Message inserting",
    ]
    assert next(m for m in client.heard if m.name == "nothing").content == b""  # as the protocol has it
    client.say("STT_TRANS", "")
    client.until("RTS_TRANS", "TRANSFORM RigToPatient")


# --- foreign peers ------------------------------------------------------------------------------------------------


def test_pyigtl_hears_and_is_heard(bench: Bench) -> None:
    peer = pyigtl.OpenIGTLinkClient("127.0.0.1", bench.server.port)
    try:
        told = bench.until(lambda: peer.wait_for_message("N01_planned", timeout=0))
        assert told.matrix[:3, 3] == pytest.approx(ras_point(PLAN.needles[0].tip_mm), abs=1e-4)
        points = bench.until(lambda: peer.wait_for_message("Targets", timeout=0))
        assert points.positions == pytest.approx(
            np.array([ras_point(n.tip_mm) for n in PLAN.needles]), abs=1e-4
        )
        said = pyigtl.StringMessage("CALIBRATION", device_name="CMD_ab")
        peer.send_message(said, wait=False)
        assert bench.until(lambda: peer.wait_for_message("ACK_ab", timeout=0)).string == "CALIBRATION"
        peer.send_message(pyigtl.TransformMessage(ras_from_own(POSE), device_name="CLB_cd"), wait=False)
        echoed = bench.until(lambda: peer.wait_for_message("ACK_cd", timeout=0))
        assert echoed.matrix == pytest.approx(ras_from_own(POSE), abs=1e-5)
    finally:
        peer.stop()


@pytest.fixture(scope="session")
def library_peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    headers = Path("/usr/include/openigtlink")
    compiler = shutil.which("g++")
    if compiler is None or not headers.is_dir():
        pytest.skip("g++ or libopenigtlink-dev is absent: the C++ library is not there as a peer")
    program = tmp_path_factory.mktemp("peer") / "igtl_peer"
    source = Path(__file__).parent / "igtl_peer.cxx"
    command = [compiler, "-O0", "-o", str(program), str(source), f"-I{headers}", "-lOpenIGTLink", "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


class LibraryPeer:
    """The C++ client, led line by line while the server is stepped."""

    def __init__(self, program: Path, bench: Bench) -> None:
        self.bench = bench
        self.process = subprocess.Popen(
            [program, "127.0.0.1", str(bench.server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._partly = ""
        assert self.line() == "OPEN"

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        def whole() -> str:
            assert self.process.stdout is not None
            with contextlib.suppress(TypeError):  # nothing there
                self._partly += self.process.stdout.read()
            return self._partly if "\n" in self._partly else ""

        line, _, self._partly = str(self.bench.until(whole)).partition("\n")
        return line

    def heard(self) -> str:
        self.say("HEARD")
        return self.line()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def library(library_peer: Path, bench: Bench) -> Iterator[LibraryPeer]:
    peer = LibraryPeer(library_peer, bench)
    yield peer
    peer.close()


def by_rows(matrix: np.ndarray[Any, Any]) -> str:
    return " ".join(f"{v:.9g}" for v in matrix[:3].ravel())


def test_the_cxx_library_hears_every_kind_with_sound_crcs(library: LibraryPeer) -> None:
    heard = {}
    while (
        not {"POINT Targets", "STATUS Procedure", "STRING Message", "TRANSFORM N02_planned"} <= heard.keys()
    ):
        line = library.heard()
        assert "BAD CRC" not in line
        kind, name, *content = line.split(" ", 2)
        heard[f"{kind} {name}"] = content[0] if content else ""
    matrix = np.array(heard["TRANSFORM RigToPatient"].split(), dtype=float).reshape(3, 4)
    assert matrix == pytest.approx(ras_from_own(POSE)[:3], abs=1e-4)
    name, x, y, z = heard["POINT Targets"].split()[1].split(",")
    assert name == "N02"
    assert (float(x), float(y), float(z)) == pytest.approx(ras_point(PLAN.needles[1].tip_mm), abs=1e-3)
    assert heard["STATUS Procedure"].startswith("1 [INSERTING_REFERENCE] INSERTING_REFERENCE_NEEDLES: ")
    assert heard["STRING Message"] == "3 inserting"


def test_the_cxx_library_speaks_the_robot_protocol(library: LibraryPeer, bench: Bench) -> None:
    library.say("STRING CMD_0001 START_UP")
    while (line := library.heard()) != "STRING ACK_0001 3 START_UP":  # a slow start: the stream had begun
        assert "BAD CRC" not in line
    assert [library.heard() for _ in range(2)] == [
        "STATUS CURRENT_STATUS 1 [START_UP] ",
        "STATUS START_UP 1 [] ",
    ]
    library.say("STRING CMD_0002 CALIBRATION")
    library.say(f"TRANSFORM CLB_0003 {by_rows(ras_from_own(POSE))}")
    lines = [library.heard() for _ in range(4)]
    assert lines[3] == "STATUS CALIBRATION 1 [] agrees within 0.00 mm at the planned tips"
    assert lines[2].startswith("TRANSFORM ACK_0003 ")
    library.say("STRING CMD_0004 TARGETING")
    tip = ras_from_own(RigidTransform(POSE.rotation, np.array(PLAN.needles[0].tip_mm)))
    library.say(f"TRANSFORM TGT_0005 {by_rows(tip)}")
    assert [library.heard() for _ in range(6)][4] == "STATUS TARGET 1 [] needle N01"
    library.say("GET_STATUS CURRENT_STATUS")
    assert library.heard() == "STATUS CURRENT_STATUS 1 [TARGETING] "
    library.say("GET_TRANS CURRENT_POSITION")
    assert library.heard().startswith("TRANSFORM CURRENT_POSITION ")
    library.say("GET_POINT Targets")
    assert library.heard().startswith("POINT Targets N01,")
    library.say("STATUS theirs 1 all well")  # heard, and none of our business
    library.say("STRING CMD_0006 STOP")
    bench.until(lambda: bench.door.stop_pressed() == "OpenIGTLink")
    assert library.heard() == "STRING ACK_0006 3 STOP"


# --- the door -----------------------------------------------------------------------------------------------------


def test_stop_reaches_the_controller_and_is_told_when_both_devices_stand(bench: Bench) -> None:
    client = bench.client()
    client.say("STRING", "CMD_1", pack_string("STOP"))
    bench.until(lambda: bench.door.stop_pressed() == "OpenIGTLink")
    client.until("STRING ACK_1 STOP", "STATUS CURRENT_STATUS 1 [STOP]")
    assert not any("STATUS STOP" in in_words(m) for m in client.heard)
    bench.door.devices_seen(RIG, replace(APPLICATOR, st="LATCHED", latch="STOP"), have_stopped=True)
    client.until("STATUS STOP 1 [] both devices stand")
    assert bench.said[0].startswith("OpenIGTLink: STOP from 127.0.0.1:")


def test_a_motion_from_outside_waits_for_a_person_at_a_console(bench: Bench) -> None:
    aside = Aside()
    answer = aside.submit(lambda: bench.door.wait_for_answer(ASK))
    bench.until(lambda: bench.server._view.ask)
    client = bench.client()
    client.say("STRING", "CMD_1", pack_string("CALIBRATION"))
    client.say("TRANSFORM", "CLB_2", pack_transform(ras_from_own(POSE)))
    client.say("STRING", "CMD_3", pack_string("TARGETING"))
    tip = RigidTransform(POSE.rotation, np.array(PLAN.needles[0].tip_mm))
    client.say("TRANSFORM", "TGT_4", pack_transform(ras_from_own(tip)))
    client.until("STATUS TARGET 1 [] needle N01")
    client.say("STRING", "CMD_5", pack_string("MOVE_TO_TARGET"))
    client.until("STATUS CURRENT_STATUS 1 [MOVE_TO_TARGET]")
    with DoorClient(bench.folder, "Ann") as ann:
        ann.follow()

        def proposal() -> Any:
            news = ann.news(0.001)
            return news.get("proposal") if news else None

        waits = bench.until(proposal)
        assert (waits["by"], waits["needle"], waits["command"]) == ("OpenIGTLink", "N01", 7)
        assert not answer.done()
        client.until("TRANSFORM CURRENT_POSITION", "TRANSFORM CURRENT_POSITION")
        assert ann.settle(waits["number"], "confirm") is None
    assert answer.result(10.0) == OperatorConfirmed(7, "Ann")
    client.until("STATUS MOVE_TO_TARGET")
    aside.shutdown()


def test_a_client_that_goes_takes_its_proposal_with_it(bench: Bench) -> None:
    aside = Aside()
    aside.submit(lambda: bench.door.wait_for_answer(ASK))
    bench.until(lambda: bench.server._view.ask)
    client = bench.client()
    client.say("STRING", "CMD_1", pack_string("CALIBRATION"))
    client.say("TRANSFORM", "CLB_2", pack_transform(ras_from_own(POSE)))
    client.say("STRING", "CMD_3", pack_string("TARGETING"))
    tip = RigidTransform(POSE.rotation, np.array(PLAN.needles[0].tip_mm))
    client.say("TRANSFORM", "TGT_4", pack_transform(ras_from_own(tip)))
    client.until("STATUS TARGET 1 [] needle N01")
    client.say("STRING", "CMD_5", pack_string("MOVE_TO_TARGET"))
    with DoorClient(bench.folder, "Ann") as ann:
        ann.follow()

        def news_of(key: str) -> Any:
            news = ann.news(0.001)
            return news.get(key) if news else None

        bench.until(lambda: news_of("proposal"))
        client.link.close()
        assert bench.until(lambda: news_of("settled"))["settled"] == "withdrawn"
    bench.door.show(replace(SNAPSHOT, state="HELD"))  # lets the question go
    aside.shutdown()


def test_a_procedure_that_ends_is_told_and_one_that_begins_again_is_found(bench: Bench) -> None:
    client = bench.client()
    client.until("STATUS Procedure 1")
    bench.door.close()
    client.until("STATUS Procedure 19 [] no procedure is running")
    client.say("STRING", "CMD_1", pack_string("STOP"))
    client.until("STATUS STOP 13 [] no procedure is running: use the emergency stop")
    bench.door = Door(bench.folder, is_simulated=True)
    bench.door.show(SNAPSHOT)
    client.say("STT_TRANS", "")
    client.heard.clear()
    client.until("STATUS Procedure 1")


# --- clients that do harm -----------------------------------------------------------------------------------------


def test_malformed_clients_are_sent_away_counted_and_others_not_disturbed(bench: Bench) -> None:
    good = bench.client()
    flipped = bytearray(Body.of("STRING", "CMD_1", pack_string("STOP")).packed(0))
    flipped[-1] ^= 1
    for said in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
        bytes(flipped),
        HEADER.pack(1, b"IMAGE", b"", 0, 1 << 40, 0),
    ):
        bad = bench.client()
        bad.link.send(said)
        bad.until_closed()
    assert bench.server.refusals.total() == 3
    assert len(bench.said) == 1  # told once in ten seconds, not once a client
    assert bench.door.stop_pressed() is None  # a STOP that was damaged on the way is none
    good.heard.clear()
    good.until("POINT Targets")


def test_a_client_that_never_reads_is_sent_away_and_holds_up_nobody(bench: Bench) -> None:
    client, stuck = bench.client(), bench.client()
    stuck.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    bench.until(lambda: len(bench.server._clients) == 2)
    theirs = bench.server._clients[1]
    theirs.link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def is_stuck() -> bool:
        stuck.say("GET_POINT", "SeedsPlanned")
        return bool(theirs.unsent)

    bench.until(is_stuck)
    client.heard.clear()
    client.until("POINT Targets", "POINT Targets")  # meanwhile
    bench.shift_ns += STUCK_NS + 1
    bench.until(lambda: len(bench.server._clients) == 1)
    assert bench.server.refusals["it does not read what it is told"] == 1
    client.heard.clear()
    client.until("POINT Targets")


def test_a_client_that_asks_and_does_not_read_is_bounded(bench: Bench) -> None:
    client = bench.client()
    bench.until(lambda: bench.server._clients)
    question = Body.of("GET_POINT", "", b"").packed(0)
    peer = bench.server._clients[0].peer
    for second in range(100):
        peer.receive(question * 100, second * 10**9)
        assert len(peer._answers) <= MOST_ANSWERS
    client.until_closed()
    assert bench.server.refusals["it asks and does not read"] == 1


def test_a_client_that_floods_is_sent_away(bench: Bench) -> None:
    client = bench.client()
    bench.until(lambda: bench.server._clients)
    peer = bench.server._clients[0].peer
    flood = Body.of("GET_STATUS", "nothing", b"").packed(0) * MOST_MESSAGES
    peer.receive(flood, 5 * 10**9)
    peer.take()
    peer.receive(flood, 6 * 10**9)  # as many again in the next second: still bearable
    peer.take()
    assert not peer.over
    peer.receive(flood[: 2 * HEADER.size], 6 * 10**9)
    client.until_closed()
    assert bench.server.refusals.total() == 1


def test_one_too_many_is_let_in_when_another_has_gone(bench: Bench) -> None:
    clients = [bench.client() for _ in range(MOST_CLIENTS)]
    bench.until(lambda: len(bench.server._clients) == MOST_CLIENTS)
    late = bench.client()
    late.until_closed()
    clients.pop().link.close()
    bench.until(lambda: len(bench.server._clients) == MOST_CLIENTS - 1)
    bench.client().until("STATUS Procedure 1")


def test_many_that_come_and_go_leave_nothing_behind(bench: Bench) -> None:
    for _ in range(300):
        link = socket.create_connection(("127.0.0.1", bench.server.port))
        link.send(b"\0\1TRANS")  # and never the rest
        link.close()
        bench.server.step()
    bench.until(lambda: not bench.server._clients)
    assert len(bench.server._selector.get_map()) <= 2  # listener and door
    bench.client().until("STATUS Procedure 1")


def test_a_port_in_use_or_no_address_is_one_sentence(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PLAN.save(tmp_path / "plan.json")
    run = ["igtl", "--procedure", str(tmp_path)]
    assert main([*run, "--port", str(bench.server.port)]) == 2
    assert "can't be listened at for OpenIGTLink" in capsys.readouterr().err
    assert main([*run, "--host", "somewhere"]) == 2
    assert "give an IP address" in capsys.readouterr().err
    assert main(["igtl", "--procedure", str(tmp_path / "none")]) == 2
    assert "no procedure has been here" in capsys.readouterr().err


def test_other_addresses_come_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    PLAN.save(tmp_path / "plan.json")

    def interrupted(_server: IgtlServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server_module.IgtlServer, "run", interrupted)
    assert main(["igtl", "--procedure", str(tmp_path), "--port", "0"]) == 0
    assert "WARNING" not in capsys.readouterr().out
    assert main(["igtl", "--procedure", str(tmp_path), "--port", "0", "--host", "0.0.0.0"]) == 0
    assert "WARNING: it knows no passwords" in capsys.readouterr().out
