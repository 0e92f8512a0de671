"""The reference firmware on this machine: a power cut at every byte, a spoilt store, a full one, noise."""

from __future__ import annotations

import random

import pytest
from firmware_bench import TWO, Host, HostDevice, host_device, ledger, pairs, sealed, stat

SEEDS_THE_STORE_HOLDS = 112


@pytest.fixture
def device() -> HostDevice:
    return host_device()


def cut_conversation(device: HostDevice, writes: int) -> tuple[bool, Host]:
    """Fires seed 2; the power goes before the store's cell write number ``writes``.

    Returns whether the power stayed, and the host after the restart.
    """
    host = Host(device).ready()
    host.fire(1)
    host.ask("ARM n=2 z=0 tok=0002")
    host.send("FIRE n=2 tok=0002")
    device.c.host_cut_after(writes)
    survived = all(device.run(100) for _ in range(4))
    host.send("PING")
    survived = survived and all(device.run(100) for _ in range(4))
    host.send("PING")
    survived = survived and all(device.run(100) for _ in range(4))
    device.c.host_cut_after(-1)
    device.reset()
    after = Host(device)
    after.listen(5)
    after.events.clear()
    after.replies.clear()  # what the old life said last
    after.hello("0002")
    return survived, after


def test_a_power_cut_at_every_written_byte_loses_no_seed_and_counts_none_twice(device: HostDevice) -> None:
    outcomes = []
    for writes in range(200):
        device.c.host_erase()
        device.boots = 0
        device.reset()
        survived, host = cut_conversation(device, writes)
        counts = ledger(host)
        assert counts["ld"] == 15 == counts["im"] + counts["lf"] + counts["wa"] + counts["db"], writes
        out = pairs(host.ask("RES n=2"))["out"]
        n = stat(host)["n"]
        assert (out, n, counts["im"], counts["lf"], counts["db"]) in {
            ("NONE", "1", 1, 14, 0),  # the intent was not written: the plunger never moved
            ("UNKNOWN", "2", 1, 13, 1),
            ("PASS", "2", 2, 13, 0),
        }
        assert stat(host)["la"] == ("UNKNOWN" if out == "UNKNOWN" else "NONE")
        assert pairs(host.ask("RES n=1"))["out"] == "PASS"
        outcomes.append(out)
        if survived:
            break
    assert outcomes == sorted(outcomes, key=["NONE", "UNKNOWN", "PASS"].index)  # one way, no going back
    assert {"NONE", "UNKNOWN", "PASS"} == set(outcomes)


def test_a_power_cut_while_the_restart_writes_unknown_is_still_unknown(device: HostDevice) -> None:
    host = Host(device).ready()
    host.ask("ARM n=1 z=0 tok=0001")
    host.ask("FIRE n=1 tok=0001")
    for writes in range(60):
        device.c.host_cut_after(writes)
        if device.c.host_power_on():
            break
        device.boots += 1
    else:
        pytest.fail("never came up")
    device.c.host_cut_after(-1)
    boot = (
        int.from_bytes(bytes(device.store()[1:3]), "little"),
        int.from_bytes(bytes(device.store()[6:8]), "little"),
    )
    after = Host(device, max(boot))
    after.hello()
    assert stat(after)["la"] == "UNKNOWN"
    assert ledger(after)["db"] == 1


def test_a_store_that_cannot_be_trusted_latches(device: HostDevice) -> None:
    Host(device).ready()
    for cell in range(16, 128):
        device.store()[cell] ^= 0x5A
    device.reset()
    host = Host(device)
    host.hello()
    assert stat(host)["la"] == "UNKNOWN"
    assert host.ask("BEGIN p=00000001") == "ERR code=LATCH la=UNKNOWN"
    assert host.ask("CLEAR la=UNKNOWN n=0 as=IN") == "CLEAR la=NONE"


def test_the_boot_number_skips_zero(device: HostDevice) -> None:
    for _ in range(0xFFFF):
        assert device.c.host_power_on()
        device._unread()
    host = Host(device, 1)
    assert host.hello() == "0:HELLO v=1 sid=5A17 id=SG-MICK sn=1042 fw=100 sim=1 cap=15 det=5000 ga=18"
    assert host.ask("PING") == "PING st=IDLE"


def test_more_seeds_than_the_store_holds_are_refused_when_the_cartridge_comes(device: HostDevice) -> None:
    host = Host(device).ready()
    for n in range(1, SEEDS_THE_STORE_HOLDS + 1):
        if stat(host)["left"] == "0":
            k = ledger(host)["k"] + 1
            device.inputs(2)
            host.listen(5)
            device.inputs(0)
            host.listen(5)
            room = SEEDS_THE_STORE_HOLDS - n + 1
            if room < 15:
                assert host.ask(f"CART k={k} c=15 w=0") == "ERR code=RANGE"
            assert host.ask(f"CART k={k} c={min(15, room)} w=0").startswith("CART")
        host.fire(n)
    for n in range(1, SEEDS_THE_STORE_HOLDS + 1):
        assert host.ask(f"RES n={n}") == f"RES n={n} out=PASS z=0 peak=820 pulses=1 stroke=205000"
    counts = ledger(host)
    assert (counts["im"], counts["lf"], counts["sk"]) == (SEEDS_THE_STORE_HOLDS, 0, SEEDS_THE_STORE_HOLDS)


def test_a_second_seed_out_of_an_empty_cartridge_is_not_booked_from_nowhere(device: HostDevice) -> None:
    host = Host(device).ready(seeds=1)
    device.inputs(TWO)
    host.fire(1)
    counts = ledger(host)
    assert (counts["ld"], counts["lf"], counts["db"]) == (1, 0, 1)


def test_noise_neither_moves_nor_is_answered(device: HostDevice) -> None:
    host = Host(device).ready()
    rng = random.Random(4)
    before = stat(host)
    good = sealed(f">0001:{host.number + 1}:MOVE z=9000 v=5000")
    sent = 0
    while sent < 20_000:
        line = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            line[rng.randrange(len(line))] = rng.choice([b for b in range(256) if b != 0x18])
        if bytes(line) == good:
            continue
        device.put(bytes(line) + b"\n")
        sent += 1
        if sent % 50 == 0:
            host.listen(1)
    assert not host.replies
    assert stat(host) == before


def test_a_line_cut_at_every_byte_does_nothing_and_the_next_is_understood(device: HostDevice) -> None:
    host = Host(device)
    host.hello()
    for length in range(1, 17):
        device.put(sealed(f">0001:{host.number + 1}:PING")[:length] + b"\n")
        assert host.ask("PING") == "PING st=IDLE"
