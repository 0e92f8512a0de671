"""The tables that end a run on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.goals import Goal
from console.live import SYMBOL
from controller.result import ProcedureResult
from imaging.deviation import Deviation


def print_summary(
    screen: Console, result: ProcedureResult, goals: Sequence[Goal], report: Path | None
) -> None:
    """Everything a person wants to know first; the report holds the rest."""
    table = Table(
        title=f"Procedure {result.status}", title_style="bold", box=None, show_header=False, padding=(0, 1)
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in summary_rows(result):
        table.add_row(Text(name), Text(words))
    screen.print(table)
    screen.print()
    judged = Table(box=None, header_style="bold", padding=(0, 1))
    for heading in ("", "goal", "wanted", "reached"):
        judged.add_column(heading)
    for goal in goals:
        mark = Text("✓ met", style="green") if goal.met else Text("✗ missed", style="bold red")
        judged.add_row(mark, Text(goal.name), Text(goal.wanted), Text(goal.reached))
    screen.print(judged)
    screen.print()
    if report is not None:
        screen.print(Text(f"Report: {report}"), soft_wrap=True)
    screen.print(
        Text("Research and training software, not a medical device, not for clinical use.", style="dim")
    )


def summary_rows(result: ProcedureResult) -> list[tuple[str, str]]:
    """The table's rows as (name, words)."""
    plan, needles = result.plan, result.final.needles
    corrections = sum(len(scan.corrected) for scan in result.rounds)
    found = sum(seed.found_mm is not None for seed in result.seeds)
    extra = f", {len(result.unplanned_seeds_mm)} more than planned" if result.unplanned_seeds_mm else ""
    rows = [
        ("Target", f"{plan.target} + {plan.margin_mm:g} mm, {plan.prescription_gy:g} Gy"),
        (
            "Needles",
            f"{len(plan.needles)}, of which {len(plan.reference_needles)} reference needles"
            + (
                " (" + ", ".join(n.name for n in plan.reference_needles) + ")"
                if plan.reference_needles
                else ""
            ),
        ),
        ("First pass", deviations_in_words([n.first_deviation for n in needles])),
        ("Final", deviations_in_words([n.deviation for n in needles])),
        ("CTs, corrections", f"{len(result.rounds)} CTs, {corrections} needle corrections"),
        (
            "Seeds",
            f"{len(plan.seeds)} planned, {result.seeds_in_journal} delivered, "
            + (f"{found} found in the last CT{extra}" if result.delivered is not None else "no last CT"),
        ),
        *dose_rows(result),
        ("Journal digest", result.digest),
        ("Time per step", times_in_words(result.seconds)),
    ]
    rows += [("Fault", fault) for fault in result.faults]
    if result.reason:
        rows.insert(0, ("Held because", result.reason))
    return rows


def dose_rows(result: ProcedureResult) -> list[tuple[str, str]]:
    """D90 and V100 of the targets, planned and delivered side by side."""
    rows = []
    for name in ("GTV", "CTV"):
        planned = result.planned.statistics[name]
        words = f"D90 {planned.d90_gy:.1f} Gy, V100 {planned.v100_pct:.1f} % planned"
        if result.delivered is not None:
            delivered = result.delivered.statistics[name]
            words += f"; D90 {delivered.d90_gy:.1f} Gy, V100 {delivered.v100_pct:.1f} % delivered"
        rows.append((f"Dose in the {name}", words))
    return rows


def deviations_in_words(deviations: Sequence[Deviation | None]) -> str:
    """Mean and largest tip deviation and how many are within, beyond, undecided."""
    seen = [deviation for deviation in deviations if deviation is not None]
    if not seen:
        return "no needle was seen"
    totals = np.array([deviation.total_mm for deviation in seen])
    verdicts = [deviation.verdict for deviation in seen]
    counts = ", ".join(
        f"{SYMBOL[verdict]} {verdicts.count(verdict)} {verdict.value}"
        for verdict in SYMBOL
        if verdict in verdicts
    )
    return f"tip {totals.mean():.1f} mm mean, {totals.max():.1f} mm largest; {counts}"


def times_in_words(seconds: dict[str, float]) -> str:
    """Wall time by step and together."""
    parts = [f"{step} {spent:.1f}" for step, spent in seconds.items()]
    return ", ".join([*parts, f"together {sum(seconds.values()):.1f}"]) + " s"
