"""The plan on the needles as they really stand: what is asked of the dose's evaluation, and what its answer changes.

Pure. Before the first seed, and after a needle was abandoned, the dose is evaluated where the needles were last seen; a
better loading of these needles is a proposal, used only when a person confirms it. Declined, the plan is kept: that
is a decision too, and holds nothing. Interlocks judge each adapted seed like any other.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from controller.commands import AskOperator, Command
from controller.events import NeedlesEvaluated, OperatorConfirmed, OperatorDeclined
from controller.expectation import expected_seeds
from controller.knowledge import Knowledge, NeedleStory
from planning.adaptation import SAME_MM, Implant, StandingNeedle, seed_centre_mm
from planning.plan import PlannedSeed, Point, rounded_point

TASK = "adapt_plan"


def implant_now(known: Knowledge) -> Implant:
    """Needles that may still take seeds, where they were last seen, and what is in the patient."""
    given = expected_seeds(known)
    return Implant(
        needles=tuple(_standing(known, story) for story in known.needles.values() if _takes_seeds(story)),
        delivered_mm=tuple(_point(centre) for centre, _ in given.values()),
        delivered_directions=tuple(_point(axis) for _, axis in given.values()),
        stock=max(0, len(known.plan.seeds) - known.implanted - known.wasted),
    )


def _takes_seeds(story: NeedleStory) -> bool:
    return story.state == "in place"


def _point(values: Any) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _standing(known: Knowledge, story: NeedleStory) -> StandingNeedle:
    last = story.landings[-1] if story.landings else None
    return StandingNeedle(
        name=story.plan.name,
        tip_mm=_point(story.plan.tip_mm if last is None else last.found_patient_mm),
        direction=_point(story.plan.direction if last is None else last.found_direction),
        retractions_mm=tuple(seed.retraction_mm for seed in known.seeds_left(story)),
        first_retraction_mm=story.plan.seeds[0].retraction_mm,
        drawn_back_mm=max(story.last_z_um, story.intended_z_um) / 1000.0,
    )


def take_in(known: Knowledge, event: NeedlesEvaluated) -> list[Command]:
    """The figures are there: the question that follows, or nothing."""
    known.evaluations.append(event)
    if not event.proposal:
        known.evaluation_due = False
        known.message = in_words(event)
        return []
    return [AskOperator(0, TASK, _question(known, event), is_better=event.is_better)]


def settle(known: Knowledge, answer: OperatorConfirmed | OperatorDeclined) -> None:
    """A person has decided about the last proposal."""
    event, known.evaluation_due = known.evaluations[-1], False
    if isinstance(answer, OperatorDeclined):
        known.message = f"Plan kept by {answer.who}: {answer.reason}"
        return
    known.adopted.append(event.number)
    _adopt(known, event.proposal)
    known.message = f"Plan adapted to the needles as they stand, confirmed by {answer.who}"


def automatic_answer(command: AskOperator, who: str) -> OperatorConfirmed | OperatorDeclined:
    """Nobody watches: used only when the plan's own goals say that it is better."""
    if command.is_better:
        return OperatorConfirmed(command.number, who)
    return OperatorDeclined(command.number, who, "not better by the plan's goals")


def _adopt(known: Knowledge, proposal: dict[str, list[float]]) -> None:
    """Every needle's seeds anew: those delivered keep their numbers, the others take the free ones in order."""
    delivered = set(known.seeds_delivered)
    free = iter(sorted(seed.number for seed in known.plan.seeds if seed.number not in delivered))
    for name, story in known.needles.items():
        kept = [seed for seed in story.seeds if seed.number in delivered]
        if _takes_seeds(story):
            stands = _standing(known, story)
            for retraction_mm in proposal.get(name, []):
                centre = seed_centre_mm(stands, retraction_mm, known.plan.seed_length_mm)
                kept.append(PlannedSeed(next(free), rounded_point(centre), retraction_mm))
        story.adapted = tuple(kept)


def in_words(event: NeedlesEvaluated) -> str:
    """One line of what was found."""
    if event.skipped:
        return f"Dose with the needles as they stand: not computed ({event.skipped})"
    now, planned = event.now["CTV"], event.planned["CTV"]
    words = (
        f"With the needles as they stand CTV D90 {now['d90_gy']:.1f} Gy, planned {planned['d90_gy']:.1f} Gy"
    )
    if not event.missed:
        return f"{words}; every goal that the plan meets is met"
    return f"{words}; missed: {'; '.join(event.missed)}"


def _question(known: Knowledge, event: NeedlesEvaluated) -> str:
    now, then = event.now["CTV"], event.then["CTV"]
    left = {s.plan.name: [seed.retraction_mm for seed in known.seeds_left(s)] for s in known.needles.values()}
    moved = [
        f"{name} {words}"
        for name, retractions in event.proposal.items()
        if (words := changes(left.get(name, []), retractions))
    ]
    before, after = (sum(map(len, some.values())) for some in (left, event.proposal))
    still = (
        f" Still missed: {'; '.join(event.still_missed)}."
        if event.still_missed
        else " Then no goal is missed."
    )
    return (
        f"{in_words(event)}. Proposal on these needles: CTV D90 {now['d90_gy']:.1f} -> {then['d90_gy']:.1f} Gy, "
        f"V100 {now['v100_pct']:.1f} -> {then['v100_pct']:.1f} %, seeds left {before} -> {after}.{still} "
        f"Moved (mm behind the tip): {'; '.join(moved)}. Confirm to use it; decline to keep the plan."
    )


def changes(before_mm: list[float], after_mm: list[float]) -> str:
    """Which seeds of a needle move from where to where, in words; empty when none does."""
    gone = [mm for mm in before_mm if all(abs(mm - other) > SAME_MM for other in after_mm)]
    come = [mm for mm in after_mm if all(abs(mm - other) > SAME_MM for other in before_mm)]
    parts = []
    for old, new in zip_longest(gone, come):
        if old is None:
            parts.append(f"one more at {new:.1f}")
        elif new is None:
            parts.append(f"none at {old:.1f}")
        else:
            parts.append(f"{old:.1f} to {new:.1f} ({abs(new - old):.1f})")
    return ", ".join(parts)
