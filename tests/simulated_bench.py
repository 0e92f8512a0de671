"""A host on a virtual clock for tests of the simulated devices; it speaks with the devices' own codec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simulator import line
from simulator.applicator_firmware import ApplicatorFirmware
from simulator.applicator_mechanics import ApplicatorMechanics, ApplicatorParameters
from simulator.grbl_firmware import GrblFirmware
from simulator.nonvolatile import NonVolatile
from simulator.physics import Template
from simulator.rig_mechanics import RigMechanics, RigParameters

MS = 1_000_000
WIRE_PAGE = Path(__file__).parents[1] / "drivers" / "WIRE.md"


def golden_lines() -> list[bytes]:
    """The lines of WIRE.md 1.7, each with its LF."""
    text = WIRE_PAGE.read_text(encoding="utf-8").split("## 1.7")[1].split("```")[1]
    lines = [row.strip() for row in text.splitlines()]
    return [row[:-2].encode() + b"\n" for row in lines if row.endswith("\\n")]


class ApplicatorBench:
    """An applicator with a needle coupled to nothing, and a host that keeps its session's numbers."""

    def __init__(self, seed: int = 1, parameters: ApplicatorParameters | None = None) -> None:
        self.store = NonVolatile()
        self.template = Template()
        self.mechanics = ApplicatorMechanics(np.random.default_rng(seed), self.template, parameters)
        self.now_ns = 0
        self.number = 0
        self.boot = "0000"
        self.sid = 0
        self.heard: list[line.Packet] = []
        self.start()

    def start(self) -> None:
        """Power on."""
        self.firmware = ApplicatorFirmware(self.mechanics, self.store, start_ns=self.now_ns)
        self._read()

    def reset(self) -> None:
        self.firmware.power_cut(self.now_ns)
        self.start()

    def hello(self) -> line.Packet:
        """A new session."""
        self.sid += 1
        self.number, self.boot = 0, "0000"
        reply = self.send(line.encode(">", "0000", 0, "HELLO", v=1, sid=f"{self.sid:04X}"))[-1]
        self.boot = reply.boot
        return reply

    def send(self, data: bytes) -> list[line.Packet]:
        """Raw bytes; the replies among what comes back at once."""
        self.firmware.receive(data, self.now_ns)
        return [packet for packet in self._read() if packet.sigil == "<"]

    def command(self, name: str, **pairs: int | str) -> line.Packet:
        self.number += 1
        (reply,) = self.send(self.next_line(name, **pairs))
        return reply

    def next_line(self, name: str, **pairs: int | str) -> bytes:
        return line.encode(">", self.boot, self.number, name, **pairs)

    def ask(self, name: str, **pairs: int | str) -> Mapping[str, str]:
        """The pairs of a reply that must not be an error."""
        reply = self.command(name, **pairs)
        assert reply.name == name, reply
        assert reply.pairs is not None
        return reply.pairs

    def refused(self, name: str, **pairs: int | str) -> str:
        reply = self.command(name, **pairs)
        assert reply.name == "ERR", reply
        assert reply.pairs is not None
        return reply.pairs["code"]

    def pass_time(self, ms: int, *, pings: bool = True) -> None:
        """In steps of 100 ms, with a sign of life in each."""
        end_ns = self.now_ns + ms * MS
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + 100 * MS)
            self.firmware.wake(self.now_ns)
            if pings:
                self.command("PING")
        self._read()

    def events(self, name: str) -> list[Mapping[str, str]]:
        """All events of this name heard so far."""
        found = [p.pairs for p in self.heard if p.sigil == "!" and p.name == name]
        return [pairs for pairs in found if pairs is not None]

    def make_ready(self, seeds: int = 15, z: int = 4500) -> None:
        """From power-on to a homed, loaded applicator with the needle drawn back to z."""
        self.hello()
        self.ask("BEGIN", p="9C41D2E0")
        if not self.mechanics.is_seated:
            self.mechanics.insert_cartridge(seeds)
        self.ask("CART", k=1, c=seeds, w=0)
        self.home_and_move(z)

    def home_and_move(self, z: int) -> None:
        for name, pairs in (("HOME", {"ax": "s"}), ("HOME", {"ax": "z"}), ("MOVE", {"z": z, "v": 20_000})):
            self.ask(name, **pairs)  # type: ignore[arg-type]
            self.until_idle()

    def until_idle(self) -> None:
        """Let time pass, with signs of life, until nothing moves any more."""
        for _ in range(300):
            self.pass_time(100)
            if self.ask("PING")["st"] in ("IDLE", "LATCHED"):
                return
        raise AssertionError("never idle")

    def shoot(self, n: int, z: int = 4500) -> str:
        """ARM, FIRE and wait; the outcome."""
        self.ask("ARM", n=n, z=z, tok=f"{n:04X}")
        assert self.ask("FIRE", n=n, tok=f"{n:04X}")["dup"] == "0"
        self.until_idle()
        return self.ask("RES", n=n)["out"]

    def check_ledger(self) -> Mapping[str, str]:
        """loaded = implanted + left + wasted + in doubt."""
        pairs = self.ask("LEDGER")
        assert int(pairs["ld"]) == sum(int(pairs[key]) for key in ("im", "lf", "wa", "db"))
        return pairs

    def _read(self) -> list[line.Packet]:
        packets = [line.decode(text) for text in self.firmware.take().split(b"\n") if text]
        self.heard += packets
        return packets


class RigBench:
    """A Grbl rig and a host that looks at its text."""

    def __init__(
        self,
        template: Template | None = None,
        parameters: RigParameters | None = None,
        *,
        reset_race: float = 0.0,
    ) -> None:
        self.store = NonVolatile()
        self.mechanics = RigMechanics(np.random.default_rng(3), template, parameters)
        self.firmware = GrblFirmware(
            self.mechanics, self.store, np.random.default_rng(4), reset_race=reset_race
        )
        self.now_ns = 0
        self.greeting = self.say("")

    def say(self, data: bytes | str, wait_s: float = 0.0) -> list[str]:
        """Send, let time pass; the lines that came back."""
        self.firmware.receive(data.encode() if isinstance(data, str) else data, self.now_ns)
        self.now_ns += round(wait_s * 1e9)
        self.firmware.wake(self.now_ns)
        return [text for text in self.firmware.take().decode().split("\r\n") if text]

    def home(self) -> None:
        assert self.say("$H\n", 60.0) == ["ok"]

    def state(self) -> str:
        (report,) = self.say("?")
        return report[1:].split("|")[0]

    def place(self) -> tuple[float, ...]:
        (report,) = self.say("?")
        return tuple(float(word) for word in report.split("MPos:")[1].split("|")[0].split(","))


GRBL_GREETING = ["Grbl 1.1h ['$' for help]", "[MSG:'$H'|'$X' to unlock]"]
GRBL_RESET = b"\x18"


def homed_rig() -> RigBench:
    """Greeted as Grbl greets, and homed."""
    bench = RigBench()
    assert bench.greeting == GRBL_GREETING
    bench.home()
    return bench
