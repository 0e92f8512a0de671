"""The columns of a campaign's tables, with unit and meaning, and the files that hold them (Apache Parquet).

``chunks/NNNNNN.parquet``: the runs of one chunk, written whole or not at all; what is there when a campaign goes on is
not played again. ``runs.parquet`` and ``needles.parquet``: everything, in the order of the runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from planning.goals import label_of
from planning.refusal import AskedWrongly
from planning.whole_file import write_whole
from simulator.rehearsal.campaign.asked import Asked

CHUNKS, RUNS_FILE, NEEDLES_FILE = "chunks", "runs.parquet", "needles.parquet"
_TYPES = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "yes/no": pa.bool_()}


@dataclass(frozen=True)
class Column:
    """One column: ``kind`` is int, float, text or yes/no."""

    name: str
    kind: str
    unit: str
    meaning: str

    def field(self) -> pa.Field:
        return pa.field(self.name, _TYPES[self.kind], metadata={"unit": self.unit, "meaning": self.meaning})


RUN = (
    Column("run", "int", "", "number of the run; with the campaign's seed it gives the run's chance"),
    Column("seeds", "int", "", "seeds in the patient"),
    Column("seeds_lost", "int", "", "of these, lost before they gave dose"),
)
PROCEDURE = (
    Column("outcome", "text", "", "completed, or held: a person would have to decide"),
    Column("held_in", "text", "", "state of the protocol in which it was held; empty when it was not"),
    Column("reason", "text", "", "why it was held, in words"),
    Column("scans", "int", "", "CTs"),
    Column("insertions", "int", "", "needle insertions and depth changes, all needles"),
    Column("corrections", "int", "", "of these, corrections after a CT"),
    Column("time_s", "float", "s", "on the procedure's clock, from the time-out to the end"),
)
NEEDLE = (
    Column("needle", "text", "", "name in the plan"),
    Column(
        "is_reference",
        "yes/no",
        "",
        "a reference needle: in before anything is known of where the rig stands",
    ),
    Column("insertions", "int", "", "insertions and depth changes"),
    Column("corrections", "int", "", "of these, corrections after a CT"),
    *(
        Column(f"{when}_{name}", "float", unit, f"{words}, {at}")
        for when, at in (
            ("first", "true, at the first CT of all needles"),
            ("final", "true, before its first seed"),
        )
        for name, unit, words in (
            ("tip_mm", "mm", "distance of the tip from its planned place"),
            ("lateral_mm", "mm", "its part across the planned direction"),
            ("depth_mm", "mm", "its part along it, > 0 too deep"),
            ("entry_mm", "mm", "at the skin, across the planned direction"),
            ("angle_deg", "deg", "of the line from skin to tip against the plan"),
        )
    ),
    Column("first_measured_mm", "float", "mm", "distance of the tip as the first CT of all needles told it"),
    Column("first_verdict", "text", "", "of that CT: within, beyond, cannot tell"),
    Column("final_measured_mm", "float", "mm", "distance of the tip as the last CT told it"),
    Column("accepted", "yes/no", "", "stood within tolerance at the end, as far as the CTs told"),
)


def figure_column(name: str) -> Column:
    """Of a figure like ``CTV.d90_gy``."""
    structure, _, metric = name.partition(".")
    label, unit = label_of(metric)
    return Column(
        name, "float", unit, f"{structure} {label} that the seeds give; empty when the run was held"
    )


def columns_of(asked: Asked) -> tuple[Column, ...]:
    """Of ``runs.parquet``."""
    own = PROCEDURE if asked.kind == "procedure" else ()
    return (*RUN, *own, *(figure_column(name) for name in asked.as_planned))


class Tables:
    """The files of one campaign in ``folder``."""

    def __init__(self, folder: Path, asked: Asked) -> None:
        self._folder, self._asked = folder, asked
        fields = [column.field() for column in columns_of(asked)]
        self._flat = pa.schema(fields, metadata={"format": "seedguide-campaign-runs/1"})
        # chunks are many and small: without units and meanings, which are longer than the runs
        needle = pa.struct([column.field().remove_metadata() for column in NEEDLE])
        nested = [pa.field("needles", pa.list_(needle))] if asked.kind == "procedure" else []
        self._whole = pa.schema([*(each.remove_metadata() for each in fields), *nested])
        (folder / CHUNKS).mkdir(exist_ok=True)

    def write_chunk(self, number: int, rows: Sequence[dict[str, Any]]) -> None:
        """Whole or not at all.

        Raises:
            AskedWrongly: the disk is full, or the folder can't be written.
        """
        table = pa.Table.from_pylist(list(rows), schema=self._whole)
        _write(self._chunk(number), table)

    def played(self) -> set[int]:
        """Chunks that are there and hold the runs they must; any other file is played anew."""
        return {number for number, runs in self._asked.chunks() if self._is_whole(number, runs)}

    def write_all(self) -> None:
        """Both tables from all chunks, in order; every run once.

        Raises:
            AskedWrongly: the disk is full.
        """
        whole = pa.concat_tables([pq.read_table(self._chunk(n)) for n, _ in self._asked.chunks()])
        runs = whole["run"].to_pylist()
        if runs != list(range(self._asked.runs)):
            raise RuntimeError("the chunks do not hold every run once")
        _write(self._folder / RUNS_FILE, whole.select(self._flat.names).cast(self._flat))
        if self._asked.kind == "procedure":
            _write(self._folder / NEEDLES_FILE, _needles(whole))

    def _chunk(self, number: int) -> Path:
        return self._folder / CHUNKS / f"{number:06d}.parquet"

    def _is_whole(self, number: int, runs: Iterable[int]) -> bool:
        try:
            found = pq.read_table(self._chunk(number))
        except (OSError, pa.ArrowException):
            return False
        return bool(found.schema.equals(self._whole)) and found["run"].to_pylist() == list(runs)


def _needles(whole: pa.Table) -> pa.Table:
    """One row a needle of a run."""
    lists = whole["needles"].combine_chunks()
    counts = [len(needles) for needles in whole["needles"].to_pylist()]
    runs = [run for run, count in zip(whole["run"].to_pylist(), counts, strict=True) for _ in range(count)]
    flat = lists.flatten()
    arrays = [pa.array(runs, pa.int64()), *(flat.field(column.name) for column in NEEDLE)]
    schema = pa.schema([RUN[0].field(), *(column.field() for column in NEEDLE)])
    return pa.Table.from_arrays(arrays, schema=schema)


def _write(path: Path, table: pa.Table) -> None:
    held = io.BytesIO()
    pq.write_table(table, held, compression="zstd", write_statistics=False)
    write_whole(path, held.getvalue())


def read_columns(path: Path) -> dict[str, list[Any]]:
    """A table's columns as lists.

    Raises:
        AskedWrongly: it can't be read.
    """
    try:
        columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowException) as problem:
        raise AskedWrongly(f"{path}: can't be read ({problem}).") from problem
    return columns
