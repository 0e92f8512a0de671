"""A campaign from the plan to its tables: ``prepare``, then ``play``, which may be killed and called again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from planning.anatomy import build_anatomy
from planning.dicom import read_case
from planning.plan import Plan
from planning.refusal import AskedWrongly
from planning.sampled_figures import SampledFigures, sampled_figures
from planning.site_protocol import SiteProtocol
from planning.sources import load_source
from simulator.ct_reader import read_ct
from simulator.rehearsal.campaign.asked import ASKED_FILE, Asked, read_asked
from simulator.rehearsal.campaign.cluster import play_on_cluster
from simulator.rehearsal.campaign.dose_run import DoseRuns, as_planned, figure_names
from simulator.rehearsal.campaign.procedure_run import ProcedureRuns
from simulator.rehearsal.campaign.table import (
    NEEDLE,
    NEEDLES_FILE,
    RUN,
    RUNS_FILE,
    Tables,
    columns_of,
    read_columns,
)
from simulator.rehearsal.campaign.variation import Variation, load_variation, parameters
from simulator.rehearsal.campaign.workers import CampaignStoppedError, Rows, play_here

__all__ = [
    "ASKED_FILE",
    "NEEDLE",
    "NEEDLES_FILE",
    "RUN",
    "RUNS_FILE",
    "CampaignStoppedError",
    "columns_of",
    "load_variation",
    "parameters",
    "play",
    "prepare",
    "read_asked",
    "read_columns",
]
"""What the command uses."""
FIGURES = tuple(
    (name, what) for name in ("CTV", "GTV") for what in ("d90_gy", "v100_pct", "v150_pct", "v200_pct")
)
"""Taken always, beside the site protocol's goals and limits."""


def prepare(
    case: Path,
    plan: Plan,
    protocol: SiteProtocol,
    variation: Variation,
    *,
    kind: Literal["dose", "procedure"],
    runs: int,
    seed: int,
) -> tuple[Asked, DoseRuns | ProcedureRuns]:
    """Read the patient, and make what plays.

    Args:
        case: folder with the planning CT and structures that ``plan`` was made on.

    Raises:
        AskedWrongly: the case can't be read, or is another patient's; whole procedures with oblique needles.
    """
    if kind == "procedure" and plan.is_oblique:
        raise AskedWrongly(
            "the plan's needles are oblique, and the procedure knows parallel ones; play its dose with --dose-only."
        )
    read = read_case(case)
    if read.ct.series_uid != plan.series_uid:
        raise AskedWrongly(f"{case}: its CT is not the one that the plan was made on (other series).")
    source = load_source(plan.source_model)
    anatomy = build_anatomy(read, protocol, target=plan.target, margin_mm=plan.margin_mm)
    figures = sampled_figures(plan, anatomy, protocol, source, FIGURES)
    player: DoseRuns | ProcedureRuns = DoseRuns(plan, figures, variation, seed)
    if kind == "procedure":
        player = ProcedureRuns(plan, figures, read_ct(case), variation, seed)
    asked = Asked(
        kind=kind,
        plan_hash=plan.content_hash,
        runs=runs,
        seed=seed,
        chunk=player.chunk,
        variation=variation,
        as_planned=as_planned(plan, figures),
        goals=_goals(figures),
        prescription_gy=plan.prescription_gy,
    )
    return asked, player


def _goals(figures: SampledFigures) -> dict[str, tuple[str, float, str]]:
    return {
        name: (figure.limit.bound, figure.limit.limit(figures.prescription_gy), figure.limit.source)
        for name, figure in zip(figure_names(figures), figures.wanted, strict=True)
        if figure.limit is not None
    }


def play(
    asked: Asked,
    player: DoseRuns | ProcedureRuns,
    folder: Path,
    *,
    cores: int,
    scheduler: str | None,
    progress: Callable[[int], None],
) -> None:
    """Play every run that ``folder`` does not hold yet, then write the tables.

    Args:
        cores: worker processes on this machine.
        scheduler: address of a Dask scheduler; None: this machine.
        progress: told how many runs have been played so far, those found there included.

    Raises:
        CampaignStoppedError: it can't go on; what was played is kept.
        AskedWrongly: no scheduler answers.
    """
    try:
        tables = Tables(folder, asked)
        there = tables.played()
        left = [(number, runs) for number, runs in asked.chunks() if number not in there]
        done = sum(len(runs) for number, runs in asked.chunks() if number in there)
        progress(done)
    except OSError as problem:
        raise CampaignStoppedError(f"{folder}: can't be written ({problem.strerror}).") from problem
    for number, rows in _played(player, left, cores, scheduler):
        _kept(partial(tables.write_chunk, number, rows))
        done += len(rows)
        progress(done)
    _kept(tables.write_all)


def _played(
    player: DoseRuns | ProcedureRuns, left: list[tuple[int, range]], cores: int, scheduler: str | None
) -> Iterator[tuple[int, Rows]]:
    if scheduler is not None and left:
        return play_on_cluster(player, left, scheduler)
    return play_here(player, left, cores)


def _kept(write: Callable[[], None]) -> None:
    try:
        write()
    except AskedWrongly as problem:
        raise CampaignStoppedError(
            f"{problem} What was written before is kept; make room, then --resume."
        ) from problem
