"""The simulated applicator's seeds: what only its inside shows of numbers, strokes, cartridges and ledger.

What WIRE.md promises at the wire is in test_contract_applicator.py.
"""

from __future__ import annotations

import pytest
from simulated_bench import MS, ApplicatorBench

from simulator import line

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
