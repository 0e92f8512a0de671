"""``seedguide plan``: from a case to a plan on disk, with its goals and how far it is from the best possible."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from rich.console import Console

    from planning.anatomy import Anatomy
    from planning.dvh import StructureStatistics
    from planning.frame import Floats
    from planning.goals import Goal
    from planning.planner import PlanResult
    from planning.site_protocol import SiteProtocol

GOAL_MISSED = 4
_EXIT_STATUSES = """\b
Exit status:
    0  planned, every goal and limit met
    1  internal fault: one line here, the traceback in DIR/fault.txt; an earlier run is back
    2  bad input: one line that says what, where and what to do
    4  planned, but a goal or limit is missed (see the table)
  130  interrupted (Ctrl-C); nothing is written, an earlier run is back
"""


class _Number(click.FloatRange):
    """A range that refuses NaN and infinity too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.command(
    help="Plan an implant for the patient in CASE, a folder with one CT series and one RT Structure Set: plan.json, "
    "RT Plan, RT Dose, RT Structure Set, a printable template and a picture, written into DIR. Ends with the goals met "
    "and missed, and a proven bound: how much cheaper any other choice of seeds could be.\n\n"
    "Research and training software, not a medical device, not for clinical use.",
    epilog=_EXIT_STATUSES,
)
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the plan."
)
@click.option("--target", metavar="NAME", help="Structure that is the target.  [default: the one named GTV]")
@click.option("--margin-mm", type=_Number(0, 30), help="CTV = target + this.  [default: the site protocol's]")
@click.option(
    "--rx-gy", type=_Number(0, 1000, min_open=True), help="Prescription.  [default: the site protocol's]"
)
@click.option(
    "--activity-mci", type=_Number(0, 10, min_open=True), help="Of one seed.  [default: the site protocol's]"
)
@click.option(
    "--assayed",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Day that the activity is stated for; with --implanted it decays to that day.",
)
@click.option(
    "--implanted",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Day of the implantation, for --assayed.",
)
@click.option(
    "--protocol", default="head-and-neck", show_default=True, help="Site protocol: its name or its file."
)
@click.option(
    "--time-limit",
    metavar="S",
    type=_Number(1, 86400),
    help="Stop searching and proving after about S seconds.  [default: fixed effort, same plan every time]",
)
@click.option(
    "--needles",
    default="coplanar",
    show_default=True,
    type=click.Choice(["coplanar", "oblique"]),
    help="Parallel needles, or each at an angle of its own through the same grid of holes.",
)
@click.option(
    "--direction",
    nargs=3,
    type=float,
    metavar="X Y Z",
    help="Of insertion (oblique: the middle one), patient frame: x to the left, y to posterior, z to the head.  "
    "[default: the planner's choice]",
)
@click.option(
    "--turn-deg",
    type=_Number(-180, 180),
    help="Turn of the grid about the direction of insertion.  [default: the planner's choice]",
)
@click.option(
    "--pitch-mm", type=_Number(2, 30), help="Between neighbouring holes.  [default: the site protocol's]"
)
@click.option(
    "--max-seeds", type=click.IntRange(1, 500), help="Seeds in stock.  [default: the site protocol's]"
)
@click.option(
    "--cartridges",
    type=click.IntRange(1, 50),
    help="Full cartridges in stock, instead of --max-seeds (needle.cartridge_seeds of the site protocol in each).",
)
@click.option(
    "--allow-unverified",
    is_flag=True,
    help="Plan with a source whose data were compared with no publication.",
)
@click.option("--no-template", is_flag=True, help="Leave out template.stl, .3mf and .json.")
@click.option("--no-bound", is_flag=True, help="Leave out the proof (10 to 30 s).")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
def plan(case: Path, out: Path, overwrite: bool, **chosen: Any) -> int:
    """Take the folder, plan, and give the folder back if anything went wrong."""
    from console.endings import all_or_nothing
    from console.output_folder import OutputFolder

    if not case.is_dir():
        raise AskedWrongly(
            f"{case}: no such folder; CASE is a folder with a CT series and an RT Structure Set."
        )
    if (chosen["assayed"] is None) != (chosen["implanted"] is None):
        raise AskedWrongly(
            "--assayed and --implanted go together: the activity decays from the one day to the other."
        )
    if chosen["cartridges"] is not None and chosen["max_seeds"] is not None:
        raise AskedWrongly(
            "--cartridges and --max-seeds both say how many seeds there are; give one of them."
        )
    with all_or_nothing(OutputFolder.take(out, overwrite=overwrite, case=case)) as folder:
        return _plan(case, folder.path, chosen)


