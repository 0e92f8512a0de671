"""The simulated Grbl's ``$`` commands: settings, reports, unlock, check mode, homing, sleep."""

from __future__ import annotations

import math
from collections.abc import Callable

from simulator.grbl_core import Core
from simulator.grbl_parser import GcodeError, parse
from simulator.grbl_reports import modes_report, offsets_report

_HELP = "[HLP:$$ $# $G $I $N $x=val $Nx=line $J=line $SLP $C $X $H ~ ! ? ctrl-x]"
_STARTUP = "grbl start-up"


class System:
    """One ``$`` line at a time.

    Args:
        home: begins a homing cycle, which answers by itself.
        restart: what leaving the check mode does.
    """

    def __init__(self, core: Core, home: Callable[[], None], restart: Callable[[], None]) -> None:
        self._core, self._home, self._restart = core, home, restart
        self.startup: list[str] = core.store.read(_STARTUP, ["", ""])

    def do(self, text: str) -> None:
        """Answer, or raise GcodeError."""
        core, name = self._core, text[1:]
        self._refuse_while_busy(name)
        if name == "":
            core.say(_HELP)
        elif name == "$":
            core.say(*core.settings.lines())
        elif name == "G":
            core.say(modes_report(core.modal))
        elif name == "X":
            if core.state == "Alarm":
                core.state = "Idle"
                core.say("[MSG:Caution: Unlocked]")
        elif name == "C":
            self._check_mode()
            return
        elif name == "#":
            core.say(*offsets_report(core.offsets, core.probe_mm))
        elif name == "I":
            core.say(f"[VER:{core.kind.version}:SIM-RIG-{core.serial}]", *core.kind.options)
        elif name == "N":
            core.say(*(f"$N{i}={line}" for i, line in enumerate(self.startup)))
        elif name == "H":
            if not core.settings[22]:
                raise GcodeError(5)
            self._home()
            return
        elif name == "SLP":
            core.state = "Sleep"
            core.mechanics.grip(False)
            core.say("[MSG:Sleeping]")
        elif name == "RST=$":
            core.settings.restore()
            core.say("[MSG:Restoring defaults]")
        else:
            self._write(name)
        core.ok()

    def _refuse_while_busy(self, name: str) -> None:
        state = self._core.state
        is_quiet = state in ("Idle", "Alarm")
        if name in ("", "$", "G", "X", "C"):
            if name == "$" and not (is_quiet or state == "Check"):
                raise GcodeError(8)
            if name == "C" and state == "Run":
                raise GcodeError(8)
        elif not is_quiet:
            raise GcodeError(8)

    def _write(self, name: str) -> None:
        core = self._core
        key, is_equal, value = name.partition("=")
        if key in ("N0", "N1") and is_equal:
            if core.state != "Idle":
                raise GcodeError(8)
            parse(value, core.modal, core.offsets, core.planned_mm)
            self.startup[int(key[1])] = value
            core.store.write(_STARTUP, self.startup)
            return
        if not is_equal or not key.isdecimal():
            raise GcodeError(3)
        try:
            number = float(value)
        except ValueError:
            raise GcodeError(2) from None
        if not math.isfinite(number):
            raise GcodeError(2)
        core.settings.set(int(key), number)

    def _check_mode(self) -> None:
        core = self._core
        if core.state == "Check":
            core.say("[MSG:Disabled]")
            core.ok()
            self._restart()
        elif core.state != "Idle":
            raise GcodeError(8)
        else:
            core.state = "Check"
            core.say("[MSG:Enabled]")
            core.ok()
