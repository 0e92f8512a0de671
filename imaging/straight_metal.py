"""Where needles may stand in a CT of which there is no plan: bright, long, thin, straight, and out through the skin.

Gives first guesses only; ends are found by ``needle`` from the voxels as for planned ones. Modest on purpose: a
needle must show at least 20 mm of itself brighter than bone, and come from the air or from the edge of the
picture. Needles that touch in the picture are no such pieces: ``bundle`` seeks lines in what they are together. What
both miss (wholly starved shafts, slices above 2.5 mm) ``needle`` may still find beside the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import find_objects, label

from imaging.bundle import needles_of
from imaging.metal import Metal, bundles, inwards, metal_at_edge, metal_outside
from imaging.needle import ExpectedNeedle
from imaging.sample import across, inside, ring_hu, sample_hu
from imaging.shaft import SKIN_HU, expected_contrast_hu
from planning.frame import Floats, unit
from planning.volume import CtVolume

LEVELS = (0.45, 0.7, 0.95)  # of a shaft's usual contrast: two that touch at one level part at the next
LEAST_HU = 900.0  # hardly any bone is brighter over 20 mm in a straight line
LEAST_LENGTH_MM = 20.0
SLIM = 14.0  # length over width (rms), at least
SAME_LINE_MM = 2.0
RING_MM = 6.0  # around a line: skin is crossed where most of this ring is air
WIDE_RING_MM, AIR_AROUND_HU = 15.0, -700.0
MOST_OUTSIDE_MM = 8.0  # of tissue between the skin and where metal is first seen
TOUCHING_SHARE = 0.1  # of metal that no straight piece explains: needles touch in the picture
BACK_MM = 200.0  # a needle's length


@dataclass(frozen=True, eq=False)
class _Stick:
    """A bright straight piece: its two ends, patient frame, mm."""

    ends_mm: Floats  # (2, 3)

    @property
    def direction(self) -> Floats:
        return unit(self.ends_mm[1] - self.ends_mm[0])

    def reversed(self) -> _Stick:
        return _Stick(self.ends_mm[::-1])

    def lies_along(self, other: _Stick) -> bool:
        """Whether the middle of this one lies on the other's line, beside or within it."""
        offset = self.ends_mm.mean(axis=0) - other.ends_mm[0]
        along = float(offset @ other.direction)
        beside = float(np.linalg.norm(offset - along * other.direction))
        length = float(np.linalg.norm(other.ends_mm[1] - other.ends_mm[0]))
        return beside < SAME_LINE_MM and -5.0 < along < length + 5.0


def lone_needles(ct: CtVolume) -> tuple[ExpectedNeedle, ...]:
    """Needles that stand alone in the picture, as straight bright pieces, named ``1`` ... in no meaningful order."""
    guesses = [guess for stick in _sticks(ct) if (guess := _guess(ct, stick)) is not None]
    return tuple(replace(guess, name=str(k)) for k, guess in enumerate(guesses, start=1))


def guess_needles(ct: CtVolume) -> tuple[list[tuple[ExpectedNeedle, ...]], tuple[Metal, ...]]:
    """Needles that the picture itself suggests, and its long metal outside the body (or at a cropped picture's edge).

    Returns:
        Sets of guesses, the likeliest first: with lines in metal that several share, and (if that is another set) only
        those that stand alone. Then the metal.
    """
    alone = lone_needles(ct)
    guesses = list(alone)
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    metal = bundles(metal_outside(ct) or metal_at_edge(ct))
    for piece in metal:
        free = piece.without([(guess.entry_mm, guess.direction) for guess in guesses], slice_mm)
        into = inwards(ct, piece)
        if into is None or np.mean(free) < TOUCHING_SHARE:
            continue
        entries, tips = needles_of(ct, piece, into)
        guesses = [guess for guess in guesses if not piece.holds(guess.entry_mm, guess.direction)]
        guesses += [
            ExpectedNeedle("", tip, unit(tip - entry), entry)
            for entry, tip in zip(entries, tips, strict=True)
        ]
    named = tuple(replace(guess, name=str(k)) for k, guess in enumerate(guesses, start=1))
    alone_only = [id(guess.entry_mm) for guess in named] == [id(guess.entry_mm) for guess in alone]
    return [one for one in ([named] if alone_only else [named, alone]) if one], tuple(metal)


def _guess(ct: CtVolume, stick: _Stick) -> ExpectedNeedle | None:
    pointed = _pointed_inwards(ct, stick)
    if pointed is None:
        return None
    outer, tip = pointed.ends_mm
    entry = _skin_mm(ct, tip, pointed.direction)
    if entry is None:  # the line leaves the picture before the skin
        entry = outer
    elif float((outer - entry) @ pointed.direction) > MOST_OUTSIDE_MM:
        return None  # begins inside the body: a row of seeds, a tooth's post, a plate
    return ExpectedNeedle("", tip, pointed.direction, entry)


