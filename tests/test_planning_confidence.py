"""Intervals: published values, and that they hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from planning.confidence import mean_interval, percentile_interval, share_interval


def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe 1998, Stat Med 17:857, Table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = share_interval(hits, count)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("count", [7, 400, 8350, 9240])
def test_nothing_of_many_is_not_excluded_by_rounding(count: int) -> None:
    assert share_interval(0, count).low == 0.0
    assert share_interval(count, count).high == 1.0


def test_intervals_hold_the_truth_nineteen_times_of_twenty() -> None:
    random = np.random.default_rng(5)
    samples = random.exponential(size=(400, 60))
    means = [mean_interval(sample) for sample in samples]
    assert np.mean([found.low <= 1.0 <= found.high for found in means]) == pytest.approx(0.94, abs=0.03)
    for percent in (10.0, 50.0, 95.0):
        true = -np.log(1.0 - percent / 100.0)
        found = [percentile_interval(sample, percent) for sample in samples]
        held = np.mean([f.low <= true <= f.high for f in found])
        assert held > 0.93 if percent < 95.0 else held > 0.9  # 60 values can't tell the 95th from above


def test_one_value_tells_nothing_of_its_mean() -> None:
    found = mean_interval([3.0])
    assert (found.value, found.low, found.high) == (3.0, -np.inf, np.inf)
    assert percentile_interval([3.0], 50.0).low == 3.0
