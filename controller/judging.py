"""What a CT means: each needle within, beyond, or not to be told; the rig's pose; why it can't go on.

Knows findings and what is known; moves nothing and decides no state.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from controller.commands import RequestScan
from controller.guidance import Landing, estimate_rig
from controller.insertion import is_within_reach, short_mm
from controller.interlocks import DEEPEST_CORRECTION_MM, scan_belongs_to_plan
from controller.knowledge import JudgedScan, Knowledge, NeedleStory
from imaging.deviation import Verdict, deviation
from imaging.rescan import RescanFindings, SeenNeedle
from planning.plan import rounded_point


def judge_scan(known: Knowledge, command: RequestScan, findings: RescanFindings) -> tuple[str, str]:
    """Take in what a CT of this patient shows; the trigger that follows, and why, in words."""
    stranger = scan_belongs_to_plan(findings, known.plan)
    if stranger is not None:
        return "fault_seen", f"CT {command.scan} not used: {stranger}"
    known.scan_is_usable, known.scan_problem, known.unseen = True, "", ()
    for story in known.needles.values():
        story.off_target, story.correction = False, None
    series = findings.identity.series_uid
    if series in known.series_used:
        known.scan_is_usable = False
        known.scan_problem = (
            f"it is the series of CT {known.series_used[series]}, judged before; the newest series is wanted"
        )
        return "scan_judged", f"CT {command.scan}: {known.scan_problem}"
    early = _taken_early(known, findings)
    if early:
        known.scan_is_usable, known.scan_problem = False, early
        return "scan_judged", f"CT {command.scan}: {early}"
    known.series_used[series] = command.scan
    if findings.identity.acquired is not None:
        known.last_acquired = findings.identity.acquired[1], command.scan
    known.slice_seen_mm = findings.identity.slice_thickness_mm
    if not findings.registered:
        known.scan_is_usable = False
        known.scan_problem = f"the patient in it can't be matched with the planning CT ({findings.problem})"
    elif command.kind != "seeds":
        _judge_needles(known, command, findings)
    else:
        known.judged.append(JudgedScan(command.scan, command.kind))
        known.seeds_seen = len(findings.seeds)
        known.message = f"CT {command.scan}: {len(findings.seeds)} seeds seen"
        return "scan_judged", known.message
    seen = f"CT {command.scan}: {_in_words(known)}"
    return "scan_judged", known.scan_problem or seen


def _taken_early(known: Knowledge, findings: RescanFindings) -> str:
    """Why it shows nothing new, or empty: a CT that comes late, such as a second reconstruction of the one before.

    Times of one scanner's clock are compared with one another, never with ours. A CT that was taken after the one
    before but before the last motion is not told by this; who sends it answers for that.
    """
    acquired, last = findings.identity.acquired, known.last_acquired
    if acquired is None or last is None or acquired[0] > last[0]:
        return ""
    return (
        f"it was acquired at {acquired[0][:19]}, not after CT {last[1]} ({last[0][:19]}), perhaps another "
        "reconstruction of it; the newest CT is wanted (if the scanner's clock was set back, take another)"
    )


def _in_words(known: Knowledge) -> str:
    """What follows; where a person judges, only what was measured."""
    if not known.settings.person_judges:
        return f"{len(known.off_target)} of {len(known.inserted)} needles to correct"
    found = [story.deviation.verdict for story in known.inserted if story.deviation is not None]
    return ", ".join(f"{found.count(verdict)} {verdict.value}" for verdict in Verdict)


TWINS_MM = 1.27
"""Nearer than a needle is thick (18 G) two tips are one."""


def told_apart(findings: RescanFindings) -> dict[str, SeenNeedle]:
    """Named needles that the CT shows; where one shaft was given two names, it is not known which of both it is."""
    named = {needle.name: needle for needle in findings.needles if needle.name is not None}
    twins: set[str] = set()
    for one, other in combinations(named, 2):
        if float(np.linalg.norm(np.subtract(named[one].tip_mm, named[other].tip_mm))) < TWINS_MM:
            twins |= {one, other}
    return {name: needle for name, needle in named.items() if name not in twins}


def _judge_needles(known: Knowledge, command: RequestScan, findings: RescanFindings) -> None:
    found = told_apart(findings)
    known.unseen = tuple(s.plan.name for s in known.inserted if s.plan.name not in found)
    for story in known.inserted:
        needle = found.get(story.plan.name)
        if needle is None or story.aim_rig_mm is None:
            continue
        landing = Landing(story.aim_rig_mm, np.array(needle.tip_mm), np.array(needle.direction))
        story.land(landing, known.settings.same_path_mm)
        story.deviation = deviation(
            story.target_mm,
            story.plan.direction,
            needle.tip_mm,
            needle.direction,
            needle.sigma_mm,
            tolerance_mm=known.settings.tolerance_mm,
        )
        story.first_deviation = story.first_deviation or story.deviation
        story.off_target = not _is_accepted(known, story, story.is_accepted)
        story.seen = command.motion
        story.verified = None if story.off_target or known.settings.person_judges else command.motion
    landings = [story.landings[-1] for story in known.inserted if story.landings]
    if command.kind == "reference" and landings:
        known.rig = estimate_rig(known.plan.planned_patient_from_rig(), landings)
    seen = [story for story in known.inserted if story.plan.name in found and story.deviation is not None]
    known.judged.append(
        JudgedScan(
            command.scan,
            command.kind,
            tuple((s.plan.name, s.deviation) for s in seen if s.deviation is not None),
            {s.plan.name: rounded_point(found[s.plan.name].tip_mm) for s in seen},
            {s.plan.name: rounded_point(found[s.plan.name].direction) for s in seen},
            () if known.settings.person_judges else tuple(s.plan.name for s in known.off_target),
        )
    )


def _is_accepted(known: Knowledge, story: NeedleStory, stood_still: bool) -> bool:
    """Within is accepted. A tip that can't be told is corrected as long as attempts remain; after the last
    one, or when it was accepted before and has not moved, its measured deviation decides: exactly the
    tolerance is within."""
    found = story.deviation
    if found is None or found.verdict is Verdict.BEYOND:
        return False
    if found.verdict is Verdict.WITHIN:
        return True
    used_up = story.attempt >= story.attempts_allowed(known.settings)
    return (used_up or stood_still) and found.total_mm <= known.settings.tolerance_mm


def why_held(known: Knowledge, message: str) -> str:
    """Why the table led to HELD after a CT, in words."""
    if known.unseen:
        return f"needles not seen in {known.scans_in_round} CTs: {', '.join(known.unseen)}"
    if not known.scan_is_usable:
        return f"no usable CT after {known.scans_in_round}: {known.scan_problem}"
    if known.rig is not None and not known.rig.is_usable:
        return (
            "the reference needles don't agree on where the rig stands "
            f"(residual {known.rig.residual_mm:.1f} mm); check how the template sits"
        )
    if known.seeds_seen > known.implanted:
        return (
            f"the CT shows {known.seeds_seen} seeds, {known.implanted} were counted as implanted: count what was "
            "loaded, left in the cartridges and wasted, and look at each place in the CT before the number is accepted"
        )
    spent = [s for s in known.off_target if s.attempt >= s.attempts_allowed(known.settings)]
    if spent:
        told = ", ".join(
            f"{s.plan.name} {s.deviation.total_mm:.1f} mm" for s in spent if s.deviation is not None
        )
        return f"still off target after {max(s.attempt for s in spent)} attempts: {told}"
    deep = [s for s in known.off_target if not is_within_reach(known, s)]
    if deep:
        told = ", ".join(f"{s.plan.name} {short_mm(known, s):.1f} mm" for s in deep)
        return (
            f"too shallow even if corrected as deep as is allowed ({DEEPEST_CORRECTION_MM:g} mm more than planned): "
            f"{told}; check how the template sits and whether the patient has moved, or abandon them"
        )
    return message
