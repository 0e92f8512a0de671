"""A trainee at the terminal: each question shown with what the CT tells, and the words that are typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.live import STYLE, SYMBOL
from console.training.ruling_sheet import LEGEND, RulingSheet
from controller import ruling
from controller.advice import what_to_do
from controller.commands import AskOperator
from controller.decisions import KINDS, TYPED, decision_of
from controller.door_words import why_not_decided
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.snapshot import Snapshot

_NOBODY = "nobody is at the terminal"
Answered = tuple[OperatorConfirmed | OperatorDeclined, int]


class HeldRun(Protocol):
    """A held run, as ``simulator.rehearsal`` hands it over."""

    @property
    def why_not(self) -> str: ...
    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def told(self) -> str: ...
    @property
    def decide(self) -> Callable[[OperatorDecided, int], str]: ...


class TerminalTrainee:
    """Asks by ``ask`` (EOFError: nobody is there any more: the run ends held); ``clock``: seconds."""

    def __init__(
        self, name: str, ask: Callable[[str], str], screen: Console, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self._ask, self._screen, self._clock = ask, screen, clock
        self._stops = self._is_gone = self._has_seen_help = False
        self._said_before: dict[str, str] = {}

    def stop_pressed(self) -> str | None:
        was, self._stops = self._stops, False
        return self.name if was else None

    def noticed(self, what: str) -> None:
        self._screen.print(Text(f"Assistants: {what}.", style="bold yellow"))

    def answer(self, command: AskOperator, snapshot: Snapshot) -> Answered:
        start_s = self._clock()
        said = self._judge(command, snapshot) if command.task == ruling.TASK else self._yes_or_no(command)
        return said, round((self._clock() - start_s) * 1e9)

    def held(self, run: HeldRun) -> tuple[bool | OperatorDecided, int]:
        start_s = self._clock()

        def thought_ns() -> int:
            nonlocal start_s
            now_s = self._clock()
            passed, start_s = now_s - start_s, now_s
            return round(passed * 1e9)

        self._screen.print()
        if run.why_not:
            self._screen.print(Text(f"It did not go on: {run.why_not}", style="bold red"))
        self._screen.print(Text(f"■ HELD: {run.snapshot.message}", style="bold red"))
        self._screen.print(Text(what_to_do(run.snapshot.message)))
        if run.told:
            self._screen.print(Text(f"Assistants: {run.told}."))
        self._tell_what_may_be_decided(run.snapshot)
        while True:
            typed = self._typed("held> ")
            if typed is None or typed.lower() in ("end", "stop"):
                return False, thought_ns()
            if typed.lower() == "go":
                return True, thought_ns()
            if typed.lower() in ("", "help"):
                self._tell_what_may_be_decided(run.snapshot)
                continue
            decision = self._decision(typed, run.snapshot)
            if isinstance(decision, str):
                self._screen.print(Text(f"{decision}. help: what can be typed.", style="yellow"))
            elif decision.kind == "abort":
                return decision, thought_ns()
            else:
                self._screen.print(Text(f"{run.decide(decision, thought_ns())}. go: go on."))

    def _tell_what_may_be_decided(self, snapshot: Snapshot) -> None:
        for word, meaning in (
            ("go", "go on, once the cause is gone and what must be decided is decided"),
            ("end", "leave it held for good: the run is over"),
            *((f"{kind} {TYPED.get(kind, '')}".strip(), KINDS[kind]) for kind in snapshot.may_decide),
        ):
            self._screen.print(Text(f"  {word}: {meaning.replace('`', '')}", style="dim"))

    def _decision(self, typed: str, snapshot: Snapshot) -> OperatorDecided | str:
        """What was typed, a needle's name in any case; what it is not, in words."""
        kind = typed.split()[0]
        if kind not in snapshot.may_decide:
            return f"'{kind}' can't be decided now; can be: go, end, {', '.join(snapshot.may_decide)}"
        decision = decision_of(typed, self.name)
        if isinstance(decision, str):
            return f"{decision} ({kind} {TYPED.get(kind, '')})"
        if decision.needle is not None:
            names = {needle.name.upper(): needle.name for needle in snapshot.needles}
            decision = replace(decision, needle=names.get(decision.needle.upper(), decision.needle))
        return why_not_decided(decision, snapshot) or decision

    # --- one question ---------------------------------------------------------------------------------------

    def _typed(self, prompt: str) -> str | None:
        """A line; None: nobody is there any more."""
        if self._is_gone:
            return None
        try:
            return " ".join(self._ask(prompt).split())
        except EOFError:
            self._is_gone = True
            return None

    def _yes_or_no(self, command: AskOperator) -> OperatorConfirmed | OperatorDeclined:
        prompt = f"{command.text} [y]es, [n]o because ..., stop: "
        while True:
            typed = self._typed(prompt)
            if typed is None:
                return OperatorDeclined(command.number, self.name, _NOBODY)
            kind, _, because = typed.partition(" because ")
            match kind.strip().lower():
                case "y" | "yes":
                    return OperatorConfirmed(command.number, self.name)
                case "n" | "no":
                    return OperatorDeclined(
                        command.number, self.name, because.strip() or f"no to: {command.text}"
                    )
                case "stop":
                    self._stops = True
                    return OperatorDeclined(command.number, self.name, "stop pressed")
            said = f"'{typed}' is no answer. " if typed else ""
            prompt = (
                f"{said}y: yes, and on; n because REASON: no, and it is held; stop: at once, and for good: "
            )

    def _judge(self, command: AskOperator, snapshot: Snapshot) -> OperatorConfirmed | OperatorDeclined:
        sheet = RulingSheet(command, snapshot.needles)
        self._show(sheet, snapshot)
        while True:
            typed = self._typed("needles> ")
            if typed is None:
                return OperatorDeclined(command.number, self.name, _NOBODY)
            kind, _, because = typed.partition(" because ")
            match kind.strip().lower():
                case "go" if not sheet.missing:
                    self._said_before = dict(sheet.answer)
                    return OperatorConfirmed(command.number, self.name, dict(sheet.answer))
                case "go":
                    self._screen.print(
                        Text(f"Nothing is said of {', '.join(sheet.missing)} yet.", style="yellow")
                    )
                case ct if ct.split(" ")[0] == ruling.AGAIN:
                    wanted = sheet.ct(ct)
                    if wanted is not None:
                        return OperatorConfirmed(command.number, self.name, {ruling.CT: wanted})
                    why = f"can be: {', '.join(sheet.cts)}" if sheet.cts else "another CT is not left to you"
                    self._screen.print(Text(f"That CT is not to be had; {why}.", style="yellow"))
                case "show":
                    self._show(sheet, snapshot)
                case "help" | "":
                    self._screen.print(Text(f"{LEGEND}\n{sheet.help}", style="dim"))
                case "hold":
                    return OperatorDeclined(
                        command.number, self.name, because.strip() or "held by the trainee"
                    )
                case "stop":
                    self._stops = True
                    return OperatorDeclined(command.number, self.name, "stop pressed")
                case _:
                    problem = sheet.say(typed)
                    if problem is not None:
                        self._screen.print(Text(f"{problem}.", style="yellow"))
                    elif sheet.missing:
                        self._screen.print(Text(f"Left: {', '.join(sheet.missing)}", style="dim"))
                    else:
                        self._show(sheet, snapshot)

    def _show(self, sheet: RulingSheet, snapshot: Snapshot) -> None:
        table = Table(
            box=None, header_style="bold", padding=(0, 1), title=snapshot.message, title_justify="left"
        )
        table.add_column("needle")
        for heading in ("try", "tip mm", "±", "lateral", "depth", "angle°"):
            table.add_column(heading, justify="right")
        for heading in ("verdict", "proposal x, y, deeper mm", "before", "you say"):
            table.add_column(heading, no_wrap=True)
        for needle in snapshot.needles:
            found = needle.deviation
            if found is None or needle.name not in (sheet.asked.choices or {}):
                continue
            way = sheet.proposal(needle.name)
            table.add_row(
                needle.name + (" ref" if needle.is_reference else ""),
                str(needle.attempt),
                f"{found.total_mm:.1f}",
                f"{found.sigma_mm:.1f}",
                f"{found.lateral_mm:.1f}",
                f"{found.depth_mm:+.1f}",
                f"{found.angle_deg:.1f}",
                Text(f"{SYMBOL[found.verdict]} {found.verdict.value}", style=STYLE[found.verdict]),
                "" if way is None else " ".join(f"{mm:+.1f}" for mm in way),
                self._said_before.get(needle.name, "").partition(" because")[0],
                sheet.words.get(needle.name, "").partition(" because")[0],
            )
        self._screen.print(table)
        if not sheet.missing:
            self._screen.print(Text("Every needle is judged: go, or change a word.", style="dim"))
            return
        if not self._has_seen_help:
            self._screen.print(Text(f"{LEGEND}\n{sheet.help}", style="dim"))
            self._has_seen_help = True
        for hint in sheet.hints:
            self._screen.print(Text(hint, style="yellow"))
        self._screen.print(Text("accept, correct, abandon, again, show, go, hold, stop; help", style="dim"))
