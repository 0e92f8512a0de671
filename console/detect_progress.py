"""How far ``seedguide detect`` is: a bar with what is done just now; without a terminal, a line for each step."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class DetectProgress:
    """A context manager around the work; on standard error, so that the table stays alone on standard output."""

    def __init__(self) -> None:
        self._screen = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        self._bars = Progress(
            *columns, console=self._screen, transient=True, disable=not self._screen.is_terminal
        )
        self._bar = self._bars.add_task("", total=1.0)

    def __enter__(self) -> DetectProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def tell(self, what: str, part: float) -> None:
        """A step begins, with ``part`` (0 to 1) of the work done."""
        self._bars.update(self._bar, description=what, completed=part)
        if (
            part > 0.0 and not self._screen.is_terminal
        ):  # what can't be read is one sentence, and nothing before it
            self._screen.print(f"{what} ...", markup=False, soft_wrap=True)
