"""The printed template: on the example, the made patient and made skins; refusals, and that checks see faults."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import trimesh
from conftest import PlannedCase
from made_plan import POSE, made_plan
from manifold3d import Manifold

from planning.plan import Plan, rounded_point
from planning.refusal import AskedWrongly
from planning.template import Template, make_template, write_template
from planning.template_check import check_file
from planning.template_file import read_stl, read_threemf, stl_bytes
from planning.template_font import text_strokes
from planning.template_guide import TemplateRules
from planning.template_rays import crossings
from planning.template_solid import _without_crumbs
from planning.volume import Grid

GRID = Grid((70, 85, 85), (-40.0, -150.0, -30.0), (2.0, 2.0, 2.0))


def tilted_body(tilt_deg: float, radius_mm: float = np.inf, grid: Grid = GRID) -> np.ndarray:
    """A body whose skin passes through rig (0, 0, 20), leaning by ``tilt_deg``; flat, or a ball of this radius."""
    z, y, x = np.meshgrid(*(grid.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    rig = POSE.inverse().apply(np.stack((x, y, z), axis=-1).reshape(-1, 3))
    lean = np.radians(tilt_deg)
    inwards = np.array([np.sin(lean), 0.0, np.cos(lean)])
    if np.isinf(radius_mm):
        inside = (rig - [0.0, 0.0, 20.0]) @ inwards >= 0.0
    else:
        centre = np.array([0.0, 0.0, 20.0]) + radius_mm * inwards
        inside = np.linalg.norm(rig - centre, axis=1) <= radius_mm
    return inside.reshape(grid.shape)


def plan_on(tilt_deg: float, radius_mm: float = np.inf, columns: int = 3, rows: int = 2) -> Plan:
    """``made_plan`` with its entries moved along their needles onto the skin of ``tilted_body``."""
    plan = made_plan(columns, rows, 1)
    lean = np.radians(tilt_deg)
    needles = []
    for needle in plan.needles:
        x, y, _ = POSE.inverse().apply(needle.entry_mm)
        if np.isinf(radius_mm):
            z = 20.0 - x * np.tan(lean)
        else:
            centre = np.array([0.0, 0.0, 20.0]) + radius_mm * np.array([np.sin(lean), 0.0, np.cos(lean)])
            z = centre[2] - np.sqrt(radius_mm**2 - (x - centre[0]) ** 2 - (y - centre[1]) ** 2)
        needles.append(replace(needle, entry_mm=rounded_point(POSE.apply([x, y, z]))))
    return replace(plan, needles=tuple(needles))


@pytest.fixture(scope="module")
def example(example_plan: PlannedCase) -> Template:
    anatomy = example_plan.anatomy
    return make_template(example_plan.result.plan, anatomy.body, anatomy.grid)


@pytest.fixture(scope="module")
def flat() -> Template:
    return make_template(plan_on(0.0), tilted_body(0.0), GRID)


def part_of(template: Template) -> trimesh.Trimesh:
    found = trimesh.load_mesh(io.BytesIO(template.stl), file_type="stl")
    assert isinstance(found, trimesh.Trimesh)
    return found


def test_the_examples_file_is_one_watertight_body_with_a_hole_for_each_needle(example: Template) -> None:
    part = part_of(example)
    assert part.is_watertight
    assert part.is_winding_consistent
    assert part.volume > 0.0
    assert 1 - part.euler_number // 2 == len(example.guides)
    assert np.ptp(part.bounds, axis=0).max() < 200.0


def test_the_examples_bores_lead_the_planned_needles(example: Template, example_plan: PlannedCase) -> None:
    plan = example_plan.result.plan
    rig_from_patient = plan.planned_patient_from_rig().inverse()
    for needle, guide in zip(plan.needles, example.guides, strict=True):
        entry, tip = rig_from_patient.apply([needle.entry_mm, needle.tip_mm])
        assert np.linalg.norm(np.cross(entry - guide.top_mm, guide.direction)) < 0.005
        assert np.linalg.norm(np.cross(tip - guide.top_mm, guide.direction)) < 0.005
        assert example.guide_lengths_mm[needle.name] >= 19.9
        assert guide.play_deg(example.rules) <= 0.5


def test_the_part_keeps_its_gap_from_the_body(example: Template, example_plan: PlannedCase) -> None:
    # No corner lies deeper in the body than what smoothing the voxels' stairs moves the skin by.
    from scipy.ndimage import distance_transform_edt, map_coordinates

    anatomy = example_plan.anatomy
    patient = example.patient_from_rig.apply(example.solid.vertices_mm)
    index = anatomy.grid.index_of(patient).T
    seen = (index[0] >= 0) & (index[0] <= anatomy.grid.shape[0] - 1)
    depth = distance_transform_edt(anatomy.body, sampling=anatomy.grid.spacing_mm[::-1])
    assert np.percentile(map_coordinates(depth, index[:, seen], order=1), 99.5) < 2.5


def test_a_made_patient_gets_a_template(phantom_plan: PlannedCase, tmp_path: Path) -> None:
    anatomy = phantom_plan.anatomy
    template = make_template(phantom_plan.result.plan, anatomy.body, anatomy.grid)
    paths = write_template(template, tmp_path)
    assert np.array_equal(read_threemf(paths["3mf"].read_bytes()), read_stl(paths["stl"].read_bytes(), "stl"))
    with zipfile.ZipFile(paths["3mf"]) as package:
        assert b'unit="millimeter"' in package.read("3D/3dmodel.model")
    about = json.loads(paths["json"].read_text())
    assert about["plan_content_hash"] == phantom_plan.result.plan.content_hash
    assert [n["hole"] for n in about["needles"]] == [n.hole for n in phantom_plan.result.plan.needles]
    rig = np.array([ball["centre_rig_mm"] for ball in about["fiducials"]])
    patient = np.array([ball["centre_patient_mm"] for ball in about["fiducials"]])
    np.testing.assert_allclose(template.patient_from_rig.apply(rig), patient, atol=0.002)


@pytest.mark.parametrize("tilt", [0.0, 40.0])
def test_steep_skin_gets_the_rim_it_needs(tilt: float) -> None:
    template = make_template(plan_on(tilt), tilted_body(tilt), GRID)
    assert (template.rules.rim_mm > TemplateRules().rim_mm) == (tilt > 30.0)
    if tilt > 30.0:
        asked = TemplateRules(widest_rim_mm=TemplateRules().rim_mm)
        with pytest.raises(AskedWrongly, match="rim"):
            make_template(plan_on(tilt), tilted_body(tilt), GRID, asked)


@pytest.mark.parametrize(("tilt", "radius"), [(0.0, np.inf), (25.0, np.inf), (20.0, 60.0)])
def test_skins_that_lean_or_bend_get_templates(tilt: float, radius: float) -> None:
    template = make_template(plan_on(tilt, radius), tilted_body(tilt, radius), GRID)
    part = part_of(template)
    assert part.is_watertight
    assert 1 - part.euler_number // 2 == 6
    if np.isinf(radius):
        angles = [guide.skin_angle_deg for guide in template.guides]
        np.testing.assert_allclose(np.mean(angles), tilt, atol=5.0)  # voxels of 2 mm leave waves


def test_a_flat_skin_is_kept_off_by_the_gap_and_the_shell_has_its_thickness(flat: Template) -> None:
    corners = read_stl(flat.stl, "stl")
    where = np.array([[x, y, -60.0] for x in (-19.0, 0.0, 21.0) for y in (-13.0, 14.0)])
    count, first, second = crossings(corners, where, np.tile([0.0, 0.0, 1.0], (len(where), 1)), 120.0)
    plain = count == 2
    assert plain.sum() >= 3
    np.testing.assert_allclose(second[plain] - 60.0, 20.0 - 0.3, atol=0.3)
    assert np.median(second[plain] - first[plain]) == pytest.approx(2.5, abs=0.15)


def test_balls_lie_in_open_sockets_and_cannot_be_confused(example: Template, flat: Template) -> None:
    for template in (example, flat):
        balls = template.layout.balls_mm
        assert len(balls) >= 3
        i, j = np.triu_indices(len(balls), 1)
        apart = np.sort(np.linalg.norm(balls[i] - balls[j], axis=1))
        assert np.diff(apart).min() >= 2.0 - 1e-2
        assert np.linalg.svd(balls - balls.mean(axis=0), compute_uv=False)[1] > 10.0
        corners = read_stl(template.stl, "stl")
        down = np.tile([0.0, 0.0, 1.0], (len(balls), 1))
        count, _, _ = crossings(corners, balls - [0.0, 0.0, 80.0], down, 80.0 + 1.5)
        assert not count.any()
        count, first, second = crossings(corners, balls, down, 60.0)
        assert (count == 2).all()
        np.testing.assert_allclose(first, 1.55, atol=0.05)
        assert (second - first).min() > 1.0


def test_laser_crosses_lie_in_the_patients_planes(example: Template) -> None:
    layout = example.layout
    assert len(layout.crosses) >= 2
    assert len(layout.laser_planes) == 2
    for cross in layout.crosses:
        middle = example.patient_from_rig.apply(cross.middle_mm)
        for axis, value, _ in cross.planes:
            assert abs(middle[axis] - value) < 0.8
        axis, value, _ = cross.planes[0]
        assert layout.laser_planes[axis] == value


def test_five_millimetre_neighbours_keep_their_walls() -> None:
    plan = plan_on(10.0)
    first = plan.needles[0]
    shift = POSE.turn([5.0, 0.0, 0.0])
    lean = POSE.turn([0.0, 0.0, -5.0 * np.tan(np.radians(10.0))])
    beside = replace(
        first,
        name="N99",
        hole="B9",
        entry_mm=rounded_point(first.entry_mm + shift + lean),
        tip_mm=rounded_point(first.tip_mm + shift),
    )
    template = make_template(replace(plan, needles=(*plan.needles, beside)), tilted_body(10.0), GRID)
    assert part_of(template).is_watertight


def test_needles_too_close_are_named() -> None:
    plan = plan_on(0.0)
    first = plan.needles[0]
    shift = POSE.turn([2.0, 0.0, 0.0])
    near = replace(
        first,
        name="N99",
        entry_mm=rounded_point(first.entry_mm + shift),
        tip_mm=rounded_point(first.tip_mm + shift),
    )
    with pytest.raises(AskedWrongly, match=r"N01 .* and N99 .* 2.00 mm"):
        make_template(replace(plan, needles=(*plan.needles, near)), tilted_body(0.0), GRID)


def test_needles_off_the_skin_off_the_scan_or_too_short_are_named() -> None:
    plan = plan_on(0.0)
    first, *rest = plan.needles
    off = replace(first, entry_mm=rounded_point(POSE.apply([-10.0, -5.0, 30.0])))
    with pytest.raises(AskedWrongly, match="needle N01 lies more than 3 mm"):
        make_template(replace(plan, needles=(off, *rest)), tilted_body(0.0), GRID)
    with pytest.raises(AskedWrongly, match=r"too short for needles N01, N02"):
        make_template(plan, tilted_body(0.0), GRID, TemplateRules(needle_length_mm=100.0))
    with pytest.raises(AskedWrongly, match="skin"):
        make_template(plan, np.zeros(GRID.shape, dtype=bool), GRID)
    far = [
        replace(
            n,
            entry_mm=rounded_point(np.add(n.entry_mm, POSE.turn([move, 0, 0]))),
            tip_mm=rounded_point(np.add(n.tip_mm, POSE.turn([move, 0, 0]))),
        )
        for n, move in zip(plan.needles[:2], (-110.0, 110.0), strict=True)
    ]
    with pytest.raises(AskedWrongly, match="N01 and N02 enter 22"):
        make_template(replace(plan, needles=tuple(far)), tilted_body(0.0), GRID)


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        (TemplateRules(clearance_mm=0.3), "play"),
        (TemplateRules(guide_mm=10.0), "15 mm"),
        (TemplateRules(balls=2), "three"),
        (TemplateRules(shell_mm=0.0), "positive"),
    ],
)
def test_dimensions_that_do_not_fit_together_are_refused(rules: TemplateRules, word: str) -> None:
    with pytest.raises(AskedWrongly, match=word):
        make_template(plan_on(0.0), tilted_body(0.0), GRID, rules)


def test_the_self_check_sees_what_is_wrong_with_a_file(flat: Template) -> None:
    corners, guides, rules = read_stl(flat.stl, "stl"), list(flat.guides), flat.rules
    check_file(corners, guides, flat.solid.genus_uncut, rules)
    with pytest.raises(AskedWrongly, match="watertight"):
        check_file(corners[1:], guides, flat.solid.genus_uncut, rules)
    ball = trimesh.creation.icosphere(radius=1.0).triangles
    with pytest.raises(AskedWrongly, match="2 separate bodies"):
        check_file(
            np.concatenate((corners, ball + np.array([90.0, 90.0, 0.0]))),
            guides,
            flat.solid.genus_uncut,
            rules,
        )
    with pytest.raises(AskedWrongly, match="holes"):
        check_file(corners, guides[1:], flat.solid.genus_uncut, rules)
    moved = [replace(guides[0], top_mm=guides[0].top_mm + np.array([0.5, 0.0, 0.0])), *guides[1:]]
    with pytest.raises(AskedWrongly, match=r"bore of needle N01 .* is not open"):
        check_file(corners, moved, flat.solid.genus_uncut, rules)
    with pytest.raises(AskedWrongly, match="printer"):
        check_file(corners, guides, flat.solid.genus_uncut, replace(rules, printer_mm=(60.0, 60.0, 60.0)))
    with pytest.raises(AskedWrongly, match="not a whole binary STL"):
        read_stl(flat.stl[:-7], "cut.stl")


def test_the_same_plan_gives_the_same_bytes(flat: Template) -> None:
    again = make_template(plan_on(0.0), tilted_body(0.0), GRID)
    assert again.stl == flat.stl
    assert again.threemf == flat.threemf


def test_letters_stand_upright_about_their_middle_and_strange_ones_are_refused() -> None:
    lines = text_strokes("L1", 3.0)
    points = np.concatenate(lines)
    assert np.ptp(points[:, 1]) == pytest.approx(3.0)
    assert abs(points[:, 1].min() + points[:, 1].max()) < 1e-9
    corner = lines[0][1]
    assert corner[0] == points[:, 0].min()
    assert corner[1] == points[:, 1].min()
    assert all(len(line) > 1 for line in lines)
    assert all(np.linalg.norm(b - a) > 0.0 for line in lines for a, b in pairwise(line))
    with pytest.raises(AskedWrongly, match="can't be engraved"):
        text_strokes("Ä1", 3.0)


def test_rays_count_a_cubes_walls() -> None:
    cube = trimesh.creation.box((2.0, 2.0, 2.0)).triangles
    count, first, second = crossings(
        np.asarray(cube),
        np.array([[0.1, 0.2, -5.0], [0.0, 0.0, -5.0], [3.0, 0.0, -5.0]]),
        np.tile([0, 0, 1.0], (3, 1)),
        50.0,
    )
    assert count.tolist() == [2, 2, 0]
    np.testing.assert_allclose(first, [4.0, 4.0, np.inf])
    np.testing.assert_allclose(second, [6.0, 6.0, np.inf])
    one = stl_bytes(np.eye(3), np.array([[0, 1, 2]]), "one")
    np.testing.assert_array_equal(read_stl(one, "one"), np.eye(3)[None])


def test_crumbs_of_cutting_are_no_bodies_but_real_pieces_are() -> None:
    block = Manifold.cube((10.0, 10.0, 10.0))
    crumb = Manifold.cube((0.1, 0.1, 0.1)).translate((20.0, 0.0, 0.0))
    piece = Manifold.cube((2.0, 2.0, 2.0)).translate((20.0, 5.0, 0.0))
    assert _without_crumbs(block + crumb).genus() == 0
    assert len(_without_crumbs(block + crumb).decompose()) == 1
    assert len(_without_crumbs(block + crumb + piece).decompose()) == 2
