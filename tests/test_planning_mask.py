"""Contours become voxels: centre inside, even-odd, interpolated between drawn planes, cut at the scan's edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_dicom import ball, ring, tube
from skimage.measure import points_in_poly

from planning.dicom import Structure
from planning.mask import mask_of, rasterise
from planning.refusal import AskedWrongly
from planning.volume import Grid

GRID = Grid(shape=(21, 40, 50), origin_mm=(-24.5, -19.6, -25.0), spacing_mm=(1.0, 1.0, 2.5))


def structure(*contours: np.ndarray, name: str = "S") -> Structure:
    return Structure(name, 1, "ORGAN", contours)


def cc(mask: np.ndarray, grid: Grid = GRID) -> float:
    return float(mask.sum()) * grid.voxel_cc


@given(
    st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=3, max_size=12),
    st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 3.0)),
)
def test_a_pixel_is_inside_when_its_centre_is(
    corners: list[tuple[float, float]], spacing: tuple[float, float]
) -> None:
    polygon = (
        np.array(corners) + np.pi / 1e4
    )  # keeps corners off the pixel centres, where either answer is right
    grid = Grid((1, 12, 17), (-7.0, -5.0, 0.0), (*spacing, 1.0))
    y, x = np.meshgrid(grid.centres_mm(1), grid.centres_mm(0), indexing="ij")
    centres = np.column_stack([x.ravel(), y.ravel()])
    steps = np.roll(polygon, -1, axis=0) - polygon
    away = centres[:, None] - polygon[None]
    length = np.maximum(np.linalg.norm(steps, axis=1), 1e-12)
    on_edge = (np.abs(away[..., 0] * steps[:, 1] - away[..., 1] * steps[:, 0]) / length).min(axis=1) < 1e-6
    found = rasterise([polygon], grid).ravel()
    expected = points_in_poly(centres, polygon)
    np.testing.assert_array_equal(found[~on_edge], expected[~on_edge])


def test_volume_of_a_ball_and_a_cylinder() -> None:
    fine = Grid((81, 120, 120), (-29.75, -29.75, -20.0), (0.5, 0.5, 0.5))
    heights = fine.centres_mm(2)
    assert cc(mask_of(structure(*ball(heights, 0.3, 0.1, 0.2, 15.0)), fine), fine) == pytest.approx(
        4 / 3 * np.pi * 1.5**3, rel=0.01
    )
    rod = mask_of(structure(*tube(GRID.centres_mm(2)[3:9], 0, 0, 12, 8)), GRID)
    assert cc(rod) == pytest.approx(np.pi * 1.2 * 0.8 * 1.5, rel=0.02)
    assert np.flatnonzero(rod.any(axis=(1, 2))).tolist() == [3, 4, 5, 6, 7, 8]


def test_a_hole_may_be_a_second_contour_or_a_keyhole() -> None:
    outer, inner = ring(0, 0, 0, 12, 12), ring(0, 0, 0, 5, 5)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])
    nested = mask_of(structure(outer, inner), GRID)
    np.testing.assert_array_equal(mask_of(structure(keyhole), GRID), nested)
    assert cc(nested) == pytest.approx(np.pi * (1.2**2 - 0.5**2) * 0.25, rel=0.05)
    np.testing.assert_array_equal(mask_of(structure(outer, inner, inner), GRID), nested)


def test_the_part_outside_the_scan_is_cut_off() -> None:
    wide = Grid((31, 80, 90), (-44.5, -39.6, -37.5), GRID.spacing_mm)
    everywhere = structure(*ball(wide.centres_mm(2), -15, 12, 18, 17))
    np.testing.assert_array_equal(mask_of(everywhere, GRID), mask_of(everywhere, wide)[5:26, 20:60, 20:70])
    assert not mask_of(structure(ring(200, 0, 0, 5, 5)), GRID).any()
    assert not mask_of(structure(ring(0, 0, 400, 5, 5)), GRID).any()


@pytest.mark.parametrize("offset", [-1.2, -0.6, 0.0, 0.7, 1.2])
def test_planes_between_the_slices_keep_the_volume(offset: float) -> None:
    rod = structure(*tube(GRID.centres_mm(2)[4:10] + offset, 0, 0, 10, 10))
    assert cc(mask_of(rod, GRID)) == pytest.approx(np.pi * 1.0 * 1.5, rel=0.02)


def test_coarse_planes_are_interpolated() -> None:
    fine = Grid((81, 80, 80), (-19.75, -19.75, -20.0), (0.5, 0.5, 0.5))
    heights = np.arange(-10.0, 10.1, 5.0)
    cone = structure(*[ring(0, 0, z, 10 - 0.4 * z, 10 - 0.4 * z) for z in heights])
    mask = mask_of(cone, fine)
    for k, z in enumerate(fine.centres_mm(2)):
        area = float(mask[k].sum()) * 0.25
        if -10 <= z <= 10:
            assert np.sqrt(area / np.pi) == pytest.approx(10 - 0.4 * z, abs=0.3)
        elif abs(z) > 12.6:
            assert area == 0.0
    rod = mask_of(structure(*tube(heights, 0, 0, 8, 8)), fine)
    assert cc(rod, fine) == pytest.approx(np.pi * 0.64 * 2.5, rel=0.01)  # five planes of 5 mm each


def test_two_separate_parts_stay_separate_but_one_omitted_slice_is_bridged() -> None:
    z = GRID.centres_mm(2)
    parts = mask_of(structure(*tube(np.r_[z[2:6], z[10:14]], 0, 0, 8, 8)), GRID)
    assert np.flatnonzero(parts.any(axis=(1, 2))).tolist() == [2, 3, 4, 5, 10, 11, 12, 13]
    bridged = mask_of(structure(*tube(np.r_[z[2:6], z[7:10]], 0, 0, 8, 8)), GRID)
    assert np.flatnonzero(bridged.any(axis=(1, 2))).tolist() == list(range(2, 10))


def test_the_order_of_the_contours_means_nothing_and_none_is_empty() -> None:
    contours = ball(GRID.centres_mm(2), 0, 0, 0, 14)
    np.testing.assert_array_equal(
        mask_of(structure(*contours[::-1]), GRID), mask_of(structure(*contours), GRID)
    )
    assert not mask_of(structure(), GRID).any()


def test_a_contour_that_is_not_axial_is_refused() -> None:
    with pytest.raises(AskedWrongly, match="'Node': a contour does not lie in an axial plane"):
        mask_of(structure(ring(0, 0, 0, 8, 8)[:, [0, 2, 1]], name="Node"), GRID)
