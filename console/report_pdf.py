"""``report.pdf``: the same report on paper. Takes what ``report`` has put together; computes nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

NOTICE = "Research and training software, not a medical device, not for clinical use."
_WIDTH = A4[0] - 36 * mm
_GOOD, _BAD = colors.HexColor("#0a6b2e"), colors.HexColor("#a11212")


def write_pdf(told: dict[str, Any], pictures: dict[str, bytes], confirmed: Iterable[Any], path: Path) -> Path:
    """Write the file.

    Args:
        told: the template's values of ``report.html``.
        pictures: PNG of ``deviations`` and ``dvh``.
        confirmed: ``Confirmation``s in order.
        path: of the new file.
    """
    _fonts()
    result, plan = told["result"], told["plan"]
    story: list[Any] = [
        _text(f"Seed implantation: {plan.patient_name or plan.patient_id}", "title"),
        _text(NOTICE, "notice"),
        _text(
            f"Patient {plan.patient_id} · target {plan.target} · {len(plan.needles)} needles, "
            f"{len(plan.seeds)} seeds · {told['kind']}"
        ),
        _text(told["verdict"], "good" if told["passed"] else "bad"),
    ]
    if result.status == "held":
        story.append(_text(f"Held for a person. {result.reason}", "bad"))
    story += [_text("Goals", "h2"), _goals(told["goals"])]
    story += [_text("Plan", "h2"), _pairs(_plan_pairs(plan))]
    story.append(_text("Slices through the target", "h2"))
    story.append(_row_of_pictures([base64.b64decode(data) for data, _ in told["slices"]]))
    story += [_text("Needles", "h2"), _picture(pictures["deviations"]), _needles(told)]
    story.append(_text("Scans", "h2"))
    for scan in told["rounds"]:
        part = [_text(f"CT {scan['number']}: {scan['words']}", "h3"), _text(scan["text"])]
        if scan["picture"]:
            part += [_picture(base64.b64decode(scan["picture"]), 0.75), _text(scan["caption"], "note")]
        story.append(KeepTogether(part))
    story += [_text("Dose", "h2"), _picture(pictures["dvh"]), *_doses(told)]
    story += [_text("Seeds", "h2"), _text(told["seeds_note"], "note"), _seeds(told)]
    story.append(_text("Who confirmed", "h2"))
    story.append(
        _table(
            ["time", "who", "word", "about"],
            [[_clock(c.t_s), c.who, c.word, _text(c.about, "cell")] for c in confirmed],
            [18 * mm, 26 * mm, 26 * mm, None],
        )
    )
    story.append(_text("Faults", "h2"))
    story += [_text(f"{n}. {fault}") for n, fault in enumerate(result.faults, 1)] or [_text("None.")]
    story.append(_text("Record", "h2"))
    story.append(
        _pairs(
            [
                ("Journal digest", result.digest),
                ("Procedure's own time", told["procedure_time"]),
                ("Made by", f"seedguide {told['version']}"),
            ]
        )
    )
    document = SimpleDocTemplate(
        str(path),
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=16 * mm,
        bottomMargin=16 * mm,
        title=f"seedguide: {plan.patient_id}, {result.status}",
        author=f"seedguide {told['version']}",
        invariant=1,
    )
    footing = _footing(plan.patient_id, result.digest)
    document.build(story, onFirstPage=footing, onLaterPages=footing)
    return path


def _fonts() -> None:
    if "Body" not in pdfmetrics.getRegisteredFontNames():
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        pdfmetrics.registerFont(TTFont("Body", str(fonts / "DejaVuSans.ttf")))
        pdfmetrics.registerFont(TTFont("Body-Bold", str(fonts / "DejaVuSans-Bold.ttf")))
        pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))  # names in Chinese; every reader has it


_STYLES: dict[str, dict[str, Any]] = {
    "body": {"fontSize": 9, "leading": 12},
    "cell": {"fontSize": 7.5, "leading": 9.5},
    "title": {"fontSize": 16, "leading": 20, "fontName": "Body-Bold"},
    "h2": {"fontSize": 12, "leading": 16, "fontName": "Body-Bold", "spaceBefore": 10, "keepWithNext": 1},
    "h3": {"fontSize": 10, "leading": 13, "fontName": "Body-Bold", "spaceBefore": 6, "keepWithNext": 1},
    "note": {"fontSize": 8, "leading": 10, "textColor": colors.HexColor("#444444")},
    "notice": {"fontSize": 9, "leading": 12, "textColor": _BAD},
    "good": {"fontSize": 11, "leading": 15, "fontName": "Body-Bold", "textColor": _GOOD},
    "bad": {"fontSize": 11, "leading": 15, "fontName": "Body-Bold", "textColor": _BAD},
}


def _text(words: str, style: str = "body") -> Paragraph:
    marked = "".join(
        f'<font name="STSong-Light">{escape(sign)}</font>' if "⺀" <= sign <= "鿿" else escape(sign)
        for sign in words
    )
    return Paragraph(marked, ParagraphStyle(style, **{"fontName": "Body", **_STYLES[style]}))


def _table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], widths: Sequence[float | None] | None = None
) -> Table:
    cells = [[cell if not isinstance(cell, str) else _text(cell, "cell") for cell in row] for row in rows]
    if widths is not None:
        left = _WIDTH - sum(width or 0.0 for width in widths)
        widths = [left if width is None else width for width in widths]
    made = Table(
        [[_text(word, "cell") for word in head], *cells],
        colWidths=widths or [_WIDTH / len(head)] * len(head),
        repeatRows=1,
    )
    made.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.HexColor("#bbbbbb")),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#eef1f5")),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
            ]
        )
    )
    return made


def _pairs(pairs: Iterable[tuple[str, str]]) -> Table:
    made = Table(
        [[_text(name, "cell"), _text(value, "cell")] for name, value in pairs],
        colWidths=[38 * mm, _WIDTH - 38 * mm],
    )
    made.setStyle(TableStyle([("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)]))
    return made


def _picture(data: bytes, share: float = 1.0) -> Image:
    wide, high = ImageReader(BytesIO(data)).getSize()
    width = min(_WIDTH * share, 150 * mm * wide / high)
    return Image(BytesIO(data), width, width * high / wide)


def _row_of_pictures(pictures: Sequence[bytes]) -> Table | Spacer:
    if not pictures:
        return Spacer(1, 1)
    return Table([[_picture(data, 0.97 / len(pictures)) for data in pictures]])


def _goals(goals: Iterable[Any]) -> Table:
    rows = [["✓ met" if g.met else "✗ missed", g.name, g.wanted, g.reached] for g in goals]
    return _table(["", "goal", "wanted", "reached"], rows, [20 * mm, None, 42 * mm, 42 * mm])


def _plan_pairs(plan: Any) -> list[tuple[str, str]]:
    return [
        ("Target", f"{plan.target}, CTV = target + {plan.margin_mm:g} mm"),
        ("Prescription", f"{plan.prescription_gy:g} Gy to infinity"),
        ("Source", f"{plan.source_model}, {plan.seed_length_mm:g} mm long, half-life {plan.half_life_d:g} d"),
        ("Activity", f"{plan.activity_mci:g} mCi = {plan.air_kerma_strength_u:.3f} U a seed"),
        ("Site protocol", plan.site_protocol),
        ("CT series", plan.series_uid),
        ("Frame of reference", plan.frame_of_reference_uid),
        ("Plan's hash", plan.content_hash),
    ]


def _needles(told: dict[str, Any]) -> Table:
    def of(deviation: Any) -> list[str]:
        if deviation is None:
            return ["–", "–", "–", "–", "–"]
        return [
            f"{deviation.total_mm:.1f} ± {deviation.sigma_mm:.1f}",
            f"{deviation.lateral_mm:.1f}",
            f"{deviation.depth_mm:+.1f}",
            f"{deviation.angle_deg:.1f}",
            f"{told['symbol'][deviation.verdict]} {deviation.verdict.value}",
        ]

    rows = [
        [
            f"{n.name} {n.hole}" + (" ref" if n.is_reference else ""),
            str(n.attempt),
            *of(n.first_deviation)[:1],
            *of(n.deviation),
            f"{n.seeds_delivered}/{n.seeds_planned}",
        ]
        for n in told["result"].final.needles
    ]
    head = ["needle", "attempts", "first mm", "final mm", "lateral", "depth", "angle °", "verdict", "seeds"]
    return _table(head, rows)


def _doses(told: dict[str, Any]) -> list[Any]:
    parts = []
    for columns, rows in (("target_columns", "targets"), ("organ_columns", "organs")):
        head = ["structure", "cm³"]
        for name, unit in told[columns]:
            head += [f"{name} {unit} planned", "delivered"]
        parts.append(_table(head, [row for row, _ in told[rows]]))
        parts.append(Spacer(1, 4 * mm))
    limits = [limit for _, limits in (*told["targets"], *told["organs"]) for limit in limits]
    parts.append(
        _table(
            ["", f"limit, judged for {told['judged_for']}", "reached"],
            [["✓" if g.met else "✗", g.wanted, f"{g.value:.1f} {g.unit}"] for g in limits],
            [10 * mm, None, 40 * mm],
        )
    )
    return parts


def _seeds(told: dict[str, Any]) -> Table:
    point = told["point"]
    rows = [
        [
            str(s.number),
            s.needle,
            point(s.planned_mm),
            s.outcome,
            "not seen" if s.found_mm is None else point(s.found_mm),
            "–" if s.distance_mm is None else f"{s.distance_mm:.1f}",
        ]
        for s in told["result"].seeds
    ]
    rows += [["", "", "", "nobody planned it", point(at), "–"] for at in told["result"].unplanned_seeds_mm]
    widths = [12 * mm, 16 * mm, 46 * mm, None, 46 * mm, 18 * mm]
    return _table(["seed", "needle", "planned at mm", "outcome", "found at mm", "apart mm"], rows, widths)


def _clock(t_s: float) -> str:
    s = int(t_s)
    return f"{s // 3600}:{s // 60 % 60:02d}:{s % 60:02d}"


def _footing(patient: str, digest: str) -> Any:
    def foot(canvas: Any, document: Any) -> None:
        canvas.saveState()
        canvas.setFont("Body", 7)
        canvas.drawString(18 * mm, 9 * mm, f"{patient}   journal {digest[:16]}   {NOTICE}")
        canvas.drawRightString(A4[0] - 18 * mm, 9 * mm, f"{document.page}")
        canvas.restoreState()

    return foot
