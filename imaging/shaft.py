"""Where needle-like shafts begin: bright dots plane by plane, linked, bridged, judged.

The volume is resampled with one axis along the needles. In each plane across them a needle is a bright dot;
dots that continue each other form tracklets; tracklets that continue each other across a gap, as the
parts of one nearly straight needle do, are joined all at once (linear assignment), because parallel needles starve each
other and a shaft may vanish for centimetres. What is bright but not a needle (bone, teeth) does not come straight
from outside the skin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, maximum_filter
from scipy.optimize import linear_sum_assignment

from imaging.sample import across, inside, sample_hu
from imaging.track import Slab
from planning.frame import Floats
from planning.volume import CtVolume

LATERAL_STEP_MM = 0.7
AXIAL_STEP_MM = 1.5
# Least contrast of a dot after the band-pass, which leaves about 35 % of the true one: 0.05 of the usual
# contrast finds shafts starved to about a seventh. A whole shaft must be brighter somewhere: DOT_SHARE.
LEAST_DOT_HU = 70.0
DOT_SHARE = 0.13
MEETING_MM = 3.2  # two dots nearer than this pull at each other, or are one
MOST_SLOPE = 0.17  # against the rough direction (10 degrees)
LEAST_RADIUS_MM = 500.0  # gentler than the strongest bend of CLINIC.md
MOST_GAP_MM = 45.0
SKIN_HU = -300.0

# Contrast of a shaft by slice thickness (CLINIC.md, "What CT shows of metal"; thick slices average the log).
_THICKNESS_MM = (1.25, 2.5, 5.0)
_SHAFT_HU = (3000.0, 1300.0, 530.0)


def expected_contrast_hu(slice_mm: float) -> float:
    """Contrast a shaft in the slice plane usually has at this slice thickness."""
    return float(np.interp(slice_mm, _THICKNESS_MM, _SHAFT_HU))


def resample(ct: CtVolume, direction: Floats, corners_mm: Floats) -> Slab:
    """The scan along ``direction``, in the box (aligned with it) that holds all ``corners_mm`` ``(n, 3)``."""
    u, v = across(direction)
    frame = np.stack([u, v, direction])
    local = corners_mm @ frame.T
    low, high = local.min(axis=0), local.max(axis=0)
    us, vs = (np.arange(low[k], high[k] + LATERAL_STEP_MM, LATERAL_STEP_MM) for k in (0, 1))
    ws = np.arange(low[2], high[2] + AXIAL_STEP_MM, AXIAL_STEP_MM)
    plane = vs[:, None, None] * frame[1] + us[:, None] * frame[0]
    hu = np.empty((len(ws), len(vs), len(us)), dtype=np.float32)
    for k, w in enumerate(ws):
        hu[k] = sample_hu(ct, plane + w * frame[2])
    return Slab(np.clip(hu, -150.0, None, out=hu), us, vs, ws, frame)


def find_shafts(ct: CtVolume, slab: Slab) -> Floats:
    """Where needle-like shafts begin.

    Returns:
        ``(k, 5)``: w, u, v (mm, slab frame) and slopes du/dw, dv/dw of each.
    """
    slice_mm = max(ct.grid.spacing_mm[2], ct.slice_thickness_mm)
    expected = expected_contrast_hu(slice_mm)
    dots = _dots(slab, max(LEAST_DOT_HU, 0.05 * expected))
    runs = _cut_where_two_meet(_tracklets(dots, slice_mm))
    shafts = [np.concatenate([runs[k] for k in chain]) for chain in _joined(runs, slice_mm)]
    shafts = [
        shaft
        for shaft in shafts
        if len(shaft) * AXIAL_STEP_MM >= 12.0 and np.percentile(shaft[:, 3], 80) >= DOT_SHARE * expected
    ]
    outside = [shaft for shaft in shafts if _comes_from_outside(ct, slab, shaft)]
    parted = [s for s in shafts if not any(s is o for o in outside) and _parts_from_one_of(s, outside)]
    starts = []
    for shaft in outside + parted:
        line, _ = _line(shaft[:10])
        starts.append([shaft[0, 2], *(np.array((1.0, shaft[0, 2])) @ line), *line[1]])
    return np.array(starts).reshape(-1, 5)


def _dots(slab: Slab, least_hu: float) -> list[Floats]:
    """Per plane the bright dots ``(n, 4)``: u, v, w in mm and contrast."""
    hu, us, vs, ws = slab.hu, slab.us, slab.vs, slab.ws
    smooth = gaussian_filter1d(hu, 1.2 / AXIAL_STEP_MM, axis=0)
    dot = gaussian_filter(smooth, (0.0, 0.8 / LATERAL_STEP_MM, 0.8 / LATERAL_STEP_MM))
    dot -= gaussian_filter(smooth, (0.0, 2.8 / LATERAL_STEP_MM, 2.8 / LATERAL_STEP_MM))
    peak = (dot > least_hu) & (dot == maximum_filter(dot, size=(1, 3, 3)))
    peak[:, [0, -1], :] = False
    peak[:, :, [0, -1]] = False
    k, j, i = np.nonzero(peak)
    centre = dot[k, j, i]

    def offset(before: NDArray[np.float32], after: NDArray[np.float32]) -> Floats:
        bend = before + after - 2.0 * centre
        step = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
        return np.asarray(np.clip(step, -0.5, 0.5), dtype=float)

    table = np.column_stack(
        [
            us[i] + LATERAL_STEP_MM * offset(dot[k, j, i - 1], dot[k, j, i + 1]),
            vs[j] + LATERAL_STEP_MM * offset(dot[k, j - 1, i], dot[k, j + 1, i]),
            ws[k],
            centre,
        ]
    )
    return [table[k == plane] for plane in range(len(ws))]


def _tracklets(dots: list[Floats], slice_mm: float) -> list[Floats]:
    """Dots that continue each other from plane to plane: straight runs of at least four, ``(n, 4)`` each."""
    gate_mm = max(0.7, 0.5 * slice_mm)  # a shaft climbs through thick slices in steps
    finished: list[list[Floats]] = []
    open_runs: list[list[Floats]] = []
    for plane in dots:
        taken = np.zeros(len(plane), dtype=bool)
        still: list[list[Floats]] = []
        if open_runs and len(plane):
            last = np.array([run[-1][:2] for run in open_runs])
            slope = np.array(
                [(run[-1] - run[-4])[:2] / 3.0 if len(run) >= 4 else np.zeros(2) for run in open_runs]
            )
            distance = np.linalg.norm((last + slope)[:, None] - plane[None, :, :2], axis=2)
            nearest = distance.argmin(axis=1)
            back = distance.argmin(axis=0)
            for n, run in enumerate(open_runs):
                m = int(nearest[n])
                if distance[n, m] < gate_mm and back[m] == n:
                    run.append(plane[m])
                    taken[m] = True
                    still.append(run)
                else:
                    finished.append(run)
        else:
            finished.extend(open_runs)
        still.extend([dot] for dot in plane[~taken])
        open_runs = still
    finished.extend(open_runs)
    runs = [np.array(run) for run in finished if len(run) >= 4]
    return [run for run in runs if _straight(run, slice_mm)]


def _cut_where_two_meet(runs: list[Floats]) -> list[Floats]:
    """Cut a run where another one beside it begins or ends: there two needles may have become one dot.

    Which piece continues which is then decided for all of them together, over a longer base.
    """
    ends = np.array([run[k, :3] for run in runs for k in (0, -1)]).reshape(-1, 3)
    owner = np.repeat(np.arange(len(runs)), 2)
    pieces = []
    for n, run in enumerate(runs):
        near = np.linalg.norm(run[:, None, :2] - ends[None, :, :2], axis=2) < MEETING_MM
        near &= np.abs(run[:, None, 2] - ends[None, :, 2]) < 0.75 * AXIAL_STEP_MM
        cuts = np.flatnonzero((near & (owner != n)).any(axis=1))
        pieces += [piece for piece in np.split(run, cuts) if len(piece) >= 4]
    return pieces


def _line(run: Floats) -> tuple[Floats, Floats]:
    """Coefficients (offset and slope in u, v) and residuals of a straight fit."""
    basis = np.column_stack([np.ones(len(run)), run[:, 2]])
    line = np.linalg.lstsq(basis, run[:, :2], rcond=None)[0]
    miss = np.linalg.norm(run[:, :2] - basis @ line, axis=1)
    return np.asarray(line, dtype=float), np.asarray(miss, dtype=float)


def _straight(run: Floats, slice_mm: float) -> bool:
    line, miss = _line(run)
    length = run[-1, 2] - run[0, 2]
    allowed = 0.28 * max(slice_mm, 1.25) + length**2 / (16.0 * LEAST_RADIUS_MM)
    return bool(np.hypot(*line[1]) < MOST_SLOPE and np.sqrt(np.mean(miss**2)) < allowed)


def _joined(runs: list[Floats], slice_mm: float) -> list[list[int]]:
    """Chains of tracklets (indices, in order), joined across gaps by one assignment over all of them."""
    count = len(runs)
    if not count:
        return []
    never = 1e3
    cost = np.full((count, count), never)
    ends = [_line(run[-12:]) for run in runs]
    starts = [_line(run[:12]) for run in runs]
    for a, first in enumerate(runs):
        for b, second in enumerate(runs):
            gap = second[0, 2] - first[-1, 2]
            if a == b or not 0.0 < gap <= MOST_GAP_MM:
                continue
            middle = 0.5 * (second[0, 2] + first[-1, 2])
            one, other = (np.array((1.0, middle)) @ fit[0] for fit in (ends[a], starts[b]))
            miss = float(np.linalg.norm(one - other))
            lever = 0.5 * gap + 0.25 * 12 * AXIAL_STEP_MM
            spread = [
                0.16 * max(slice_mm, 1.25) / (len(r[-12:]) ** 1.5 / 3.5 * AXIAL_STEP_MM)
                for r in (first, second)
            ]
            sigma = np.hypot(0.24 * max(slice_mm, 1.25), lever * np.hypot(*spread)) + gap**2 / (
                8.0 * LEAST_RADIUS_MM
            )
            turn = float(np.linalg.norm(ends[a][0][1] - starts[b][0][1]))
            turn_sigma = np.hypot(0.016 * max(slice_mm, 1.25), np.hypot(*spread)) + (gap + 15.0) / (
                3.0 * LEAST_RADIUS_MM
            )
            value = (miss / sigma) ** 2 + (turn / turn_sigma) ** 2 + gap / 15.0
            if miss < 2.5 and value < 12.0:
                cost[a, b] = value
    alone = np.where(np.eye(count, dtype=bool), 12.0, 2 * never)
    square = np.block([[cost, alone], [alone.T, np.zeros((count, count))]])
    rows, columns = linear_sum_assignment(square)
    follows = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if r < count and c < count}
    follows = {a: b for a, b in follows.items() if cost[a, b] < never}
    chains = []
    for head in set(range(count)) - set(follows.values()):
        chain = [head]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        chains.append(chain)
    return chains


def _comes_from_outside(ct: CtVolume, slab: Slab, shaft: Floats) -> bool:
    """Whether a shaft begins in the air, or at the edge of what is looked at, as bone and teeth do not."""
    if shaft[0, 2] < slab.ws[0] + 4.0 * AXIAL_STEP_MM:
        return True
    line, _ = _line(shaft[:16])
    w = np.arange(shaft[0, 2] - 25.0, shaft[0, 2] + 0.1, 1.0)
    uv = np.column_stack([np.ones(len(w)), w]) @ line
    back = np.column_stack([uv, w]) @ slab.frame
    if not inside(ct, back).all():
        return True
    ring = np.arange(12) * np.pi / 6
    around = back[:, None] + 5.0 * (
        np.cos(ring)[:, None] * slab.frame[0] + np.sin(ring)[:, None] * slab.frame[1]
    )
    return bool(np.any(np.percentile(sample_hu(ct, around), 30, axis=1) < SKIN_HU))


def _parts_from_one_of(shaft: Floats, others: list[Floats]) -> bool:
    """Whether a long shaft begins beside one that comes from outside: two that were one dot up to there."""
    if len(shaft) * AXIAL_STEP_MM < 18.0:
        return False
    first = shaft[0]
    for other in others:
        near = np.abs(other[:, 2] - first[2]) < 2.0 * AXIAL_STEP_MM
        if near.any() and np.linalg.norm(other[near, :2] - first[:2], axis=1).min() < MEETING_MM + 0.8:
            return bool(np.median(shaft[:, 3]) > 0.4 * np.median(other[:, 3]))
    return False
