"""The equations of the lines' fit, against the same written out plainly for all voxels at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import erf
from synthetic_ct import volume

from imaging.axis import basis
from imaging.bin_elimination import eliminate, followed
from imaging.line import Lines
from imaging.line_voxel import Voxels, voxels_near
from imaging.rod_image import Blur, rendered_hu, shares
from imaging.rod_kernel import (
    FAR_SIGMAS,
    GROUND_HU,
    GROUND_SIGMA_HU,
    LEAST_BRIGHT,
    brightness,
    images,
    line_equations,
)
from planning.frame import Floats
from planning.volume import Grid

FRAME = np.linalg.qr(np.array(((0.1, 1.0, 0.1), (0.0, 0.2, 1.0), (1.0, 0.0, 0.1))).T)[0].T
BLUR = Blur(0.9, 1.25, FRAME)
USUAL_HU, CLIP_HU = 1500.0, 2000.0
NOISE = np.array((60.0, 0.12))


@dataclass(frozen=True, eq=False)
class Scene:
    """Four lines, two of which cross nearly, in a scan whose voxels they do not explain well."""

    lines: Lines
    voxels: Voxels
    heights: Floats
    grounds: Floats

    @property
    def believed(self) -> Floats:
        return np.ascontiguousarray((self.voxels.bin_w_mm[None] <= self.lines.ends_w_mm[:, None]).T)


@pytest.fixture(scope="module")
def scene() -> Scene:
    random = np.random.default_rng(5)
    grid = Grid((20, 30, 60), (180.0, -14.0, -12.0), (0.8, 0.9, 1.25))
    curves = np.zeros((4, 3, 2))
    middle = grid.point_of((10, 15, 30)) @ FRAME.T
    curves[:, 0] = middle[:2] + np.array(((-3.0, 0.0), (0.5, 0.5), (3.0, -1.0), (4.0, 2.0)))
    curves[:, 1] = random.normal(0.0, 0.05, (4, 2))
    curves[:, 2] = random.normal(0.0, 0.001, (4, 2))
    skin = float(middle[2]) - 5.0
    lines = Lines(skin, curves, np.full(4, skin + 30.0))
    lines.ends_w_mm[2] = skin + 8.0
    ct = volume(random.normal(100.0, 60.0, grid.shape), grid)
    voxels = voxels_near(ct, FRAME, lines, skin - 12.0, skin + 21.0, 3.0, 1.25)
    heights = random.uniform(200.0, 2500.0, (len(voxels.bin_w_mm), 4))
    shape = heights.shape
    bins = np.repeat(np.arange(shape[0]), np.diff(voxels.first[voxels.first_patch]))
    for n in range(4):  # brightness as the lines have it, and a little off
        off = voxels.at[:, :2] - lines.places(voxels.at[:, 2])[n] + 0.3
        voxels.hu[:] += heights[bins, n] * shares(off, BLUR.tables(curves[:, 1])[n])
    return Scene(lines, voxels, heights, random.normal(50.0, 40.0, shape))


def asked(scene: Scene, *, moving: bool) -> tuple[Floats, Floats, Floats, Floats, float]:
    v, lines = scene.voxels, scene.lines
    return line_equations(
        v.at, v.hu, np.zeros(len(v.hu)), v.first_patch, v.first, lines.skin_w_mm, scene.believed,
        lines.curves, scene.heights, scene.grounds, BLUR.tables(lines.curves[:, 1]), CLIP_HU, USUAL_HU, NOISE, moving,
    )  # fmt: skip


def plainly(scene: Scene) -> tuple[list[Floats], list[Floats], Floats, float]:
    """Per bin curvature and gradient of (heights and grounds by turns, displacements by turns); of curves; misfit."""
    v, lines = scene.voxels, scene.lines
    tables, count = BLUR.tables(lines.curves[:, 1]), len(lines.curves)
    curvatures, gradients, of_curves, misfit = [], [], np.zeros((count, 2, 3)), 0.0
    for k, (start, stop) in enumerate(zip(v.first_patch[:-1], v.first_patch[1:], strict=True)):
        at, hu = v.at[v.first[start] : v.first[stop]], v.hu[v.first[start] : v.first[stop]]
        offset = at[:, :2] - lines.places(at[:, 2])
        closest = np.argmin(np.linalg.norm(offset, axis=2), axis=0)
        jacobian = np.zeros((len(hu), 4 * count))
        model = scene.grounds[k, closest]
        jacobian[np.arange(len(hu)), 2 * closest + 1] = 1.0
        for n in range(count):
            bright, by_u, by_v = np.empty((3, len(hu)))
            images(*np.ascontiguousarray(offset[n].T), tables[n], scene.heights[k, n], bright, by_u, by_v)
            model = model + scene.heights[k, n] * bright
            jacobian[:, 2 * n] = bright
            if scene.believed[k, n]:
                jacobian[:, 2 * count + 2 * n], jacobian[:, 2 * count + 2 * n + 1] = by_u, by_v
        residual = hu - np.minimum(model, CLIP_HU)
        sigma = NOISE[0] + NOISE[1] * np.clip(model, 0.0, 3000.0)
        used = ~((model >= CLIP_HU) & (residual > -1.0))
        far = 1.0 + used * (residual / (FAR_SIGMAS * sigma)) ** 2
        weight = used / (sigma**2 * far)
        misfit += 0.5 * FAR_SIGMAS**2 * float(np.log(far).sum())
        known = np.tile((1.0 / (150.0 + 0.6 * USUAL_HU) ** 2, 1.0 / GROUND_SIGMA_HU**2), count)
        curvature = (jacobian * weight[:, None]).T @ jacobian
        curvature[: 2 * count, : 2 * count] += np.diag(known)
        gradient = jacobian.T @ (weight * residual)
        told = np.stack([USUAL_HU - scene.heights[k], GROUND_HU - scene.grounds[k]], axis=1).ravel()
        gradient[: 2 * count] += known * told
        moved = jacobian[:, 2 * count :].reshape(-1, count, 2)
        at_voxels = basis(at[:, 2], lines.skin_w_mm)
        of_curves += np.einsum("mns,mi,m->nsi", moved, at_voxels, weight * residual)
        curvatures.append(curvature)
        gradients.append(gradient)
    return curvatures, gradients, of_curves.ravel(), misfit


def test_the_equations_are_those_of_all_voxels_written_out(scene: Scene) -> None:
    local, right, moved, gradient, misfit = asked(scene, moving=True)
    curvatures, gradients, of_curves, true_misfit = plainly(scene)
    assert np.diff(scene.voxels.first_patch).min() > 1  # bins of several patches
    assert misfit == pytest.approx(true_misfit, rel=1e-6)
    assert gradient == pytest.approx(of_curves, rel=1e-5, abs=1e-5 * np.abs(of_curves).max())
    for k, (curvature, told) in enumerate(zip(curvatures, gradients, strict=True)):
        most = 1e-6 * curvature.max()
        lower = np.tril_indices(8)
        assert local[k][lower] == pytest.approx(curvature[:8, :8][lower], rel=1e-5, abs=1e-9)
        assert right[k][:, :8] == pytest.approx(curvature[:8, 8:], rel=1e-5, abs=most)
        assert right[k][:, 8] == pytest.approx(told[:8], rel=1e-5, abs=1e-9)
        assert moved[k][lower] == pytest.approx(curvature[8:, 8:][lower], rel=1e-5, abs=most)


def test_lines_that_stay_tell_the_same_heights(scene: Scene) -> None:
    local, right, _, _, misfit = asked(scene, moving=False)
    moving = asked(scene, moving=True)
    assert misfit == pytest.approx(moving[4], rel=1e-12)
    assert local == pytest.approx(moving[0], rel=1e-9)
    assert right[:, :, 0] == pytest.approx(moving[1][:, :, 8], rel=1e-9)


def test_elimination_solves_the_whole_system(scene: Scene) -> None:
    """A step of the curves, and what heights and grounds do then, are those of one large system of equations."""
    local, right, moved, gradient, _ = asked(scene, moving=True)
    bins, at_bins = len(local), basis(scene.voxels.bin_w_mm, scene.lines.skin_w_mm)
    whole, wanted = np.zeros((8 * bins + 24, 8 * bins + 24)), np.zeros(8 * bins + 24)
    whole[-24:, -24:] = np.eye(24)  # what is known of curves
    wanted[-24:] = gradient
    for k in range(bins):
        own = slice(8 * k, 8 * k + 8)
        spread = np.kron(np.eye(8), at_bins[k])  # displacements from curves
        whole[own, own] = np.tril(local[k]) + np.tril(local[k], -1).T
        whole[own, -24:] = right[k][:, :8] @ spread
        whole[-24:, own] = whole[own, -24:].T
        whole[-24:, -24:] += spread.T @ (np.tril(moved[k]) + np.tril(moved[k], -1).T) @ spread
        wanted[own] = right[k][:, 8]
    true = np.linalg.solve(whole, wanted)
    eliminate(local, right, moved, gradient, at_bins)
    normal = np.eye(24)
    for k in range(bins):
        spread = np.kron(np.eye(8), at_bins[k])
        normal += spread.T @ (np.tril(moved[k]) + np.tril(moved[k], -1).T) @ spread
    step = np.linalg.solve(normal, gradient)
    assert step == pytest.approx(true[-24:], rel=1e-6, abs=1e-9)
    displaced = step.reshape(8, 3) @ at_bins.T
    assert followed(local, right, np.ascontiguousarray(displaced.T)).ravel() == pytest.approx(
        true[:-24], rel=1e-6
    )


def test_the_quick_image_is_the_exact_one_and_its_derivatives_are_right(scene: Scene) -> None:
    table = BLUR.tables(scene.lines.curves[:, 1])[0]
    m00, m01, m11, q0, q1, a, k, half, scale = table[:9]
    u, v = np.random.default_rng(1).uniform(-3.0, 3.0, (2, 500))
    near = (q0 * (m00 * u + m01 * v) + q1 * (m01 * u + m11 * v)) / a
    exact = np.exp(-0.5 * (m00 * u * u + 2 * m01 * u * v + m11 * v * v - a * near**2)) * scale
    exact *= erf(k * (half + near)) - erf(k * (near - half))
    bright, by_u, by_v = np.empty((3, 500))
    images(u, v, table, 1000.0, bright, by_u, by_v)
    seen = exact > LEAST_BRIGHT
    assert bright == pytest.approx(np.where(seen, exact, 0.0), abs=2e-6)
    step, shifted = 1e-3, np.empty((4, 500))
    for n, (du, dv) in enumerate(((step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step))):
        brightness(u - du, v - dv, table, shifted[n])  # the line moves, the voxel stays
    inner = bright > 0.01
    assert by_u[inner] == pytest.approx(1000.0 * (shifted[0] - shifted[1])[inner] / (2 * step), abs=1.0)
    assert by_v[inner] == pytest.approx(1000.0 * (shifted[2] - shifted[3])[inner] / (2 * step), abs=1.0)


def test_nothing_is_bright_beyond_the_reach_that_a_table_tells() -> None:
    u, v = np.random.default_rng(2).uniform(-9.0, 9.0, (2, 20000))
    for slice_mm in (0.6, 1.25, 5.0):
        for table in Blur(1.2, slice_mm, FRAME).tables(np.array(((0.0, 0.0), (0.1, -0.05)))):
            bright = np.empty(len(u))
            brightness(u, v, table, bright)
            seen = bright > 0.0
            assert np.abs(u[seen]).max() <= table[9]
            assert np.abs(v[seen]).max() <= table[10]
            assert np.abs(u[seen]).max() > 0.8 * table[9]


def test_lines_add_up_between_the_middles_of_their_bins(scene: Scene) -> None:
    points = scene.voxels.at[::7]
    w, lines = scene.voxels.bin_w_mm, scene.lines
    heights = np.ascontiguousarray(scene.heights.T)
    tables = BLUR.tables(lines.curves[:, 1])
    plain = sum(
        shares(points[:, :2] - lines.places(points[:, 2])[n], tables[n])
        * np.interp(points[:, 2], w, heights[n])
        for n in range(4)
    )
    assert rendered_hu(points, lines, heights, w, BLUR) == pytest.approx(plain, abs=1e-6)


def test_every_voxel_is_once_in_the_patch_of_a_line_near_it(scene: Scene) -> None:
    v, lines = scene.voxels, scene.lines
    assert len(np.unique(v.index, axis=0)) == len(v.index) == v.first[-1]
    assert v.first_patch[-1] == len(v.first) - 1
    assert np.diff(v.first).min() > 0
    bins = np.repeat(np.arange(len(v.bin_w_mm)), np.diff(v.first[v.first_patch]))
    assert np.abs(v.at[:, 2] - v.bin_w_mm[bins]).max() <= 1.5 + 1e-9
    off = np.linalg.norm(v.at[:, :2] - lines.places(v.at[:, 2]), axis=2).min(axis=0)
    assert off.max() < 3.2 * np.sqrt(2.0) + 1.5
