"""Seeds as blurred rods, all fitted together to the voxels around them, clipped as the scanner clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.sample import sample_hu
from imaging.seed_spot import SOFT_HU, shell_hu
from planning.frame import Floats
from planning.volume import CtVolume, Grid

ROD_MM = 3.0  # silver rod of a 6711-type seed (TG-43U1)
REACH_MM = 3.2
NEAREST_MM = 2.0  # two rods nearer than this are one;
BESIDE_MM = 3.4  # nearer than this they are one if together they are no brighter than one


@dataclass(frozen=True, eq=False)
class Rods:
    """Rods: ``(n, 3)`` places and directions, ``(n,)`` heights in HU."""

    places: Floats
    directions: Floats
    heights: Floats

    def inverse_covariances(self, blur: Floats) -> Floats:
        """``(n, 3, 3)``: a rod of length L blurred, as the Gaussian of the same second moments."""
        along = self.directions[:, :, None] * self.directions[:, None, :] * (ROD_MM**2 / 12.0)
        return np.asarray(np.linalg.inv(np.diag(blur)[None] + along))

    def render(self, grid: Grid, blur: Floats) -> NDArray[np.float64]:
        """What they add to the voxels of a grid, HU."""
        out = np.zeros(grid.shape)
        for place, inverse, height in zip(
            self.places, self.inverse_covariances(blur), self.heights, strict=True
        ):
            box = grid.box(place - 5.0, place + 5.0)
            part = grid.cropped(box)
            offset = part.point_of(np.indices(part.shape).reshape(3, -1).T) - place
            spot = height * np.exp(-0.5 * np.einsum("ni,ij,nj->n", offset, inverse, offset))
            out[box] += spot.reshape(part.shape)
        return out

    def pruned(self, least_hu: float) -> Rods:
        """Without what is too faint, and with one rod where two explain a single seed."""
        places, heights = self.places.copy(), self.heights.copy()
        usual = float(np.median(heights)) if len(heights) else 0.0
        keep = heights > least_hu
        for n in np.argsort(-heights):
            if not keep[n]:
                continue
            near = np.linalg.norm(places - places[n], axis=1)
            near[n] = np.inf
            for m in np.argsort(
                near
            ):  # nearest first; what is taken in counts: two seeds' worth stays two rods
                if near[m] >= BESIDE_MM:
                    break
                together = heights[n] + heights[m]
                if not keep[m] or (near[m] >= NEAREST_MM and together >= 1.4 * usual):
                    continue
                places[n] = (heights[n] * places[n] + heights[m] * places[m]) / together
                heights[n], keep[m] = together, False
        return Rods(places[keep], self.directions[keep], heights[keep])

    def seed_like(self, ct: CtVolume, typical_hu: float) -> Rods:
        """Without what is no brighter, or not in softer surroundings, than bone and teeth."""
        if not len(self.places):
            return self
        ground = np.median(shell_hu(ct, self.places), axis=1)
        bright = sample_hu(ct, self.places) - ground > 0.4 * typical_hu
        keep = bright & (ground < SOFT_HU)
        return Rods(self.places[keep], self.directions[keep], self.heights[keep])


def fitted_rods(
    hu: NDArray[np.float32], grid: Grid, rods: Rods, blur: Floats, clip_hu: float, sweeps: int
) -> Rods:
    """Fit place and height of every rod, each in turn with the others as they are (Gauss-Seidel)."""
    places, heights = rods.places.copy(), rods.heights.copy()
    grounds = np.full(len(places), 50.0)
    inverses = rods.inverse_covariances(blur)
    reach = REACH_MM + 0.4 * grid.spacing_mm[2]
    windows = []
    for place, direction in zip(places, rods.directions, strict=True):
        box = grid.box(place - reach, place + reach)
        part = grid.cropped(box)
        points = part.point_of(np.indices(part.shape).reshape(3, -1).T)
        offset = points - place
        along = np.abs(offset @ direction)
        used = (np.linalg.norm(offset, axis=1) < reach) & (along < 2.5 + 0.3 * grid.spacing_mm[2])
        near = np.flatnonzero(
            (np.linalg.norm(places - place, axis=1) < 9.0) & np.any(places != place, axis=1)
        )
        windows.append((points[used], hu[box].reshape(-1)[used].astype(float), near))
    for _ in range(sweeps):
        for n, (points, values, near) in enumerate(windows):
            if len(points) < 8:
                heights[n] = 0.0
                continue
            others = np.zeros(len(points))
            for m in near:
                offset = points - places[m]
                others += heights[m] * np.exp(-0.5 * np.sum((offset @ inverses[m]) * offset, axis=1))
            offset = points - places[n]
            pull = offset @ inverses[n]
            spot = np.exp(-0.5 * np.sum(pull * offset, axis=1))
            model = grounds[n] + others + heights[n] * spot
            miss = values - np.minimum(model, clip_hu)
            use = (model < clip_hu) | (miss < -1.0)
            J = np.column_stack([pull * (heights[n] * spot)[:, None], spot, np.ones(len(points))])[use]
            sigma = 60.0 + 0.08 * np.minimum(model[use], clip_hu).clip(0.0)
            weight = 1.0 / (sigma**2 * (1 + (miss[use] / (4 * sigma)) ** 2))
            prior = np.diag([0.25, 0.25, 0.25, 1e-8, 1 / 300.0**2])
            gradient = J.T @ (weight * miss[use]) + np.array([0, 0, 0, 0, (50.0 - grounds[n]) / 300.0**2])
            change = np.linalg.solve((J * weight[:, None]).T @ J + prior, gradient)
            places[n] += np.clip(change[:3], -0.6, 0.6)
            heights[n] = np.clip(heights[n] + change[3], 0.0, 9000.0)
            grounds[n] += change[4]
    return Rods(places, rods.directions, heights)
