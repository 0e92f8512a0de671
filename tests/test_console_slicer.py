"""The export for 3D Slicer: a small run written out and read back by others (pynrrd, trimesh, pydicom, a schema).

Slicer itself is not here. What is checked is what it would read: that a place in the patient is the same place in
every file, with numbers that no swapped axis, sign or direction leaves as they are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import nrrd
import numpy as np
import pydicom
import pytest
import trimesh
from made_dicom import make_case

from console.cli import main
from console.slicer.export import Exported, SlicerFolder
from console.slicer.markups import SCHEMA, ControlPoint, markup_text
from console.slicer.model import needle_surface, ply_bytes, surface_of
from console.slicer.volume import nrrd_bytes, tfm_bytes
from controller.journal import Journal
from planning.dicom import read_ct
from planning.frame import RigidTransform
from planning.plan import Plan
from planning.volume import Grid
from tests.made_plan import made_plan

POSE = RigidTransform.from_rotation_vector((12.0, -25.0, 40.0), (30.0, -80.0, 45.0))
GRID = Grid((5, 6, 7), (-10.0, 20.0, -30.0), (1.5, 2.0, 2.5))
MARKUP = {  # markups schema 1.0.3, the parts that are used here, in our own words
    "type": "object",
    "required": ["@schema", "markups"],
    "properties": {
        "@schema": {"const": SCHEMA},
        "markups": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["type", "coordinateSystem", "coordinateUnits", "controlPoints", "display"],
                "additionalProperties": False,
                "properties": {
                    "type": {"enum": ["Fiducial", "Line"]},
                    "name": {"type": "string"},
                    "coordinateSystem": {"enum": ["LPS", "RAS"]},
                    "coordinateUnits": {"enum": ["mm", "um"]},
                    "locked": {"type": "boolean"},
                    "fixedNumberOfControlPoints": {"type": "boolean"},
                    "controlPoints": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["label", "position", "positionStatus"],
                            "additionalProperties": False,
                            "properties": {
                                **{name: {"type": "string"} for name in ("id", "label", "description")},
                                "position": {
                                    "type": "array",
                                    "items": {"type": "number"},
                                    "minItems": 3,
                                    "maxItems": 3,
                                },
                                **{
                                    name: {"type": "boolean"} for name in ("selected", "locked", "visibility")
                                },
                                "positionStatus": {"enum": ["undefined", "preview", "defined"]},
                            },
                        },
                    },
                    "display": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            **{
                                name: {"type": "boolean"}
                                for name in (
                                    "visibility",
                                    "pointLabelsVisibility",
                                    "propertiesLabelVisibility",
                                )
                            },
                            **{
                                name: {
                                    "type": "array",
                                    "items": {"type": "number", "minimum": 0, "maximum": 1},
                                    "minItems": 3,
                                    "maxItems": 3,
                                }
                                for name in ("color", "selectedColor")
                            },
                            **{
                                name: {"type": "number", "minimum": 0} for name in ("textScale", "glyphScale")
                            },
                        },
                    },
                },
            },
        },
    },
}


def points_of(path: Path) -> dict[str, list[float]]:
    (markup,) = json.loads(path.read_text(encoding="utf-8"))["markups"]
    assert markup["coordinateSystem"] == "LPS"
    return {point["label"]: point["position"] for point in markup["controlPoints"]}


# --- single files -------------------------------------------------------------------------------------------------


def test_a_volume_is_where_its_registration_puts_it(tmp_path: Path) -> None:
    voxels = np.arange(GRID.shape[0] * GRID.shape[1] * GRID.shape[2], dtype=np.int16).reshape(GRID.shape)
    path = tmp_path / "v.nrrd"
    path.write_bytes(nrrd_bytes(voxels, GRID, POSE, "a title"))
    data, head = nrrd.read(str(path))  # index order x, y, z
    assert head["space"] == "left-posterior-superior"
    for x, y, z in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (2, 3, 1)):
        place = head["space origin"] + np.array([x, y, z]) @ head["space directions"]
        assert place == pytest.approx(POSE.apply(GRID.point_of((z, y, x))), abs=1e-5)
        assert data[x, y, z] == voxels[z, y, x]


def test_doses_and_masks_keep_their_values(tmp_path: Path) -> None:
    for kind in (np.float32, np.uint8, np.int16):
        voxels = (np.arange(210) % 200).astype(kind).reshape(GRID.shape)
        path = tmp_path / "v.nrrd"
        path.write_bytes(nrrd_bytes(voxels, GRID, RigidTransform.identity(), "x"))
        data, _ = nrrd.read(str(path))
        assert data.dtype == kind
        assert np.array_equal(data.T, voxels)


def test_a_transform_reads_as_itk_writes_it() -> None:
    lines = dict(line.split(": ", 1) for line in tfm_bytes(POSE).decode().splitlines() if ": " in line)
    assert lines["Transform"] == "AffineTransform_double_3_3"
    numbers = np.array(lines["Parameters"].split(), dtype=float)
    point = np.array([3.0, -4.0, 5.0])  # ITK: matrix by rows, then the translation; centre 0
    assert numbers[:9].reshape(3, 3) @ point + numbers[9:] == pytest.approx(POSE.apply(point))


def test_surfaces_are_closed_face_outwards_and_lie_on_their_mask(tmp_path: Path) -> None:
    z, y, x = np.indices((20, 24, 28))
    mask = ((x - 12) * 1.5) ** 2 + ((y - 10) * 2.0) ** 2 + ((z - 9) * 2.5) ** 2 < 12.0**2
    grid = Grid(mask.shape, (-10.0, 20.0, -30.0), (1.5, 2.0, 2.5))
    surface = surface_of(mask, grid)
    assert surface is not None
    path = tmp_path / "ball.ply"
    path.write_bytes(ply_bytes(surface, "LPS", "a ball"))
    assert b"comment SPACE=LPS\n" in path.read_bytes()[:200]
    ball = trimesh.load(path)
    assert ball.is_watertight
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 12.0**3, rel=0.03)  # not negative: not inside out
    assert ball.center_mass == pytest.approx(grid.point_of((9, 10, 12)), abs=0.1)
    whole = surface_of(np.ones((4, 4, 4), dtype=bool), grid)
    assert whole is not None
    assert trimesh.Trimesh(whole.points_mm, whole.triangles).is_watertight  # closed at the scan's edge too
    assert surface_of(np.zeros((4, 4, 4), dtype=bool), grid) is None


def test_a_needle_has_its_tip_at_its_origin() -> None:
    needle = needle_surface(150.0)
    solid = trimesh.Trimesh(needle.points_mm, needle.triangles)
    assert solid.is_watertight
    assert solid.volume > 0
    assert solid.bounds[:, 2] == pytest.approx([-150.0, 0.0])
    assert needle.points_mm[needle.points_mm[:, 2] > -1.0] == pytest.approx(np.zeros((1, 3)))


def test_a_markup_is_of_its_schema() -> None:
    points = [ControlPoint("N01", (1.0, -2.0, 3.00049), "hole A1"), ControlPoint("Ü", (0.0, 0.0, -0.0))]
    for kind in ("Line", "Fiducial"):
        text = markup_text(kind, "some", points, (0.1, 0.2, 0.3))  # type: ignore[arg-type]
        jsonschema.validate(json.loads(text), MARKUP)
    assert json.loads(text)["markups"][0]["controlPoints"][0]["position"] == [1.0, -2.0, 3.0]


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Plan]:
    """A small patient, a plan on him, and a journal of one CT of the needles and one of the seeds."""
    folder = tmp_path_factory.mktemp("run")
    case = make_case(tmp_path_factory.mktemp("case")).folder
    ct = read_ct(case)
    centre = ct.grid.point_of((np.array(ct.grid.shape) - 1) / 2)
    made = made_plan(2, 1, 2)
    shift = centre - np.mean([needle.tip_mm for needle in made.needles], axis=0)
    moved = RigidTransform(np.eye(3), shift)
    needles = tuple(
        replace(
            needle,
            entry_mm=_point(moved.apply(needle.entry_mm)),
            tip_mm=_point(moved.apply(needle.tip_mm)),
            seeds=tuple(replace(s, centre_mm=_point(moved.apply(s.centre_mm))) for s in needle.seeds),
        )
        for needle in made.needles
    )
    pose = moved @ made.planned_patient_from_rig()
    plan = replace(
        made,
        needles=needles,
        site_protocol="head-and-neck",
        frame_of_reference_uid=ct.frame_of_reference_uid,
        patient_id=ct.patient_id,
        patient_from_rig=tuple(tuple(float(v) for v in row) for row in pose.matrix()),
    )
    plan.save(folder / "plan.json")
    for number in (1, 2):
        make_case(folder / "scans" / f"0{number}", with_structures=False, seed=number)
    journal = Journal(folder / "journal.sqlite")
    for number, kind in ((1, "needles"), (2, "seeds")):
        journal.append(
            number, "intention", {"command": "RequestScan", "number": number, "scan": number, "kind": kind}
        )
        journal.append(number, "event", _scan(plan, number, kind))
    journal.close()
    return folder, case, plan


def _point(values: Any) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 3) for v in values)
    return x, y, z


SHIFT = RigidTransform.from_rotation_vector((1.0, 2.0, -3.0), (4.0, -5.0, 6.0))
"""plan_from_scan of the CTs: lop-sided."""


def _scan(plan: Plan, number: int, kind: str) -> dict[str, Any]:
    needles = [
        {
            "planned": n.name,
            "tip_mm": list(np.add(n.tip_mm, 1.0)),
            "direction": list(n.direction),
            "sigma_mm": 0.3,
        }
        for n in plan.needles
    ]
    seeds = [{"centre_mm": list(s.centre_mm), "direction": [0.0, 0.0, 1.0]} for s in plan.seeds]
    findings = {
        "kind": kind,
        "registration": {"succeeded": True, "plan_from_scan": SHIFT.matrix().tolist()},
        "needles": needles if kind == "needles" else [],
        "seeds": seeds if kind == "seeds" else [],
    }
    return {"event": "ScanAnalysed", "number": number, "folder": f"scans/0{number}", "findings": findings}


def test_a_run_is_written_whole_and_every_file_can_be_read(
    run: tuple[Path, Path, Plan],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, case, plan = run
    out = tmp_path / "slicer"
    asked = ["export", str(folder), "--slicer", str(out), "--case", str(case)]
    assert main(asked) == 0
    told = capsys.readouterr()
    assert str(out) in told.out
    assert "left out: template:" in told.err  # no skin of a head here for a template; said, not hidden
    volumes = {path.stem for path in (out / "volumes").iterdir()}
    assert volumes == {"00-planning-ct", "01-needles", "02-seeds", "dose-planned", "dose-delivered"}
    _, head = nrrd.read(str(out / "volumes" / "01-needles.nrrd"))
    rescan = read_ct(folder / "scans" / "01")
    assert head["space origin"] == pytest.approx(SHIFT.apply(rescan.grid.origin_mm), abs=1e-4)
    for path in (out / "models").iterdir():
        assert trimesh.load(path).volume > 0, path.name
    for path in (out / "markups").rglob("*.mrk.json"):
        jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), MARKUP)
    assert points_of(out / "markups" / "targets.mrk.json") == {n.name: list(n.tip_mm) for n in plan.needles}
    found = points_of(out / "markups" / "needles-found" / "N01.mrk.json")
    assert found["tip"] == pytest.approx(np.add(plan.needles[0].tip_mm, 1.0), abs=1e-3)
    assert len(points_of(out / "markups" / "seeds-found.mrk.json")) == len(plan.seeds)
    needles = trimesh.load(out / "models" / "needles-planned.ply")
    tips = np.array([n.tip_mm for n in plan.needles])
    assert np.linalg.norm(needles.vertices[:, None] - tips, axis=2).min(axis=0) == pytest.approx(
        [0, 0], abs=1e-3
    )
    files = [path for path in (out / "dicom").rglob("*") if path.is_file()]
    assert {str(pydicom.dcmread(path, stop_before_pixels=True).Modality) for path in files} == {
        "CT",
        "RTSTRUCT",
    }
    compile((out / "open_in_slicer.py").read_text(encoding="utf-8"), "open_in_slicer.py", "exec")
    assert main(asked) == 2
    assert "add --overwrite" in capsys.readouterr().err

    def broken(_folder: SlicerFolder) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SlicerFolder, "__init__", lambda *_: None)
    monkeypatch.setattr(SlicerFolder, "write", broken)
    assert main([*asked, "--overwrite"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert (out / "volumes").is_dir()  # the earlier one stays whole
    monkeypatch.setattr(SlicerFolder, "write", lambda _folder: Exported((), ()))
    assert main([*asked, "--overwrite"]) == 0
    assert not (out / "volumes").exists()
    assert not list(tmp_path.glob(".slicer.*"))  # nothing half-written beside it


def test_bad_input_is_one_sentence_and_leaves_nothing(
    run: tuple[Path, Path, Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, case, _ = run
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    for words, why in (
        ([str(tmp_path), "--slicer", str(tmp_path / "x")], "no run or plan of seedguide"),
        (
            [str(folder), "--slicer", str(tmp_path / "mine"), "--case", str(case), "--overwrite"],
            "no earlier export",
        ),
        ([str(folder), "--slicer", str(folder / "x"), "--case", str(case)], "lies in"),
        ([str(folder), "--slicer", str(case.parent), "--case", str(case)], "or holds it"),
        ([str(folder), "--slicer", str(tmp_path / "x"), "--case", str(tmp_path / "mine")], "no CT"),
    ):
        assert main(["export", *words]) == 2
        assert why in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
