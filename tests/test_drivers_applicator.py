"""The applicator's driver against written conversations: the session, commands, what the device tells."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from applicator_talk import IDENTITY, Talk, connect, connected_talk, stat
from hypothesis import given, settings
from hypothesis import strategies as st
from transcript import sealed

from drivers.applicator import (
    ApplicatorDone,
    ApplicatorFailed,
    ApplicatorLinkLost,
    ApplicatorRefused,
    ApplicatorStopped,
    AskSeed,
    BeginLedger,
    CartridgeSwitchChanged,
    ClearLatch,
    Connect,
    DeclareCartridge,
    Disarm,
    DropSeed,
    EndLedger,
    EstopChanged,
    HomeRetraction,
    HomeStylet,
    Ledger,
    MoveNeedleTo,
    ReadLedger,
    ReadState,
    SeedOutcome,
)


@pytest.fixture
def talk() -> Talk:
    return connected_talk()


# ---------------------------------------------------------------- the session


def test_connect_reads_identity_and_state(talk: Talk) -> None:
    state = talk.applicator.state
    assert state.linked
    assert state.simulated
    assert (state.identity, state.boot, state.st) == ("SG-MICK/1042", "0007", "IDLE")
    assert state.retraction_homed
    assert state.stylet_homed


@pytest.mark.parametrize(
    ("wrong", "word"), [("cap=20", "capacity"), ("det=2500", "detent"), ("ga=17", "gauge")]
)
def test_another_configuration_is_refused(wrong: str, word: str) -> None:
    talk = Talk()
    talk.start(Connect())
    key = wrong.partition("=")[0]
    identity = " ".join(wrong if pair.startswith(key) else pair for pair in IDENTITY.split())
    for sid in ("5A17", "5A18"):
        talk.host(sealed(f">0000:0:HELLO v=1 sid={sid}"))
        talk.device(sealed(f"<0007:0:HELLO v=1 sid={sid} {identity}"))
    (event,) = talk.events()
    assert isinstance(event, ApplicatorRefused)
    assert word in event.sentence
    assert not talk.applicator.state.linked
    talk.after(5000)
    talk.host()


def test_no_device_is_a_lost_link_after_six_identical_lines() -> None:
    talk = Talk()
    talk.start(Connect())
    for _ in range(6):
        talk.host(sealed(">0000:0:HELLO v=1 sid=5A17"))
        assert talk.events() == []
        talk.after(100)
    talk.host()
    lost, failed = talk.events()
    assert isinstance(lost, ApplicatorLinkLost)
    assert failed == ApplicatorFailed(Connect(), lost.sentence)


def test_commands_before_connect_and_beside_another_are_refused(talk: Talk) -> None:
    unconnected = Talk()
    unconnected.start(ReadState())
    (event,) = unconnected.events()
    assert event.code == "LINK"
    talk.start(ReadState())
    with pytest.raises(ValueError, match="still being carried out"):
        talk.start(ReadState())


def test_idle_line_is_pinged_each_second_and_moving_one_each_200_ms(talk: Talk) -> None:
    talk.after(999)
    talk.host()
    talk.after(1)
    talk.asks("PING")
    talk.answers("PING st=IDLE")
    talk.start(MoveNeedleTo(4500, 5000))
    talk.asks("MOVE z=4500 v=5000")
    talk.answers("MOVE z=4500")
    for _ in range(4):
        talk.after(199)
        talk.host()
        talk.after(1)
        talk.asks("PING")
        talk.answers("PING st=MOVING")


def test_a_lost_reply_is_asked_for_with_the_identical_line(talk: Talk) -> None:
    talk.start(MoveNeedleTo(4500, 5000))
    line = sealed(">0007:2:MOVE z=4500 v=5000")
    talk.host(line)
    talk.after(99)
    talk.host()
    talk.after(1)
    talk.host(line)
    talk.number = 3
    talk.answers("MOVE z=4500")
    talk.answers("MOVE z=4500")  # and the answer to the second one, ignored
    talk.tells(2, "MOVED z=4498")
    talk.stat(z=4498)
    (done,) = talk.events()
    assert isinstance(done, ApplicatorDone)
    assert done.state.z_um == 4498


def test_foreign_garbage_is_counted_and_changes_nothing(talk: Talk) -> None:
    before = talk.applicator.state
    talk.device(b"\xff\x00noise\n", sealed("<0007:1:PING st=DANCING"), b"<0007:1:PING st=IDLE|0000\n")
    assert talk.applicator.garbage == 3
    assert talk.applicator.state == before
    talk.host()
    assert talk.events() == []


def test_another_hosts_session_ends_ours(talk: Talk) -> None:
    talk.start(ReadState())
    talk.asks("STAT")
    talk.answers("ERR code=GAP want=1")
    lost, failed = talk.events()
    assert isinstance(lost, ApplicatorLinkLost)
    assert isinstance(failed, ApplicatorFailed)
    talk.after(5000)
    talk.host()


def test_unplugged_while_idle_is_noticed(talk: Talk) -> None:
    talk.after(1000 + 600)
    (event,) = talk.events()
    assert isinstance(event, ApplicatorLinkLost)
    assert not talk.applicator.state.linked


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize(("command", "ax", "hm"), [(HomeStylet(), "s", 2), (HomeRetraction(), "z", 1)])
def test_home(talk: Talk, command: HomeStylet | HomeRetraction, ax: str, hm: int) -> None:
    talk.start(command)
    talk.asks(f"HOME ax={ax}")
    talk.answers(f"HOME ax={ax}")
    talk.tells(2, f"HOMED ax={ax}")
    talk.stat(hm=hm)
    (done,) = talk.events()
    assert done == ApplicatorDone(command, talk.applicator.state)


def test_home_that_ends_unhomed_fails(talk: Talk) -> None:
    talk.start(HomeStylet())
    talk.asks("HOME ax=s")
    talk.answers("HOME ax=s")
    talk.tells(2, "HOMED ax=s")
    talk.stat(hm=1)
    (event,) = talk.events()
    assert isinstance(event, ApplicatorFailed)


def test_ledger_cartridge_end(talk: Talk) -> None:
    talk.start(BeginLedger("9C41D2E0"))
    talk.asks("BEGIN p=9C41D2E0")
    talk.answers("BEGIN p=9C41D2E0 n=3 dup=1")
    talk.stat(n=3)
    (begun,) = talk.events()
    assert begun.resumed
    assert begun.state.counter == 3
    talk.start(DeclareCartridge(1, 15, 0))
    talk.asks("CART k=1 c=15 w=0")
    talk.answers("CART k=1 c=15 left=15")
    talk.stat()
    talk.start(ReadLedger())
    talk.asks("LEDGER")
    talk.answers("LEDGER p=9C41D2E0 ld=15 im=1 lf=14 wa=0 db=0 sk=1 pu=1 k=1")
    talk.start(EndLedger(14))
    talk.asks("END w=14")
    talk.answers("ERR code=COUNT")
    talk.stat()
    cartridge, counts, refused = talk.events()
    assert isinstance(cartridge, ApplicatorDone)
    assert counts.ledger == Ledger("9C41D2E0", 15, 1, 14, 0, 0, 1, 1, 1)
    assert isinstance(refused, ApplicatorRefused)
    assert refused.code == "COUNT"


def test_clear_and_disarm(talk: Talk) -> None:
    talk.start(ClearLatch("JAM", 3, "WA"))
    talk.asks("CLEAR la=JAM n=3 as=WA")
    talk.answers("CLEAR la=JAM")
    talk.stat()
    talk.start(Disarm())
    talk.asks("DISARM")
    talk.answers("DISARM")
    talk.stat()
    assert [type(event) for event in talk.events()] == [ApplicatorDone, ApplicatorDone]


@pytest.mark.parametrize(
    "command",
    [
        MoveNeedleTo(-1, 5000),
        MoveNeedleTo(150_001, 5000),
        MoveNeedleTo(1, 99),
        DropSeed(0, 4500, "8F3C"),
        DropSeed(1, 4500, "8f3c"),
        BeginLedger("9c41d2e0"),
        ClearLatch("NONE", 0, "NO"),
        AskSeed(10_000),
    ],
)
def test_what_cannot_be_written_is_refused_unsent(talk: Talk, command: Any) -> None:
    talk.start(command)
    (event,) = talk.events()
    assert event.code == "FORM"
    talk.host()


def test_arrived_elsewhere_is_a_failure(talk: Talk) -> None:
    talk.start(MoveNeedleTo(4500, 5000))
    talk.asks("MOVE z=4500 v=5000")
    talk.answers("MOVE z=4500")
    talk.tells(2, "MOVED z=4601")
    talk.stat(z=4601)
    (event,) = talk.events()
    assert isinstance(event, ApplicatorFailed)
    assert "4601" in event.sentence


def test_a_lost_moved_event_is_found_by_asking(talk: Talk) -> None:
    talk.start(MoveNeedleTo(4500, 5000))
    talk.asks("MOVE z=4500 v=5000")
    talk.answers("MOVE z=4500")
    talk.tells(3, "SEAT seat=1")  # number 2 was lost
    talk.stat(z=4502)
    (done,) = talk.events()
    assert isinstance(done, ApplicatorDone)


def test_a_motion_is_sent_once_however_long_it_takes(talk: Talk) -> None:
    talk.start(MoveNeedleTo(4500, 5000))
    talk.asks("MOVE z=4500 v=5000")
    talk.answers("MOVE z=4500")
    said = b""
    for _ in range(100):
        talk.after(50)
        data = talk.driver.take()
        said += data
        if b"PING" in data:
            talk.device(sealed(f"<0007:{talk.number}:PING st=MOVING"))
            talk.number += 1
        elif b"STAT" in data:
            talk.device(stat(talk.number, st="MOVING", z=100))
            talk.number += 1
    assert b"MOVE" not in said
    assert b"STAT" in said


# ---------------------------------------------------------------- what the device tells by itself


def test_telemetry_estop_and_watchdog(talk: Talk) -> None:
    talk.device(sealed("~0007:1:T st=LATCHED z=10 sty=0 f=40 left=15 es=1 la=ESTOP"))
    talk.stat(st="LATCHED", es=1, la="ESTOP")
    assert talk.applicator.state.force_mn == 40
    changed, latched = talk.events()
    assert changed == EstopChanged(True)
    assert latched.latch == "ESTOP"
    talk.tells(2, "SEAT seat=0")
    assert talk.events() == [CartridgeSwitchChanged(False)]
    talk.tells(2, "SEAT seat=0")  # the cable said it twice
    assert talk.events() == []
    talk.tells(3, "STOPPED z=10 by=WATCH")
    assert talk.events() == [ApplicatorStopped(10, "WATCH")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=40))
def test_the_same_events_however_the_bytes_are_cut(pieces: list[int]) -> None:
    """A seed's conversation, device's bytes in any pieces: always the same end."""
    talk = Talk()
    connect(talk)
    talk.events()
    script = [
        ("ARM", sealed("<0007:2:ARM n=1 z=4502 tok=8F3C")),
        (
            "FIRE",
            sealed("<0007:3:FIRE n=1 dup=0")
            + sealed("!0007:2:SHOT n=1 out=PASS peak=820 pulses=1 stroke=205000"),
        ),
        ("RES", sealed("<0007:4:RES n=1 out=PASS z=4502 peak=820 pulses=1 stroke=205000")),
        ("STAT", stat(5, z=4502, n=1, left=14)),
    ]
    talk.start(DropSeed(1, 4500, "8F3C"))
    for name, answer in script:
        said = talk.driver.take()
        assert name.encode() in said
        cuts = sorted({min(piece, len(answer)) for piece in pieces} | {0, len(answer)})
        for start, end in pairwise(cuts):
            talk.device(answer[start:end])
    assert talk.events() == [SeedOutcome(1, "PASS", False, 4502, 820, 1, 205_000)]
