"""CTs that come over the link while the procedure waits for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.received_series import ReceivedSeries
from imaging.scan_series import SeriesReceived


def put(folder: Path, uid: str, *problems: str, kind: str = "CT", images: int = 90) -> None:
    event = SeriesReceived(kind, uid, "1.2.3", "PHANTOM", "1.2.7", images, problems, False)
    (folder / f"{uid}.json").write_text(json.dumps(event.to_json()))


@pytest.fixture
def told() -> list[str]:
    return []


def test_a_complete_ct_that_comes_after_the_request_answers_it(tmp_path: Path, told: list[str]) -> None:
    received = ReceivedSeries(tmp_path, told.append)
    assert received.look() is None
    put(tmp_path, "1.2.5")
    assert received.look() == "1.2.5"
    assert told == []


def test_what_was_there_before_answers_nothing_not_even_when_it_grows(
    tmp_path: Path, told: list[str]
) -> None:
    put(tmp_path, "1.2.5")
    received = ReceivedSeries(tmp_path, told.append)
    assert received.look() is None
    put(tmp_path, "1.2.5", images=100)
    assert received.look() is None
    assert "began before this CT was asked for" in told[0]


def test_an_incomplete_ct_is_told_once_and_taken_when_the_rest_has_come(
    tmp_path: Path, told: list[str]
) -> None:
    received = ReceivedSeries(tmp_path, told.append)
    put(tmp_path, "1.2.5", "a gap: 2 slices are missing", images=88)
    assert received.look() is None
    assert received.look() is None
    assert len(told) == 1
    assert "a gap: 2 slices are missing" in told[0]
    put(tmp_path, "1.2.5")
    assert received.look() == "1.2.5"


@pytest.mark.parametrize("kind", ["RTSTRUCT", "RTDOSE"])
def test_only_a_ct_is_an_answer(tmp_path: Path, told: list[str], kind: str) -> None:
    received = ReceivedSeries(tmp_path, told.append)
    put(tmp_path, "1.2.5", kind=kind)
    (tmp_path / "0001-needles.answer.json").write_text("{}")
    (tmp_path / "1.2.6.json").write_text("no JSON")
    (tmp_path / "1.2.7.json").write_text("[]")
    (tmp_path / "1.2.8.json").write_text(json.dumps({"event": "series-received", "series_uid": "../1.2.8"}))
    assert received.look() is None
    assert told == []
