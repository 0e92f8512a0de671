"""The debrief of a training run: at the terminal, as ``debrief.html``, and as files that others read.

Written only when the run is over; until then nothing of the truth is in the folder.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.goals import Goal
from console.pictures import png, svg
from console.plots import dvh_picture
from console.report import dvh_curves, environment
from console.slices import axial_picture, target_slices_mm
from console.training.debrief_pictures import (
    cost_picture,
    learning_picture,
    needles_picture,
    timeline_picture,
)
from console.training.reference import Percentile
from console.training.score import NeedleWord, PlanWord, Score
from console.training.training_record import Run
from console.training.transform_recording import Message, recording_of, write_sequence, write_xml
from controller import ruling
from controller.journal import Record
from controller.result import ProcedureResult, SeedRecord
from controller.truth import Truth
from imaging.deviation import TOLERANCE_MM

HTML, JSON, XML, SEQUENCE = "debrief.html", "debrief.json", "needles.xml", "needles.seq.mha"
REPLAY_SPEED = 20
JUDGED_WORDS = {
    "right": ("✓ right", "good"),
    "missed": ("✗ accepted beyond tolerance", "bad"),
    "not needed": ("✗ corrected within tolerance", "unsure"),
    "given up": ("given up", "unsure"),
}
MOTION_NAMES = {
    "elapsed_s": ("Elapsed time", "s"),
    "path_mm": ("Path length", "mm"),
    "tissue_path_mm": ("Path in tissue", "mm"),
    "tissue_s": ("Time in tissue", "s"),
    "damage_mm2": ("Tissue damage", "mm²"),
}


@dataclass(frozen=True, eq=False)
class Debriefed:
    """Everything that a debrief shows.

    Attributes:
        scenario: the file's words (``title``, ``level``, ``briefing``, ``lesson``, tables), as JSON values.
        marks: pass marks, judged.
        earlier: this trainee's runs, this one last.
        references: how many reference runs the percentiles stand on.
        remarks: of a scripted trainee: words that could not be said.
    """

    trainee: str
    scenario: Mapping[str, Any]
    score: Score
    marks: Sequence[Goal]
    result: ProcedureResult
    truth: Truth
    records: Sequence[Record]
    earlier: Sequence[Run]
    percentiles: Sequence[Percentile]
    references: int
    remarks: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        return all(mark.met for mark in self.marks)


def print_debrief(screen: Console, told: Debriefed, page: Path | None) -> None:
    """What a trainee wants to know first; the page holds the rest."""
    score = told.score
    verdict = Text("✓ passed", style="bold green") if told.passed else Text("✗ not passed", style="bold red")
    screen.print()
    screen.print(Text.assemble((f"Debrief: {told.scenario['title']}  ", "bold"), verdict))
    screen.print(Text(str(told.scenario["lesson"]).strip()))
    screen.print()
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for heading in ("", "pass mark", "wanted", "reached"):
        table.add_column(heading)
    for mark in told.marks:
        sign = Text("✓", style="green") if mark.met else Text("✗", style="bold red")
        table.add_row(sign, mark.name, mark.wanted, mark.reached)
    screen.print(table)
    screen.print()
    rows = Table(box=None, show_header=False, padding=(0, 1))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, words in _facts(told):
        rows.add_row(name, Text(words))
    screen.print(rows)
    wrong = [word for word in score.words if word.judged != "right"]
    if wrong:
        screen.print()
        screen.print(_wrong_table(wrong))
    for alarm in score.alarms:
        after = (
            "nobody answered" if alarm.answered_after_s is None else f"after {alarm.answered_after_s:.0f} s"
        )
        screen.print(Text(f"Alarm at {alarm.t_s:.0f} s: {alarm.reason} | {after}: {alarm.answer or '–'}"))
    for line in told.remarks:
        screen.print(Text(f"Script: {line}", style="yellow"))
    screen.print()
    if page is not None:
        screen.print(Text(f"Debrief: {page}"), soft_wrap=True)
        again = f"seedguide console --procedure {page.parent} --speed {REPLAY_SPEED}"
        screen.print(Text(f"Look at it once more, at any speed: {again}"), soft_wrap=True)
    screen.print(
        Text("Research and training software, not a medical device, not for clinical use.", style="dim")
    )


def _wrong_table(wrong: Sequence[NeedleWord]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1), title="Decisions that the truth contradicts")
    for heading in ("CT", "needle", "you said"):
        table.add_column(heading)
    for heading in ("measured mm", "true mm"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for word in wrong:
        table.add_row(
            str(word.scan),
            word.needle,
            word.word,
            "" if word.measured is None else f"{word.measured.total_mm:.1f} ± {word.measured.sigma_mm:.1f}",
            "" if word.true_mm is None else f"{word.true_mm:.1f}",
            JUDGED_WORDS[word.judged][0],
        )
    return table


def _facts(told: Debriefed) -> list[tuple[str, str]]:
    score, truth = told.score, told.truth
    rows = [
        ("Ended", score.ends.lower() + (f": {told.result.reason}" if told.result.reason else "")),
        (
            "Needles",
            f"{score.missed} accepted beyond {TOLERANCE_MM:g} mm, {score.delivered_beyond} beyond it when seeds left "
            f"them; {score.unneeded} of {score.corrections} corrections not needed",
        ),
        ("CTs, punctures", f"{score.cts} CTs, {score.punctures} punctures"),
        (
            "Time",
            f"{score.minutes:.1f} min, of which {score.thought_s / 60:.1f} min judging and answering holds",
        ),
        (
            "Seeds",
            f"{score.seeds.planned} planned, {score.seeds.counted} counted, {score.seeds.true} truly in the patient, "
            f"{score.seeds.unaccounted} unaccounted for",
        ),
        ("Hidden", _hidden(told.scenario, truth)),
    ]
    rows += [("Loading", _plan_word(word)) for word in score.plan_words]
    if score.dose is not None:
        dose = score.dose
        worst = max(dose.costs, key=lambda cost: cost.ctv_d90_gy)
        rows.append(
            (
                "Dose",
                f"CTV D90 planned {dose.planned['CTV'].d90_gy:.1f} Gy, true {dose.true['CTV'].d90_gy:.1f} Gy; "
                f"GTV {dose.planned['GTV'].d90_gy:.1f} and {dose.true['GTV'].d90_gy:.1f} Gy; "
                f"dearest needle {worst.needle}: {worst.ctv_d90_gy:+.1f} Gy of CTV D90",
            )
        )
    motion = asdict(score.motion)
    rows.append(
        (
            "Needle motion",
            ", ".join(
                f"{words.lower()} {motion[name]:.0f} {unit}" for name, (words, unit) in MOTION_NAMES.items()
            ),
        )
    )
    if told.percentiles:
        words = ", ".join(f"{it.words} {it.pct:.0f} %" for it in told.percentiles)
        rows.append((f"Better than (of {told.references})", words))
    if len(told.earlier) > 1:
        passed = sum(run.passed for run in told.earlier)
        rows.append(("Runs so far", f"{len(told.earlier)}, {passed} passed"))
    return rows


def _plan_word(word: PlanWord) -> str:
    kept, taken = word.ctv_d90_gy
    was, instead = (taken, kept) if word.is_taken else (kept, taken)
    at = int(word.is_taken)
    organ = (
        f"; {word.organ} D2cc {word.organ_d2cc_gy[at]:.1f} instead of {word.organ_d2cc_gy[1 - at]:.1f} Gy"
        if word.organ
        else ""
    )
    return (
        f"{'adapted to the needles as they stood' if word.is_taken else 'kept as planned'}: expected CTV D90 {was:.1f} "
        f"instead of {instead:.1f} Gy ({was - instead:+.1f}), GTV {word.gtv_d90_gy[at]:.1f} instead of "
        f"{word.gtv_d90_gy[1 - at]:.1f} Gy{organ}"
    )


def _hidden(scenario: Mapping[str, Any], truth: Truth) -> str:
    words = [f"the rig stood {truth.setup_mm:.1f} mm from where it was planned"]
    words += [
        f"needle {bent['needle']} was bent (radius {bent['radius_mm']:g} mm)"
        for bent in scenario.get("needles", {}).get("bent", ())
    ]
    words += [f"at {when_s:.0f} s: {_happened(what)}" for when_s, what in truth.happened]
    return "; ".join(words)


def _happened(what: str) -> str:
    """A fault's words (FAULTS.md) as people say it, where the shipped scenarios have it."""
    kind, *rest = what.split()
    match kind, *rest:
        case "patient", "moves", *way:
            return f"the patient moved ({', '.join(way)}) mm"
        case "scan", "stranger":
            return "the CT was another patient's"
        case ("estop",):
            return "the e-stop was pressed"
        case ("jam",):
            return "the stylet jammed"
        case "miscount", number:
            return f"the cartridge held {number} against what was said"
    return what


