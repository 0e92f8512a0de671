"""An implant changed seed by seed gives what the same seeds give all at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.dose import dose_at_points_gy, dose_on_grid_gy
from planning.implant_dose import ImplantDose
from planning.samples import Samples
from planning.sources import load_source
from planning.volume import Grid

SOURCE = load_source()
GRID = Grid((12, 14, 15), (80.0, -160.0, 1480.0), (3.0, 3.0, 3.0))  # a patient far from the frame's origin
MIDDLE = GRID.point_of(0.5 * (np.array(GRID.shape) - 1))
RNG = np.random.default_rng(5)
SAMPLES = {
    "Cord": Samples(MIDDLE + RNG.uniform(12, 18, (700, 3)), 0.002),
    "CTV": Samples(MIDDLE + RNG.uniform(-10, 10, (3000, 3)), 0.0025),
}


def empty(threads: int = 1) -> ImplantDose:
    return ImplantDose(SOURCE, GRID, SAMPLES, 120.0, threads=threads)


def seeds(count: int, chance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(chance)
    centres = MIDDLE + rng.uniform(-9, 9, (count, 3))
    return centres, rng.normal(size=(count, 3)), rng.uniform(0.4, 0.9, count)


def same_figures(one: ImplantDose, other: ImplantDose, rel: float = 1e-9) -> None:
    for name, figures in one.figures().items():
        for key, value in vars(figures).items():
            expected = vars(other.figures()[name])[key]
            assert value == (pytest.approx(expected, rel=rel) if isinstance(value, float) else expected)


def test_all_at_once_is_the_dose_of_the_seeds() -> None:
    implant = empty()
    centres, axes, strength = seeds(7, 1)
    assert implant.add(centres, axes, strength) == [0, 1, 2, 3, 4, 5, 6]
    assert implant.dose_gy == pytest.approx(dose_on_grid_gy(SOURCE, centres, axes, strength, GRID), rel=1e-5)
    assert list(implant.figures()) == ["CTV", "Cord"]
    direct = dose_at_points_gy(SOURCE, centres, axes, strength, SAMPLES["Cord"].points_mm)
    assert implant.figures()["Cord"].mean_gy == pytest.approx(direct.mean(), rel=1e-4)
    assert implant.figures()["Cord"].d100_gy == pytest.approx(direct.min(), rel=1e-3)
    assert implant.figures()["CTV"].ei_pct is not None


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "move", "remove"]), st.integers(0, 99)), max_size=12))
def test_any_edits_end_where_a_fresh_start_ends(edits: list[tuple[str, int]]) -> None:
    implant, now = empty(), {}
    centres, axes, strength = seeds(4, 2)
    for number, *seed in zip(implant.add(centres, axes, strength), centres, axes, strength, strict=True):
        now[number] = seed
    for what, chance in edits:
        (centre,), (axis,), (u,) = seeds(1, chance)
        if what == "add" or not now:
            now[implant.add(centre, axis, u)[0]] = [centre, axis, u]
            continue
        number = sorted(now)[chance % len(now)]
        if what == "move":
            implant.move(number, centre, axis)
            now[number][:2] = centre, axis
        else:
            implant.remove(number)
            del now[number]
    fresh = empty()
    fresh.add(*(np.array([seed[k] for seed in now.values()]) for k in range(3)))
    assert implant.dose_gy == pytest.approx(fresh.dose_gy, rel=1e-6, abs=1e-9)
    if now:
        same_figures(implant, fresh)


def test_there_and_back_changes_nothing_and_all_out_leaves_nothing() -> None:
    implant = empty(threads=2)
    centres, axes, strength = seeds(5, 3)
    numbers = implant.add(centres, axes, strength)
    before, dose = implant.figures(), implant.dose_gy
    implant.move(numbers[2], centres[2] + 5.0, axes[3])
    assert implant.figures() != before
    implant.move(numbers[2], centres[2], axes[2])
    np.testing.assert_allclose(implant.dose_gy, dose, rtol=1e-7)
    same_figures(implant, empty_with(centres, axes, strength))
    for number in numbers:
        implant.remove(number)
    assert implant.dose_gy.max() < 1e-9
    assert implant.dose_gy.min() >= 0.0
    assert implant.figures()["CTV"].v100_pct == 0.0


def empty_with(*given: np.ndarray) -> ImplantDose:
    implant = empty()
    implant.add(*given)
    return implant


def test_becoming_another_implant_keeps_what_both_have() -> None:
    centres, axes, strength = seeds(6, 4)
    implant = empty_with(centres, axes, strength)
    other = centres.copy()
    other[1] += 2.0
    order = np.array([5, 1, 0, 3, 3])  # one moved, one left out, one there twice
    numbers = implant.become(other[order], axes[order], strength[order])
    assert numbers[0] == 5
    assert numbers[2:4] == [0, 3]
    assert len(set(numbers)) == 5
    same_figures(implant, empty_with(other[order], axes[order], strength[order]))


def test_a_seed_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        empty().remove(3)


def test_an_organ_that_leaves_the_grid_has_the_mean_of_all_of_it() -> None:
    """A long tube, half of it in the grid: hottest parts from the fine points, shares from the whole."""
    rng = np.random.default_rng(8)
    near = MIDDLE + rng.uniform(10, 17, (4000, 3))
    beyond = np.array([0.0, 0.0, 120.0])
    far = MIDDLE + beyond + rng.uniform(-9, 9, (4000, 3))
    everything = np.concatenate([near, far])
    tube = Samples(near, 0.002, Samples(everything[::4], 0.008))
    implant = ImplantDose(SOURCE, GRID, {"Lung": tube, "CTV": SAMPLES["CTV"]}, 120.0)
    centres, axes, strength = seeds(6, 9)
    implant.add(centres, axes, strength)
    found = implant.figures()["Lung"]
    assert found.volume_cc == pytest.approx(16.0)
    direct = dose_at_points_gy(SOURCE, centres, axes, strength, everything)
    assert found.mean_gy == pytest.approx(direct.mean(), rel=0.05)
    assert found.mean_gy < 0.6 * direct[:4000].mean()
    assert found.max_gy == pytest.approx(direct.max(), rel=1e-3)
    assert found.d01cc_gy == pytest.approx(np.sort(direct)[-50], rel=0.01)
