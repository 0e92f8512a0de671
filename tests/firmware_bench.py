"""The reference firmware behind two doors that take the same tests.

Compiled for this machine, on virtual time; and the AVR build, cycle-true in simavr.

Knows bytes, pins and power. Has its own few lines of codec, so that it shares none with driver or firmware.
"""

from __future__ import annotations

import binascii
import ctypes
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Protocol

import pytest

FIRMWARE = Path(__file__).parent.parent / "firmware" / "applicator"
BUILD = FIRMWARE / "build" / "test"
LOOP_OPEN, UNSEATED, JAM, NO_SEED, TWO, STALL = 1, 2, 4, 8, 16, 32
PINS = {LOOP_OPEN: "B 0", UNSEATED: "B 1", JAM: "C 0", NO_SEED: "C 1", TWO: "C 2", STALL: "C 3"}
HIGH_ACTS = LOOP_OPEN | UNSEATED  # the switches are closed to ground; the faults' jumpers act at ground


def sealed(text: str) -> bytes:
    """A line with its CRC and LF."""
    return f"{text}|{binascii.crc_hqx(text.encode(), 0xFFFF):04X}\n".encode()


def opened(line: bytes) -> str:
    """A line without them, or an error: the device never sends a bad one."""
    assert len(line) <= 128
    text = line[:-6].decode("ascii")
    assert sealed(text) == line, line
    return text


def golden(wire_md: str) -> list[bytes]:
    """The golden bytes of WIRE.md 1.7, in order."""
    return [m.encode() + b"\n" for m in re.findall(r"^ {4}([><!~][0-9A-F]{4}:.*)\\n$", wire_md, re.MULTILINE)]


class Device(Protocol):
    boots: int

    def put(self, data: bytes) -> None: ...
    def take(self, at_most_ms: int) -> bytes: ...
    def now_ms(self) -> float: ...
    def inputs(self, bits: int) -> None: ...
    def reset(self) -> None: ...


class HostDevice:
    """The firmware's portable part in this process; a millisecond passes when it is asked for."""

    def __init__(self, library: Path, start_inputs: int = 0) -> None:
        self.c = ctypes.CDLL(str(library))
        self.c.host_power_on.restype = self.c.host_run.restype = ctypes.c_bool
        self.c.host_store.restype = ctypes.POINTER(ctypes.c_uint8)
        self.c.host_discarded.restype = ctypes.c_uint16
        self._sent = ctypes.create_string_buffer(65536)
        self.c.host_erase()
        self.c.host_cut_after(-1)
        self.inputs(start_inputs)
        self.boots = 0
        self._now_ms = 0
        self._unread()
        self.reset()

    def reset(self) -> None:
        self.boots += 1
        assert self.c.host_power_on()

    def inputs(self, bits: int) -> None:
        self.c.host_inputs(bits)

    def now_ms(self) -> float:
        return self._now_ms

    def put(self, data: bytes) -> None:
        self.c.host_receive(data, len(data))

    def _unread(self) -> bytes:
        count = self.c.host_sent(self._sent)
        return self._sent.raw[:count]

    def run(self, ms: int) -> bool:
        """False: the power was cut, as ordered."""
        self._now_ms += ms
        return bool(self.c.host_run(ms))

    def take(self, at_most_ms: int) -> bytes:
        self.run(0)
        got = self._unread()
        while not got and at_most_ms > 0:
            self.run(1)
            at_most_ms -= 1
            got = self._unread()
        return got

    def store(self) -> ctypes.Array[ctypes.c_uint8]:
        return ctypes.cast(self.c.host_store(), ctypes.POINTER(ctypes.c_uint8 * 1024)).contents


class SimavrDevice:
    """The AVR build under simavr, on a pseudo-terminal, in real time; a process of its own."""

    def __init__(self, build: Path, eeprom: Path) -> None:
        self._command = [str(build / "runner"), str(build / "simulated.elf"), str(eeprom)]
        self.eeprom = eeprom
        self.boots = 0
        self.power_on()

    def power_on(self) -> None:
        self.boots += 1
        self._runner = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._runner.stdout is not None
        self.path = self._runner.stdout.readline().decode().strip()
        assert self.path.startswith("/dev/"), "the runner did not start"
        self._port = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def cut_power(self) -> None:
        self._runner.kill()
        self._runner.communicate()
        os.close(self._port)

    close = cut_power

    def _tell(self, line: str) -> None:
        assert self._runner.stdin is not None
        self._runner.stdin.write(line.encode() + b"\n")
        self._runner.stdin.flush()

    def reset(self) -> None:
        self.boots += 1
        self._tell("reset")

    def inputs(self, bits: int) -> None:
        for bit, pin in PINS.items():
            self._tell(f"pin {pin} {int(bool(bits & bit) == bool(bit & HIGH_ACTS))}")

    def now_ms(self) -> float:
        return time.monotonic() * 1000

    def put(self, data: bytes) -> None:
        os.write(self._port, data)

    def take(self, at_most_ms: int) -> bytes:
        ready, _, _ = select.select([self._port], [], [], at_most_ms / 1000)
        return os.read(self._port, 4096) if ready else b""


