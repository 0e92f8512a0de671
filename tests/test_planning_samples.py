"""Figures taken on points finer than voxels, against bodies and fields whose answers are known in closed form."""

from dataclasses import replace

import numpy as np
import pytest
from made_dicom import make_case

from planning.anatomy import build_anatomy
from planning.dicom import Structure, read_case
from planning.dose import dose_at_points_gy
from planning.dvh import reference_volume_cc, statistics_of, structure_statistics, with_indices
from planning.planner import dose_of_seeds
from planning.refusal import AskedWrongly
from planning.samples import Samples, samples_of_margin, samples_of_mask, samples_of_structure
from planning.site_protocol import load_site_protocol
from planning.sources import load_source
from planning.volume import Grid

SLICE_MM = 2.5


def circle(radius: float, z: float, x: float = 0.0) -> np.ndarray:
    turn = np.arange(180) * np.pi / 90
    return np.stack([x + radius * np.cos(turn), radius * np.sin(turn), np.full(180, z)], axis=1)


def ball(radius: float, offset: float = 0.0, slice_mm: float = SLICE_MM, x: float = 0.0) -> Structure:
    heights = np.arange(-60, 61) * slice_mm + offset
    inside = heights[np.abs(heights) < radius - 1e-6]
    return Structure(
        "ball", 1, "GTV", tuple(circle(float(np.sqrt(radius**2 - z**2)), float(z), x) for z in inside)
    )


def tube(radius: float, count: int) -> Structure:
    heights = (np.arange(count) - 0.5 * (count - 1)) * SLICE_MM
    return Structure("tube", 1, "ORGAN", tuple(circle(radius, float(z)) for z in heights))


def ball_volume_cc(radius: float) -> float:
    return 4.0 / 3.0 * np.pi * radius**3 / 1000.0


