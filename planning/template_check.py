"""The self-check of a template: what the printer will get is the file, so the file is read back and measured.

Nothing here uses the solid the file was made from; trimesh judges the surface, own rays measure bores and walls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from planning.frame import Floats, unit
from planning.refusal import AskedWrongly
from planning.template_guide import FUNNEL_MM, FUNNEL_WIDER_MM, Guide, TemplateRules
from planning.template_rays import crossings

AHEAD_MM = 30.0  # free before a tube's top: what the applicator and the hand need
SLACK_MM = 0.02  # of bores and walls, for flat facets and rounding
LENGTH_SLACK_MM = 0.1
WALL_HEIGHTS, WALL_ANGLES = 6, 12
SHELL_SAMPLES = 400


@dataclass(frozen=True)
class CheckRow:
    """One line of the self-check's table."""

    what: str
    found: str
    wanted: str


def check_file(
    corners_mm: Floats, guides: list[Guide], genus_uncut: int, rules: TemplateRules
) -> tuple[list[CheckRow], dict[str, float]]:
    """Check a part that was read from its file.

    Args:
        corners_mm: ``(m, 3, 3)`` triangles in the rig frame.
        genus_uncut: of the part before its bores were cut; every bore adds one.

    Returns:
        The table, and needle -> length of its guide as measured.

    Raises:
        AskedWrongly: the first check that fails, naming the needles.
    """
    surface = trimesh.Trimesh(corners_mm.reshape(-1, 3), np.arange(3 * len(corners_mm)).reshape(-1, 3))
    surface.merge_vertices()
    bodies = len(surface.split(only_watertight=False)) if len(surface.faces) else 0
    if not (surface.is_watertight and surface.is_winding_consistent) or surface.volume <= 0.0:
        raise AskedWrongly(
            "template: the file's surface is not watertight; change the rim or the shell a little."
        )
    if bodies != 1:
        raise AskedWrongly(
            f"template: the file holds {bodies} separate bodies; plan the needles closer together."
        )
    genus = 1 - surface.euler_number // 2
    if genus != genus_uncut + len(guides):
        raise AskedWrongly(
            f"template: the part has {genus} holes, {genus_uncut + len(guides)} expected "
            f"({len(guides)} bores): some bores have run together or not come through."
        )
    size = np.ptp(surface.bounds, axis=0)
    if np.any(np.sort(size) > np.sort(rules.printer_mm)):
        raise AskedWrongly(
            f"template: {size[0]:.0f} x {size[1]:.0f} x {size[2]:.0f} mm does not fit the printer's "
            f"{'x'.join(f'{v:g}' for v in rules.printer_mm)} mm; farthest out lie {_outermost(guides)}."
        )
    lengths, walls = {}, {}
    for guide in guides:
        near = _near(corners_mm, guide, 12.0)
        _check_open(near, guide, rules)
        lengths[guide.needle] = _length(near, guide, rules)
        walls[guide.needle] = _wall(near, guide, rules)
    _refuse(
        [n for n, length in lengths.items() if length < rules.guide_mm - LENGTH_SLACK_MM],
        f"have guides shorter than {rules.guide_mm:g} mm",
    )
    _refuse(
        [n for n, wall in walls.items() if wall < rules.least_wall_mm - SLACK_MM],
        f"have less than {rules.least_wall_mm:g} mm of wall around the bore",
    )
    play = {n: float(np.degrees(np.arctan(rules.clearance_mm / length))) for n, length in lengths.items()}
    _refuse(
        [n for n, angle in play.items() if angle > rules.most_play_deg], "have too much play in their guides"
    )
    shell = _shell_thickness(surface, guides, rules)
    rows = [
        CheckRow("watertight, wound one way (trimesh)", "yes", "yes"),
        CheckRow("bodies", str(bodies), "1"),
        CheckRow("genus", str(genus), f"{genus_uncut} + {len(guides)} bores"),
        CheckRow("bores open along their path", f"{len(guides)} of {len(guides)}", "all"),
        CheckRow("shortest guide", f"{min(lengths.values()):.1f} mm", f">= {rules.guide_mm:g} mm"),
        CheckRow("most play", f"{max(play.values()):.2f} deg", f"<= {rules.most_play_deg:g} deg"),
        CheckRow(
            "thinnest wall of a bore", f"{min(walls.values()):.2f} mm", f">= {rules.least_wall_mm:g} mm"
        ),
        CheckRow("shell (5th percentile, median)", "{:.2f}, {:.2f} mm".format(*shell), "2 - 3 mm"),
        CheckRow(
            "size",
            " x ".join(f"{v:.0f}" for v in size) + " mm",
            " x ".join(f"{v:g}" for v in rules.printer_mm) + " mm",
        ),
        CheckRow("material", f"{surface.volume / 1000.0:.1f} cm3", "-"),
        CheckRow("triangles", str(len(surface.faces)), "-"),
    ]
    if not 2.0 <= shell[1] <= 3.0 or shell[0] < 1.5:
        raise AskedWrongly(
            f"template: the shell is {shell[0]:.1f} to {shell[1]:.1f} mm thick, 2 to 3 mm are wanted."
        )
    return rows, lengths


def _refuse(needles: list[str], what: str) -> None:
    if needles:
        raise AskedWrongly(
            f"template: needle(s) {', '.join(needles)} {what}; plan these needles farther apart."
        )


