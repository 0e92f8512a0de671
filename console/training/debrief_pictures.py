"""The pictures of a debrief: measured against true, the run in time, what each needle cost, the learning curve."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from console.training.score import Score
from console.training.training_record import Run
from controller import ruling
from controller.journal import Record
from controller.truth import Truth
from imaging.deviation import TOLERANCE_MM

TRUE, MEASURED, BAD, GOOD = "#b3261e", "#1d5c87", "#b3261e", "#17694a"


def needles_picture(score: Score) -> Figure:
    """Each needle at the last CT that judged it: measured with its uncertainty, and as it truly stood."""
    last = {word.needle: word for word in score.words if word.kind == "needles"}
    figure = Figure(figsize=(max(5.5, 1.4 + 0.55 * len(last)), 3.4), layout="constrained")
    axes = figure.subplots()
    delivered = {it.needle: it.delivered_true_mm for it in score.needles}
    for x, word in enumerate(last.values()):
        if word.measured is not None:
            axes.errorbar(
                x - 0.12,
                word.measured.total_mm,
                word.measured.sigma_mm,
                fmt="s",
                color=MEASURED,
                ms=5,
                capsize=3,
            )
        if word.true_mm is not None:
            missed = word.judged == "missed"
            axes.plot(x + 0.12, word.true_mm, "o", mfc=TRUE if missed else "white", mec=TRUE, ms=6, mew=1.5)
        later = delivered.get(word.needle)
        if later is not None and word.true_mm is not None and abs(later - word.true_mm) > 0.3:
            axes.annotate(
                "",
                (x + 0.12, later),
                (x + 0.12, word.true_mm),
                arrowprops={"arrowstyle": "->", "color": TRUE, "lw": 1.2},
            )
    axes.axhline(TOLERANCE_MM, color="#444", ls="--", lw=1.0)
    axes.set_xticks(range(len(last)), list(last), rotation=60, fontsize=8)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("tip deviation, mm")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=[
            Line2D([], [], marker="s", color=MEASURED, ls="", label="measured ± 1 σ"),
            Line2D([], [], marker="o", mfc="white", mec=TRUE, ls="", label="true"),
            Line2D([], [], marker="o", color=TRUE, ls="", label="true, accepted beyond"),
            Line2D([], [], color=TRUE, marker=">", label="moved before delivery"),
        ],
        ncols=4,
        frameon=False,
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    return figure


def timeline_picture(records: Sequence[Record], score: Score, truth: Truth) -> Figure:
    """The run on its own clock: CTs, the time thought about needles, holds, what was played, seeds."""
    figure = Figure(figsize=(9.2, 2.9), layout="constrained")
    axes = figure.subplots()
    asked: dict[int, float] = {}
    seeds: list[float] = []
    for record in records:
        t_min, body = record.t_ns / 6e10, record.body
        if record.kind == "intention" and body.get("command") == "RequestScan":
            axes.plot(t_min, 3, "v", color=MEASURED, ms=7)
            axes.annotate(f"{body['scan']}", (t_min, 3.25), ha="center", fontsize=7)
        elif record.kind == "intention" and body.get("task") == ruling.TASK:
            asked[int(body["number"])] = t_min
        elif body.get("event") in ("OperatorConfirmed", "OperatorDeclined") and body["number"] in asked:
            start = asked[int(body["number"])]
            axes.barh(2, max(t_min - start, 0.05), left=start, height=0.5, color="#8a5a00")
        elif body.get("event") == "SeedDropped" and body.get("outcome") == "PASS":
            seeds.append(t_min)
    for alarm in score.alarms:
        waited = (alarm.answered_after_s or 0.0) / 60.0
        axes.barh(1, max(waited, 0.3), left=alarm.t_s / 60.0, height=0.5, color=BAD)
    for when_s, words in truth.happened:
        axes.plot(when_s / 60.0, 0, "x", color="#7b2cbf")
        axes.annotate(words, (when_s / 60.0, 0.2), fontsize=7, ha="left", rotation=12)
    if seeds:
        axes.plot(seeds, [4.0] * len(seeds), "|", color=GOOD, ms=9)
    axes.set_yticks(range(5), ["played", "held", "judging needles", "CTs", "seeds"], fontsize=8)
    axes.set_ylim(-0.6, 4.6)
    axes.set_xlim(0.0, max(score.minutes * 1.02, 0.1))
    axes.set_xlabel("minutes on the procedure's clock", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def cost_picture(score: Score) -> Figure | None:
    """What each needle cost in CTV D90 and in the organ it touched most; None: no dose."""
    if score.dose is None:
        return None
    costs = score.dose.costs
    figure = Figure(figsize=(max(5.5, 1.4 + 0.55 * len(costs)), 3.0), layout="constrained")
    axes = figure.subplots()
    for x, cost in enumerate(costs):
        axes.bar(x - 0.2, cost.ctv_d90_gy, 0.38, color=BAD if cost.ctv_d90_gy > 0 else GOOD)
        axes.bar(x + 0.2, cost.organ_d2cc_gy, 0.38, color="#f8961e")
    axes.axhline(0.0, color="#444", lw=0.8)
    axes.set_xticks(range(len(costs)), [cost.needle for cost in costs], rotation=60, fontsize=8)
    axes.set_ylabel("Gy worse than as planned")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=[
            Patch(color=BAD, label="CTV D90 lost"),
            Patch(color=GOOD, label="CTV D90 gained"),
            Patch(color="#f8961e", label="organ D2cc added"),
        ],
        ncols=3,
        frameon=False,
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    return figure


def learning_picture(runs: Sequence[Run]) -> Figure:
    """A trainee's runs in order: decisions against the truth, CTs and time."""
    figure = Figure(figsize=(9.2, 2.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    x = list(range(1, len(runs) + 1))
    for axes, names, title in (
        (left, (("missed", BAD), ("unneeded_corrections", "#8a5a00")), "wrong decisions"),
        (middle, (("cts", MEASURED), ("corrections", "#1d7874")), "CTs and corrections"),
        (right, (("minutes", "#444"),), "minutes"),
    ):
        for name, colour in names:
            values = [run.figures.get(name) or 0.0 for run in runs]
            axes.plot(x, values, "-", color=colour, lw=1.2, label=name.replace("_", " "))
            for at, value, run in zip(x, values, runs, strict=True):
                axes.plot(at, value, "o", mec=colour, mfc=colour if run.passed else "white", ms=5)
        axes.set_title(title, fontsize=9)
        axes.set_xticks(x if len(x) <= 12 else x[:: len(x) // 12 + 1])
        axes.set_ylim(bottom=0.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=7)
    left.set_xlabel("run (filled: passed)", fontsize=8)
    return figure
