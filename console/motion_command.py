"""``seedguide motion``: Perk Tutor's five measures of a recording, of a training run or of any other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from planning.refusal import AskedWrongly


@click.command(
    help="Measure the needle motions in RECORDING as Perk Tutor does: elapsed time, path length, path and time in "
    "tissue, tissue damage. RECORDING is a log of its Transform Recorder (.xml) or a linear transform sequence of "
    "3D Slicer (.mha), as in a training run's folder or by others: RAS, mm, each transform with the tip at its origin "
    "and z towards the tip. The tissue is the body in the CT in CASE. Research and training software, not a medical "
    "device.",
)
@click.argument("recording", type=click.Path(path_type=Path))
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="Structure that is the target.  [default: the one named GTV]")
def motion(recording: Path, case: Path, target: str | None) -> int:
    """Read, measure, show."""
    from rich.console import Console
    from rich.table import Table

    from console.training.debrief import MOTION_NAMES
    from console.training.needle_motion import BodyTissue, motion_of, together
    from console.training.transform_recording import RAS_FROM_LPS, read_sequence, read_xml
    from planning.anatomy import build_anatomy
    from planning.dicom import read_case
    from planning.site_protocol import load_site_protocol

    read = {".xml": read_xml, ".mha": read_sequence}.get(recording.suffix.lower())
    if read is None:
        raise AskedWrongly(f"{recording}: is neither a Transform Recorder log (.xml) nor a sequence (.mha).")
    if not case.is_dir():
        raise AskedWrongly(f"{case}: no such folder; name one with a CT and structures.")
    told = read(recording)
    if not told.devices:
        raise AskedWrongly(f"{recording}: holds no transform; there is nothing to be measured.")
    protocol = load_site_protocol("head-and-neck")
    anatomy = build_anatomy(read_case(case), protocol, target=target, margin_mm=protocol.margin_mm)
    tissue = BodyTissue(anatomy.body, anatomy.grid)
    times = {device: told.of(device)[0] for device in told.devices}
    motions = {
        device: motion_of(times[device], RAS_FROM_LPS @ told.of(device)[1], tissue) for device in told.devices
    }
    lasted_s = max(t_s[-1] for t_s in times.values()) - min(t_s[0] for t_s in times.values())
    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("transform")
    for words, unit in MOTION_NAMES.values():
        table.add_column(f"{words} {unit}", justify="right")
    for name, one in [*motions.items(), ("all", together(list(motions.values()), float(lasted_s)))]:
        table.add_row(name, *(f"{asdict(one)[key]:.1f}" for key in MOTION_NAMES))
    Console(highlight=False).print(table)
    return 0
