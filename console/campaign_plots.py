"""Distributions of a campaign, drawn."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from console.campaign_summary import Spread, Summary

_FIRST, _FINAL, _BARS, _PLAN = "#d1495b", "#1d7874", "#7fa6c9", "#1f2933"


def dose_picture(spreads: tuple[Spread, ...], goals: dict[str, tuple[str, float, str]]) -> Figure:
    """A histogram of each figure; as planned, and the goal."""
    columns = 4
    rows = -(-len(spreads) // columns)
    figure = Figure(figsize=(11.0, 2.25 * rows), layout="constrained")
    limits = {_key(name): limit for name, (_, limit, _) in goals.items()}
    for at, spread in enumerate(spreads):
        axes = figure.add_subplot(rows, columns, at + 1)
        values = spread.values
        low, high = float(values.min()), float(values.max())
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        axes.hist(values, bins=min(40, max(8, len(values) // 12)), range=(low, high), color=_BARS)
        if spread.planned is not None:
            axes.axvline(spread.planned, color=_PLAN, lw=1.4)
        limit = limits.get(spread.name)
        if limit is not None and low - (high - low) <= limit <= high + (high - low):
            axes.axvline(limit, color=_FIRST, lw=1.4, ls="--")
        axes.set_title(f"{spread.name}, {spread.unit}", fontsize=9.5)
        axes.set_yticks([])
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _key(name: str) -> str:
    from planning.goals import label_of

    structure, _, metric = name.partition(".")
    return f"{structure} {label_of(metric)[0]}"


def deviation_picture(summary: Summary) -> Figure:
    """Part of the needles whose tip deviates by no more than so much, first pass and final, in truth."""
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for spreads, colour, words in ((summary.first, _FIRST, "first pass"), (summary.final, _FINAL, "final")):
        if not spreads:
            continue
        tips = np.sort(spreads[0].values)
        axes.plot(
            np.append(0.0, tips),
            100.0 * np.arange(len(tips) + 1) / len(tips),
            color=colour,
            label=words,
            drawstyle="steps-post",
        )
    axes.axvline(summary.tolerance_mm, color="#444", ls="--", lw=1.0, label=f"{summary.tolerance_mm:g} mm")
    axes.set_xlim(0.0, 8.0)
    axes.set_ylim(0.0, 101.0)
    axes.set_xlabel("true deviation of the tip, mm")
    axes.set_ylabel("% of the needles")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def course_picture(summary: Summary) -> Figure:
    """How many CTs, corrections, and minutes."""
    figure = Figure(figsize=(11.0, 2.3), layout="constrained")
    for at, spread in enumerate(summary.course):
        axes = figure.add_subplot(1, len(summary.course), at + 1)
        values = spread.values
        if spread.unit:
            axes.hist(values, bins=30, color=_BARS)
        else:
            counts = np.bincount(values.astype(int))
            axes.bar(np.arange(len(counts)), counts / counts.sum() * 100.0, color=_BARS)
            axes.set_xlim(max(-0.6, values.min() - 1.0), values.max() + 1.0)
        axes.set_title(f"{spread.name}{', ' + spread.unit if spread.unit else ''}", fontsize=9.5)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure
