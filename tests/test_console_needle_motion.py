"""Needle motion as Perk Tutor defines it, on tissue with known answers, and its recordings read and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from console.cli import main
from console.training.needle_motion import BodyTissue, motion_of, together
from console.training.transform_recording import (
    Message,
    Recording,
    Transform,
    read_sequence,
    read_xml,
    recording_of,
    write_sequence,
    write_xml,
)
from planning.refusal import AskedWrongly
from planning.volume import Grid


def test_what_is_no_recording_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.xml"
    write_xml(Recording(()), log)
    for recording, case, told in (
        (tmp_path / "log.csv", tmp_path, "is neither a Transform Recorder log (.xml) nor a sequence (.mha)"),
        (tmp_path / "nowhere.xml", tmp_path, "can't be read"),
        (log, tmp_path / "nowhere", "no such folder"),
        (log, tmp_path, "holds no transform"),
    ):
        assert main(["motion", str(recording), str(case)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert told in said
        assert said.count(". ") <= 1


class HalfSpace:
    """Tissue is z > 0; needles run along +z or a little askew."""

    def inside(self, points_mm: np.ndarray) -> np.ndarray:
        return np.asarray(points_mm[:, 2] > 0.0)

    def way_out_mm(self, tips_mm: np.ndarray, backwards: np.ndarray) -> np.ndarray:
        return np.asarray(tips_mm[:, 2] / -backwards[:, 2])


def poses(tips: list[tuple[float, float, float]], tilt_deg: float = 0.0) -> np.ndarray:
    out = np.tile(np.eye(4), (len(tips), 1, 1))
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    out[:, :3, :3] = [[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]
    out[:, :3, 3] = tips
    return out


def test_in_and_out_along_the_shaft_has_a_path_and_no_damage() -> None:
    tips = [(0.0, 0.0, z) for z in (-10.0, -5.0, 10.0, 30.0, 10.0, -5.0)]
    motion = motion_of(np.array([0.0, 1.0, 3.0, 6.0, 10.0, 11.0]), poses(tips), HalfSpace())
    assert motion.elapsed_s == 11.0
    assert motion.path_mm == pytest.approx(5 + 15 + 20 + 20 + 15)
    assert motion.tissue_path_mm == pytest.approx(15 + 20 + 20)  # a step counts when it ends in tissue
    assert motion.tissue_s == pytest.approx(2 + 3 + 4)
    assert motion.damage_mm2 == pytest.approx(0.0, abs=1e-9)


def test_a_shaft_that_goes_sideways_sweeps_depth_times_way() -> None:
    tips = [(0.0, 0.0, 40.0), (3.0, 0.0, 40.0), (3.0, 4.0, 40.0)]
    motion = motion_of(np.arange(3.0), poses(tips), HalfSpace())
    assert motion.damage_mm2 == pytest.approx(40.0 * (3.0 + 4.0))


def test_a_turn_about_the_tip_sweeps_a_triangle() -> None:
    turned = poses([(0.0, 0.0, 50.0)] * 2)
    turned[1] = poses([(0.0, 0.0, 50.0)], tilt_deg=10.0)[0]
    motion = motion_of(np.array([0.0, 1.0]), turned, HalfSpace())
    assert motion.path_mm == 0.0
    assert motion.damage_mm2 == pytest.approx(50.0 * 50.0 * np.tan(np.radians(10.0)) / 2.0)


def test_a_step_that_crosses_the_skin_damages_nothing() -> None:
    tips = [(0.0, 0.0, -1.0), (5.0, 0.0, 20.0), (0.0, 0.0, -1.0)]
    assert motion_of(np.arange(3.0), poses(tips), HalfSpace()).damage_mm2 == 0.0


@settings(max_examples=25, deadline=None)
@given(arrays(float, (6, 3), elements=st.floats(-20.0, 60.0)), st.floats(-80.0, 80.0))
def test_moving_everything_changes_nothing(tips: np.ndarray, turn_deg: float) -> None:
    there = poses([tuple(tip) for tip in tips], tilt_deg=5.0)
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    turn = np.eye(4)
    turn[:2, :2], turn[:3, 3] = [[c, -s], [s, c]], (7.0, -3.0, 0.0)  # keeps z: the half space stays
    one, other = (motion_of(np.arange(6.0), p, HalfSpace()) for p in (there, turn @ there))
    assert np.allclose([*vars(one).values()], [*vars(other).values()], rtol=1e-7, atol=1e-6)


def test_a_body_of_voxels_is_tissue_to_half_a_voxel() -> None:
    grid = Grid((40, 60, 50), (-20.0, -20.0, -20.0), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[20:] = True  # z from -0.5 mm on
    body = BodyTissue(mask, grid)
    tips = [(0.0, 0.0, 15.0), (3.0, 0.0, 15.0)]
    voxels = motion_of(np.arange(2.0), poses(tips), body)
    assert voxels.damage_mm2 == pytest.approx(3.0 * 15.5, abs=3.0 * 0.5)
    assert not body.inside(np.array([[0.0, 0.0, 99.0]]))[0]


def test_needles_are_summed_and_time_is_that_of_the_run() -> None:
    tips = [(0.0, 0.0, 10.0), (0.0, 0.0, 30.0)]
    one = motion_of(np.array([0.0, 2.0]), poses(tips), HalfSpace())
    both = together([one, one], elapsed_s=9.0)
    assert both.elapsed_s == 9.0
    assert both.path_mm == 2 * one.path_mm


# As Perk Tutor 4 writes it (numbers made up).
PERK = """<TransformRecorderLog>
  <log TimeStampSec="7" TimeStampNSec="256000000" type="transform" DeviceName="NeedleToRAS" \
