"""``seedguide edit``: a plan changed seed by seed at the terminal, dose and goals told after each change."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from console.live import Screen
    from planning.goals import Goal
    from planning.plan_editing import PlanEditor

_WORDS = """\b
What can be typed (or piped in, a line each):
    move SEED MM       a seed along its needle, MM deeper (less than 0: shallower)
    add NEEDLE MM      a seed that leaves the needle when it is drawn back by MM
    remove SEED        a seed out of the plan
    undo               the last change
    seeds              where seeds lie
    goals              all goals and limits
    save FILE          the edited plan; judge and accept it with 'seedguide evaluate FILE CASE --accept'
    quit
"""
_USAGE = {"move": "move SEED MM", "add": "add NEEDLE MM", "remove": "remove SEED", "save": "save FILE"}


@click.command(
    help="Change PLAN (a plan.json) for the patient in CASE seed by seed. Dose, figures and goals are those of the "
    "changed plan at once. PLAN itself stays as it is; what is saved keeps the old content hash and is refused "
    "wherever it is used until 'seedguide evaluate --accept' has judged it by all of planning's rules.\n\n"
    "Research and training software, not a medical device, not for clinical use.",
    epilog=_WORDS,
)
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--protocol", help="Site protocol: its name or its file.  [default: the one of the plan]")
@click.option(
    "--allow-unverified", is_flag=True, help="Take a source whose data were compared with no publication."
)
def edit(plan_file: Path, case: Path, **chosen: Any) -> int:
    """Read, then obey line by line until there are no more."""
    from console.live import Screen
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.evaluation import load_edited
    from planning.plan_editing import PlanEditor
    from planning.site_protocol import load_site_protocol
    from planning.sources import load_source

    plan_file = plan_file / "plan.json" if plan_file.is_dir() else plan_file
    edited = load_edited(plan_file)
    plan = edited.plan
    protocol = load_site_protocol(chosen["protocol"] or plan.site_protocol)
    source = load_source(plan.source_model, allow_unverified=chosen["allow_unverified"])
    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    patient = read_case(case)
    if patient.ct.frame_of_reference_uid != plan.frame_of_reference_uid:
        raise AskedWrongly(f"{case}: its CT is not the one that {plan_file} was made on.")
    anatomy = build_anatomy(patient, protocol, target=plan.target, margin_mm=plan.margin_mm)
    editor = PlanEditor(plan, anatomy, protocol, source, threads=min(4, os.cpu_count() or 1))
    desk = _Desk(editor, screen, edited.stated_hash)
    screen.print(f"{len(editor.seeds)} seeds in {len(plan.needles)} needles; 'help' tells what can be typed")
    status = 0
    while True:
        if sys.stdin.isatty():
            screen.print("edit> ", end="")
        line = sys.stdin.readline()
        words = line.split()
        if not line or words[:1] == ["quit"]:
            return status
        try:
            if words:
                desk.obey(words)
        except AskedWrongly as problem:
            # At a terminal one types again; in a script a line that was not obeyed must not pass for success.
            status = 0 if sys.stdin.isatty() else 2
            print(f"seedguide: {problem}", file=sys.stderr)


class _Desk:
    """Obeys lines."""

    def __init__(self, editor: PlanEditor, screen: Screen, stated_hash: str) -> None:
        self._editor, self._screen, self._stated_hash = editor, screen, stated_hash
        self._goals = editor.goals()

    def obey(self, words: list[str]) -> None:
        what, rest = words[0], words[1:]
        if len(rest) != {"move": 2, "add": 2, "remove": 1, "save": 1}.get(what, 0):
            raise AskedWrongly(f"{what}: {_USAGE.get(what, 'it takes no more words')}.")
        if what in ("move", "add", "remove", "undo"):
            self._change(what, rest)
            self._tell(self._editor.goals())
        elif what == "seeds":
            self._list()
        elif what == "goals":
            from console.plan_command import print_goals

            print_goals(self._screen, self._goals)
        elif what == "save":
            self._save(Path(rest[0]))
        elif what == "help":
            self._screen.print(_WORDS.replace("\b\n", ""), markup=False)
        else:
            raise AskedWrongly(f"'{what}' is no word here; 'help' tells them all.")

    def _change(self, what: str, rest: list[str]) -> None:
        if what == "undo":
            self._editor.undo()
        elif what == "move":
            self._editor.move(_whole(rest[0]), _mm(rest[1]))
        elif what == "remove":
            self._editor.remove(_whole(rest[0]))
        else:
            self._screen.print(f"seed {self._editor.add(rest[0], _mm(rest[1]))}")

    def _tell(self, goals: tuple[Goal, ...]) -> None:
        before = {goal.wanted: goal for goal in self._goals}
        parts = []
        for goal in goals:
            old = before[goal.wanted]
            turned = goal.met != old.met
            if turned or f"{goal.value:.1f}" != f"{old.value:.1f}":
                mark = (" now met" if goal.met else " NOW MISSED") if turned else ""
                what = goal.wanted.split(" >= ")[0].split(" <= ")[0]
                parts.append(f"{what} {old.value:.1f} -> {goal.value:.1f} {goal.unit}{mark}")
        met = sum(goal.met for goal in goals)
        self._screen.print(
            f"{len(self._editor.seeds)} seeds, {met} of {len(goals)} goals met: "
            + ("; ".join(parts) or "no figure changed"),
            markup=False,
            soft_wrap=True,
        )
        self._goals = goals

    def _list(self) -> None:
        for needle in self._editor.plan.needles:
            own = sorted((mm, n) for n, (name, mm) in self._editor.seeds.items() if name == needle.name)
            words = ", ".join(f"{number} at {mm:g}" for mm, number in own) or "none"
            self._screen.print(f"{needle.name} ({needle.hole})  {words} mm", markup=False)

    def _save(self, path: Path) -> None:
        import json

        from planning.whole_file import write_whole

        if path.exists():
            raise AskedWrongly(f"{path}: exists; choose another name.")
        # With the old hash: an edit is accepted in one place only, 'evaluate --accept'.
        body = self._editor.edited().to_json() | {"content_hash": self._stated_hash}
        write_whole(path, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
        self._screen.print(f"Written {path}; not accepted yet", markup=False)


def _whole(word: str) -> int:
    if not word.isdecimal():
        raise AskedWrongly(f"'{word}' is no seed's number.")
    return int(word)


def _mm(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1000.0:
        raise AskedWrongly(f"'{word}' are no millimetres.")
    return value
