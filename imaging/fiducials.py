"""The template's radio-opaque balls in a CT, and from them where the rig stands against the patient.

Balls are told by their mutual distances (the printed template makes them all different), so nobody need say which is
which. What the fit leaves over is reported ball by ball, but the error to expect at a needle's tip comes from
how the balls are spread (Fitzpatrick, West and Maurer 1998, IEEE Trans Med Imaging 17:694), not from the residual. If
two ways to match fit alike, or too few balls fit, nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import find_objects, label

from planning.frame import Floats, RigidTransform
from planning.volume import CtVolume

LEAST_HU = (
    600.0  # ceramic, glass and metal balls of 2-6 mm stay above half of this behind partial volume (assumed)
)
ALIKE_MM = 1.0  # two distances agree; TEMPLATE.md: a template's differ by 2 mm
MOST_RESIDUAL_MM = 0.8  # of any ball
LEAST_LOCALISATION_MM = 0.2  # 1 sigma of a ball's centre, 3-D, even when the residual is smaller (assumed)
SLICE_SHARE = 0.15  # of the slice thickness: the same in thicker slices (assumed)
MOST_CANDIDATES = 80


@dataclass(frozen=True, eq=False)
class FiducialFit:
    """Result of :func:`rig_from_fiducials`.

    Attributes:
        rig_from_scan: takes points of the scan's patient frame to the rig's; only to be used if ``succeeded``.
        succeeded: False when nothing may be claimed.
        residual_mm: per ball of the template, NaN where it was not seen.
        localisation_mm: 1 sigma of a ball's centre, 3-D.
        balls_rig_mm: ``(m, 3)`` the balls that were used.
        reason: why it failed; empty when it succeeded.
    """

    rig_from_scan: RigidTransform
    succeeded: bool
    residual_mm: Floats
    localisation_mm: float
    balls_rig_mm: Floats
    reason: str = ""

    @property
    def unseen(self) -> tuple[int, ...]:
        """Indices of balls that were not found."""
        return tuple(int(k) for k in np.flatnonzero(np.isnan(self.residual_mm)))

    def expected_tre_mm(self, point_rig_mm: ArrayLike) -> float:
        """1 sigma of the 3-D error to expect at a point of the rig's frame, mm."""
        if not self.succeeded:
            return float("inf")
        middle = self.balls_rig_mm.mean(axis=0)
        offset = self.balls_rig_mm - middle
        _, _, axes = np.linalg.svd(offset)
        at = axes @ (np.asarray(point_rig_mm, dtype=float) - middle)
        ball = offset @ axes.T
        share = 0.0
        for k in range(3):
            others = [i for i in range(3) if i != k]
            spread = float(np.mean(np.sum(ball[:, others] ** 2, axis=1)))
            share += float(np.sum(at[others] ** 2)) / spread
        return float(self.localisation_mm * np.sqrt((1.0 + share / 3.0) / len(self.balls_rig_mm)))


def find_balls(ct: CtVolume, diameter_mm: float) -> Floats:
    """Centres ``(n, 3)``, patient frame of the CT, of whatever is bright, compact and as large as a ball."""
    marks, _ = label(ct.hu > LEAST_HU, structure=np.ones((3, 3, 3)))
    spacing = np.array(ct.grid.spacing_mm)
    slice_mm = np.array([0.0, 0.0, max(0.0, ct.slice_thickness_mm - spacing[2])])
    low, high = 0.3 * diameter_mm, diameter_mm + 1.6 * spacing + slice_mm + 0.8
    centres = []
    for number, box in enumerate(find_objects(marks), start=1):
        size = np.array([s.stop - s.start for s in box])[::-1] * spacing
        if np.any(size > high) or np.all(size < low):
            continue
        # with a rim of two voxels, so that what partial volume spreads counts too
        wide = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in box)
        hu = ct.hu[wide].astype(float)
        other = (marks[wide] != number) & (marks[wide] > 0)
        rim = np.ones(hu.shape, dtype=bool)
        rim[1:-1, 1:-1, 1:-1] = False
        weight = np.where(other, 0.0, np.clip(hu - max(float(np.median(hu[rim])), -200.0) - 100.0, 0.0, None))
        if weight.sum() <= 0.0:
            continue
        index = np.argwhere(weight > 0.0)
        share = weight[weight > 0.0] / weight.sum()
        centres.append(ct.grid.point_of(share @ index + [s.start for s in wide]))
    return np.array(centres).reshape(-1, 3)


def rig_from_fiducials(
    ct: CtVolume, balls_rig_mm: ArrayLike, diameter_mm: float, start: RigidTransform, within_mm: float = 40.0
) -> FiducialFit:
    """Where the rig stands, from the balls of its template.

    Args:
        ct: the scan, slices preferably <= 1.25 mm.
        balls_rig_mm: ``(n, 3)``, n >= 3, of the template, rig frame.
        diameter_mm: of the balls.
        start: first guess of ``rig_from_scan``, usually the plan's.
        within_mm: how far from there a ball may lie.
    """
    balls = np.asarray(balls_rig_mm, dtype=float).reshape(-1, 3)
    seen = find_balls(ct, diameter_mm)
    near = np.linalg.norm(start.apply(seen)[:, None] - balls[None], axis=2).min(axis=1, initial=np.inf)
    seen = seen[np.argsort(near)][: min(MOST_CANDIDATES, int(np.count_nonzero(near < within_mm)))]
    return match_balls(seen, balls, start, ct.slice_thickness_mm)


