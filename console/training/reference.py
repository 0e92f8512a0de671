"""How a run compares with the shipped reference runs of its scenario (``reference_runs.json``, made by a script).

``python -m benchmarks.training_reference`` makes the table again. A percentile is the share of reference runs that were
worse, ties counted half; so few runs tell the rank, not a population.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("reference_runs.json")
PLAN_DIGITS = 12
LEAST_RUNS = 3
"""Beside fewer a share says nothing (assumed)."""
COMPARED: dict[str, tuple[str, int]] = {
    "missed": ("needles accepted beyond tolerance", -1),
    "unneeded_corrections": ("corrections not needed", -1),
    "cts": ("CTs", -1),
    "punctures": ("punctures", -1),
    "minutes": ("minutes", -1),
    "tissue_path_mm": ("path in tissue, mm", -1),
    "damage_mm2": ("tissue damage, mm²", -1),
    "ctv_d90_gy": ("CTV D90, Gy", 1),
}
"""Figure -> its words, and whether more (1) or less (-1) is better."""


@dataclass(frozen=True)
class Percentile:
    """One figure among the reference runs: ``pct`` of them were worse."""

    words: str
    value: float
    references: tuple[float, ...]
    pct: float


def reference_runs(scenario: str, plan: str, table: Path = TABLE) -> list[dict[str, Any]]:
    """The figures of the reference runs of a scenario (its digest) on a plan (its hash); none where it has none."""
    if not table.is_file():
        return []
    runs: list[dict[str, Any]] = (
        json.loads(table.read_text(encoding="utf-8")).get(scenario, {}).get("runs", [])
    )
    return [run for run in runs if run["plan"] == plan[:PLAN_DIGITS]]


def percentiles(figures: Mapping[str, Any], references: Sequence[Mapping[str, Any]]) -> list[Percentile]:
    """Every compared figure that the run and at least one reference has; none where there are too few references."""
    if len(references) < LEAST_RUNS:
        return []
    out = []
    for name, (words, better) in COMPARED.items():
        others = tuple(float(run[name]) for run in references if run.get(name) is not None)
        if figures.get(name) is None or not others:
            continue
        value = float(figures[name])
        worse = sum((value - other) * better > 0.0 for other in others)
        ties = sum(value == other for other in others)
        out.append(Percentile(words, value, others, 100.0 * (worse + ties / 2.0) / len(others)))
    return out
