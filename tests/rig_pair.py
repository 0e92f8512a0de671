"""The rig's driver and the simulated Grbl on a virtual clock, with a cable between them where a test wants one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from drivers.accuseed import AccuSeedConfig
from drivers.kinematics import RigConfig
from drivers.rig import ConnectRig, HomeRig, RigCommand, RigDriver
from simulator.accuseed import AccuSeedFirmware
from simulator.cable import Cable, Faults
from simulator.grbl_firmware import GrblFirmware
from simulator.grbl_kind import STOCK, GrblKind
from simulator.nonvolatile import NonVolatile
from simulator.physics import Template
from simulator.rig_mechanics import RigMechanics, RigParameters, Z

LONGEST_NS = 300_000_000_000


class Pair:
    """``do(command)`` carries one out and returns its last event; ``sent`` keeps all the host's bytes.

    With ``encoder`` a depth encoder stands on the carriage, behind a cable of its own.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        template: Template | None = None,
        parameters: RigParameters | None = None,
        reset_race: float = 0.0,
        faults: Faults | None = None,
        config: RigConfig | None = None,
        kind: GrblKind = STOCK,
        encoder: AccuSeedConfig | None = None,
    ) -> None:
        self.mechanics = RigMechanics(np.random.default_rng([seed, 1]), template, parameters)
        self.firmware = GrblFirmware(
            self.mechanics, NonVolatile(), np.random.default_rng([seed, 2]), reset_race=reset_race, kind=kind
        )
        self.cable = Cable(self.firmware, np.random.default_rng([seed, 3]))
        if faults is not None:
            self.set_faults(faults)
        self.driver = RigDriver(config or RigConfig(), encoder)
        self.encoder = AccuSeedFirmware(lambda: self.mechanics.carriage_mm[Z])
        self.encoder_cable = Cable(self.encoder, np.random.default_rng([seed, 4]))
        self.now_ns = 0
        self.sent = bytearray()
        self.events: list[Any] = []
        self.on_send: Callable[[bytes], None] = lambda _data: None

    def set_faults(self, faults: Faults) -> None:
        self.cable.down.faults = self.cable.up.faults = faults

    def ready(self) -> Pair:
        self.do(ConnectRig())
        self.do(HomeRig())
        assert self.driver.state.position_known, self.events
        return self

    def do(self, command: RigCommand, *, stop_after_ms: int | None = None) -> Any:
        """Its last event; ``stop_after_ms``: the driver is told to stop then."""
        self.events = []
        self.driver.start(command, self.now_ns)
        if stop_after_ms is not None:
            self.run(until_ns=self.now_ns + stop_after_ms * 1_000_000)
            self.driver.stop(self.now_ns)
        self.run()
        return self.events[-1]

    def run(self, until_ns: int | None = None) -> None:
        """Until the driver is idle, or the time has come."""
        end_ns = self.now_ns + LONGEST_NS if until_ns is None else until_ns
        while True:
            self._exchange()
            self.events += self.driver.events()
            if until_ns is None and not self.driver.is_busy:
                return
            wakes = [self.driver.next_wake(), self.cable.next_wake(), self.encoder_cable.next_wake()]
            due_ns = max(self.now_ns, min((wake for wake in wakes if wake is not None), default=end_ns))
            if due_ns >= end_ns:
                assert until_ns is not None, f"never done: {self.events}"
                self.now_ns = end_ns
                self.cable.wake(end_ns)
                return
            self.now_ns = due_ns
            self.cable.wake(due_ns)
            if self.encoder_cable.next_wake() is not None:
                self.encoder_cable.wake(due_ns)
                self._exchange()
            self.driver.wake(due_ns)

    def _exchange(self) -> None:
        while True:
            out = self.driver.take()
            if out:
                self.sent += out
                self.on_send(out)
                self.cable.receive(out, self.now_ns)
            back = self.cable.take()
            if back:
                self.driver.receive(back, self.now_ns)
            asked = self.driver.encoder_end.take()
            self.encoder_cable.receive(asked, self.now_ns)
            told = self.encoder_cable.take()
            self.driver.encoder_end.receive(told, self.now_ns)
            if not (out or back or asked or told):
                return
