"""Outlines of masks: what they enclose is the mask, holes and islands included."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from planning.contours import outlines


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.7, 2.5), st.floats(0.35, 0.65))
def test_outlines_enclose_exactly_the_mask(seed: int, smooth: float, level: float) -> None:
    """Blobs with holes, islands in holes, and contact with the edge; each outline filled on its own."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((24, 30)), smooth)
    mask = noise > np.quantile(noise, level)
    drawn = np.zeros(mask.shape, dtype=int)
    for line in outlines(mask):
        drawn += grid_points_in_poly(mask.shape, line)
    assert np.array_equal(drawn, mask.astype(int))


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((5, 5), bool)) == []
    assert [len(line) for line in outlines(np.ones((1, 1), bool))] == [4]


def test_ring_in_ring() -> None:
    y, x = np.indices((41, 41)) - 20
    r = np.hypot(x, y)
    mask = (r < 19) & (r > 12) | (r < 8) & (r > 3)
    lines = outlines(mask)
    assert len(lines) == 2
    for line, ring in zip(lines, ((r < 8) & (r > 3), (r < 19) & (r > 12)), strict=True):
        assert np.array_equal(grid_points_in_poly(mask.shape, line), ring)
