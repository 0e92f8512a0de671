"""Who confirmed, declined, decided or did what by hand, from the journal, for the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controller.journal import Record


@dataclass(frozen=True)
class Confirmation:
    """One word of a person: when on the procedure's clock, who, what to which question."""

    t_s: float
    who: str
    word: str
    about: str


def confirmations(records: Iterable[Record]) -> list[Confirmation]:
    """In order."""
    questions: dict[int, str] = {}
    commands: dict[int, dict[str, Any]] = {}
    out = []
    for record in records:
        body = record.body
        if record.kind == "intention" and body.get("command") == "AskOperator":
            questions[int(body["number"])] = str(body.get("text", ""))
        elif record.kind == "intention":
            commands[int(body["number"])] = body
        elif (who := _by_hand_of(record)) and (command := commands.get(int(body["number"]))) is not None:
            out.append(
                Confirmation(record.t_ns / 1e9, who, *_done(command, str(body.get("outcome", "PASS"))))
            )
        elif record.kind == "event" and (said := _said(body, questions)) is not None:
            out.append(Confirmation(record.t_ns / 1e9, str(body.get("who", "")), *said))
    return out


def _by_hand_of(record: Record) -> str:
    if record.kind != "event" or record.body.get("event") not in ("CommandDone", "SeedDropped"):
        return ""
    return str(record.body.get("readback", {}).get("by_hand_of") or record.body.get("who") or "")


def _done(command: dict[str, Any], outcome: str) -> tuple[str, str]:
    needle = f"needle {command.get('needle')}"
    match command.get("command"):
        case "MoveAcross":
            return "set by hand", f"guide for {needle} to x {command['x_mm']:.1f}, y {command['y_mm']:.1f} mm"
        case "MoveDepth":
            return "moved by hand", f"{needle}, tip to {command['z_mm']:.1f} mm"
        case "RetractNeedle":
            return "drew back by hand", f"{needle} to {command['z_um'] / 1000:.1f} mm"
        case "DropSeed" if outcome == "PASS":
            return "pushed by hand", f"seed {command['seed']}, {needle}"
        case "DropSeed":
            return "wasn't sure", f"whether seed {command['seed']} left {needle}"
    return "did by hand", "applicator's slide fully forward"


def _said(body: dict[str, Any], questions: dict[int, str]) -> tuple[str, str] | None:
    match body.get("event"):
        case "OperatorConfirmed":
            values = ", ".join(f"{key} {value}" for key, value in (body.get("values") or {}).items())
            return "confirmed", questions.get(int(body["number"]), "") + (f" ({values})" if values else "")
        case "OperatorDeclined":
            return "declined", f"{questions.get(int(body['number']), '')} ({body.get('reason', '')})"
        case "OperatorDecided":
            named = {
                k: v for k, v in body.items() if k not in ("event", "who", "kind") and v not in (None, "")
            }
            words = ", ".join(f"{key} {value}" for key, value in named.items())
            return "decided", str(body.get("kind", "")).replace("_", " ") + (f": {words}" if words else "")
        case "ProcedureStarted" | "ProcedureResumed":
            return "started" if body["event"] == "ProcedureStarted" else "took it up again", ""
        case "StopPressed":
            return "pressed STOP", ""
    return None
