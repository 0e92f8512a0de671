"""How far ``seedguide detect`` is: a bar with what is done just now; without a terminal, a line for each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def detect_progress() -> Iterator[Callable[[str, float], None]]:
    """Around the work; yields what is told of each step: its words, and the part (0 to 1) of the work done before it.

    On standard error, so that the table stays alone on standard output.
    """
    screen = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        bar = bars.add_task("", total=1.0)

        def tell(what: str, part: float) -> None:
            bars.update(bar, description=what, completed=part)
            # nothing is said before the first step is done: of what can't be read there is one sentence
            if part > 0.0 and not screen.is_terminal:
                screen.print(f"{what} ...", markup=False, soft_wrap=True)

        yield tell
