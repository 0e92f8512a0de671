"""The simulated rig's Grbl 1.1h: stops, alarms, and what its needles do in jaw and tissue."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulated_bench import GRBL_GREETING as BANNER
from simulated_bench import GRBL_RESET as RESET
from simulated_bench import RigBench, homed_rig

from simulator.physics import ImpossibleByHandError, ImpossibleMotionError, Template
from simulator.rig_mechanics import RigParameters, X, Y, Z


@pytest.fixture
def rig() -> RigBench:
    return homed_rig()


# -- stops and alarms ------------------------------------------------------------------------------------------


def test_hold_then_reset_while_braking_is_alarm_3(rig: RigBench) -> None:
    rig.say("G53G1X-100.000F3000\n", 1.0)
    rig.say("!", 0.05)
    assert rig.say(RESET) == ["ALARM:3"]
    assert rig.say("?") == [], "its message has to leave first"
    banner, lock, report = rig.say("", 0.6)
    assert [banner, lock] == BANNER
    assert report.startswith("<Alarm|")


def test_reset_when_the_hold_is_complete_is_no_alarm(rig: RigBench) -> None:
    rig.say("G53G1X-100.000F3000\n", 1.0)
    rig.say("!", 1.0)
    assert rig.say(RESET) == BANNER[:1]
    assert rig.state() == "Idle"


def test_a_reset_in_run_loses_steps_and_rarely_its_alarm() -> None:
    alarms, slips = 0, []
    for race in (0.0, 1.0):
        bench = RigBench(reset_race=race)
        bench.home()
        bench.say("G53G1X-100.000F3000\n", 1.0)
        alarms += "ALARM:3" in bench.say(RESET, 1.0)
        slips.append(bench.mechanics.carriage_mm[X] - 100.0 - bench.place()[X])
    assert alarms == 1
    assert all(0.001 < abs(slip) < 0.2 for slip in slips)


def test_soft_limit_answers_only_to_a_reset_and_leaves_a_stray_ok(rig: RigBench) -> None:
    assert rig.say("G53G1X-250.000F3000\n") == ["ALARM:2"]
    assert rig.say(RESET) == [], "thrown away before the message"
    assert rig.say("", 0.6) == ["[MSG:Reset to continue]"]
    assert rig.say("?\n$X\n$H\n", 5.0) == []
    assert rig.say(RESET) == ["ok", *BANNER]
    assert rig.mechanics.carriage_mm[X] == pytest.approx(99.0, abs=0.1), "nothing moved"


def test_soft_limit_while_running_brakes_first(rig: RigBench) -> None:
    rig.say("G53G1X-100.000F3000\n", 1.0)
    assert rig.say("G53G1Y-250.000F3000\n") == []
    assert rig.state() == "Hold:1"
    assert rig.say("", 5.0) == ["ALARM:2", "[MSG:Reset to continue]"]


@pytest.mark.parametrize("moves", [False, True])
def test_hard_limit_kills_at_once(rig: RigBench, moves: bool) -> None:
    if moves:
        rig.say("G53G1X-100.000F3000\n", 1.0)
    rig.mechanics.push_switch(Y)
    assert rig.firmware.next_wake() is not None
    assert rig.say("", 1.0) == ["ALARM:1", "[MSG:Reset to continue]"]
    rig.mechanics.push_switch(Y, False)
    assert rig.say("?$X\n") == []
    assert rig.say(RESET) == BANNER
    assert rig.state() == "Alarm"


def test_lost_steps_run_into_the_switch(rig: RigBench) -> None:
    rig.say("G53G1X-50.000F3000\n", 10.0)
    rig.mechanics.lose_steps(X, 10.0)
    rig.say("G53G1X-41.000F3000\n", 5.0)
    assert rig.state() == "Idle"
    assert "ALARM:1" in rig.say("G53G1X-5.000F3000\n", 5.0)
    assert rig.mechanics.carriage_mm[X] == pytest.approx(100.0, abs=0.2)


def test_a_failed_probe_alarms_and_says_ok(rig: RigBench) -> None:
    answers = rig.say("G38.2Z-21F600\n", 10.0)
    assert answers[0] == "ALARM:5"
    assert answers[-1] == "ok"
    assert rig.state() == "Alarm"


# -- needles ---------------------------------------------------------------------------------------------------


class _Tissue:
    """Writes down what is done to it."""

    def __init__(self) -> None:
        self.path: list[tuple[float, float, float]] = []
        self.releases = 0

    def insert(self, needle: str, x_mm: float, y_mm: float, tip_z_mm: float) -> None:
        assert needle == "C3"
        self.path.append((x_mm, y_mm, tip_z_mm))

    def retract(self, needle: str, distance_mm: float) -> None:
        raise AssertionError(f"the rig retracts nothing: {needle}, {distance_mm}")

    def release(self) -> None:
        self.releases += 1

    def grip(self, x_mm: float, y_mm: float) -> str | None:
        del x_mm, y_mm
        return "C3"

    def drop_seed(self, needle: str) -> object:
        raise AssertionError(f"the rig has no seeds: {needle}")


def _insert(rig: RigBench, depth: float) -> None:
    rig.say("G53G1X-110.000Y-95.000F3000\n", 30.0)
    rig.mechanics.hand_needle("C3")
    assert rig.say("M8\n") == ["ok"]
    rig.say(f"G53G1Z{-20 - depth:.3f}F600\n", 30.0)


def test_a_gripped_needle_is_carried_in_small_steps_and_stays_when_released() -> None:
    tissue = _Tissue()
    rig = RigBench(Template(tissue))
    rig.home()
    _insert(rig, 60.0)
    depths = [z for _, _, z in tissue.path]
    assert max(np.diff(depths)) <= 1.0
    assert tissue.path[-1] == pytest.approx((-10.0, 5.0, 60.0), abs=0.1)
    assert rig.say("M9\n") == ["ok"]
    assert tissue.releases == 1
    moves = len(tissue.path)
    rig.say("G53G1Z-1.000F1200\n", 30.0)
    assert len(tissue.path) == moves, "the jaw is open"
    rig.say("M8\n")
    assert rig.mechanics.held is None, "nothing stands at home"
    rig.say("M9\nG53G1Z-79.500F1200\n", 30.0)
    rig.say("M8\n")
    assert rig.mechanics.held == "C3"
    assert len(tissue.path) == moves, "gripping does not move it"
    rig.say("G53G1Z-1.000F1200\n", 30.0)
    assert rig.say("M9\n") == ["ok"]
    assert "C3" not in rig.mechanics.template


@pytest.mark.parametrize("how", ["reset", "soft limit", "power"])
def test_every_reset_opens_the_jaw(how: str) -> None:
    tissue = _Tissue()
    rig = RigBench(Template(tissue))
    rig.home()
    _insert(rig, 30.0)
    if how == "reset":
        rig.say(RESET, 1.0)
    elif how == "power":
        rig.firmware.power_cut(rig.now_ns)
    else:
        rig.say("G53G1Z-300F600\n", 1.0)
    assert tissue.releases == 1
    assert rig.mechanics.held is None


def test_a_needle_is_handed_only_into_an_open_jaw_at_home(rig: RigBench) -> None:
    rig.say("M8\n")
    with pytest.raises(ImpossibleByHandError):
        rig.mechanics.hand_needle("A1")
    rig.say("M9\nG53G1Z-30F1200\n", 10.0)
    with pytest.raises(ImpossibleByHandError):
        rig.mechanics.hand_needle("A1")
    rig.say("G53G1Z-1F1200\n", 10.0)
    rig.mechanics.hand_needle("A1")
    rig.say("G53G1Z-30F1200\n", 10.0)
    rig.say("M8\n")
    assert rig.mechanics.held is None, "it was never gripped, so it fell"


class _Tough(_Tissue):
    """Pushes back with 1 N per mm beyond the skin at 20 mm; needles are not moved sideways in it."""

    def resistance_n(self, needle: str) -> float:
        assert needle == "C3"
        return max(0.0, self.path[-1][2] - 20.0) if self.path else 0.0

    def insert(self, needle: str, x_mm: float, y_mm: float, tip_z_mm: float) -> None:
        inside = [place for place in self.path if place[2] > 20.0]
        if inside and math.dist(inside[0][:2], (x_mm, y_mm)) > 1.0:
            raise ImpossibleMotionError("sideways")
        super().insert(needle, x_mm, y_mm, tip_z_mm)


def test_steps_are_lost_against_more_force_than_the_motor_has_and_mpos_does_not_know() -> None:
    rig = RigBench(Template(_Tough()), RigParameters(pull_out_n=30.0))
    rig.home()
    _insert(rig, 40.0)
    assert rig.mechanics.carriage_mm[Z] == pytest.approx(40.0, abs=0.1), "20 N is below it"
    rig.say("G53G1Z-80.000F600\n", 30.0)
    assert rig.place()[Z] == -80.0
    assert rig.mechanics.carriage_mm[Z] == pytest.approx(50.5, abs=0.6), "30 N at 50 mm"
    rig.say("G53G1Z-70.000F600\n", 30.0)
    assert rig.mechanics.carriage_mm[Z] == pytest.approx(40.5, abs=0.7), "it draws back all the same"
    rig.mechanics.weaken(10.0)
    rig.say("G53G1Z-75.000F600\n", 30.0)
    assert rig.mechanics.carriage_mm[Z] == pytest.approx(40.5, abs=0.7)


def test_a_needle_in_tissue_holds_the_carriage_sideways() -> None:
    rig = RigBench(Template(_Tough()))
    rig.home()
    _insert(rig, 60.0)
    x_mm = rig.mechanics.carriage_mm[X]
    rig.say("G53G1X-50.000F600\n", 60.0)
    assert rig.place()[X] == -50.0
    assert rig.mechanics.carriage_mm[X] == pytest.approx(x_mm, abs=1.1)
    rig.mechanics.lose_steps(X, 30.0)
    assert rig.mechanics.carriage_mm[X] == pytest.approx(x_mm, abs=1.1)


def test_a_relative_move_sent_twice_is_done_twice(rig: RigBench) -> None:
    assert rig.say("G91G1X-5F3000\nG91G1X-5F3000\n", 10.0) == ["ok", "ok"]
    assert rig.place()[X] == -11.0
