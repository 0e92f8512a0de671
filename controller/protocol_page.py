"""PROTOCOL.md, drawn from the protocol's table: ``python -m controller.protocol_page`` writes it."""

from __future__ import annotations

from pathlib import Path

from controller import protocol

PAGE = Path(__file__).with_name("PROTOCOL.md")


def _words(guard: protocol.Guard) -> str:
    return guard.__name__.replace("_", " ")


def render() -> str:
    """The page: diagram, states, table, guards."""
    lines = [
        "# The protocol",
        "",
        "Drawn from `protocol.py` (`python -m controller.protocol_page`); not edited by hand.",
        "Source: Jiang et al. 2021, Front Oncol 11:645077.",
        "Rows of a trigger are tried from top to bottom; the first whose guards hold is taken.",
        "From every working state `fault_seen` leads to HELD and `stop_pressed` to STOPPED, and",
        "`procedure_resumed` leads from HELD back (not drawn).",
        "",
        "**HELD is no end.** A person may grant further attempts (`OperatorDecided`), then take it back",
        "(`ProcedureResumed`) to the state that it was held in: devices are connected and asked as after an",
        "interruption (HAZARDS.md), what was under way is done again or its outcome adopted, and where a CT led to",
        "the hold another CT comes first. What the devices say while it is held is journaled and changes nothing.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> READY",
    ]
    for row in protocol.TABLE:
        if row.trigger in ("fault_seen", "procedure_resumed", "stop_pressed"):
            continue
        label = row.trigger + (f" [{' and '.join(map(_words, row.guards))}]" if row.guards else "")
        lines += [f"    {source} --> {row.destination}: {label}" for source in row.sources]
    lines += ["    COMPLETED --> [*]", "```", "", "| state | how it is now |", "|---|---|"]
    lines += [f"| `{name}` | {words} |" for name, words in protocol.STATES.items()]
    lines += ["", "| trigger | when |", "|---|---|"]
    lines += [f"| `{name}` | {words} |" for name, words in protocol.TRIGGERS.items()]
    lines += ["", "| when | in | and | then | note |", "|---|---|---|---|---|"]
    for row in protocol.TABLE:
        sources = (
            "any working state"
            if row.sources[: len(protocol.WORKING)] == protocol.WORKING
            else row.sources[0]
        )
        if row.sources[len(protocol.WORKING) :]:
            sources += ", " + ", ".join(row.sources[len(protocol.WORKING) :])
        guards = ", ".join(map(_words, row.guards)) or "-"
        lines.append(f"| {row.trigger} | {sources} | {guards} | {row.destination} | {row.note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