def _plan(case_folder: Path, out: Path, chosen: dict[str, Any]) -> int:
    from dataclasses import replace

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from console.live import Screen
    from console.plan_picture import write_plan_picture
    from planning.anatomy import build_anatomy
    from planning.approach import Wish
    from planning.bound import lower_bound
    from planning.case_link import note_case
    from planning.dicom import read_case
    from planning.plan_folder import write_plan_folder
    from planning.planner import make_plan
    from planning.reference_error import reference_error
    from planning.site_protocol import load_site_protocol
    from planning.sources import load_source
    from planning.spread import spread_points

    begun, limit = time.monotonic(), chosen["time_limit"]
    wish = Wish(chosen["needles"] == "oblique", _direction(chosen["direction"]), chosen["turn_deg"])

    def later_than(share: float) -> bool:
        return limit is not None and time.monotonic() - begun > share * limit

    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task(f"reading {case_folder}", total=1.0)

        def tell(what: str, part: float) -> None:
            bars.update(bar, description=what, completed=part)

        protocol = load_site_protocol(chosen["protocol"])
        source = load_source(protocol.source_model, allow_unverified=chosen["allow_unverified"])
        activity_mci = chosen["activity_mci"]
        if chosen["assayed"] is not None:
            stated = protocol.activity_mci if activity_mci is None else activity_mci
            days = (chosen["implanted"] - chosen["assayed"]).days
            activity_mci = round(stated * source.decayed(days), 4)
            screen.print(
                f"Seeds          {stated:g} mCi on {chosen['assayed']:%Y-%m-%d}, {days} days before the implantation"
            )
        if chosen["cartridges"] is not None:
            chosen["max_seeds"] = chosen["cartridges"] * protocol.needle.cartridge_seeds
        case = read_case(case_folder)
        margin_mm = protocol.margin_mm if chosen["margin_mm"] is None else chosen["margin_mm"]
        anatomy = build_anatomy(case, protocol, target=chosen["target"], margin_mm=margin_mm)
        if chosen["pitch_mm"] is not None:
            protocol = replace(protocol, needle=replace(protocol.needle, pitch_mm=chosen["pitch_mm"]))
        result = make_plan(
            case,
            anatomy,
            protocol,
            source=source,
            activity_mci=activity_mci,
            prescription_gy=chosen["rx_gy"],
            margin_mm=margin_mm,
            progress=tell,
            max_seeds=chosen["max_seeds"],
            stop=lambda: later_than(0.5),
            wish=wish,
        )
        planned_s = time.monotonic() - begun
        bound = None
        if not chosen["no_bound"]:
            bound = lower_bound(
                result.loading,
                stop=lambda: later_than(0.9),
                progress=lambda part, price: tell(f"proof: no loading costs less than {price:.2f}", part),
            )
        tell("writing", 1.0)
        write_plan_folder(out, case, anatomy, result)
        note_case(out, case_folder)
        template = None if chosen["no_template"] else _template(out, anatomy, result, protocol)
        picture = out / "overview.png"
        write_plan_picture(
            picture, case, anatomy, result.plan, result.dose, result.dose_grid, result.statistics
        )
    _print_plan(screen, result, planned_s, protocol.needle.cartridge_seeds)
    print_remarks(screen, case.ct.remarks)
    if references := reference_error(result.plan, spread_points(anatomy.ctv, anatomy.grid, 500)):
        screen.print(f"References     {references.in_words()}")
    if bound is not None:
        screen.print(
            f"Proven         no loading of these {len(result.loading.places.slot)} places costs less than "
            f"{bound.price:.3f}; this one costs {bound.reached:.3f}: gap {100 * bound.gap:.1f} %"
        )
    if template is not None:
        screen.print(f"Template       {template}")
    screen.print(f"Written        {out}")
    print_goals(screen, result.goals)
    print_indices(screen, result.statistics)
    return 0 if all(goal.met for goal in result.goals) else GOAL_MISSED