@pytest.mark.parametrize("offset", [0.0, 0.6, 1.25])
@pytest.mark.parametrize(("radius", "slice_mm"), [(6.0, 0.6), (12.0, 1.25), (20.0, 2.5)])
def test_ball_in_an_inverse_square_field(radius: float, slice_mm: float, offset: float) -> None:
    """Slices of a tenth of the radius: the contours themselves then tell the shape to 1 %."""
    samples = samples_of_structure(ball(radius, offset * slice_mm / 2.5, slice_mm), slice_mm)
    dose = 100.0 * radius**2 / (samples.points_mm**2).sum(axis=1)
    found = statistics_of("ball", dose, samples.cell_cc, 200.0)
    assert found.volume_cc == pytest.approx(ball_volume_cc(radius), rel=0.01)
    assert found.d90_gy == pytest.approx(100.0 * 0.9 ** (-2 / 3), rel=0.01)
    assert found.d50_gy == pytest.approx(100.0 * 0.5 ** (-2 / 3), rel=0.01)
    assert found.v100_pct == pytest.approx(100 * 2.0**-1.5, rel=0.01)
    assert found.mean_gy == pytest.approx(300.0, rel=0.03)  # the pole at the centre
    # 0.1 cm3 of the largest ball are 120 cells around the pole.
    for part_cc, value, limit in (
        (2.0, found.d2cc_gy, 0.01),
        (1.0, found.d1cc_gy, 0.01),
        (0.1, found.d01cc_gy, 0.03),
    ):
        hot = (part_cc * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
        assert (value is None) == (part_cc > found.volume_cc)
        assert value is None or value == pytest.approx(100.0 * radius**2 / hot**2, rel=limit)


@pytest.mark.parametrize(("radius", "count"), [(3.0, 2), (5.0, 1), (12.0, 9)])
def test_tube_of_few_slices_ends_half_a_slice_beyond_the_outermost(radius: float, count: int) -> None:
    """Down to 0.2 cm3 in a single slice, where voxels alone are wrong by tens of per cent."""
    length = count * SLICE_MM
    samples = samples_of_structure(tube(radius, count), SLICE_MM)
    assert samples.volume_cc == pytest.approx(np.pi * radius**2 * length / 1000.0, rel=0.01)
    assert np.abs(samples.points_mm[:, 2]).max() <= 0.5 * length
    # A line source along its axis, dose 1 / distance squared from the axis: D90 from the area inside a radius.
    dose = 100.0 * radius**2 / (samples.points_mm[:, :2] ** 2).sum(axis=1)
    found = statistics_of("tube", dose, samples.cell_cc, 200.0)
    assert found.d90_gy == pytest.approx(100.0 / 0.9, rel=0.01)
    assert found.v100_pct == pytest.approx(50.0, rel=0.01)


def test_small_ball_on_thin_slices() -> None:
    found = samples_of_structure(ball(3.0, 0.25, 0.5), 0.5)
    assert found.volume_cc == pytest.approx(ball_volume_cc(3.0), rel=0.01)
    dose = 900.0 / (found.points_mm**2).sum(axis=1)
    assert statistics_of("b", dose, found.cell_cc, 9.0).d90_gy == pytest.approx(
        0.9 ** (-2 / 3) * 100, rel=0.01
    )


def test_what_the_dose_grid_cuts_off_is_left_out() -> None:
    half = Grid((41, 41, 41), (0.5, -20.0, -20.0), (1.0, 1.0, 1.0))  # x from 0
    cut = samples_of_structure(ball(12.0), SLICE_MM, half)
    assert cut.volume_cc == pytest.approx(0.5 * ball_volume_cc(12.0), rel=0.02)
    assert cut.points_mm[:, 0].min() >= 0.0


def test_a_gap_between_two_pieces_stays_a_gap() -> None:
    two = Structure("two", 1, "ORGAN", tuple(circle(5.0, z) for z in (0.0, 2.5, 5.0, 20.0, 22.5, 25.0)))
    samples = samples_of_structure(two, SLICE_MM)
    assert samples.volume_cc == pytest.approx(np.pi * 25.0 * 15.0 / 1000.0, rel=0.01)
    assert not np.any((samples.points_mm[:, 2] > 6.3) & (samples.points_mm[:, 2] < 18.7))


def test_margin_of_a_ball_is_a_ball(tmp_path) -> None:
    case = make_case(
        tmp_path / "case",
        structures={
            "GTV": list(ball(12.0, 0.4).contours),
            "BODY": [circle(60.0, z) for z in np.arange(-48.75, 49, 2.5)],
        },
        types={"GTV": "GTV", "BODY": "EXTERNAL"},
    )
    protocol = load_site_protocol("general")
    anatomy = build_anatomy(read_case(case.folder), protocol, target=None, margin_mm=5.0)
    anatomy = replace(anatomy, ctv_within=None)
    assert samples_of_margin(anatomy).volume_cc == pytest.approx(ball_volume_cc(17.0), rel=0.015)


def test_an_organ_larger_than_the_dose_grid_counts_whole(tmp_path) -> None:
    """A tube of 1.1 litres around the target: its volume, and a mean dose lower than that of its part in the grid."""
    lung = [circle(60.0, z) for z in np.arange(-48.75, 49, 2.5)]
    case = make_case(
        tmp_path / "case",
        structures={"GTV": list(ball(8.0, 0.4).contours), "Lung": lung, "BODY": lung},
        types={"GTV": "GTV", "BODY": "EXTERNAL"},
    )
    protocol = load_site_protocol("general")
    anatomy = build_anatomy(read_case(case.folder), protocol, target=None, margin_mm=3.0)
    _, grid, found = dose_of_seeds(
        anatomy, load_source(), [[0.0, 0.0, 0.0], [5.0, 0.0, 5.0]], [[0, 0, 1], [0, 1, 0]], 0.8, 120.0
    )
    assert found["Lung"].volume_cc == pytest.approx(np.pi * 3600 * 100 / 1000, rel=0.01)
    part = samples_of_structure(Structure("Lung", 1, "ORGAN", tuple(lung)), SLICE_MM, grid)
    assert part.volume_cc < 0.7 * found["Lung"].volume_cc
    dose = dose_at_points_gy(
        load_source(), [[0.0, 0.0, 0.0], [5.0, 0.0, 5.0]], [[0, 0, 1], [0, 1, 0]], 0.8, part.points_mm[::50]
    )
    assert found["Lung"].mean_gy < 0.8 * dose.mean()


def test_planner_reports_the_indices_of_the_target(tmp_path) -> None:
    protocol = load_site_protocol("general")
    anatomy = build_anatomy(
        read_case(make_case(tmp_path / "case").folder), protocol, target=None, margin_mm=5.0
    )
    centre = anatomy.grid.point_of(np.argwhere(anatomy.gtv)).mean(axis=0)
    offsets = np.array([[x, y, z] for x in (-8, 0, 8) for y in (-8, 0, 8) for z in (-8, 0, 8)], dtype=float)
    directions = np.tile([0.0, 0.0, 1.0], (len(offsets), 1))
    _, _, found = dose_of_seeds(anatomy, load_source(), centre + offsets, directions, 0.8, 120.0)
    ctv = found["CTV"]
    assert ctv.ci is not None
    assert 0.0 < ctv.ci <= 1.0
    assert ctv.hi_pct == pytest.approx(100 * (1 - ctv.v150_pct / ctv.v100_pct))
    assert all(figures.ci is None for name, figures in found.items() if name not in ("CTV", "GTV"))


def test_indices_of_a_ball_around_a_point_source() -> None:
    """100 Gy at 20 mm; V = ball of 20 mm, isodose of 120 Gy inside it, of 80 Gy outside it."""
    n = 81
    grid = Grid((n, n, n), (-40.0, -40.0, -40.0), (1.0, 1.0, 1.0))
    points = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1))
    dose = 4.0e4 / np.maximum((points**2).sum(axis=-1), 0.25)
    samples = samples_of_structure(ball(20.0), SLICE_MM)
    at = 4.0e4 / np.maximum((samples.points_mm**2).sum(axis=1), 0.25)
    inside = with_indices(
        statistics_of("CTV", at, samples.cell_cc, 120.0), reference_volume_cc(dose, grid, 120.0)
    )
    part = (100 / 120) ** 1.5
    assert inside.ci == pytest.approx(part, rel=0.01)
    assert inside.ei_pct == pytest.approx(0.0, abs=0.7)
    assert inside.hi_pct == pytest.approx(100 * (1 - 1.5**-1.5), rel=0.01)
    around = with_indices(
        statistics_of("CTV", at, samples.cell_cc, 80.0), reference_volume_cc(dose, grid, 80.0)
    )
    assert around.ci == pytest.approx(1 / 1.25**1.5, rel=0.01)
    assert around.ei_pct == pytest.approx(100 * (1.25**1.5 - 1), rel=0.02)
    # The isodose of 20 Gy is larger than the grid: nobody knows how large.
    cut = with_indices(statistics_of("CTV", at, samples.cell_cc, 20.0), reference_volume_cc(dose, grid, 20.0))
    assert cut.ci is None
    assert cut.ei_pct is None


