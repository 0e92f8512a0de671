"""Sealed sources: what TG-43 needs to know of a seed, read from ``data/sources/<name>.json``.

A file states where its numbers come from and whether they were compared with a publication. Only a *verified*
source is good enough to plan with; the others exist for comparison and must be asked for explicitly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np

from planning.frame import Floats
from planning.refusal import AskedWrongly

Formalism = Literal["2d", "1d"]
FORMAT = "seedguide-source/1"
U_PER_MCI = 1.270
"""Air-kerma strength of 1 mCi apparent activity of I-125, in U (cGy cm2 / h)."""


@dataclass(frozen=True, eq=False)
class SeedSource:
    """One seed model.

    Attributes:
        name: the file's name, e.g. ``6711``; description: for people.
        status: ``verified`` (compared with the publication named in ``citation``) or ``unverified``.
        citation: the publication; traps: what is known to be doubtful.
        dose_rate_constant: cGy/h/U in water.
        active_length_cm: of the line source that ``g_l`` and ``f`` were made with (TG-43's own unit).
        length_mm, diameter_mm: outer size.
        half_life_d: of the nuclide.
        g_l_r_cm, g_l: radial dose function, ``(n,)`` each.
        f_r_cm, f_theta_deg, f: anisotropy function ``(n_theta, n_r)``; theta 0..90 (symmetric) or 180.
        phi_an_r_cm, phi_an: 1-D anisotropy function, or empty where none is tabulated (it follows from F).
        formalism: how its dose is computed: ``2d`` (line source, F), or ``1d`` (phi_an), for seeds whose direction
            nobody knows.
    """

    name: str
    description: str
    status: str
    citation: str
    traps: tuple[str, ...]
    dose_rate_constant: float
    active_length_cm: float
    length_mm: float
    diameter_mm: float
    half_life_d: float
    g_l_r_cm: Floats
    g_l: Floats
    f_r_cm: Floats
    f_theta_deg: Floats
    f: Floats
    phi_an_r_cm: Floats
    phi_an: Floats
    formalism: Formalism = "2d"

    @property
    def life_h(self) -> float:
        """Mean life in hours: total dose of a permanent implant / its initial dose rate."""
        return self.half_life_d * 24.0 / math.log(2.0)

    def decayed(self, days: float) -> float:
        """Fraction of the strength left ``days`` after the assay (before it, if negative)."""
        return float(2.0 ** (-days / self.half_life_d))

    def dose_fraction_by(self, days: float) -> float:
        """Fraction of the dose to infinity that is delivered in the first ``days``."""
        return -math.expm1(-math.log(2.0) * days / self.half_life_d)


def source_names() -> tuple[str, ...]:
    """Names of all sources that data exist for."""
    return tuple(sorted(f.name[:-5] for f in _folder().iterdir() if f.name.endswith(".json")))


def load_source(name: str = "6711", *, allow_unverified: bool = False) -> SeedSource:
    """The source of that name.

    Raises:
        AskedWrongly: unknown name, or unverified and not allowed.
    """
    if name not in source_names():
        raise AskedWrongly(f"source model '{name}' is unknown; there are: {', '.join(source_names())}.")
    source = _load(name)
    if source.status != "verified" and not allow_unverified:
        raise AskedWrongly(
            f"source model '{name}' is unverified ({' '.join(source.traps)}); "
            "plan with 6711, or say --allow-unverified."
        )
    return source


def source_from_json(body: Mapping[str, Any]) -> SeedSource:
    """A source of the values of one file.

    Raises:
        AskedWrongly: a value is missing or can't be right.
    """
    name = body.get("name", "?")
    try:
        if body["format"] != FORMAT or body["status"] not in ("verified", "unverified"):
            raise ValueError("unknown format or status")
        g_l, f = body["radial_dose_function"], body["anisotropy_function"]
        phi_an = body.get("anisotropy_factor", {"r_cm": [], "value": []})
        source = SeedSource(
            name=str(name),
            description=str(body["description"]),
            status=str(body["status"]),
            citation=str(body["citation"]),
            traps=tuple(str(trap) for trap in body["traps"]),
            dose_rate_constant=float(body["dose_rate_constant_cgy_per_h_u"]),
            active_length_cm=float(body["active_length_cm"]),
            length_mm=float(body["length_mm"]),
            diameter_mm=float(body["diameter_mm"]),
            half_life_d=float(body["half_life_d"]),
            g_l_r_cm=np.array(g_l["r_cm"], dtype=float),
            g_l=np.array(g_l["value"], dtype=float),
            f_r_cm=np.array(f["r_cm"], dtype=float),
            f_theta_deg=np.array(f["theta_deg"], dtype=float),
            f=np.array(f["value_by_theta"], dtype=float),
            phi_an_r_cm=np.array(phi_an["r_cm"], dtype=float),
            phi_an=np.array(phi_an["value"], dtype=float),
        )
        _check(source)
    except (KeyError, TypeError, ValueError) as problem:
        raise AskedWrongly(f"source model '{name}': its data are not usable ({problem}).") from problem
    return source


def _check(source: SeedSource) -> None:
    single = (
        source.dose_rate_constant,
        source.active_length_cm,
        source.length_mm,
        source.diameter_mm,
        source.half_life_d,
    )
    if not all(math.isfinite(value) and value > 0 for value in single):
        raise ValueError("a constant is not positive")
    if source.active_length_cm * 10.0 > source.length_mm:
        raise ValueError("the active length exceeds the outer length")
    for name, axis, table in (
        ("g_L", source.g_l_r_cm, source.g_l),
        ("F", source.f_r_cm, source.f.T),
        ("F", source.f_theta_deg, source.f),
        ("phi_an", source.phi_an_r_cm, source.phi_an),
    ):
        if len(axis) != len(table) or np.any(np.diff(axis) <= 0) or not np.all(table > 0):
            raise ValueError(f"the table of {name} is not positive over increasing coordinates")
    if len(source.g_l) < 2 or source.f_theta_deg[0] != 0.0 or source.f_theta_deg[-1] not in (90.0, 180.0):
        raise ValueError("g_L needs two radii, F angles from 0 to 90 or 180 degrees")


def _folder() -> Any:
    return resources.files("planning") / "data" / "sources"


@cache
def _load(name: str) -> SeedSource:
    return source_from_json(json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8")))
