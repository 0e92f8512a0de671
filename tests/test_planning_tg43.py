"""TG-43 against published tables and against its own definitions."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from planning.refusal import AskedWrongly
from planning.sources import U_PER_MCI, load_source, source_from_json, source_names
from planning.tg43 import (
    anisotropy_factor,
    anisotropy_factor_from_f,
    anisotropy_function,
    dose_rate,
    geometry_function,
    radial_dose_function,
)

SEED = load_source()
SOURCES = [load_source(name, allow_unverified=True) for name in source_names()]
ALONG_AWAY = json.loads((Path(__file__).parent / "data" / "along_away_6711.json").read_text())
ALONG, AWAY = np.meshgrid(ALONG_AWAY["along_cm"], ALONG_AWAY["away_cm"], indexing="ij")
PUBLISHED = np.array(
    [[np.nan if value is None else value for value in row] for row in ALONG_AWAY["table_rows_along"]]
)
WITHIN_F = np.hypot(ALONG, AWAY) <= 5.0


def test_published_along_away_table() -> None:
    """118 values, cGy/h/U. The table was made with linear g_L: so asked, all within 0.5 % where F is tabulated,
    and everywhere with F extrapolated linearly; the log-linear g_L of TG-43U1S1 differs by up to 1.6 %."""
    linear = dose_rate(SEED, ALONG, AWAY, between="linear") / PUBLISHED - 1.0
    assert np.nanmax(np.abs(linear[WITHIN_F])) < 0.005
    beyond = dose_rate(SEED, ALONG, AWAY, between="linear", beyond="linear") / PUBLISHED - 1.0
    assert np.nanmax(np.abs(beyond)) < 0.005
    planned = dose_rate(SEED, ALONG, AWAY) / PUBLISHED - 1.0
    assert np.nanmax(np.abs(planned[WITHIN_F])) < 0.017
    # Where the distance is a tabulated radius of g_L nothing is interpolated, and the default agrees too.
    at_node = np.isin(np.round(np.hypot(ALONG, AWAY), 9), SEED.g_l_r_cm) & WITHIN_F
    assert at_node.sum() >= 14
    assert np.nanmax(np.abs(planned[at_node])) < 0.005


def test_reference_point_and_life() -> None:
    assert float(dose_rate(SEED, 0.0, 1.0)) == pytest.approx(0.965, rel=1e-12)
    assert SEED.life_h == pytest.approx(2056.7, abs=0.05)
    assert SEED.life_h / 100.0 == pytest.approx(20.567, abs=0.0005)  # 1 cGy/h at implantation, in Gy
    assert SEED.decayed(59.4) == pytest.approx(0.5)
    assert SEED.dose_fraction_by(59.4) == pytest.approx(0.5)
    assert U_PER_MCI == 1.270


def test_geometry_function_is_the_integral_over_the_line() -> None:
    points = np.linspace(-0.15, 0.15, 200001)
    for along, away in [(0.0, 0.1), (0.3, 0.05), (0.4, 0.0), (-0.7, 0.2), (2.0, 3.0), (0.1, 0.04)]:
        mean = np.trapezoid(1.0 / ((along - points) ** 2 + away**2), points) / 0.3
        assert float(geometry_function(0.3, along, away)) == pytest.approx(mean, rel=1e-6)
    on_axis = geometry_function(0.3, 0.5, 0.0)
    assert float(on_axis) == pytest.approx(1 / (0.5**2 - 0.15**2), rel=1e-12)
    assert float(geometry_function(0.3, 0.5, 1e-7)) == pytest.approx(float(on_axis), rel=1e-9)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.name)
def test_finite_positive_and_tables_met(source) -> None:
    along, away = np.meshgrid(np.linspace(-40, 40, 321), np.r_[0.0, np.geomspace(1e-6, 40, 80)])
    for formalism in ("2d", "1d"):
        rate = dose_rate(source, along, away, formalism=formalism)
        assert np.all(np.isfinite(rate)) and np.all(rate > 0)  # noqa: PT018
    r, theta = np.meshgrid(source.f_r_cm, source.f_theta_deg)
    assert anisotropy_function(source, r, theta) == pytest.approx(source.f)
    assert radial_dose_function(source, source.g_l_r_cm) == pytest.approx(source.g_l)
    assert float(dose_rate(source, 0.0, 1.0)) == pytest.approx(source.dose_rate_constant, rel=0.02)


def test_beyond_the_tables() -> None:
    """TG-43U1S1: F nearest, g_L nearest below and one exponential through the last two points above."""
    assert float(anisotropy_function(SEED, 0.2, 0.0)) == 0.333
    assert float(anisotropy_function(SEED, 9.0, 0.0)) == 0.55
    assert float(anisotropy_function(SEED, 6.0, 0.0, "linear")) == pytest.approx(0.58)
    assert float(anisotropy_function(SEED, 2.0, 180.0)) == 0.442
    assert float(radial_dose_function(SEED, 0.05)) == 1.055
    assert float(radial_dose_function(SEED, 12.0)) == pytest.approx(0.0803 * (0.0803 / 0.109) ** 2)
    assert float(radial_dose_function(SEED, 3.5)) == pytest.approx(math.sqrt(0.632 * 0.496))
    assert float(radial_dose_function(SEED, 3.5, "linear")) == pytest.approx(0.564)
    assert float(anisotropy_factor(SEED, 9.0)) == 0.944


def test_inside_the_seed_the_surface_counts() -> None:
    surface = dose_rate(SEED, 0.1, 0.04)
    assert dose_rate(SEED, 0.1, 0.0) == surface
    assert dose_rate(SEED, 0.1, 0.02) == surface


def test_one_dimensional_factor_follows_from_f() -> None:
    """The tabulated phi_an is the average of F that its definition asks for (to its three digits or so)."""
    assert anisotropy_factor_from_f(SEED, SEED.phi_an_r_cm) == pytest.approx(SEED.phi_an, rel=0.002)
    assert float(dose_rate(SEED, 2.0, 0.0, formalism="1d")) == pytest.approx(
        float(dose_rate(SEED, 0.0, 2.0)) * 0.941
    )


def test_only_verified_sources_without_asking() -> None:
    assert [s.name for s in SOURCES if s.status == "verified"] == ["6711"]
    with pytest.raises(AskedWrongly, match=r"unverified.*0\.943"):
        load_source("AgX100")
    with pytest.raises(AskedWrongly, match="unknown; there are: 1251L"):
        load_source("6712")


@pytest.mark.parametrize(
    "change",
    [
        {"half_life_d": -1},
        {"active_length_cm": 0.5},
        {"status": "sure"},
        {"radial_dose_function": {"r_cm": [1, 0.5], "value": [1, 1]}},
        {"anisotropy_function": {"r_cm": [1, 2], "theta_deg": [0, 80], "value_by_theta": [[1, 1], [1, 1]]}},
        {"citation": None, "length_mm": "long"},
    ],
)
def test_broken_data_are_refused(change) -> None:
    path = Path(__file__).parent.parent / "planning" / "data" / "sources" / "6711.json"
    body = json.loads(path.read_text())
    with pytest.raises(AskedWrongly, match="6711"):
        source_from_json(body | change)
