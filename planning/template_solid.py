"""The template as a solid: shell, guides and bosses joined, then everything above the skin's gap kept, then cut.

All tubes are joined before any bore is cut, so a neighbour's tube can't close a bore. Coordinates: rig frame, mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from manifold3d import CrossSection, JoinType, Manifold, Mesh64, OpType
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from planning.frame import Floats, RigidTransform
from planning.mask import Mask
from planning.template_font import text_strokes, text_width
from planning.template_guide import FUNNEL_MM, FUNNEL_WIDER_MM, Guide, TemplateRules
from planning.template_layout import Layout, boss_radius_mm
from planning.template_skin import LATTICE_MM, HeightField, Skin

SEGMENTS = 48  # around bores and tubes
SIMPLIFY_MM = 0.01  # joins vertices that a file's single precision could not tell apart
SHELL_LINE_MM, NAME_LINE_MM = 0.7, 0.4  # width of engraved lines on the shell and on the guides
LABEL_LEAST_MM, LABEL_MOST_MM = 2.0, 4.0
PRESS_MM = 0.1  # a socket is this much wider than its ball
COVER_MM = 0.3  # a ball lies this deep below its boss's face
CLOSE_MM = 0.05
CRUMB_MM3 = 0.1
SMOOTH_OUTLINE_MM = 1.5


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed surface of triangles.

    Attributes:
        vertices_mm: float ``(n, 3)``; triangles: int ``(m, 3)``, counter-clockwise from outside.
        genus: number of holes through the part; ``genus_uncut``: before the bores.
    """

    vertices_mm: Floats
    triangles: NDArray[np.int64]
    genus: int
    genus_uncut: int


def build_solid(
    guides: list[Guide], skin: Skin, layout: Layout, rig_from_patient: RigidTransform, rules: TemplateRules
) -> Solid:
    """Join and cut; see the head of this file."""
    contact = skin.bridged.outwards(rules.gap_mm)
    outer = contact.outwards(rules.shell_mm)
    lowest = min(float(outer.z_mm.min()), min(float(g.top_mm[2]) for g in guides)) - 20.0
    deepest = float(contact.z_mm.max()) + 5.0
    outside = _between(contact, lowest, contact.z_mm)
    outline = _outline(layout.footprint, contact)
    shell = _between(contact, outer.z_mm, contact.z_mm) ^ outline.extrude(deepest - lowest).translate(
        (0, 0, lowest)
    )
    label_mm = label_height(guides)
    added = [_tube(guide, label_mm, rules) for guide in guides]
    added += [_boss(ball, float(outer.at(ball[:2])), rules) for ball in layout.balls_mm]
    body = Manifold.batch_boolean([shell, Manifold.batch_boolean(added, OpType.Add) ^ outside], OpType.Add)

    layer = _between(outer, outer.z_mm - 3.0, outer.inwards(rules.engraved_mm).z_mm)
    lines = _strokes(layout.marks, SHELL_LINE_MM).extrude(deepest - lowest).translate((0, 0, lowest))
    grooves = [lines, *(_cross_slabs(layout, rig_from_patient))]
    cutters = [Manifold.batch_boolean(grooves, OpType.Add) ^ layer]
    cutters += [_label(guide, label_mm) for guide in guides]
    cutters += [_socket(ball, rules) for ball in layout.balls_mm]
    uncut = _without_crumbs(Manifold.batch_boolean([body, *cutters], OpType.Subtract))
    bores = Manifold.batch_boolean([_bore(guide, rules) for guide in guides], OpType.Add)
    # Sockets and letters make no hole through the part; only the bores may raise the genus.
    part = _without_crumbs(uncut - bores).simplify(SIMPLIFY_MM)
    mesh = part.to_mesh64()
    vertices, triangles = _single_precision(
        mesh.vert_properties[:, :3], np.asarray(mesh.tri_verts, dtype=np.int64)
    )
    return Solid(
        vertices,
        triangles,
        int(part.genus()),
        int(uncut.genus()),
    )


