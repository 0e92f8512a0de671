"""A trainee that is a file: rules for needles, questions, holds; for tests and reference runs (SCENARIOS.md)."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from console.training.ruling_sheet import RulingSheet
from console.training.terminal import Answered, HeldRun
from controller import ruling
from controller.commands import AskOperator
from controller.decisions import decision_of
from controller.events import OperatorConfirmed, OperatorDecided, OperatorDeclined
from controller.snapshot import Snapshot
from imaging.deviation import Deviation, Verdict
from planning.refusal import AskedWrongly
from planning.toml_table import Between, build

Rule = Literal["accept", "correct", "abandon", "again", "thinner"]


@dataclass(frozen=True)
class NeedleRules:
    """By the measured verdict. A rule that can't be followed now falls through: accept, correct, abandon.

    ``again``: another CT, at most ``looks`` times in a row; then ``correct``. ``thinner``: another CT with thinner
    slices where the controller proposes one; else as ``again``. ``after_motion``: another CT when the patient was seen
    to move since the last one.
    """

    within: Rule = "accept"
    cannot_tell: Rule = "correct"
    beyond: Rule = "correct"
    looks: Annotated[int, Between(0, 20)] = 1
    after_motion: bool = True


@dataclass(frozen=True)
class TakesS:
    """How long the trainee takes, s of the procedure's clock."""

    question: Annotated[float, Between(0.0, 86_400.0)] = 10.0
    needles: Annotated[float, Between(0.0, 86_400.0)] = 60.0
    hold: Annotated[float, Between(0.0, 86_400.0)] = 45.0


@dataclass(frozen=True)
class Say:
    """At the CT of this number: words as typed (``correct N05 0 0 2``), or ``again`` (``again 1.25``)."""

    scan: Annotated[int, Between(1, 1000)]
    words: str


@dataclass(frozen=True)
class AnswerRule:
    """To questions of this task, and whose text the expression ``about`` is found in: yes, or no."""

    task: str
    word: Literal["yes", "no"]
    because: str = "by the script"
    about: str = ""


@dataclass(frozen=True)
class HeldRule:
    """Where ``reason`` (an expression) is found in why it is held, or in what the assistants say: decisions, then on.

    At most ``times`` in a run.
    """

    reason: str
    decide: tuple[str, ...] = ()
    then: str = "go"
    times: Annotated[int, Between(1, 100)] = 3


@dataclass(frozen=True)
class Script:
    """The file."""

    version: Annotated[int, Between(1, 1)]
    name: str
    needles: NeedleRules = NeedleRules()
    takes_s: TakesS = TakesS()
    say: tuple[Say, ...] = ()
    answer: tuple[AnswerRule, ...] = ()
    held: tuple[HeldRule, ...] = ()


def read_script(path: Path) -> Script:
    """Raises AskedWrongly: not readable, not TOML, or a key that is wrong; one sentence with file and key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise AskedWrongly(f"{path}: can't be read as TOML ({problem}).") from problem
    script = build(Script, table, str(path), "the trainee's script")
    for expression in (*(rule.about for rule in script.answer), *(rule.reason for rule in script.held)):
        try:
            re.compile(expression)
        except re.error as problem:
            raise AskedWrongly(
                f"{path}: '{expression}' is no expression ({problem}); correct it."
            ) from problem
    for place, held in enumerate(script.held, 1):
        for line in (*held.decide, *((held.then,) if held.then not in ("go", "end") else ())):
            decision = decision_of(line, script.name)
            if isinstance(decision, str):
                raise AskedWrongly(f"{path}: held.{place}: {decision}.")
    return script


@dataclass
class ScriptedTrainee:
    """Follows its script; the same every time."""

    script: Script
    told: list[str] = field(default_factory=list)
    """Words of the script that could not be said, and why."""
    _looked: int = 0
    _moved: bool = False
    _held: Counter[int] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.script.name

    def stop_pressed(self) -> str | None:
        return None

    def noticed(self, what: str) -> None:
        self._moved = self._moved or "moved" in what

    def answer(self, command: AskOperator, snapshot: Snapshot) -> Answered:
        if command.task == ruling.TASK:
            words = self._judge(command, snapshot)
            took_ns = round(self.script.takes_s.needles * 1e9)
            return OperatorConfirmed(command.number, self.name, dict(words)), took_ns
        took_ns = round(self.script.takes_s.question * 1e9)
        for rule in self.script.answer:
            if rule.task == command.task and re.search(rule.about, command.text) and rule.word == "no":
                return OperatorDeclined(command.number, self.name, rule.because), took_ns
        return OperatorConfirmed(command.number, self.name), took_ns

    def held(self, run: HeldRun) -> tuple[bool | OperatorDecided, int]:
        took_ns = round(self.script.takes_s.hold * 1e9)
        for place, rule in enumerate(self.script.held):
            why = f"{run.snapshot.message}; {run.told}"
            if not re.search(rule.reason, why) or self._held[place] >= rule.times:
                continue
            self._held[place] += 1
            for line in rule.decide:
                decision = decision_of(line, self.name)
                if isinstance(decision, OperatorDecided):
                    self.told.append(run.decide(decision, took_ns))
            if rule.then in ("go", "end"):
                return rule.then == "go", took_ns
            last = decision_of(rule.then, self.name)
            return last if isinstance(last, OperatorDecided) else False, took_ns
        return False, took_ns

    # --- needles --------------------------------------------------------------------------------------------

    def _judge(self, command: AskOperator, snapshot: Snapshot) -> dict[str, str]:
        sheet = RulingSheet(command, snapshot.needles)
        choices = command.choices or {}
        scan = int((re.search(r"after CT (\d+)", command.text) or [0, 0])[1])
        said = [rule.words for rule in self.script.say if rule.scan == scan]
        another = [ct for words in said if (ct := sheet.ct(words)) is not None]
        if another:
            return {ruling.CT: another[0]}
        wanted = {needle.name: self._rule(needle.deviation) for needle in snapshot.needles}
        may_look = ruling.AGAIN in choices.get(ruling.CT, ())
        moved, self._moved = self._moved, False
        if may_look and moved and self.script.needles.after_motion:
            return {ruling.CT: ruling.AGAIN}
        may_look = may_look and self._looked < self.script.needles.looks
        looks = [wanted.get(name) for name in sheet.missing if wanted.get(name) in ("again", "thinner")]
        if "thinner" in looks and sheet.cts and sheet.cts[0] != ruling.AGAIN:
            return {ruling.CT: sheet.cts[0]}
        if may_look and looks:
            self._looked += 1
            return {ruling.CT: ruling.AGAIN}
        self._looked = 0
        for name in sheet.missing:
            first = wanted.get(name, "correct")
            for word in (first, ruling.ACCEPT, ruling.CORRECT, ruling.ABANDON):
                if word in choices[name]:
                    reason = " because no correction is left" if word == ruling.ABANDON else ""
                    sheet.say(f"{word} {name}{reason}")
                    break
        for words in said:
            problem = sheet.say(words)
            if problem is not None:
                self.told.append(f"CT {scan}: '{words}': {problem}")
        return sheet.answer

    def _rule(self, found: Deviation | None) -> Rule:
        rules = self.script.needles
        rule = rules.cannot_tell
        if found is not None and found.verdict is not Verdict.CANNOT_TELL:
            rule = rules.within if found.verdict is Verdict.WITHIN else rules.beyond
        return rule if rule not in ("again", "thinner") or self._looked < rules.looks else "correct"