transform="0 1 0 -2.5 -1 0 0 17.2617 0 0 1 41.106 0 0 0 1 " />
  <log TimeStampSec="7" TimeStampNSec="480999999" type="transform" DeviceName="ProbeToRAS" \
transform="1 0 0 1 0 1 0 2 0 0 1 3 0 0 0 1 " />
  <log TimeStampSec="9" TimeStampNSec="0" type="message" message="Skin &amp; needle" />
  <log TimeStampSec="9" TimeStampNSec="0" type="something" />
</TransformRecorderLog>
"""


def test_perk_tutors_own_recording_is_read(tmp_path: Path) -> None:
    path = tmp_path / "perk.xml"
    path.write_text(PERK, encoding="utf-8")
    recording = read_xml(path)
    assert recording.devices == ("NeedleToRAS", "ProbeToRAS")
    t_s, matrices = recording.of("NeedleToRAS")
    assert t_s.tolist() == [7.256]
    assert matrices[0][:3, 3].tolist() == [-2.5, 17.2617, 41.106]
    assert recording.messages == (Message(9_000_000_000, "Skin & needle"),)


def test_both_formats_come_back_as_they_were_written(tmp_path: Path) -> None:
    pose = poses([(1.0, 2.0, 3.0), (4.0, 5.0, 6.25)], tilt_deg=20.0)
    told = [("N01", 5, pose[0]), ("N02", 5, pose[1]), ("N01", 3_000_000_007, pose[1])]
    recording = recording_of(told, [Message(4, 'said "so"')])
    write_xml(recording, tmp_path / "a.xml")
    write_sequence(recording, tmp_path / "a.seq.mha")
    for back in (read_xml(tmp_path / "a.xml"), read_sequence(tmp_path / "a.seq.mha")):
        assert back.devices == ("N01ToRAS", "N02ToRAS")
        for device in back.devices:
            for mine, other in zip(recording.of(device), back.of(device), strict=True):
                assert np.allclose(mine, other, atol=1e-7)
    assert read_xml(tmp_path / "a.xml").messages == recording.messages
    assert recording.of("N01ToRAS")[1][0][:3, 3].tolist() == [-1.0, -2.0, 3.0]  # RAS
    head = (tmp_path / "a.seq.mha").read_text(encoding="utf-8")
    assert "DimSize = 0 0 2" in head
    assert "Seq_Frame0001_N02ToRAS" not in head
    assert head.endswith("ElementDataFile = LOCAL\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no xml", "is no XML"),
        ("<Other/>", "not <TransformRecorderLog>"),
        ("<!DOCTYPE x []><TransformRecorderLog/>", "holds a DTD"),
        (
            '<TransformRecorderLog><log type="transform"/></TransformRecorderLog>',
            "log entry 1 is no transform",
        ),
        (PERK.replace("41.106", "nan"), "log entry 1 is no transform"),
        (PERK.replace(" 41.106", ""), "15 numbers, not 16"),
    ],
)
def test_what_is_no_recording_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "perk.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AskedWrongly, match=told):
        read_xml(path)
    with pytest.raises(AskedWrongly, match="no Seq_Frame"):
        read_sequence(path)
    with pytest.raises(AskedWrongly, match="can't be read"):
        read_xml(tmp_path / "nowhere.xml")


def test_invalid_transforms_and_an_images_bytes_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "plus.mha"
    path.write_bytes(
        b"DimSize = 2 2 1\nSeq_Frame0000_ProbeToTrackerTransform = 1 0 0 5 0 1 0 6 0 0 1 7 0 0 0 1\n"
        b"Seq_Frame0000_ProbeToTrackerTransformStatus = OK\nSeq_Frame0000_StylusToTrackerTransform = "
        b"1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\nSeq_Frame0000_StylusToTrackerTransformStatus = INVALID\n"
        b"Seq_Frame0000_Timestamp = 12.5\nElementDataFile = LOCAL\nSeq_Frame0001_AToB\xff\x00\x80\n"
    )
    recording = read_sequence(path)
    assert recording.devices == ("ProbeToTracker",)
    assert recording.of("ProbeToTracker")[0].tolist() == [12.5]


def test_a_frame_without_a_time_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.seq.mha"
    write_sequence(Recording((Transform("N01ToRAS", 5, np.eye(4)),)), path)
    path.write_text(path.read_text(encoding="utf-8").replace("Timestamp", "Zeit"), encoding="utf-8")
    with pytest.raises(AskedWrongly, match="frame 0, N01ToRASTransform"):
        read_sequence(path)
