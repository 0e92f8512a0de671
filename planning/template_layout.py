"""What lies where on the shell: its outline, laser crosses, head arrow, plan id and fiducial balls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from planning.frame import Floats, RigidTransform, unit
from planning.mask import Mask
from planning.refusal import AskedWrongly
from planning.template_font import text_strokes, text_width
from planning.template_guide import Guide, TemplateRules
from planning.template_skin import LATTICE_MM, HeightField, Skin

CROSS_LONG_MM, CROSS_SHORT_MM = 6.0, 3.5  # half lengths of a laser cross's arms
ARROW_MM = 11.0
NAME_MM, SMALL_NAME_MM = 3.5, 2.5  # height of the plan's id
KEEP_OFF_MM = 1.5
BALL_SLOPE_DEG = 40.0  # of the shell under a ball's boss
TELL_APART_MM = 2.0  # least difference between any two of the distances between balls
BOSS_WALL_MM = 1.8
BALL_OFF_MM = 10.0  # between a ball and a guide's axis: metal should not streak over it
ID_LETTERS = 8


class NoRoomError(AskedWrongly):
    """The shell is too small for what must lie on it; a wider rim may help."""


@dataclass(frozen=True, eq=False)
class LaserCross:
    """A cross on the shell: its middle in the rig frame, and the patient planes its arms lie in.

    ``planes``: (patient axis 0, 1 or 2; coordinate in mm; half length in mm) of each arm.
    """

    middle_mm: Floats
    planes: tuple[tuple[int, float, float], tuple[int, float, float]]


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything on the shell, in the rig frame.

    Attributes:
        footprint: ``bool (ny, nx)`` on the skin's lattice.
        crosses: laser crosses; ``laser_planes``: patient axis -> coordinate of the planes the long arms share.
        marks: lines ``(n, 2)`` over the rig's plane: arrow with its letter, plan id.
        arrow: letter and patient direction it stands for ("H": head, "A": anterior).
        balls_mm: ``(n, 3)`` centres of the fiducial balls.
    """

    footprint: Mask
    crosses: tuple[LaserCross, ...]
    laser_planes: dict[int, float]
    marks: tuple[Floats, ...]
    arrow: str
    balls_mm: Floats


def boss_radius_mm(rules: TemplateRules) -> float:
    """Of the boss around a fiducial ball."""
    return 0.5 * rules.ball_mm + BOSS_WALL_MM


def lay_out(
    guides: list[Guide],
    skin: Skin,
    outer: HeightField,
    rig_from_patient: RigidTransform,
    plan_id: str,
    rules: TemplateRules,
) -> Layout:
    """Find a place for everything; the same input gives the same layout.

    Raises:
        AskedWrongly: a needle outside the part of the skin that can carry a shell; no room for the marks.
    """
    x, y = np.meshgrid(outer.x_mm, outer.y_mm)
    ends = np.array([p[:2] for guide in guides for p in (guide.top_mm, guide.exit_mm)])
    footprint = _footprint(guides, ends, skin, x, y, rules)
    inner = ndimage.distance_transform_edt(np.pad(footprint, 1))[1:-1, 1:-1] * LATTICE_MM
    # Guides stand over their exits, lean over to their tops, and carry a fin for the name.
    stand = np.full(x.shape, np.inf)
    for guide in guides:
        for part in np.linspace(0.0, 1.0, 9):
            p = guide.top_mm + part * (guide.exit_mm - guide.top_mm)
            stand = np.minimum(stand, np.hypot(x - p[0], y - p[1]))
    free = (inner > 2.0) & (stand > 0.5 * rules.tube_mm + 2.5)

    planes, crosses = _laser_crosses(free, outer, rig_from_patient, ends.mean(axis=0))
    for cross in crosses:
        free &= np.hypot(x - cross.middle_mm[0], y - cross.middle_mm[1]) > CROSS_LONG_MM + KEEP_OFF_MM
    slope = outer.slope_deg()
    room = ndimage.distance_transform_edt(free) * LATTICE_MM
    balls = _balls((room > boss_radius_mm(rules)) & (stand > BALL_OFF_MM), slope, outer, x, y, rules)
    for ball in balls:
        free &= np.hypot(x - ball[0], y - ball[1]) > boss_radius_mm(rules) + KEEP_OFF_MM
    head, letter = _towards_head(rig_from_patient)
    turned = np.stack((np.array([-head[1], head[0]]), head))  # rows: right and up of the mark
    arrow_at, free = _place(free, slope, stand, x, y, turned, (7.0, ARROW_MM + 6.0), "the head arrow")
    marks = [arrow_at + line @ turned for line in _arrow(letter)]
    text = plan_id[:ID_LETTERS]
    upright = np.array([[1.0, 0.0], [0.0, -1.0]])  # the operator looks along +z: x to the right, y downwards
    sideways = np.array([[0.0, 1.0], [1.0, 0.0]])
    for height, axes in ((h, a) for h in (NAME_MM, SMALL_NAME_MM) for a in (upright, sideways)):
        size = (text_width(text, height) + 1.5, height + 1.5)
        try:
            text_at, rest = _place(free, slope, stand, x, y, axes, size, "the plan's id")
        except NoRoomError:
            if height == SMALL_NAME_MM and axes is sideways:
                raise
            continue
        free = rest
        marks += [text_at + line @ axes for line in text_strokes(text, height)]
        break
    return Layout(footprint, tuple(crosses), planes, tuple(marks), letter, balls)


