"""``report.html``: the whole procedure on one page that needs nothing from outside, for the screen and for paper."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from console.confirmations import confirmations
from console.goals import Goal
from console.live import SYMBOL, in_words
from console.pictures import overview_picture, png, svg
from console.plots import DvhCurve, deviation_picture, dvh_picture
from console.report_pdf import write_pdf
from console.slices import (
    FOUND,
    ISODOSE,
    PLANNED,
    SLAB_MM,
    TARGETS,
    UNPLANNED,
    WINDOW_HU,
    axial_picture,
    needle_picture,
    target_slices_mm,
)
from controller.journal import read_journal
from controller.result import DoseResult, ProcedureResult, RoundRecord
from imaging.deviation import TOLERANCE_MM, Verdict
from planning.dicom import read_ct
from planning.dvh import StructureStatistics, dvh_curve
from planning.frame import Floats
from planning.goals import Goal as OrganGoal
from planning.goals import judge_goals
from planning.plan import PlannedNeedle, Point
from planning.site_protocol import SiteProtocol
from planning.volume import CtVolume, Grid

TARGET_COLUMNS = (
    ("D90", "Gy", "d90_gy"),
    ("V100", "%", "v100_pct"),
    ("V150", "%", "v150_pct"),
    ("V200", "%", "v200_pct"),
)
ORGAN_COLUMNS = (("D2cc", "Gy", "d2cc_gy"), ("D0.1cc", "Gy", "d01cc_gy"))
_CSS = {Verdict.WITHIN: "good", Verdict.BEYOND: "bad", Verdict.CANNOT_TELL: "unsure"}
_ROUND_WORDS = {
    "reference": "reference needles",
    "needles": "all seed needles",
    "seeds": "delivered seeds",
}


@dataclass(frozen=True)
class ScanPicture:
    """What is drawn of one rescan: the needle that was worst in it."""

    record: RoundRecord
    scan: CtVolume
    needle: PlannedNeedle


def write_report(
    result: ProcedureResult, goals: Sequence[Goal], protocol: SiteProtocol | None, folder: Path
) -> Path:
    """Write ``report.html``, ``report.pdf`` and ``overview.png`` into the folder; the first one's path.

    Args:
        result: what the procedure left behind; its scans' folders are read for the pictures.
        goals: as judged.
        protocol: whose organ limits stand beside the organs' doses; None leaves them out.
        folder: existing output folder.
    """
    scans = [ScanPicture(record, read_ct(record.folder), worst) for record, worst in _worst_needles(result)]
    curves = dvh_curves(result)
    first = next((scan for scan in scans if scan.record.kind == "needles"), None)
    sheet = overview_picture(
        result, curves, TOLERANCE_MM, None if first is None else (first.record, first.scan, first.needle)
    )
    (folder / "overview.png").write_bytes(png(sheet))
    deviations = deviation_picture(result, TOLERANCE_MM)
    dvh = dvh_picture(curves, result.plan.prescription_gy)
    journal = folder / "journal.sqlite"
    confirmed = confirmations(read_journal(journal)) if journal.is_file() else []
    told = {
        **_identity(result, goals),
        **_doses(result, protocol),
        "slices": [
            (_base64(png(axial_picture(result, z_mm))), f"Axial slice at z = {z_mm:.1f} mm")
            for z_mm in target_slices_mm(result, 3)
        ],
        "deviation_plot": Markup(svg(deviations)),
        "dvh_plot": Markup(svg(dvh)),
        "rounds": _rounds(result, scans),
        "confirmed": confirmed,
    }
    path = folder / "report.html"
    path.write_text(environment().get_template("report.html.j2").render(told), encoding="utf-8")
    write_pdf(told, {"deviations": png(deviations), "dvh": png(dvh)}, confirmed, folder / "report.pdf")
    return path


def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _identity(result: ProcedureResult, goals: Sequence[Goal]) -> dict[str, Any]:
    missed = sum(not goal.met for goal in goals)
    passed = result.status == "completed" and missed == 0
    if result.status == "held":
        verdict = "■ Held: stopped for a person"
    else:
        verdict = (
            "✓ Completed, every goal met" if passed else f"✗ Completed, {missed} of {len(goals)} goals missed"
        )
    final = [n.deviation.total_mm for n in result.final.needles if n.deviation is not None]
    ctv = (result.delivered or result.planned).statistics["CTV"]
    found = [seed.distance_mm for seed in result.seeds if seed.distance_mm is not None]
    corrections = sum(len(scan.corrected) for scan in result.rounds)
    minutes, seconds = divmod(int(result.final.virtual_time_s), 60)
    return {
        "result": result,
        "plan": result.plan,
        "goals": goals,
        "passed": passed,
        "verdict": verdict,
        "kind": "rehearsal with simulated devices"
        if result.true_tips_mm is not None
        else ("procedure with simulated devices" if result.is_simulated else "procedure"),
        "cards": (
            (f"{ctv.d90_gy:.0f} Gy", f"CTV D90 {'planned' if result.delivered is None else 'delivered'}"),
            (f"{max(final):.1f} mm" if final else "–", "largest final tip deviation"),
            (f"{result.seeds_in_journal} / {len(result.plan.seeds)}", "seeds delivered / planned"),
            (f"{len(result.rounds)} CTs", f"and {corrections} needle corrections"),
        ),
        "seeds_note": (
            f"{len(found)} of {len(result.seeds)} found in the last CT, on average "
            f"{sum(found) / len(found):.1f} mm from where they were planned, at most {max(found):.1f} mm."
            if found
            else "No seed was found in a CT."
        ),
        "procedure_time": f"{minutes} min {seconds:02d} s",
        "version": version("seedguide"),
        "tolerance": f"{TOLERANCE_MM:g}",
        "css": _CSS,
        "symbol": SYMBOL,
        "point": _point,
        "window": f"{WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU",
        "slab_mm": SLAB_MM,
        "legend": [
            *TARGETS.items(),
            ("planned seed", PLANNED),
            ("found seed", FOUND),
            *([("seed nobody planned", UNPLANNED)] if result.unplanned_seeds_mm else []),
            *((f"{pct:.0f} %", colour) for pct, colour in ISODOSE.items()),
        ],
    }


def _doses(result: ProcedureResult, protocol: SiteProtocol | None) -> dict[str, Any]:
    names = list(result.planned.statistics)
    judged = result.delivered or result.planned
    limits: dict[str, list[OrganGoal]] = {name: [] for name in names}
    for goal in judge_goals(protocol, judged.statistics, result.plan.prescription_gy) if protocol else ():
        limits[goal.name].append(goal)
    return {
        "judged_for": "the plan" if result.delivered is None else "the delivered dose",
        "target_columns": [column[:2] for column in TARGET_COLUMNS],
        "organ_columns": [column[:2] for column in ORGAN_COLUMNS],
        "targets": [(_dose_row(result, name, TARGET_COLUMNS), limits[name]) for name in TARGETS],
        "organs": [
            (_dose_row(result, name, ORGAN_COLUMNS), limits[name]) for name in names if name not in TARGETS
        ],
    }


def _dose_row(result: ProcedureResult, name: str, columns: Sequence[tuple[str, str, str]]) -> list[str]:
    planned = result.planned.statistics[name]
    delivered = result.delivered.statistics.get(name) if result.delivered is not None else None
    row = [name, f"{planned.volume_cc:.1f}"]
    for _, _, attribute in columns:
        row += [_figure(planned, attribute), _figure(delivered, attribute)]
    return row


def _figure(statistics: StructureStatistics | None, attribute: str) -> str:
    value = None if statistics is None else getattr(statistics, attribute)
    return "–" if value is None else f"{value:.1f}"


def _rounds(result: ProcedureResult, scans: Sequence[ScanPicture]) -> list[dict[str, Any]]:
    pictures = {scan.record.scan_number: scan for scan in scans}
    rounds = []
    for record in result.rounds:
        scan = pictures.get(record.scan_number)
        rounds.append(
            {
                "number": record.scan_number,
                "words": _ROUND_WORDS[record.kind],
                "text": _round_text(record),
                "picture": scan and _base64(png(needle_picture(result, record, scan.scan, scan.needle))),
                "needle": scan and scan.needle.name,
                "caption": scan and _caption(record, scan.needle),
            }
        )
    return rounds


def _round_text(record: RoundRecord) -> str:
    words = f"Slices of {record.slice_thickness_mm:g} mm. "
    if record.kind == "seeds":
        return (
            words + "The seeds were searched in this CT, and the delivered dose computed from where they lie."
        )
    within = sum(deviation.total_mm <= TOLERANCE_MM for _, deviation in record.deviations)
    words += f"{within} of {len(record.deviations)} needles within {TOLERANCE_MM:g} mm."
    corrected = ", ".join(record.corrected)
    return words + (f" Corrected then: {corrected}." if corrected else " None corrected.")


def _caption(record: RoundRecord, needle: PlannedNeedle) -> str:
    if record.kind == "seeds":
        return f"Along needle {needle.name}: seeds planned (green) and found (x)."
    deviation = dict(record.deviations).get(needle.name)
    words = f"The worst of this CT, needle {needle.name}: planned (green, tip +), found (dashed, tip x)"
    return f"{words}: {in_words(deviation)}." if deviation is not None else f"{words}: not seen."


def _worst_needles(result: ProcedureResult) -> list[tuple[RoundRecord, PlannedNeedle]]:
    """Of each scan the needle to draw: the largest tip deviation, or the largest seed distance."""
    worst = []
    for record in result.rounds:
        if record.kind == "seeds":
            seeds = [(seed.distance_mm, seed.needle) for seed in result.seeds if seed.distance_mm is not None]
            name = max(seeds)[1] if seeds else None
        else:
            tips = [(deviation.total_mm, name) for name, deviation in record.deviations]
            name = max(tips)[1] if tips else None
        if name is not None:
            worst.append((record, result.plan.needle(name)))
    return worst


def dvh_curves(result: ProcedureResult) -> list[DvhCurve]:
    """GTV, CTV and the six organs with the highest D0.1cc."""
    statistics, anatomy = result.planned.statistics, result.anatomy
    masks = {"GTV": anatomy.gtv, "CTV": anatomy.ctv, **anatomy.organs}
    levels_gy = np.linspace(0.0, 3.0 * result.plan.prescription_gy, 241)

    def curve(name: str, dose: DoseResult) -> Floats:
        return dvh_curve(
            name, _mask_on(masks[name], anatomy.grid, dose.grid), dose.dose_gy, dose.grid, levels_gy
        )

    organs = sorted(
        (name for name in statistics if name not in TARGETS), key=lambda n: -_hottest_gy(statistics[n])
    )
    return [
        DvhCurve(
            name,
            levels_gy,
            curve(name, result.planned),
            None if result.delivered is None else curve(name, result.delivered),
        )
        for name in ["GTV", "CTV", *organs[:6]]
    ]


def _mask_on(mask: NDArray[np.bool_], grid: Grid, other: Grid) -> NDArray[np.bool_]:
    """The mask at the voxels of another grid with the same axes: what lies outside that grid is left out."""
    z, y, x = (
        np.rint((other.centres_mm(a) - grid.origin_mm[a]) / grid.spacing_mm[a]).astype(int) for a in (2, 1, 0)
    )
    return np.asarray(mask[np.ix_(z, y, x)])


def _hottest_gy(statistics: StructureStatistics) -> float:
    return statistics.max_gy if statistics.d01cc_gy is None else statistics.d01cc_gy


def _point(values: Point) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
