"""The self-test's result: a table on the screen, and one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import jinja2
from rich.console import Console
from rich.table import Table

from drivers.bench_check import Finding

SYMBOL = {"pass": "✓", "fail": "✗", "not tested": "–"}
_STYLE = {"pass": "green", "fail": "bold red", "not tested": "yellow"}


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {verdict: sum(f.verdict == verdict for f in findings) for verdict in SYMBOL}


def print_table(console: Console, findings: Sequence[Finding]) -> None:
    """Every finding; below it what to do about each that failed."""
    table = Table(title="Bench check", title_justify="left")
    for name in ("Device", "Test", "", "Measured", "Limit", "Unit", "Seen"):
        table.add_column(name, justify="right" if name == "Measured" else "left", overflow="fold")
    for finding in findings:
        style = _STYLE[finding.verdict]
        table.add_row(
            finding.device,
            finding.check,
            f"[{style}]{SYMBOL[finding.verdict]} {finding.verdict}[/]",
            *(_plain(text) for text in (finding.measured, finding.limit, finding.unit, finding.words)),
        )
    console.print(table)
    for finding in findings:
        if finding.verdict == "fail":
            console.print(f"✗ {finding.device}, {finding.check}: {finding.remedy}", style="red", markup=False)
    told = counts(findings)
    console.print(f"{told['pass']} passed, {told['fail']} failed, {told['not tested']} not tested.")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def write_report(findings: Sequence[Finding], devices: Mapping[str, str], who: str, folder: Path) -> Path:
    """Write ``bench-check-<date>-<time>.html`` into ``folder``; an earlier one is never replaced. Its path."""
    now = datetime.now().astimezone()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("bench_check.html.j2").render(
        findings=findings,
        devices=devices,
        who=who,
        when=now.strftime("%Y-%m-%d %H:%M:%S %Z"),
        counts=counts(findings),
        symbol=SYMBOL,
        version=version("seedguide"),
    )
    path, number = folder / f"bench-check-{now:%Y%m%d-%H%M%S}.html", 1
    while path.exists():
        number += 1
        path = folder / f"bench-check-{now:%Y%m%d-%H%M%S}-{number}.html"
    path.write_text(page, encoding="utf-8")
    return path
