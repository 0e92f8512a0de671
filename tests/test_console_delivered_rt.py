"""RT objects of a delivery: what was put in, where it lies, and what they refer to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_run import made_result
from test_planning_rt_objects import dciodvfy_errors, needs_dciodvfy

from console.delivered_rt import write_delivered
from controller.journal import Journal
from controller.result import FoundSeed, ProcedureResult
from planning.rt_objects import read_rt_plan_seeds

NOON = datetime(2026, 5, 6, 12, 0, 0)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ProcedureResult:
    made = made_result(tmp_path_factory.mktemp("run"))
    assert made.delivered is not None
    axis = made.plan.needles[0].direction
    seen = tuple(FoundSeed(s.number, s.found_mm, tuple(axis)) for s in made.seeds if s.found_mm is not None)
    stray = FoundSeed(None, (1.0, 2.0, 3.0), (0.0, 0.0, 1.0))
    return replace(made, delivered=replace(made.delivered, seeds=(*seen, stray)))


@pytest.fixture(scope="module")
def run(result: ProcedureResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivered")
    journal = Journal(folder / "journal.sqlite")
    for k, seed in enumerate(result.seeds):
        body = {"event": "SeedDropped", "seed": seed.number, "outcome": "PASS", "number": k}
        journal.append((600 + 30 * k) * 10**9, "event", body)
    journal.append(3600 * 10**9, "event", {"event": "Over"})
    journal.close()
    write_delivered(result, folder, folder / "journal.sqlite", NOON)
    return folder


def channels(record: pydicom.Dataset) -> list[pydicom.Dataset]:
    (setup,) = record.TreatmentSessionApplicationSetupSequence
    return list(setup.RecordedChannelSequence)


def test_the_record_tells_each_seed_with_needle_and_time(run: Path, result: ProcedureResult) -> None:
    record = pydicom.dcmread(run / "rtrecord.dcm")
    assert [c.ChannelNumber for c in channels(record)] == [seed.number for seed in result.seeds]
    assert [c.SourceApplicatorName for c in channels(record)] == [seed.needle for seed in result.seeds]
    (setup,) = record.TreatmentSessionApplicationSetupSequence
    assert setup.TreatmentTerminationStatus == "NORMAL"
    first, second = (c.BrachyControlPointDeliveredSequence[0] for c in channels(record)[:2])
    assert first.TreatmentControlPointDate == "20260506"
    assert (first.TreatmentControlPointTime[:6], second.TreatmentControlPointTime[:6]) == ("111000", "111030")
    plan = pydicom.dcmread(run / "rtplan.dcm")
    planned = {c.ChannelNumber: c for c in plan.ApplicationSetupSequence[0].ChannelSequence}
    for channel in channels(record):
        assert channel.SourceApplicatorID == planned[channel.ChannelNumber].SourceApplicatorID
    assert setup.TotalReferenceAirKerma == plan.ApplicationSetupSequence[0].TotalReferenceAirKerma


def test_they_refer_to_plan_and_ct(run: Path, result: ProcedureResult) -> None:
    record, plan, found, dose = (
        pydicom.dcmread(run / f"{name}.dcm")
        for name in ("rtrecord", "rtplan", "rtplan_delivered", "rtdose_delivered")
    )
    assert record.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    (series,) = record.ReferencedSeriesSequence
    images = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert (series.SeriesInstanceUID, images) == (result.ct.series_uid, set(result.ct.sop_uids))
    prior = found.ReferencedRTPlanSequence[0]
    assert (prior.ReferencedSOPInstanceUID, prior.RTPlanRelationship) == (plan.SOPInstanceUID, "PRIOR")
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == found.SOPInstanceUID
    assert len({each.SOPInstanceUID for each in (record, plan, found, dose)}) == 4


def test_the_seeds_found_come_back_the_unplanned_one_too(run: Path, result: ProcedureResult) -> None:
    assert result.delivered is not None
    seeds = read_rt_plan_seeds(run / "rtplan_delivered.dcm")
    np.testing.assert_allclose(seeds.centres_mm, [s.centre_mm for s in result.delivered.seeds], atol=1e-3)
    assert seeds.needles == (*(seed.needle for seed in result.seeds), "")


@needs_dciodvfy
@pytest.mark.parametrize("name", ["rtrecord", "rtplan_delivered", "rtdose_delivered"])
def test_dciodvfy_finds_no_error(run: Path, tmp_path: Path, name: str) -> None:
    assert dciodvfy_errors(run / f"{name}.dcm", tmp_path) == []


def test_a_session_that_was_ended_early_and_one_without_a_seed(
    result: ProcedureResult, tmp_path: Path
) -> None:
    some = tuple(replace(s, outcome="PASS" if s.number <= 3 else "not delivered") for s in result.seeds)
    held = replace(result, status="held", seeds=some, delivered=None)
    written = write_delivered(held, tmp_path, tmp_path / "journal.sqlite", NOON)
    assert [path.name for path in written] == ["rtrecord.dcm"]
    record = pydicom.dcmread(written[0])
    assert [c.ChannelNumber for c in channels(record)] == [1, 2, 3]
    assert record.TreatmentSessionApplicationSetupSequence[0].TreatmentTerminationStatus == "OPERATOR"
    empty = tmp_path / "empty"
    empty.mkdir()
    none = replace(held, seeds=tuple(replace(s, outcome="not delivered") for s in some))
    assert write_delivered(none, empty, empty / "journal.sqlite", NOON) == []
    assert not list(empty.iterdir())


def test_an_adapted_loading_is_written_and_referred_to(result: ProcedureResult, tmp_path: Path) -> None:
    x, y, z = result.seeds[0].planned_mm
    moved = (replace(result.seeds[0], planned_mm=(x, y, z + 5.0)), *result.seeds[1:])
    write_delivered(replace(result, seeds=moved), tmp_path, tmp_path / "journal.sqlite", NOON)
    adapted, record = (pydicom.dcmread(tmp_path / f"{n}.dcm") for n in ("rtplan_adapted", "rtrecord"))
    assert record.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == adapted.SOPInstanceUID
    first_plan = pydicom.dcmread(tmp_path / "rtplan.dcm")
    assert adapted.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == first_plan.SOPInstanceUID
    seeds = read_rt_plan_seeds(tmp_path / "rtplan_adapted.dcm")
    np.testing.assert_allclose(seeds.centres_mm[0], moved[0].planned_mm)
