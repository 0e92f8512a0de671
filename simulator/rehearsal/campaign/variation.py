"""What varies from run to run: the populations that chance is drawn from, one TOML file, one source for each figure.

Both kinds of campaign read the same file; what concerns one kind alone is marked. A key left out keeps the default
below, with the source that stands beside it. ``CAMPAIGN.md`` has the same as a table (a test compares them).
"""

from __future__ import annotations

import hashlib
import json
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from planning.placement_error import HALF_NORMAL_MEAN, RAYLEIGH_MEAN, PlacementSigmas
from planning.refusal import AskedWrongly
from planning.toml_table import Between, build
from simulator.error_population import ErrorPopulation

FORMAT = "seedguide-vary/1"
HN430 = "10.3389/fonc.2021.664996: 430 head-and-neck needles through a printed template"
ASSUMED = "assumed"


@dataclass(frozen=True)
class Source:
    """Where a default comes from, and what kind of campaign uses the figure ("both", "procedure" or "dose")."""

    words: str
    used_by: Literal["both", "procedure", "dose"] = "both"


@dataclass(frozen=True)
class NeedleVariation:
    """Errors of needles through the template. Means are of the error's size; the error itself averages zero."""

    entry_mean_mm: Annotated[float, Between(0.0, 50.0), Source(HN430)] = 0.90
    angle_mean_deg: Annotated[float, Between(0.0, 45.0), Source(HN430)] = 1.56
    depth_mean_mm: Annotated[float, Between(0.0, 50.0), Source(HN430)] = 1.68
    reference_depth_mm: Annotated[float, Between(1.0, 300.0), Source(HN430, "procedure")] = 62.0
    path_share: Annotated[float, Between(0.0, 1.0), Source(ASSUMED, "procedure")] = 0.8
    path_reach_mm: Annotated[float, Between(0.0, 50.0), Source(ASSUMED, "procedure")] = 2.0
    own_path_reach_mm: Annotated[float, Between(0.0, 50.0), Source(ASSUMED, "procedure")] = 15.0
    stop_repeatability_mm: Annotated[float, Between(0.0, 20.0), Source(ASSUMED, "procedure")] = 0.5
    bend_radius_mm: Annotated[
        tuple[Annotated[float, Between(50.0, 1e6)], ...], Source(f"{ASSUMED}; [] is no bend", "procedure")
    ] = (700.0, 4000.0)
    tips: Annotated[
        Literal["corrected", "first pass"],
        Source("Jiang 2021 (10.3389/fonc.2021.645077): tips beyond the tolerance are put in again", "dose"),
    ] = "corrected"


@dataclass(frozen=True)
class SeedVariation:
    """Where a seed comes to rest, per axis, beside what its needle errs."""

    along_sigma_mm: Annotated[float, Between(0.0, 50.0), Source(ASSUMED)] = 0.5
    across_sigma_mm: Annotated[float, Between(0.0, 50.0), Source(ASSUMED)] = 0.3
    lost_share: Annotated[
        float, Between(0.0, 1.0), Source("parotid, 0 lost of 15 patients; prostate loose seeds 0.0047")
    ] = 0.0


@dataclass(frozen=True)
class SetupVariation:
    """How the rig stands to the patient, per axis; common to all needles."""

    translation_sigma_mm: Annotated[
        float, Between(0.0, 50.0), Source("immobilised head and neck 3.2 +- 1.7 mm, as rms", "procedure")
    ] = 2.09
    rotation_sigma_deg: Annotated[float, Between(0.0, 20.0), Source(ASSUMED, "procedure")] = 0.5
    left_over_sigma_mm: Annotated[
        float, Between(0.0, 50.0), Source(f"{ASSUMED}: the reference needles correct it all", "dose")
    ] = 0.0


@dataclass(frozen=True)
class ScanVariation:
    """How a rescan measures. No image is made: true positions with errors, and the sigma that would be stated."""

    tip_error_sigma_mm: Annotated[
        float,
        Between(0.0, 20.0),
        Source(
            "per axis; median 0.20 mm in 3-D: benchmarks/RESULTS.md, Imaging, 1.25 mm slices", "procedure"
        ),
    ] = 0.13
    stated_sigma_mm: Annotated[
        float, Between(0.0, 20.0), Source("what imaging states on such a CT of the example", "procedure")
    ] = 0.3
    angle_error_sigma_deg: Annotated[
        float,
        Between(0.0, 20.0),
        Source("per axis; median 0.44 deg at the tip: benchmarks/RESULTS.md, Imaging", "procedure"),
    ] = 0.37
    unseen_share: Annotated[
        float, Between(0.0, 1.0), Source("98 of 98 seen: benchmarks/RESULTS.md, Imaging", "procedure")
    ] = 0.0
    unusable_share: Annotated[float, Between(0.0, 1.0), Source(ASSUMED, "procedure")] = 0.0


@dataclass(frozen=True)
class RuleVariation:
    """The protocol's rules; not chance, but what one may want to compare."""

    tolerance_mm: Annotated[float, Between(0.1, 50.0), Source("Jiang 2021 (10.3389/fonc.2021.645077)")] = 2.0
    max_attempts: Annotated[int, Between(1, 100), Source(ASSUMED, "procedure")] = 5


