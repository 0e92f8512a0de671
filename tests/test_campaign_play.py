"""A campaign's folder: cut off anywhere it goes on to the same tables; no run is lost or counted twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from block_patient import procedure_runs

from planning.refusal import AskedWrongly
from simulator.rehearsal.campaign import page, table
from simulator.rehearsal.campaign.asked import Asked
from simulator.rehearsal.campaign.dose_run import as_planned
from simulator.rehearsal.campaign.play import play
from simulator.rehearsal.campaign.procedure_run import ProcedureRuns
from simulator.rehearsal.campaign.table import Tables, columns_of
from simulator.rehearsal.campaign.variation import Variation
from simulator.rehearsal.campaign.workers import CampaignStoppedError

PLAYER = procedure_runs(Variation())


def asked(runs: int = 5, chunk: int = 2) -> Asked:
    return Asked(
        kind="procedure",
        plan_hash=PLAYER.plan.content_hash,
        runs=runs,
        seed=1,
        chunk=chunk,
        variation=Variation(),
        as_planned=as_planned(PLAYER.plan, PLAYER.figures),
        goals={"CTV.d90_gy": ("at_least", 100.0, "assumed")},
        prescription_gy=120.0,
    )


def played(
    folder: Path,
    question: Asked,
    progress: Callable[[int], None] = lambda _count: None,
    player: ProcedureRuns = PLAYER,
) -> bytes:
    folder.mkdir(exist_ok=True)
    play(question, player, folder, cores=1, scheduler=None, progress=progress)
    return b"".join((folder / name).read_bytes() for name in ("runs.parquet", "needles.parquet"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return played(tmp_path_factory.mktemp("whole"), asked())


class CutOff(Exception):
    """As a kill: nothing is tidied up."""


def test_cut_off_and_resumed_it_gives_the_same_bytes(whole: bytes, tmp_path: Path) -> None:
    def cut(count: int) -> None:
        if count >= 4:
            raise CutOff

    with pytest.raises(CutOff):
        played(tmp_path, asked(), cut)
    chunks = sorted((tmp_path / "chunks").iterdir())
    assert len(chunks) == 2
    chunks[1].write_bytes(chunks[1].read_bytes()[:-40])  # half written by a disk that lied
    (tmp_path / "chunks" / ".000002.parquet.99").write_bytes(b"left by a kill")
    counts: list[int] = []
    assert played(tmp_path, asked(), counts.append) == whole
    assert counts == [2, 4, 5]
    assert played(tmp_path, asked(), counts.append) == whole  # nothing is left to play
    assert counts[3:] == [5]


def test_runs_may_grow(whole: bytes, tmp_path: Path) -> None:
    played(tmp_path, asked(runs=3))
    counts: list[int] = []
    assert played(tmp_path, asked(), counts.append) == whole
    assert counts[0] == 2, "the chunk that was short is played again, the full one is not"


def test_another_question_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="no campaign was begun there"):
        asked().check_goes_on(tmp_path)
    asked().save(tmp_path)
    asked().check_goes_on(tmp_path)
    replace(asked(), runs=20).check_goes_on(tmp_path)
    for other, word in (
        (replace(asked(), seed=2), "--seed"),
        (replace(asked(), plan_hash="0"), "plan"),
        (replace(asked(), kind="dose"), "--dose-only"),
        (replace(asked(), variation=Variation(rules=replace(Variation().rules, max_attempts=2))), "--vary"),
    ):
        with pytest.raises(AskedWrongly, match=word):
            other.check_goes_on(tmp_path)
    with pytest.raises(AskedWrongly, match="may only grow"):
        replace(asked(), runs=4).check_goes_on(tmp_path)
    (tmp_path / "campaign.json").write_text("{")
    with pytest.raises(AskedWrongly, match=r"campaign\.json: can't be read"):
        asked().check_goes_on(tmp_path)


def test_a_full_disk_stops_it_with_a_sentence_and_keeps_what_was_played(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = table.write_whole

    def full(path: Path, content: bytes) -> None:
        if path.stem == "000002":
            raise AskedWrongly(f"{path}: can't be written (No space left on device).")
        written(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(table, "write_whole", full)
        with pytest.raises(CampaignStoppedError, match=r"No space left.*--resume"):
            played(tmp_path, asked())
    assert len(list((tmp_path / "chunks").iterdir())) == 2
    assert played(tmp_path, asked()) == whole


def test_every_column_has_its_unit_and_meaning_in_the_file(tmp_path: Path) -> None:
    played(tmp_path, asked())
    schema = pq.read_schema(tmp_path / "runs.parquet")
    assert schema.names == [column.name for column in columns_of(asked())]
    for name in ("runs.parquet", "needles.parquet"):
        for field in pq.read_schema(tmp_path / name):
            assert field.metadata[b"meaning"], field.name
            unit = {"_mm": b"mm", "_deg": b"deg", "_s": b"s", "_gy": b"Gy", "_pct": b"%"}
            for suffix, symbol in unit.items():
                if field.name.endswith(suffix):
                    assert field.metadata[b"unit"] == symbol, field.name
    runs, needles = (
        pq.read_table(tmp_path / name).to_pylist() for name in ("runs.parquet", "needles.parquet")
    )
    counted: dict[int, Any] = dict.fromkeys(range(5), 0)
    for needle in needles:
        counted[needle["run"]] += needle["corrections"]
    assert [run["corrections"] for run in runs] == list(counted.values())
    assert len(needles) == 5 * len(PLAYER.plan.needles)


def test_a_table_that_would_not_hold_every_run_once_is_not_written(tmp_path: Path) -> None:
    tables = Tables(tmp_path, asked(runs=4))
    rows = PLAYER.play(range(2))
    tables.write_chunk(0, rows)
    tables.write_chunk(1, rows)
    assert tables.played() == {0}
    with pytest.raises(RuntimeError, match="every run once"):
        tables.write_all()


def test_the_page_tells_of_every_parameter_and_column_as_they_are() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.renewed(text) == text, "run python -m simulator.rehearsal.campaign.page"
