"""Target, margin and organs: geometry against formulas, roles from the site protocol, refusals in words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_dicom import ball, make_case, ring, tube
from scipy import ndimage

from planning.anatomy import Anatomy, box_of, build_anatomy, couch_direction, distance_mm
from planning.dicom import Case, Structure, read_case
from planning.outline import body_of, skin_of
from planning.refusal import AskedWrongly
from planning.site_protocol import SiteProtocol, load_site_protocol
from planning.volume import Grid

PROTOCOL = load_site_protocol("head-and-neck")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return read_case(make_case(tmp_path_factory.mktemp("phantom") / "case").folder)


def built(
    case: Case, *, target: str | None = None, margin_mm: float = 5.0, rules: SiteProtocol = PROTOCOL
) -> Anatomy:
    return build_anatomy(case, rules, target=target, margin_mm=margin_mm)


def with_only(case: Case, *names: str) -> Case:
    return dataclasses.replace(case, structures=tuple(s for s in case.structures if s.name in names))


def with_structure(case: Case, name: str, contours: list[np.ndarray], kind: str = "ORGAN") -> Case:
    added = Structure(name, len(case.structures) + 1, kind, tuple(contours))
    return dataclasses.replace(case, structures=(*case.structures, added))


def refusal(case: Case, **asked: object) -> str:
    with pytest.raises(AskedWrongly) as caught:
        built(case, **asked)
    return str(caught.value)


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """Dice's coefficient."""
    return float(2.0 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 2.5), (0.9, 1.1, 5.0), (2.0, 2.0, 1.25)])