def _direction(asked: tuple[float, float, float] | None) -> Floats | None:
    """The direction of insertion that was asked for, of length 1."""
    import numpy as np

    if asked is None:
        return None
    direction = np.array(asked)
    length = float(np.linalg.norm(direction))
    if not np.isfinite(length) or length < 1e-6:
        raise AskedWrongly("--direction: give three finite numbers that are not all 0.")
    return direction / length


def _template(out: Path, anatomy: Anatomy, result: PlanResult, protocol: SiteProtocol) -> str:
    """Write the template; in words what it is, or why there is none (the plan stands without it)."""
    from planning.template import make_template, write_template
    from planning.template_guide import TemplateRules

    needle = protocol.needle
    rules = TemplateRules(needle_diameter_mm=needle.diameter_mm, needle_length_mm=needle.length_mm)
    try:
        made = make_template(result.plan, anatomy.body, anatomy.grid, rules)
    except AskedWrongly as problem:
        return f"not made; {problem}"
    write_template(made, out)
    return (
        f"template.stl, watertight, {len(made.guides)} guides, rim {made.rules.rim_mm:g} mm, "
        f"{len(made.layout.balls_mm)} fiducial balls; every bore open"
    )


def print_remarks(screen: Console, remarks: Sequence[str]) -> None:
    """What a person should know of the CT."""
    for remark in remarks:
        screen.print(f"Note           {remark}", markup=False)


def _print_plan(screen: Console, result: PlanResult, seconds: float, cartridge_seeds: int) -> None:
    plan = result.plan
    cartridges = -(-len(plan.seeds) // cartridge_seeds)
    screen.print(
        f"Plan           {len(plan.needles)} needles, {len(plan.seeds)} seeds of {plan.activity_mci:g} mCi; "
        f"{100 * result.cover:.0f} % of the CTV in reach; made in {seconds:.1f} s"
    )
    screen.print(
        f"Cartridges     {cartridges} of {cartridge_seeds} seeds, all of {plan.activity_mci:g} mCi; "
        f"{cartridges * cartridge_seeds - len(plan.seeds)} seeds are left over"
    )
    screen.print(f"Content hash   {plan.content_hash}")


def print_goals(screen: Console, goals: tuple[Goal, ...]) -> None:
    """The table of goals met and missed."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", "goal", "reached", "source"):
        table.add_column(heading)
    for goal in goals:
        sign = "[green]✓ met[/]" if goal.met else "[red]✗ missed[/]"
        table.add_row(sign, goal.wanted, f"{goal.value:.1f} {goal.unit}", goal.source)
    screen.print()
    screen.print(table)


def print_indices(screen: Console, statistics: dict[str, StructureStatistics]) -> None:
    """One line for CTV and GTV each: how closely the prescription's isodose follows it, how even the dose is."""
    screen.print()
    for name in ("CTV", "GTV"):
        if name not in statistics:
            continue
        of = statistics[name]
        parts = (("CI", of.ci, "{:.2f}"), ("EI", of.ei_pct, "{:.0f} %"), ("HI", of.hi_pct, "{:.0f} %"))
        words = ", ".join(f"{word} {'not known' if v is None else form.format(v)}" for word, v, form in parts)
        why = "" if of.ei_pct is not None else "; the prescription's isodose leaves the dose grid"
        screen.print(f"{name:<14} {of.volume_cc:.1f} cm3, {words}{why}")
