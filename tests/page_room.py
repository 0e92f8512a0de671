"""A whole procedure behind the console's page, in virtual time: people confirm in the browser, simulated hands obey.

``PageRoom.play`` runs as ``seedguide run --operator door`` does: to the end, or to a hold about which people decide at
the page. The procedure's time stands still while somebody is asked, so nothing depends on how fast this machine is.
``ServedPage`` serves the page of a run from a thread of this process.
"""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from console.scene import Scene
from console.web_server import serve
from controller.commands import AskOperator, RequestScan
from controller.door import Door
from controller.door_people import DoorOperator, rest, stop_or_note
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined, ScanAnalysed, ScanUnusable
from controller.journal import Journal, Record
from controller.knowledge import ProcedureSettings
from controller.ports import Aside
from controller.procedure import Procedure
from controller.recovery import compare, confirm, look
from controller.replay import replay
from controller.session import Session
from controller.undertaking import Held
from drivers.applicator import ApplicatorDriver
from drivers.applicator_language import ApplicatorConfig
from drivers.kinematics import RigConfig
from drivers.rig import RigDriver
from planning.frame import Floats, RigidTransform
from planning.plan import Plan, PlannedNeedle, rounded_point
from simulator.rehearsal.virtual_transport import VirtualTransport
from tests.killed_room import KilledRoom
from tests.made_plan import made_plan
from tests.plain_room import Room

INTO_TARGET_MM = np.array([-14.0, -12.0, -55.0])
"""A point in the example's GTV, patient frame."""
EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


def page_plan(frame_of_reference_uid: str) -> Plan:
    """Two needles, four seeds, on the planning CT with that frame of reference."""
    plan = made_plan(2, 1, 2)
    shift = INTO_TARGET_MM - plan.seed_centres_mm().mean(axis=0)
    pose = RigidTransform.from_rotation_vector((0.0, 0.0, 0.0), shift) @ plan.planned_patient_from_rig()
    return replace(
        plan,
        frame_of_reference_uid=frame_of_reference_uid,
        site_protocol="head-and-neck",
        patient_from_rig=tuple(tuple(float(v) for v in row) for row in pose.matrix()),
        needles=tuple(_shifted(needle, shift) for needle in plan.needles),
    )


def _shifted(needle: PlannedNeedle, by_mm: Floats) -> PlannedNeedle:
    seeds = tuple(replace(seed, centre_mm=rounded_point(seed.centre_mm + by_mm)) for seed in needle.seeds)
    ends = {
        "entry_mm": rounded_point(needle.entry_mm + by_mm),
        "tip_mm": rounded_point(needle.tip_mm + by_mm),
    }
    return replace(needle, seeds=seeds, **ends)


class _WaitingWires(VirtualTransport):
    """Time stands still while a person is asked; the door's bell ends the wait."""

    door: Door
    people: _People

    def wait(self, wake_ns: int | None) -> None:
        if self.people.is_asked:
            select.select([self.door], [], [], 0.02)
        else:
            super().wait(wake_ns)


class _People(DoorOperator):
    is_asked = False

    def answer(self, command: AskOperator) -> tuple[OperatorConfirmed | OperatorDeclined, int]:
        self.is_asked = True
        try:
            return super().answer(command)
        finally:
            self.is_asked = False


