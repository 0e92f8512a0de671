"""What a person rules about each needle after a CT: accept it, correct it, abandon it; or another CT first.  Pure.

Where the settings say that a person judges, nothing is corrected and no seed is given before this word. It never
overrules a measurement: a tip measured beyond the tolerance can't be accepted, and what is accepted counts for the
CT that has shown it, so that ``interlocks.needle_is_verified`` holds back a needle that moves afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from controller import insertion
from controller.commands import AskOperator, Command
from controller.decisions import abandon
from controller.events import OperatorConfirmed
from controller.interlocks import DEEPEST_CORRECTION_MM, deepest_z_mm
from controller.knowledge import Knowledge, NeedleStory
from imaging.deviation import Verdict
from planning.frame import Floats

TASK = "judge_needles"
CT, AGAIN = "CT", "again"
ACCEPT, CORRECT, OWN, ABANDON = "accept", "correct", "own", "abandon"
"""``own``: it may be corrected by an amount of one's own; said as ``correct X Y Z``."""
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
    choices, proposals = {CT: _cts(known)}, {}
    told, short = [], []
    for story in known.inserted:
        name, found = story.plan.name, story.deviation
        words = [ACCEPT] if may_be_accepted(known, story) else []
        if story.attempt < story.attempts_allowed(known.settings) and found is not None:
            assert story.aim_rig_mm is not None
            if insertion.is_within_reach(known, story):
                words.append(CORRECT)
                way = insertion.corrected_aim_mm(known, story) - story.aim_rig_mm
                proposals[name] = [round(float(v), 1) + 0.0 for v in way]
            words.append(OWN)
            if short_mm := insertion.short_mm(known, story):
                short.append(f"{name} {short_mm:.1f} mm")
        choices[name] = [*words, ABANDON]
        if found is not None:
            told.append(f"{name} {found.total_mm:.1f} +- {found.sigma_mm:.1f} mm, {found.verdict.value}")
    text = f"Each needle after CT {known.scans}: accept, correct or abandon it, or another CT. {'; '.join(told)}."
    if choices[CT][0] != AGAIN:
        text += (
            f"\nSlices of {known.slice_seen_mm:g} mm can't decide {known.settings.tolerance_mm:g} mm; "
            f"another CT may have thinner ones ({choices[CT][0]})."
        )
    if short:
        text += (
            f"\nCorrected, a tip would still be too shallow by {', '.join(short)}: it may go no more than "
            f"{DEEPEST_CORRECTION_MM:g} mm deeper than planned."
        )
    return AskOperator(0, TASK, text, choices=choices, proposals_mm=proposals)


def _cts(known: Knowledge) -> list[str]:
    """Which other CT may be asked for; first the thinnest slices, where a needle can't be told with thicker ones."""
    slices_mm = sorted(known.settings.slices_mm)
    words = [AGAIN, *(f"{AGAIN} {mm:g}" for mm in slices_mm)]
    cannot_tell = any(
        s.deviation is not None and s.deviation.verdict is Verdict.CANNOT_TELL for s in known.inserted
    )
    if slices_mm and cannot_tell and (known.slice_seen_mm or 0.0) > slices_mm[0] * 1.01:
        words.insert(0, words.pop(1))
    return words


def why_not(asked: AskOperator, values: dict[str, Any]) -> str | None:
    """Why these words are no answer to the question, in a sentence; None when they are."""
    choices = asked.choices or {}
    if CT in values and len(values) == 1 and CT in choices:
        if values[CT] in choices[CT]:
            return None
        return f"another CT can't be had as '{values[CT]}'; can be: {', '.join(choices[CT]) or 'none'}"
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
        if (OWN if kind == CORRECT and rest else kind) not in choices[name] or kind == OWN:
            return f"{name}: '{word}' can't be said of it now; can be: {in_words(choices[name])}"
        if kind == ABANDON and not rest.removeprefix("because").strip():
            return f"{name}: to abandon it needs a reason (abandon because ...)"
        if kind == ACCEPT and rest:
            return f"{name}: accept stands alone"
        if kind == CORRECT and rest and isinstance(own_mm(rest), str):
            return f"{name}: {own_mm(rest)}"
    return None


def in_words(choices: Sequence[str]) -> str:
    """What may be said of a needle, as it is said."""
    return ", ".join(f"{CORRECT} X Y Z" if word == OWN else word for word in choices)


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
    if CT in answer.values:
        known.scan_wished = True
        slices = str(answer.values[CT]).removeprefix(AGAIN).strip()
        known.slice_wished_mm = float(slices) if slices else known.slice_wished_mm
        with_slices = f" with slices of {slices} mm" if slices else ""
        known.message = f"another CT{with_slices} asked for by {answer.who}"
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
    over = float(story.aim_rig_mm[2] + way[2]) - deepest_z_mm(known, story)
    if over <= 0.0:
        return None
    return f"needle {story.plan.name} would go {DEEPEST_CORRECTION_MM + over:.1f} mm deeper than planned"
