"""PROTOCOL.md, drawn from the protocol's table: ``python -m controller.protocol_page`` writes it."""

from __future__ import annotations

from pathlib import Path

from controller import decisions, protocol

_NOT_DRAWN = ("fault_seen", "procedure_resumed", "stop_pressed", "pause_reached", "pause_ended")
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
        "`pause_reached` to PAUSED; `procedure_resumed` and `pause_ended` lead back (not drawn).",
        "",
        "**HELD is no end.** A person may decide (`OperatorDecided`, see the last table), then take it back",
        "(`ProcedureResumed`) to the state that it was held in: devices are connected and asked as after an",
        "interruption (HAZARDS.md), what was under way is done again or its outcome adopted, and where a CT led to",
        "the hold another CT comes first. What the devices say while it is held is journaled and changes nothing, but",
        "for the outcome of a seed that was under way.",
        "",
        "**The plan is adapted once the needles are verified**, and again after each decision that changes the",
        "delivery: the dose is computed with the needles where the CT shows them. Where a goal that the plan meets",
        "is missed, the seeds that are left are loaded anew on these needles, and a person is asked: yes takes the",
        "proposal, no keeps the plan, and neither holds anything. `auto` takes it only when it is better by the",
        "plan's goals. A computation that is lost holds; one that can't be made (no dose engine) is journaled as",
        "skipped, the plan kept.",
        "",
        "**A correction** (`guidance.py`) aims a needle off by what is expected of its own error at the next",
        "insertion, from all its insertions so far: across, four fifths of what one showed, since about a fifth of the",
        "variance is new each time (CLINIC.md), more the more of them agree; along, all of it. A needle that is off in",
        "depth alone is corrected by depth, in its own path.",
        "",
        "**A person may judge** (`ProcedureSettings.person_judges`, as in a training run): after every CT of needles",
        "a person says of each one that stands in the patient whether it is accepted, corrected (as proposed, or by an",
        "amount of one's own) or abandoned, or asks for another CT, with other slices where the site has them",
        "(`ruling.py`); seeds follow only when every needle is accepted. A tip measured beyond the tolerance can't be",
        "accepted, one that can't be told only when it was measured within it: the interlocks are the same. Where",
        "slices are too thick to tell every needle, a CT with the thinnest ones is proposed.",
        "",
        "**A correction goes no deeper than the interlock lets a tip go** (10 mm more than planned). What is proposed",
        "ends there; where that leaves the tip too shallow by the tolerance or more, none is proposed, and without",
        "a person who judges it is held before the needle is drawn out.",
        "",
        "**A device may be absent** (`--rig manual`, `--applicator manual`) or be put aside while held",
        "(`rig_by_hand`, `applicator_by_hand`): the same commands then ask a person, in the same order, under the",
        "same interlocks, and who did it is in the outcome. What such a device would say of itself is what the",
        "journal knows. So a seed under way at an interruption is asked about; unless a person is sure that it was",
        "or was not pushed, it is in doubt.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> READY",
    ]
    for row in protocol.TABLE:
        if row.trigger in _NOT_DRAWN and row.destination in ("HELD", "STOPPED", "PAUSED", *protocol.WORKING):
            continue
        label = row.trigger + (f" [{' and '.join(map(_words, row.guards))}]" if row.guards else "")
        lines += [f"    {source} --> {row.destination}: {label}" for source in row.sources]
    lines += [
        "    COMPLETED --> [*]",
        "    ABORTED --> [*]",
        "```",
        "",
        "| state | how it is now |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {words} |" for name, words in protocol.STATES.items()]
    lines += ["", "| trigger | when |", "|---|---|"]
    lines += [f"| `{name}` | {words} |" for name, words in protocol.TRIGGERS.items()]
    lines += ["", "| when | in | and | then | note |", "|---|---|---|---|---|"]
    for row in protocol.TABLE:
        sources = (
            "any working state"
            if row.sources[: len(protocol.WORKING)] == protocol.WORKING
            else ", ".join(row.sources)
        )
        if row.sources[len(protocol.WORKING) :]:
            sources += ", " + ", ".join(row.sources[len(protocol.WORKING) :])
        guards = ", ".join(map(_words, row.guards)) or "-"
        lines.append(f"| {row.trigger} | {sources} | {guards} | {row.destination} | {row.note} |")
    lines += [
        "",
        "What a person may decide beside confirming (`OperatorDecided`; `decisions.py`). One that does not",
    ]
    lines += ["fit the moment changes nothing and is in the journal all the same.", ""]
    lines += ["| decision | when, and what it does |", "|---|---|"]
    lines += [f"| `{kind}` | {words} |" for kind, words in decisions.KINDS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