class Host:
    """Speaks to a device: numbers its commands, keeps events and telemetry apart, pings while it waits."""

    def __init__(self, device: Device, boot: int | None = None) -> None:
        self.device = device
        self.boot = f"{boot or device.boots:04X}"
        self.number = 0
        self.greeted = self.uncounted = False
        self._bytes = b""
        self.events: list[str] = []
        self.telemetry: list[str] = []
        self.replies: list[str] = []
        self.sent = b""

    def _read(self, at_most_ms: int) -> None:
        self._bytes += self.device.take(at_most_ms)
        *lines, self._bytes = self._bytes.split(b"\n")
        for line in lines:
            text = opened(line + b"\n")
            {"<": self.replies, "!": self.events, "~": self.telemetry}[text[0]].append(text)

    def hear(self, at_most_ms: int) -> None:
        """What comes, or time passing; says nothing."""
        self._read(at_most_ms)

    def reply(self, at_most_ms: int = 1500) -> str:
        """The next reply without sigil and boot."""
        deadline = self.device.now_ms() + at_most_ms
        while not self.replies and self.device.now_ms() < deadline:
            self._read(20)
        assert self.replies, "no reply"
        return self.replies.pop(0)[6:]

    def listen(self, ms: int) -> None:
        """Only listens for so long."""
        deadline = self.device.now_ms() + ms
        while (left := deadline - self.device.now_ms()) > 0:
            self._read(max(1, int(left)))

    def hello(self, sid: str = "5A17") -> str:
        self.number = 0
        self.greeted = True
        self.device.put(sealed(f">0000:0:HELLO v=1 sid={sid}"))
        return self.reply()

    def send(self, body: str) -> None:
        self.number += 1
        self.sent = sealed(f">{self.boot}:{self.number}:{body}")
        self.device.put(self.sent)

    def ask(self, body: str) -> str:
        """The answer's name and pairs."""
        self.send(body)
        number, answer = self.reply().split(":", 1)
        assert number == str(self.number)
        return answer

    def event(self, name: str, at_most_ms: int = 4000, *, is_silent: bool = False) -> str:
        """Waits for the next event of that name, pinging unless ``is_silent``; its name and pairs."""
        now = self.device.now_ms
        deadline, ping_at = now() + at_most_ms, now() + 200
        while now() < deadline:
            for i, event in enumerate(self.events):
                if (body := event.split(":", 2)[2]).split(" ")[0] == name:
                    del self.events[: i + 1]
                    return body
            self._read(20)
            if self.greeted and not is_silent and now() > ping_at:
                if (
                    self.uncounted
                ):  # the present session's HELLO again keeps it alive, too, and takes no number
                    assert ":HELLO " in self.hello()
                else:
                    assert self.ask("PING").startswith("PING")
                ping_at = now() + 200
        raise AssertionError(f"no {name} among {self.events} {self.telemetry[-8:]}")

    def ready(self, seeds: int = 15) -> Host:
        """A session, both axes home, a ledger, a cartridge."""
        self.event("BOOTED")
        self.hello()
        for ax in "zs":
            assert self.ask(f"HOME ax={ax}") == f"HOME ax={ax}"
            self.event("HOMED")
        assert self.ask("BEGIN p=9C41D2E0").startswith("BEGIN")
        assert self.ask(f"CART k=1 c={seeds} w=0") == f"CART k=1 c={seeds} left={seeds}"
        return self

    def arm(self, n: int, tok: str = "8F3C") -> None:
        """Where the encoder says that it stands."""
        z = stat(self)["z"]
        assert self.ask(f"ARM n={n} z={z} tok={tok}") == f"ARM n={n} z={z} tok={tok}"

    def fire(self, n: int, tok: str = "8F3C") -> str:
        self.arm(n, tok)
        assert self.ask(f"FIRE n={n} tok={tok}") == f"FIRE n={n} dup=0"
        return self.event("SHOT")


def pairs(body: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in body.split(" ")[1:])


def stat(host: Host) -> dict[str, str]:
    return pairs(host.ask("STAT"))


def ledger(host: Host) -> dict[str, int]:
    counts = pairs(host.ask("LEDGER"))
    return {key: int(value) for key, value in counts.items() if key != "p"}


def built(target: str, *tools: str) -> Path:
    """The folder with that target of the firmware's Makefile, built if need be; skips where a tool is absent."""
    if absent := [tool for tool in ("make", "cc", *tools) if not shutil.which(tool)]:
        pytest.skip(f"not installed: {', '.join(absent)}")
    done = subprocess.run(
        ["make", "-s", "-C", str(FIRMWARE), f"BUILD={BUILD}", target],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return BUILD


def host_device(start_inputs: int = 0) -> HostDevice:
    return HostDevice(built("host") / "libapplicator.so", start_inputs)


def simavr_device(eeprom: Path) -> SimavrDevice:
    for header in ("include/simavr/sim_avr.h", "include/libelf.h", "lib/avr/include/avr/io.h"):
        if not Path("/usr", header).exists():
            pytest.skip(f"not installed: /usr/{header} (libsimavr-dev, libelf-dev, avr-libc)")
    built("avr", "avr-gcc")
    return SimavrDevice(built("runner"), eeprom)
