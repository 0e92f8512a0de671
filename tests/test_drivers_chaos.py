"""Whatever the wire says, whenever: neither driver raises, repeats an action, or ends a command twice."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from transcript import Transcript, sealed

from drivers.applicator import (
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorDriver,
    ApplicatorFailed,
    ApplicatorRefused,
    Connect,
    DropSeed,
    HomeStylet,
    MoveNeedleTo,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
from drivers.rig import (
    CloseGrip,
    ConnectRig,
    HomeRig,
    MoveAcross,
    MoveDepth,
    RigConfig,
    RigConnected,
    RigDone,
    RigDriver,
    RigFailed,
    RigRefused,
)

ENDS = (
    ApplicatorConnected,
    ApplicatorDone,
    ApplicatorFailed,
    ApplicatorRefused,
    SeedInDoubt,
    SeedNotFired,
    SeedOutcome,
)
RIG_ENDS = (RigConnected, RigDone, RigFailed, RigRefused)

REPLIES = [
    "HELLO v=1 sid={sid} id=X sn=1 fw=1 sim=1 cap=15 det=5000 ga=18",
    "STAT st=IDLE z=4500 sty=0 n=0 left=9 seat=1 es=0 hm=3 la=NONE ln=0",
    "STAT st=LATCHED z=4500 sty=0 n=1 left=9 seat=1 es=0 hm=3 la=JAM ln=1",
    "STAT st=MOVING z=1 sty=0 n=0 left=9 seat=1 es=0 hm=3 la=NONE ln=0",
    "PING st=MOVING",
    "HOME ax=s",
    "MOVE z=4500",
    "ARM n=1 z=4500 tok=8F3C",
    "FIRE n=1 dup=0",
    "FIRE n=1 dup=1 out=PASS",
    "RES n=1 out=PASS z=4500 peak=800 pulses=1 stroke=205000",
    "RES n=1 out=NONE z=0 peak=0 pulses=0 stroke=0",
    "RES n=1 out=BUSY z=4500 peak=0 pulses=0 stroke=0",
    "DISARM",
    "ERR code=LATCH la=JAM",
    "ERR code=TOKEN",
    "ERR code=GAP want=3",
]
EVENTS = [
    "BOOTED v=1 id=X",
    "HOMED ax=s",
    "MOVED z=4500",
    "SHOT n=1 out=PASS peak=800 pulses=1 stroke=205000",
    "STOPPED z=10 by=HOST",
    "ESTOP es=1",
    "SEAT seat=0",
    "DISARMED n=1",
]

steps = st.one_of(
    st.tuples(st.just("answer"), st.just(0)),  # the fitting reply to what was asked last
    st.tuples(st.just("reply"), st.integers(0, len(REPLIES) - 1)),
    st.tuples(st.just("event"), st.integers(0, len(EVENTS) - 1)),
    st.tuples(st.just("wait"), st.sampled_from([1, 50, 100, 200, 1000, 4000])),
    st.tuples(st.just("stop"), st.just(0)),
    st.tuples(st.just("boot"), st.just(0)),
    st.tuples(st.just("start"), st.integers(0, 3)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=60))
def test_applicator(actions: list[tuple[str, int]]) -> None:
    driver = ApplicatorDriver(ApplicatorConfig(15, 5000, 18), "0000")
    talk = Transcript(driver)
    boot, event_number, number, sid, asked = 7, 0, 0, "0000", ""
    fires: Counter[bytes] = Counter()
    arms_begun = started = ended = stops = 0

    def listen() -> None:
        nonlocal number, sid, asked, ended
        for line in driver.take().replace(b"\x18", b"").splitlines():
            _, _, rest = line.decode().partition(":")
            digits, _, asked = rest.partition("|")[0].partition(":")
            number = int(digits)
            if asked.startswith("HELLO"):
                sid = asked[-4:]
            if asked.startswith("FIRE"):
                fires[line] += 1
        ended += sum(isinstance(event, ENDS) for event in talk.events())

    for action, value in [("start", 0), *[("answer", 0)] * 3, *actions]:
        if action == "start" and not driver.is_busy:
            command = (Connect(), DropSeed(1, 4500, "8F3C"), MoveNeedleTo(4500, 5000), HomeStylet())[value]
            arms_begun += isinstance(command, DropSeed)
            started += 1
            talk.start(command)
        elif action == "answer":
            name = asked.partition(" ")[0]
            fitting = next((text for text in REPLIES if text.startswith(f"{name} ")), name)
            talk.device(sealed(f"<{boot:04X}:{number}:{fitting.format(sid=sid)}"))
        elif action == "reply":
            talk.device(sealed(f"<{boot:04X}:{number}:{REPLIES[value].format(sid=sid)}"))
        elif action == "event":
            event_number += 1 + value % 2
            talk.device(sealed(f"!{boot:04X}:{event_number}:{EVENTS[value]}"))
        elif action == "boot":
            boot, event_number = boot + 1, 0
        elif action == "stop":
            stops += 1
            talk.stop()
            assert driver.take().startswith(b"\x18")
        elif action == "wait":
            talk.after(value)
        listen()
    for _ in range(200):  # left alone, each command comes to its end
        if not driver.is_busy:
            break
        talk.after(1000)
        listen()
    assert started == ended
    assert not driver.is_busy
    assert len(fires) <= arms_begun  # a second FIRE of one DropSeed is the same line, or there is none
    assert all(count <= 6 * arms_begun for count in fires.values())


GRBL = [
    b"ok\r\n",
    b"error:9\r\n",
    b"ALARM:1\r\n",
    b"ALARM:3\r\n",
    b"\r\nGrbl 1.1h ['$' for help]\r\n",
    b"<Idle|MPos:-1.000,-1.000,-1.000|FS:0,0|Ov:100,100,100>\r\n",
    b"<Idle|MPos:-100.000,-90.000,-1.000|FS:0,0>\r\n",
    b"<Run|MPos:-50.000,-45.000,-1.000|FS:0,0>\r\n",
    b"<Hold:0|MPos:-1.000,-1.000,-1.000|FS:0,0|A:F>\r\n",
    b"<Alarm|MPos:0.000,0.000,0.000|FS:0,0>\r\n",
    b"[VER:1.1h.20190830:SIM-RIG-1]\r\n",
    b"[PRB:0.000,0.000,0.000:0]\r\n",
    b"$0=10\r\n",
    b"\xff\x00<Idle|MPos",
]
rig_steps = st.one_of(
    st.tuples(st.just("hear"), st.integers(0, len(GRBL) - 1)),
    st.tuples(st.just("wait"), st.sampled_from([1, 50, 100, 300, 1000, 4000])),
    st.tuples(st.just("stop"), st.just(0)),
    st.tuples(st.just("start"), st.integers(0, 4)),
)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(rig_steps, max_size=60))
def test_rig(homed: bool, actions: list[tuple[str, int]]) -> None:
    driver = RigDriver(RigConfig(settings={0: 10}))
    talk = Transcript(driver)
    started = ended = motions = motion_lines = 0

    def listen() -> None:
        nonlocal ended, motion_lines
        data = driver.take()
        motion_lines += data.count(b"G53") + data.count(b"$H") + data.count(b"M8")
        ended += sum(isinstance(event, RIG_ENDS) for event in talk.events())

    opening: list[tuple[str, int]] = []
    if homed:
        heard = [4, -100, 10, 0, 12, 0, 11, 0, 5]
        opening = [("start", 0), *(("wait", -i) if i < 0 else ("hear", i) for i in heard), ("start", 1)]
        opening += [("hear", 0), ("hear", 5), ("wait", 100), ("hear", 0), ("hear", 0)]
    for step, (action, value) in enumerate([*opening, *actions]):
        if action == "start" and not driver.is_busy:
            commands = (ConnectRig(), HomeRig(), MoveAcross(0, 10), MoveDepth(-17.5, True), CloseGrip())
            command = commands[value]
            started += 1
            motions += {3: 2}.get(value, 1)
            talk.start(command)
        elif action == "hear":
            talk.device(GRBL[value])
        elif action == "wait":
            talk.after(value)
        elif action == "stop":
            driver.take()
            talk.stop()
            assert driver.take().startswith(b"!")
        listen()
        if homed and step == len(opening) - 1:
            assert driver.state.position_known
    for _ in range(400):
        if not driver.is_busy:
            break
        talk.after(1000)
        listen()
    assert started == ended
    assert not driver.is_busy
    assert motion_lines <= motions  # never a motion that was not asked for, never one twice
