"""The keyboard, the clock of faults and the live table of a bench: whoever looks after it while it runs."""

from __future__ import annotations

import os
import selectors
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from simulator.benchtop import HELP, Benchtop, Plug
from simulator.doors import Door
from simulator.faults import Fault, FaultError
from simulator.faults_director import Director
from simulator.physics import ImpossibleByHandError

_TABLE_EVERY_S = 0.25


class Caretaker:
    """The keyboard, the clock of faults and the table: whoever looks after a bench."""

    def __init__(
        self, bench: Benchtop, doors: dict[str, Door], faults: Sequence[Fault], urls: dict[str, str]
    ) -> None:
        self._bench, self._doors, self._urls = bench, doors, urls
        self._director = Director(faults, self._by_file)
        self._selector: selectors.BaseSelector | None = None
        self._news: deque[str] = deque(maxlen=6)
        self._typed = ""
        self._next_s = 0.0
        self._console = Console(highlight=False)
        self._open = ExitStack()
        self._is_live = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False)
        for name, url in urls.items():
            self._console.print(f"{name}: {url}")
        if self._is_live:
            self._open.enter_context(self._live)
        self._ready: Callable[[str], None] = self._news.append if self._is_live else self._say

    def _say(self, line: str) -> None:
        print(line, flush=True)

    def tell(self, line: str) -> None:
        self._ready(line)

    def register(self, selector: selectors.BaseSelector) -> None:
        if not sys.stdin or sys.stdin.closed:
            return
        try:
            descriptor = sys.stdin.fileno()
            if os.isatty(descriptor):
                before = termios.tcgetattr(descriptor)
                self._open.callback(termios.tcsetattr, descriptor, termios.TCSADRAIN, before)
                tty.setcbreak(descriptor)
            selector.register(descriptor, selectors.EVENT_READ, self)
        except (OSError, ValueError):  # no keyboard, or a file: faults then come from --faults only
            return

    def ready(self, key: selectors.SelectorKey, selector: selectors.BaseSelector, now_ns: int) -> bool:
        data = os.read(key.fd, 4096).decode("utf-8", "replace")
        if not data:
            selector.unregister(key.fileobj)
        for character in data:
            if character == "\n":
                words, self._typed = self._typed.strip(), ""
                if words:
                    self._do(words, selector, now_ns)
            elif character in "\x7f\b":
                self._typed = self._typed[:-1]
            else:
                self._typed += character
        self._next_s = 0.0
        return True

    def turn(self, selector: selectors.BaseSelector, now_ns: int) -> bool:
        self._selector = selector
        self._director.wake(now_ns)
        if self._is_live and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _TABLE_EVERY_S
            self._live.update(self._table(now_ns), refresh=True)
        return True

    def nap_s(self) -> float:
        return 0.05

    def close(self) -> None:
        self._open.close()

    def _by_file(self, words: str, now_ns: int) -> Plug | None:
        assert self._selector is not None
        self._do(words, self._selector, now_ns)
        return None  # the doors have done it

    def _do(self, words: str, selector: selectors.BaseSelector, now_ns: int) -> None:
        if words == "help":
            for fault, meaning in HELP.items():
                self._console.print(f"  {fault}: {meaning}")
            return
        try:
            plug = self._bench.do(words, now_ns)
            if plug is not None and plug.device not in self._doors:
                raise FaultError(f"there is no {plug.device} on this bench.")
        except (FaultError, ImpossibleByHandError) as problem:
            self.tell(str(problem))
            return
        if plug is not None:
            door = self._doors[plug.device]
            act = {"unplug": door.unplug, "refuse": door.refuse, "plug": door.plug_in}[plug.action]
            act(selector)
        self.tell(f"{now_ns / 1e9:.1f} s: {words}")

    def _table(self, now_ns: int) -> Group:
        table = Table(title=f"Simulated devices, {now_ns / 1e9:.0f} s", caption=f"fault> {self._typed}")
        for column in ("device", "port", "state", "place", "more"):
            table.add_column(column)
        for name, url in self._urls.items():
            table.add_row(name, url, *self._row(name, now_ns))
        return Group(*self._news, table)

    def _row(self, name: str, now_ns: int) -> tuple[str, str, str]:
        bench = self._bench
        if name == "rig":
            place = "x {:.1f} y {:.1f} z {:.1f} mm".format(*bench.rig_mechanics.carriage_mm)
            state = "no power" if bench.rig is None else bench.rig.state
            return state, place, f"holds {bench.rig_mechanics.held or 'nothing'}"
        if name == "encoder":
            return "", f"sees {bench.rig_mechanics.carriage_mm[2]:.2f} mm", "depth of the rig's carriage"
        hands = bench.applicator_mechanics
        place = f"z {hands.encoder_um(now_ns) / 1000:.1f} stylet {hands.stylet_um(now_ns) / 1000:.1f} mm"
        if bench.applicator is None:
            return "no power", place, ""
        board = bench.applicator.board
        more = f"latch {board.latch}, cartridge {hands.cartridge if hands.is_seated else 'out'}"
        return board.state, place, more
