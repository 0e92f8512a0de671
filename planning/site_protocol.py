"""The site protocol: what may be crossed, what may be dosed, with which needles and seeds; one TOML file.

A physicist edits the file, so every mistake in it (an unknown or missing key, a wrong type, a figure out
of range) is refused with the file's and the key's name; a misspelt key must not silently fall back to a
default. The two files that ship are ``planning/data/protocols/head-and-neck.toml`` and ``general.toml``.
Each figure there stands beside its source, or the word *assumed*.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from planning.refusal import AskedWrongly
from planning.toml_table import Between, build

FOLDER = Path(__file__).parent / "data" / "protocols"
Role = Literal["forbidden", "dose_limited", "ignore"]


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a structure's name fits one of the glob patterns; case and outer blanks don't count."""
    return any(fnmatchcase(name.strip().lower(), pattern.lower()) for pattern in patterns)


@dataclass(frozen=True)
class StructureRule:
    """What holds for the structures whose name matches; the first rule of the file that matches counts.

    Attributes:
        role: "forbidden" (no needle closer than ``clearance_mm``), "dose_limited" (needles may pass),
            "ignore" (planning aids: neither avoided nor reported).
        names: case-insensitive glob patterns.
        clearance_mm: smallest distance between a needle's axis and the structure; only for "forbidden".
    """

    role: Role
    names: tuple[str, ...]
    clearance_mm: Annotated[float, Between(0.0, 50.0)] = 0.0


@dataclass(frozen=True)
class DoseLimit:
    """One goal or limit: ``metric`` of the structures matching ``names`` is at least/at most ``value``.

    Attributes:
        metric: name of an attribute of ``planning.dvh.StructureStatistics``, e.g. ``d2cc_gy``, ``v100_pct``.
        bound: "at_least" or "at_most".
        unit: "gy", "pct", or "prescription" (``value`` is then a multiple of the prescribed dose).
        source: citation, or "assumed".
    """

    names: tuple[str, ...]
    metric: str
    bound: Literal["at_least", "at_most"]
    value: Annotated[float, Between(0.0, 1e5)]
    unit: Literal["gy", "pct", "prescription"]
    source: str

    def limit(self, prescription_gy: float) -> float:
        """The bound in the metric's own unit (Gy or %)."""
        return self.value * prescription_gy if self.unit == "prescription" else self.value


@dataclass(frozen=True)
class NeedleRules:
    """Needles, template grid and the seeds in them; lengths in mm, angles in degrees."""

    length_mm: Annotated[float, Between(50.0, 400.0)]
    diameter_mm: Annotated[float, Between(0.3, 5.0)]
    pitch_mm: Annotated[float, Between(1.0, 30.0)]  # of the template's hole grid
    min_distance_mm: Annotated[float, Between(0.0, 30.0)]  # between the axes of two needles
    max_depth_mm: Annotated[float, Between(10.0, 390.0)]  # from skin to tip
    max_angle_deg: Annotated[float, Between(0.0, 90.0)]  # between any two needles of an oblique set
    max_count: Annotated[int, Between(1, 200)]
    template_gap_mm: Annotated[
        float, Between(0.0, 100.0)
    ]  # from the template's outer face to the nearest entry
    seed_spacing_mm: Annotated[float, Between(1.0, 30.0)]  # centre to centre along the needle
    seed_inside_mm: Annotated[float, Between(-5.0, 10.0)]  # how deep inside the CTV a seed's centre must lie
    tip_beyond_seed_mm: Annotated[float, Between(0.0, 20.0)]  # planned tip ahead of the deepest seed's centre
    max_seeds: Annotated[int, Between(1, 500)]
    cartridge_seeds: Annotated[int, Between(1, 100)]  # in a full cartridge, all of one activity
    reference_count: Annotated[int, Between(2, 6)]
    reference_depth_mm: Annotated[float, Between(5.0, 60.0)]


@dataclass(frozen=True)
class EntryRules:
    """Where a needle may go through the skin.

    Attributes:
        couch_keep_out_deg: directions of insertion within this angle of "straight up, off the couch" are not
            offered, for the needle would have to come through the couch.
        scan_edge_mm: an entry lies at least this far inside the first and last slice.
        keep_out_names: structures (eyes, mouth ...) whose surroundings no needle may enter through the skin.
        keep_out_mm: how far an entry stays from them.
    """

    couch_keep_out_deg: Annotated[float, Between(0.0, 180.0)]
    scan_edge_mm: Annotated[float, Between(0.0, 100.0)]
    keep_out_names: tuple[str, ...]
    keep_out_mm: Annotated[float, Between(0.0, 100.0)]


