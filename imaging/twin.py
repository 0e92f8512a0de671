"""Two needles in one spot: shafts that lie so close along their way that they show as one, slightly long, spot.

Looked for only when fewer shafts were found than needles are expected: a spot's second moments, compared with those
of a single clipped spot of the same height, tell how far apart, and in which direction, two would have to lie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imaging.track import Slab, Track, spots_hu
from planning.frame import Floats

WINDOW = 10  # planes averaged
REACH_MM = 3.2
LEAST_OTHERS = 3  # shafts that must be seen before their common width counts as the scanner's
LEAST_SPREAD_MM2 = 0.25  # more second moment than a single spot has: two at least 1 mm apart


def twin_starts(
    slab: Slab, tracks: list[Track], covariance: Floats, clip_hu: float, most: int
) -> tuple[Floats, list[int]]:
    """Starts for at most ``most`` pairs in the place of the single tracks whose spots are longest.

    Returns:
        ``(2 m, 5)`` starts as :func:`imaging.track.follow` takes them, and the ``m`` tracks they replace.
    """
    windows: list[tuple[int, NDArray[np.intp], Floats]] = []
    for n, track in enumerate(tracks):
        others = [other for m, other in enumerate(tracks) if m != n]
        seen = np.flatnonzero(track.peak_hu > 0.4 * np.percentile(track.peak_hu, 80))
        for first in range(0, len(seen) - WINDOW, WINDOW // 2):
            planes = seen[first : first + WINDOW]
            windows.append((n, planes, _excess_moment(slab, track, planes, others, covariance, clip_hu)))
    # what all spots have too much is the scanner's blur, not a second needle
    usual = np.zeros((2, 2))
    if len({n for n, *_ in windows}) >= LEAST_OTHERS:
        usual = np.median([excess for *_, excess in windows], axis=0)
    pairs: list[tuple[float, int, list[list[float]]]] = []
    for n, planes, excess in windows:
        values, vectors = np.linalg.eigh(excess - usual)
        if any(n == m for _, m, _ in pairs):
            continue
        if values[1] > LEAST_SPREAD_MM2 and values[0] < 0.6 * values[1]:
            track, middle = tracks[n], planes[WINDOW // 2]
            slope = np.polyfit(track.ws[planes], track.uv[planes], 1)[0]
            apart = np.sqrt(values[1]) * vectors[:, 1]
            sides = (track.uv[middle] - apart, track.uv[middle] + apart)
            pairs.append((float(values[1]), n, [[track.ws[middle], *side, *slope] for side in sides]))
    pairs = sorted(pairs, key=lambda pair: -pair[0])[:most]
    starts = [start for _, _, pair in pairs for start in pair]
    return np.array(starts).reshape(-1, 5), [n for _, n, _ in pairs]


def _excess_moment(
    slab: Slab,
    track: Track,
    planes: NDArray[np.intp],
    others: list[Track],
    covariance: Floats,
    clip_hu: float,
) -> Floats:
    """Second moment ``(2, 2)`` in mm2 of a spot, averaged over planes, less that of a single spot."""
    measured, single, weight = np.zeros((2, 2)), np.zeros((2, 2)), 0.0
    inverse = np.linalg.inv(covariance)
    first = round(float((track.ws[0] - slab.ws[0]) / (slab.ws[1] - slab.ws[0])))
    for k in planes:
        u, v = track.uv[k]
        i = np.flatnonzero(np.abs(slab.us - u) < REACH_MM)
        j = np.flatnonzero(np.abs(slab.vs - v) < REACH_MM)
        at = np.stack(np.meshgrid(slab.us[i] - u, slab.vs[j] - v), axis=-1).reshape(-1, 2)
        near = np.linalg.norm(at, axis=1) < REACH_MM
        hu = slab.hu[int(k) + first][np.ix_(j, i)].reshape(-1)[near].astype(float)
        at = at[near]
        places = np.column_stack([at + track.uv[k], np.full(len(at), track.ws[k])]) @ slab.frame
        beside = spots_hu(others, slab.frame, covariance, places)
        spot = track.peak_hu[k] * np.exp(-0.5 * np.sum((at @ inverse) * at, axis=1))
        ground = float(np.clip(track.ground_hu[k], -150.0, 500.0))
        seen = np.clip(hu - np.minimum(beside, clip_hu) - ground, 0.0, None) * (beside < 600.0)
        model = np.clip(np.minimum(spot + ground, clip_hu) - ground, 0.0, None) * (beside < 600.0)
        if seen.sum() > 0.0 and model.sum() > 0.0:
            centre = seen @ at / seen.sum()
            measured += (seen[:, None] * (at - centre)).T @ (at - centre) / seen.sum()
            single += (model[:, None] * at).T @ at / model.sum()
            weight += 1.0
    return (measured - single) / max(weight, 1.0)