def _without_crumbs(solid: Manifold) -> Manifold:
    """Without separate pieces too small to be printed: cuts along a surface leave some, and the genus counts them."""
    pieces = solid.decompose()
    kept = [piece for piece in pieces if piece.volume() > CRUMB_MM3]
    return solid if len(kept) == len(pieces) else Manifold.batch_boolean(kept, OpType.Add)


def _single_precision(vertices_mm: Floats, triangles: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """The surface as a file holds it: corners that single precision can't tell apart become one.

    Triangles that lose a corner so are dropped; without this the file's surface has edges of four faces.
    """
    rounded, index = np.unique(vertices_mm.astype(np.float32), axis=0, return_inverse=True)
    joined = index.reshape(-1)[triangles]
    a, b, c = joined.T
    whole = joined[(a != b) & (b != c) & (c != a)]
    used, index = np.unique(whole, return_inverse=True)
    return rounded[used].astype(float), index.reshape(whole.shape)


def label_height(guides: list[Guide]) -> float:
    """Height of the hole names that the narrowest pair of guides leaves room for."""
    tops = np.array([guide.top_mm for guide in guides])
    apart = np.linalg.norm(tops[:, None] - tops[None], axis=2)[np.triu_indices(len(tops), 1)]
    nearest = float(apart.min()) if len(apart) else np.inf
    return float(np.clip(0.5 * nearest - 0.5, LABEL_LEAST_MM, LABEL_MOST_MM))


def _between(surface: HeightField, low_mm: float | Floats, high_mm: Floats) -> Manifold:
    """The solid between two heights over the surface's rectangle; each ``(ny, nx)`` or one number."""
    x, y = np.meshgrid(surface.x_mm, surface.y_mm)
    low = np.broadcast_to(low_mm, x.shape)
    ny, nx = x.shape
    points = np.concatenate([np.stack((x, y, z), axis=-1).reshape(-1, 3) for z in (low, high_mm)])
    index = np.arange(nx * ny).reshape(ny, nx)
    a, b, c, d = (q.ravel() for q in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    face = np.concatenate((np.stack((a, b, c), axis=1), np.stack((a, c, d), axis=1)))
    rim = np.concatenate((index[0, :-1], index[:-1, -1], index[-1, :0:-1], index[:0:-1, 0]))
    after, up = np.roll(rim, -1), nx * ny
    wall = np.concatenate(
        (np.stack((rim, after, after + up), axis=1), np.stack((rim, after + up, rim + up), axis=1))
    )
    triangles = np.concatenate((face[:, ::-1], face + up, wall)).astype(np.uint64)
    return Manifold(Mesh64(np.ascontiguousarray(points), np.ascontiguousarray(triangles)))


def _outline(footprint: Mask, surface: HeightField) -> CrossSection:
    """The shell's outline, without the lattice's stairs."""
    blurred = gaussian_filter(np.pad(footprint.astype(float), 4), 1.5)
    rings = find_contours(blurred, 0.5)  # type: ignore[no-untyped-call]
    largest = max(rings, key=len)[:, ::-1] - 4.0
    polygon = largest[:-1] * LATTICE_MM + [surface.x_mm[0], surface.y_mm[0]]
    section = CrossSection([polygon if _area(polygon) > 0 else polygon[::-1]])
    r = SMOOTH_OUTLINE_MM
    for step in (r, -2.0 * r, r):
        section = section.offset(step, JoinType.Round, circular_segments=32)
    return section.simplify(0.05)


def _area(polygon: Floats) -> float:
    x, y = polygon.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _strokes(lines: Sequence[Floats], width_mm: float) -> CrossSection:
    """Lines with round ends, as wide as the groove."""
    parts = []
    for line in lines:
        for start, end in pairwise(line):
            two = [CrossSection.circle(0.5 * width_mm, 12).translate(tuple(p)) for p in (start, end)]
            parts.append(CrossSection.batch_hull(two))
    # Closing by a hair joins grooves that touch in one point only: no file can hold such an edge.
    joined = CrossSection.batch_boolean(parts, OpType.Add)
    for step in (CLOSE_MM, -CLOSE_MM):
        joined = joined.offset(step, JoinType.Miter)
    return joined.simplify(0.2 * CLOSE_MM)


def _placed(guide: Guide, local: Manifold) -> Manifold:
    """From the guide's own frame (origin at its top, z along the needle) into the rig's."""
    return local.transform(np.column_stack((guide.axes(), guide.top_mm)))


def _length(guide: Guide) -> float:
    return float(np.linalg.norm(guide.exit_mm - guide.top_mm))


def _label_place(guide: Guide, label_mm: float) -> tuple[float, float, float]:
    """Half width of the label, and its y from and to, in the guide's frame: below the hole."""
    half = 0.5 * max(text_width(guide.hole, label_mm), 2.0) + 0.5
    return min(half, 2.6 if label_mm <= LABEL_LEAST_MM else half), 0.0, 1.35 + label_mm + 0.45


def _tube(guide: Guide, label_mm: float, rules: TemplateRules) -> Manifold:
    """Tube and the fin that carries its name, longer than needed at the skin side."""
    half, start, end = _label_place(guide, label_mm)
    section = CrossSection.circle(0.5 * rules.tube_mm, SEGMENTS)
    fin = CrossSection.square((2.0 * half, end - start)).translate((-half, start))
    return _placed(guide, (section + fin).extrude(_length(guide) + 14.0))


def _label(guide: Guide, label_mm: float) -> Manifold:
    """The hole's name as seen by the operator, who looks along +z: x to the right, y downwards."""
    scale = min(1.0, 4.3 / max(text_width(guide.hole, label_mm), 1e-9)) if label_mm <= LABEL_LEAST_MM else 1.0
    middle = np.array([0.0, 1.35 + 0.5 * label_mm])
    lines = [line * [scale, -1.0] + middle for line in text_strokes(guide.hole, label_mm)]
    depth = 0.4
    return _placed(guide, _strokes(lines, NAME_LINE_MM).extrude(depth + 1.0).translate((0, 0, -1.0)))


def _bore(guide: Guide, rules: TemplateRules) -> Manifold:
    """The bore with a funnel at its top; the polygon stands outside the circle, so nothing narrows it."""
    radius = 0.5 * rules.bore_mm / np.cos(np.pi / SEGMENTS)
    bore = Manifold.cylinder(_length(guide) + 12.0, radius, radius, SEGMENTS).translate((0, 0, -1.0))
    steep = FUNNEL_WIDER_MM / FUNNEL_MM  # the cone begins a little above the top, so that the cut is clean
    wide = radius + FUNNEL_WIDER_MM + steep * 0.1
    funnel = Manifold.cylinder(FUNNEL_MM + 0.1, wide, radius, SEGMENTS).translate((0, 0, -0.1))
    return _placed(guide, bore + funnel)


def _boss(ball: Floats, outer_z: float, rules: TemplateRules) -> Manifold:
    top = ball[2] - 0.5 * rules.ball_mm - COVER_MM
    height = outer_z - top + 8.0
    radius = boss_radius_mm(rules)
    return Manifold.cylinder(height, radius, radius, SEGMENTS).translate((ball[0], ball[1], top))


def _socket(ball: Floats, rules: TemplateRules) -> Manifold:
    radius = 0.5 * (rules.ball_mm + PRESS_MM)
    shaft = Manifold.cylinder(12.0, radius, radius, SEGMENTS).translate((0, 0, -12.0))
    return (Manifold.sphere(radius, SEGMENTS) + shaft).translate(tuple(ball))


def _cross_slabs(layout: Layout, rig_from_patient: RigidTransform) -> list[Manifold]:
    """For each arm of a laser cross a thin slab in its patient plane, as long as the arm."""
    slabs = []
    for cross in layout.crosses:
        around = {}
        for axis, coordinate, half in cross.planes:
            size = np.full(3, 60.0)
            size[axis] = SHELL_LINE_MM
            middle = rig_from_patient.inverse().apply(cross.middle_mm)
            middle[axis] = coordinate
            turned = np.column_stack((rig_from_patient.rotation, rig_from_patient.apply(middle)))
            slab = Manifold.cube(tuple(size), True).transform(turned)
            if half not in around:
                pillar = Manifold.cylinder(120.0, half, half, SEGMENTS, True)
                around[half] = pillar.translate(tuple(cross.middle_mm))
            slabs.append(slab ^ around[half])
    return slabs
