"""A training run against the truth: what was decided, and what it was worth.  Pure: journal, result and truth -> score.

Times are the procedure's own clock; true deviations are of the tip from where it was to stand at that moment. The
tolerance is the protocol's 2 mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from console.training.dose_cost import DoseScore, NeedleCost
from console.training.needle_motion import NeedleMotion
from controller import adapting, ruling
from controller.journal import Record
from controller.result import ProcedureResult
from controller.truth import Truth
from imaging.deviation import TOLERANCE_MM, Deviation

Judged = Literal["right", "missed", "not needed", "given up"]


@dataclass(frozen=True)
class NeedleWord:
    """What was said of one needle after one CT.

    Attributes:
        word: ``accept``, ``correct`` (as proposed), ``own`` (an amount of one's own) or ``abandon``.
        measured, true_mm: the tip's deviation as the CT showed it, and as it was.
        judged: ``missed``: accepted beyond tolerance; ``not needed``: corrected within it; ``given up``: abandoned.
        cost: of the last word about a needle, with which its seeds were given or not: what that was worth in dose.
    """

    scan: int
    kind: str
    needle: str
    word: str
    measured: Deviation | None
    true_mm: float | None
    judged: Judged
    cost: NeedleCost | None = None


@dataclass(frozen=True)
class PlanWord:
    """Whether a proposed loading of the needles as they stood was taken, and what was expected of both.

    Attributes:
        ctv_d90_gy, gtv_d90_gy: with the plan kept, and with the proposal.
        organ, organ_d2cc_gy: the organ whose D2cc the choice changes most, and both values; "" where none does.
    """

    t_s: float
    is_taken: bool
    ctv_d90_gy: tuple[float, float]
    gtv_d90_gy: tuple[float, float]
    organ: str
    organ_d2cc_gy: tuple[float, float]


@dataclass(frozen=True)
class Alarm:
    """A hold or stop: when, why, how long until a person answered (None: nobody did), and with what."""

    t_s: float
    reason: str
    answered_after_s: float | None
    answer: str


@dataclass(frozen=True)
class NeedleTruth:
    """One needle at the end: as last measured, as it was when it was accepted, and when seeds left it."""

    needle: str
    punctures: int
    measured_mm: float | None
    accepted_true_mm: float | None
    delivered_true_mm: float | None
    word: str


@dataclass(frozen=True)
class SeedTruth:
    """Planned, counted by the journal, truly in the patient, and what the last CT showed."""

    planned: int
    counted: int
    true: int
    found: int | None

    @property
    def unaccounted(self) -> int:
        """Seeds whose place nobody knows: truth and count differ."""
        return abs(self.true - self.counted)


@dataclass(frozen=True)
class Score:
    """One run, measured. ``thought_s``: spent on rulings and holds."""

    ends: str
    words: tuple[NeedleWord, ...]
    needles: tuple[NeedleTruth, ...]
    alarms: tuple[Alarm, ...]
    seeds: SeedTruth
    cts: int
    punctures: int
    minutes: float
    thought_s: float
    motion: NeedleMotion
    motions: dict[str, NeedleMotion] = field(default_factory=dict)
    dose: DoseScore | None = None
    plan_words: tuple[PlanWord, ...] = ()

    def _count(self, judged: Judged, kind: str | None = None) -> int:
        return sum(word.judged == judged and kind in (None, word.kind) for word in self.words)

    @property
    def missed(self) -> int:
        """Needles at full depth that were accepted beyond the tolerance."""
        return self._count("missed", "needles")

    @property
    def missed_references(self) -> int:
        return self._count("missed", "reference")

    @property
    def unneeded(self) -> int:
        """Corrections of needles that stood within the tolerance."""
        return self._count("not needed")

    @property
    def corrections(self) -> int:
        return sum(word.word in ("correct", "own") for word in self.words)

    @property
    def delivered_beyond(self) -> int:
        """Needles that stood beyond the tolerance when seeds left them, whatever was known of it."""
        return sum((it.delivered_true_mm or 0.0) > TOLERANCE_MM for it in self.needles)

    @property
    def slowest_alarm_s(self) -> float | None:
        """Of those that were answered; None: none was."""
        waits = [a.answered_after_s for a in self.alarms if a.answered_after_s is not None]
        return None if not waits else round(max(waits), 1)

    def figures(self) -> dict[str, Any]:
        """What is kept of a run and compared with others; JSON values."""
        dose = self.dose
        return {
            "ends": self.ends,
            "missed": self.missed,
            "missed_references": self.missed_references,
            "delivered_beyond": self.delivered_beyond,
            "unneeded_corrections": self.unneeded,
            "corrections": self.corrections,
            "cts": self.cts,
            "punctures": self.punctures,
            "minutes": round(self.minutes, 2),
            "thought_s": round(self.thought_s, 1),
            "seeds_unaccounted": self.seeds.unaccounted,
            "alarms": len(self.alarms),
            "alarms_unanswered": sum(alarm.answered_after_s is None for alarm in self.alarms),
            "slowest_alarm_s": self.slowest_alarm_s,
            "path_mm": round(self.motion.path_mm, 1),
            "tissue_path_mm": round(self.motion.tissue_path_mm, 1),
            "tissue_s": round(self.motion.tissue_s, 1),
            "damage_mm2": round(self.motion.damage_mm2, 1),
            "gtv_d90_gy": None if dose is None else round(dose.true["GTV"].d90_gy, 2),
            "ctv_d90_gy": None if dose is None else round(dose.true["CTV"].d90_gy, 2),
        }


def score_of(
    records: Sequence[Record],
    result: ProcedureResult,
    truth: Truth,
    ends: str,
    motions: dict[str, NeedleMotion],
    motion: NeedleMotion,
    dose: DoseScore | None,
) -> Score:
    """Everything that the debrief shows."""
    words, thought_s = _words(records, result, truth)
    words = _with_costs(words, dose)
    alarms = _alarms(records)
    in_patient = len(truth.seeds)
    counted = result.final.seeds_delivered
    found = None if result.delivered is None else _found(result)
    return Score(
        ends=ends,
        words=tuple(words),
        needles=tuple(_needles(words, result, truth)),
        alarms=tuple(alarms),
        seeds=SeedTruth(len(result.plan.seeds), counted, in_patient, found),
        cts=sum(r.kind == "intention" and r.body.get("command") == "RequestScan" for r in records),
        punctures=sum(truth.punctures.values()),
        minutes=result.final.virtual_time_s / 60.0,
        thought_s=thought_s + sum(alarm.answered_after_s or 0.0 for alarm in alarms),
        motion=motion,
        motions=motions,
        dose=dose,
        plan_words=tuple(_plan_words(records)),
    )


def _found(result: ProcedureResult) -> int:
    return sum(seed.found_mm is not None for seed in result.seeds) + len(result.unplanned_seeds_mm)


def _words(
    records: Sequence[Record], result: ProcedureResult, truth: Truth
) -> tuple[list[NeedleWord], float]:
    measured = {scan.scan_number: dict(scan.deviations) for scan in result.rounds}
    words, thought_ns = [], 0
    scan, kind, asked = 0, "", {}
    for record in records:
        body = record.body
        if record.kind == "intention" and body.get("command") == "RequestScan":
            scan, kind = int(body["scan"]), str(body["kind"])
        elif record.kind == "intention" and body.get("task") == ruling.TASK:
            asked[int(body["number"])] = record.t_ns
        elif body.get("event") in ("OperatorConfirmed", "OperatorDeclined") and body["number"] in asked:
            thought_ns += record.t_ns - asked[int(body["number"])]
            for needle, said in (body.get("values") or {}).items():
                if needle == ruling.CT:
                    continue
                true_mm = truth.deviation_mm(result.plan, needle, scan, at_reference=kind == "reference")
                word = _word(str(said))
                judged = _judged(word, true_mm)
                found = measured.get(scan, {}).get(needle)
                words.append(NeedleWord(scan, kind, needle, word, found, true_mm, judged))
    return words, thought_ns / 1e9


def _with_costs(words: Sequence[NeedleWord], dose: DoseScore | None) -> list[NeedleWord]:
    costs = {} if dose is None else {cost.needle: cost for cost in dose.costs}
    last = {word.needle: place for place, word in enumerate(words) if word.kind == "needles"}
    return [
        replace(word, cost=costs.get(word.needle)) if last.get(word.needle) == place else word
        for place, word in enumerate(words)
    ]


def _plan_words(records: Sequence[Record]) -> list[PlanWord]:
    found, asked, out = {}, 0, []
    for record in records:
        body = record.body
        if body.get("event") == "NeedlesEvaluated":
            found = body
        elif record.kind == "intention" and body.get("task") == adapting.TASK:
            asked = int(body["number"])
        elif body.get("event") in ("OperatorConfirmed", "OperatorDeclined") and body["number"] == asked:
            asked = 0
            out.append(
                _plan_word(
                    record.t_ns / 1e9, body["event"] == "OperatorConfirmed", found["now"], found["then"]
                )
            )
    return out


def _plan_word(t_s: float, is_taken: bool, kept: dict[str, Any], taken: dict[str, Any]) -> PlanWord:
    def both(structure: str, figure: str) -> tuple[float, float]:
        return float(kept[structure][figure]), float(taken[structure][figure])

    organs = {
        name: both(name, "d2cc_gy")
        for name in kept
        if name not in ("GTV", "CTV") and kept[name].get("d2cc_gy") is not None
    }
    most = max(organs, key=lambda name: abs(organs[name][1] - organs[name][0]), default="")
    return PlanWord(
        t_s, is_taken, both("CTV", "d90_gy"), both("GTV", "d90_gy"), most, organs.get(most, (0.0, 0.0))
    )


def _word(said: str) -> str:
    kind, *rest = said.split()
    return "own" if kind == ruling.CORRECT and rest else kind


def _judged(word: str, true_mm: float | None) -> Judged:
    if word == ruling.ABANDON:
        return "given up"
    is_beyond = true_mm is not None and true_mm > TOLERANCE_MM
    if word == ruling.ACCEPT:
        return "missed" if is_beyond else "right"
    return "right" if is_beyond else "not needed"


def _needles(words: Sequence[NeedleWord], result: ProcedureResult, truth: Truth) -> list[NeedleTruth]:
    out = []
    for status in result.final.needles:
        own = [word for word in words if word.needle == status.name and word.kind == "needles"]
        accepted = next((word for word in reversed(own) if word.word == ruling.ACCEPT), None)
        tip = truth.at_delivery_mm.get(status.name)
        planned = result.plan.needle(status.name).tip_mm
        out.append(
            NeedleTruth(
                needle=status.name,
                punctures=truth.punctures.get(status.name, 0),
                measured_mm=None if status.deviation is None else status.deviation.total_mm,
                accepted_true_mm=None if accepted is None else accepted.true_mm,
                delivered_true_mm=None if tip is None else float(np.linalg.norm(np.subtract(tip, planned))),
                word=own[-1].word if own else "",
            )
        )
    return out


def _alarms(records: Sequence[Record]) -> list[Alarm]:
    """A hold is answered by the first thing that a person decides or lets go on after it."""
    alarms: list[Alarm] = []
    is_open = False
    for record in records:
        body = record.body
        if record.kind == "decision" and body.get("to") in ("HELD", "STOPPED") and not _is_own(body):
            stopped = body["to"] == "STOPPED"
            answer = "stopped by a person" if stopped else ""
            alarms.append(
                Alarm(record.t_ns / 1e9, str(body.get("because", "")), 0.0 if stopped else None, answer)
            )
            is_open = not stopped
        elif is_open and (answer := _answer(record)):
            last = alarms[-1]
            waited_s = record.t_ns / 1e9 - last.t_s
            alarms[-1] = Alarm(last.t_s, last.reason, waited_s, answer)
            is_open = False
    return alarms


def _is_own(body: Mapping[str, Any]) -> bool:
    """A person has said no on purpose: what they hold themselves raises no alarm."""
    because = str(body.get("because", ""))
    return because.startswith("declined by ") and "nobody " not in because


def _answer(record: Record) -> str:
    body = record.body
    if body.get("event") == "OperatorDecided":
        needle = f" {body['needle']}" if body.get("needle") else ""
        return str(body["kind"]).replace("_", " ") + needle
    if record.kind == "recovery":
        return "taken back" if body.get("may_go_on") else "tried to go on"
    return ""
