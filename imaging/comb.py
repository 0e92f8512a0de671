"""The plan's needles laid over the picture like a comb, then each fitted, then put right where the picture disagrees.

1. The whole comb is shifted until it lies on as much brightness as possible.
2. All lines are fitted together, with a wide blur first, so that each is drawn to its own needle and neighbours hold
   what is theirs (``line_fit``).
3. What the lines leave over is searched for lines (``line_search``): a needle that is brighter than its line explains
   means that a line went astray, or that a needle stands there which nobody planned. A line is led there, or added, if
   all voxels together are then explained better.
4. A line that explains nothing is taken away: that needle isn't there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imaging.axis import Axis
from imaging.line import Lines, ends_apart_mm
from imaging.line_fit import fit_lines
from imaging.line_growth import GROWN, drawn_lines, laid_lines
from imaging.line_picture import BEFORE_SKIN_MM, Picture
from imaging.line_repair import BETTER, repaired_lines
from imaging.rod_image import Blur, rendered_hu, shares
from imaging.shaft import Shaft
from imaging.slab import Slab
from planning.frame import Floats
from planning.volume import CtVolume

END_BIN_MM = 1.5
THICK_MM, LYING = 2.0, 0.15  # slices, and the direction's part across them: needles that lie in thick slices
SPILL = 0.4  # of a neighbour's image, which isn't quite what the model says
ALIKE_VOXELS = 6.0  # neighbours share their errors (kernel, streaks): so many count as one (measured)
STREAKS_MM = 0.1  # 1 sigma by which streaks move a whole line (measured)


@dataclass(frozen=True, eq=False)
class Comb:
    """Lines fitted to a scan's needles.

    Attributes:
        lines, heights, grounds: as fitted, in fine bins.
        bin_w_mm: the bins' middles.
        blur: of the scanner, fitted too.
        covariance: ``(n, 6, 6)`` of the curves, as if voxels were independent.
        slab: the resampled scan that they were searched in.
        rival_mm: ``(n,)`` how far beside each line's end it would lie if all were explained nearly as well otherwise.
    """

    lines: Lines
    heights: Floats
    grounds: Floats
    bin_w_mm: Floats
    blur: Blur
    covariance: Floats
    slab: Slab
    rival_mm: Floats

    def __len__(self) -> int:
        return len(self.lines.curves)

    @property
    def axes(self) -> list[Axis]:
        alike = np.diag((STREAKS_MM**2, 0.0, 0.0))
        return [
            Axis(self.lines.skin_w_mm, curve, ALIKE_VOXELS * 0.5 * (c[:3, :3] + c[3:, 3:]) + alike)
            for curve, c in zip(self.lines.curves, self.covariance, strict=True)
        ]

    def shafts(self, least_hu: float) -> list[Shaft]:
        """How each needle looks along its line; height 0 where it isn't seen or may be a neighbour's."""
        ws = self.bin_w_mm
        uv = self.lines.places(ws)
        tables = self.blur.tables(self.lines.curves[:, 1])
        shafts = []
        for n in range(len(self)):
            spill = np.zeros(len(ws))
            for m in range(len(self)):
                if m != n:
                    beside = self.heights[m] * shares(uv[n] - uv[m], tables[m])
                    spill = np.maximum(spill, SPILL * beside)
            seen = self.heights[n] >= np.maximum(least_hu, spill)
            shafts.append(Shaft(ws, np.where(seen, self.heights[n], 0.0), self.grounds[n]))
        return shafts

    def others_hu(self, n: int, points_mm: Floats) -> Floats:
        """What all lines but one add at points ``(m, 3)`` of the patient frame."""
        others = np.arange(len(self)) != n
        local = points_mm @ self.slab.frame.T
        lines = self.lines.only(others)
        return np.asarray(rendered_hu(local, lines, self.heights[others], self.bin_w_mm, self.blur))


def fitted_comb(
    ct: CtVolume,
    corners_mm: Floats,
    direction: Floats,
    planned_entry_mm: Floats,
    planned_tip_mm: Floats,
    clip_hu: float,
    furthest_mm: float,
    *,
    planned: bool = True,
) -> Comb:
    """Fit the needles of a scan, beginning at the planned ones.

    Args:
        ct: the scan.
        corners_mm: ``(k, 3)``, their box is looked at.
        direction: unit vector along the needles.
        planned_entry_mm, planned_tip_mm: ``(n, 3)``; all entries at one depth along ``direction``.
        clip_hu: level at which the scanner clipped.
        furthest_mm: deeper than this along ``direction`` nothing is believed.
        planned: whether a plan says so; else every line must explain as much as one that is added.
    """
    picture = Picture(ct, direction, corners_mm, clip_hu, furthest_mm)
    slab = picture.slab
    entry, tip = planned_entry_mm @ slab.frame.T, planned_tip_mm @ slab.frame.T
    lines, blur, rival_mm = _explaining(
        picture, laid_lines(picture, entry, tip), len(entry) if planned else 0
    )
    near = picture.near(lines, END_BIN_MM)
    last = picture.fit(lines, blur, 3)
    heights = _in_bins(last.heights, last.bin_w_mm, near.bin_w_mm)
    fine = fit_lines(near, last.lines, heights, blur, clip_hu, picture.usual_hu, 0)
    return Comb(last.lines, fine.heights, fine.grounds, fine.bin_w_mm, blur, last.covariance, slab, rival_mm)


def _explaining(picture: Picture, laid: Lines, planned: int) -> tuple[Lines, Blur, Floats]:
    """The lines that explain the picture best, the scanner's blur, and how far off what explains nearly as well puts
    the lines' ends.

    Needles that lie in thick slices look alike wherever in their slice they are, so the misfit has many valleys: each
    way there is followed to its end, and all are compared on the same voxels.
    """
    if picture.slice_mm < THICK_MM or abs(picture.slab.frame[2, 2]) > LYING:
        lines, blur = repaired_lines(picture, *drawn_lines(picture, laid), planned)
        return lines, blur, np.zeros(len(lines.curves))
    answers = [
        repaired_lines(picture, *drawn_lines(picture, laid, [way], damped=damped), planned)
        for damped in (False, True)
        for way in GROWN
    ]
    curves = np.concatenate([laid.curves, *(lines.curves for lines, _ in answers)])
    near = picture.near(Lines(laid.skin_w_mm, curves, np.full(len(curves), picture.high_w_mm)))
    misfits = [picture.fit(lines, blur, 0, near=near).misfit for lines, blur in answers]
    least = int(np.argmin(misfits))
    lines, blur = answers[least]
    rivals = [
        rival for (rival, _), misfit in zip(answers, misfits, strict=True) if misfit < misfits[least] + BETTER
    ]
    return (
        lines,
        blur,
        np.max([ends_apart_mm(lines, rival, lines.skin_w_mm - BEFORE_SKIN_MM) for rival in rivals], axis=0),
    )


def _in_bins(heights: Floats, from_w: Floats, to_w: Floats) -> Floats:
    return np.array([np.interp(to_w, from_w, row) for row in heights]).reshape(-1, len(to_w))
