"""``seedguide journal`` and ``verify-journal``: the record of a procedure for people, and whether to trust it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from controller.journal import Record

_FILE = click.Path(path_type=Path)


@click.command(
    name="journal",
    help="Print the journal FILE (or the one in a run's folder) for people: one line a record, with the "
    "procedure's clock. --json prints every record whole, one JSON object per line.",
)
@click.argument("file", type=_FILE)
@click.option(
    "--json", "as_json", is_flag=True, help="JSON lines: number, t_ns, kind, body, previous, digest."
)
def journal(file: Path, as_json: bool) -> int:
    from controller.journal import read_journal

    for record in read_journal(_in(file)):
        line = json.dumps(asdict(record), ensure_ascii=False, sort_keys=True) if as_json else in_words(record)
        click.echo(line)
    return 0


@click.command(
    name="verify-journal",
    help="Follow the chain of hashes through the journal FILE (or the one in a run's folder) and name every "
    "record that was changed, removed or moved. Records taken away at the end leave no gap: give the digest "
    "that was printed when the run ended.",
    epilog="""\b
Exit status:
    0  untouched, to the end of its procedure
    2  no journal, or a file that can't be read
    3  untouched as far as it goes, but the procedure's end is not in it
    4  touched: every finding is printed
""",
)
@click.argument("file", type=_FILE)
@click.option("--digest", metavar="HEX", help="The last record's digest as noted, whole or its beginning.")
def verify_journal(file: Path, digest: str | None) -> int:
    from controller.journal import inspect
    from planning.refusal import AskedWrongly

    if digest is not None and (len(digest) < 8 or not set(digest.lower()) <= set("0123456789abcdef")):
        raise AskedWrongly(f"--digest {digest}: at least the first 8 hex digits are needed.")
    file = _in(file)
    told = inspect(file)
    problems = list(told.problems)
    if digest is not None and not told.digest.startswith(digest.lower()):
        problems.append(
            f"it ends with digest {told.digest[:16]}, not with {digest[:16]}: its end was taken away or made anew"
        )
    for problem in problems:
        click.echo(f"{file}: {problem}.")
    if problems:
        return 4
    click.echo(f"{file}: {told.records} records, each as it was written; digest {told.digest}.")
    if told.is_ended or digest is not None:
        return 0
    click.echo(
        f"{file}: the procedure's end is not in it: it still runs, was cut off, or records after "
        f"{told.records} were taken away."
    )
    return 3


def _in(file: Path) -> Path:
    return file / "journal.sqlite" if file.is_dir() else file


def in_words(record: Record) -> str:
    """One line: number, the procedure's clock (h:mm:ss.mmm), what happened."""
    ms = record.t_ns // 1_000_000
    clock = f"{ms // 3_600_000}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
    return f"{record.number:6d}  {clock:>12}  {text_of(record)}"


def text_of(record: Record) -> str:
    """What happened, in words."""
    body = dict(record.body)
    match record.kind:
        case "opened":
            return f"journal opened for plan {str(body.get('plan', '?'))[:8].upper()}"
        case "intention":
            return f"shall: {_command(body)}"
        case "refusal":
            return f"HELD BACK by {body.get('interlock')}: {_command(body)} ({body.get('reason')})"
        case "event":
            return _event(body)
        case "decision" if "ended" in body:
            because = f": {body['because']}" if body.get("because") else ""
            return f"END: {body['ended']}{because}"
        case "decision" if "to" in body:
            return f"-> {_state(body['to'])} ({body.get('because')})"
        case "proposal" if "settled" in body:
            by = f" by {body['by']}" if body.get("by") else ""
            because = f": {body['because']}" if body.get("because") else ""
            return f"proposal {body.get('number')} {body['settled']}{by}{because}"
        case "proposal":
            about = {k: v for k, v in body.items() if k not in ("number", "by", "kind")}
            return f"proposal {body.get('number')} by {body.get('by')}: {body.get('kind')} {_pairs(about)}"
        case "recovery":
            return f"recovery: {body.get('says') or _pairs(body)}"
    return f"{record.kind}: {_pairs(body)}"


def _state(name: str) -> str:
    from controller.protocol import STATES

    return STATES.get(name, name)


def _command(body: dict[str, Any]) -> str:
    return f"[{body.get('number')}] {' '.join(_words_of_command(body))}"


def _words_of_command(body: dict[str, Any]) -> Iterator[str]:
    if body.get("command") == "AskOperator":
        yield f'ask: "{body.get("text")}"'
        return
    yield str(body.get("command"))
    known = {"command", "number", "interlock", "reason"}
    yield from (_pair(key, value) for key, value in body.items() if key not in known and value is not None)


def _event(body: dict[str, Any]) -> str:
    number = f"[{body['number']}] " if "number" in body else ""
    match body.get("event"):
        case "ProcedureStarted":
            return f"started by {body.get('who')}"
        case "ProcedureResumed":
            return f"resumed by {body.get('who')}"
        case "CommandDone":
            return f"{number}done ({_pairs(body.get('readback') or {})})"
        case "CommandFailed":
            return f"{number}FAILED: {body.get('reason')}"
        case "CommandRefused":
            return f"{number}not sent: {body.get('reason')}"
        case "OperatorConfirmed":
            return f"{number}confirmed by {body.get('who')}"
        case "OperatorDeclined":
            return f"{number}DECLINED by {body.get('who')}: {body.get('reason')}"
        case "SeedDropped":
            again = ", as the applicator had stored it" if body.get("duplicate") else ""
            return (
                f"{number}seed {body.get('seed')}: {body.get('outcome')}{again} "
                f"(at {body.get('z_um', 0) / 1000:.2f} mm, peak {body.get('peak_mn')} mN, "
                f"pulses {body.get('pulses')}, stroke {body.get('stroke_um', 0) / 1000:.1f} mm)"
            )
        case "NeedlesEvaluated":
            from controller import adapting
            from controller.events import NeedlesEvaluated

            event = NeedlesEvaluated(**{key: value for key, value in body.items() if key != "event"})
            return f"{number}{adapting.in_words(event)}" + ("; a proposal is made" if event.proposal else "")
        case "ScanAnalysed":
            found = body.get("findings") or {}
            return (
                f"{number}CT in {body.get('folder')}: {len(found.get('needles', []))} needles, "
                f"{len(found.get('seeds', []))} seeds found"
            )
        case "ScanUnusable":
            return f"{number}CT can't be used: {body.get('reason')}"
        case "WorkLost":
            return f"{number}WORK LOST: {body.get('reason')}"
        case "DeviceFaulted":
            return f"FAULT of {body.get('device')}: {body.get('reason')}"
        case "StopPressed":
            return f"STOP pressed by {body.get('who')}"
    return f"{number}{body.get('event')} {_pairs({k: v for k, v in body.items() if k not in ('event', 'number')})}"


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(_pair(key, value) for key, value in values.items())


def _pair(key: str, value: Any) -> str:
    """A number with the unit that its name carries."""
    for end, unit in (("_mm", "mm"), ("_um", "um"), ("_mn", "mN"), ("_ms", "ms"), ("_s", "s")):
        if key.endswith(end) and isinstance(value, int | float):
            return f"{key.removesuffix(end)} {value:g} {unit}"
    return f"{key} {value}"
