"""``seedguide export``: a run as other programs open it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from planning.refusal import AskedWrongly

MARKER = ".seedguide-export"


@click.command(
    help="Write every scan, RT object and model of the run (or plan) in DIR into a folder that 3D Slicer opens as it "
    "is: DICOM, volumes (NRRD), models (PLY), markups, transforms. Research and training software, not a medical "
    "device."
)
@click.argument("run", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--slicer", "out", required=True, metavar="OUT", type=click.Path(path_type=Path), help="The folder."
)
@click.option(
    "--case", metavar="CASE", type=click.Path(path_type=Path), help="The planning CT, if it has moved."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in OUT.")
def export(run: Path, out: Path, case: Path | None, overwrite: bool) -> int:
    """Beside OUT first; in its place when it is whole."""
    from console.slicer.export import SlicerFolder
    from console.web_server import case_of_run
    from controller.order import PLAN_FILE

    if not (run / PLAN_FILE).is_file():
        raise AskedWrongly(f"{run}: no run or plan of seedguide (no {PLAN_FILE}).")
    case = case_of_run(run) if case is None else case
    out = Path(os.path.realpath(out))
    _check_free(out, run, case, overwrite=overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        growing = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as problem:
        raise AskedWrongly(f"{out}: can't be written ({problem.strerror or problem}).") from problem
    try:
        written = SlicerFolder(run, case, growing, lambda line: click.echo(line, err=True)).write()
        (growing / MARKER).touch()
        growing.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        growing.replace(out)
    except OSError as problem:
        raise AskedWrongly(f"{out}: can't be written ({problem.strerror or problem}).") from problem
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    for line in written.left_out:
        click.echo(f"left out: {line}", err=True)
    click.echo(
        f"{out}: {', '.join(written.told)}. Open it: Slicer --python-script {out / 'open_in_slicer.py'}"
    )
    return 0


def _check_free(out: Path, run: Path, case: Path, *, overwrite: bool) -> None:
    for inside in (run, case):
        if out.is_relative_to(os.path.realpath(inside)) or Path(os.path.realpath(inside)).is_relative_to(out):
            raise AskedWrongly(f"{out}: lies in {inside}, or holds it; choose another --slicer.")
    if out.exists() and not out.is_dir():
        raise AskedWrongly(f"{out}: not a folder; choose another --slicer.")
    if out.is_dir() and any(out.iterdir()) and not (overwrite and (out / MARKER).is_file()):
        hint = "add --overwrite" if (out / MARKER).is_file() else "it is no earlier export"
        raise AskedWrongly(f"{out}: the folder is not empty ({hint}); choose another --slicer.")