class PageRoom(KilledRoom):
    """Room, door and procedure in ``folder``; the procedure runs in a thread.

    Args:
        gate: waited for before each CT is there; None: it is there at once.
    """

    def __init__(self, plan: Plan, folder: Path, *, person_judges: bool = False, **others: Any) -> None:
        super().__init__(plan, settings=ProcedureSettings(person_judges=person_judges), **others)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        plan.save(folder / "plan.json")
        self.door = Door(folder, is_simulated=True)
        self.gate: threading.Event | None = None
        self.ended: Future[str] = Future()
        self._path = folder / "journal.sqlite"
        self._last_ns = 0

    def begin(self) -> None:
        threading.Thread(target=self._play, daemon=True, name="procedure").start()

    def told(self) -> list[Record]:
        """The journal so far; nobody else may read its file while it is written."""
        with self.door._lock:
            return list(self.door._records)

    def close(self) -> None:
        self.door.close()

    # --- the procedure's thread -------------------------------------------------------------------------

    def _play(self) -> None:
        try:
            self.ended.set_result(self._through())
        except BaseException as problem:
            self.ended.set_exception(problem)

    def _through(self) -> str:
        procedure = Procedure(self.plan, self.settings)
        journal = Journal(self._path)
        session, _, _ = self._session(procedure, journal)
        journal.append(0, "opened", {"plan": self.plan.content_hash, "settings": asdict(self.settings)})
        session.run()
        journal.close()
        self._held = session.snapshot()
        while procedure.is_held:
            wish = rest(self.door, Held("", lambda: self._held, self._decide, self.door.stop_pressed))
            if wish is False:
                break
            procedure = self._again(None if wish is True else wish)
        return procedure.state

    def _again(self, abortion: OperatorDecided | None) -> Procedure:
        replayed = replay(self._path, self.plan)
        journal = Journal.continued(self._path)
        session, wires, people = self._session(replayed.procedure, journal)
        report = look(session._rig, session._applicator, wires, replayed.procedure)
        begin_with: tuple[Any, ...] = () if abortion is None else (abortion,)
        if abortion is None:
            begin_with = confirm(compare(replayed, report), people, journal, wires.now_ns()).begin_with
        if begin_with:
            session.run(begin_with)
            self._held = session.snapshot()
        journal.close()
        return replayed.procedure

    def _decide(self, event: OperatorDecided) -> str:
        replayed = replay(self._path, self.plan)
        journal = Journal.continued(self._path)
        journal.listener = self.door.recorded
        journal.append(replayed.last_ns, "event", event.to_json())
        journal.close()
        replayed.procedure.handle(event)
        self._held = replayed.procedure.snapshot(replayed.last_ns)
        self.door.show(self._held)
        return replayed.procedure.known.message

    def _session(self, procedure: Procedure, journal: Journal) -> tuple[Session, _WaitingWires, DoorOperator]:
        self.starts += 1
        journal.listener = self.door.recorded
        rig = RigDriver(RigConfig())
        applicator = ApplicatorDriver(ApplicatorConfig(15, 5000, 18), f"{0x5A00 + self.starts:04X}")
        people = _People(self.door, super().answer)
        wires = _WaitingWires((rig, self.rig), (applicator, self.applicator), self._last_ns)
        wires.door, wires.people = self.door, people

        def stop_pressed() -> str | None:
            self._last_ns = wires.now_ns()
            return stop_or_note(self.door, journal, wires.now_ns)

        session = Session(
            procedure,
            journal,
            rig=rig,
            applicator=applicator,
            transport=wires,
            operator=people,
            scanner=self,
            listener=self.door.show,
            aside=Aside(),
            stop_pressed=stop_pressed,
            decided=self.door.decided,
            devices_seen=self.door.devices_seen,
        )
        return session, wires, people

    def scan(self, command: RequestScan, procedure: Procedure) -> tuple[ScanAnalysed | ScanUnusable, int]:
        if self.gate is not None:
            self.gate.wait(60.0)
        folder = self.folder / "scans" / str(command.scan)
        if not folder.exists():
            shutil.copytree(EXAMPLE, folder, symlinks=True, copy_function=_linked)
        return super().scan(command, procedure)


def ended_run(folder: Path, plan: Plan) -> Path:
    """A run that is over, by nobody's hand, whose CTs are all the planning CT."""
    folder.mkdir(parents=True)
    plan.save(folder / "plan.json")
    room = Room(plan, setup_mm=3.0, own_mm=1.2, seed=1)
    session = room.session(folder)
    room.journal.append(0, "opened", {"plan": plan.content_hash, "settings": asdict(room.settings)})
    session.run()
    assert session.procedure.state == "COMPLETED"
    for number in range(1, session.procedure.known.scans + 1):
        shutil.copytree(EXAMPLE, folder / "scans" / str(number), symlinks=True, copy_function=_linked)
    room.journal.close()
    return folder


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


class ServedPage:
    """The page of the run in ``folder``, until it is closed."""

    def __init__(
        self,
        folder: Path,
        scene: Scene,
        port: int = 0,
        users: Path | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._server: uvicorn.Server | None = None
        self._line: Future[str] = Future()
        self._ended = threading.Event()

        def begun(server: uvicorn.Server) -> None:
            self._server = server

        def run(what: Callable[..., Any]) -> None:
            try:
                asyncio.run(
                    what(
                        folder,
                        None,
                        "127.0.0.1",
                        port,
                        users=users,
                        cert=None if tls is None else tls[0],
                        key=None if tls is None else tls[1],
                        speed=None,
                        told=self._line.set_result,
                        scene=scene,
                        begun=begun,
                    )
                )
            except BaseException as problem:
                self._line.set_exception(problem)
            finally:
                self._ended.set()

        threading.Thread(target=run, args=(serve,), daemon=True, name="page").start()
        self.address = self._line.result(30.0).split()[1]
        self.port = int(self.address.rstrip("/").rsplit(":", 1)[1])

    def close(self) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._server.force_exit = True  # as a crash: open connections are cut
        assert self._ended.wait(30.0)
