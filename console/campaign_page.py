"""``campaign.html``: a campaign on one page that needs nothing from outside; and its table on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from console.campaign_plots import course_picture, deviation_picture, dose_picture
from console.campaign_summary import Spread, Summary
from console.pictures import svg
from planning.confidence import Interval
from planning.plan import Plan
from planning.whole_file import write_whole

PAGE_FILE = "campaign.html"


def number(value: float, digits: int = 4) -> str:
    """With so many digits that matter, and at most two behind the point."""
    if value != value or abs(value) == float("inf"):
        return "–"
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, min(2, digits - whole))}f}"


def interval(found: Interval) -> str:
    return f"{number(found.low)} to {number(found.high)}"


def percent(share: Interval) -> str:
    """A share with its interval; so many digits that 0 and 100 % are never rounded to."""
    return f"{100 * share.value:.4g} % ({100 * share.low:.3g} to {100 * share.high:.4g})"


def write_page(
    folder: Path, summary: Summary, plan: Plan, parameters: Sequence[Any], columns: dict[str, Sequence[Any]]
) -> Path:
    """Write the page into ``folder``.

    Args:
        parameters: ``variation.Parameter`` of each figure that varies.
        columns: file name -> ``table.Column`` of each of its columns.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval, "percent": percent}
    pictures = {}
    if summary.dose:
        pictures["dose"] = Markup(svg(dose_picture(summary.dose, summary.asked["goals"])))
    if summary.first:
        pictures["deviations"] = Markup(svg(deviation_picture(summary)))
    if summary.course:
        pictures["course"] = Markup(svg(course_picture(summary)))
    page = environment.get_template("campaign.html.j2").render(
        summary=summary,
        asked=summary.asked,
        plan=plan,
        parameters=[p for p in parameters if p.used_by in ("both", summary.asked["kind"])],
        columns=columns,
        pictures=pictures,
        version=version("seedguide"),
    )
    write_whole(folder / PAGE_FILE, page.encode("utf-8"))
    return folder / PAGE_FILE


def print_summary(screen: Console, summary: Summary, files: Callable[[], Sequence[Path]]) -> None:
    """The same in short."""
    asked = summary.asked
    what = "whole procedures" if summary.is_procedure else "implants, dose alone"
    screen.print(
        f"Campaign       {summary.runs} {what}, seed {asked['seed']}, plan {asked['plan_hash'][:16]}"
    )
    if summary.is_procedure:
        held = "".join(f"; held {count}: {words}" for words, count in summary.endings)
        screen.print(f"Completed      {summary.completed} of {summary.runs}{held}", markup=False)
    for title, spreads in (
        ("the procedure", summary.course),
        ("first pass, no reference needles (true)", summary.first),
        ("needles, final (true)", summary.final),
    ):
        if spreads:
            screen.print(_table(title, spreads, with_plan=False))
    if summary.beyond:
        told = [percent(share) for share in summary.beyond]
        screen.print(
            f"Tips beyond {summary.tolerance_mm:g} mm, true: first pass {told[0]}"
            + (f", final {told[1]}" if len(told) > 1 else "")
        )
    if summary.dose:
        screen.print(_table("dose", summary.dose, with_plan=True))
    for path in files():
        screen.print(f"Written        {path}", markup=False)


def _table(title: str, spreads: Sequence[Spread], *, with_plan: bool) -> Table:
    table = Table(box=None)
    own = ("planned",) if with_plan else ()
    goal = ("goal", "kept (95 %)") if with_plan else ()
    for heading in (title, *own, "mean (95 %)", "SD", "5th", "median", "95th", *goal):
        table.add_column(heading, justify="left" if heading in (title, *goal) else "right")
    for spread in spreads:
        planned = (number(spread.planned),) if with_plan and spread.planned is not None else own and ("",)
        kept = (spread.wanted, percent(spread.kept) if spread.kept else "") if with_plan else ()
        table.add_row(
            f"{spread.name}{', ' + spread.unit if spread.unit else ''}",
            *planned,
            f"{number(spread.mean.value)} ({interval(spread.mean)})",
            number(spread.sigma),
            *(number(found.value) for found in spread.percentiles),
            *kept,
        )
    return table