def _outermost(guides: list[Guide]) -> str:
    tops = np.array([guide.top_mm for guide in guides])
    return ", ".join(
        sorted({guides[int(k)].needle for a in (0, 1) for k in (tops[:, a].argmin(), tops[:, a].argmax())})
    )


def _near(corners_mm: Floats, guide: Guide, reach_mm: float) -> Floats:
    """Triangles whose box comes near to a guide's axis (a superset of those within ``reach_mm``)."""
    ends = np.stack((guide.top_mm - AHEAD_MM * guide.direction, guide.tip_mm))
    low, high = ends.min(axis=0) - reach_mm, ends.max(axis=0) + reach_mm
    kept = np.all((corners_mm.max(axis=1) >= low) & (corners_mm.min(axis=1) <= high), axis=1)
    return corners_mm[kept]


def _ring(guide: Guide, radius_mm: float, count: int = 8) -> Floats:
    """Offsets ``(count, 3)`` from the axis."""
    angle = 2.0 * np.pi * (np.arange(count) + 0.37) / count
    axes = guide.axes()
    return radius_mm * (np.cos(angle)[:, None] * axes[:, 0] + np.sin(angle)[:, None] * axes[:, 1])


def _check_open(corners_mm: Floats, guide: Guide, rules: TemplateRules) -> None:
    """From before the tube to the planned tip, nothing within the needle's radius, nor within the bore's."""
    begin = guide.top_mm - AHEAD_MM * guide.direction
    whole = guide.top_to_tip_mm + AHEAD_MM
    bore = 0.5 * rules.bore_mm - SLACK_MM
    origins = begin + np.vstack(
        (np.zeros(3), _ring(guide, 0.5 * rules.needle_diameter_mm), _ring(guide, bore))
    )
    count, first, _ = crossings(corners_mm, origins, np.tile(guide.direction, (len(origins), 1)), whole)
    if count.any():
        at = float(first.min()) - AHEAD_MM
        raise AskedWrongly(
            f"template: the bore of needle {guide.needle} ({guide.hole}) is not open: something stands in it "
            f"{at:.1f} mm behind the top of its guide."
        )


def _length(corners_mm: Floats, guide: Guide, rules: TemplateRules) -> float:
    """Material just outside the bore, along the needle: the least of eight lines, less the funnel."""
    radius = 0.5 * rules.bore_mm + FUNNEL_WIDER_MM + 0.02
    origins = guide.top_mm - AHEAD_MM * guide.direction + _ring(guide, radius)
    _, first, second = crossings(
        corners_mm, origins, np.tile(guide.direction, (8, 1)), AHEAD_MM + guide.top_to_tip_mm
    )
    return float(np.where(np.isfinite(second), second - first, 0.0).min()) - FUNNEL_MM


def _wall(corners_mm: Floats, guide: Guide, rules: TemplateRules) -> float:
    """Least material between the bore and the next surface sideways, from the funnel to the skin's gap."""
    # On slanting skin the part's face cuts the wall at an angle; above that it is whole all around.
    slant = (rules.least_wall_mm + 0.5 * rules.bore_mm) * np.tan(np.radians(guide.skin_angle_deg))
    deepest = FUNNEL_MM + guide.length_mm - 0.5 - slant
    along = np.linspace(2.0 * FUNNEL_MM + 0.3, max(deepest, 0.5 * guide.length_mm), WALL_HEIGHTS)
    sideways = _ring(guide, 1.0, WALL_ANGLES)
    origins = np.repeat(guide.top_mm + along[:, None] * guide.direction, WALL_ANGLES, axis=0)
    _, first, second = crossings(corners_mm, origins, unit(np.tile(sideways, (WALL_HEIGHTS, 1))), 60.0)
    walls = second - first
    if not np.isfinite(first).all():  # no wall at all on one side
        return 0.0
    return float(np.where(np.isfinite(walls), walls, 60.0).min())


def _shell_thickness(
    surface: trimesh.Trimesh, guides: list[Guide], rules: TemplateRules
) -> tuple[float, float]:
    """5th percentile and median (mm) of the shell, measured from its skin side straight outwards."""
    corners = np.asarray(surface.triangles)
    normals, centres = np.asarray(surface.face_normals), corners.mean(axis=1)
    areas = np.asarray(surface.area_faces)
    clear = np.full(len(corners), True)
    for guide in guides:
        offset = centres[:, :2] - guide.exit_mm[:2]
        clear &= np.hypot(*offset.T) > 0.5 * rules.tube_mm + 4.0
    # The skin side faces the patient; sockets and letters do so too, but only in small pieces.
    skin_side = np.flatnonzero(clear & (normals[:, 2] > 0.3) & (areas > 0.05))
    if not len(skin_side):
        return 0.0, 0.0
    order = skin_side[np.argsort(-centres[skin_side, 2], kind="stable")]
    chosen = order[:: max(1, len(order) // SHELL_SAMPLES)]
    outwards = -normals[chosen]
    # Only faces towards the operator end a line: near the rim it would leave through the side.
    facing = corners[normals[:, 2] < -0.2]
    _, first, _ = crossings(facing, centres[chosen] + 1e-3 * outwards, outwards, 15.0)
    seen = first[np.isfinite(first)]
    return float(np.percentile(seen, 5)), float(np.median(seen))
