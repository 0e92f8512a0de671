"""Lets faults happen at their triggers, in the devices' time.

Told of the procedure's records (its states and commands), it acts on the devices by itself, and keeps what people
and scanner shall do wrong until they are asked (``for_scanner``, ``for_operator``). Same faults: the same moments.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from simulator.benchtop import Benchtop, Plug
from simulator.faults import Fault
from simulator.patient import Patient
from simulator.physics import ImpossibleByHandError

_NS = 1_000_000_000


class Director:
    """Stands beside the wires: ``next_wake`` and ``wake`` as any endpoint.

    Args:
        faults: what shall happen.
        do: lets a device's fault happen (``on_bench``); what is to be done to a port is given back.
        start_ns: the devices' time at the beginning.
        who_stops: the name of the person who presses stop.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        do: Callable[[str, int], Plug | None],
        start_ns: int = 0,
        who_stops: str = "the file of faults",
    ) -> None:
        self._do, self._who_stops = do, who_stops
        self._waiting = [fault for fault in faults if fault.at_s is None and fault.per_hour is None]
        self._seen: Counter[tuple[str, str]] = Counter()
        self._due: list[tuple[int, int, str]] = []
        self._order = 0
        self._chance: list[tuple[int, Fault, np.random.Generator]] = []
        self._for_scanner: deque[str] = deque()
        self._for_operator: deque[str] = deque()
        self._lost: list[tuple[str, str]] = []
        self._stops = 0
        self.happened: list[tuple[float, str]] = []
        """When (s of the devices' time) and what."""
        for fault in faults:
            if fault.at_s is not None:
                self._plan(start_ns + round((fault.at_s + fault.after_s) * _NS), fault)
            elif fault.per_hour is not None:
                random = np.random.default_rng(fault.seed)
                self._chance.append((start_ns + _pause_ns(fault, random), fault, random))

    # --- who it is told by, and who asks it ---------------------------------------------------------------

    def told(self, kind: str, body: dict[str, Any], now_ns: int) -> None:
        """A record of the procedure: ``decision`` names a state, ``intention`` a command about to leave."""
        if kind == "decision" and "to" in body:
            self._saw("state", str(body["to"]), now_ns)
        elif kind == "intention":
            self._saw("command", str(body["command"]), now_ns)
            if body["command"] == "DropSeed":
                self._saw("seed", str(body["seed"]), now_ns)

    def for_scanner(self) -> str | None:
        """What is wrong with the CT that is asked for now, in the fault's words after ``scan``."""
        return self._for_scanner.popleft() if self._for_scanner else None

    def for_operator(self) -> str | None:
        """What a person does wrong with the question of now, in the fault's words after ``operator``."""
        return self._for_operator.popleft() if self._for_operator else None

    def stop_pressed(self) -> str | None:
        """Who presses stop, once each."""
        if not self._stops:
            return None
        self._stops -= 1
        return self._who_stops

    def lost(self) -> list[tuple[str, str]]:
        """Ports that have gone, once each."""
        told, self._lost = self._lost, []
        return told

    # --- time ----------------------------------------------------------------------------------------------

    def next_wake(self) -> int | None:
        first = self._due[0][0] if self._due else None
        if not self._chance:
            return first
        due = min(when for when, _, _ in self._chance)
        return due if first is None else min(first, due)

    def wake(self, now_ns: int) -> None:
        for place, (when, fault, random) in enumerate(self._chance):
            if when <= now_ns:
                self._plan(when + round(fault.after_s * _NS), fault)
                self._chance[place] = (now_ns + _pause_ns(fault, random), fault, random)
        while self._due and self._due[0][0] <= now_ns:
            self._happen(heapq.heappop(self._due)[2], now_ns)

    # --- inner workings --------------------------------------------------------------------------------------

    def _saw(self, what: str, name: str, now_ns: int) -> None:
        self._seen[what, name] += 1
        for fault in self._waiting[:]:
            wanted = str(getattr(fault, f"at_{what}"))
            nth = fault.nth if what != "seed" else 1
            if wanted == name and self._seen[what, name] == nth:
                self._waiting.remove(fault)
                self._plan(now_ns + round(fault.after_s * _NS), fault)
        self.wake(now_ns)

    def _plan(self, when_ns: int, fault: Fault) -> None:
        self._put(when_ns, fault.do)
        if fault.for_s is not None and fault.ends_by is not None:
            self._put(when_ns + round(fault.for_s * _NS), fault.ends_by)

    def _put(self, when_ns: int, words: str) -> None:
        self._order += 1
        heapq.heappush(self._due, (when_ns, self._order, words))

    def _happen(self, words: str, now_ns: int) -> None:
        what, _, rest = words.partition(" ")
        try:
            if what == "scan":
                self._for_scanner.append(rest)
            elif words == "operator stop":
                self._stops += 1
            elif what == "operator":
                self._for_operator.append(rest)
            else:
                self._to_devices(words, now_ns)
        except ImpossibleByHandError as problem:
            words = f"{words} (could not be done: {problem})"
        self.happened.append((now_ns / _NS, words))

    def _to_devices(self, words: str, now_ns: int) -> None:
        plug = self._do(words, now_ns)
        if plug is not None and plug.action == "unplug":
            self._lost.append((plug.device, "the port is gone; is it plugged in?"))


def on_bench(bench: Benchtop, patient: Patient | None = None) -> Callable[[str, int], Plug | None]:
    """How a fault happens to devices in this process, and to a patient: a port that is gone is a cut cable."""

    def do(words: str, now_ns: int) -> Plug | None:
        if words.startswith("patient moves") and patient is not None:
            patient.move([float(mm) for mm in words.split()[2:]])
            return None
        for cable in bench.cables.values():
            cable.wake(now_ns)
        plug = bench.do(words, now_ns)
        if plug is not None and plug.action == "unplug":
            bench.cables[plug.device].cut()
        elif plug is not None and plug.action == "plug":
            bench.cables[plug.device].mend()
        return plug

    return do


def _pause_ns(fault: Fault, random: np.random.Generator) -> int:
    assert fault.per_hour is not None
    return max(1, round(random.exponential(3600.0 / fault.per_hour) * _NS))
