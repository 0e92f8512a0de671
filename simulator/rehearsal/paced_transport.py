"""Both wires in this process on a clock that people can follow: as the virtual one, but never ahead of the wall's."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from simulator.rehearsal.virtual_transport import VirtualTransport

_LONGEST_NAP_S = 0.05


class PacedTransport(VirtualTransport):
    """A wait lasts as long as it says, divided by ``speed``; a bell (a stop at the door) ends it.

    Args:
        speed: s of the devices' time per s of the wall's, now.
        bells: descriptors that end a wait when they can be read.
    """

    def __init__(
        self,
        rig: Any,
        applicator: Any,
        *,
        speed: Callable[[], float],
        bells: Sequence[int] = (),
        **others: Any,
    ) -> None:
        super().__init__(rig, applicator, **others)
        self._speed, self._bells = speed, list(bells)
        self._wall_ns = time.monotonic_ns()

    def wait(self, wake_ns: int | None) -> None:
        speed = self._speed()
        wakes = [device.next_wake() for _, device in self._pairs]
        if self._director is not None:
            wakes.append(self._director.next_wake())
        due = [wake for wake in (*wakes, wake_ns) if wake is not None]
        ahead_s = (min(due) - self._now_ns) / 1e9 / speed if due else _LONGEST_NAP_S
        nap_s = min(_LONGEST_NAP_S, max(0.0, ahead_s))
        if nap_s > 0.0:
            select.select(self._bells, [], [], nap_s)
        wall_ns = time.monotonic_ns()
        passed_ns = min(round((wall_ns - self._wall_ns) * speed), round(2e9 * _LONGEST_NAP_S * speed))
        self._wall_ns = wall_ns
        until_ns = self._now_ns + max(0, passed_ns)
        if due and min(due) <= until_ns:  # never past the next thing that happens: it happens at its moment
            super().wait(wake_ns)
            return
        self._now_ns = until_ns
