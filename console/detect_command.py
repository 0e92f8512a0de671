"""``seedguide detect``: what one CT shows, as a table, as ``detected.json`` and as a picture per needle."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planning.refusal import AskedWrongly

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from imaging.detected import Detected, DetectedNeedle
    from planning.volume import CtVolume

_OWN_FILES = ("detected.json", "needle-*.png")


@click.command(
    name="detect",
    help="Find needles and seeds in SCAN, a folder with one CT series. With --plan each is compared with "
    "what was planned; with --case too (the planning CT) the patient's movement between the two CTs is "
    "taken out. Writes detected.json and a picture per needle into DIR.",
)
@click.argument("scan", type=click.Path(path_type=Path))
@click.option("--plan", metavar="PLAN", type=click.Path(path_type=Path), help="plan.json of the implant.")
@click.option(
    "--case",
    metavar="CASE",
    type=click.Path(path_type=Path),
    help="Folder with the planning CT, to register to.",
)
@click.option("--what", default="needles,seeds", show_default=True, help="What to look for.")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the results."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier result of this command in DIR.")
@click.option("--no-pictures", is_flag=True, help="Write detected.json only.")
def detect(
    scan: Path,
    plan: Path | None,
    case: Path | None,
    what: str,
    out: Path,
    overwrite: bool,
    no_pictures: bool,
) -> int:
    """Read, find, write, show."""
    from console.detect_progress import detect_progress
    from imaging.detection import detect as find
    from planning.dicom import read_ct
    from planning.plan import Plan

    wanted = _what(what)
    if plan is None and case is not None:
        raise AskedWrongly("--case needs --plan: it is the CT that the plan was made on.")
    _check_free(out, overwrite=overwrite)
    made = None if plan is None else Plan.load(plan)
    with detect_progress() as tell:
        tell(f"reading {scan}", 0.0)
        ct = read_ct(scan)
        planning_ct = None if case is None else read_ct(case)
        found = find(ct, made, planning_ct, what=wanted, tell=tell)
        tell("drawing pictures", 0.95)
        _write(found, ct, out, pictures=not no_pictures)
    _show(found, out)
    return 0


def _what(text: str) -> tuple[str, ...]:
    from imaging.detected import WHAT

    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if word not in WHAT:
            raise AskedWrongly(f"--what {text}: '{word}' can't be looked for; use needles, seeds or both.")
    return words


def _check_free(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise AskedWrongly(f"{out}: not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise AskedWrongly(f"{out}: the output folder is not empty; choose another --out or add --overwrite.")


def _write(found: Detected, ct: CtVolume, out: Path, *, pictures: bool) -> None:
    from console.needle_pictures import needle_picture
    from console.pictures import png
    from planning.whole_file import write_whole

    files = {}
    if pictures:
        for name, needle in _named(found):
            place = found.places.get(name) if needle is None else needle.place
            files[f"needle-{_safe(name)}.png"] = png(needle_picture(ct, name, needle, place))
    text = json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for pattern in _OWN_FILES:
            for old in out.glob(pattern):
                old.unlink()
    except OSError as problem:
        raise AskedWrongly(f"{out}: can't be written into ({problem.strerror}).") from problem
    for file, content in files.items():
        write_whole(out / file, content)
    write_whole(out / "detected.json", text.encode())


def _named(found: Detected) -> Iterator[tuple[str, DetectedNeedle | None]]:
    """Every needle with a name for people: planned ones theirs, others ``unplanned-1`` ..., unseen ones too."""
    strangers = 0
    for needle in found.needles:
        strangers += needle.planned is None
        yield (needle.planned or f"unplanned-{strangers}"), needle
    for name in found.unseen_needles:
        yield name, None


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _show(found: Detected, out: Path) -> None:
    from rich.console import Console

    screen = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if "needles" in found.what:
        screen.print(_needle_table(found))
        _say_unseen(screen, "needles", found.unseen_needles)
        for metal in found.unresolved_metal:
            screen.print(
                f"Unresolved metal: {metal.length_mm:.0f} mm long, between {_point(metal.low_mm)} and "
                f"{_point(metal.high_mm)}; needles in it could not be told apart.",
                soft_wrap=True,
                markup=False,
            )
    if "seeds" in found.what:
        screen.print(_seed_table(found))
        _say_unseen(screen, "seeds", [str(number) for number in found.unseen_seeds])
    for note in found.notes:
        screen.print(f"Note: {note}.", soft_wrap=True, markup=False)
    screen.print(f"Written: {out / 'detected.json'}", soft_wrap=True, markup=False)


def _say_unseen(screen: Console, what: str, names: Sequence[str]) -> None:
    if names:
        screen.print(f"Planned {what} not seen ({len(names)}): {', '.join(names)}", markup=False)


def _needle_table(found: Detected) -> Table:
    from rich.table import Table

    compared = any(needle.apart is not None for needle in found.needles)
    further = ("apart", "lateral", "depth", "angle", "2 mm") if compared else ()
    title = f"{len(found.needles)} needles (mm)"
    if found.unresolved_metal:
        title = f"{len(found.needles)} needles, and metal that was not resolved (mm)"
    table = Table(title=title, title_justify="left")
    for heading in ("needle", "tip x, y, z", "1 sigma", *further):
        left = heading in ("needle", "2 mm")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for name, needle in _named(found):
        if needle is None:
            continue
        row = [name, _point(needle.tip_mm), f"{needle.sigma_mm:.2f}"]
        if needle.apart is not None:
            apart = needle.apart
            row += [f"{apart.total_mm:.2f}", f"{apart.lateral_mm:.2f}", f"{apart.depth_mm:+.2f}"]
            row += [f"{apart.angle_deg:.1f}°", apart.verdict.value]
        table.add_row(*row)
    return table


def _seed_table(found: Detected) -> Table:
    import numpy as np
    from rich.table import Table

    table = Table(title=f"{len(found.seeds)} seeds (mm)", title_justify="left")
    for heading in ("seed", "centre x, y, z", "1 sigma", "from plan"):
        table.add_column(heading, justify="left" if heading == "seed" else "right", no_wrap=True)
    for seed in found.seeds:
        name = "unplanned" if seed.planned is None else str(seed.planned)
        apart = ""
        if seed.place is not None:
            apart = f"{np.linalg.norm(np.subtract(seed.centre_mm, seed.place.point_mm)):.2f}"
        table.add_row(name, _point(seed.centre_mm), f"{seed.sigma_mm:.2f}", apart)
    return table


def _point(point: tuple[float, float, float]) -> str:
    return "{:.1f}, {:.1f}, {:.1f}".format(*point)