@dataclass(frozen=True)
class DerivedRules:
    """How body, bone, airway and skin are found in the CT where nobody drew them."""

    body_names: tuple[str, ...]  # drawn structures that are the outline, beside those of type EXTERNAL
    body_threshold_hu: Annotated[float, Between(-900.0, 0.0)]
    bone_names: tuple[str, ...]  # when one of these is drawn, bone is not derived
    bone_threshold_hu: Annotated[float, Between(50.0, 2000.0)]
    bone_min_cc: Annotated[float, Between(0.0, 100.0)]  # smaller connected pieces are noise or calcification
    airway_names: tuple[str, ...]
    airway_threshold_hu: Annotated[float, Between(-1024.0, -100.0)]
    airway_min_cc: Annotated[float, Between(0.0, 100.0)]
    skin_names: tuple[str, ...]
    skin_thickness_mm: Annotated[float, Between(0.5, 20.0)]
    ctv_excludes_airway: bool


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the loading's objective; each a price per unit of what it multiplies."""

    target_underdose: Annotated[
        float, Between(0.0, 1e6)
    ]  # mean relative deficit below the prescription in the CTV
    target_over_150: Annotated[
        float, Between(0.0, 1e6)
    ]  # mean relative excess over 1.5 x prescription in the CTV
    target_over_200: Annotated[
        float, Between(0.0, 1e6)
    ]  # mean relative excess over 2 x prescription in the CTV
    organ_overdose: Annotated[float, Between(0.0, 1e6)]  # mean relative excess over an organ's limit
    outside: Annotated[
        float, Between(0.0, 1e6)
    ]  # mean relative excess over the prescription in tissue around the CTV
    needle: Annotated[float, Between(0.0, 1e6)]  # each needle
    seed: Annotated[float, Between(0.0, 1e6)]  # each seed


@dataclass(frozen=True)
class SiteProtocol:
    """A site's protocol; ``sha256`` is that of the file's bytes."""

    name: str
    description: str
    prescription_gy: Annotated[float, Between(1.0, 1000.0)]
    margin_mm: Annotated[float, Between(0.0, 30.0)]
    source_model: str
    activity_mci: Annotated[float, Between(0.01, 10.0)]
    unlisted_role: Role  # of drawn structures that no rule matches
    structures: tuple[StructureRule, ...]
    derived: DerivedRules
    needle: NeedleRules
    entry: EntryRules
    goals: tuple[DoseLimit, ...]  # of GTV and CTV
    limits: tuple[DoseLimit, ...]  # of the organs
    objective: ObjectiveWeights
    sha256: str = ""

    def rule_for(self, name: str) -> StructureRule:
        """The first rule that matches a structure's name, or one with ``unlisted_role``."""
        for rule in self.structures:
            if matches(name, rule.names):
                return rule
        return StructureRule(role=self.unlisted_role, names=(name,))

    def limits_for(self, name: str) -> tuple[DoseLimit, ...]:
        """The dose limits that hold for an organ of this name."""
        return tuple(limit for limit in self.limits if matches(name, limit.names))


def built_in_names() -> tuple[str, ...]:
    """Names of the protocols that ship with the program."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_site_protocol(name_or_path: str | Path) -> SiteProtocol:
    """Load one of ``built_in_names()``, or the file at a path (anything ending in ``.toml``).

    Raises:
        AskedWrongly: no such protocol, unreadable or not TOML, or a key that is missing, unknown, of the
            wrong type or out of range.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else FOLDER / f"{text}.toml"
    if not text.endswith(".toml") and text not in built_in_names():
        known = ", ".join(built_in_names())
        raise AskedWrongly(
            f"{text}: no such site protocol; give one of {known}, or the path of a .toml file."
        )
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode("utf-8"))
    except OSError as problem:
        raise AskedWrongly(f"{path}: the site protocol can't be read ({problem.strerror}).") from problem
    except ValueError as problem:
        raise AskedWrongly(f"{path}: not a TOML file ({problem}).") from problem
    if "sha256" in table:
        raise AskedWrongly(f"{path}: unknown key 'sha256' in the site protocol.")
    protocol = build(
        SiteProtocol, {**table, "sha256": hashlib.sha256(content).hexdigest()}, str(path), "the site protocol"
    )
    _check_together(protocol, str(path))
    return protocol


def _check_together(protocol: SiteProtocol, file: str) -> None:
    needle = protocol.needle
    if needle.max_depth_mm + needle.template_gap_mm > needle.length_mm:
        raise AskedWrongly(
            f"{file}: needle.max_depth_mm + needle.template_gap_mm is more than needle.length_mm; "
            "the needle would not reach."
        )
    if needle.reference_depth_mm >= needle.max_depth_mm:
        raise AskedWrongly(f"{file}: needle.reference_depth_mm must be less than needle.max_depth_mm.")
    if protocol.derived.airway_threshold_hu > protocol.derived.body_threshold_hu:
        raise AskedWrongly(f"{file}: derived.airway_threshold_hu must not exceed derived.body_threshold_hu.")
