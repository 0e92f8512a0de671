"""``seedguide template``: a plan's printed template as files, with the self-check's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planning.refusal import AskedWrongly

FILES = ("template.stl", "template.3mf", "template.json", "template.png")


@click.command(
    help="Make the template of PLAN (a plan.json) for a 3D printer: a shell that fits the skin seen in CASE, a "
    "guide for each needle, hole names, head arrow, laser crosses, plan id and sockets for fiducial balls. The "
    "files are read back and checked; a template that fails a check is not written.",
)
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the files."
)
@click.option("--protocol", help="Site protocol: its name or its file.  [default: the one of the plan]")
@click.option("--guide-mm", type=click.FloatRange(15, 80), help="Least length of a guide.  [default: 20]")
@click.option("--clearance-mm", type=click.FloatRange(0.02, 1.0), help="Bore less needle.  [default: 0.17]")
@click.option(
    "--rim-mm",
    type=click.FloatRange(10, 60),
    help="Shell beyond the guides.  [default: 22, or as far as marks and balls need]",
)
@click.option("--shell-mm", type=click.FloatRange(2, 3), help="Thickness of the shell.  [default: 2.5]")
@click.option("--gap-mm", type=click.FloatRange(0, 2), help="Between shell and skin.  [default: 0.3]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier template in DIR.")
def template(
    plan_file: Path, case: Path, out: Path, protocol: str | None, overwrite: bool, **sizes: Any
) -> int:
    """Read, make, check, write."""
    from dataclasses import replace

    from console.pictures import png
    from console.template_picture import template_picture
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.plan import Plan
    from planning.site_protocol import load_site_protocol
    from planning.template import make_template, write_template
    from planning.template_guide import TemplateRules
    from planning.whole_file import write_whole

    if not case.is_dir():
        raise AskedWrongly(
            f"{case}: no such folder; CASE is a folder with a CT series and an RT Structure Set."
        )
    _check_folder(out, case, overwrite=overwrite)
    plan = Plan.load(plan_file)
    read = read_case(case)
    if plan.series_uid != read.ct.series_uid:
        raise AskedWrongly(
            f"{plan_file}: the plan was made on another CT series than the one in {case}; give its own case."
        )
    site = load_site_protocol(protocol or plan.site_protocol)
    anatomy = build_anatomy(read, site, target=plan.target, margin_mm=plan.margin_mm)
    needle = site.needle
    rules = TemplateRules(needle_diameter_mm=needle.diameter_mm, needle_length_mm=needle.length_mm)
    rules = replace(rules, **{name: size for name, size in sizes.items() if size is not None})
    if sizes["rim_mm"] is not None:  # what was asked for, not more
        rules = replace(rules, widest_rim_mm=sizes["rim_mm"])
    made = make_template(plan, anatomy.body, anatomy.grid, rules)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise AskedWrongly(f"{out}: the output folder can't be made ({problem.strerror}).") from problem
    paths = write_template(made, out)
    write_whole(out / "template.png", png(template_picture(made), dpi=130))

    for row in made.checks:
        print(f"  {row.what:38s} {row.found:>22s}   {row.wanted}")
    balls = len(made.layout.balls_mm)
    print(f"{paths['stl']}: {len(made.guides)} guides, {balls} fiducial balls, plan {made.plan_hash[:8]}")
    return 0


def _check_folder(out: Path, case: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise AskedWrongly(f"{out}: not a folder; choose another --out.")
    if out.resolve().is_relative_to(case.resolve()):
        raise AskedWrongly(f"{out}: the output folder lies in the input folder {case}; choose another --out.")
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise AskedWrongly(f"{out}: holds {there[0]} already; choose another --out or add --overwrite.")