def match_balls(
    seen_mm: Floats, balls_rig_mm: Floats, start: RigidTransform, slice_mm: float = 1.0
) -> FiducialFit:
    """Match candidates ``(m, 3)`` with balls ``(n, 3)`` by their distances, and fit."""
    count = len(balls_rig_mm)
    if count < 3 or np.linalg.svd(balls_rig_mm - balls_rig_mm.mean(axis=0), compute_uv=False)[1] < 3.0:
        return _refused(start, count, "a fit needs three balls that are not in one line")
    if len(seen_mm) < 3:
        return _refused(start, count, f"only {len(seen_mm)} of {count} balls are seen; three are needed")
    answers: list[tuple[int, float, RigidTransform, dict[int, int]]] = []
    apart = np.linalg.norm(seen_mm[:, None] - seen_mm[None], axis=2)
    wanted = np.linalg.norm(balls_rig_mm[:, None] - balls_rig_mm[None], axis=2)
    for a, b, c in (t for t in permutations(range(count), 3) if t[0] < t[1] < t[2]):
        for i, j in np.argwhere(np.abs(apart - wanted[a, b]) < ALIKE_MM):
            thirds = np.flatnonzero(
                (np.abs(apart[i] - wanted[a, c]) < ALIKE_MM) & (np.abs(apart[j] - wanted[b, c]) < ALIKE_MM)
            )
            for k in thirds:
                if len({int(i), int(j), int(k)}) < 3:
                    continue
                fit = rigid_fit(seen_mm[[i, j, k]], balls_rig_mm[[a, b, c]])
                pairs = _pairs(fit.apply(seen_mm), balls_rig_mm)
                if len(pairs) < 3:
                    continue
                fit = rigid_fit(seen_mm[list(pairs.values())], balls_rig_mm[list(pairs)])
                miss = np.linalg.norm(
                    fit.apply(seen_mm[list(pairs.values())]) - balls_rig_mm[list(pairs)], axis=1
                )
                if miss.max() <= MOST_RESIDUAL_MM:
                    answers.append((len(pairs), float(np.sqrt(np.mean(miss**2))), fit, pairs))
    if not answers:
        return _refused(start, count, "no three bright spots lie as the template's balls do")
    most = max(answer[0] for answer in answers)
    best = min((answer for answer in answers if answer[0] == most), key=lambda answer: answer[1])
    rivals = [answer for answer in answers if answer[0] == most and answer[3] != best[3]]
    if rivals:
        return _refused(
            start, count, f"{1 + len({_key(r[3]) for r in rivals})} ways to match {most} balls fit alike"
        )
    _, _, fit, pairs = best
    residual = np.full(count, np.nan)
    used = list(pairs)
    residual[used] = np.linalg.norm(fit.apply(seen_mm[list(pairs.values())]) - balls_rig_mm[used], axis=1)
    # the residual of m balls has 3 m - 6 degrees of freedom
    left = float(np.sqrt(3.0 * np.sum(residual[used] ** 2) / max(3 * len(used) - 6, 1)))
    floor = float(np.hypot(LEAST_LOCALISATION_MM, SLICE_SHARE * slice_mm))
    return FiducialFit(fit, True, residual, max(left, floor), balls_rig_mm[used])


def rigid_fit(points_mm: Floats, targets_mm: Floats) -> RigidTransform:
    """The rotation and shift that take points ``(n, 3)`` nearest to targets, in the mean of squares (Kabsch 1976)."""
    middle, aim = points_mm.mean(axis=0), targets_mm.mean(axis=0)
    u, _, vt = np.linalg.svd((points_mm - middle).T @ (targets_mm - aim))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = vt.T @ mirror @ u.T
    return RigidTransform(rotation, aim - rotation @ middle)


def _pairs(seen_rig_mm: Floats, balls_rig_mm: Floats) -> dict[int, int]:
    """Ball -> nearest candidate, where one lies near enough and belongs to no other ball."""
    distance = np.linalg.norm(seen_rig_mm[None] - balls_rig_mm[:, None], axis=2)
    nearest = distance.argmin(axis=1)
    pairs = {n: int(k) for n, k in enumerate(nearest) if distance[n, k] <= 1.5 * MOST_RESIDUAL_MM}
    return pairs if len(set(pairs.values())) == len(pairs) else {}


def _key(pairs: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(pairs.items()))


def _refused(start: RigidTransform, count: int, reason: str) -> FiducialFit:
    return FiducialFit(start, False, np.full(count, np.nan), float("inf"), np.empty((0, 3)), reason)
