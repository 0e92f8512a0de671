"""The simulated scanner: geometry against formulas, metal against published figures, files against the standard."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from needle_forest import starved, twelve_shafts
from phantom_ct import RADIUS_MM, write_phantom
from scipy.ndimage import center_of_mass, map_coordinates

from simulator.error_population import ErrorPopulation
from simulator.metal import Rods, rods_of, view_angles
from simulator.patient import Patient
from simulator.projection import Body, Detector, Matter, metal_sinogram
from simulator.reconstruction import MetalImager, table_of
from simulator.scanner import ScanRequest, scan
from simulator.template_body import TemplateBody

POSE = np.array([[0, 0, 1, -100], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float)
NOTHING = np.zeros((0, 3))
PIXEL_MM = 1.0
SHAPE = (140, 150)
CENTRE = np.array([75.0, 70.0, 0.0])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("case") / "ct")


def read_series(folder: Path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    images = sorted(
        (pydicom.dcmread(path) for path in folder.iterdir()), key=lambda i: float(i.ImagePositionPatient[2])
    )
    return np.array(
        [i.pixel_array * float(i.RescaleSlope) + float(i.RescaleIntercept) for i in images]
    ), images


def place_mm(images: list[pydicom.Dataset], index: tuple[float, ...]) -> np.ndarray:
    """Patient point of array index (z, y, x) of a head-first supine series."""
    first = np.array(images[0].ImagePositionPatient, dtype=float)
    step_z = float(images[1].ImagePositionPatient[2]) - first[2]
    dy, dx = (float(v) for v in images[0].PixelSpacing)
    return first + np.array([index[2] * dx, index[1] * dy, index[0] * step_z])


def slice_hu(rods: Rods, thickness_mm: float, w_mm: float = 0.0) -> np.ndarray:
    imager = MetalImager(rods, SHAPE, (PIXEL_MM, PIXEL_MM), thickness_mm)
    body_mm = imager.body_mm(np.zeros(SHAPE, dtype=np.float32))
    return imager.excess_hu(w_mm, body_mm, np.random.default_rng(0))


def lying_needle(tilt_deg: float = 0.7) -> Rods:
    slope = np.tan(np.radians(tilt_deg))
    along = np.array([50.0, -50.0])
    ends = CENTRE + np.column_stack([along, 0.02 * along, slope * along * 0.3])
    return rods_of([ends], NOTHING, NOTHING)


def crossing_needle() -> Rods:
    return rods_of([CENTRE + np.array([[0.0, 0.0, -50.0], [0.0, 0.0, 50.0]])], NOTHING, NOTHING)


def width_mm(image: np.ndarray, column: float) -> float:
    rows = np.arange(60.0, 80.0, 0.05)
    line = map_coordinates(image, [rows, np.full_like(rows, column)], order=1)
    return 0.05 * float(np.sum(line > line.max() / 2.0))


def test_chords_are_those_of_a_cylinder() -> None:
    # without scatter, for rays side by side and one line of the spectrum that water doesn't weaken
    def measured(rods: Rods, w_mm: float, theta: float, t_mm: float) -> float:
        one, noise = np.ones(1), np.zeros((1, 5), dtype=np.float32)
        no_body = np.zeros((1, 2), dtype=np.float32)
        sinogram = metal_sinogram(
            *(table_of(rods), np.array([[w_mm]]), np.array([np.cos(theta)]), np.array([np.sin(theta)])),
            Detector(t_mm, 1e-6, 5, 1),
            Body(no_body, no_body, 0.0, 100.0),
            Matter(one, 0.0 * one, 0.0 * one, np.ones((3, 1))),
            *(0.0, 1e9, noise),
        )
        return float(sinogram[0, 2])

    radius = 0.635
    across = rods_of([np.array([[0.0, 0.0, -9.0], [0.0, 0.0, 9.0]])], NOTHING, NOTHING)
    for t in (0.0, 0.3, 0.6, 0.7):
        chord = 2.0 * np.sqrt(max(0.0, radius**2 - t**2))
        assert measured(across, 1.0, 0.4, t) == pytest.approx(chord, abs=1e-4)
    lying = rods_of([np.array([[-4.0, 0.0, 0.0], [4.0, 0.0, 0.0]])], NOTHING, NOTHING)
    assert measured(lying, 0.2, np.pi / 2, 0.1) == pytest.approx(8.0, abs=1e-4)  # along it, from end to end
    assert measured(lying, 0.5, 0.0, 1.0) == pytest.approx(2.0 * np.sqrt(radius**2 - 0.25), abs=1e-4)
    assert measured(lying, 0.5, 0.0, 4.1) == 0.0
    assert measured(lying, 0.7, 0.0, 1.0) == 0.0


def test_the_views_cover_a_half_turn_and_are_densest_along_the_needle() -> None:
    angles, shares = view_angles(lying_needle())
    assert np.sum(shares) == pytest.approx(np.pi)
    assert np.all(np.diff(angles) > 0.0)
    along = np.radians(90.0 + np.degrees(np.arctan(0.02)))  # the rays of this view run along the needle
    assert np.diff(angles)[np.argmin(np.abs(angles - along))] == pytest.approx(np.radians(0.25))


def test_a_needle_across_the_slice_looks_as_published() -> None:
    image = slice_hu(crossing_needle(), 1.25)
    assert 6000.0 < image.max() < 16000.0  # 6-16 kHU
    assert np.unravel_index(np.argmax(image), SHAPE) == (70, 75)
    assert 1.4 < width_mm(image, 75.0) < 2.1  # 1.5-1.7 mm


@pytest.mark.parametrize(
    ("thickness_mm", "low_hu", "high_hu"),
    [(1.25, 3000.0, 6500.0), (2.5, 1300.0, 2600.0), (5.0, 250.0, 1200.0)],
)
def test_a_needle_in_the_slice_fades_as_published(thickness_mm: float, low_hu: float, high_hu: float) -> None:
    # 4200-6000 HU at 1.25 mm, 1300-2100 at 2.5, about 570 at 5
    image = slice_hu(lying_needle(), thickness_mm)
    assert low_hu < np.median(image[65:76, 40:110].max(axis=0)) < high_hu


def test_seeds_in_chains_look_as_published() -> None:
    # 4100 HU at 1.25 mm, 2200 at 2.5, 1200 at 5; they lie anywhere among the pixels and within the slice
    random = np.random.default_rng(1)
    places = np.array(
        [(x, y, 0.0) for y in (-28.0, -14.0, 0.0, 14.0, 28.0) for x in np.arange(-15.0, 16.0, 5.0)]
    )
    centres = CENTRE + places + random.uniform(-0.5, 0.5, places.shape)
    seeds = rods_of([], centres, np.tile((1.0, 0.0, 0.0), (len(centres), 1)))
    for thickness_mm, low_hu, high_hu in (
        (1.25, 3000.0, 6500.0),
        (2.5, 1400.0, 3000.0),
        (5.0, 600.0, 1500.0),
    ):
        image = slice_hu(seeds, thickness_mm)
        peaks = [image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].max() for x, y, _ in centres]
        assert low_hu < np.median(peaks) < high_hu


def test_a_dark_flame_stands_before_the_tip() -> None:
    image = slice_hu(lying_needle(), 1.25)
    assert image[69:74, 128:134].min() < -300.0
    assert np.abs(image[40:60, 128:134].mean()) < 100.0  # and not beside it


def test_parallel_needles_starve_each_other() -> None:
    # of 12 needles 4 fall to <= 400 HU (1.25 mm), and in 7 the level halves somewhere on the shaft (2.5 mm)
    shafts = twelve_shafts(CENTRE)
    heights = np.arange(-16.0, 16.0, 2.5)
    together = rods_of([shaft[::5] for shaft in shafts], NOTHING, NOTHING)
    stack = np.array([slice_hu(together, 2.5, w) for w in heights])
    assert 3 <= starved(stack, heights, shafts) <= 10


def test_metal_lies_where_it_truly_is_in_the_written_images(tmp_path: Path) -> None:
    write_phantom(tmp_path / "ct", rows=150, columns=160, pixel_mm=1.0)
    patient = Patient(tmp_path / "ct", POSE, ErrorPopulation(), 6)
    patient.insert("N01", 3.0, 0.0, 92.0)
    for _ in range(3):
        patient.retract("N01", 7.5)
        patient.drop_seed("N01")
    patient.retract("N01", 300.0)
    patient.release()
    scan(patient, tmp_path / "s", ScanRequest(1))
    hu, images = read_series(tmp_path / "s")
    scanner_from_patient = patient.scanner_from_patient(1)
    for seed in patient.true_seeds:
        truth = scanner_from_patient[:3, :3] @ seed.centre_mm + scanner_from_patient[:3, 3]
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in hu.shape), indexing="ij"), axis=-1)
        points = np.array(images[0].ImagePositionPatient, dtype=float) + grid[..., ::-1] * (1.0, 1.0, 1.25)
        near = np.linalg.norm(points - truth, axis=-1) < 4.0
        blob = np.where(near, np.maximum(hu - 600.0, 0.0), 0.0)
        assert blob.max() > 1000.0
        assert np.linalg.norm(place_mm(images, center_of_mass(blob)) - truth) < 0.6


def test_the_anatomy_moves_with_the_couch_and_the_identity_stays(case: Path, tmp_path: Path) -> None:
    patient = Patient(case, POSE, ErrorPopulation(couch_translation_sigma_mm=3.0), 9)
    planning = next(iter(sorted(case.iterdir())))
    planned = pydicom.dcmread(planning)
    for number in (1, 2):
        scan(patient, tmp_path / str(number), ScanRequest(number, 2.5, -20.0, 20.0))
        hu, images = read_series(tmp_path / str(number))
        assert len(images) == 16
        body = np.clip(hu + 1000.0, 0.0, 1040.0)
        centre = place_mm(images, center_of_mass(np.where(body > 150.0, body, 0.0)))
        moved = patient.scanner_from_patient(number)[:3, :] @ (0.0, 0.0, centre[2], 1.0)
        assert centre[:2] == pytest.approx(moved[:2], abs=0.3)
        assert np.sum(hu > -500.0) / len(hu) * 1.8**2 == pytest.approx(np.pi * RADIUS_MM**2, rel=0.02)
        for image in images:
            for name in ("PatientID", "PatientName", "FrameOfReferenceUID", "PatientPosition"):
                assert image.get(name) == planned.get(name)
            assert image.SeriesInstanceUID != planned.SeriesInstanceUID
            assert "APPROXIMATE" in image.ImageType
    uids = {pydicom.dcmread(p).SOPInstanceUID for n in "12" for p in (tmp_path / n).iterdir()}
    assert len(uids) == 32
    assert all(len(u) <= 64 and u.startswith("2.25.") for u in uids)


def test_noise_and_clip_are_those_of_a_scanner(case: Path, tmp_path: Path) -> None:
    patient = Patient(case, POSE, ErrorPopulation.perfect(), 1)
    patient.insert("N01", 0.0, 20.6, 95.0)  # in the middle of a slice
    scan(patient, tmp_path / "clipped", ScanRequest(1, 1.25, 10.0, 25.0))
    scan(patient, tmp_path / "whole", ScanRequest(1, 1.25, 10.0, 25.0, extended_hu=True))
    clipped, _ = read_series(tmp_path / "clipped")
    whole, _ = read_series(tmp_path / "whole")
    assert clipped.min() >= -1024.0
    assert clipped.max() == 3071.0
    assert whole.max() > 3500.0
    assert np.array_equal(clipped, np.minimum(whole, 3071.0))
    muscle = whole[0, 30:60, 35:65]
    assert muscle.mean() == pytest.approx(40.0, abs=3.0)
    assert 15.0 < muscle.std() < 25.0


def test_the_same_request_gives_the_same_bytes(case: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b", "c"):
        patient = Patient(case, POSE, ErrorPopulation(), 3)
        patient.insert("N01", 0.0, 0.0, 80.0)
        scan(patient, tmp_path / name, ScanRequest(1, 2.5, -10.0, 10.0, seed=8 if name == "c" else 7))
        digest = hashlib.sha256()
        for path in sorted((tmp_path / name).iterdir()):
            digest.update(path.read_bytes())
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_what_cannot_be_scanned_leaves_nothing_behind(case: Path, tmp_path: Path) -> None:
    patient = Patient(case, POSE, ErrorPopulation(), 3)
    with pytest.raises(ValueError, match="thickness"):
        scan(patient, tmp_path / "a", ScanRequest(1, 12.0))
    with pytest.raises(ValueError, match="no slice"):
        scan(patient, tmp_path / "a", ScanRequest(1, 1.25, 900.0, 950.0))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "something").write_text("kept")
    with pytest.raises(OSError, match="taken"):
        scan(patient, tmp_path / "taken", ScanRequest(1, 5.0))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken" / "something").read_text() == "kept"


@pytest.mark.parametrize(
    ("orientation", "position"),
    [((-1, 0, 0, 0, -1, 0), "HFP"), ((-1, 0, 0, 0, 1, 0), "FFS")],
)
def test_a_patient_who_lies_otherwise_is_scanned_so(
    tmp_path: Path, orientation: tuple[int, ...], position: str
) -> None:
    write_phantom(tmp_path / "ct", orientation=orientation, position=position, slices=10)
    patient = Patient(tmp_path, POSE, ErrorPopulation.perfect(), 1)
    patient.insert("N01", 12.0, 4.0, 95.0)
    patient.retract("N01", 10.0)
    centre = patient.drop_seed("N01").centre_mm
    patient.retract("N01", 300.0)
    scan(patient, tmp_path / "scan", ScanRequest(1, 1.25, 0.0, 8.0))
    brightest = max(
        (pydicom.dcmread(path) for path in (tmp_path / "scan").iterdir()),
        key=lambda i: int(i.pixel_array.max()),
    )
    row, column = np.unravel_index(int(np.argmax(brightest.pixel_array)), brightest.pixel_array.shape)
    across, down = np.array(brightest.ImageOrientationPatient, dtype=float).reshape(2, 3)
    found = np.array(brightest.ImagePositionPatient, dtype=float) + 1.8 * (column * across + row * down)
    assert brightest.PatientPosition == position
    assert np.abs(found - centre) == pytest.approx((0.0, 0.0, 0.0), abs=2.0)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_the_images_are_valid_ct_objects(case: Path, tmp_path: Path) -> None:
    patient = Patient(case, POSE, ErrorPopulation(), 3)
    scan(patient, tmp_path / "s", ScanRequest(1, 5.0, -6.0, 6.0))
    for path in (tmp_path / "s").iterdir():
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr


def test_the_template_and_its_balls_lie_where_the_rig_truly_is(tmp_path: Path) -> None:
    write_phantom(tmp_path / "ct", rows=150, columns=160, pixel_mm=1.0)
    patient = Patient(tmp_path / "ct", POSE, ErrorPopulation(), 6)
    skin = patient.skin_z_mm(0.0, 0.0)
    assert skin is not None
    balls = ((-15.0, -10.0, skin - 6.0), (14.0, -4.0, skin - 8.0), (-2.0, 12.0, skin - 7.0))
    body = TemplateBody(balls, 3.0, (-20.0, -14.0, skin - 9.0), (20.0, 16.0, skin - 5.0))
    scan(patient, tmp_path / "s", ScanRequest(1, template=body))
    scan(patient, tmp_path / "bare", ScanRequest(1))
    hu, images = read_series(tmp_path / "s")
    bare, _ = read_series(tmp_path / "bare")
    truth = patient.scanner_from_patient(1) @ patient.patient_from_rig_true
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in hu.shape), indexing="ij"), axis=-1)
    points = np.array(images[0].ImagePositionPatient, dtype=float) + grid[..., ::-1] * (1.0, 1.0, 1.25)
    for ball in balls:
        place = truth[:3, :3] @ ball + truth[:3, 3]
        near = np.linalg.norm(points - place, axis=-1) < 4.0
        blob = np.where(near, np.maximum(hu - 400.0, 0.0), 0.0)
        assert blob.max() > 1000.0
        assert np.linalg.norm(place_mm(images, center_of_mass(blob)) - place) < 0.4
    middle = truth[:3, :3] @ (5.0, 2.0, skin - 7.0) + truth[:3, 3]
    plastic = np.linalg.norm(points - middle, axis=-1) < 1.2
    assert hu[plastic].mean() == pytest.approx(120.0, abs=60.0)
    tissue = (bare > -200.0) & (hu < 500.0)
    assert np.abs(hu - bare)[tissue].max() < 400.0  # skin stays skin
    far = np.linalg.norm(points - middle, axis=-1) > 45.0
    assert np.array_equal(hu[far], bare[far])


def test_a_reduced_field_shows_the_same_in_the_same_place(case: Path, tmp_path: Path) -> None:
    patient = Patient(case, POSE, ErrorPopulation(), 3)
    patient.insert("N01", 0.0, 0.0, 80.0)
    scan(patient, tmp_path / "whole", ScanRequest(1, 2.5, -10.0, 10.0))
    scan(patient, tmp_path / "part", ScanRequest(1, 2.5, -10.0, 10.0, field_mm=(-40.0, 30.0, -20.0, 25.0)))
    whole, images = read_series(tmp_path / "whole")
    part, cut = read_series(tmp_path / "part")
    offset = place_mm(cut, (0.0, 0.0, 0.0)) - place_mm(images, (0.0, 0.0, 0.0))
    dy, dx = (float(v) for v in images[0].PixelSpacing)
    j, i = round(offset[1] / dy), round(offset[0] / dx)
    assert offset[:2] == pytest.approx((i * dx, j * dy), abs=1e-3)
    assert np.array_equal(part, whole[:, j : j + part.shape[1], i : i + part.shape[2]])
    assert part.shape[2] * dx == pytest.approx(70.0, abs=2 * dx)
    with pytest.raises(ValueError, match="field"):
        scan(patient, tmp_path / "none", ScanRequest(1, 2.5, field_mm=(900.0, 950.0, 0.0, 5.0)))


def test_a_breathing_patient_swings_along_the_couch(case: Path, tmp_path: Path) -> None:
    """A needle that climbs through the slices is shifted, slice by slice, by no more than the swing."""
    patient = Patient(case, POSE, ErrorPopulation.perfect(), 3)
    patient.insert("N01", 0.0, 0.0, 80.0)
    for name, breathing_mm in (("still", 0.0), ("calm", 0.0), ("swinging", 3.0)):
        scan(patient, tmp_path / name, ScanRequest(1, 1.25, -12.0, 12.0, breathing_mm=breathing_mm))
    still, images = read_series(tmp_path / "still")
    swinging, _ = read_series(tmp_path / "swinging")
    assert np.array_equal(still, read_series(tmp_path / "calm")[0])

    def middle_mm(hu: np.ndarray) -> float:
        bright = np.maximum(hu - 1000.0, 0.0)
        return float(place_mm(images, center_of_mass(bright))[2])

    assert 0.1 < abs(middle_mm(swinging) - middle_mm(still)) <= 3.5