def _footprint(
    guides: list[Guide], ends: Floats, skin: Skin, x: Floats, y: Floats, rules: TemplateRules
) -> Mask:
    over = _distance_to_hull(ends, x, y) <= rules.rim_mm
    fit = skin.known & (skin.bridged.slope_deg() <= rules.steepest_deg)
    fit = ndimage.binary_fill_holes(fit) & over
    reach = np.arange(-4, 5)
    disc = np.hypot(*np.meshgrid(reach, reach)) <= 4.0
    labels, _ = ndimage.label(ndimage.binary_opening(fit, disc))
    columns = np.round((np.array([g.exit_mm[0] for g in guides]) - x[0, 0]) / LATTICE_MM).astype(int)
    rows = np.round((np.array([g.exit_mm[1] for g in guides]) - y[0, 0]) / LATTICE_MM).astype(int)
    under = labels[rows, columns]
    most = int(np.bincount(under).argmax())
    apart = [g.needle for g, label in zip(guides, under, strict=True) if label != most or label == 0]
    if apart:
        raise AskedWrongly(
            f"template: the skin under needle(s) {', '.join(apart)} is not one surface with the others' (too steep "
            f"between them, or at the edge of the scan); plan them closer together or scan more."
        )
    return ndimage.binary_fill_holes(labels == most)


def _distance_to_hull(points: Floats, x: Floats, y: Floats) -> Floats:
    """Distance of lattice points to the convex hull of points ``(n, 2)``; 0 inside."""
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # all on one line, or fewer than three
        corners = points
        order = np.argsort(points @ np.linalg.svd(points - points.mean(axis=0))[2][0])
        corners = points[order]
    p = np.stack((x, y), axis=-1)
    distance = np.full(x.shape, np.inf)
    inside = np.full(x.shape, len(corners) > 2)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge, to = b - a, p - a
        part = np.clip(to @ edge / max(float(edge @ edge), 1e-12), 0.0, 1.0)
        distance = np.minimum(distance, np.linalg.norm(to - part[..., None] * edge, axis=-1))
        inside &= edge[0] * to[..., 1] - edge[1] * to[..., 0] >= 0.0
    area = 0.5 * abs(
        float(np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)))
    )
    return np.where(inside & (area > 1e-6), 0.0, distance)


def _laser_crosses(
    free: Mask, outer: HeightField, rig_from_patient: RigidTransform, middle: Floats
) -> tuple[dict[int, float], list[LaserCross]]:
    """Up to four crosses where two patient planes through the template's middle leave its rim.

    The room's lasers draw planes of the patient frame on the template. Of the three, the one most nearly
    parallel to the shell is left out; the long arms of all crosses lie in the other two, so that both lines
    run along two crosses each when the part sits and is turned as planned.
    """
    patient_from_rig = rig_from_patient.inverse()
    points = _surface_points(outer)
    patient = patient_from_rig.apply(points.reshape(-1, 3)).reshape(points.shape)
    facing = np.abs(patient_from_rig.rotation[:, 2])
    used = [int(axis) for axis in np.argsort(facing, kind="stable")[:2]]
    centre = patient_from_rig.apply([*middle, outer.at(middle).item()])
    planes = {axis: round(float(centre[axis]), 1) for axis in sorted(used)}
    crosses: list[LaserCross] = []
    room = ndimage.distance_transform_edt(free) * LATTICE_MM
    for axis, other in (used, used[::-1]):
        near = (np.abs(patient[..., axis] - planes[axis]) <= 0.75 * LATTICE_MM) & free
        along = patient[..., other] - planes[other]
        for side in (1.0, -1.0):
            fits = near & (side * along > 0.0) & (room >= CROSS_SHORT_MM)
            if not fits.any():
                continue
            # As far out as the long arm has room; else where there is most.
            score = np.where(fits, np.minimum(room, CROSS_LONG_MM) * 100.0 + side * along, -np.inf)
            row, column = np.unravel_index(int(score.argmax()), score.shape)
            place = points[row, column]
            short = float(round(patient[row, column, other], 1))
            crosses.append(
                LaserCross(place, ((axis, planes[axis], CROSS_LONG_MM), (other, short, CROSS_SHORT_MM)))
            )
    if len(crosses) < 2:
        raise NoRoomError(
            "template: no room for two laser crosses on the shell; give it a wider rim (rim_mm) or scan more skin."
        )
    return planes, crosses


