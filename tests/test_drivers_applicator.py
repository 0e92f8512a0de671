"""The applicator's driver against written conversations: each command, each doubt."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transcript import Transcript, sealed

from drivers.applicator import (
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorDriver,
    ApplicatorFailed,
    ApplicatorLatched,
    ApplicatorLinkLost,
    ApplicatorRefused,
    ApplicatorReset,
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
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)

CONFIG = ApplicatorConfig(capacity=15, detent_um=5000, gauge=18)
IDENTITY = "id=SG-MICK sn=1042 fw=100 sim=1 cap=15 det=5000 ga=18"


def stat(
    number: int,
    *,
    st: str = "IDLE",
    z: int = 0,
    n: int = 0,
    left: int = 15,
    es: int = 0,
    hm: int = 3,
    la: str = "NONE",
    ln: int = 0,
    boot: str = "0007",
) -> bytes:
    body = f"STAT st={st} z={z} sty=0 n={n} left={left} seat=1 es={es} hm={hm} la={la} ln={ln}"
    return sealed(f"<{boot}:{number}:{body}")


class Talk(Transcript):
    """A conversation whose next command number is counted along."""

    def __init__(self) -> None:
        self.applicator = ApplicatorDriver(CONFIG, "5A17")
        super().__init__(self.applicator)
        self.number = 1

    def asks(self, text: str) -> None:
        """The host says exactly this next command."""
        self.host(sealed(f">0007:{self.number}:{text}"))
        self.number += 1

    def answers(self, text: str) -> None:
        """The device answers the last command."""
        self.device(sealed(f"<0007:{self.number - 1}:{text}"))

    def tells(self, number: int, text: str) -> None:
        self.device(sealed(f"!0007:{number}:{text}"))

    def stat(self, **values: Any) -> None:
        self.asks("STAT")
        self.device(stat(self.number - 1, **values))


@pytest.fixture
def talk() -> Talk:
    """Connected, idle, both axes homed; the next command has number 2, the last event was number 1."""
    talk = Talk()
    connect(talk)
    talk.tells(1, "SEAT seat=1")
    assert [type(event) for event in talk.events()] == [ApplicatorConnected]
    return talk


def connect(talk: Talk, sid: int = 0x5A17, boot: str = "0007", **values: Any) -> None:
    talk.start(Connect())
    for each in (sid, sid + 1):
        talk.host(sealed(f">0000:0:HELLO v=1 sid={each:04X}"))
        talk.device(sealed(f"<{boot}:0:HELLO v=1 sid={each:04X} {IDENTITY}"))
    talk.host(sealed(f">{boot}:1:STAT"))
    talk.device(stat(1, boot=boot, **values))
    talk.number = 2


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
