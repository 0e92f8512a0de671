"""Both wires in this process, on a virtual clock."""

from __future__ import annotations

from typing import Any

from drivers.applicator import ApplicatorDriver
from drivers.rig import RigDriver
from simulator.cable import Endpoint
from simulator.faults_director import Director


class VirtualTransport:
    """Both wires in this process: time jumps to the next moment at which somebody wants to be woken."""

    def __init__(
        self,
        rig: tuple[RigDriver, Endpoint],
        applicator: tuple[ApplicatorDriver, Endpoint],
        start_ns: int = 0,
        director: Director | None = None,
    ) -> None:
        self._pairs: tuple[tuple[Any, Any], ...] = (rig, applicator)
        self._now_ns = start_ns
        self._director = director

    def now_ns(self) -> int:
        return self._now_ns

    def pass_ns(self, for_ns: int) -> None:
        """So much time goes by with nobody at the host's ends: the devices live on."""
        until_ns = self._now_ns + for_ns
        while self._now_ns < until_ns:
            for _, device in self._pairs:
                device.take()
            VirtualTransport.wait(self, until_ns)

    def exchange(self) -> bool:
        moved = False
        for driver, device in self._pairs:
            while True:
                out = driver.take()
                if out:
                    device.receive(out, self._now_ns)
                back = device.take()
                if back:
                    driver.receive(back, self._now_ns)
                if not out and not back:
                    break
                moved = True
        return moved

    def lost(self) -> list[tuple[str, str]]:
        return [] if self._director is None else self._director.lost()

    def wait(self, wake_ns: int | None) -> None:
        wakes = [device.next_wake() for _, device in self._pairs]
        due = [wake for wake in (*wakes, wake_ns) if wake is not None]
        if self._director is not None and (acts_ns := self._director.next_wake()) is not None:
            due.append(acts_ns)
        if not due:
            raise RuntimeError("deadlock: nobody in the simulated world waits for anything")
        now_ns = self._now_ns = max(self._now_ns, min(due))
        if self._director is not None:
            self._director.wake(now_ns)
            wakes = [device.next_wake() for _, device in self._pairs]  # what it did may be due at once
        for (_, device), wake in zip(self._pairs, wakes, strict=True):
            if wake is not None and wake <= now_ns:
                device.wake(now_ns)
