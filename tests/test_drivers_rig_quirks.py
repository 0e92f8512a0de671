"""Each way of the measured Grbl 1.1h that could move a needle wrongly, and the real driver against it.

The other half, that the simulated Grbl shows each of them, is tests/test_simulator_grbl.py; DEVICES.md has the table.
"""

from __future__ import annotations

import re

import pytest
from rig_pair import Pair

from drivers.rig import (
    CloseGrip,
    HomeRig,
    MoveAcross,
    MoveDepth,
    OpenGrip,
    ReadRig,
    RigAlarmed,
    RigDone,
    RigFailed,
    RigLinkLost,
    RigRefused,
    RigStopped,
)
from simulator.cable import PERFECT, Faults
from simulator.rig_mechanics import X, Y, Z

MOTION = re.compile(rb"G53G1[^\n]*\n")


@pytest.fixture
def pair() -> Pair:
    return Pair().ready()


def test_done_is_told_when_it_is_there_and_not_at_ok(pair: Pair) -> None:
    before_ns = pair.now_ns
    assert isinstance(pair.do(MoveAcross(0.0, 0.0)), RigDone)
    assert pair.now_ns - before_ns > 1_900_000_000, "99 mm at 50 mm/s"
    assert pair.mechanics.carriage_mm[X] == pytest.approx(0.0, abs=0.06)


def test_homing_without_any_answer_to_a_question_is_waited_for(pair: Pair) -> None:
    assert pair.mechanics.carriage_mm == pytest.approx((99.0, 99.0, -19.0), abs=0.06)


def test_after_a_soft_limit_alarm_a_reset_and_homing_bring_it_back(pair: Pair) -> None:
    """0x18 thrown away before the message, the stray ok with the reset: neither is taken for anything else."""
    pair.firmware.receive(b"G53G1X-250F3000\n", pair.now_ns)
    pair.run(until_ns=pair.now_ns + 10_000_000)
    assert any(isinstance(event, RigAlarmed) and event.code == 2 for event in pair.events)
    assert not pair.driver.state.position_known
    assert isinstance(pair.do(MoveAcross(0.0, 0.0)), RigRefused)
    assert isinstance(pair.do(HomeRig()), RigDone)
    assert isinstance(pair.do(MoveAcross(0.0, 0.0)), RigDone)
    assert pair.mechanics.carriage_mm[:2] == pytest.approx((0.0, 0.0), abs=0.06)


def test_a_limit_switch_in_a_motion_breaks_it_off_and_only_homing_follows(pair: Pair) -> None:
    pair.driver.start(MoveAcross(0.0, 0.0), pair.now_ns)
    pair.run(until_ns=pair.now_ns + 500_000_000)
    pair.mechanics.push_switch(Y)
    pair.run()
    assert [type(event) for event in pair.events][-2:] == [RigAlarmed, RigFailed]
    pair.mechanics.push_switch(Y, False)
    assert isinstance(pair.do(HomeRig()), RigDone)


def test_a_failed_probe_of_another_program_leaves_the_position_unknown(pair: Pair) -> None:
    pair.firmware.receive(b"G38.2Z-21F600\n", pair.now_ns)
    pair.run(until_ns=pair.now_ns + 5_000_000_000)
    assert any(isinstance(event, RigAlarmed) and event.code == 5 for event in pair.events)
    assert isinstance(pair.do(MoveDepth(10.0, False)), RigRefused)
    assert isinstance(pair.do(HomeRig()), RigDone)


@pytest.mark.parametrize("race", [0.0, 1.0])
@pytest.mark.parametrize("after_ms", [1, 300, 1000, 1950])
def test_a_stop_is_acknowledged_with_or_without_its_alarm(race: float, after_ms: int) -> None:
    pair = Pair(reset_race=race).ready()
    assert isinstance(pair.do(MoveAcross(0.0, 0.0), stop_after_ms=after_ms), RigStopped)
    assert not pair.driver.state.position_known, "whatever Grbl says"
    assert isinstance(pair.do(MoveDepth(10.0, False)), RigRefused)


def test_no_line_leaves_before_the_one_before_is_answered_and_done(pair: Pair) -> None:
    del pair.sent[:]
    pair.on_send = _at_most_one
    pair.do(MoveAcross(0.0, 0.0))
    pair.do(CloseGrip())
    pair.do(MoveDepth(30.0, True))
    assert len(MOTION.findall(bytes(pair.sent))) == 1 + 49


def _at_most_one(data: bytes) -> None:
    assert data.count(b"\n") <= 1


def test_a_stalled_motor_is_not_seen_by_grbl_nor_by_this_driver(pair: Pair) -> None:
    """Honest about the limit: MPos agrees, so only an encoder, a rescan or the next homing can tell."""
    pair.mechanics.stall(X)
    assert isinstance(pair.do(MoveAcross(0.0, 0.0)), RigDone)
    assert pair.mechanics.carriage_mm[X] == pytest.approx(99.0, abs=0.1)


@pytest.mark.parametrize("seed", range(25))
def test_flipped_bytes_never_end_in_done_at_a_wrong_place(seed: int) -> None:
    pair = Pair(seed=seed).ready()
    pair.set_faults(Faults(flip=0.03))
    for x_mm, y_mm in ((0.0, 0.0), (-30.0, 20.0), (11.0, -7.0)):
        event = pair.do(MoveAcross(x_mm, y_mm))
        if isinstance(event, RigDone):
            assert pair.mechanics.carriage_mm[:2] == pytest.approx((x_mm, y_mm), abs=0.06)
        elif not pair.driver.state.position_known:
            return
    assert all(isinstance(e, RigDone | RigFailed | RigRefused | RigStopped | RigLinkLost) for e in [event])


@pytest.mark.parametrize("seed", range(10))
def test_a_motion_whose_answer_is_lost_is_never_sent_again(seed: int) -> None:
    pair = Pair(seed=seed).ready()
    del pair.sent[:]
    pair.set_faults(Faults(loss=0.15))
    pair.do(MoveAcross(0.0, 0.0))
    pair.set_faults(PERFECT)
    assert len(MOTION.findall(bytes(pair.sent))) == 1
    assert b"G91" not in pair.sent


def test_a_reset_in_the_middle_opens_the_grip_and_the_driver_knows(pair: Pair) -> None:
    pair.do(CloseGrip())
    assert pair.driver.state.grip_closed
    pair.firmware.receive(b"\x18", pair.now_ns)
    pair.run(until_ns=pair.now_ns + 50_000_000)
    assert not pair.driver.state.grip_closed
    assert isinstance(pair.do(OpenGrip()), RigRefused)
    assert isinstance(pair.do(ReadRig()), RigDone)


def test_lost_steps_show_at_the_next_homing_only(pair: Pair) -> None:
    pair.mechanics.lose_steps(Z, -2.0)
    assert isinstance(pair.do(MoveDepth(10.0, False)), RigDone)
    assert pair.mechanics.carriage_mm[Z] == pytest.approx(12.0, abs=0.06)
    pair.do(HomeRig())
    pair.do(MoveDepth(10.0, False))
    assert pair.mechanics.carriage_mm[Z] == pytest.approx(10.0, abs=0.06)
