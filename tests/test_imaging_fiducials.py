"""The template's balls: found in voxels, matched by distances, fitted; refused where nothing is certain."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_ct import TrueNeedle, add_needles, add_noise, anatomy_hu, grid_around, volume

from imaging.fiducials import find_balls, match_balls, rig_from_fiducials, rigid_fit
from planning.frame import Floats, RigidTransform, unit
from planning.volume import CtVolume

BALLS = np.array([(0.0, 0.0, 0.0), (31.0, 4.0, 2.0), (5.0, 24.0, -3.0), (40.0, 33.0, 6.0)])
# the template stands left of the phantom, in air and at the skin
SCAN_FROM_RIG = RigidTransform.from_rotation_vector((5.0, -8.0, 12.0), (-75.0, -18.0, 1.0))


def scan_of(balls_mm: Floats, slice_mm: float, needles: int = 0, diameter_mm: float = 3.0) -> CtVolume:
    rng = np.random.default_rng(2)
    grid = grid_around((-20, 0, 0), (140, 100, 60), (0.9, 0.9, slice_mm))
    hu = anatomy_hu(grid)
    z, y, x = np.meshgrid(*(grid.centres_mm(a) for a in (2, 1, 0)), indexing="ij")
    centres = np.stack([x, y, z], axis=-1)
    step = (np.arange(6) + 0.5) / 6 - 0.5
    for ball in balls_mm:
        near = np.argwhere(np.linalg.norm(centres - ball, axis=-1) < diameter_mm + 2 * slice_mm)
        for k, j, i in near:
            sub = np.stack(np.meshgrid(*(step * d for d in grid.spacing_mm), indexing="ij"), axis=-1)
            inside = np.linalg.norm(centres[k, j, i] + sub - ball, axis=-1) <= diameter_mm / 2
            hu[k, j, i] += float(inside.mean()) * (2500.0 - hu[k, j, i])
    shafts = [
        TrueNeedle("n", np.array([-58.0, 7.0 * k - 10, 3.0]), unit((1, 0.1, 0.1)), 45.0, np.zeros(3), 60.0)
        for k in range(needles)
    ]
    add_needles(hu, grid, shafts, rng)
    add_noise(hu, rng)
    return volume(np.clip(hu, -1024, 3071), grid)


@pytest.mark.parametrize(("slice_mm", "needles", "limit_mm"), [(1.25, 0, 0.4), (1.25, 3, 0.4), (2.5, 3, 0.8)])
def test_the_rig_is_found_from_its_balls(slice_mm: float, needles: int, limit_mm: float) -> None:
    ct = scan_of(SCAN_FROM_RIG.apply(BALLS), slice_mm, needles)
    planned = RigidTransform.from_rotation_vector((4.0, -6.0, 10.0), (-70.0, -15.0, 5.0)).inverse()
    fit = rig_from_fiducials(ct, BALLS, 3.0, planned)
    assert fit.succeeded, fit.reason
    assert len(fit.unseen) <= (slice_mm > 1.25)
    assert np.nanmax(fit.residual_mm) < 0.6
    target = np.array([20.0, 15.0, 90.0])
    error = float(np.linalg.norm(fit.rig_from_scan.apply(SCAN_FROM_RIG.apply(target)) - target))
    assert error < 3.0 * fit.expected_tre_mm(target)
    centre = BALLS.mean(axis=0)
    assert np.linalg.norm(fit.rig_from_scan.apply(SCAN_FROM_RIG.apply(centre)) - centre) < limit_mm


def test_bone_needles_and_nothing_are_no_balls() -> None:
    nothing = np.empty((0, 3))
    fit = rig_from_fiducials(scan_of(nothing, 1.25, 3), BALLS, 3.0, SCAN_FROM_RIG.inverse())
    assert not fit.succeeded
    assert fit.reason
    assert fit.expected_tre_mm((0, 0, 0)) == float("inf")
    assert len(find_balls(scan_of(nothing, 1.25), 3.0)) == 0


def test_any_order_other_spots_and_a_ball_that_is_not_seen_change_nothing() -> None:
    rng = np.random.default_rng(4)
    true = SCAN_FROM_RIG.apply(BALLS)
    seen = np.vstack([rng.uniform(-120, 80, (25, 3)), true[[3, 0, 2]]])
    fit = match_balls(seen, BALLS, SCAN_FROM_RIG.inverse())
    assert fit.succeeded, fit.reason
    assert fit.unseen == (1,)
    assert fit.rig_from_scan.apply(true) == pytest.approx(BALLS, abs=1e-6)


def test_what_is_ambiguous_or_poor_is_refused() -> None:
    square = np.array([(0.0, 0, 0), (20.0, 0, 0), (20.0, 20, 0), (0.0, 20, 0)])
    start = RigidTransform.identity()
    assert "ways" in match_balls(square + 5.0, square, start).reason
    line = np.array([(0.0, 0, 0), (20.0, 0, 0), (45.0, 0, 0)])
    assert "line" in match_balls(line, line, start).reason
    assert "only 2" in match_balls(BALLS[:2], BALLS, start).reason
    bent = BALLS * np.array([1.1, 1.0, 1.0])  # another template's
    assert not match_balls(bent, BALLS, start).succeeded


def test_the_fit_is_the_inverse_of_the_movement_and_never_a_mirror() -> None:
    points = np.random.default_rng(3).normal(0.0, 30.0, (5, 3))
    back = rigid_fit(SCAN_FROM_RIG.apply(points), points)
    assert (back @ SCAN_FROM_RIG).apply(points) == pytest.approx(points, abs=1e-9)
    mirrored = rigid_fit(points * (-1.0, 1.0, 1.0), points)
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1.0)


def test_the_expected_error_grows_with_the_distance_from_the_balls_as_simulated() -> None:
    rng = np.random.default_rng(6)
    point = np.array([20.0, 15.0, 90.0])
    sigma = 0.3
    errors, told = [], []
    for _ in range(200):
        seen = SCAN_FROM_RIG.apply(BALLS) + rng.normal(0.0, sigma / np.sqrt(3.0), BALLS.shape)
        fit = rigid_fit(seen, BALLS)
        errors.append(float(np.linalg.norm(fit.apply(SCAN_FROM_RIG.apply(point)) - point)))
        whole = match_balls(seen, BALLS, SCAN_FROM_RIG.inverse())
        if whole.succeeded:
            told.append(whole.expected_tre_mm(point) * sigma / whole.localisation_mm)
    assert np.mean(told) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.12)
    assert whole.expected_tre_mm(BALLS.mean(axis=0)) < 0.5 * whole.expected_tre_mm(point)
