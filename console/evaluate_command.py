"""``seedguide evaluate``: everything recomputed for a plan that a person edited, and the rules that it breaks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from console.live import Screen
    from planning.anatomy import Anatomy
    from planning.dicom import Case
    from planning.evaluation import Evaluation
    from planning.hole_reasons import HoleAnswer
    from planning.robustness import Robustness

GOAL_MISSED = 4
RULE_BROKEN = 5
STALE_HASH = 6
_EXIT_STATUSES = """\b
Exit status (of several, the highest):
    0  every rule kept, every goal and limit met, the content hash is the plan's
    1  internal fault
    2  bad input: one line that says what, where and what to do
    4  a goal or limit is missed (see the table)
    5  a rule that planning keeps is broken
    6  the file was edited since its hash was made, and the edit was not accepted
"""


@click.command(
    help="Judge PLAN (a plan.json, edited by hand or not) on CASE, the patient it is for: dose, goals, clearances and "
    "every rule that planning itself keeps, each broken one in a sentence. A plan that was edited has a stale content "
    "hash and is refused wherever it is used; --accept gives it a new one, and that alone changes PLAN. PLAN may be an "
    "RT Plan (.dcm) of another planning system too: then its dose and the goals are shown.\n\n"
    "Research and training software, not a medical device, not for clinical use.",
    epilog=_EXIT_STATUSES,
)
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--protocol", help="Site protocol: its name or its file.  [default: the one of the plan]")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for RT Plan, RT Dose, RT Structure Set, a picture and evaluation.json, made anew.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier run of seedguide in DIR.")
@click.option("--accept", is_flag=True, help="Write PLAN with a new content hash and the figures found.")
@click.option(
    "--despite",
    multiple=True,
    metavar="RULE",
    help="With --accept: a broken rule that is accepted, by its short name; may be given several times.",
)
@click.option(
    "--allow-unverified", is_flag=True, help="Take a source whose data were compared with no publication."
)
@click.option(
    "--robustness",
    metavar="N",
    type=click.IntRange(10, 1_000_000),
    help="Play N implants with needle and seed placement errors; the spread of dose, the needle that matters most.",
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="Of chance, for --robustness."
)
@click.option(
    "--why",
    multiple=True,
    metavar="HOLE",
    help="Why this hole (C4 ...) of the template carries a needle or none; may be given several times; 'all' for every "
    "hole over the target.",
)
@click.option(
    "--seed-direction",
    nargs=3,
    type=float,
    metavar="X Y Z",
    help="Of an RT Plan's seeds whose orientation it does not state (patient frame).",
)
@click.option(
    "--formalism",
    type=click.Choice(["2d", "1d"]),
    help="TG-43 of an RT Plan's seeds: 2d (line source, any direction), or 1d (phi_an) for seeds whose direction "
    "nobody knows.  [default: 2d]",
)
@click.option(
    "--implanted",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="An RT Plan's strengths decay from their reference date to this one.  [default: implanted on that date]",
)
@click.option(
    "--after-days",
    metavar="D",
    type=click.FloatRange(0, min_open=True),
    help="An RT Plan's dose of the first D days after the implantation.  [default: to infinity]",
)
def evaluate(plan_file: Path, case: Path, out: Path | None, overwrite: bool, **chosen: Any) -> int:
    """Check what was asked before anything is read or taken."""
    from console.endings import all_or_nothing
    from console.output_folder import OutputFolder
    from planning.plan_rules import RULES

    if not case.is_dir():
        raise AskedWrongly(
            f"{case}: no such folder; CASE is a folder with a CT series and an RT Structure Set."
        )
    for rule in chosen["despite"]:
        if rule not in RULES:
            raise AskedWrongly(f"--despite {rule}: no such rule; there are: {', '.join(RULES)}.")
    if plan_file.suffix.lower() == ".dcm":
        from console.rt_plan_evaluation import evaluate_rt_plan

        for option in ("accept", "robustness", "why"):
            if chosen[option]:
                raise AskedWrongly(f"--{option} is for a plan.json; {plan_file} is an RT Plan.")
        if out is not None:
            raise AskedWrongly(f"--out is for a plan.json; {plan_file} is an RT Plan.")
        return evaluate_rt_plan(plan_file, case, chosen)
    for option in ("seed_direction", "formalism", "implanted", "after_days"):
        if chosen[option] is not None:
            words = option.replace("_", "-")
            raise AskedWrongly(f"--{words} is for an RT Plan (.dcm); {plan_file} is a plan of ours.")
    if chosen["despite"] and not chosen["accept"]:
        raise AskedWrongly("--despite needs --accept.")
    if out is None:
        return _evaluate(plan_file, case, None, chosen)
    if plan_file.resolve().is_relative_to(out.resolve()):
        raise AskedWrongly(f"{out}: the plan itself lies in this folder; choose another --out.")
    with all_or_nothing(OutputFolder.take(out, overwrite=overwrite, case=case)) as folder:
        return _evaluate(plan_file, case, folder.path, chosen)


def _evaluate(plan_file: Path, case_folder: Path, out: Path | None, chosen: dict[str, Any]) -> int:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from console.live import Screen
    from console.plan_command import print_goals, print_indices, print_remarks
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.evaluation import evaluate as judge
    from planning.evaluation import load_edited
    from planning.hole_reasons import why_holes
    from planning.reference_error import reference_error
    from planning.robustness import play_implants
    from planning.site_protocol import load_site_protocol
    from planning.sources import load_source
    from planning.spread import spread_points

    edited = load_edited(plan_file)
    plan = edited.plan
    protocol = load_site_protocol(chosen["protocol"] or plan.site_protocol)
    source = load_source(plan.source_model, allow_unverified=chosen["allow_unverified"])
    screen = Screen(highlight=False, width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    spread = None
    with Progress(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task(f"reading {case_folder}", total=1.0)
        case = read_case(case_folder)
        bars.update(bar, description="structures", completed=0.2)
        anatomy = build_anatomy(case, protocol, target=plan.target, margin_mm=plan.margin_mm)
        bars.update(bar, description="dose, paths and rules", completed=0.6)
        found = judge(edited, anatomy, protocol, source)
        case_points = spread_points(anatomy.ctv, anatomy.grid, 500)
        if chosen["robustness"]:
            count, chance = chosen["robustness"], chosen["seed"]
            bars.update(bar, description=f"{count} implants with placement errors", completed=0.0)
            spread = play_implants(
                plan,
                anatomy,
                protocol,
                source,
                samples=count,
                seed=chance,
                progress=lambda part: bars.update(bar, completed=part),
            )
        answers: tuple[HoleAnswer, ...] = ()
        if chosen["why"]:
            bars.update(bar, description="holes", completed=0.9)
            every = any(name.lower() == "all" for name in chosen["why"])
            answers = why_holes(plan, anatomy, protocol, () if every else chosen["why"])
        bars.update(bar, description="writing", completed=1.0)
        refusal = _refusal(plan_file, found, chosen)
        if chosen["accept"] and refusal is None:
            found.accepted().save(plan_file)
        if out is not None:
            _write(out, case, anatomy, found, spread, accepted=chosen["accept"] and refusal is None)
    print_remarks(screen, case.ct.remarks)
    _print_needles(screen, found)
    print_goals(screen, found.goals)
    print_indices(screen, found.statistics)
    if spread is not None:
        _print_robustness(screen, spread)
    _print_holes(screen, answers)
    if references := reference_error(plan, case_points):
        screen.print(f"\nReferences     {references.in_words()}")
    _print_rules(screen, found, plan_file)
    if refusal is not None:
        raise AskedWrongly(refusal)
    accepted = bool(chosen["accept"])
    if accepted:
        screen.print(f"Accepted       {plan_file} now has the content hash {found.accepted().content_hash}")
    if out is not None:
        screen.print(f"Written        {out}")
    if not found.hash_is_current and not accepted:
        return STALE_HASH
    if found.broken:
        return RULE_BROKEN
    return 0 if all(goal.met for goal in found.goals) else GOAL_MISSED


def _refusal(plan_file: Path, found: Evaluation, chosen: dict[str, Any]) -> str | None:
    """Why the plan is not accepted, if it was asked to be."""
    if not chosen["accept"]:
        return None
    left = sorted({broken.rule for broken in found.broken} - set(chosen["despite"]))
    if left:
        words = " ".join(f"--despite {rule}" for rule in left)
        return f"{plan_file}: not accepted, it breaks planning's rules; correct it, or accept each by name: {words}."
    return None


def _write(
    out: Path,
    case: Case,
    anatomy: Anatomy,
    found: Evaluation,
    spread: Robustness | None,
    *,
    accepted: bool,
) -> None:
    import json

    from console.plan_picture import write_plan_picture
    from planning.evaluation import as_json
    from planning.plan_folder import PLAN_FILE, write_rt_objects
    from planning.whole_file import write_whole

    plan = found.accepted() if accepted else found.plan
    if accepted or found.hash_is_current:
        plan.save(out / PLAN_FILE)
    write_rt_objects(out, case.ct, anatomy, plan, found.dose, found.dose_grid)
    write_plan_picture(
        out / "overview.png", case, anatomy, plan, found.dose, found.dose_grid, found.statistics
    )
    body = as_json(found) | ({} if spread is None else {"robustness": spread.as_json()})
    write_whole(out / "evaluation.json", (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())


def _print_needles(screen: Screen, found: Evaluation) -> None:
    from rich.table import Table

    table = Table(box=None)
    for heading, justify in (
        ("needle", "left"),
        ("hole", "left"),
        ("depth mm", "right"),
        ("seeds", "right"),
        ("nearest forbidden", "left"),
        ("mm", "right"),
        ("nearest needle", "left"),
        ("mm", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for needle in found.needles:
        table.add_row(
            needle.name,
            needle.hole,
            f"{needle.depth_mm:.1f}",
            str(needle.seeds),
            needle.nearest_structure or "none within 15 mm",
            f"{needle.clearance_mm:.1f}" if needle.nearest_structure else "",
            needle.nearest_needle,
            f"{needle.apart_mm:.1f}" if needle.nearest_needle else "",
        )
    plan = found.plan
    screen.print(
        f"Plan           {len(plan.needles)} needles, {len(plan.seeds)} seeds of {plan.activity_mci:g} mCi"
    )
    screen.print()
    screen.print(table)


def _print_holes(screen: Screen, answers: tuple[HoleAnswer, ...]) -> None:
    from rich.table import Table

    if not answers:
        return
    table = Table(box=None)
    for heading in ("hole", "why"):
        table.add_column(heading)
    for answer in answers:
        table.add_row(answer.hole, answer.words)
    screen.print()
    screen.print(table)


def _print_robustness(screen: Screen, spread: Robustness) -> None:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", "as planned", "5th", "median", "95th", "at least as good as the goal"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for figure in spread.figures:
        kept = "" if figure.kept is None else f"{100 * figure.kept:.1f} %"
        table.add_row(
            f"{figure.structure} {figure.label}",
            f"{figure.nominal:.1f} {figure.unit}",
            *(f"{value:.1f}" for value in figure.percentiles),
            kept,
        )
    screen.print()
    screen.print(f"{spread.samples} implants with placement errors: {spread.sigmas.in_words()}")
    screen.print(table)
    worst = spread.needles[0]
    screen.print(
        f"Most depends on needle {worst.name}: {100 * worst.share:.0f} % of the variance of the CTV's D90 "
        f"({worst.lost_gy:.1f} Gy lower without its seeds)"
    )


def _print_rules(screen: Screen, found: Evaluation, plan_file: Path) -> None:
    screen.print()
    for broken in found.broken:
        screen.print(f"[red]✗ broken[/]  {broken.rule}: {broken.words}")
    if not found.broken:
        screen.print("[green]✓[/] every rule that planning keeps is kept")
    if not found.hash_is_current:
        stated = found.stated_hash[:16] or "none"
        screen.print(
            f"Content hash   stale: {plan_file} states {stated}, its content gives {found.plan.content_hash[:16]}; "
            "it was edited after it was made and is refused where it is used until 'seedguide evaluate ... --accept'."
        )
    else:
        screen.print(f"Content hash   {found.plan.content_hash}")
    if found.stale_figures:
        screen.print(
            f"Expected       the figures in the file are not those found: {', '.join(found.stale_figures)}"
        )
