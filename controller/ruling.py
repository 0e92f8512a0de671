"""What a person rules about each needle after a CT: accept it, correct it, abandon it; or another CT first.  Pure.

Where the settings say that a person judges, nothing is corrected and no seed is given before this word. It never
overrules a measurement: a tip measured beyond the tolerance can't be accepted, and what is accepted counts for the
CT that has shown it, so that ``interlocks.needle_is_verified`` holds back a needle that moves afterwards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from controller import insertion
from controller.commands import AskOperator, Command
from controller.decisions import abandon
from controller.events import OperatorConfirmed
from controller.interlocks import DEEPEST_CORRECTION_MM
from controller.knowledge import Knowledge, NeedleStory
from imaging.deviation import Verdict
from planning.frame import Floats

TASK = "judge_needles"
CT, AGAIN = "CT", "again"
ACCEPT, CORRECT, ABANDON = "accept", "correct", "abandon"
LEAST_OWN_MM, LONGEST_OWN_MM = 0.1, 15.0
"""A person's own correction of a tip (assumed: less is no correction, more is another hole)."""


def may_be_accepted(known: Knowledge, story: NeedleStory) -> bool:
    """Measured within the tolerance, also where the measurement can't tell for certain; never beyond."""
    found = story.deviation
    if found is None or found.verdict is Verdict.BEYOND:
        return False
    return found.verdict is Verdict.WITHIN or found.total_mm <= known.settings.tolerance_mm


def question(known: Knowledge) -> AskOperator:
    """About every needle that stands in the patient: what may be said of it, and what the controller proposes."""
    choices, proposals = {CT: [AGAIN]}, {}
    told = []
    for story in known.inserted:
        name, found = story.plan.name, story.deviation
        words = [ACCEPT] if may_be_accepted(known, story) else []
        if story.attempt < story.attempts_allowed(known.settings) and found is not None:
            words.append(CORRECT)
            assert story.aim_rig_mm is not None
            way = insertion.corrected_aim_mm(known, story) - story.aim_rig_mm
            proposals[name] = [round(float(v), 1) + 0.0 for v in way]
        choices[name] = [*words, ABANDON]
        if found is not None:
            told.append(f"{name} {found.total_mm:.1f} +- {found.sigma_mm:.1f} mm, {found.verdict.value}")
    text = f"Each needle after CT {known.scans}: accept, correct or abandon it, or another CT. {'; '.join(told)}."
    return AskOperator(0, TASK, text, choices=choices, proposals_mm=proposals)


def why_not(asked: AskOperator, values: dict[str, Any]) -> str | None:
    """Why these words are no answer to the question, in a sentence; None when they are."""
    choices = asked.choices or {}
    if values.get(CT) == AGAIN and len(values) == 1 and AGAIN in choices.get(CT, ()):
        return None
    needles = [name for name in choices if name != CT]
    unknown = sorted(set(values) - set(needles))
    if unknown:
        return f"{unknown[0]} is not asked about; asked about are {', '.join(needles)}, or CT {AGAIN} alone"
    silent = [name for name in needles if name not in values]
    if silent:
        return f"nothing is said of {', '.join(silent)}"
    for name in needles:
        word = values[name] if isinstance(values[name], str) else ""
        kind, rest = [*word.split(maxsplit=1), "", ""][:2]
        if kind not in choices[name]:
            return f"{name}: '{word}' can't be said of it now; can be: {', '.join(choices[name])}"
        if kind == ABANDON and not rest.removeprefix("because").strip():
            return f"{name}: to abandon it needs a reason (abandon because ...)"
        if kind == ACCEPT and rest:
            return f"{name}: accept stands alone"
        if kind == CORRECT and rest and isinstance(own_mm(rest), str):
            return f"{name}: {own_mm(rest)}"
    return None


def own_mm(words: str) -> Floats | str:
    """Where a person wants the tip moved, ``(3,)`` mm in the rig's frame (x, y across, z deeper); why not, in words."""
    try:
        way = np.array([float(word) for word in words.split()])
    except ValueError:
        way = np.empty(0)
    length = float(np.linalg.norm(way))
    if len(way) != 3 or not math.isfinite(length):
        return f"'{words}' is not three numbers: mm in x, y and deeper"
    if not LEAST_OWN_MM <= length <= LONGEST_OWN_MM:
        return f"a correction is {LEAST_OWN_MM:g} to {LONGEST_OWN_MM:g} mm long, not {length:.2f}"
    return way


def take_in(
    known: Knowledge, asked: AskOperator, answer: OperatorConfirmed
) -> tuple[str | None, list[Command]]:
    """The word counts: why it can't, in words, or None; and the commands that follow from it."""
    problem = why_not(asked, answer.values)
    if problem is not None:
        return problem, []
    if answer.values.get(CT) == AGAIN:
        known.scan_wished = True
        known.message = f"another CT asked for by {answer.who}"
        return None, []
    commands: list[Command] = []
    ways = {name: _own(word) for name, word in answer.values.items() if word.split()[0] == CORRECT}
    for name, way in ways.items():
        if way is not None and (too_deep := _too_deep(known, known.needles[name], way)):
            return too_deep, []
    for name, word in answer.values.items():
        story, kind = known.needles[name], word.split()[0]
        if kind == ACCEPT:
            story.verified, story.off_target = story.seen, False
        elif kind == ABANDON:
            because = word.removeprefix(ABANDON).strip().removeprefix("because").strip()
            abandon(known, name, f"by {answer.who}: {because}")
    for story in known.inserted:
        if story.plan.name in ways:
            story.off_target = True
            way = ways[story.plan.name]
            commands += (
                insertion.correct(known, story) if way is None else insertion.move_tip(known, story, way)
            )
    if known.judged:
        known.judged[-1] = replace(known.judged[-1], corrected=tuple(ways))
    known.message = f"{len(ways)} needles to correct, judged by {answer.who}"
    return None, commands


def _own(word: str) -> Floats | None:
    rest = word.removeprefix(CORRECT).strip()
    way = own_mm(rest) if rest else None
    assert not isinstance(way, str)  # why_not has looked
    return way


def _too_deep(known: Knowledge, story: NeedleStory, way: Floats) -> str | None:
    """As ``interlocks.depth_is_no_more_than_planned`` will say; told before the needle is drawn out."""
    assert story.aim_rig_mm is not None
    planned = known.plan.planned_patient_from_rig().inverse().apply(story.target_mm)[2]
    over = float(story.aim_rig_mm[2] + way[2] - planned) - DEEPEST_CORRECTION_MM
    if over <= 0.0:
        return None
    return f"needle {story.plan.name} would go {DEEPEST_CORRECTION_MM + over:.1f} mm deeper than planned"
