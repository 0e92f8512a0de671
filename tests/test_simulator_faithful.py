"""The faithful scanner mode: laws of attenuation and counting, published figures of metal, teeth, motion, files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from needle_forest import starved, twelve_shafts
from phantom_ct import write_phantom
from scipy.ndimage import map_coordinates

from simulator.benchtop import Benchtop
from simulator.ct_reader import PatientCt
from simulator.dental import DentalMetal, dental_metal_in, rods_of_dental
from simulator.error_population import ErrorPopulation
from simulator.faithful import VIEWS, FaithfulImager
from simulator.metal import AMALGAM, STEEL, Rods, rods_of
from simulator.patient import Patient
from simulator.projection import Body, Detector, Matter, intensities
from simulator.reconstruction import table_of
from simulator.scanner import ScanRequest, scan
from simulator.theatre import Theatre

POSE = np.array([[0, 0, 1, -100], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float)
NOTHING = np.zeros((0, 3))
PIXEL_MM = 1.0
SIDE = 170
MIDDLE = (SIDE - 1) / 2.0
CENTRE = np.array([MIDDLE, MIDDLE, 0.0])
STILL = np.zeros(VIEWS)


def water_hu(radius_mm: float = 80.0) -> np.ndarray:
    v, u = np.meshgrid(np.arange(SIDE) - MIDDLE, np.arange(SIDE) - MIDDLE, indexing="ij")
    return np.where(np.hypot(u, v) < radius_mm, 0.0, -1000.0).astype(np.float32)


def slice_hu(
    rods: Rods,
    thickness_mm: float,
    w_mm: float = 0.0,
    *,
    own: Rods | None = None,
    body_hu: np.ndarray | None = None,
    swing_mm: np.ndarray = STILL,
    seed: int = 0,
) -> np.ndarray:
    """What is added to the slice, noise too."""
    imager = FaithfulImager(
        rods, Rods.none() if own is None else own, (SIDE, SIDE), (PIXEL_MM, PIXEL_MM), thickness_mm
    )
    ways = imager.body_mm(water_hu() if body_hu is None else body_hu)
    return imager.added_hu(w_mm, ways, swing_mm, np.random.default_rng(seed))


def needle(y_mm: float = 0.0, tilt_deg: float = 0.7, length_mm: float = 100.0) -> np.ndarray:
    along = np.array([0.5, -0.5]) * length_mm
    slope = np.tan(np.radians(tilt_deg))
    return CENTRE + np.column_stack([along, y_mm + 0.02 * along, 0.3 * slope * along])


def lying(*shafts: np.ndarray) -> Rods:
    return rods_of(list(shafts), NOTHING, NOTHING)


def width_mm(image: np.ndarray, column: float) -> float:
    rows = np.arange(MIDDLE - 10.0, MIDDLE + 10.0, 0.05)
    line = map_coordinates(image, [rows, np.full_like(rows, column)], order=1)
    return 0.05 * float(np.sum(line > line.max() / 2.0))


def read_series(folder: Path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    images = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return np.array(
        [i.pixel_array * float(i.RescaleSlope) + float(i.RescaleIntercept) for i in images]
    ), images


# -- laws ---------------------------------------------------------------------------------------------


def seen_through(rods: Rods, t_mm: float, water_mm: float, per_mm: np.ndarray) -> float:
    """What of one line of a spectrum comes through rods and water, for parallel rays at one height."""
    seen, _ = intensities(
        *(table_of(rods), np.zeros((1, 1)), np.zeros(1), np.ones(1), np.zeros(1)),
        Detector(t_mm, 1e-6, 5, 1),
        Body(np.full((1, 2), water_mm, dtype=np.float32), np.zeros((1, 2), dtype=np.float32), 0.0, 100.0),
        Matter(np.ones(1), np.array([0.02]), np.array([0.05]), per_mm),
        0.0,
    )
    return float(seen[0, 0, 2])


def test_rays_are_weakened_by_what_lies_in_their_way() -> None:
    per_mm = np.full((6, 1), 0.5)
    ball = Rods.balls(np.zeros((1, 3)), 4.0, AMALGAM)
    for t in (0.0, 1.0, 1.9, 2.1):
        chord = 2.0 * np.sqrt(max(0.0, 4.0 - t**2))  # metal stands in the water's place
        expected = np.exp(-0.02 * 100.0 - (0.5 - 0.02) * chord)
        assert seen_through(ball, t, 100.0, per_mm) == pytest.approx(expected, rel=1e-4)
    crown = DentalMetal((0.0, 0.0, 0.0), 8.0, "gold", 6.0, (1.0, 0.0, 0.0), 1.0).rods(np.eye(4))
    through_walls = np.exp(-(0.5 - 0.02) * (2.0 * 4.0 - 2.0 * 3.0))
    assert seen_through(crown, 0.5, 0.0, per_mm) == pytest.approx(through_walls, rel=1e-4)
    solid_end = np.exp(-(0.5 - 0.02) * 8.0)
    assert seen_through(crown, -2.5, 0.0, per_mm) == pytest.approx(solid_end, rel=1e-4)


def test_without_metal_water_stays_water_and_only_noise_comes() -> None:
    noise = slice_hu(Rods.none(), 1.25)
    inside = noise[45:125, 45:125]
    assert abs(inside.mean()) < 1.0
    assert 14.0 < inside.std() < 22.0  # a diagnostic scan's
    assert slice_hu(Rods.none(), 5.0)[45:125, 45:125].std() < 0.6 * inside.std()


def test_noise_follows_the_photons_that_come_through() -> None:
    through = [slice_hu(Rods.none(), 2.5, body_hu=water_hu(r))[75:95, 75:95].std() for r in (30.0, 80.0)]
    # quanta: standard deviation grows with the root of exp(mu 100 mm); mu of water about 0.020 per mm
    assert through[1] / through[0] == pytest.approx(np.exp(0.020 * 100.0 / 2.0), rel=0.25)


# -- published figures --------------------------------------------------------------------------------


def test_a_needle_across_the_slice_looks_as_published() -> None:
    across = rods_of([CENTRE + np.array([[0.0, 0.0, -50.0], [0.0, 0.0, 50.0]])], NOTHING, NOTHING)
    image = slice_hu(across, 1.25)
    assert 6000.0 < image.max() < 16000.0  # 6-16 kHU
    assert 1.4 < width_mm(image, MIDDLE) < 2.1  # 1.5-1.7 mm


@pytest.mark.parametrize(
    ("thickness_mm", "low_hu", "high_hu", "low_mm", "high_mm"),
    # 4200-6000 HU and 2.3-2.7 mm at 1.25 mm, 1300-2100 HU and 3.6 mm at 2.5, 570 HU and 3.6 mm at 5
    [(1.25, 3400.0, 6000.0, 2.0, 3.3), (2.5, 1300.0, 2600.0, 3.0, 4.1), (5.0, 400.0, 1100.0, 3.0, 4.2)],
)
def test_a_needle_in_the_slice_blooms_and_fades_as_published(
    thickness_mm: float, low_hu: float, high_hu: float, low_mm: float, high_mm: float
) -> None:
    image = slice_hu(lying(needle()), thickness_mm)
    shaft = image[80:90, 50:120]
    assert low_hu < np.median(shaft.max(axis=0)) < high_hu
    assert low_mm < np.median([width_mm(image, column) for column in range(55, 115, 6)]) < high_mm


def test_seeds_in_chains_look_as_published() -> None:
    # 4100 HU at 1.25 mm, 2200 at 2.5, 1200 at 5; above 2000 HU are 48, 33 and 0 of 48
    random = np.random.default_rng(1)
    places = np.array(
        [(x, y, 0.0) for y in np.arange(-35.0, 36.0, 14.0) for x in np.arange(-17.5, 18.0, 5.0)]
    )
    centres = CENTRE + places + random.uniform(-0.4, 0.4, places.shape)
    seeds = rods_of([], centres, np.tile((1.0, 0.0, 0.0), (len(centres), 1)))
    for thickness_mm, low_hu, high_hu, fewest, most in (
        (1.25, 3500.0, 7000.0, 45, 48),
        (2.5, 1500.0, 2900.0, 12, 46),
        (5.0, 750.0, 1600.0, 0, 2),
    ):
        image = slice_hu(seeds, thickness_mm)
        peaks = np.array(
            [image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].max() for x, y, _ in centres]
        )
        assert low_hu < np.median(peaks) < high_hu
        assert fewest <= np.sum(peaks > 2000.0) <= most


def test_parallel_needles_starve_each_other() -> None:
    # of 12 needles 4 fall to <= 400 HU (1.25 mm), and in 7 the level halves somewhere on the shaft (2.5 mm)
    shafts = twelve_shafts(CENTRE)
    heights = np.arange(-13.5, 13.6, 2.5)
    stack = np.array([slice_hu(lying(*(s[::5] for s in shafts)), 2.5, float(w)) for w in heights])
    assert 3 <= starved(stack, heights, shafts) <= 10


def test_streaks_run_out_of_the_ends_and_between_the_shafts() -> None:
    """A dark flame before the tip, and a dark band between needles side by side."""
    image = slice_hu(lying(needle()), 1.25)
    tip = round(MIDDLE + 50.0)
    assert image[84:88, tip + 2 : tip + 9].min() < -200.0
    assert np.abs(image[50:70, tip + 2 : tip + 9].mean()) < 60.0  # and not beside it
    across = np.array([[0.0, 0.0, -50.0], [0.0, 0.0, 50.0]])
    pair = slice_hu(lying(*(CENTRE + across + (0.0, y, 0.0) for y in (-8.0, 8.0))), 2.5)
    middle = round(MIDDLE)
    between, beside = pair[middle - 3 : middle + 4, middle], pair[middle - 3 : middle + 4, middle + 25]
    assert between.mean() < beside.mean() - 5.0


# -- teeth --------------------------------------------------------------------------------------------


def test_a_given_filling_is_bright_and_throws_streaks() -> None:
    filling = DentalMetal((MIDDLE, MIDDLE - 30.0, 0.0), 6.0, "amalgam")
    other = DentalMetal((MIDDLE + 30.0, MIDDLE - 30.0, 0.0), 6.0, "amalgam")
    image = slice_hu(rods_of_dental([filling, other], np.eye(4)), 2.5)
    row, column = round(MIDDLE - 30.0), round(MIDDLE)
    assert image[row, column] > 10000.0
    assert image[row - 2 : row + 3, column + 10 : column + 20].mean() < -100.0  # between two fillings: dark
    assert abs(image[row + 60 : row + 80, column - 10 : column + 10].mean()) < 60.0


def test_metal_that_the_ct_shows_is_found_and_takes_photons_but_no_second_streak() -> None:
    hu = np.full((12, 90, 100), 40, dtype=np.int16)
    z, y, x = np.indices(hu.shape)
    grown_mm = 3.0 + 0.8  # metal blooms over its edge
    hu[(1.5 * (z - 6)) ** 2 + (y - 30) ** 2 + (x - 50) ** 2 < grown_mm**2] = 3071
    hu[2, 70, 20] = 3071  # one voxel is no filling
    patient_from_index = np.array(
        [[1, 0, 0, -40.0], [0, 1, 0, -20.0], [0, 0, 1.5, 100.0], [0, 0, 0, 1]], dtype=float
    )
    found = dental_metal_in(PatientCt(hu, patient_from_index, pydicom.Dataset()))
    assert len(found) == 1
    assert found[0].centre_mm == pytest.approx((10.0, 10.0, 109.0), abs=0.2)
    assert found[0].diameter_mm == pytest.approx(6.0, abs=0.5)

    own = rods_of_dental([DentalMetal((MIDDLE - 30.0, MIDDLE, 0.0), 8.0)], np.eye(4))
    pictures = [slice_hu(Rods.none(), 2.5, own=own, seed=seed) for seed in range(4)]
    along = slice(round(MIDDLE) - 2, round(MIDDLE) + 3)
    nobody = [slice_hu(Rods.none(), 2.5, seed=seed) for seed in range(4)]
    streaked, quiet = (np.std(np.array(p)[:, along, 62:110]) for p in (pictures, nobody))
    assert streaked > 1.2 * quiet  # noise runs along the rays that the metal starves
    assert abs(np.mean(np.array(pictures)[:, along, 62:110])) < 10.0  # and nothing is added to the image


@pytest.mark.parametrize(
    "wrong",
    [
        {"material": "iron"},
        {"diameter_mm": 0.0},
        {"direction": (0.0, 0.0, 0.0)},
        {"wall_mm": 3.0, "length_mm": 5.0},
        {"centre_mm": (np.nan, 0.0, 0.0)},
    ],
)
def test_what_is_no_dental_metal_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"dental metal|crown"):
        DentalMetal(**{"centre_mm": (0.0, 0.0, 0.0), **wrong})  # type: ignore[arg-type]


# -- motion, files, and how to ask for them ------------------------------------------------------------


def test_motion_while_the_gantry_turns_smears_metal() -> None:
    ball = Rods.balls(CENTRE[None], 3.0, STEEL)
    still = slice_hu(ball, 1.25)
    moved = slice_hu(ball, 1.25, swing_mm=np.full(VIEWS, 5.0))  # all views above it
    swung = slice_hu(ball, 1.25, swing_mm=np.linspace(-2.5, 2.5, VIEWS))
    assert moved.max() < 200.0
    assert 0.1 * still.max() < swung.max() < 0.8 * still.max()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    case = write_phantom(tmp_path_factory.mktemp("case") / "ct")
    patient = Patient(case, POSE, ErrorPopulation(), 3)
    patient.insert("N01", 0.0, 0.0, 80.0)
    return patient


@pytest.mark.parametrize("thickness_mm", [0.6, 5.0])
def test_a_faithful_scan_says_so_and_is_the_same_again(
    patient: Patient, tmp_path: Path, thickness_mm: float
) -> None:
    digests = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        request = ScanRequest(
            1,
            thickness_mm,
            -2.0 * thickness_mm,
            thickness_mm,
            seed=seed,
            breathing_mm=2.0,
            field_mm=(-40.0, 30.0, -20.0, 25.0),
            mode="faithful",
        )
        scan(patient, tmp_path / name, request)
        digest = hashlib.sha256()
        for path in sorted((tmp_path / name).iterdir()):
            digest.update(path.read_bytes())
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1] != digests[2]
    hu, images = read_series(tmp_path / "a")
    assert list(images[0].ImageType) == ["DERIVED", "PRIMARY", "AXIAL", "POLYCHROMATIC"]
    assert "faithful" in images[0].SeriesDescription
    assert hu.shape == (3, images[0].Rows, images[0].Columns)
    assert images[0].Columns * 1.8 == pytest.approx(70.0, abs=3.6)
    assert hu.max() > 100.0
    times = [image.AcquisitionTime for image in images]
    assert all(before < after for before, after in pairwise(times))
    assert len({image.SOPInstanceUID for image in images}) == 3
    if shutil.which("dciodvfy") is not None:
        for path in (tmp_path / "a").iterdir():
            said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in said.stderr + said.stdout, said.stderr


def test_the_modes_differ_in_noise_and_metal_only(patient: Patient, tmp_path: Path) -> None:
    for mode in ("fast", "faithful"):
        scan(patient, tmp_path / mode, ScanRequest(2, 2.5, 10.0, 20.0, mode=mode))  # type: ignore[arg-type]
    fast, images = read_series(tmp_path / "fast")
    faithful, others = read_series(tmp_path / "faithful")
    assert images[0].ImagePositionPatient == others[0].ImagePositionPatient
    assert abs(float(np.median(fast - faithful))) < 5.0
    with pytest.raises(ValueError, match="no mode"):
        scan(patient, tmp_path / "x", ScanRequest(2, mode="pretty"))  # type: ignore[arg-type]


def test_the_theatre_makes_the_scan_that_is_asked_for_or_its_own(patient: Patient, tmp_path: Path) -> None:
    bench = Benchtop(1)
    theatre = Theatre(patient, bench.rig_mechanics, bench.applicator_mechanics, scanner_mode="faithful")
    asked = {
        "do": "scan",
        "number": 1,
        "slice_mm": 5.0,
        "z_low_mm": -5.0,
        "z_high_mm": 0.0,
        "when": "2020-01-02T09:00:00",
        "seed": 1,
    }
    for name, more in (("own", {}), ("asked", {"mode": "fast"})):
        assert theatre.handle({**asked, **more, "folder": str(tmp_path / name)}) == {"done": True}
    kinds = [read_series(tmp_path / name)[1][0].ImageType[3] for name in ("own", "asked")]
    assert kinds == ["POLYCHROMATIC", "APPROXIMATE"]
