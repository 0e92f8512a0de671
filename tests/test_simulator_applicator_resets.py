"""The simulated applicator, reset and cut from power at any instant: no seed is lost, none pushed twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import MS, ApplicatorBench, golden_lines

from simulator.applicator_mechanics import ApplicatorMechanics
from simulator.nonvolatile import PowerCutError
from simulator.physics import ImpossibleByHandError, Template

TOKEN = "8F3C"


@pytest.fixture
def bench() -> ApplicatorBench:
    made = ApplicatorBench()
    made.make_ready()
    return made


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
