"""The plain room in processes of its own, for a controller that SIGKILL really ends.

``python -m tests.sigkill_room bench DIR``: devices behind DIR/rig and DIR/applicator, people and scanner behind
DIR/scans; it says ``ready`` and, ended by SIGTERM, what is in the patient.
``... controller DIR MOMENT``: begins, or takes up again, the procedure in DIR/run; SIGKILL at MOMENT:
``before|after KIND NAME N`` of the journal's records, or empty for never.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from console.device_choice import new_session_id
from controller.aftermath import ScanAnalyst
from controller.commands import AskOperator, RequestScan
from controller.devices_file import parse_devices
from controller.events import OperatorConfirmed, ScanAnalysed, ScanUnusable
from controller.journal import Journal, Kind, Record
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from controller.replay import findings_of
from controller.requests import BenchHands, FolderScanner, RequestFolder
from controller.undertaking import Surroundings, Undertaking
from simulator import requests as bench_requests
from simulator.benchtop import LISTENING
from simulator.doors import PseudoTerminal, serve
from simulator.standalone import devices_toml
from tests.killed_room import KilledRoom
from tests.made_plan import made_plan

SPEED = 50.0
FINDINGS = "findings.json"
PLAN = made_plan(columns=3, rows=1, seeds_per_needle=1)


class _People:
    def __init__(self) -> None:
        self.room = KilledRoom(PLAN, setup_mm=0.2, own_mm=0.2)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        room = self.room
        match request["do"]:
            case "scan":
                scan = RequestScan(0, int(request["number"]), request["kind"], 0)
                analysed, _ = room.scan(scan, room.plan)  # type: ignore[arg-type]
                assert isinstance(analysed, ScanAnalysed)
                folder = Path(request["folder"])
                folder.mkdir()
                (folder / FINDINGS).write_text(json.dumps(analysed.findings.to_json()), encoding="utf-8")
                return {"done": True}
        asked = {key: request.get(key) for key in ("needle", "count", "returned")}
        answer, _ = room.answer(AskOperator(0, request["do"], "", **asked))
        if isinstance(answer, OperatorConfirmed):
            return {"done": True}
        return {"done": False, "why": answer.reason}


def bench(folder: Path) -> None:
    people = _People()
    room = people.room
    requests = bench_requests.RequestFolder(folder / "scans", people.handle, seed=1, told=lambda _line: None)
    doors = {
        name: (device, PseudoTerminal(folder / name))
        for name, device in (("rig", room.rig), ("applicator", room.applicator))
    }
    print("ready", flush=True)
    serve(
        doors,
        None,
        dict,
        speed=SPEED,
        visitors=(requests,),
        listens=lambda: room.applicator.board.state in LISTENING,
    )
    print(json.dumps({"seeds": room.template.seeds_dropped, "spilled": room.hands_on.seeds_spilled}))


class _Analyst(ScanAnalyst):
    """Reads what the bench found, in place of images."""

    def __init__(self) -> None: ...

    def analyse(
        self, command: RequestScan, folder: Path, label: str, procedure: Procedure
    ) -> ScanAnalysed | ScanUnusable:
        del procedure
        found = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))
        return ScanAnalysed(command.number, label, findings_of(found))


class _SigkilledJournal(Journal):
    """Its process is killed before the N-th record of a kind and name, or after its commit."""

    moment: tuple[str, ...] = ()
    seen = 0
    is_now = False

    def append(self, t_ns: int, kind: Kind, body: dict[str, Any]) -> Record:
        name = str(body.get("event") or body.get("command") or body.get("to") or "")
        is_it = len(self.moment) == 4 and (kind, name) == self.moment[1:3]
        self.seen += is_it
        self.is_now = self.is_now or (is_it and self.seen == int(self.moment[3]))
        if self.is_now and self.moment[0] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().append(t_ns, kind, body)

    def _commit(self) -> None:
        super()._commit()
        if self.is_now:
            os.kill(os.getpid(), signal.SIGKILL)


def controller(folder: Path, moment: str) -> None:
    run = folder / "run"
    run.mkdir(exist_ok=True)
    requests = RequestFolder(folder / "scans")
    around = Surroundings(
        urls={"rig": str(folder / "rig"), "applicator": str(folder / "applicator")},
        operator=BenchHands(requests),
        scanner=FolderScanner(requests, _Analyst(), (0.0, 1.0), 1.0),
        goes_on=lambda _held: False,
        new_session_id=new_session_id,
    )
    _SigkilledJournal.moment = tuple(moment.split())
    undertaking = Undertaking(
        run,
        PLAN,
        ProcedureSettings(),
        parse_devices(devices_toml(SPEED), "devices.toml"),
        around,
        open_journal=_SigkilledJournal,
        continue_journal=_SigkilledJournal.continued,
    )
    session = undertaking.take_up() if (run / "journal.sqlite").exists() else undertaking.begin()
    print(session.procedure.state, session.procedure.known.held_because)


if __name__ == "__main__":
    role, where, *more = sys.argv[1:]
    if role == "bench":
        bench(Path(where))
    else:
        controller(Path(where), *more)
