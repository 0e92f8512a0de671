"""The simulated applicator: what only its inside shows (seeds, forces, power cuts).

What WIRE.md promises at the wire is in test_contract_applicator.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import MS, ApplicatorBench, golden_lines

from simulator import line
from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.nonvolatile import PowerCutError
from simulator.physics import ImpossibleByHandError, Template

TOKEN = "8F3C"


@pytest.fixture
def bench() -> ApplicatorBench:
    made = ApplicatorBench()
    made.make_ready()
    return made


# -- numbers -----------------------------------------------------------------------------------------


def test_the_same_line_again_gets_the_same_bytes_and_does_nothing(bench: ApplicatorBench) -> None:
    bench.number += 1
    text = bench.next_line("ARM", n=1, z=4500, tok=TOKEN)
    (first,) = bench.send(text)
    assert bench.send(text * 3) == [first] * 3
    bench.number += 1
    text = bench.next_line("FIRE", n=1, tok=TOKEN)
    (first,) = bench.send(text)
    for _ in range(30):
        bench.now_ns += 100 * MS
        assert bench.send(text) == [first]
    assert bench.mechanics.seeds_spilled == 1
    assert bench.check_ledger()["sk"] == "1"


def test_the_boot_counter_skips_zero() -> None:
    bench = ApplicatorBench()
    record = bench.store.read("applicator", {})
    bench.store.write("applicator", {**record, "boot": 0xFFFF})
    bench.reset()
    assert bench.hello().boot == "0001"


def test_hello_again_is_only_the_stored_reply(bench: ApplicatorBench) -> None:
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    bench.send(line.encode(">", "0000", 0, "HELLO", v=1, sid=f"{bench.sid:04X}"))
    assert bench.ask("PING") == {"st": "ARMED"}
    bench.hello()
    assert bench.ask("STAT")["st"] == "IDLE"
    assert bench.ask("STAT")["la"] == "NONE"


@pytest.mark.parametrize(
    "text",
    ["NOSUCH", "PING st=1", "HOME", "MOVE v=1 z=1", "MOVE z=01 v=500", "ARM n=1 z=4500 tok=8F3", "END w=x"],
)
def test_broken_form_is_answered_once_and_kept(bench: ApplicatorBench, text: str) -> None:
    bench.number += 1
    head = f">{bench.boot}:{bench.number}:{text}".encode()
    whole = head + b"|%04X\n" % line.crc16(head)
    (reply,) = bench.send(whole)
    assert reply.pairs == {"code": "FORM"}
    assert bench.send(whole) == [reply]


# -- a seed --------------------------------------------------------------------------------------------


def test_a_seed_passes_and_every_count_agrees(bench: ApplicatorBench) -> None:
    bench.template.hold("A1", 0.0, 0.0, 60.0)
    assert [bench.shoot(n) for n in (1, 2, 3)] == ["PASS"] * 3
    assert bench.check_ledger() == {
        **{"p": "9C41D2E0", "ld": "15", "im": "3", "lf": "12", "wa": "0", "db": "0"},
        **{"sk": "3", "pu": "3", "k": "1"},
    }
    shots = bench.events("SHOT")
    assert [shot["n"] for shot in shots] == ["1", "2", "3"]
    assert all(shot["stroke"] == "205000" and 200 <= int(shot["peak"]) <= 2500 for shot in shots)
    assert bench.mechanics.cartridge == 12


def test_firing_again_under_a_new_number_moves_nothing(bench: ApplicatorBench) -> None:
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    bench.ask("FIRE", n=1, tok=TOKEN)
    assert bench.ask("FIRE", n=1, tok=TOKEN) == {"n": "1", "dup": "1", "out": "BUSY"}
    assert bench.ask("RES", n=1)["out"] == "BUSY"
    bench.pass_time(3000)
    assert bench.ask("FIRE", n=1, tok="0000") == {"n": "1", "dup": "1", "out": "PASS"}
    assert bench.mechanics.seeds_spilled == 1
    assert bench.ask("RES", n=2)["out"] == "NONE"


def test_arm_refuses_what_does_not_fit(bench: ApplicatorBench) -> None:
    assert bench.refused("ARM", n=2, z=4500, tok=TOKEN) == "COUNT"
    assert bench.refused("ARM", n=1, z=4700, tok=TOKEN) == "PLACE"
    assert bench.refused("FIRE", n=1, tok=TOKEN) == "TOKEN"
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    assert bench.refused("FIRE", n=1, tok="0000") == "TOKEN"
    assert bench.refused("MOVE", z=0, v=1000) == "BUSY"
    bench.ask("DISARM")
    assert bench.refused("FIRE", n=1, tok=TOKEN) == "TOKEN"
    bench.mechanics.remove_cartridge()
    assert bench.refused("ARM", n=1, z=4500, tok=TOKEN) == "SEAT"
    bench.mechanics.insert_cartridge(15)
    assert bench.refused("ARM", n=1, z=4500, tok=TOKEN) == "SEAT", "nobody has counted this cartridge"
    assert bench.ask("STAT")["n"] == "0"


def test_a_token_grows_old_after_two_seconds(bench: ApplicatorBench) -> None:
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    bench.pass_time(2000)
    assert bench.ask("PING") == {"st": "ARMED"}
    bench.pass_time(100)
    assert bench.events("DISARMED") == [{"n": "1"}]
    assert bench.refused("FIRE", n=1, tok=TOKEN) == "TOKEN"
    bench.ask("ARM", n=1, z=4500, tok=TOKEN)
    bench.pass_time(2000)
    assert bench.ask("FIRE", n=1, tok=TOKEN)["dup"] == "0"


@pytest.mark.parametrize(
    ("fault", "out", "latch"),
    [
        ("jam_next", "NOPASS", "JAM"),
        ("push_nothing_next", "NOPASS", "JAM"),
        ("take_two_next", "DOUBLE", "DOUBLE"),
    ],
)
def test_a_bad_stroke_latches_until_a_person_has_looked(
    bench: ApplicatorBench, fault: str, out: str, latch: str
) -> None:
    getattr(bench.mechanics, fault)()
    assert bench.shoot(1) == out
    for name, pairs in (
        ("ARM", {"n": 2, "z": 4500, "tok": TOKEN}),
        ("MOVE", {"z": 0, "v": 500}),
        ("HOME", {"ax": "s"}),
        ("END", {"w": 14}),
    ):
        assert bench.refused(name, **pairs) == "LATCH"  # type: ignore[arg-type]
    assert bench.refused("CLEAR", la=latch, n=2, **{"as": "IN"}) == "COUNT"
    assert bench.refused("CLEAR", la=latch, n=1, **{"as": "NO"}) == "COUNT"
    bench.reset()
    bench.hello()
    status = bench.ask("STAT")
    assert (status["st"], status["la"], status["ln"]) == ("LATCHED", latch, "1")
    doubt = 2 if out == "DOUBLE" else 1
    assert bench.check_ledger()["db"] == str(doubt)
    bench.ask("CLEAR", la=latch, n=1, **{"as": "WA"})
    assert bench.check_ledger()["wa"] == str(doubt)
    bench.mechanics.clear_path()
    bench.home_and_move(4500)
    assert bench.shoot(2) == "PASS"


def test_a_jammed_stylet_is_not_drawn_back_by_itself(bench: ApplicatorBench) -> None:
    bench.mechanics.jam_next(at_mm=40.0)
    bench.shoot(1)
    bench.pass_time(5000)
    status = bench.ask("STAT")
    assert status["sty"] == "40000"
    assert status["hm"] == "1"
    assert int(bench.events("SHOT")[0]["peak"]) > 2500
    bench.ask("CLEAR", la="JAM", n=1, **{"as": "LF"})
    assert bench.refused("MOVE", z=0, v=1000) == "HOME"


def test_a_blind_sensor_counts_no_seed_as_delivered_though_one_fell(bench: ApplicatorBench) -> None:
    bench.mechanics.is_sensor_stuck = True
    assert bench.shoot(1) == "NOPASS"
    assert bench.mechanics.seeds_spilled == 1
    bench.ask("CLEAR", la="JAM", n=1, **{"as": "IN"})
    assert bench.check_ledger()["im"] == "1"


def test_a_miscounted_cartridge_runs_out_early(bench: ApplicatorBench) -> None:
    bench.mechanics.miscount_cartridge(-14)
    assert bench.shoot(1) == "PASS"
    assert bench.shoot(2) == "NOPASS"


# -- cartridges and ledger -------------------------------------------------------------------------------


def test_a_cartridge_must_have_been_changed_and_counted(bench: ApplicatorBench) -> None:
    assert bench.refused("CART", k=2, c=15, w=15) == "SEAT"
    for n in range(1, 6):
        assert bench.shoot(n) == "PASS"
    assert bench.mechanics.remove_cartridge() == 10
    assert bench.refused("CART", k=2, c=15, w=10) == "SEAT"
    bench.mechanics.insert_cartridge(15)
    for k, c, w, code in (
        (3, 15, 10, "COUNT"),
        (2, 15, 9, "COUNT"),
        (2, 16, 10, "RANGE"),
        (2, 0, 10, "RANGE"),
    ):
        assert bench.refused("CART", k=k, c=c, w=w) == code
    assert bench.ask("CART", k=2, c=15, w=10)["left"] == "15"
    assert bench.check_ledger()["ld"] == "20"
    assert bench.refused("END", w=14) == "COUNT"
    assert bench.ask("END", w=15) == {"p": "9C41D2E0"}
    assert bench.refused("LEDGER") == "NEW"
    assert bench.ask("BEGIN", p="9C41D2E0") == {"p": "9C41D2E0", "n": "5", "dup": "1"}
    assert bench.refused("ARM", n=1, z=4500, tok=TOKEN) == "NEW", "an ended ledger never starts anew"
    assert bench.ask("BEGIN", p="00000001") == {"p": "00000001", "n": "0", "dup": "0"}
    assert bench.refused("BEGIN", p="00000002") == "OPEN"


def test_an_empty_cartridge_is_refused_before_the_plunger_moves() -> None:
    bench = ApplicatorBench()
    bench.make_ready(seeds=1)
    assert bench.shoot(1) == "PASS"
    assert bench.refused("ARM", n=2, z=4500, tok=TOKEN) == "EMPTY"


# -- motion, watchdog, stops -------------------------------------------------------------------------------


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


# -- resets ------------------------------------------------------------------------------------------------


def _reset_and_judge(bench: ApplicatorBench) -> None:
    """After any reset around seed 1: counter, outcome, latch and matter agree; it is never pushed twice."""
    bench.firmware.power_cut()
    bench.start()
    bench.hello()
    status, result = bench.ask("STAT"), bench.ask("RES", n=1)
    dropped = bench.mechanics.seeds_spilled
    assert dropped <= 1
    if status["n"] == "0":
        assert (result["out"], dropped, bench.mechanics.channel) == ("NONE", 0, 0)
        bench.home_and_move(4500)
        assert bench.shoot(1) == "PASS"
        assert bench.mechanics.seeds_spilled == 1
        return
    assert result["out"] in ("PASS", "UNKNOWN")
    assert (result["out"] == "PASS") == (status["la"] == "NONE")
    if result["out"] == "PASS":
        assert dropped == 1
    else:
        assert (status["la"], status["ln"]) == ("UNKNOWN", "1")
        assert bench.refused("ARM", n=1, z=4500, tok=TOKEN) == "LATCH"
        bench.ask("CLEAR", la="UNKNOWN", n=1, **{"as": "IN"})
    bench.check_ledger()
    assert bench.ask("FIRE", n=1, tok=TOKEN)["dup"] == "1"
    bench.home_and_move(4500)
    assert bench.refused("ARM", n=1, z=4500, tok=TOKEN) == "COUNT"
    assert bench.mechanics.seeds_spilled == dropped


def _arm_and_fire_lines(bench: ApplicatorBench) -> bytes:
    bench.number += 1
    arm = bench.next_line("ARM", n=1, z=4500, tok=TOKEN)
    bench.number += 1
    return arm + bench.next_line("FIRE", n=1, tok=TOKEN)


def test_a_reset_after_every_byte_of_arm_and_fire_and_every_moment_of_the_stroke() -> None:
    moments = [*range(0, 96), *(-ms for ms in range(0, 2000, 40))]
    for moment in moments:
        bench = ApplicatorBench()
        bench.make_ready()
        text = _arm_and_fire_lines(bench)
        if 0 <= moment < len(text):
            bench.firmware.receive(text[:moment], bench.now_ns)
        else:
            bench.firmware.receive(text, bench.now_ns)
            bench.now_ns += abs(moment) * MS
            bench.firmware.wake(bench.now_ns)
        _reset_and_judge(bench)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("write", [1, 2])
def test_a_power_cut_in_each_write_of_a_seed(write: int, written: bool) -> None:
    bench = ApplicatorBench()
    bench.make_ready()
    bench.store.fail_at(bench.store.writes + write, written=written)
    with pytest.raises(PowerCutError):  # noqa: PT012 - which of the two meets the write is the point
        bench.firmware.receive(_arm_and_fire_lines(bench), bench.now_ns)
        bench.now_ns += 3000 * MS
        bench.firmware.wake(bench.now_ns)
    _reset_and_judge(bench)


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "fire",
                "fire",
                "fire",
                "again",
                "stale",
                "jam",
                "empty",
                "double",
                "blind",
                "stop",
                "reset",
                "clear",
            ]
        ),
        st.integers(0, 2200),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_ACTIONS)
def test_no_sequence_of_faults_loses_or_repeats_a_seed(actions: list[tuple[str, int]]) -> None:
    bench = ApplicatorBench()
    bench.make_ready()
    mechanics = bench.mechanics
    for action, ms in actions:
        n = int(bench.ask("STAT")["n"]) + 1
        if action == "fire":
            bench.command("ARM", n=n, z=4500, tok=TOKEN)
            bench.command("FIRE", n=n, tok=TOKEN)
        elif action == "again":
            bench.command("FIRE", n=max(1, n - 1), tok=TOKEN)
        elif action == "stale":
            bench.command("FIRE", n=n, tok=TOKEN)
        elif action in ("jam", "empty", "double"):
            faults = {"jam": "jam_next", "empty": "push_nothing_next", "double": "take_two_next"}
            getattr(mechanics, faults[action])()
        elif action == "blind":
            mechanics.is_sensor_stuck = not mechanics.is_sensor_stuck
        elif action == "stop":
            bench.send(b"\x18")
        elif action == "reset":
            bench.reset()
            bench.hello()
        else:
            bench.pass_time(2000)
            status = bench.ask("STAT")
            verdict = "NO" if status["ln"] == "0" else "WA"
            bench.command("CLEAR", la=status["la"], n=status["ln"], **{"as": verdict})
            mechanics.clear_path()
            for name, pairs in (
                ("HOME", {"ax": "s"}),
                ("HOME", {"ax": "z"}),
                ("MOVE", {"z": 4500, "v": 20_000}),
            ):
                bench.command(name, **pairs)  # type: ignore[arg-type]
                bench.until_idle()
        bench.pass_time(ms)
        ledger = bench.check_ledger()
        assert int(ledger["sk"]) == int(bench.ask("STAT")["n"]), "one stroke for each intended seed, no more"
    bench.pass_time(3000)
    ledger = bench.check_ledger()
    assert int(ledger["im"]) <= mechanics.seeds_spilled, "nothing counts as implanted that didn't fall"
    gone = 15 - (mechanics.cartridge or 0)
    assert gone <= 2 * int(ledger["sk"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(golden_lines())), max_size=20))
def test_noise_never_moves_anything(noise: list[bytes]) -> None:
    bench = ApplicatorBench()
    bench.make_ready()
    before = bench.mechanics.encoder_um(bench.now_ns)
    for data in noise:
        bench.firmware.receive(data.replace(b"\x18", b""), bench.now_ns)
        bench.now_ns += 10 * MS
    bench.now_ns += 5000 * MS
    bench.firmware.wake(bench.now_ns)
    assert bench.mechanics.encoder_um(bench.now_ns) == before
    assert bench.mechanics.seeds_spilled == 0
    assert bench.firmware.discarded > 0 or all(data in golden_lines() or b"\n" not in data for data in noise)


def test_hands_cannot_do_the_impossible() -> None:
    mechanics = ApplicatorMechanics(np.random.default_rng(1), Template())
    with pytest.raises(ImpossibleByHandError):
        mechanics.couple("Z9")
    with pytest.raises(ImpossibleByHandError):
        mechanics.remove_cartridge()
    mechanics.insert_cartridge(3)
    with pytest.raises(ImpossibleByHandError):
        mechanics.insert_cartridge(3)
