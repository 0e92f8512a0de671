"""``seedguide campaign``: thousands of procedures, or of implants' doses, played by chance on one plan."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from console.campaign_progress import CampaignProgress
    from console.output_folder import OutputFolder
    from planning.plan import Plan
    from planning.site_protocol import SiteProtocol

STOPPED = 3
_EXIT_STATUSES = """\b
Exit status:
    0  every run was played; tables and page are written
    1  internal fault: one line here, the traceback in DIR/fault.txt
    2  bad input: one line that says what, where and what to do
    3  stopped: workers died, the scheduler went away, the disk is full; what was played is kept, --resume goes on
  130  interrupted (Ctrl-C); what was played is kept, --resume goes on
"""


def campaign_command(player: Callable[[], ModuleType]) -> click.Command:
    """The command; ``player`` imports ``simulator.rehearsal.campaign.play``, which the console does not know."""

    @click.command(
        "campaign",
        help="Play N procedures by chance and say what to expect. PLAN is a plan.json, or the folder it is in, its "
        "patient noted beside it or named by --case; CASE is a folder with one CT series and one RT Structure Set, "
        "on which a plan is made first. A whole procedure is decided by the real controller on a simulated patient, "
        "without bytes and images; --dose-only misplaces the seeds and computes the dose.\n\n"
        "Writes runs.parquet, needles.parquet, campaign.html. The same --seed gives the same runs on any number of "
        "cores and on a cluster.\n\nResearch and training software, not a medical device, not for clinical use.",
        epilog=_EXIT_STATUSES,
    )
    @click.argument("subject", metavar="CASE|PLAN", type=click.Path(path_type=Path))
    @click.option(
        "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the results."
    )
    @click.option(
        "--runs", default=1000, show_default=True, type=click.IntRange(1, 10_000_000), help="How many."
    )
    @click.option(
        "--vary",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="What varies, TOML: simulator/CAMPAIGN.md.  [default: published errors of head-and-neck needles]",
    )
    @click.option("--dose-only", is_flag=True, help="Misplace seeds and compute the dose; no procedure.")
    @click.option(
        "--seed",
        default=1,
        show_default=True,
        type=click.IntRange(0),
        help="Of chance: same seed, same runs.",
    )
    @click.option(
        "--case",
        metavar="CASE",
        type=click.Path(path_type=Path),
        help="Folder of the patient that PLAN is for.",
    )
    @click.option(
        "--protocol", help="Site protocol: its name or its file.  [default: the plan's, or head-and-neck]"
    )
    @click.option(
        "--activity-mci", type=click.FloatRange(0, 10, min_open=True), help="Of one seed, with CASE."
    )
    @click.option("--workers", type=click.IntRange(1, 1024), help="Processes here.  [default: one per core]")
    @click.option(
        "--scheduler",
        metavar="URL",
        help="Play on the Dask cluster at URL (tcp://host:8786) instead; needs seedguide[cluster] there and here.",
    )
    @click.option("--resume", is_flag=True, help="Go on with the campaign in DIR; --runs may have grown.")
    @click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
    def campaign(subject: Path, out: Path, *, resume: bool, overwrite: bool, **chosen: Any) -> int:
        """Check what was asked before a folder is taken."""
        from console.endings import kept_once_begun
        from console.output_folder import OutputFolder

        campaign = player()
        if resume and overwrite:
            raise AskedWrongly("--resume goes on with what --overwrite would replace; give one of them.")
        plan_file, case = _subject(subject, chosen["case"])
        if plan_file is not None and chosen["activity_mci"] is not None:
            raise AskedWrongly("--activity-mci is for a CASE that is planned first; a PLAN has its own.")
        variation = campaign.load_variation(chosen["vary"])
        folder = (
            OutputFolder.take_again(out) if resume else OutputFolder.take(out, overwrite=overwrite, case=case)
        )
        with kept_once_begun(folder, campaign.ASKED_FILE, after="; --resume goes on"):
            return _play(campaign, plan_file, case, variation, folder, is_resumed=resume, chosen=chosen)

    return campaign


def _subject(subject: Path, case: Path | None) -> tuple[Path | None, Path]:
    """The plan's file (None: a plan is to be made) and the patient's folder."""
    from planning.case_link import case_of
    from planning.plan_folder import PLAN_FILE

    plan_file = subject / PLAN_FILE if (subject / PLAN_FILE).is_file() else subject
    if plan_file.is_dir():
        if case is not None:
            raise AskedWrongly(
                f"{subject}: holds no {PLAN_FILE}, so it is the CASE itself; leave --case out."
            )
        return None, plan_file
    if not plan_file.is_file():
        raise AskedWrongly(f"{subject}: no such plan.json and no such folder.")
    case = case_of(plan_file) if case is None else case
    if not case.is_dir():
        raise AskedWrongly(f"{case}: no such folder; CASE is the folder with the planning CT and structures.")
    return plan_file, case


def _play(
    campaign: ModuleType,
    plan_file: Path | None,
    case: Path,
    variation: Any,
    folder: OutputFolder,
    *,
    is_resumed: bool,
    chosen: dict[str, Any],
) -> int:
    from console.campaign_page import print_summary, write_page
    from console.campaign_progress import CampaignProgress
    from console.campaign_summary import summarise
    from console.live import Screen
    from planning.case_link import note_case
    from planning.plan import Plan
    from planning.plan_folder import PLAN_FILE
    from planning.site_protocol import load_site_protocol

    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    out = folder.path
    with CampaignProgress(screen) as told:
        made = plan_file if plan_file is not None else (out / PLAN_FILE if is_resumed else None)
        if made is not None and made.is_file():
            plan = Plan.load(made)
            protocol = load_site_protocol(chosen["protocol"] or plan.site_protocol)
        else:
            protocol = load_site_protocol(chosen["protocol"] or "head-and-neck")
            plan = _planned(case, protocol, chosen["activity_mci"], told)
        told.step("reading the patient")
        kind = "dose" if chosen["dose_only"] else "procedure"
        asked, player = campaign.prepare(
            case, plan, protocol, variation, kind=kind, runs=chosen["runs"], seed=chosen["seed"]
        )
        if is_resumed:
            asked.check_goes_on(out)
        plan.save(out / PLAN_FILE)
        note_case(out, case)
        asked.save(out)
        told.runs(asked.runs, "implants" if chosen["dose_only"] else "procedures")
        try:
            campaign.play(
                asked,
                player,
                out,
                cores=chosen["workers"] or len(os.sched_getaffinity(0)),
                scheduler=chosen["scheduler"],
                progress=told.played,
            )
        except campaign.CampaignStoppedError as problem:
            print(f"seedguide: stopped: {problem}", file=sys.stderr)
            return STOPPED
        except AskedWrongly:  # before the first run: nothing was begun
            if not is_resumed:
                (out / campaign.ASKED_FILE).unlink()
            raise
        told.step("writing")
        files = {campaign.RUNS_FILE: campaign.columns_of(asked)}
        if kind == "procedure":
            files[campaign.NEEDLES_FILE] = (campaign.RUN[0], *campaign.NEEDLE)
        tables = {name: campaign.read_columns(out / name) for name in files}
        summary = summarise(
            campaign.read_asked(out), tables[campaign.RUNS_FILE], tables.get(campaign.NEEDLES_FILE)
        )
        try:
            page = write_page(out, summary, plan, list(campaign.parameters(variation)), files)
        except AskedWrongly as problem:
            print(
                f"seedguide: stopped: {problem} Every run is kept; make room, then --resume.", file=sys.stderr
            )
            return STOPPED
    print_summary(screen, summary, lambda: [*(out / name for name in files), page])
    return 0


def _planned(case: Path, protocol: SiteProtocol, activity_mci: float | None, told: CampaignProgress) -> Plan:
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.planner import make_plan
    from planning.sources import load_source

    told.step(f"reading {case}")
    read = read_case(case)
    anatomy = build_anatomy(read, protocol, target=None, margin_mm=protocol.margin_mm)
    return make_plan(
        read,
        anatomy,
        protocol,
        source=load_source(protocol.source_model),
        activity_mci=activity_mci,
        progress=lambda text, _part: told.step(f"planning: {text}"),
    ).plan
