"""``seedguide detect`` and ``imaging.detected`` on CTs whose truth is a formula."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_dicom import make_case
from made_plan import made_plan
from scipy.ndimage import gaussian_filter
from synthetic_ct import TrueNeedle, add_needles, add_noise, add_seeds, anatomy_hu, grid_around, volume

from console.cli import main
from imaging.detection import detect
from imaging.straight_metal import ends_in_air
from planning.frame import Floats, RigidTransform, angle_between_deg, unit
from planning.plan import Plan, PlannedNeedle, PlannedSeed, rounded_point
from planning.refusal import AskedWrongly
from planning.volume import CtVolume

DIRECTION = unit((1.0, 0.1, 0.05))
U = unit(np.cross(DIRECTION, (0.0, 0.0, 1.0)))
V = np.cross(DIRECTION, U)
GRID = grid_around((-20, 0, 0), (120, 70, 50), (0.98, 0.98, 1.25))
LIMIT_MM = 0.8  # 95th percentile wanted at slices <= 1.25 mm
SIX = [(7.0 * (k % 3 - 1), 7.0 * (k // 3) - 3.5, 46.0 + k) for k in range(6)]


def skin_at(u_mm: float, v_mm: float) -> Floats:
    """Where the line (u, v) meets the phantom's skin."""
    line = np.arange(-90.0, 0.0, 0.25)[:, None] * DIRECTION + u_mm * U + v_mm * V
    inside = (line[:, 0] / 60) ** 2 + ((line[:, 1] - 0.05 * line[:, 2]) / 50) ** 2 < 1
    return np.asarray(line[np.argmax(inside)])


def true_needles(depths_mm: list[float] | None = None) -> list[TrueNeedle]:
    depths = depths_mm or [depth for *_, depth in SIX]
    return [
        TrueNeedle(f"N{k + 1:02d}", skin_at(u, v), DIRECTION, depths[k], np.zeros(3))
        for k, (u, v, _) in enumerate(SIX[: len(depths)])
    ]


def plan_of(ct: CtVolume, *, shift_mm: Floats | None = None) -> Plan:
    """Six needles of two seeds each on the phantom, planned ``shift_mm`` away from where the patient now lies."""
    shift = np.zeros(3) if shift_mm is None else shift_mm
    needles = []
    for k, (u, v, depth) in enumerate(SIX):
        entry = skin_at(u, v) + shift
        seeds = tuple(
            PlannedSeed(
                2 * k + j + 1, rounded_point(entry + (depth - 2.25 - 10.0 * j) * DIRECTION), 4.5 + 10.0 * j
            )
            for j in range(2)
        )
        needles.append(
            PlannedNeedle(
                f"N{k + 1:02d}",
                f"A{k + 1}",
                rounded_point(entry),
                rounded_point(entry + depth * DIRECTION),
                25.0 if k in (0, 2, 5) else None,
                seeds,
            )
        )
    return replace(
        made_plan(),
        patient_id=ct.patient_id,
        series_uid=ct.series_uid,
        frame_of_reference_uid=ct.frame_of_reference_uid,
        needles=tuple(needles),
    )


def scan_hu(
    needles: list[TrueNeedle], move: RigidTransform | None = None, seeds: Floats | None = None
) -> Floats:
    rng = np.random.default_rng(1)
    hu = anatomy_hu(GRID, move)
    add_needles(hu, GRID, needles, rng)
    if seeds is not None:
        add_seeds(hu, GRID, seeds, np.tile(DIRECTION, (len(seeds), 1)))
    add_noise(hu, rng)
    return np.asarray(hu)


@pytest.fixture(scope="module")
def bare() -> CtVolume:
    return volume(scan_hu([]), GRID)


@pytest.fixture(scope="module")
def six() -> CtVolume:
    return volume(scan_hu(true_needles()), GRID)


def nearest_mm(truth: list[TrueNeedle], tips: list[tuple[float, float, float]]) -> list[float]:
    return [min(float(np.linalg.norm(np.subtract(tip, n.tip_mm))) for tip in tips) for n in truth]


def test_without_a_plan_every_needle_is_found_and_nothing_else(six: CtVolume) -> None:
    found = detect(six, what=("needles",))
    assert len(found.needles) == 6
    assert max(nearest_mm(true_needles(), [n.tip_mm for n in found.needles])) < LIMIT_MM
    assert all(angle_between_deg(n.direction, DIRECTION) < 1.0 for n in found.needles), "towards the tip"
    assert {n.planned for n in found.needles} == {None}
    assert found.registration is None


def test_no_metal_no_finding(bare: CtVolume) -> None:
    found = detect(bare)
    assert found.needles == ()
    assert found.seeds == ()