def write_debrief(told: Debriefed, folder: Path) -> Path:
    """``debrief.html``, ``debrief.json``, and the needles' motion as ``needles.xml`` and ``needles.seq.mha``."""
    recording = recording_of(
        ((pose.needle, pose.t_ns, pose.patient_from_needle) for pose in told.truth.poses),
        [Message(round(alarm.t_s * 1e9), alarm.reason) for alarm in told.score.alarms],
    )
    write_xml(recording, folder / XML)
    write_sequence(recording, folder / SEQUENCE)
    (folder / JSON).write_text(json.dumps(_json(told), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    score = told.score
    cost = cost_picture(score)
    shown = {
        "told": told,
        "score": score,
        "scenario": told.scenario,
        "passed": told.passed,
        "facts": _facts(told),
        "hidden": _hidden(told.scenario, told.truth),
        "told_words": _grouped(score.words),
        "judged": JUDGED_WORDS,
        "motion_names": MOTION_NAMES,
        "motions": {name: asdict(motion) for name, motion in score.motions.items()},
        "motion": asdict(score.motion),
        "tolerance": f"{TOLERANCE_MM:g}",
        "needles_plot": Markup(svg(needles_picture(score))),
        "timeline_plot": Markup(svg(timeline_picture(told.records, score, told.truth))),
        "cost_plot": None if cost is None else Markup(svg(cost)),
        "learning_plot": Markup(svg(learning_picture(told.earlier))) if len(told.earlier) > 1 else None,
        **_dose_pictures(told),
        "doses": _doses(score),
    }
    page = folder / HTML
    page.write_text(environment().get_template("debrief.html.j2").render(shown), encoding="utf-8")
    return page


def _grouped(words: Sequence[NeedleWord]) -> list[NeedleWord | dict[str, Any]]:
    """Those that were rightly accepted, and not for the last time, as one row for each CT."""
    rows: list[NeedleWord | dict[str, Any]] = []
    for scan, of_scan in groupby(words, key=lambda word: word.scan):
        accepted: list[str] = []
        kind = ""
        for word in of_scan:
            kind = word.kind
            if word.word == ruling.ACCEPT and word.judged == "right" and word.cost is None:
                accepted.append(word.needle)
            else:
                rows.append(word)
        if accepted:
            rows.append({"scan": scan, "kind": kind, "needles": accepted})
    return rows


def _dose_pictures(told: Debriefed) -> dict[str, Any]:
    if told.score.dose is None:
        return {"dvh_plot": None, "slices": []}
    true = _truly(told)
    slices = [
        (
            base64.b64encode(png(axial_picture(true, z_mm))).decode("ascii"),
            f"Axial slice at z = {z_mm:.1f} mm",
        )
        for z_mm in target_slices_mm(true, 2)
    ]
    return {
        "dvh_plot": Markup(svg(dvh_picture(dvh_curves(true), true.plan.prescription_gy))),
        "slices": slices,
    }


def _truly(told: Debriefed) -> ProcedureResult:
    """The result as it would read if the last CT had shown every seed where it truly lies."""
    waiting = {needle.name: list(needle.seeds) for needle in told.result.plan.needles}
    seeds, extra = [], []
    for seed in told.truth.seeds:
        if waiting[seed.needle]:
            planned = waiting[seed.needle].pop(0)
            seeds.append(
                SeedRecord(planned.number, seed.needle, planned.centre_mm, "PASS", seed.centre_mm, None)
            )
        else:
            extra.append(seed.centre_mm)
    dose = told.score.dose
    assert dose is not None
    return replace(told.result, delivered=dose.true_dose, seeds=tuple(seeds), unplanned_seeds_mm=tuple(extra))


def _doses(score: Score) -> list[tuple[str, list[str]]]:
    """Rows: structure, then (planned, true, as found) of each figure."""
    dose = score.dose
    if dose is None:
        return []
    rows = []
    for name in dose.planned:
        metrics = ("d90_gy", "v100_pct") if name in ("GTV", "CTV") else ("d2cc_gy", "d01cc_gy")
        cells = []
        for metric in metrics:
            for figures in (dose.planned, dose.true, dose.found or {}):
                value = getattr(figures.get(name), metric, None)
                cells.append("–" if value is None else f"{value:.1f}")
        rows.append((name, cells))
    return rows


def _json(told: Debriefed) -> dict[str, Any]:
    score = told.score
    return {
        "format": "seedguide-debrief/1",
        "trainee": told.trainee,
        "scenario": {key: told.scenario[key] for key in ("title", "level", "lesson")},
        "passed": told.passed,
        "ends": score.ends,
        "marks": [asdict(mark) for mark in told.marks],
        "figures": score.figures(),
        "decisions": [
            {
                "scan": word.scan,
                "kind": word.kind,
                "needle": word.needle,
                "word": word.word,
                "measured": None if word.measured is None else word.measured.to_json(),
                "true_mm": None if word.true_mm is None else round(word.true_mm, 3),
                "judged": word.judged,
                "cost": None if word.cost is None else asdict(word.cost),
            }
            for word in score.words
        ],
        "loading": [asdict(word) for word in score.plan_words],
        "needles": [asdict(needle) for needle in score.needles],
        "alarms": [asdict(alarm) for alarm in score.alarms],
        "seeds": asdict(score.seeds),
        "motion": {name: asdict(motion) for name, motion in score.motions.items()},
        "dose": None
        if score.dose is None
        else {
            "costs": [asdict(cost) for cost in score.dose.costs],
            **{
                name: {
                    structure: {
                        metric: getattr(figures[structure], metric)
                        for metric in ("d90_gy", "v100_pct", "d2cc_gy", "d01cc_gy")
                    }
                    for structure in figures
                }
                for name, figures in (("planned", score.dose.planned), ("true", score.dose.true))
            },
        },
        "truth": {
            "setup_mm": round(told.truth.setup_mm, 3),
            "happened": [{"t_s": when_s, "what": what} for when_s, what in told.truth.happened],
            "punctures": told.truth.punctures,
            "seeds_mm": [{"needle": seed.needle, "centre_mm": seed.centre_mm} for seed in told.truth.seeds],
        },
        "percentiles": [asdict(it) for it in told.percentiles],
    }
