"""No way around the interlocks: every command goes through ``judge``, and only ``Session._send`` reaches a device.

Read from the source itself, for every package that may speak to a driver, and tried with every command there is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller import commands as c
from controller.events import CommandRefused, ProcedureStarted
from controller.interlocks import REQUIRED, Refused
from controller.knowledge import ProcedureSettings
from tests.made_plan import made_plan
from tests.plain_room import Room

ROOT = Path(__file__).parents[1]
LEADING = ("controller", "console")
# Where a driver may be told to start something, and why that is no way around:
MAY_START = {
    ("controller/session.py", "_send"): "takes only what _mean has judged, once its intention is committed",
    ("controller/recovery.py", "look"): "connects and asks; what it may ask is listed below",
    ("controller/recovery.py", "asked"): "the applicator's questions of look",
}
ONLY_ASKS = {"Connect", "ConnectRig", "ReadLedger", "AskSeed"}


def functions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node


def calls(node: ast.AST, name: str) -> list[ast.Call]:
    """Calls of a method called ``name``."""
    return [
        n
        for n in ast.walk(node)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == name
    ]


def starts_a_driver(call: ast.Call) -> bool:
    """``driver.start(command, now_ns)``: two arguments (a thread's ``start`` has none)."""
    return len(call.args) == 2


def test_only_the_session_and_the_questions_of_recovery_start_a_driver() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for package in LEADING
        for path in (ROOT / package).glob("*.py")
        for name, node in functions(path)
        if any(starts_a_driver(call) for call in calls(node, "start"))
    }
    assert found <= set(MAY_START), "a new place starts a driver: let it go through Session._send"
    assert ("controller/session.py", "_send") in found


def test_recovery_only_connects_and_asks() -> None:
    look = dict(functions(ROOT / "controller" / "recovery.py"))["look"]
    made = {
        n.func.attr
        for n in ast.walk(look)
        if isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and isinstance(n.func.value, ast.Name)
        and n.func.value.id in ("a", "r")
    }
    assert made == ONLY_ASKS


def test_what_is_meant_was_judged_first_and_only_that_is_sent() -> None:
    of_session = dict(functions(ROOT / "controller" / "session.py"))
    mean = of_session["_mean"]
    judged = [n.lineno for n in ast.walk(mean) if isinstance(n, ast.Call) and ast.unparse(n.func) == "judge"]
    written = [n.lineno for n in calls(mean, "append")]
    assert len(judged) == 1
    assert judged[0] < min(written)
    makes = {
        name
        for name, node in of_session.items()
        for n in ast.walk(node)
        if isinstance(n, ast.Call) and ast.unparse(n.func) == "_Intention"
    }
    assert makes == {"_mean"}, "only what was judged and written down is an intention"
    assert not calls(mean, "start")


def test_nothing_is_sent_before_its_intention_is_on_disk(tmp_path: Path) -> None:
    room = Room(made_plan(2, 1, 2), setup_mm=0.2, own_mm=0.2, settings=ProcedureSettings())
    session = room.session(tmp_path)
    (command,) = session.procedure.handle(ProcedureStarted("test"))
    with room.journal.together():
        intention = session._mean(command)
        assert intention is not None
        with pytest.raises(RuntimeError, match="before its intention is on disk"):
            session._send(intention)
        assert not session._rig.is_busy
    session._send(intention)
    assert session._rig.is_busy


def example(kind: type[c.Command]) -> c.Command:
    """Any command of this kind, from its fields' types."""
    values: dict[str, Any] = {"str": "N01", "int": 1, "float": 1.0, "bool": False}
    fields = kind.__dataclass_fields__
    return kind(
        **{
            name: values.get(str(field.type), "N01")
            for name, field in fields.items()
            if field.default.__class__.__name__ == "_MISSING_TYPE"
        }
    )


@pytest.mark.parametrize("kind", sorted(REQUIRED, key=lambda kind: kind.__name__))
def test_every_command_that_is_refused_leaves_no_byte_and_is_journaled(
    kind: type[c.Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(made_plan(2, 1, 2), setup_mm=0.2, own_mm=0.2, settings=ProcedureSettings())
    session = room.session(tmp_path)
    session.procedure.handle(ProcedureStarted("test"))
    monkeypatch.setattr("controller.session.judge", lambda *_: Refused("tested", "no way"))
    before = (session._rig.is_busy, session._applicator.is_busy)
    session._rig.take()
    session._applicator.take()
    assert session._mean(example(kind)) is None
    assert (session._rig.is_busy, session._applicator.is_busy) == before == (False, False)
    assert session._rig.take() == b""
    assert session._applicator.take() == b""
    (refused,) = session._inbox
    assert isinstance(refused, CommandRefused)
    assert refused.interlock == "tested"
    room.journal.close()
    from controller.journal import read_journal

    last = list(read_journal(tmp_path / "journal.sqlite"))[-1]
    assert last.kind == "refusal"
    assert last.body["command"] == kind.__name__