def test_a_cropped_scan_gives_the_same_tips(six: CtVolume) -> None:
    """The picture ends inside the body: no skin, no air to tell where needles come from."""
    box = GRID.box((-52.0, -30.0, -22.0), (30.0, 30.0, 22.0))
    cut = replace(six, hu=six.hu[box], grid=GRID.cropped(box))
    found = detect(cut, what=("needles",))
    assert len(found.needles) == 6
    assert max(nearest_mm(true_needles(), [n.tip_mm for n in found.needles])) < LIMIT_MM


@pytest.fixture(scope="module")
def touching() -> tuple[CtVolume, list[TrueNeedle]]:
    """Nine needles in three rows, 3.6 mm apart in 2.5 mm slices: rows are one piece of metal in the picture."""
    grid = grid_around((-40, 0, 0), (140, 60, 50), (0.98, 0.98, 2.5))
    needles = [
        TrueNeedle(
            f"N{k + 1:02d}", skin_at(3.6 * (k % 3 - 1), 5.0 * (k // 3 - 1)), DIRECTION, 46.0 + k, np.zeros(3)
        )
        for k in range(9)
    ]
    rng = np.random.default_rng(2)
    metal = np.zeros(grid.shape)
    add_needles(metal, grid, needles, rng)
    hu = anatomy_hu(grid) + 2.0 * gaussian_filter(metal, (0.0, 0.6, 0.6))
    add_noise(hu, rng)
    return volume(hu, grid), needles


def test_needles_that_touch_in_the_picture_are_told_apart(
    touching: tuple[CtVolume, list[TrueNeedle]],
) -> None:
    scan, truth = touching
    found = detect(scan, what=("needles",))
    assert len(found.needles) == len(truth)
    off_mm = sorted(nearest_mm(truth, [n.tip_mm for n in found.needles]))
    assert np.median(off_mm) < 0.6
    assert off_mm[-2] < 1.2, "one whose end a neighbour covers may be missed"
    assert found.unresolved_metal == ()


def test_touching_needles_in_a_crop_inside_the_body_are_never_passed_over(
    touching: tuple[CtVolume, list[TrueNeedle]],
) -> None:
    """Neither skin nor air in the picture: as a whole the bundle is brighter than bone, if not slim."""
    scan, truth = touching
    tips = np.array([needle.tip_mm for needle in truth])
    inner = skin_at(0.0, 0.0) + 12.0 * DIRECTION
    low, high = np.vstack([tips, inner]).min(axis=0), np.vstack([tips, inner]).max(axis=0)
    box = scan.grid.box(low - np.array((0.0, 14.0, 10.0)), high + np.array((12.0, 14.0, 10.0)))
    cut = replace(scan, hu=scan.hu[box], grid=scan.grid.cropped(box))
    assert np.mean(cut.hu < -400) < 0.06
    found = detect(cut, what=("needles",))
    assert len(found.needles) == len(truth) or found.unresolved_metal


def test_the_outer_end_of_a_shaft_is_no_tip(six: CtVolume) -> None:
    for needle in true_needles():
        assert not ends_in_air(six, needle.tip_mm, DIRECTION)
        outer = skin_at(0.0, 0.0) - 25.0 * DIRECTION
        assert ends_in_air(six, outer, -DIRECTION)


def test_metal_that_is_no_needle_is_told_with_its_extent_and_never_only_as_no_needle(bare: CtVolume) -> None:
    """A thick rod outside the body: longer than wide, and no needle."""
    hu = bare.hu.copy()
    box = GRID.box((-78.0, -5.0, -6.0), (-64.0, 25.0, 6.0))
    hu[box] = 2500
    found = detect(replace(bare, hu=hu))
    assert found.needles == ()
    (metal,) = found.unresolved_metal
    assert metal.low_mm[1] == pytest.approx(-5.0, abs=1.0)
    assert metal.high_mm[1] == pytest.approx(25.0, abs=1.0)
    assert any("could not be told apart" in note for note in found.notes)
    assert found.to_json()["unresolved_metal"][0]["length_mm"] == metal.length_mm


def test_with_a_plan_each_has_its_name_and_one_that_is_not_there_is_said() -> None:
    truth = true_needles()
    scan = volume(scan_hu(truth[:5]), GRID)
    found = detect(scan, plan_of(scan), what=("needles",))
    assert [n.planned for n in found.needles] == [n.name for n in truth[:5]]
    assert found.unseen_needles == ("N06",)
    for needle, true in zip(found.needles, truth, strict=False):
        assert np.linalg.norm(np.subtract(needle.tip_mm, true.tip_mm)) < LIMIT_MM
    assert all(n.apart is None for n in found.needles), "nobody knows how the patient lies"


def test_registered_to_the_planning_ct_positions_stay_in_the_scans_frame(bare: CtVolume) -> None:
    """The patient lies 4 mm further than at planning; needles are where the plan wants them in the patient."""
    move = np.array([4.0, -3.0, 2.5])
    truth = [replace(n, entry_mm=n.entry_mm + move) for n in true_needles()]
    scan = volume(scan_hu(truth, RigidTransform(np.eye(3), move)), GRID)
    found = detect(scan, plan_of(bare), bare, what=("needles",))
    assert found.registration is not None
    assert found.registration.succeeded
    assert max(nearest_mm(truth, [n.tip_mm for n in found.needles])) < LIMIT_MM
    assert [n.planned for n in found.needles] == [n.name for n in truth]
    for needle in found.needles:
        assert needle.apart is not None
        assert needle.apart.total_mm < 1.5
        assert needle.apart.sigma_mm >= needle.sigma_mm


def test_reference_needles_are_recognised_at_their_first_depth() -> None:
    truth = [n for n in true_needles([25.0] * 6) if n.name in ("N01", "N03", "N06")]
    scan = volume(scan_hu(truth), GRID)
    found = detect(scan, plan_of(scan), what=("needles",))
    assert [n.planned for n in found.needles] == ["N01", "N03", "N06"]
    assert max(nearest_mm(truth, [n.tip_mm for n in found.needles])) < LIMIT_MM


@pytest.mark.parametrize("planned", [True, False])
def test_seeds_are_found_where_they_lie(bare: CtVolume, planned: bool) -> None:
    plan = plan_of(bare)
    scan = volume(scan_hu([], seeds=plan.seed_centres_mm()), GRID)
    found = detect(scan, plan if planned else None)
    assert found.needles == ()
    assert len(found.seeds) == 12
    for centre in plan.seed_centres_mm():
        assert min(np.linalg.norm(np.subtract(s.centre_mm, centre)) for s in found.seeds) < 0.7
    assert [s.planned for s in found.seeds] == (list(range(1, 13)) if planned else [None] * 12)


def test_what_does_not_belong_together_is_refused(bare: CtVolume) -> None:
    plan = plan_of(bare)
    with pytest.raises(AskedWrongly, match="patient"):
        detect(replace(bare, patient_id="OTHER"), plan)
    with pytest.raises(AskedWrongly, match="--case"):
        detect(replace(bare, frame_of_reference_uid="1.9"), plan)
    with pytest.raises(AskedWrongly, match="series UID"):
        detect(bare, plan, replace(bare, series_uid="1.9"))


@pytest.fixture(scope="module")
def scan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_case(
        tmp_path_factory.mktemp("scan") / "case",
        hu=np.clip(np.rint(scan_hu(true_needles())), -1024, 3071),
        shape=GRID.shape,
        spacing_mm=GRID.spacing_mm,
        origin_mm=GRID.origin_mm,
        with_structures=False,
    )
    return made.folder


def test_the_command_writes_the_documented_file_and_a_picture_per_needle(
    scan_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert main(["detect", str(scan_folder), "--out", str(out)]) == 0
    body = json.loads((out / "detected.json").read_text())
    assert body["format"] == "seedguide-detected/1"
    assert len(body["needles"]) == 6
    assert max(nearest_mm(true_needles(), [tuple(n["tip_mm"]) for n in body["needles"]])) < LIMIT_MM
    documented = (Path(__file__).parents[1] / "imaging" / "DETECTED.md").read_text()
    assert all(f"{key} " in documented or f"{key}[]" in documented for key in (*body, *body["needles"][0]))
    pictures = sorted(out.glob("needle-*.png"))
    assert len(pictures) == 6
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    said = capsys.readouterr()
    assert "6 needles" in said.out
    assert "seeds (mm)" not in said.out, (
        "seeds were not looked for: a table of none would say that there are none"
    )
    assert "guessed needles ..." in said.err
    assert main(["detect", str(scan_folder), "--out", str(out)]) == 2
    assert main(["detect", str(scan_folder), "--out", str(out), "--overwrite", "--no-pictures"]) == 0
    assert not list(out.glob("needle-*.png")), "pictures of an older result do not stay"


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--what", "screws"], "'screws' can't be looked for"),
        (["--case", "somewhere"], "--case needs --plan"),
        (["--plan", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    scan_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert main(["detect", str(scan_folder), "--out", str(tmp_path / "out"), *more]) == 2
    assert words in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--bind", "0.0.0.0"], "--allow-aet"),
        (["--bind", "my-host"], "not an IP address"),
        (["--allow-aet", "X" * 17], "1 to 16"),
        (["--allow-frame", "1.2"], "needs --plan"),
        (["--watch", "somewhere", "--port", "11112"], "use one of them"),
    ],
)
def test_scans_asked_wrongly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert main(["scans", "--into", str(tmp_path / "in"), *more]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "in").exists()
