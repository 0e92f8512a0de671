"""Who answers a procedure's questions: the word on the command line, and what it stands for."""

from __future__ import annotations

from typing import Any

import click


class OperatorChoice(click.Choice[str]):
    """``terminal``, ``console`` or ``auto``; ``door`` is another word for ``console``: consoles knock there."""

    name = "operator"

    def __init__(self) -> None:
        super().__init__(["terminal", "console", "door", "auto"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """What an ``Order`` holds."""
        said = super().convert(value, param, ctx)
        return "door" if said == "console" else said
