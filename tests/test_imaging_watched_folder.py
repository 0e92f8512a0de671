"""The watched folder, looked at by a clock that is an argument."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pydicom
import pytest
from phantom_ct import write_phantom

from imaging.intake import Answer, Intake, Status
from imaging.scan_series import SECOND_NS, Patience, Wanted
from imaging.watched_folder import WatchedFolder
from planning.refusal import AskedWrongly

STILL = 2 * SECOND_NS
SETTLE = Patience().settle_ns


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = write_phantom(tmp_path_factory.mktemp("share"), rows=8, columns=8, pixel_mm=20.0, slices=6)
    return sorted(folder.iterdir())


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


def test_a_copied_series_is_taken_once_it_stands_still(
    share: Path, tmp_path: Path, series: list[Path]
) -> None:
    intake = Intake(tmp_path / "in")
    watched = WatchedFolder(share, intake)
    (share / "nested").mkdir()
    for path in series:
        shutil.copy(path, share / "nested")
    (share / "notes.txt").write_text("no scan")
    assert watched.look(0) == []
    assert watched.look(STILL - 1) == []
    assert watched.look(STILL) == []
    (event,) = watched.look(STILL + SETTLE)
    assert event.complete
    assert event.images == 6
    assert len(list(intake.series_folder(event.series_uid).iterdir())) == 6
    assert len(list((share / "nested").iterdir())) == 6, "the source stays as it is"
    assert watched.look(10 * STILL) == []


def test_a_file_that_grows_holds_the_series_back(share: Path, tmp_path: Path, series: list[Path]) -> None:
    watched = WatchedFolder(share, Intake(tmp_path / "in"))
    for path in series[:-1]:
        shutil.copy(path, share)
    growing = share / series[-1].name
    content = series[-1].read_bytes()
    for step in range(1, 5):
        growing.write_bytes(content[: 200 * step])
        assert watched.look(step * STILL) == []
    growing.write_bytes(content)
    assert watched.look(5 * STILL) == []
    assert watched.look(6 * STILL) == []
    (event,) = watched.look(6 * STILL + SETTLE)
    assert event.complete
    assert event.images == 6


def test_a_half_copied_file_is_refused_and_taken_when_it_is_whole(
    share: Path, tmp_path: Path, series: list[Path]
) -> None:
    refused: list[Answer] = []
    watched = WatchedFolder(share, Intake(tmp_path / "in", refused=refused.append))
    (share / "a.dcm").write_bytes(series[0].read_bytes()[:300])
    watched.look(0)
    watched.look(STILL)
    assert [answer.status for answer in refused] == [Status.NOT_UNDERSTOOD]
    shutil.copy(series[0], share / "a.dcm")
    watched.look(2 * STILL)
    watched.look(3 * STILL)
    assert len(list((tmp_path / "in").rglob("*.dcm"))) == 1
    assert len(refused) == 1


@pytest.mark.parametrize("share_of_it", [0.5, 0.9])
def test_a_copy_that_breaks_off_in_the_pixels_is_no_scan(
    share: Path, tmp_path: Path, series: list[Path], share_of_it: float
) -> None:
    refused: list[Answer] = []
    watched = WatchedFolder(share, Intake(tmp_path / "in", refused=refused.append))
    content = series[0].read_bytes()
    (share / "a.dcm").write_bytes(content[: round(share_of_it * len(content))])
    watched.look(0)
    watched.look(STILL)
    assert not list((tmp_path / "in").rglob("*.dcm"))
    assert refused
    assert refused[0].sender == "a.dcm"
    shutil.copy(series[0], share / "a.dcm")
    watched.look(2 * STILL)
    watched.look(3 * STILL)
    assert len(list((tmp_path / "in").rglob("*.dcm"))) == 1


def test_a_file_that_is_filled_after_it_stood_still_takes_its_own_place(
    share: Path, tmp_path: Path, series: list[Path]
) -> None:
    """Some copies make a file of the full length first; nobody else may replace an image that is kept."""
    watched = WatchedFolder(share, Intake(tmp_path / "in"))
    for path in series:
        content = path.read_bytes()
        (share / path.name).write_bytes(content[:-60] + bytes(60))
    for look in (0, STILL, STILL + SETTLE):
        early = watched.look(look)
    assert early[0].complete
    for path in series:
        (share / path.name).write_bytes(path.read_bytes())
        os.utime(share / path.name, ns=(1, 1))
    watched.look(3 * STILL)
    watched.look(4 * STILL)
    (event,) = watched.look(4 * STILL + SETTLE)
    assert event.again
    kept = sorted(path.read_bytes() for path in (tmp_path / "in").rglob("*.dcm"))
    assert kept == sorted(path.read_bytes() for path in series)


def test_an_unreadable_or_growing_stranger_holds_nothing_back_for_ever(
    share: Path, tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Answer] = []
    watched = WatchedFolder(share, Intake(tmp_path / "in", refused=refused.append))
    for path in series:
        shutil.copy(path, share)
    locked = share / "locked.dcm"
    locked.write_bytes(bytes(128) + b"DICM")
    really_read = Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    (share / "export.log").write_bytes(bytes(200))
    told = []
    for k in range(20):
        with (share / "export.log").open("ab") as log:
            log.write(b"line\n")
        told += watched.look(k * STILL)
    assert [event.complete for event in told] == [True]
    assert [answer.words for answer in refused] == ["can't be read (Permission denied)"]


def test_another_patient_is_refused_like_over_a_link(share: Path, tmp_path: Path, series: list[Path]) -> None:
    refused: list[Answer] = []
    watched = WatchedFolder(share, Intake(tmp_path / "in", Wanted("SOMEBODY"), refused=refused.append))
    for path in series:
        shutil.copy(path, share)
    for k in range(4):
        assert watched.look(k * STILL) == []
    assert {answer.status for answer in refused} == {Status.NOT_AUTHORISED}
    assert len(refused) == 6
    assert not list((tmp_path / "in").rglob("*.dcm"))


def test_links_are_not_followed(share: Path, tmp_path: Path, series: list[Path]) -> None:
    (share / "link.dcm").symlink_to(series[0])
    (share / "folder").symlink_to(series[0].parent)
    watched = WatchedFolder(share, Intake(tmp_path / "in"))
    watched.look(0)
    watched.look(STILL)
    assert not list((tmp_path / "in").rglob("*.dcm"))


def test_a_share_that_is_away_for_a_moment_is_waited_for(
    share: Path, tmp_path: Path, series: list[Path]
) -> None:
    watched = WatchedFolder(share, Intake(tmp_path / "in"))
    share.rmdir()
    assert watched.look(0) == []
    share.mkdir()
    for path in series:
        shutil.copy(path, share)
    watched.look(STILL)
    watched.look(2 * STILL)
    assert watched.look(2 * STILL + SETTLE)[0].complete


def test_folders_that_lie_in_each_other_are_refused(share: Path) -> None:
    with pytest.raises(AskedWrongly, match="must not lie in each other"):
        WatchedFolder(share, Intake(share / "in"))
    with pytest.raises(AskedWrongly, match="no such folder"):
        WatchedFolder(share / "none", Intake(share.parent / "in"))


def test_a_missing_slice_is_told_after_patience(share: Path, tmp_path: Path, series: list[Path]) -> None:
    by_place = sorted(series, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    for path in by_place[:2] + by_place[3:]:
        shutil.copy(path, share)
    watched = WatchedFolder(share, Intake(tmp_path / "in"))
    watched.look(0)
    watched.look(STILL)
    assert watched.look(STILL + SETTLE) == []
    (event,) = watched.look(STILL + Patience().missing_ns)
    assert event.problems == ("a gap: 1 slices are missing",)
