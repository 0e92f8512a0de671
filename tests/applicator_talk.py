"""Written conversations with the applicator's driver, and the device's side of them."""

from __future__ import annotations

from typing import Any

from transcript import Transcript, sealed

from drivers.applicator import (
    ApplicatorConfig,
    ApplicatorConnected,
    ApplicatorDriver,
    Connect,
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


def connected_talk() -> Talk:
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
