"""How wrong things go: the population that set-up, couch, needle and seed errors are drawn from.

Every figure is cited or labelled *assumed*; all are parameters. Published means are turned into the
standard deviations of zero-mean normal errors:

* a two-dimensional error with independent normal axes has mean length ``sigma sqrt(pi / 2)``,
* a one-dimensional one has mean absolute value ``sigma sqrt(2 / pi)``.

With the defaults 42 % of first-pass needles at 62 mm deviate by more than 2 mm laterally and 71 % at the tip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from simulator.geometry import Floats, rigid

_MEAN_OF_RAYLEIGH = float(np.sqrt(np.pi / 2.0))
_MEAN_OF_HALF_NORMAL = float(np.sqrt(2.0 / np.pi))


@dataclass(frozen=True)
class ErrorPopulation:
    """Parameters of the errors; ``perfect()`` has none.

    Attributes:
        setup_translation_sigma_mm: per axis, of rig against patient; 2.09 gives the root mean square of the
            published immobilisation error of head and neck, 3.2 +- 1.7 mm.
        setup_magnitude_mm: if given, the shift has exactly this length (its direction stays random).
        setup_rotation_sigma_deg: per axis (assumed).
        couch_translation_sigma_mm, couch_rotation_sigma_deg: per axis, of the patient in the scanner from
            scan to scan (assumed; at most twice the sigma).
        entry_mean_mm, depth_mean_mm, angle_mean_deg: mean errors of head-and-neck needles through a printed
            template, 430 needles (10.3389/fonc.2021.664996).
        reference_depth_mm: the depth those figures belong to.
        path_share: share of the variance that belongs to the path and comes back (assumed).
        path_reach_mm: a needle that has no path of its own there and comes closer than this to one already used by
            another takes over its error (assumed).
        own_path_reach_mm: a needle that comes again, aimed off by a correction, meets its own error again as far as
            this from where it was (assumed); this goes before another needle's path.
        stop_repeatability_mm: two standard deviations of the depth when the stop is set again (assumed).
        bend_radius_mm: an 18 G needle runs on an arc with a radius uniform between these (assumed).
        seed_along_sigma_mm, seed_lateral_sigma_mm: where a seed comes to rest in its channel (assumed).
        bent: needle -> radius in mm of the arc that this one runs on, on every path: it was bent before.
    """

    setup_translation_sigma_mm: float = 2.09
    setup_magnitude_mm: float | None = None
    setup_rotation_sigma_deg: float = 0.5
    couch_translation_sigma_mm: float = 1.5
    couch_rotation_sigma_deg: float = 0.25
    entry_mean_mm: float = 0.90
    depth_mean_mm: float = 1.68
    angle_mean_deg: float = 1.56
    reference_depth_mm: float = 62.0
    path_share: float = 0.8
    path_reach_mm: float = 2.0
    own_path_reach_mm: float = 15.0
    stop_repeatability_mm: float = 0.5
    bend_radius_mm: tuple[float, float] | None = (700.0, 4000.0)
    seed_along_sigma_mm: float = 0.5
    seed_lateral_sigma_mm: float = 0.3
    bent: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def perfect() -> ErrorPopulation:
        """A world in which everything lands where it was sent."""
        return ErrorPopulation(
            setup_translation_sigma_mm=0.0,
            setup_rotation_sigma_deg=0.0,
            couch_translation_sigma_mm=0.0,
            couch_rotation_sigma_deg=0.0,
            entry_mean_mm=0.0,
            depth_mean_mm=0.0,
            angle_mean_deg=0.0,
            stop_repeatability_mm=0.0,
            bend_radius_mm=None,
            seed_along_sigma_mm=0.0,
            seed_lateral_sigma_mm=0.0,
        )


@dataclass(frozen=True)
class NeedleError:
    """One part (the path's, or this insertion's) of a needle's error, in the rig's axes.

    Attributes:
        entry_mm: ``(2,)`` sideways at the skin.
        slope: ``(2,)`` sideways per mm of depth.
        curvature_per_mm: ``(2,)`` change of slope per mm of depth.
        depth_mm: deeper (+) or shallower (-) than sent.
    """

    entry_mm: Floats
    slope: Floats
    curvature_per_mm: Floats
    depth_mm: float

    def __add__(self, other: NeedleError) -> NeedleError:
        return NeedleError(
            self.entry_mm + other.entry_mm,
            self.slope + other.slope,
            self.curvature_per_mm + other.curvature_per_mm,
            self.depth_mm + other.depth_mm,
        )


def _sigmas(population: ErrorPopulation) -> tuple[float, float, float]:
    """Standard deviations per axis: entry in mm, slope at the reference depth (rad), depth in mm."""
    return (
        population.entry_mean_mm / _MEAN_OF_RAYLEIGH,
        float(np.radians(population.angle_mean_deg)) / _MEAN_OF_RAYLEIGH,
        population.depth_mean_mm / _MEAN_OF_HALF_NORMAL,
    )


def draw_path_error(population: ErrorPopulation, random: np.random.Generator) -> NeedleError:
    """The part that belongs to the path: most of entry, angle and depth, and all of the bend.

    The published angle is that of the chord from skin to tip, so what the bend contributes to it at the
    reference depth is taken out of the straight tilt.
    """
    entry_sigma_mm, slope_sigma, depth_sigma_mm = _sigmas(population)
    share = population.path_share
    bend_variance = 0.0
    curvature = np.zeros(2)
    entry, tilt, depth = random.normal(size=2), random.normal(size=2), float(random.normal())
    if population.bend_radius_mm is not None:
        low_mm, high_mm = population.bend_radius_mm
        radius_mm, way = random.uniform(low_mm, high_mm), random.uniform(0.0, 2.0 * np.pi)
        curvature = np.array([np.cos(way), np.sin(way)]) / radius_mm
        # E[1 / R^2] = 1 / (low high) for a uniform radius; half of it falls on each axis
        bend_variance = (population.reference_depth_mm / 2.0) ** 2 / (low_mm * high_mm) / 2.0
    tilt_variance = max(0.0, share * slope_sigma**2 - bend_variance)
    depth_variance = max(0.0, depth_sigma_mm**2 - (population.stop_repeatability_mm / 2.0) ** 2)
    return NeedleError(
        np.sqrt(share) * entry_sigma_mm * entry,
        np.sqrt(tilt_variance) * tilt,
        curvature,
        float(np.sqrt(depth_variance) * depth),
    )


def draw_insertion_error(population: ErrorPopulation, random: np.random.Generator) -> NeedleError:
    """The part that is new at each insertion."""
    entry_sigma_mm, slope_sigma, _ = _sigmas(population)
    new = np.sqrt(1.0 - population.path_share)
    return NeedleError(
        new * entry_sigma_mm * random.normal(size=2),
        new * slope_sigma * random.normal(size=2),
        np.zeros(2),
        float(population.stop_repeatability_mm / 2.0 * random.normal()),
    )


def draw_setup_error(population: ErrorPopulation, random: np.random.Generator) -> Floats:
    """Where the rig truly stands: ``planned_rig_from_true_rig``, turned about a point 60 mm deep."""
    shift_mm = random.normal(size=3)
    if population.setup_magnitude_mm is not None:
        shift_mm *= population.setup_magnitude_mm / np.linalg.norm(shift_mm)
    else:
        shift_mm *= population.setup_translation_sigma_mm
    rotation_deg = population.setup_rotation_sigma_deg * random.normal(size=3)
    return rigid(rotation_deg, shift_mm, about_mm=(0.0, 0.0, 60.0))


def draw_couch_shift(
    population: ErrorPopulation, random: np.random.Generator, about_patient_mm: Floats
) -> Floats:
    """How the patient lies in one scan: ``scanner_from_patient``, turned about ``about_patient_mm``."""
    shift_mm = population.couch_translation_sigma_mm * np.clip(random.normal(size=3), -2.0, 2.0)
    rotation_deg = population.couch_rotation_sigma_deg * np.clip(random.normal(size=3), -2.0, 2.0)
    return rigid(rotation_deg, shift_mm, about_patient_mm)
