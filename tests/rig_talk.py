"""Written conversations with the rig's driver, and stock Grbl 1.1h's side of them."""

from __future__ import annotations

from typing import Any

from transcript import Transcript

from drivers.kinematics import demanded_settings
from drivers.rig import (
    ConnectRig,
    HomeRig,
    RigConfig,
    RigConnected,
    RigDone,
    RigDriver,
)

BANNER = b"\r\nGrbl 1.1h ['$' for help]\r\n"
OK = b"ok\r\n"
OFFSETS = b"".join(b"[G%d:0.000,0.000,0.000]\r\n" % n for n in (54, 55, 56, 57, 58, 59, 28, 30, 92))
OFFSETS += b"[TLO:0.000]\r\n[PRB:0.000,0.000,0.000:0]\r\n"
HOME = (-1.0, -1.0, -1.0)


def settings_text(**changed: str) -> bytes:
    values = {f"${n}": f"{value:g}" for n, value in demanded_settings().items()}
    values |= {f"${key[1:]}": value for key, value in changed.items()}
    return b"".join(f"{key}={value}\r\n".encode() for key, value in values.items())


def identity(text: str = "SIM-RIG-0007", version: str = "1.1h") -> bytes:
    return f"[VER:{version}.20190830:{text}]\r\n[OPT:V,15,128]\r\n".encode()


class Talk(Transcript):
    def __init__(self, config: RigConfig | None = None) -> None:
        self.rig = RigDriver(config or RigConfig())
        super().__init__(self.rig)

    def is_at(self, axes_mm: tuple[float, float, float], word: str = "Idle", rest: str = "|FS:0,0") -> None:
        """The host asks where the rig is, and this is it."""
        self.host(b"?")
        self.device("<{}|MPos:{:.3f},{:.3f},{:.3f}{}>\r\n".format(word, *axes_mm, rest).encode())

    def says(self, line: str, *answer: bytes) -> None:
        """The host says this line, and the board answers."""
        self.host(line.encode() + b"\n")
        self.device(*(answer or (OK,)))

    def only(self, kind: type) -> Any:
        (event,) = self.events()
        assert type(event) is kind
        return event

    def connect(self, **changed: str) -> None:
        self.start(ConnectRig())
        self.host(b"\x18")
        self.device(BANNER)
        self.after(100)
        self.says("$I", identity(), OK)
        self.says("$$", settings_text(**changed), OK)

    def connect_whole(self) -> None:
        self.connect()
        self.says("$#", OFFSETS, OK)
        self.is_at((0.0, 0.0, 0.0), "Alarm")
        assert isinstance(self.only(RigConnected), RigConnected)

    def home(self) -> None:
        self.start(HomeRig())
        self.says("$H")
        self.is_at(HOME)
        self.after(100)
        self.says("G21G90G94")
        self.says("M9")
        self.only(RigDone)


def homed_talk() -> Talk:
    """Connected and homed."""
    talk = Talk()
    talk.connect_whole()
    assert not talk.rig.state.position_known
    talk.home()
    assert talk.rig.state.position_known
    assert talk.rig.state.at_home
    return talk