@dataclass(frozen=True)
class DeviceVariation:
    """Faults of the devices; a jam holds the procedure, and the run counts as held."""

    jam_share: Annotated[
        float, Between(0.0, 1.0), Source("of each seed; no rate was published, so none", "procedure")
    ] = 0.0


@dataclass(frozen=True)
class TimeVariation:
    """How long things take on the procedure's clock."""

    needle_s: Annotated[
        float, Between(0.0, 3600.0), Source("10.1093/jrr/rrw033: 7.5 s per needle", "procedure")
    ] = 7.5
    scan_s: Annotated[float, Between(0.0, 36000.0), Source(f"{ASSUMED}, with its analysis", "procedure")] = (
        120.0
    )
    time_out_s: Annotated[float, Between(0.0, 3600.0), Source(f"{ASSUMED}, each item", "procedure")] = 60.0
    hand_s: Annotated[
        float, Between(0.0, 3600.0), Source(f"{ASSUMED}, anything else that people do", "procedure")
    ] = 8.0
    seed_s: Annotated[float, Between(0.0, 3600.0), Source(f"{ASSUMED}, draw back and push", "procedure")] = (
        5.0
    )


@dataclass(frozen=True)
class Variation:
    """A whole vary file."""

    format: str = FORMAT
    needle: NeedleVariation = field(default_factory=NeedleVariation)
    seed: SeedVariation = field(default_factory=SeedVariation)
    setup: SetupVariation = field(default_factory=SetupVariation)
    scan: ScanVariation = field(default_factory=ScanVariation)
    rules: RuleVariation = field(default_factory=RuleVariation)
    devices: DeviceVariation = field(default_factory=DeviceVariation)
    times: TimeVariation = field(default_factory=TimeVariation)

    @property
    def sha256(self) -> str:
        """Of all values: two files that say the same are the same."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def population(self) -> ErrorPopulation:
        """For the simulated patient of a whole procedure."""
        needle, bend = self.needle, self.needle.bend_radius_mm
        return ErrorPopulation(
            setup_translation_sigma_mm=self.setup.translation_sigma_mm,
            setup_rotation_sigma_deg=self.setup.rotation_sigma_deg,
            couch_translation_sigma_mm=0.0,  # registration takes it out; what it leaves is in ``scan``
            couch_rotation_sigma_deg=0.0,
            entry_mean_mm=needle.entry_mean_mm,
            depth_mean_mm=needle.depth_mean_mm,
            angle_mean_deg=needle.angle_mean_deg,
            reference_depth_mm=needle.reference_depth_mm,
            path_share=needle.path_share,
            path_reach_mm=needle.path_reach_mm,
            own_path_reach_mm=needle.own_path_reach_mm,
            stop_repeatability_mm=needle.stop_repeatability_mm,
            bend_radius_mm=(bend[0], bend[1]) if bend else None,
            seed_along_sigma_mm=self.seed.along_sigma_mm,
            seed_lateral_sigma_mm=self.seed.across_sigma_mm,
        )

    def sigmas(self) -> PlacementSigmas:
        """For the dose alone."""
        return PlacementSigmas(
            entry_mm=self.needle.entry_mean_mm / RAYLEIGH_MEAN,
            angle_deg=self.needle.angle_mean_deg / RAYLEIGH_MEAN,
            depth_mm=self.needle.depth_mean_mm / HALF_NORMAL_MEAN,
            seed_along_mm=self.seed.along_sigma_mm,
            seed_across_mm=self.seed.across_sigma_mm,
            tip_within_mm=self.rules.tolerance_mm if self.needle.tips == "corrected" else None,
        )


@dataclass(frozen=True)
class Parameter:
    """One figure as it is shown: ``source`` is "vary file" where the file differs from the default."""

    name: str
    value: Any
    source: str
    used_by: str


def parameters(variation: Variation) -> Iterator[Parameter]:
    """Every figure, with where it comes from."""
    for group in fields(variation)[1:]:
        own, default = getattr(variation, group.name), getattr(Variation(), group.name)
        for name, hint in typing.get_type_hints(type(own), include_extras=True).items():
            source = next(it for it in hint.__metadata__ if isinstance(it, Source))
            value = getattr(own, name)
            words = source.words if value == getattr(default, name) else "vary file"
            yield Parameter(f"{group.name}.{name}", value, words, source.used_by)


def load_variation(path: Path | None) -> Variation:
    """The file at ``path``; None: every default.

    Raises:
        AskedWrongly: unreadable, not TOML, of another format, a key unknown, of the wrong type or out of range.
    """
    if path is None:
        return Variation()
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as problem:
        raise AskedWrongly(f"{path}: the vary file can't be read ({problem.strerror}).") from problem
    except ValueError as problem:
        raise AskedWrongly(f"{path}: not a TOML file ({problem}).") from problem
    if table.get("format") != FORMAT:
        raise AskedWrongly(f'{path}: the vary file must say format = "{FORMAT}" (CAMPAIGN.md).')
    variation = build(Variation, table, str(path), "the vary file")
    bend = variation.needle.bend_radius_mm
    if bend and (len(bend) != 2 or bend[0] > bend[1]):
        raise AskedWrongly(
            f"{path}: 'needle.bend_radius_mm' must be [smallest, largest], or [] for straight needles."
        )
    return variation
