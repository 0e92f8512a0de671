"""RT objects as another program would read them: by the standard, not through our own readers alone."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from skimage.measure import grid_points_in_poly

from planning.dose import dose_on_grid_gy, grid_around
from planning.plan import Plan, PlannedNeedle, PlannedSeed, rounded_point
from planning.refusal import AskedWrongly
from planning.rt_objects import (
    MaskedStructure,
    Origin,
    read_rt_plan_seeds,
    write_rt_dose,
    write_rt_plan,
    write_rt_structures,
)
from planning.sources import load_source
from planning.volume import CtVolume, Grid

ORIGIN = Origin("a test", datetime(2026, 3, 4, 5, 6, 7))
GRID = Grid((24, 40, 44), (-43.0, -120.5, 700.25), (2.0, 2.0, 2.5))
TABLE = Path(__file__).parent.parent / "planning" / "data" / "sources" / "6711.json"


def uid(number: int) -> str:
    return f"1.2.826.0.1.3680043.8.498.{number}"


def ct_volume() -> CtVolume:
    return CtVolume(
        hu=np.zeros(GRID.shape, np.int16),
        grid=GRID,
        frame_of_reference_uid=uid(1),
        series_uid=uid(2),
        study_uid=uid(3),
        patient_id="P1",
        patient_name="Müller^Test",
        sop_uids=tuple(uid(100 + k) for k in range(GRID.shape[0])),
        slice_thickness_mm=2.5,
        attributes={"StudyDate": "20260101", "StudyTime": "101010", "StudyID": "1"},
    )


def two_needle_plan() -> Plan:
    needles, number = [], 0
    for k, (x, tilt) in enumerate(((-5.0, 0.0), (5.0, 0.2))):
        tip = np.array([x, -80.0, 732.0])
        direction = np.array([np.sin(tilt), 0.6 * np.cos(tilt), 0.8 * np.cos(tilt)])
        seeds = []
        for step in range(3):
            number += 1
            back = 4.5 + 5.0 * step
            seeds.append(PlannedSeed(number, rounded_point(tip - (back - 2.25) * direction), back))
        entry = rounded_point(tip - 30.0 * direction)
        needles.append(PlannedNeedle(f"N0{k + 1}", f"C{k}", entry, rounded_point(tip), None, tuple(seeds)))
    identity = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
    ct = ct_volume()
    return Plan(
        ct.patient_id, ct.patient_name, ct.study_uid, ct.series_uid, ct.frame_of_reference_uid,
        "GTV", 5.0, 120.0, "6711", 4.5, 59.4, 0.65, 0.65 * 1.27, "head-and-neck", "0" * 64, identity,
        tuple(needles),
    )  # fmt: skip


def ball(radius_mm: float, inner_mm: float = 0.0) -> np.ndarray:
    z, y, x = np.meshgrid(*(GRID.centres_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    r = np.sqrt(x**2 + (y + 82.0) ** 2 + (z - 730.0) ** 2)
    return (r <= radius_mm) & (r >= inner_mm)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rt")
    write_all(folder)
    return folder


def write_all(folder: Path) -> None:
    plan, ct = two_needle_plan(), ct_volume()
    masks = [MaskedStructure("CTV", "CTV", ball(15.0)), MaskedStructure("Shell", "ORGAN", ball(25.0, 16.0))]
    structures = write_rt_structures(folder / "rtstruct.dcm", masks, plan, ct, origin=ORIGIN)
    treatment = write_rt_plan(folder / "rtplan.dcm", plan, ct, origin=ORIGIN, structure_set_uid=structures)
    grid = grid_around(plan.seed_centres_mm(), 20.0, 2.0)
    dose = dose_on_grid_gy(
        load_source(), plan.seed_centres_mm(), plan.seed_directions(), plan.air_kerma_strength_u, grid
    )
    write_rt_dose(folder / "rtdose.dcm", dose, grid, ct, origin=ORIGIN, plan_uid=treatment)


def test_seeds_come_back(written: Path) -> None:
    plan, seeds = two_needle_plan(), read_rt_plan_seeds(written / "rtplan.dcm")
    assert np.array_equal(seeds.centres_mm, plan.seed_centres_mm())
    assert seeds.directions == pytest.approx(plan.seed_directions(), abs=1e-6)
    assert seeds.strength_u == pytest.approx(np.full(6, 0.8255))
    assert seeds.needles == ("N01",) * 3 + ("N02",) * 3
    assert (seeds.source_model, seeds.half_life_d) == ("6711", 59.4)
    assert seeds.strength_at == ORIGIN.made_at
    assert seeds.frame_of_reference_uid == uid(1)


def test_plan_is_laid_out_as_the_standard_says(written: Path) -> None:
    body = pydicom.dcmread(written / "rtplan.dcm")
    assert (body.BrachyTreatmentTechnique, body.PatientID) == ("PERMANENT", "P1")
    assert str(body.PatientName) == "Müller^Test"
    (setup,) = body.ApplicationSetupSequence
    (source,) = body.SourceSequence
    assert source.ActiveSourceLength == 3.0
    life_s = 59.4 * 86400 / np.log(2)
    assert setup.TotalReferenceAirKerma == pytest.approx(6 * 0.8255 * life_s / 3600, rel=1e-9)
    for channel in setup.ChannelSequence:
        points = channel.BrachyControlPointSequence
        assert channel.NumberOfControlPoints == len(points) == 2
        assert [p.CumulativeTimeWeight for p in points] == [0.0, channel.FinalCumulativeTimeWeight]
        assert points[0].ControlPoint3DPosition == points[1].ControlPoint3DPosition
        assert np.linalg.norm(points[0].ControlPointOrientation) == pytest.approx(1.0, abs=1e-6)
        assert channel.ChannelTotalTime == pytest.approx(life_s, rel=1e-9)
    names = {
        item.ROINumber: item.ROIName
        for item in pydicom.dcmread(written / "rtstruct.dcm").StructureSetROISequence
    }
    for channel in setup.ChannelSequence:
        assert names[channel.ReferencedROINumber] == f"Needle {channel.SourceApplicatorName}"
    numbers = [channel.ChannelNumber for channel in setup.ChannelSequence]
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_objects_refer_to_each_other_and_to_the_ct(written: Path) -> None:
    names = ("rtstruct", "rtplan", "rtdose")
    structures, plan, dose = (pydicom.dcmread(written / f"{name}.dcm") for name in names)
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    (frame,) = structures.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == uid(2)
    images = {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence}
    assert images == set(ct_volume().sop_uids)
    for each in (structures, plan, dose):
        assert (each.StudyInstanceUID, each.FrameOfReferenceUID) == (uid(3), uid(1))


def independent_dose_gy(body: pydicom.Dataset, points: np.ndarray) -> np.ndarray:
    """TG-43U1 2-D, written out again from the source's table and the RT Plan's tags alone."""
    table = json.loads(TABLE.read_text())
    g, f = table["radial_dose_function"], table["anisotropy_function"]
    source, length = body.SourceSequence[0], table["active_length_cm"]
    hours = float(source.SourceIsotopeHalfLife) * 24 / np.log(2)
    grids = [np.array(f["theta_deg"]), np.array(f["r_cm"]), np.array(f["value_by_theta"])]

    def line(along: np.ndarray, away: np.ndarray) -> np.ndarray:
        beta = np.arctan((along + length / 2) / away) - np.arctan((along - length / 2) / away)
        return beta / (length * away)

    total = np.zeros(len(points))
    for channel in body.ApplicationSetupSequence[0].ChannelSequence:
        point = channel.BrachyControlPointSequence[0]
        offset = (points - np.array(point.ControlPoint3DPosition, float)) / 10.0
        axis = np.array(point.ControlPointOrientation, float)
        r = np.linalg.norm(offset, axis=1)
        along = np.abs(offset @ axis)
        away = np.sqrt(np.maximum(r**2 - along**2, 1e-12))
        theta, radius = np.degrees(np.arccos(along / r)), np.clip(r, 0.5, 5.0)
        columns = [np.interp(theta, grids[0], column) for column in grids[2].T]
        f_value = np.array(
            [np.interp(q, grids[1], row) for q, row in zip(radius, np.transpose(columns), strict=True)]
        )
        radii, log_g = np.array(g["r_cm"]), np.log(g["value"])
        beyond = np.maximum(r - radii[-1], 0.0) * (log_g[-1] - log_g[-2]) / (radii[-1] - radii[-2])
        g_value = np.exp(np.interp(r, radii, log_g) + beyond)
        rate = line(along, away) / line(np.zeros(1), np.ones(1)) * g_value * f_value
        total += float(source.ReferenceAirKermaRate) * 0.965 * rate * hours / 100
    return total


def departure_of_the_written_dose(folder: Path, every: int = 1) -> np.ndarray:
    """Written RT Dose / the independent dose of the written RT Plan - 1, at every n-th voxel > 2.5 mm from any seed."""
    plan, dose = (pydicom.dcmread(folder / f"{name}.dcm") for name in ("rtplan", "rtdose"))
    assert (dose.DoseUnits, dose.DoseType, dose.DoseSummationType) == ("GY", "PHYSICAL", "PLAN")
    values = dose.pixel_array * float(dose.DoseGridScaling)
    z, y, x = np.unravel_index(np.arange(0, values.size, every), values.shape)
    row, column = (float(v) for v in dose.PixelSpacing)
    steps = np.stack([x * column, y * row, np.array(dose.GridFrameOffsetVector, float)[z]], axis=-1)
    points = np.array(dose.ImagePositionPatient, float) + steps
    channels = plan.ApplicationSetupSequence[0].ChannelSequence
    seeds = np.array([c.BrachyControlPointSequence[0].ControlPoint3DPosition for c in channels], dtype=float)
    nearest = np.linalg.norm(points[:, None] - seeds, axis=2).min(axis=1)
    outside = nearest > 2.5
    return values[z, y, x][outside] / independent_dose_gy(plan, points[outside]) - 1.0


def test_an_independent_tg43_on_the_written_plan_meets_the_written_dose(written: Path) -> None:
    departure = departure_of_the_written_dose(written)
    assert len(departure) > 10_000
    assert np.max(np.abs(departure)) < 0.01
    assert np.median(np.abs(departure)) < 2e-4


def test_contours_enclose_the_mask(written: Path) -> None:
    body = pydicom.dcmread(written / "rtstruct.dcm")
    names = [item.ROIName for item in body.StructureSetROISequence]
    assert names == ["CTV", "Shell", "Needle N01", "Needle N02"]
    ctv, shell, needle, _ = body.ROIContourSequence
    for region, mask in ((ctv, ball(15.0)), (shell, ball(25.0, 16.0))):
        drawn = np.zeros(GRID.shape, dtype=int)
        for contour in region.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            index = GRID.index_of(points)
            k = round(index[0, 0])
            assert ct_volume().sop_uids[k] == contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            # Drawn by another program's rule, and more than one contour per slice just added up.
            drawn[k] += grid_points_in_poly(GRID.shape[1:], index[:, 1:])
        assert np.array_equal(drawn, mask.astype(int))
    (line,) = needle.ContourSequence
    first = two_needle_plan().needles[0]
    assert line.ContourGeometricType == "OPEN_NONPLANAR"
    assert [float(v) for v in line.ContourData] == pytest.approx([*first.entry_mm, *first.tip_mm])


def test_same_origin_same_bytes(written: Path, tmp_path: Path) -> None:
    write_all(tmp_path)
    for name in ("rtstruct", "rtplan", "rtdose"):
        assert (tmp_path / f"{name}.dcm").read_bytes() == (written / f"{name}.dcm").read_bytes()
    other = Origin("another run", ORIGIN.made_at)
    changed = write_rt_plan(
        tmp_path / "b.dcm", two_needle_plan(), ct_volume(), origin=other, structure_set_uid=uid(9)
    )
    assert changed != pydicom.dcmread(written / "rtplan.dcm").SOPInstanceUID


def test_other_content_other_uid(tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    uids = {
        write_rt_dose(
            tmp_path / "d.dcm", np.full(grid.shape, v), grid, ct_volume(), origin=ORIGIN, plan_uid=uid(9)
        )
        for v in (1.0, 2.0, 0.0)
    }
    assert len(uids) == 3


def test_refusals_leave_nothing_behind(tmp_path: Path, written: Path) -> None:
    plan, ct = two_needle_plan(), ct_volume()
    grid = Grid((2, 2, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(AskedWrongly, match="not a number"):
        write_rt_dose(
            tmp_path / "d.dcm", np.full(grid.shape, np.nan), grid, ct, origin=ORIGIN, plan_uid=uid(9)
        )
    empty = MaskedStructure("CTV", "CTV", np.zeros(GRID.shape, bool))
    with pytest.raises(AskedWrongly, match="'CTV' is empty"):
        write_rt_structures(tmp_path / "s.dcm", [empty], plan, ct, origin=ORIGIN)
    with pytest.raises(AskedWrongly, match="can't be written"):
        write_rt_plan(tmp_path / "none" / "p.dcm", plan, ct, origin=ORIGIN, structure_set_uid=uid(9))
    assert not list(tmp_path.iterdir())
    with pytest.raises(AskedWrongly, match="not an RT Plan"):
        read_rt_plan_seeds(written / "rtdose.dcm")
    body = pydicom.dcmread(written / "rtplan.dcm")
    for channel in body.ApplicationSetupSequence[0].ChannelSequence:
        for point in channel.BrachyControlPointSequence:
            del point.ControlPointOrientation
    body.save_as(tmp_path / "p.dcm")
    with pytest.raises(AskedWrongly, match="orientation"):
        read_rt_plan_seeds(tmp_path / "p.dcm")


def dciodvfy_errors(path: Path, scratch: Path) -> list[str]:
    """What the judge says of one object; a 32-bit RT Dose is judged by a 16-bit twin."""
    body = pydicom.dcmread(path)
    if body.Modality == "RTDOSE":
        # dciodvfy 2022-06-18 aborts on any 32-bit pixel data (attrothr.cc:46).
        body.PixelData = body.pixel_array.astype("<u2").tobytes()
        body.BitsAllocated, body.BitsStored, body.HighBit = 16, 16, 15
    body.save_as(scratch / "judged.dcm")
    result = subprocess.run(["dciodvfy", scratch / "judged.dcm"], capture_output=True, text=True, check=False)
    errors = re.findall(r"^Error.*", result.stdout + result.stderr, flags=re.MULTILINE)
    return errors or ([] if result.returncode == 0 else [f"status {result.returncode}"])


needs_dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed"
)


@needs_dciodvfy
@pytest.mark.parametrize("name", ["rtstruct", "rtplan", "rtdose"])
def test_dciodvfy_finds_no_error(written: Path, tmp_path: Path, name: str) -> None:
    assert dciodvfy_errors(written / f"{name}.dcm", tmp_path) == []


def test_an_enhanced_ct_is_one_image(tmp_path: Path) -> None:
    ct = replace(ct_volume(), sop_uids=(uid(50),) * GRID.shape[0])
    write_rt_structures(
        tmp_path / "s.dcm",
        [MaskedStructure("CTV", "CTV", ball(15.0))],
        two_needle_plan(),
        ct,
        origin=ORIGIN,
    )
    body = pydicom.dcmread(tmp_path / "s.dcm")
    series = (
        body.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    )
    (image,) = series.ContourImageSequence
    assert image.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"
