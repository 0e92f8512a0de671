"""The applicator's driver against written conversations: a seed and its doubts, and the stop."""

from __future__ import annotations

from typing import Any

import pytest
from applicator_talk import Talk, connect, connected_talk, stat
from transcript import sealed

from drivers.applicator import (
    ApplicatorConnected,
    ApplicatorFailed,
    ApplicatorLatched,
    ApplicatorLinkLost,
    ApplicatorRefused,
    ApplicatorReset,
    ApplicatorStopped,
    AskSeed,
    DropSeed,
    MoveNeedleTo,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)


@pytest.fixture
def talk() -> Talk:
    return connected_talk()


# ---------------------------------------------------------------- a seed


def begin_drop(talk: Talk) -> None:
    talk.start(DropSeed(1, 4500, "8F3C"))
    talk.asks("ARM n=1 z=4500 tok=8F3C")
    talk.answers("ARM n=1 z=4502 tok=8F3C")
    talk.asks("FIRE n=1 tok=8F3C")


def result(talk: Talk, outcome: str = "PASS", pulses: int = 1, **values: Any) -> None:
    talk.asks("RES n=1")
    talk.answers(f"RES n=1 out={outcome} z=4502 peak=820 pulses={pulses} stroke=205000")
    talk.stat(z=4502, n=1, left=14, **values)


def test_a_seed(talk: Talk) -> None:
    begin_drop(talk)
    talk.answers("FIRE n=1 dup=0")
    talk.tells(2, "SHOT n=1 out=PASS peak=820 pulses=1 stroke=205000")
    result(talk)
    assert talk.events() == [SeedOutcome(1, "PASS", False, 4502, 820, 1, 205_000)]
    assert talk.applicator.state.left == 14


def test_a_jam_is_told_with_its_latch(talk: Talk) -> None:
    begin_drop(talk)
    talk.answers("FIRE n=1 dup=0")
    talk.tells(2, "SHOT n=1 out=NOPASS peak=2600 pulses=0 stroke=90000")
    result(talk, "NOPASS", 0, st="LATCHED", la="JAM", ln=1)
    latched, outcome = talk.events()
    assert isinstance(latched, ApplicatorLatched)
    assert (latched.latch, latched.seed) == ("JAM", 1)
    assert outcome.outcome == "NOPASS"
    talk.after(800)
    talk.host()  # and nothing is tried again


def test_fire_without_answer_is_repeated_bit_for_bit(talk: Talk) -> None:
    begin_drop(talk)
    fire = sealed(">0007:3:FIRE n=1 tok=8F3C")
    for _ in range(3):
        talk.after(100)
        talk.host(fire)
    talk.answers("FIRE n=1 dup=0")
    talk.tells(2, "SHOT n=1 out=PASS peak=820 pulses=1 stroke=205000")
    result(talk)
    assert len(talk.events()) == 1


def test_shot_before_the_reply_is_not_overlooked(talk: Talk) -> None:
    begin_drop(talk)
    talk.tells(2, "SHOT n=1 out=PASS peak=820 pulses=1 stroke=205000")
    talk.host()
    talk.answers("FIRE n=1 dup=0")
    result(talk)
    assert len(talk.events()) == 1


def test_a_lost_shot_event_is_asked_for(talk: Talk) -> None:
    begin_drop(talk)
    talk.answers("FIRE n=1 dup=0")
    talk.tells(3, "SEAT seat=1")  # a gap: number 2 was lost
    talk.asks("RES n=1")
    talk.answers("RES n=1 out=BUSY z=4502 peak=0 pulses=0 stroke=0")
    talk.after(199)
    talk.asks("STAT")  # the gap wants a look as well
    talk.device(stat(talk.number - 1, st="FIRING", n=1))
    talk.after(1)
    result(talk)
    assert talk.events()[-1].outcome == "PASS"


def test_silence_after_fire_is_asked_into_after_3_s(talk: Talk) -> None:
    begin_drop(talk)
    talk.answers("FIRE n=1 dup=0")
    for _ in range(14):
        talk.after(200)
        talk.asks("PING")
        talk.answers("PING st=FIRING")
    talk.after(199)
    talk.host()
    talk.after(1)
    talk.asks("PING")
    talk.answers("PING st=IDLE")
    result(talk)
    assert talk.events() == [SeedOutcome(1, "PASS", False, 4502, 820, 1, 205_000)]


def test_duplicate_fire_adopts_the_stored_outcome(talk: Talk) -> None:
    begin_drop(talk)
    talk.answers("FIRE n=1 dup=1 out=PASS")
    result(talk)
    assert talk.events() == [SeedOutcome(1, "PASS", True, 4502, 820, 1, 205_000)]


def test_refused_arm_ends_without_fire(talk: Talk) -> None:
    talk.start(DropSeed(1, 4500, "8F3C"))
    talk.asks("ARM n=1 z=4500 tok=8F3C")
    talk.answers("ERR code=PLACE z=5100")
    talk.stat(z=5100)
    (event,) = talk.events()
    assert isinstance(event, ApplicatorRefused)
    assert (event.code, event.extra) == ("PLACE", {"z": "5100"})


def test_refused_fire_is_disarmed_and_certain(talk: Talk) -> None:
    begin_drop(talk)
    talk.answers("ERR code=TOKEN")
    talk.asks("DISARM")
    talk.answers("DISARM")
    talk.stat()
    (event,) = talk.events()
    assert isinstance(event, ApplicatorRefused)
    assert event.code == "TOKEN"


