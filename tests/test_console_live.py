"""The live view: plain lines without a terminal, a picture with one, silence when asked."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from made_plan import made_plan
from made_run import made_deviation, made_snapshot
from rich.console import Console

from console.live import ProcedureView, Screen, needle_table
from controller.result import Progress
from controller.snapshot import Snapshot


class Clock:
    """Seconds that pass only when told."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shown(news: list[Progress], *, terminal: bool = False, quiet: bool = False) -> str:
    file = io.StringIO()
    screen = Console(file=file, force_terminal=terminal, color_system=None, width=140, height=50, _environ={})
    clock = Clock()
    with ProcedureView(screen, quiet=quiet, clock=clock) as view:
        for progress in news:
            view(progress)
            clock.now_s += 2.0
        if terminal:
            screen.print(view.picture())
    return file.getvalue()


def snapshot(**changes: Any) -> Snapshot:
    return made_snapshot(made_plan(), **changes)


def test_without_a_terminal_each_piece_of_news_is_one_line_told_once() -> None:
    news = [
        Progress("read", "Reading CASE"),
        Progress("read", "Reading CASE"),
        Progress("a", "CT 3", snapshot()),
    ]
    lines = shown(news).splitlines()
    assert [line for line in lines if "Reading CASE" in line] == ["    0.0 s  Reading CASE"]
    assert "\x1b" not in "".join(lines)
    assert sum("needle N0" in line for line in lines) == 6
    again = shown([*news, Progress("a", "CT 4", snapshot())]).splitlines()
    assert len(again) == len(lines) + 1  # same deviations: only the new text


def test_a_deviation_is_told_in_parts_and_with_a_symbol() -> None:
    needles = (replace(snapshot().needles[0], deviation=made_deviation(3.0, -1.5, 2.25)),)
    text = shown([Progress("a", "CT", snapshot(needles=needles))])
    assert "tip 3.4 mm off (lateral 3.0, depth -1.5, angle 2.2°, ± 0.4): ✗ beyond" in text


def test_text_in_square_brackets_is_not_markup() -> None:
    assert "[bold]needle[/x]" in shown([Progress("a", "[bold]needle[/x]")])


def test_quiet_shows_nothing() -> None:
    assert shown([Progress("a", "CT", snapshot())], quiet=True) == ""
    assert shown([Progress("a", "CT", snapshot())], quiet=True, terminal=False) == ""


def test_the_terminal_shows_steps_needles_seeds_and_devices() -> None:
    text = shown([Progress("a", "Now this", snapshot(step_index=4, seeds_delivered=7))], terminal=True)
    for words in ("▶", "Seeds, deepest first", "N01 ref", "✓ within", "7 of 24", "Now this", "6 left"):
        assert words in text
    assert "not a medical device" in text


def test_a_held_procedure_keeps_the_step_it_was_held_in() -> None:
    news = [
        Progress("a", "inserting", snapshot(step_index=2)),
        Progress("held", "jam", snapshot(step_index=-1, state="HELD")),
    ]
    text = shown(news, terminal=True)
    assert "■" in text
    assert "✓ Reference needles" in text


def test_more_needles_than_lines_shows_the_unsettled_first() -> None:
    needles = list(made_snapshot(made_plan(4, 4)).needles)
    needles = [replace(n, seeds_delivered=0) for n in needles]
    needles[13] = replace(needles[13], deviation=made_deviation(5.0))
    screen = Console(file=io.StringIO(), width=140)
    with screen.capture() as capture:
        screen.print(needle_table(tuple(needles), rows=5))
    assert needles[13].name in capture.get()
    assert "and 12 more" in capture.get()


def test_a_screen_whose_pipe_is_closed_goes_silent(monkeypatch: Any, tmp_path: Any) -> None:
    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        screen = Screen(file=io.StringIO())
        screen.on_broken_pipe()
        screen.print("nobody listens")
        assert screen.quiet
