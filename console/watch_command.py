"""``seedguide watch DIR`` and ``seedguide stop DIR``: the simplest consoles there are."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

import click

from planning.refusal import AskedWrongly

_BEATS = 10
"""So many beats of the door (5 s) without both devices standing, and the stop counts as not obeyed (assumed)."""


@click.command(
    help="Follow the procedure that runs in DIR: its state, what it waits for, what happens. Watching changes "
    "nothing; with --confirm the questions are asked here too and the first answer counts. Ends with the procedure, or "
    "with Ctrl-C."
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--confirm", is_flag=True, help="Ask the operator's questions here (--operator door).")
@click.option("--who", default=None, metavar="NAME", help="Name in the journal.  [default: the user's]")
def watch(folder: Path, confirm: bool, who: str | None) -> int:
    """Print what changes."""
    from console.door_client import DoorClient

    with DoorClient(folder, who or getpass.getuser()) as door:
        door.follow()
        last, asked = "", 0
        try:
            while (news := door.news()) is not None:
                if "snapshot" not in news:
                    continue
                line = _line(news["snapshot"])
                if line != last:
                    print(line, flush=True)
                last = line
                question = news["ask"]
                if question is not None and question["number"] != asked:
                    asked = question["number"]
                    print(f"  asked ({asked}): {question['text']}", flush=True)
                    if confirm:
                        _answer(door, question)
        except ConnectionError:
            print("The procedure's process has ended.", file=sys.stderr)
    return 0


def _answer(door: Any, question: dict[str, Any]) -> None:
    typed = input(f"  confirm {question['number']}? [y/n] ").strip().lower()
    if typed in ("y", "yes"):
        why = door.answer(question["number"])
    elif typed in ("n", "no"):
        why = door.decline(question["number"], f"no to: {question['text']}")
    else:
        why = "neither y nor n: not answered here"
    if why is not None:
        print(f"  did not count: {why}", flush=True)


def _line(snapshot: dict[str, Any]) -> str:
    return (
        f"{snapshot['virtual_time_s']:8.1f} s  {snapshot['state_words']}: {snapshot['message']}"
        f"  [rig {snapshot['rig']}, applicator {snapshot['applicator']}, "
        f"seeds {snapshot['seeds_delivered']}/{snapshot['seeds_planned']}]"
    )


@click.command(
    help="Stop the devices of the procedure that runs in DIR, at once; no question asked. Says whether the devices "
    "have obeyed. Exit status 3 when that can't be seen."
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--who", default=None, metavar="NAME", help="Name in the journal.  [default: the user's]")
def stop(folder: Path, who: str | None) -> int:
    """Press stop, then look."""
    from console.door_client import DoorClient

    with DoorClient(folder, who or getpass.getuser()) as door:
        why = door.stop()
        if why is not None:
            raise AskedWrongly(f"{folder}: the stop was not taken: {why}.")
        print("Stop handed over.", flush=True)
        try:
            door.follow()
            beats = 0
            while beats < _BEATS and (news := door.news(within_s=5.0)) is not None:
                beats += "beat" in news
                if news.get("stopped"):
                    snapshot = news["snapshot"]
                    print(
                        f"Stopped. Rig: {snapshot['rig']}, applicator: {snapshot['applicator']}. Look at the patient."
                    )
                    return 0
        except ConnectionError:
            pass
    print("seedguide: nothing shows that the stop was obeyed; use the emergency stop.", file=sys.stderr)
    return 3