def test_reset_after_fire_is_a_doubt_and_reconnecting_resolves_it(talk: Talk) -> None:
    begin_drop(talk)
    talk.device(sealed("!0008:1:BOOTED v=1 id=SG-MICK"))
    assert [type(event) for event in talk.events()] == [ApplicatorReset, SeedInDoubt]
    talk.after(5000)
    talk.host()
    connect(talk, 0x5A19, "0008", st="LATCHED", n=1, left=14, hm=0, la="UNKNOWN", ln=1)
    assert [type(event) for event in talk.events()] == [ApplicatorLatched, ApplicatorConnected]
    talk.start(AskSeed(1))
    talk.host(sealed(">0008:2:RES n=1"))
    talk.device(sealed("<0008:2:RES n=1 out=UNKNOWN z=4502 peak=0 pulses=0 stroke=0"))
    talk.host(sealed(">0008:3:STAT"))
    talk.device(stat(3, boot="0008", st="LATCHED", n=1, left=14, hm=0, la="UNKNOWN", ln=1))
    (outcome,) = talk.events()
    assert outcome == SeedOutcome(1, "UNKNOWN", True, 4502, 0, 0, 0)


def test_reset_before_fire_is_no_doubt(talk: Talk) -> None:
    talk.start(DropSeed(1, 4500, "8F3C"))
    talk.asks("ARM n=1 z=4500 tok=8F3C")
    talk.device(sealed("!0008:1:BOOTED v=1 id=SG-MICK"))
    reset, failed = talk.events()
    assert reset == ApplicatorReset("0007", "0008")
    assert isinstance(failed, ApplicatorFailed)


def test_link_lost_after_fire_is_a_doubt(talk: Talk) -> None:
    begin_drop(talk)
    talk.after(600)
    lost, doubt = talk.events()
    assert isinstance(lost, ApplicatorLinkLost)
    assert isinstance(doubt, SeedInDoubt)
    assert doubt.number == 1


def test_asking_for_a_seed_never_intended(talk: Talk) -> None:
    talk.start(AskSeed(1))
    talk.asks("RES n=1")
    talk.answers("RES n=1 out=NONE z=0 peak=0 pulses=0 stroke=0")
    talk.stat()
    assert talk.events() == [SeedNotFired(1)]


# ---------------------------------------------------------------- stop


def test_stop_goes_first_and_is_repeated_alone_until_obeyed(talk: Talk) -> None:
    talk.start(MoveNeedleTo(4500, 5000))
    talk.asks("MOVE z=4500 v=5000")
    talk.answers("MOVE z=4500")
    talk.stop()
    talk.host(b"\x18")
    talk.after(100)
    talk.host(b"\x18")
    talk.tells(2, "STOPPED z=2100 by=HOST")
    talk.stat(st="LATCHED", z=2100, la="STOP")
    stopped, failed, latched = talk.events()
    assert stopped == ApplicatorStopped(2100, "HOST")
    assert isinstance(failed, ApplicatorFailed)
    assert isinstance(latched, ApplicatorLatched)
    talk.after(900)
    talk.host()


def test_a_motion_that_has_not_left_never_leaves_after_a_stop(talk: Talk) -> None:
    talk.start(MoveNeedleTo(4500, 5000))
    talk.stop()
    talk.host(b"\x18")
    talk.tells(2, "STOPPED z=0 by=HOST")
    talk.stat(st="LATCHED", la="STOP")  # with the number that the motion would have had
    events = talk.events()
    assert any(isinstance(event, ApplicatorFailed) for event in events)
    assert ApplicatorStopped(0, "HOST") in events


def test_stop_between_arm_and_fire_drops_nothing(talk: Talk) -> None:
    talk.start(DropSeed(1, 4500, "8F3C"))
    talk.asks("ARM n=1 z=4500 tok=8F3C")
    talk.stop()
    talk.host(b"\x18")
    talk.answers("ARM n=1 z=4502 tok=8F3C")  # was on its way
    talk.host()
    talk.tells(2, "STOPPED z=4502 by=HOST")
    talk.stat(st="LATCHED", z=4502, la="STOP")
    events = talk.events()
    assert not any(isinstance(event, SeedInDoubt | SeedOutcome) for event in events)
    assert any(isinstance(event, ApplicatorFailed) for event in events)


def test_stop_in_the_middle_of_a_stroke_asks_what_became_of_the_seed(talk: Talk) -> None:
    begin_drop(talk)
    talk.stop()
    talk.host(b"\x18")
    talk.after(100)
    talk.host(b"\x18")  # FIRE is not sent again before the device stands
    talk.tells(2, "STOPPED z=4502 by=HOST")
    talk.after(100)
    talk.host(sealed(">0007:3:FIRE n=1 tok=8F3C"))
    talk.answers("FIRE n=1 dup=0")
    result(talk, "UNKNOWN", 0, st="LATCHED", la="UNKNOWN", ln=1)
    stopped, latched, outcome = talk.events()
    assert isinstance(stopped, ApplicatorStopped)
    assert latched.latch == "UNKNOWN"
    assert outcome.outcome == "UNKNOWN"


def test_a_stop_nobody_obeys_is_a_lost_link(talk: Talk) -> None:
    talk.stop()
    for _ in range(15):
        talk.host(b"\x18")
        talk.after(100)
    talk.host()
    (event,) = talk.events()
    assert isinstance(event, ApplicatorLinkLost)


def test_stop_without_a_session(talk: Talk) -> None:
    talk = Talk()
    talk.stop()
    talk.host(b"\x18")
    talk.tells(1, "STOPPED z=12 by=HOST")
    assert talk.events() == [ApplicatorStopped(12, "HOST")]
    talk.after(1000)
    talk.host()
