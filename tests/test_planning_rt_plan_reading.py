"""RT Plans as planning systems write them: every layout gives the same seeds; what is not told is asked for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from test_planning_rt_objects import ORIGIN, ct_volume, two_needle_plan, uid

from planning.refusal import AskedWrongly
from planning.rt_objects import read_rt_plan_seeds, write_rt_plan

Change = Callable[[Dataset], None]


def read(folder: Path, change: Change, direction: np.ndarray | None = None):
    path = folder / "rtplan.dcm"
    write_rt_plan(path, two_needle_plan(), ct_volume(), origin=ORIGIN, structure_set_uid=uid(9))
    body = pydicom.dcmread(path)
    change(body)
    body.save_as(path)
    return read_rt_plan_seeds(path, direction)


def channels(body: Dataset) -> list[Dataset]:
    return [
        channel for setup in body.ApplicationSetupSequence for channel in setup.get("ChannelSequence") or ()
    ]


def without_orientation(body: Dataset) -> None:
    for channel in channels(body):
        for point in channel.BrachyControlPointSequence:
            point.pop("ControlPointOrientation", None)


def one_setup_per_seed_and_an_empty_one(body: Dataset) -> None:
    setup, new = body.ApplicationSetupSequence[0], []
    for number, channel in enumerate(setup.ChannelSequence, start=1):
        item = deepcopy(setup)
        item.ApplicationSetupNumber, item.ChannelSequence = number, Sequence([channel])
        new.append(item)
    empty = deepcopy(setup)
    empty.ApplicationSetupNumber = len(new) + 1
    del empty.ChannelSequence
    body.ApplicationSetupSequence = Sequence([*new, empty])


def as_a_clinical_system_wrote_it(body: Dataset) -> None:
    """CLINIC.md: technique INTERSTITIAL, type LDR; a setup for each seed and an empty last one; four control points,
    two at the seed, weight 0 and 100, two more 1 mm further without any, which is how the direction is told; a second
    source that is a spacer, rate 0; no orientation, no applicator's name, no frame of reference."""
    body.BrachyTreatmentTechnique = "INTERSTITIAL"
    with_spacers(body)
    one_setup_per_seed_and_an_empty_one(body)
    seed, spacer = body.SourceSequence
    seed.ActiveSourceLength = spacer.ActiveSourceLength = 3.4
    for channel in channels(body):
        channel.ChannelTotalTime = 7404142
        for name in ("SourceApplicatorNumber", "SourceApplicatorID", "SourceApplicatorName"):
            del channel[name]
        first, second = channel.BrachyControlPointSequence
        further = np.array(first.ControlPoint3DPosition, float) + np.array(
            first.ControlPointOrientation, float
        )
        more = []
        for index in (2, 3):
            point = Dataset()
            point.ControlPointIndex = index
            point.ControlPoint3DPosition = [f"{value:.6f}" for value in further]
            more.append(point)
        channel.BrachyControlPointSequence = Sequence([first, second, *more])
    without_orientation(body)
    del body.FrameOfReferenceUID


def with_spacers(body: Dataset) -> None:
    spacer = deepcopy(body.SourceSequence[0])
    spacer.SourceNumber, spacer.ReferenceAirKermaRate = 2, 0
    body.SourceSequence.append(spacer)
    extra = deepcopy(channels(body)[0])
    extra.ReferencedSourceNumber = 2
    body.ApplicationSetupSequence[0].ChannelSequence.append(extra)


def a_needle_per_channel(body: Dataset) -> None:
    """Three seeds of a needle in one channel, each with two control points; no orientation."""
    without_orientation(body)
    new = []
    every = channels(body)
    for start in (0, 3):
        channel = deepcopy(every[start])
        points = []
        for k, own in enumerate(every[start : start + 3]):
            for point, weight in zip(deepcopy(own.BrachyControlPointSequence), (k, k + 1), strict=True):
                point.ControlPointIndex, point.CumulativeTimeWeight = len(points), 100.0 * weight / 3.0
                points.append(point)
        channel.BrachyControlPointSequence = Sequence(points)
        new.append(channel)
    body.ApplicationSetupSequence[0].ChannelSequence = Sequence(new)


