"""The live view of a running procedure: steps, needles, seeds, devices; without a terminal, plain lines.

The view only looks: it is called with each ``Progress`` and never answers. A screen that goes away (a closed
pipe) must not end a procedure, so from then on it is silent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from controller.result import Progress
from controller.snapshot import NeedleStatus, Snapshot
from imaging.deviation import Deviation, Verdict

SYMBOL = {Verdict.WITHIN: "✓", Verdict.BEYOND: "✗", Verdict.CANNOT_TELL: "?"}
STYLE = {Verdict.WITHIN: "green", Verdict.BEYOND: "bold red", Verdict.CANNOT_TELL: "yellow"}


class Screen(Console):
    """A rich console that goes silent instead of ending the program when its pipe is closed."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ProcedureView:
    """Shows each ``Progress`` it is called with; a context manager around the run.

    Args:
        screen: where to show it.
        quiet: show nothing.
        clock: seconds, for the time spent in each step (wall time: this is only for people).
    """

    def __init__(self, screen: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._quiet = quiet
        self._clock = clock
        self._start_s = clock()
        self._step_since_s = self._start_s
        self._step_index: int | None = None
        self._step_seconds: dict[int, float] = {}
        self._latest: Progress | None = None
        self._snapshot: Snapshot | None = None
        self._text = ""
        self._told: dict[str, Deviation] = {}
        self._live: Live | None = None

    def __enter__(self) -> ProcedureView:
        self._start_s = self._step_since_s = self._clock()
        if self._screen.is_terminal and not self._quiet:
            self._live = Live(get_renderable=self.picture, console=self._screen, refresh_per_second=5)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.transient = True  # the end table says it better
            self._live.stop()
            self._live = None

    def __call__(self, progress: Progress) -> None:
        self._latest = progress
        if progress.snapshot is not None:
            self._snapshot = progress.snapshot
            self._enter_step(progress.snapshot.step_index)
        if self._live is None and not self._quiet:
            self._print_news(progress)

    def _enter_step(self, index: int) -> None:
        if index >= 0 and index != self._step_index:  # held and stopped are no steps: the last one stays
            now_s = self._clock()
            if self._step_index is not None:
                spent = self._step_seconds.get(self._step_index, 0.0)
                self._step_seconds[self._step_index] = spent + now_s - self._step_since_s
            self._step_index, self._step_since_s = index, now_s

    def _print_news(self, progress: Progress) -> None:
        """One line per piece of news, for logs: no cursor movement, no repetition."""
        lines = [] if self._text == progress.text else [progress.text]
        self._text = progress.text
        for needle in progress.snapshot.needles if progress.snapshot is not None else ():
            if needle.deviation is not None and self._told.get(needle.name) != needle.deviation:
                self._told[needle.name] = needle.deviation
                where = f"  needle {needle.name} ({needle.hole}), try {needle.attempt}"
                lines.append(f"{where}: {in_words(needle.deviation)}")
        for line in lines:
            self._screen.print(
                f"{self._clock() - self._start_s:7.1f} s  {line}", markup=False, soft_wrap=True
            )

    def picture(self) -> ConsoleRenderable:
        """What is on the screen now."""
        if self._snapshot is None:
            return Spinner("dots", text=Text(self._latest.text if self._latest else "starting"))
        room = self._screen.height - 9
        columns = Table.grid(padding=(0, 2))
        columns.add_row(
            Group(self._steps(self._snapshot), Text(), devices(self._snapshot)),
            needle_table(self._snapshot.needles, rows=max(4, room)),
        )
        shown = self._snapshot
        seeds = Table.grid(padding=(0, 1))
        seeds.add_row(
            "Seeds",
            ProgressBar(total=max(1, shown.seeds_planned), completed=shown.seeds_delivered, width=40),
            f"{shown.seeds_delivered} of {shown.seeds_planned}",
        )
        news = Text(self._latest.text if self._latest else shown.message, overflow="ellipsis", no_wrap=True)
        title = "seedguide: research and training software, not a medical device"
        return Panel(Group(columns, Text(), seeds, Spinner("dots", text=news)), title=title)

    def _steps(self, snapshot: Snapshot) -> Table:
        table = Table.grid(padding=(0, 1))
        for index, words in enumerate(snapshot.steps):
            spent = self._step_seconds.get(index, 0.0)
            if index == self._step_index:
                spent += self._clock() - self._step_since_s
                mark, style = ("■", "bold red") if snapshot.step_index < 0 else ("▶", "bold")
            else:
                mark, style = ("✓", "green") if index < (self._step_index or 0) else ("·", "dim")
            table.add_row(mark, Text(words), f"{spent:.1f} s" if spent else "", style=style)
        return table


def needle_table(needles: tuple[NeedleStatus, ...], *, rows: int) -> Table:
    """Needle by needle; when they are more than ``rows``, those that matter now (not yet good) come first."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for heading in ("needle", "hole"):
        table.add_column(heading)
    for heading in ("try", "tip mm", "lateral", "depth", "angle°"):
        table.add_column(heading, justify="right")
    for heading in ("verdict", "state", "seeds"):
        table.add_column(heading, no_wrap=True)
    shown = needles
    if len(needles) > rows:
        urgent = sorted(range(len(needles)), key=lambda i: (_settled(needles[i]), i))[: rows - 1]
        shown = tuple(needles[i] for i in sorted(urgent))
    for needle in shown:
        table.add_row(
            needle.name + (" ref" if needle.is_reference else ""),
            needle.hole,
            str(needle.attempt) if needle.attempt else "",
            *_deviation_cells(needle.deviation),
            needle.state,
            f"{needle.seeds_delivered}/{needle.seeds_planned}",
        )
    if len(shown) < len(needles):
        table.add_row(f"… and {len(needles) - len(shown)} more")
    return table


def devices(snapshot: Snapshot) -> Table:
    """What the machines do and what is waited for."""
    minutes, seconds = divmod(int(snapshot.virtual_time_s), 60)
    left = "not seated" if snapshot.cartridge_left is None else f"{snapshot.cartridge_left} left"
    table = Table.grid(padding=(0, 1))
    for name, words in (
        ("rig", snapshot.rig),
        ("applicator", snapshot.applicator),
        ("cartridge", left),
        ("waiting for", snapshot.waiting_for),
        ("clock", f"{minutes} min {seconds:02d} s (procedure's own)"),
    ):
        table.add_row(Text(name, style="dim"), Text(words))
    return table


def in_words(deviation: Deviation) -> str:
    """A deviation on one line, the same in logs everywhere."""
    return (
        f"tip {deviation.total_mm:.1f} mm off (lateral {deviation.lateral_mm:.1f}, "
        f"depth {deviation.depth_mm:+.1f}, angle {deviation.angle_deg:.1f}°, ± {deviation.sigma_mm:.1f}): "
        f"{SYMBOL[deviation.verdict]} {deviation.verdict.value}"
    )


def _deviation_cells(deviation: Deviation | None) -> list[Text | str]:
    if deviation is None:
        return ["", "", "", "", ""]
    return [
        f"{deviation.total_mm:.1f}",
        f"{deviation.lateral_mm:.1f}",
        f"{deviation.depth_mm:+.1f}",
        f"{deviation.angle_deg:.1f}",
        Text(f"{SYMBOL[deviation.verdict]} {deviation.verdict.value}", style=STYLE[deviation.verdict]),
    ]


def _settled(needle: NeedleStatus) -> bool:
    """Nothing is to be done about this needle now."""
    if needle.seeds_delivered:
        return needle.seeds_delivered == needle.seeds_planned
    return needle.deviation is not None and needle.deviation.verdict is Verdict.WITHIN
