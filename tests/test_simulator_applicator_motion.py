"""The simulated applicator's axes: motion, watchdog, stops, and the needle that follows the carriage."""

from __future__ import annotations

import pytest
from simulated_bench import ApplicatorBench

from simulator.physics import ImpossibleByHandError

TOKEN = "8F3C"


@pytest.fixture
def bench() -> ApplicatorBench:
    made = ApplicatorBench()
    made.make_ready()
    return made


def test_a_move_needs_homes_range_and_a_stylet_at_home() -> None:
    bench = ApplicatorBench()
    bench.hello()
    assert bench.refused("MOVE", z=0, v=1000) == "HOME"
    bench.home_and_move(1000)
    for z, v in ((-1, 1000), (150_001, 1000), (0, 99), (0, 20_001)):
        assert bench.refused("MOVE", z=z, v=v) == "RANGE"
    bench.ask("MOVE", z=6000, v=5000)
    assert bench.refused("HOME", ax="z") == "BUSY"
    bench.pass_time(500)
    half = int(bench.ask("STAT")["z"])
    assert 3000 < half < 4000, "5 mm/s for half a second"
    bench.pass_time(1000)
    assert abs(int(bench.events("MOVED")[-1]["z"]) - 6000) < 20


def test_silence_stops_a_move_and_disarms_but_never_retracts(bench: ApplicatorBench) -> None:
    bench.ask("MOVE", z=54_500, v=10_000)
    bench.pass_time(700, pings=False)
    stopped = bench.events("STOPPED")[-1]
    assert stopped["by"] == "WATCH"
    assert 8500 < int(stopped["z"]) < 9600, "10 mm/s for half a second from 4.5 mm"
    bench.pass_time(5000)
    status = bench.ask("STAT")
    assert (status["la"], status["z"]) == ("WATCH", stopped["z"])
    bench.ask("CLEAR", la="WATCH", n=0, **{"as": "NO"})
    bench.ask("MOVE", z=4500, v=10_000)
    bench.pass_time(1000)
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    bench.pass_time(700, pings=False)
    assert bench.ask("STAT")["la"] == "WATCH"
    assert bench.refused("FIRE", n=1, tok=TOKEN) == "LATCH"


@pytest.mark.parametrize("way", ["stop", "estop"])
def test_a_stopped_stroke_is_unknown_and_outranks_the_stop(bench: ApplicatorBench, way: str) -> None:
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    bench.ask("FIRE", n=1, tok=TOKEN)
    bench.pass_time(300)
    if way == "stop":
        bench.send(b"\x18")
    else:
        bench.mechanics.set_estop(True, bench.now_ns)
        assert bench.firmware.next_wake() is not None
    bench.pass_time(2000)
    assert bench.events("SHOT")[-1]["out"] == "UNKNOWN"
    status = bench.ask("STAT")
    assert (status["la"], status["ln"], status["es"]) == ("UNKNOWN", "1", "0" if way == "stop" else "1")
    assert bench.mechanics.channel == 1
    if way == "estop":
        assert bench.refused("CLEAR", la="UNKNOWN", n=1, **{"as": "WA"}) == "ESTOP"
        assert bench.refused("MOVE", z=0, v=500) == "ESTOP"
        bench.mechanics.set_estop(False, bench.now_ns)
        bench.pass_time(100)
        assert [event["es"] for event in bench.events("ESTOP")] == ["1", "0"]
    beneath = way.upper()
    assert bench.ask("CLEAR", la="UNKNOWN", n=1, **{"as": "WA"}) == {"la": beneath}
    assert bench.ask("CLEAR", la=beneath, n=0, **{"as": "NO"}) == {"la": "NONE"}


@pytest.mark.parametrize("fault", ["stuck", "slip"])
def test_a_following_error_stops_the_axis(bench: ApplicatorBench, fault: str) -> None:
    bench.ask("MOVE", z=54_500, v=10_000)
    bench.pass_time(500)
    if fault == "stuck":
        bench.mechanics.stick_z(True, bench.now_ns)
    else:
        bench.mechanics.lose_steps_z(0.5, bench.now_ns)
    bench.pass_time(200)
    assert bench.events("STOPPED")[-1]["by"] == "AXIS"
    assert bench.ask("STAT")["la"] == "AXIS"


def test_telemetry_is_quick_in_motion_and_slow_at_rest(bench: ApplicatorBench) -> None:
    def telegrams() -> int:
        return sum(packet.sigil == "~" for packet in bench.heard)

    before = telegrams()
    bench.pass_time(10_000)
    assert telegrams() - before == 10
    before = telegrams()
    bench.ask("MOVE", z=104_500, v=10_000)
    bench.pass_time(9000)
    assert 44 <= telegrams() - before <= 46


def test_the_needle_follows_the_carriage_and_only_foremost_can_be_coupled(bench: ApplicatorBench) -> None:
    bench.template.hold("B2", 5.0, 5.0, 60.0)
    with pytest.raises(ImpossibleByHandError):
        bench.mechanics.couple("B2")
    bench.ask("MOVE", z=0, v=20_000)
    bench.pass_time(1000)
    bench.mechanics.couple("B2")
    bench.ask("MOVE", z=24_500, v=20_000)
    bench.pass_time(2000)
    drawn_mm = int(bench.ask("STAT")["z"]) / 1000
    assert bench.template.place_mm("B2")[2] == pytest.approx(60.0 - drawn_mm, abs=0.01)
    assert bench.shoot(1, z=24_500) == "PASS"
    assert bench.template.seeds_dropped == {"B2": 1}
