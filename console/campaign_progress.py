"""How far a campaign is: a bar with rate and time left; without a terminal, a line at each tenth."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed and task.total != 1.0 else "")


class CampaignProgress:
    """A context manager around the whole of it."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=screen,
            transient=True,
            speed_estimate_period=120.0,
        )
        self._task = self._bars.add_task("", total=None)
        self._total, self._told, self._what = 0, 0, ""

    def __enter__(self) -> CampaignProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, words: str) -> None:
        """Something that is no run."""
        self._bars.update(self._task, description=words)

    def runs(self, total: int, what: str) -> None:
        """From here on runs are played."""
        self._total, self._what = total, what
        self._bars.reset(self._task, total=total, description=what)

    def played(self, count: int) -> None:
        """So many, those found there included."""
        self._bars.update(self._task, completed=count)
        tenth = 10 * count // max(1, self._total)
        if not self._screen.is_terminal and tenth > self._told:
            self._told = tenth
            self._screen.print(f"{count} of {self._total} {self._what} played")
