"""The output folder: taken only when safe; given back exactly as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.output_folder import MARKER, OutputFolder
from planning.refusal import AskedWrongly


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def finished_run(folder: Path, words: str = "old") -> None:
    taken = OutputFolder.take(folder, overwrite=True, case=folder.parent / "case")
    (folder / "plan.json").write_text(words)
    (folder / "journal.sqlite").write_text(words)
    (folder / "scans" / "01-needles").mkdir(parents=True)
    (folder / "scans" / "01-needles" / "0001.dcm").write_text(words)
    taken.keep()


def test_a_new_folder_and_its_parents_vanish_when_given_back(tmp_path: Path) -> None:
    taken = OutputFolder.take(tmp_path / "a" / "b", overwrite=False, case=tmp_path / "case")
    (taken.path / "plan.json").write_text("half written")
    (taken.path / "scans").mkdir()
    taken.give_back()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_given_back_empty(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    OutputFolder.take(out, overwrite=False, case=tmp_path / "case").give_back()
    assert list(out.iterdir()) == []


def test_an_older_run_comes_back_byte_for_byte_or_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished_run(out)
    before = contents(out)
    taken = OutputFolder.take(out, overwrite=True, case=tmp_path / "case")
    assert not (out / "plan.json").exists()
    (out / "plan.json").write_text("new")
    taken.give_back()
    assert contents(out) == before
    finished_run(out, "new")
    assert contents(out) == {name: b if name == MARKER else b"new" for name, b in before.items()}


def test_a_run_that_was_killed_can_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished_run(out)
    killed = OutputFolder.take(out, overwrite=True, case=tmp_path / "case")
    (out / "journal.sqlite-wal").write_text("unfinished")
    killed._lock.close()
    finished_run(out, "new")
    assert sorted(p.name for p in out.iterdir()) == [MARKER, "journal.sqlite", "plan.json", "scans"]


def refusal(path: Path, *, overwrite: bool, case: Path) -> str:
    with pytest.raises(AskedWrongly) as refused:
        OutputFolder.take(path, overwrite=overwrite, case=case)
    return str(refused.value)


def test_what_is_refused_and_left_alone(tmp_path: Path) -> None:
    case = tmp_path / "case"
    out = tmp_path / "out"
    finished_run(out)
    assert "--overwrite" in refusal(out, overwrite=False, case=case)

    (out / "thesis.docx").write_text("mine")
    before = contents(out)
    assert "'thesis.docx'" in refusal(out, overwrite=True, case=case)
    assert contents(out) == before
    (out / "thesis.docx").unlink()
    (out / "scans" / "notes.txt").write_text("mine")
    assert "'scans'" in refusal(out, overwrite=True, case=case)

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "plan.json").write_text("looks like ours")
    assert "not made by seedguide" in refusal(mine, overwrite=True, case=case)
    assert contents(mine) == {"plan.json": b"looks like ours"}

    file = tmp_path / "file"
    file.write_text("")
    assert "not a folder" in refusal(file, overwrite=True, case=case)
    assert "can't be written" in refusal(file / "below", overwrite=True, case=case)
    assert "input folder" in refusal(case / "out", overwrite=True, case=case)
    assert not case.exists()


def test_one_run_per_folder_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = OutputFolder.take(out, overwrite=False, case=tmp_path / "case")
    assert "another seedguide" in refusal(out, overwrite=True, case=tmp_path / "case")
    first.keep()
    OutputFolder.take(out, overwrite=True, case=tmp_path / "case").keep()