def _surface_points(surface: HeightField) -> Floats:
    x, y = np.meshgrid(surface.x_mm, surface.y_mm)
    return np.stack((x, y, surface.z_mm), axis=-1)


def _towards_head(rig_from_patient: RigidTransform) -> tuple[Floats, str]:
    """The direction in the rig's plane that a mark points to, and its letter."""
    head = rig_from_patient.turn([0.0, 0.0, 1.0])[:2]
    if np.linalg.norm(head) > 0.5:
        return np.asarray(unit(head)), "H"
    return np.asarray(unit(rig_from_patient.turn([0.0, -1.0, 0.0])[:2])), "A"


def _arrow(letter: str) -> list[Floats]:
    """Lines of the arrow (pointing to +y, upwards) with its letter below; the middle at the origin."""
    top, half = 0.5 * (ARROW_MM + 4.0), 2.5
    shaft = np.array([[0.0, top - ARROW_MM + 1.0], [0.0, top]])
    head = np.array([[-half, top - 3.5], [0.0, top], [half, top - 3.5]])
    below = [line - np.array([0.0, top - 1.0]) for line in text_strokes(letter, 4.0)]
    return [shaft, head, *below]


def _place(
    free: Mask,
    slope_deg: Floats,
    stand: Floats,
    x: Floats,
    y: Floats,
    axes: Floats,
    size: tuple[float, float],
    what: str,
) -> tuple[Floats, Mask]:
    """A free place for a rectangle (width, height along the rows of ``axes``), flat and near the guides."""
    reach = int(np.ceil(0.5 * np.hypot(*size) / LATTICE_MM)) + 1
    step = LATTICE_MM * np.arange(-reach, reach + 1)
    dx, dy = np.meshgrid(step, step)
    across, up = dx * axes[0, 0] + dy * axes[0, 1], dx * axes[1, 0] + dy * axes[1, 1]
    shape = (np.abs(across) <= 0.5 * size[0]) & (np.abs(up) <= 0.5 * size[1])
    fits = ndimage.binary_erosion(free, shape, border_value=0)
    if not fits.any():
        raise NoRoomError(
            f"template: no room on the shell for {what}; give it a wider rim (rim_mm) or scan more skin."
        )
    steepest = ndimage.maximum_filter(slope_deg, footprint=shape)
    cost = np.where(fits, steepest + stand, np.inf)
    row, column = np.unravel_index(int(cost.argmin()), cost.shape)
    taken = np.zeros_like(free)
    taken[row, column] = True
    margin = ndimage.binary_dilation(ndimage.binary_dilation(taken, shape), iterations=round(KEEP_OFF_MM))
    return np.array([x[row, column], y[row, column]]), free & ~margin


def _balls(
    free: Mask, slope_deg: Floats, outer: HeightField, x: Floats, y: Floats, rules: TemplateRules
) -> Floats:
    """Centres of balls wide apart whose mutual distances all differ, so that no two can be confused."""
    rows, columns = np.nonzero(free & (slope_deg <= BALL_SLOPE_DEG))
    if not len(rows):
        raise NoRoomError("template: no room on the shell for fiducial balls; give it a wider rim (rim_mm).")
    centre = np.array([x[rows, columns].mean(), y[rows, columns].mean()])
    xy = np.stack((x[rows, columns], y[rows, columns]), axis=1)
    # Of each of 24 directions from the middle the place farthest out.
    angle = np.degrees(np.arctan2(*(xy - centre).T[::-1])) % 360.0
    far = np.linalg.norm(xy - centre, axis=1)
    candidates = []
    for sector in range(24):
        here = np.flatnonzero((angle // 15.0).astype(int) == sector)
        if len(here):
            candidates.append(int(here[far[here].argmax()]))
    spots = np.array(sorted(set(candidates)))
    # Just below the shell's outer face: half of the ball lies in the shell, half in a boss around it.
    points = np.column_stack((xy[spots], outer.at(xy[spots]) - 1.0))
    best, chosen = -np.inf, None
    choices = np.array(list(combinations(range(len(spots)), rules.balls))).reshape(-1, rules.balls)
    for start in range(0, len(choices), 4096):
        sets = points[choices[start : start + 4096]]
        i, j = np.triu_indices(rules.balls, 1)
        distances = np.sort(np.linalg.norm(sets[:, i] - sets[:, j], axis=2), axis=1)
        differ = np.diff(distances, axis=1).min(axis=1)
        offset = sets - sets.mean(axis=1, keepdims=True)
        width = np.linalg.svd(offset, compute_uv=False)[:, 1]
        score = np.where((differ >= TELL_APART_MM) & (distances[:, 0] >= 15.0), width, -np.inf)
        n = int(score.argmax())
        if score[n] > best:
            best, chosen = float(score[n]), sets[n]
    if chosen is None or not np.isfinite(best) or best < 10.0:
        raise NoRoomError(
            f"template: no room on the shell for {rules.balls} fiducial balls that can be told apart; "
            "give it a wider rim (rim_mm)."
        )
    return np.asarray(np.round(chosen, 3))