def test_one_volume_for_all_or_each_its_own_is_the_same() -> None:
    rng = np.random.default_rng(3)
    dose = rng.lognormal(5.0, 1.0, 5000)
    one, each = (statistics_of("s", dose, volume, 120.0) for volume in (0.001, np.full(5000, 0.001)))
    for key, value in vars(one).items():
        assert value == (pytest.approx(vars(each)[key]) if isinstance(value, float) else vars(each)[key])


def test_refused() -> None:
    empty = samples_of_structure(Structure("none", 1, "", ()), SLICE_MM)
    with pytest.raises(AskedWrongly, match="'none' is empty"):
        statistics_of("none", np.zeros(len(empty.points_mm)), empty.cell_cc, 100.0)
    with pytest.raises(AskedWrongly, match="not a number"):
        statistics_of("bad", np.array([1.0, np.nan]), 0.1, 100.0)


def test_thinned_keeps_the_volume_and_the_figures() -> None:
    whole = samples_of_structure(ball(20.0), SLICE_MM)
    thin = whole.thinned(4000)
    assert len(thin.points_mm) < 6000
    assert thin.volume_cc == pytest.approx(whole.volume_cc)
    figures = [
        statistics_of("b", 4e4 / (s.points_mm**2).sum(axis=1), s.cell_cc, 200.0) for s in (whole, thin)
    ]
    assert figures[1].d90_gy == pytest.approx(figures[0].d90_gy, rel=0.01)


def test_a_masks_samples_are_its_voxels() -> None:
    grid = Grid((6, 7, 8), (1.0, 2.0, 3.0), (1.0, 2.0, 2.5))
    mask = np.random.default_rng(0).random(grid.shape) < 0.5
    dose = np.random.default_rng(1).random(grid.shape) * 200
    samples = samples_of_mask(mask, grid)
    assert isinstance(samples, Samples)
    found = statistics_of("m", dose[mask], samples.cell_cc, 100.0)
    assert found.d90_gy == pytest.approx(structure_statistics("m", mask, dose, grid, 100.0).d90_gy)
