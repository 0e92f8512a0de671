"""A procedure that was held, and what follows when people take it back: through journal, replay and devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from controller.events import OperatorDecided
from controller.journal import Record, read_journal, verify
from controller.procedure import Procedure
from controller.recovery import Verdict, compare, confirm, look
from controller.replay import replay
from tests.killed_room import KilledJournal, KilledRoom, Killing


def begin(room: KilledRoom, folder: Path) -> Procedure:
    """Play until it is over, held or ended."""
    folder.mkdir(exist_ok=True)
    procedure = Procedure(room.plan, room.settings)
    journal = KilledJournal(folder / "journal.sqlite")
    session, wires, *_ = room.killed_session(procedure, journal, Killing(None), 0)
    journal.append(0, "opened", {"plan": room.plan.content_hash, "settings": asdict(room.settings)})
    session.run()
    room.now_ns = wires.now_ns()
    journal.close()
    return procedure


def go_on(
    room: KilledRoom, folder: Path, decisions: Sequence[OperatorDecided] = (), minutes: int = 2
) -> tuple[Procedure, Verdict]:
    """What people decided, then journal and devices compared and (if they agree) taken back and played on."""
    replayed = replay(folder / "journal.sqlite", room.plan)
    journal = KilledJournal.continued(folder / "journal.sqlite")
    now_ns = room.now_ns + minutes * 60_000_000_000
    assert isinstance(journal, KilledJournal)
    journal.killing = Killing(None)
    for decision in decisions:
        journal.append(now_ns, "event", decision.to_json())
        replayed.procedure.handle(decision)
    session, wires, rig, applicator = room.killed_session(replayed.procedure, journal, Killing(None), now_ns)
    verdict = compare(replayed, look(rig, applicator, wires, replayed.procedure))
    begin_with = confirm(verdict, room, journal, wires.now_ns()).begin_with
    if begin_with:
        session.run(begin_with)
    room.now_ns = wires.now_ns()
    journal.close()
    return replayed.procedure, verdict


def records(folder: Path) -> list[Record]:
    """The whole journal, untouched and playing to the same again."""
    assert verify(folder / "journal.sqlite") is None
    return list(read_journal(folder / "journal.sqlite"))
