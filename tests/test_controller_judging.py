"""What a CT may be judged for: only one that was acquired after the last."""

from __future__ import annotations

import pytest

from controller.commands import RequestScan
from controller.judging import judge_scan
from controller.knowledge import Knowledge, ProcedureSettings
from controller.replay import findings_of
from imaging.rescan import RescanFindings, ScanIdentity
from tests.compact_case import PLAN

FIRST = ("2020-01-02T09:03:00.000000", "2020-01-02T09:03:01.500000")


def findings(series: str, acquired: tuple[str, str] | None) -> RescanFindings:
    identity = ScanIdentity(PLAN.patient_id, "1", series, PLAN.frame_of_reference_uid, 1.25, 90, acquired)
    return RescanFindings("needles", identity, (), True, "", 1.0, 0.2)


@pytest.mark.parametrize(
    ("acquired", "usable"),
    [
        (("2020-01-02T09:06:00.000000", "2020-01-02T09:06:01.500000"), True),
        (FIRST, False),  # the same data reconstructed with another kernel, sent late
        (("2020-01-02T09:03:00.700000", "2020-01-02T09:03:01.200000"), False),  # a part of it
        (("2019-12-30T08:00:00.000000", "2019-12-30T08:00:02.000000"), False),  # an old one
        (None, True),  # a scanner that does not say: only the series UID tells
    ],
)
def test_a_ct_acquired_no_later_than_the_one_before_is_not_judged(
    acquired: tuple[str, str] | None, usable: bool
) -> None:
    known = Knowledge.of(PLAN, ProcedureSettings())
    judge_scan(known, RequestScan(1, 1, "needles", 0), findings("1.1", FIRST))
    assert known.scan_is_usable
    trigger, said = judge_scan(known, RequestScan(2, 2, "needles", 5), findings("1.2", acquired))
    assert trigger == "scan_judged"
    assert known.scan_is_usable is usable
    assert usable or ("not after CT 1" in said and all(story.seen != 5 for story in known.needles.values()))
    # it was not taken in: the next one is compared with the CT that was
    judge_scan(
        known,
        RequestScan(3, 3, "needles", 5),
        findings("1.3", ("2020-01-02T09:09:00", "2020-01-02T09:09:01")),
    )
    assert known.scan_is_usable


def test_acquisition_times_outlive_the_journal_and_older_journals_have_none() -> None:
    written = findings("1.1", FIRST).to_json()
    assert findings_of(written).identity.acquired == FIRST
    del written["scan"]["acquired"]
    assert findings_of(written).identity.acquired is None