def test_the_ctv_is_the_gtv_grown_by_the_margin_in_three_dimensions(
    case: Case, spacing_mm: tuple[float, float, float]
) -> None:
    shape = tuple(int(n / d) for n, d in zip((100, 90, 90), spacing_mm[::-1], strict=True))
    grid = Grid(shape, (-40.0, -42.0, -50.0), spacing_mm)
    ct = dataclasses.replace(case.ct, grid=grid, hu=np.full(shape, 30, dtype=np.int16))
    centre = np.array([5.3, 1.7, float(grid.centres_mm(2)[shape[0] // 2])])
    only = with_structure(Case(ct, (), "1"), "GTV", ball(grid.centres_mm(2), *centre, 14.0), "GTV")
    anatomy = built(only, margin_mm=6.0)
    x, y, z = np.meshgrid(*(grid.centres_mm(axis) for axis in (0, 1, 2)), indexing="ij")
    away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).T
    # Slices of a ball tell its ends only to within the slice spacing; elsewhere the fine lattice decides.
    slack = 0.3 + 0.3 * spacing_mm[2]
    assert anatomy.ctv[away < 20.0 - slack].all()
    assert not anatomy.ctv[away > 20.0 + slack].any()
    assert anatomy.ctv.sum() * grid.voxel_cc == pytest.approx(4 / 3 * np.pi * 2.0**3, rel=0.05)
    assert not (anatomy.gtv & ~anatomy.ctv).any()


def test_no_margin_gives_the_gtv_and_the_ctv_stays_inside_the_body(case: Case) -> None:
    bare = built(case, margin_mm=0.0)
    np.testing.assert_array_equal(bare.ctv, bare.gtv)
    wide = built(case, margin_mm=25.0)
    assert not (wide.ctv & ~wide.body).any()
    assert distance_mm(wide.gtv, wide.grid, box_of(wide.ctv, wide.grid)).min() == 0.0


def test_roles_and_clearances_come_from_the_protocol(case: Case) -> None:
    z = case.ct.grid.centres_mm(2)
    more = with_structure(case, "LeftParotid", tube(z[10:20], -30, 0, 8, 8))
    more = with_structure(more, "PTV60", tube(z[10:20], 30, 0, 20, 20), "PTV")
    more = with_structure(more, "Avoid_me", tube(z[10:20], -30, 20, 4, 4), "CONTROL")
    more = with_structure(more, "CORD_PRV", tube(z[10:20], 0, 32, 8, 8), "CONTROL")
    anatomy = built(more)
    assert set(anatomy.organs) == {"SpinalCord", "Bone", "Airway", "LeftParotid", "CORD_PRV", "Skin"}
    assert anatomy.forbidden == dict.fromkeys(("SpinalCord", "Bone", "Airway", "CORD_PRV"), 5.0)
    assert set(anatomy.dose_limited) == {"LeftParotid", "Skin"}
    assert anatomy.derived == ("Skin",)
    assert anatomy.target_name == "GTV"


def test_what_nobody_drew_is_found_in_the_ct(case: Case) -> None:
    drawn, found = built(case), built(with_only(case, "GTV"))
    assert found.derived == ("Bone", "Airway", "Skin")
    assert set(found.forbidden) == {"Bone", "Airway"}
    assert alike(found.body, drawn.body) > 0.98
    for name in ("Bone", "Airway"):
        assert alike(found.organs[name], drawn.organs[name]) > 0.95


def test_a_couch_is_no_part_of_the_body(case: Case) -> None:
    hu = case.ct.hu.copy()
    y, x = np.meshgrid(case.ct.grid.centres_mm(1), case.ct.grid.centres_mm(0), indexing="ij")
    hu[:, (y > 64) & (y < 68)] = -50  # a plate 8 mm below the back
    hu[:, (np.abs(x) > 68) & (y > 0)] = 200
    body = body_of(dataclasses.replace(case.ct, hu=hu), -300.0)
    assert alike(body, built(case).body) > 0.98
    assert not body[:, y > 62].any()


def test_the_skin_is_the_outer_shell(case: Case) -> None:
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.normal(size=(12, 40, 44)), 4) > 0
    grid = Grid((12, 40, 44), (0.0, 0.0, 0.0), (0.9, 1.1, 2.5))
    beyond = np.pad(mask, 12, mode="constant", constant_values=True)
    depth = ndimage.distance_transform_edt(beyond, sampling=(2.5, 1.1, 0.9))[12:-12, 12:-12, 12:-12]
    np.testing.assert_array_equal(skin_of(mask, grid, 5.0), mask & (depth <= 5.0))
    anatomy = built(with_structure(case, "Skin", tube(case.ct.grid.centres_mm(2), 0, 0, 64, 56)))
    assert anatomy.derived == ("Skin",)  # the drawn one is the whole body
    assert anatomy.organs["Skin"].sum() < 0.3 * anatomy.body.sum()


def test_distances_are_exact_within_reach() -> None:
    rng = np.random.default_rng(1)
    grid = Grid((20, 30, 26), (0.0, 0.0, 0.0), (1.2, 0.8, 2.5))
    mask = rng.random(grid.shape) > 0.997
    box = (slice(5, 12), slice(8, 20), slice(3, 15))
    whole = ndimage.distance_transform_edt(~mask, sampling=(2.5, 0.8, 1.2))[box]
    part = distance_mm(mask, grid, box, reach_mm=6.0)
    np.testing.assert_allclose(part[whole <= 6.0], whole[whole <= 6.0], rtol=1e-6)
    assert (part[whole > 6.0] > 6.0).all()
    assert np.isinf(distance_mm(np.zeros_like(mask), grid, box)).all()


def test_the_target_is_found_by_name_then_by_type(case: Case) -> None:
    z = case.ct.grid.centres_mm(2)
    renamed = dataclasses.replace(
        case,
        structures=tuple(
            dataclasses.replace(s, name="Tumour left") if s.name == "GTV" else s for s in case.structures
        ),
    )
    assert built(renamed).target_name == "Tumour left"
    assert built(renamed, target="tumour LEFT").target_name == "Tumour left"
    lower = with_structure(renamed, "gtv", ball(z, -30, -10, 0, 9))
    assert built(lower).target_name == "gtv"
    two = with_structure(renamed, "GTVnode", ball(z, -30, -10, 0, 9), "GTV")
    message = refusal(two)
    assert "Tumour left" in message
    assert "GTVnode" in message
    assert "SpinalCord" in message
    assert "--target" in message
    assert "Airway" in refusal(case, target="Nodule")


def test_targets_that_cannot_be_planned(case: Case) -> None:
    z = case.ct.grid.centres_mm(2)
    others = with_only(case, "External", "SpinalCord", "Bone", "Airway")
    assert "empty" in refusal(with_structure(others, "GTV", []))
    assert "outside the CT" in refusal(with_structure(others, "GTV", ball(z, 68, 0, 0, 12)))
    assert "outside the CT" in refusal(with_structure(others, "GTV", tube(z + 30, 30, 0, 9, 9)))
    assert "too small" in refusal(with_structure(others, "GTV", [ring(30.0, 0.0, z[9], 0.1, 0.1)]))
    assert "leaves the scanned slices" in refusal(with_structure(others, "GTV", tube(z[1:9], 30, 0, 9, 9)))
    assert "outside the outline 'External'" in refusal(with_structure(others, "GTV", ball(z, 60, -50, 0, 9)))
    assert "margin" in refusal(case, margin_mm=-1.0)
    assert "margin" in refusal(case, margin_mm=float("nan"))


def test_air_can_be_left_out_of_the_ctv(case: Case) -> None:
    near_air = with_structure(
        with_only(case, "Airway"), "GTV", ball(case.ct.grid.centres_mm(2), 14, -5, 0, 8)
    )
    with_air = built(near_air)
    rules = dataclasses.replace(
        PROTOCOL, derived=dataclasses.replace(PROTOCOL.derived, ctv_excludes_airway=True)
    )
    without = built(near_air, rules=rules)
    assert (with_air.ctv & with_air.organs["Airway"]).any()
    np.testing.assert_array_equal(without.ctv, with_air.ctv & (with_air.gtv | ~with_air.organs["Airway"]))


@pytest.mark.parametrize(
    ("position", "towards"),
    [("HFS", (0, 1, 0)), ("FFS", (0, 1, 0)), ("HFP", (0, -1, 0)), ("HFDR", (-1, 0, 0)), ("FFDL", (1, 0, 0))],
)
def test_the_couch_is_where_the_patient_lies(position: str, towards: tuple[int, int, int]) -> None:
    assert tuple(couch_direction(position)) == towards


def test_the_example_has_the_volumes_its_readme_states() -> None:
    anatomy = built(read_case(Path(__file__).parents[1] / "examples" / "hn-recurrence"))
    stated = {"SpinalCord": 10.7, "Airway": 25.9, "Mandible": 44.2, "Brainstem": 10.4}
    stated |= {"LeftParotid": 37.9, "RightParotid": 32.3}
    for name, volume_cc in stated.items():
        assert anatomy.organs[name].sum() * anatomy.grid.voxel_cc == pytest.approx(volume_cc, abs=0.06)
    assert anatomy.gtv.sum() * anatomy.grid.voxel_cc == pytest.approx(19.1, abs=0.06)
