"""Lines of needles fitted together: laws of the image of a line and of the fit."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_ct import volume

from imaging.line import Lines, ends_apart_mm
from imaging.line_fit import fit_lines
from imaging.line_search import dots, search_lines
from imaging.line_voxel import Voxels, voxels_near
from imaging.rod_image import Blur, rendered_hu, shares
from imaging.slab import Slab, resample
from planning.frame import Floats
from planning.volume import CtVolume, Grid

FRAME = np.array(((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)))  # needles along x, v across the slices
BLUR = Blur(0.9, 2.5, FRAME)
USUAL_HU = 1300.0


def lines_of(*curves: list[list[float]]) -> Lines:
    return Lines(0.0, np.array(curves), np.full(len(curves), 60.0))


def scan_of(lines: Lines, heights: Floats, bin_w_mm: Floats, noise_hu: float = 20.0) -> CtVolume:
    grid = Grid((16, 40, 110), (-45.0, -20.0, -18.0), (1.0, 1.0, 2.5))
    points = grid.point_of(np.indices(grid.shape).reshape(3, -1).T)
    hu = 50.0 + rendered_hu(points @ FRAME.T, lines, heights, bin_w_mm, BLUR).reshape(grid.shape)
    hu += np.random.default_rng(3).normal(0.0, noise_hu, grid.shape)
    return volume(hu.clip(-1024, 3071), grid)


def fit(ct: CtVolume, start: Lines) -> tuple[Lines, Floats, Voxels]:
    near = voxels_near(ct, FRAME, start, -40.0, 60.0, 3.0, 2.5)
    heights = np.full((len(start.curves), len(near.bin_w_mm)), USUAL_HU)
    found = fit_lines(near, start, heights, BLUR, np.inf, USUAL_HU, 12)
    return found.lines, found.heights, near


WS = np.arange(-40.0, 60.0, 1.0)
TWO = lines_of([[-2.0, 1.0], [0.01, 0.02], [0.0, 1 / 1500]], [[2.5, -1.0], [-0.01, 0.03], [1 / 2000, 0.0]])


def test_the_image_of_a_line_is_what_the_average_over_the_slice_is() -> None:
    """The closed form against thin slices added up."""
    slope = np.array([[0.1, 0.3]])
    offset = np.stack(np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9)), axis=-1).reshape(-1, 2)
    whole = shares(offset, BLUR.tables(slope)[0])
    thin = Blur(0.9, 0.01, FRAME).tables(slope)[0]
    q = FRAME[:2, 2] - slope[0] * FRAME[2, 2]
    cuts = 2.5 * ((np.arange(500) + 0.5) / 500 - 0.5)
    mean = np.mean([shares(offset + cut * q, thin) for cut in cuts], axis=0)
    assert whole == pytest.approx(mean / shares_at_middle(thin, q, cuts), abs=2e-3)


def shares_at_middle(table: Floats, q: Floats, cuts: Floats) -> float:
    return float(np.mean([shares(np.array([cut * q]), table)[0] for cut in cuts]))


def test_curves_come_back_from_thick_slices_to_a_tenth_of_a_millimetre() -> None:
    ct = scan_of(TWO, np.full((2, 100), USUAL_HU), WS)
    start = lines_of([[-1.5, 1.5], [0.0, 0.02], [0.0, 0.0]], [[2.0, -0.5], [0.0, 0.02], [0.0, 0.0]])
    found, _, _ = fit(ct, start)
    assert np.abs(found.places(WS) - TWO.places(WS)).max() < 0.1


def test_a_starved_stretch_is_bridged_and_its_neighbour_takes_nothing() -> None:
    heights = np.full((2, 100), USUAL_HU)
    heights[0, 45:75] = 0.0
    found, seen, near = fit(scan_of(TWO, heights, WS), TWO)
    assert np.abs(found.places(WS) - TWO.places(WS)).max() < 0.1
    dark = (near.bin_w_mm > 8.0) & (near.bin_w_mm < 32.0)
    assert seen[0, dark].max() < 0.15 * USUAL_HU
    assert seen[1, dark] == pytest.approx(USUAL_HU, rel=0.1)


def test_what_the_picture_does_not_tell_stays_as_it_was_planned() -> None:
    ct = scan_of(TWO, np.zeros((2, 100)), WS)
    near = voxels_near(ct, FRAME, TWO, -40.0, 60.0, 3.0, 2.5)
    stray = np.array([0.8, 0.015, 0.0003])
    found = fit_lines(
        near, TWO, np.full((2, len(near.bin_w_mm)), USUAL_HU), BLUR, np.inf, USUAL_HU, 6, prior=stray, middle=TWO.curves
    )  # fmt: skip
    assert np.abs(found.lines.places(WS) - TWO.places(WS)).max() < 1.5


def test_a_line_of_dim_places_is_preferred_to_one_bright_spot() -> None:
    us, ws = np.arange(-20.0, 20.1, 0.7), np.arange(0.0, 90.0, 1.5)
    u, v = np.meshgrid(us, us)
    hu = np.zeros((len(ws), len(us), len(us)), dtype=np.float32)
    for k, w in enumerate(ws):
        hu[k] += 400.0 * np.exp(-0.5 * ((u - 4.0 - 0.05 * w) ** 2 + (v + 3.0) ** 2))
    hu[20:28] += (9000.0 * np.exp(-0.5 * ((u + 8.0) ** 2 + (v - 5.0) ** 2))).astype(np.float32)
    slab = Slab(hu, us, us, ws, FRAME)
    found, means = search_lines(slab, dots(slab), 0.0, 89.0, 45.0, 300.0, 2)
    assert found[0] == pytest.approx((6.25, -3.0, 0.05, 0.0), abs=0.8)
    assert found[0, 2] == pytest.approx(0.05, abs=0.02)
    assert means[0] == means.max()


def test_a_slab_is_the_scan_between_its_voxels_and_air_outside() -> None:
    """A field that rises evenly is resampled exactly, whatever the direction."""
    grid = Grid((16, 40, 50), (-20.0, -20.0, -18.0), (0.9, 1.0, 2.5))
    rise, direction = np.array((7.0, -5.0, 3.0)), np.array((0.6, 0.0, 0.8))
    hu = 500.0 + np.rint(grid.point_of(np.indices(grid.shape).reshape(3, -1).T) @ rise).reshape(grid.shape)
    slab = resample(volume(hu, grid), direction, np.array(((-8.0, -8.0, -8.0), (8.0, 8.0, 40.0))))
    w, v, u = np.meshgrid(slab.ws, slab.vs, slab.us, indexing="ij")
    points = np.stack([u, v, w], axis=-1) @ slab.frame
    index = grid.index_of(points)
    inside = np.all((index >= 0) & (index <= np.array(grid.shape) - 1), axis=-1)
    assert 0.2 < inside.mean() < 0.9
    assert slab.hu[inside] == pytest.approx(np.maximum(500.0 + points[inside] @ rise, -150.0), abs=0.6)
    assert np.all(slab.hu[~inside] == -150.0)


def test_another_explanation_is_as_far_off_as_it_puts_the_ends() -> None:
    """Two lines that run together at the end and part there one way or the other; a third one stays."""
    a = [[0.0, 0.0], [0.0, 0.05], [0.0, 0.0]]
    b = [[0.0, 6.0], [0.0, -0.05], [0.0, 0.0]]
    c = [[9.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    bent_down, bent_up = ([a[0], a[1], [0.0, s / 900.0]] for s in (-1.0, 1.0))
    apart = ends_apart_mm(lines_of(bent_up, b, c), lines_of(c, b, bent_down), -30.0)
    assert apart == pytest.approx([60.0**2 / 900.0, 0.0, 0.0])
    assert ends_apart_mm(lines_of(a), Lines(0.0, np.zeros((0, 3, 2)), np.zeros(0)), -30.0) == pytest.approx(
        [0.0]
    )