def leaves_the_body(ct: CtVolume, tip_mm: Floats, direction: Floats) -> bool:
    """Whether metal is really there where a needle's axis crosses the skin, or the skin is not in the picture."""
    skin = _skin_mm(ct, tip_mm, direction)
    if skin is None:
        return True
    s = np.arange(-8.0, 6.1, 1.0)
    u, v = across(direction)
    reach = np.arange(-2.0, 2.1, 1.0)
    points = skin + s[:, None, None, None] * direction
    points = points + reach[:, None, None] * u + reach[None, :, None] * v
    peak = sample_hu(ct, points).max(axis=(1, 2))
    return bool(np.mean(peak[inside(ct, skin + s[:, None] * direction)] > 300.0) > 0.5)


def ends_in_air(ct: CtVolume, tip_mm: Floats, direction: Floats) -> bool:
    """Whether the last stretch of a shaft has nothing but air around it: the outer end of one beside others, whose
    brightness a narrow ring takes for tissue."""
    points = tip_mm - np.arange(0.0, 12.1, 2.0)[:, None] * direction
    return bool((ring_hu(ct, points, direction, WIDE_RING_MM) < AIR_AROUND_HU).all())


def _sticks(ct: CtVolume) -> list[_Stick]:
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    kept: list[_Stick] = []
    for share in LEVELS:
        least_hu = max(LEAST_HU, share * expected_contrast_hu(slice_mm))
        marks, _ = label(ct.hu > least_hu, structure=np.ones((3, 3, 3)))
        for number, box in enumerate(find_objects(marks), start=1):
            extent = [(s.stop - s.start) * d for s, d in zip(box, ct.grid.spacing_mm[::-1], strict=True)]
            if np.linalg.norm(extent) < LEAST_LENGTH_MM:
                continue
            index = np.argwhere(marks[box] == number) + [s.start for s in box]
            stick = _stick_of(ct.grid.point_of(index), slice_mm)
            if stick is not None and not any(stick.lies_along(other) for other in kept):
                kept.append(stick)
    return kept


def _stick_of(points_mm: Floats, slice_mm: float) -> _Stick | None:
    """The straight thin piece that the points ``(n, 3)`` are, or None."""
    middle = points_mm.mean(axis=0)
    offset = points_mm - middle
    variance, axes = np.linalg.eigh(offset.T @ offset / len(offset))
    along = offset @ axes[:, 2]
    length = float(np.ptp(along))
    width = float(np.sqrt(variance[1]))
    if length < LEAST_LENGTH_MM or length < SLIM * width or width > 0.7 + 0.35 * slice_mm:
        return None
    return _Stick(middle + np.outer([along.min(), along.max()], axes[:, 2]))


def _pointed_inwards(ct: CtVolume, stick: _Stick) -> _Stick | None:
    """With its first end outside; None when neither end or both seem to be."""
    turned = (stick, stick.reversed())
    found = [_beyond(ct, one.ends_mm[1], one.direction) for one in turned]
    if (found[0] == "tissue") != (found[1] == "tissue"):
        return turned[0] if found[0] == "tissue" else turned[1]
    if {"air", "edge"} == set(found):  # a tip in the airway, or seen through a cropped picture
        return None
    if found == ["tissue", "tissue"]:  # the outer part is starved: the skin is nearer to the outer end
        reach = [_to_skin_mm(ct, one) for one in turned]
        if min(reach) <= MOST_OUTSIDE_MM:
            return turned[int(np.argmin(reach))]
    return None


def _beyond(ct: CtVolume, end_mm: Floats, direction: Floats) -> str:
    """What lies 4 to 12 mm beyond an end: ``air``, ``tissue``, or ``edge`` of the picture."""
    points = end_mm + np.arange(4.0, 12.1, 2.0)[:, None] * direction
    if not inside(ct, points).all():
        return "edge"
    return "air" if float(np.median(ring_hu(ct, points, direction, RING_MM))) < SKIN_HU else "tissue"


def _to_skin_mm(ct: CtVolume, stick: _Stick) -> float:
    skin = _skin_mm(ct, stick.ends_mm[1], stick.direction)
    return np.inf if skin is None else float((stick.ends_mm[0] - skin) @ stick.direction)


def _skin_mm(ct: CtVolume, tip_mm: Floats, direction: Floats) -> Floats | None:
    """Where the line from a tip backwards leaves the body for good (10 mm of air, past airways); None: it doesn't."""
    s = np.arange(0.0, BACK_MM, 1.0)
    points = tip_mm - s[:, None] * direction
    seen = inside(ct, points)
    count = int(np.argmin(seen)) if not seen.all() else len(s)
    air = ring_hu(ct, points[:count], direction, RING_MM) < SKIN_HU
    if count < 10 or not air[-10:].all():
        return None
    last_tissue = int(np.flatnonzero(~air)[-1]) if (~air).any() else 0
    return np.asarray(points[last_tissue])
