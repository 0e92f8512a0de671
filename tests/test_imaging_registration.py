"""Registration of a moved phantom; the truth is the movement it was made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from synthetic_ct import (
    TrueNeedle,
    add_needles,
    add_noise,
    add_seeds,
    anatomy_hu,
    grid_around,
    volume,
)

from imaging.registration import _mean_variance, register
from planning.dicom import read_ct
from planning.frame import RigidTransform, unit
from planning.volume import CtVolume

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"
CENTRE = np.array([-10.0, 0.0, 0.0])
HALF = np.array([50.0, 45.0, 35.0])
LOW, HIGH = CENTRE - HALF, CENTRE + HALF


def scan(
    moved: RigidTransform | None, slice_mm: float, height_mm: float, seed: int, needles: int = 0
) -> CtVolume:
    rng = np.random.default_rng(seed)
    grid = grid_around((0, 0, 0), (150, 130, height_mm), (1.1, 1.1, slice_mm))
    hu = anatomy_hu(grid, moved)
    shafts = [
        TrueNeedle("n", np.array([-60.0, 6.0 * k - 12, 0.0]), unit((1, 0.1, 0.1)), 55.0, np.zeros(3), 15.0)
        for k in range(needles)
    ]
    add_needles(hu, grid, shafts, rng)
    add_noise(hu, rng, 15.0)
    return volume(hu, grid)


@pytest.fixture(scope="module")
def reference() -> CtVolume:
    return scan(None, 2.5, 100.0, 1)


@pytest.mark.parametrize(
    ("shift", "turn", "slice_mm", "height_mm", "needles"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 2.5, 100.0, 0),
        ((2.0, -1.5, 3.0), (0.5, -1.0, 0.5), 1.25, 100.0, 6),
        ((9.0, -7.0, 8.0), (2.0, -3.0, 3.0), 1.25, 100.0, 6),
        ((-3.0, 4.0, -2.0), (1.0, 1.0, -1.0), 1.25, 55.0, 3),
    ],
)
def test_the_movement_is_found_whatever_is_new_in_the_picture(
    reference: CtVolume,
    shift: tuple[float, ...],
    turn: tuple[float, ...],
    slice_mm: float,
    height_mm: float,
    needles: int,
) -> None:
    moved = RigidTransform.from_rotation_vector(turn, shift, CENTRE)
    rescan = scan(moved, slice_mm, height_mm, 2, needles)
    found = register(rescan, reference, box_low_mm=LOW, box_high_mm=HIGH)
    assert found.succeeded, found.reason
    points = CENTRE + np.random.default_rng(3).normal(0.0, 15.0, (100, 3))
    errors = np.linalg.norm(found.reference_from_scan.apply(moved.apply(points)) - points, axis=1)
    assert np.sqrt(np.mean(errors**2)) <= 0.5
    assert found.expected_tre_mm < 0.6
    assert (
        np.linalg.norm(found.reference_from_scan.apply(moved.apply(CENTRE)) - CENTRE)
        < 3 * found.expected_tre_mm
    )


@pytest.mark.parametrize("slice_mm", [1.25, 2.5])
def test_template_balls_needles_and_seeds_that_are_new_move_nothing(
    reference: CtVolume, slice_mm: float
) -> None:
    moved = RigidTransform.from_rotation_vector((1.0, -1.0, 1.5), (4.0, -3.0, 5.0), CENTRE)
    rng = np.random.default_rng(8)
    grid = grid_around((0, 0, 0), (150, 130, 80), (1.1, 1.1, slice_mm))
    hu = anatomy_hu(grid, moved)
    z, y, x = np.meshgrid(*(grid.centres_mm(a) for a in (2, 1, 0)), indexing="ij")
    plate = (x < 0.0) & (np.abs(y) < 35.0) & (np.abs(z) < 25.0) & (hu < -300.0)
    plate &= gaussian_filter(hu, (4.0 / slice_mm, 4.0, 4.0)) > -950.0  # the layer of air next to the skin
    assert np.count_nonzero(plate) > 2000
    hu[plate] = 120.0
    for ball in ((-63.0, -15.0, -10.0), (-62.0, 12.0, -6.0), (-64.0, 2.0, 14.0)):
        hu[np.linalg.norm(np.stack([x, y, z], axis=-1) - ball, axis=-1) < 1.8] = 2800.0
    shafts = [
        TrueNeedle(
            "n",
            np.array([-60.0, 7.0 * k - 14, 6.0 * (k % 3) - 6]),
            unit((1, 0.1, 0.1)),
            45.0,
            np.zeros(3),
            30.0,
        )
        for k in range(5)
    ]
    add_needles(hu, grid, shafts, rng)
    seeds = np.array([(-30.0 + 5 * j, 7.0 * k - 20, -16.0) for k in range(5) for j in range(5)])
    add_seeds(hu, grid, seeds, np.tile((1.0, 0.0, 0.0), (len(seeds), 1)))
    add_noise(hu, rng, 15.0)
    found = register(volume(hu, grid), reference, box_low_mm=LOW, box_high_mm=HIGH)
    assert found.succeeded, found.reason
    points = CENTRE + rng.normal(0.0, 15.0, (100, 3))
    errors = np.linalg.norm(found.reference_from_scan.apply(moved.apply(points)) - points, axis=1)
    assert np.sqrt(np.mean(errors**2)) <= 0.5
    assert np.sqrt(np.mean(errors**2)) < 3.0 * found.expected_tre_mm


def test_a_start_is_used(reference: CtVolume) -> None:
    moved = RigidTransform.from_rotation_vector((0, 0, 4.0), (25.0, 5.0, 5.0), CENTRE)
    rough = RigidTransform.from_rotation_vector((0, 0, 2.0), (22.0, 4.0, 2.0), CENTRE).inverse()
    found = register(scan(moved, 2.5, 100.0, 4), reference, box_low_mm=LOW, box_high_mm=HIGH, start=rough)
    assert found.succeeded, found.reason
    assert np.linalg.norm(found.reference_from_scan.apply(moved.apply(CENTRE)) - CENTRE) < 0.5


def test_another_patient_is_a_failure_that_is_told(reference: CtVolume) -> None:
    rng = np.random.default_rng(5)
    grid = grid_around((0, 0, 0), (150, 130, 80), (1.1, 1.1, 2.5))
    z, y, x = np.meshgrid(*(grid.centres_mm(a) for a in (2, 1, 0)), indexing="ij")
    stranger = np.where(
        (x / 70) ** 2 + (y / 40) ** 2 < 1, 30.0 + 100 * np.sin(x / 5) * np.sin(y / 8 + z / 7), -1000.0
    )
    add_noise(stranger, rng)
    found = register(volume(stranger, grid), reference, box_low_mm=LOW, box_high_mm=HIGH)
    assert not found.succeeded
    assert found.reason


@pytest.mark.parametrize("flipped", [(2,), (0, 2)], ids=["mirrored", "FFS"])
def test_a_head_that_lies_otherwise_than_its_header_says_is_a_failure(flipped: tuple[int, ...]) -> None:
    """A head is nearly its own mirror image: left for right is the likeliest wrong transform that looks right."""
    ct = read_ct(EXAMPLE / "ct")
    target = np.array([-15.0, -10.0, -65.0])
    half = np.array([40.0, 35.0, 35.0])
    origin = np.array(ct.grid.origin_mm)
    for axis in flipped:  # about the target, so that it lies there as well as it can
        along = 2 - axis
        origin[along] = 2.0 * target[along] - ct.grid.centres_mm(along)[-1]
    grid = replace(ct.grid, origin_mm=tuple(float(v) for v in origin))
    turned = replace(ct, hu=np.ascontiguousarray(np.flip(ct.hu, flipped)), grid=grid)
    found = register(turned, ct, box_low_mm=target - half, box_high_mm=target + half)
    assert not found.succeeded
    assert "does not look like the planning CT" in found.reason or "unlikely movement" in found.reason


def test_a_scan_elsewhere_is_a_failure_that_is_told(reference: CtVolume) -> None:
    grid = grid_around((0, 0, 400), (150, 130, 60), (1.1, 1.1, 2.5))
    found = register(volume(anatomy_hu(grid), grid), reference, box_low_mm=LOW, box_high_mm=HIGH)
    assert not found.succeeded
    assert "cover" in found.reason
    assert found.expected_tre_mm == float("inf")


def test_what_the_picture_leaves_open_grows_with_the_distance() -> None:
    covariance = np.diag([0.01, 0.01, 0.01, 1e-4, 1e-4, 1e-4])
    assert _mean_variance(covariance, np.zeros((1, 3))) == pytest.approx(0.03)
    # 20 mm away two of the three turns move the point, 1e-4 rad2 x 400 mm2 each
    assert _mean_variance(covariance, np.array([[0.0, 0.0, 20.0]])) == pytest.approx(0.03 + 0.08)
