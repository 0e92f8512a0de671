"""Dose-volume figures against fields whose answers are known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.dvh import dvh_curve, structure_statistics
from planning.refusal import AskedWrongly
from planning.volume import Grid

GRID = Grid((60, 60, 60), (-29.5, -29.5, -29.5), (1.0, 1.0, 1.0))
Z, Y, X = np.meshgrid(*(GRID.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij")
R = np.sqrt(X**2 + Y**2 + Z**2)
SPHERE = R <= 20.0
INVERSE_SQUARE = 4.0e4 / np.maximum(R, 0.5) ** 2  # 100 Gy at 20 mm


def test_sphere_in_an_inverse_square_field() -> None:
    s = structure_statistics("ball", SPHERE, INVERSE_SQUARE, GRID, prescription_gy=200.0)
    volume = 4 / 3 * np.pi * 20.0**3 / 1000
    assert s.volume_cc == pytest.approx(volume, rel=0.01)
    # D(part) is the dose at the radius that holds that part: the volume goes with the cube, dose with 1/square.
    assert s.d90_gy == pytest.approx(100.0 * 0.9 ** (-2 / 3), rel=0.01)
    assert s.d50_gy == pytest.approx(100.0 * 0.5 ** (-2 / 3), rel=0.01)
    assert s.d100_gy == pytest.approx(100.0, rel=0.01)
    assert s.mean_gy == pytest.approx(300.0, rel=0.03)  # the pole at the centre on 1 mm voxels
    for percent, value in ((100, s.v100_pct), (150, s.v150_pct), (200, s.v200_pct)):
        assert value == pytest.approx(100 * (2 * percent / 100) ** -1.5, rel=0.02)
    # 0.1 cm3 are a ball of 2.9 voxels' radius: the lattice itself costs 5 % there.
    for part_cc, value, limit in ((2.0, s.d2cc_gy, 0.02), (1.0, s.d1cc_gy, 0.02), (0.1, s.d01cc_gy, 0.06)):
        radius = (part_cc * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
        assert value == pytest.approx(4.0e4 / radius**2, rel=limit)


def test_linear_field_on_a_coarser_dose_grid_is_exact() -> None:
    """Trilinear interpolation reproduces a plane wedge, so the cube's figures are exact."""
    coarse = Grid((13, 13, 13), (-30.0, -30.0, -30.0), (5.0, 5.0, 5.0))
    wedge = np.broadcast_to(100.0 + coarse.centres_mm(0), coarse.shape)
    cube = (np.abs(X) < 20) & (np.abs(Y) < 20) & (np.abs(Z) < 20)
    s = structure_statistics("cube", cube, wedge, GRID, 100.0, dose_grid=coarse)
    assert s.volume_cc == pytest.approx(64.0)
    assert s.d90_gy == pytest.approx(84.0, abs=0.51)  # half a voxel: dose is taken at centres
    assert s.d50_gy == pytest.approx(100.0, abs=0.51)
    assert s.mean_gy == pytest.approx(100.0, abs=1e-9)
    assert s.v100_pct == pytest.approx(50.0)
    assert s.d100_gy == pytest.approx(80.5)


def test_inside_fractions_weigh() -> None:
    """A voxel that is half inside counts half; whole fractions are the same as a bool mask."""
    dose = np.where(X > 0, 100.0, 50.0)
    fraction = np.where(np.abs(X) < 2, 1.0, 0.0) * (np.abs(Y) < 2) * (np.abs(Z) < 2)
    fraction = np.where(X > 0, fraction, fraction * 0.5)
    s = structure_statistics("half", fraction, dose, GRID, 100.0)
    assert s.volume_cc == pytest.approx(0.048)
    assert s.v100_pct == pytest.approx(100 * 2 / 3)
    assert s.mean_gy == pytest.approx((2 * 100 + 50) / 3)
    whole = structure_statistics("ball", SPHERE.astype(float), INVERSE_SQUARE, GRID, 100.0)
    assert whole == structure_statistics("ball", SPHERE, INVERSE_SQUARE, GRID, 100.0)


def test_small_structure_reports_no_dose_to_more_than_it_has() -> None:
    small = R <= 7.0  # 1.4 cc
    s = structure_statistics("small", small, INVERSE_SQUARE, GRID, 100.0)
    assert s.d2cc_gy is None
    assert s.d1cc_gy is not None
    tiny = structure_statistics("tiny", R <= 2.0, INVERSE_SQUARE, GRID, 100.0)
    assert tiny.d01cc_gy is None


@pytest.mark.parametrize(
    ("mask", "dose", "dose_grid", "words"),
    [
        (np.zeros(GRID.shape, bool), INVERSE_SQUARE, None, "'cord' is empty"),
        (SPHERE, np.full(GRID.shape, np.nan), None, "not a number"),
        (
            SPHERE,
            np.ones((30, 60, 60)),
            Grid((30, 60, 60), GRID.origin_mm, GRID.spacing_mm),
            "does not cover",
        ),
    ],
)
def test_what_cannot_be_answered_is_said(mask, dose, dose_grid, words) -> None:
    with pytest.raises(AskedWrongly, match=words):
        structure_statistics("cord", mask, dose, GRID, 100.0, dose_grid=dose_grid)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 500), min_size=27, max_size=27), st.floats(0.1, 10))
def test_order_scale_and_curve_agree(values: list[float], scale: float) -> None:
    grid = Grid((3, 3, 3), (0.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    dose = np.reshape(values, grid.shape)
    mask = np.ones(grid.shape, bool)
    s = structure_statistics("any", mask, dose, grid, 100.0)
    assert s.d2cc_gy is not None
    assert s.max_gy >= s.d2cc_gy >= s.d50_gy >= s.d90_gy >= s.d100_gy
    assert s.v100_pct >= s.v150_pct >= s.v200_pct
    scaled = structure_statistics("any", mask, dose * scale, grid, 100.0 * scale)
    assert scaled.d90_gy == pytest.approx(s.d90_gy * scale)
    curve = dvh_curve("any", mask, dose, grid, [0.0, 100.0, 150.0, 200.0, 501.0])
    assert curve == pytest.approx([100.0, s.v100_pct, s.v150_pct, s.v200_pct, 0.0])
