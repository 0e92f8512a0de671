"""The direct dose against TG-43 written out a second time, from the formulas and the source files' tables alone.

One point at a time, in Python's own arithmetic and nothing of ours but the dose that is judged. TG-43U1: eqs 1, 4, 5
(2-D), 11 (1-D), geometry function of a line source eq 4, on the axis its limit; TG-43U1S1: g_L log-linear, F bilinear,
nearest outside its radii, g_L beyond its last radius one exponential through the last two.
"""

import json
import math
from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planning.dose import dose_at_points_gy
from planning.sources import load_source
from planning.tg43 import dose_rate

FOLDER = Path(__file__).parent.parent / "planning" / "data" / "sources"


def line_source(length: float, r: float, theta: float) -> float:
    """G_L in 1/cm2, theta in radians."""
    half, sine = length / 2.0, math.sin(theta)
    if sine * r < 1e-7:
        return 1.0 / (r * r - half * half)
    along, away = r * math.cos(theta), r * sine
    # beta, the angle at the point between the ends of the line, by the law of cosines' stable cousin
    first, second = (along + half, away), (along - half, away)
    cross = first[1] * second[0] - first[0] * second[1]
    dot = first[0] * second[0] + first[1] * second[1]
    return math.atan2(abs(cross), dot) / (length * away)


def between(x: float, nodes: list[float], values: list[float]) -> float:
    if x <= nodes[0]:
        return values[0]
    if x >= nodes[-1]:
        return values[-1]
    k = bisect_right(nodes, x) - 1
    part = (x - nodes[k]) / (nodes[k + 1] - nodes[k])
    return values[k] + part * (values[k + 1] - values[k])


def extrapolated(x: float, nodes: list[float], values: list[float]) -> float:
    """Linear between, and beyond the ends by the outermost two."""
    k = min(max(bisect_right(nodes, x) - 1, 0), len(nodes) - 2)
    return values[k] + (x - nodes[k]) / (nodes[k + 1] - nodes[k]) * (values[k + 1] - values[k])


class Reference:
    """Dose rate of one source, cGy/h/U."""

    def __init__(self, name: str) -> None:
        self.body = json.loads((FOLDER / f"{name}.json").read_text())

    def g(self, r: float, how: str) -> float:
        radii, values = (self.body["radial_dose_function"][key] for key in ("r_cm", "value"))
        if r > radii[-1]:
            slope = math.log(values[-1] / values[-2]) / (radii[-1] - radii[-2])
            return values[-1] * math.exp(slope * (r - radii[-1]))
        if how == "linear":
            return between(r, radii, values)
        return math.exp(between(r, radii, [math.log(value) for value in values]))

    def f(self, r: float, theta_deg: float, beyond: str) -> float:
        table = self.body["anisotropy_function"]
        angles, radii, rows = table["theta_deg"], table["r_cm"], table["value_by_theta"]
        theta_deg = min(theta_deg, 180.0 - theta_deg) if angles[-1] == 90.0 else theta_deg
        take = between if beyond == "nearest" else extrapolated
        value = between(theta_deg, angles, [take(r, radii, row) for row in rows])
        return max(value, min(min(row) for row in rows))

    def rate(self, along: float, away: float, formalism: str, how: str, beyond: str) -> float:
        length = self.body["active_length_cm"]
        r, theta = math.hypot(along, away), math.atan2(away, along)
        constant = self.body["dose_rate_constant_cgy_per_h_u"] / line_source(length, 1.0, math.pi / 2)
        if formalism == "2d":
            shape = line_source(length, r, theta) * self.f(r, math.degrees(theta), beyond)
        else:
            table = self.body["anisotropy_factor"]
            shape = line_source(length, r, math.pi / 2) * between(r, table["r_cm"], table["value"])
        return constant * self.g(r, how) * shape


@pytest.mark.parametrize("name", ["6711", "130.002", "IAI-125A", "AgX100"])
def test_dose_of_an_implant_to_a_millionth(name: str) -> None:
    """Many seeds of any direction, points 2.5 to 300 mm away and on the axes themselves; TG-43U1S1's modes."""
    source, reference = load_source(name, allow_unverified=True), Reference(name)
    rng = np.random.default_rng(43)
    centres, axes = rng.uniform(-20, 20, (6, 3)), rng.normal(size=(6, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    strength = rng.uniform(0.4, 0.9, 6)
    away = rng.normal(size=(300, 3))
    away *= (np.exp(rng.uniform(np.log(2.5), np.log(300), 300)) / np.linalg.norm(away, axis=1))[:, None]
    on_axis = centres[0] + axes[0] * np.array([[2.6], [-3.0], [14.0], [-90.0]])
    points = np.vstack([centres[rng.integers(0, 6, 300)] + away, on_axis])
    kept = np.min([np.linalg.norm(points - centre, axis=1) for centre in centres], axis=0) >= 2.5
    life_h = reference.body["half_life_d"] * 24.0 / math.log(2.0)
    found = dose_at_points_gy(source, centres, axes, strength, points[kept])
    for gy, point in zip(found, points[kept], strict=True):
        total = 0.0
        for centre, axis, u in zip(centres, axes, strength, strict=True):
            offset = [float(a - b) / 10.0 for a, b in zip(point, centre, strict=True)]
            along = math.fsum(a * float(b) for a, b in zip(offset, axis, strict=True))
            across = math.sqrt(
                math.fsum((a - along * float(b)) ** 2 for a, b in zip(offset, axis, strict=True))
            )
            total += float(u) * reference.rate(along, across, "2d", "log-linear", "nearest") * life_h / 100.0
        assert gy == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("formalism", ["2d", "1d"])
@pytest.mark.parametrize("how", ["log-linear", "linear"])
@pytest.mark.parametrize("beyond", ["nearest", "linear"])
def test_every_named_mode(formalism: str, how: str, beyond: str) -> None:
    source, reference = load_source(), Reference("6711")
    rng = np.random.default_rng(44)
    r = np.exp(rng.uniform(np.log(0.25), np.log(30), 400))
    theta = np.radians(rng.uniform(0, 180, 400))
    along, away = r * np.cos(theta), r * np.sin(theta)
    found = dose_rate(source, along, away, formalism=formalism, between=how, beyond=beyond)
    expected = [
        reference.rate(float(a), float(b), formalism, how, beyond) for a, b in zip(along, away, strict=True)
    ]
    assert found == pytest.approx(expected, rel=1e-9)
    as_default = dose_rate(replace(source, formalism=formalism), along, away, between=how, beyond=beyond)
    assert np.array_equal(as_default, found)


def test_one_dimensional_dose_does_not_depend_on_the_direction() -> None:
    source = replace(load_source(), formalism="1d")
    points = np.random.default_rng(45).uniform(-50, 50, (200, 3))
    one, other = (
        dose_at_points_gy(source, [[0, 0, 0]], [axis], 0.8, points) for axis in ((0, 0, 1), (3, -1, 2))
    )
    outside = np.linalg.norm(points, axis=1) > 2.5
    assert one[outside] == pytest.approx(other[outside], rel=1e-9)