def positions_repeated(body: Dataset) -> None:
    for channel in channels(body):
        first, second = channel.BrachyControlPointSequence
        middle = deepcopy(first)
        middle.CumulativeTimeWeight = 40
        channel.BrachyControlPointSequence = Sequence([first, middle, second, deepcopy(second)])


def without_weights(body: Dataset) -> None:
    for channel in channels(body):
        for point in channel.BrachyControlPointSequence:
            del point.CumulativeTimeWeight


@pytest.mark.parametrize(
    "change",
    [
        one_setup_per_seed_and_an_empty_one,
        as_a_clinical_system_wrote_it,
        with_spacers,
        a_needle_per_channel,
        positions_repeated,
        without_weights,
    ],
)
def test_every_layout_gives_the_same_seeds(tmp_path: Path, change: Change) -> None:
    plan, found = two_needle_plan(), read(tmp_path, change)
    np.testing.assert_allclose(found.centres_mm, plan.seed_centres_mm(), atol=1e-3)
    along = np.abs(np.sum(found.directions * plan.seed_directions(), axis=1))
    np.testing.assert_allclose(along, 1.0, atol=1e-5)
    np.testing.assert_allclose(found.strength_u, plan.air_kerma_strength_u, rtol=1e-6)


def test_each_channel_has_the_strength_of_its_own_source(tmp_path: Path) -> None:
    def two_batches(body: Dataset) -> None:
        other = deepcopy(body.SourceSequence[0])
        other.SourceNumber, other.ReferenceAirKermaRate = 2, 0.5
        body.SourceSequence.append(other)
        for channel in channels(body)[3:]:
            channel.ReferencedSourceNumber = 2

    strength = read(tmp_path, two_batches).strength_u
    np.testing.assert_allclose(strength, [0.8255] * 3 + [0.5] * 3)


def test_a_direction_that_nobody_tells_is_asked_for_and_taken(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="--seed-direction"):
        read(tmp_path, without_orientation)
    found = read(tmp_path, without_orientation, np.array([0.0, 3.0, 4.0]))
    np.testing.assert_allclose(found.directions, [[0.0, 0.6, 0.8]] * 6)


def seed_twice(body: Dataset) -> None:
    body.ApplicationSetupSequence[0].ChannelSequence.append(deepcopy(channels(body)[0]))


def stepping(body: Dataset) -> None:
    channels(body)[1].SourceMovementType = "STEPWISE"


def no_such_source(body: Dataset) -> None:
    channels(body)[1].ReferencedSourceNumber = 7


def no_position(body: Dataset) -> None:
    del channels(body)[2].BrachyControlPointSequence[0].ControlPoint3DPosition


def no_length(body: Dataset) -> None:
    for point in channels(body)[0].BrachyControlPointSequence:
        point.ControlPointOrientation = [0.0, 0.0, 0.0]


def all_spacers(body: Dataset) -> None:
    body.SourceSequence[0].ReferenceAirKermaRate = 0


def high_dose_rate(body: Dataset) -> None:
    body.BrachyTreatmentTechnique, body.BrachyTreatmentType = "INTERSTITIAL", "HDR"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (seed_twice, "same place"),
        (stepping, "STEPWISE"),
        (no_such_source, "source 7"),
        (no_position, "without a position"),
        (no_length, "orientation"),
        (all_spacers, "no channel holds a seed"),
        (high_dose_rate, "not an RT Plan of a permanent"),
    ],
)
def test_what_can_not_be_so_is_refused_in_one_sentence(tmp_path: Path, change: Change, word: str) -> None:
    with pytest.raises(AskedWrongly, match=word) as refusal:
        read(tmp_path, change)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"no DICOM")
    with pytest.raises(AskedWrongly, match=r"x\.dcm"):
        read_rt_plan_seeds(path)
