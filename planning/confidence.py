"""How sure a figure from a sample is: 95 % intervals of a mean, a percentile and a share. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with the interval that holds its true value with 95 % confidence."""

    value: float
    low: float
    high: float


def mean_interval(values: ArrayLike) -> Interval:
    """Of a mean, by Student's t; the interval of one value is infinite."""
    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean())
    if len(sample) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf(0.5 + LEVEL / 2.0, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


def percentile_interval(values: ArrayLike, percent: float) -> Interval:
    """Of a percentile, between two of the sample's own values, whatever the distribution.

    The number of values below the true percentile is binomial (Hahn and Meeker, Statistical Intervals, 5.2); where the
    sample is too small to tell, an end is the smallest or the largest value.
    """
    sample = np.sort(np.asarray(values, dtype=float))
    count, share = len(sample), percent / 100.0
    few, many = (int(stats.binom.ppf(0.5 + side * LEVEL / 2.0, count, share)) for side in (-1, 1))
    low, high = max(few - 1, 0), min(many, count - 1)
    return Interval(float(np.percentile(sample, percent)), float(sample[low]), float(sample[high]))


def share_interval(hits: int, count: int) -> Interval:
    """Of a share (0..1): Wilson's score interval, which stays sensible at 0 of n and n of n."""
    z = float(stats.norm.ppf(0.5 + LEVEL / 2.0))
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)))
    low, high = centre - half, centre + half  # at the ends these are 0 and 1 but for rounding
    return Interval(share, low if hits else 0.0, high if hits < count else 1.0)
