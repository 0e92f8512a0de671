"""What tests of OpenIGTLink share: a procedure's news as the door tells them, made without a door."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from console.igtl.body import Status, unpack_string, unpack_transform
from console.igtl.message import Body, Message
from console.igtl.view import RunView
from controller.door_words import snapshot_words
from controller.journal import Journal, Record, read_journal
from controller.knowledge import ProcedureSettings
from controller.procedure import Procedure
from planning.frame import RigidTransform
from planning.plan import Plan
from simulator.rehearsal.control_part import ControlPart
from simulator.rehearsal.plain_tissue import PlainTissue

STANDING = {
    "rig": {"link": "answers", "position": "known", "state": "Idle", "x_mm": 1.0, "y_mm": -2.0, "z_mm": -19.0}
}
STANDING["applicator"] = {"link": "answers", "state": "IDLE", "latch": "NONE", "e_stop": "clear"}


def played(plan: Plan, folder: Path) -> list[Record]:
    """The journal of a whole procedure."""
    setup = RigidTransform.from_rotation_vector((0.3, -0.4, 0.2), (1.5, -2.0, 1.0))
    tissue = PlainTissue(plan.planned_patient_from_rig() @ setup, own_mm=1.2, repeats=0.8, seed=3)
    ControlPart(plan, tissue, seed=3).play(Journal(folder / "journal.sqlite"))
    return list(read_journal(folder / "journal.sqlite"))


def record_news(record: Record) -> dict[str, Any]:
    return {"record": asdict(record)}


def snapshot_news(
    plan: Plan, *, state: str = "INSERTING_REFERENCE_NEEDLES", **changes: Any
) -> dict[str, Any]:
    """A snapshot as DOOR.md has it; ``changes``: ask, devices, proposal, settled, stopped."""
    words = snapshot_words(Procedure(plan, ProcedureSettings()).snapshot(0, rig="Idle", applicator="IDLE"))
    words |= {"state": state, "message": f"now {state}"}
    return {"snapshot": words, "ask": None, "devices": STANDING, "stopped": False, "version": 1, **changes}


def a_view(plan: Plan, **changes: Any) -> RunView:
    view = RunView(plan)
    view.is_connected = True
    view.take(snapshot_news(plan, **changes))
    return view


def in_words(message: Message | Body) -> str:
    """``STATUS TARGET 1 [error] text``, ``STRING ACK_1 START_UP``, ``TRANSFORM TARGET``."""
    match message.kind:
        case "STATUS":
            status = Status.unpack(message.content)
            return f"STATUS {message.name} {status.code} [{status.error}] {status.text}".rstrip()
        case "STRING":
            return f"STRING {message.name} {unpack_string(message.content)}"
    return f"{message.kind} {message.name}"


def matrix_of(messages: list[Any], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of the last TRANSFORM of that name."""
    return unpack_transform([m for m in messages if (m.kind, m.name) == ("TRANSFORM", name)][-1].content)
