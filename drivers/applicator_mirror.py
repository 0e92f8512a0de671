"""What the driver knows of the applicator: one snapshot, kept from all that is heard.

Knows: which packet tells what. Does not know: commands, sessions, time.
"""

from __future__ import annotations

from dataclasses import replace

from drivers.applicator_language import (
    ApplicatorDisarmed,
    ApplicatorEvent,
    ApplicatorLatched,
    ApplicatorState,
    ApplicatorStopped,
    CartridgeSwitchChanged,
    EstopChanged,
)
from drivers.packet import Packet
from drivers.vocabulary import latch_in_words

_ACTIVE = frozenset({"HOMING", "MOVING", "ARMED", "FIRING"})


class Mirror:
    """The applicator's state as last heard, and the events that a change of it makes.

    Attributes:
        state: the snapshot.
        wants_look: something was heard that only STAT tells in full (which seed a latch is about).
    """

    def __init__(self) -> None:
        self.state = ApplicatorState()
        self.wants_look = False
        self._told_latch = "NONE"
        self._stop_told = False
        self._looked = False  # STAT was read in this session: from now on a difference is a change

    @property
    def is_active(self) -> bool:
        """Armed or moving, as far as is known: the device wants to hear the host every 200 ms."""
        return self.state.st in _ACTIVE

    def begin_session(self, hello: Packet) -> None:
        """A device has introduced itself; nothing of an earlier one counts any more."""
        self._told_latch = "NONE"
        self.wants_look = False
        self._looked = False
        self.state = ApplicatorState(
            linked=True,
            boot=hello.boot,
            identity=f"{hello.values['id']}/{hello.values['sn']}",
            simulated=hello.values["sim"] == "1",
        )

    def end_session(self) -> None:
        self.state = replace(self.state, linked=False)
        self.wants_look = False

    def expect_stop(self) -> None:
        """The host has sent the stop byte: the next sign of a latch is its acknowledgement."""
        self._stop_told = False

    def stop_heard(self, packet: Packet) -> list[ApplicatorEvent]:
        """The device obeyed the stop byte. Its STOPPED tells so itself; anything else is told here."""
        self.wants_look = self.state.linked
        if packet.name == "STOPPED" and self.state.linked:
            return []
        self._stop_told = True
        z_um = packet.integer("z") if packet.name in ("STOPPED", "T", "STAT") else self.state.z_um
        return [ApplicatorStopped(z_um, "HOST")]

    def learn(self, packet: Packet) -> list[ApplicatorEvent]:
        """Take over what ``packet`` tells; the events this makes."""
        before, values, name = self.state, packet.values, packet.name
        integer = packet.integer
        events: list[ApplicatorEvent] = []
        after = before
        if name == "STAT":
            homed = integer("hm")
            after = replace(
                before,
                st=values["st"],
                z_um=integer("z"),
                stylet_um=integer("sty"),
                counter=integer("n"),
                left=integer("left"),
                seated=values["seat"] == "1",
                estop_open=values["es"] == "1",
                retraction_homed=bool(homed & 1),
                stylet_homed=bool(homed & 2),
                latch=values["la"],
                latch_seed=integer("ln"),
            )
            if after.latch not in ("NONE", self._told_latch):
                words = latch_in_words(after.latch, after.latch_seed)
                events.append(ApplicatorLatched(after.latch, after.latch_seed, words))
            self._told_latch = after.latch
        elif name == "T":
            after = replace(
                before,
                st=values["st"],
                z_um=integer("z"),
                stylet_um=integer("sty"),
                force_mn=integer("f"),
                left=integer("left"),
                estop_open=values["es"] == "1",
                latch=values["la"],
            )
            self.wants_look |= after.latch != self._told_latch
        elif name == "PING":
            after = replace(before, st=values["st"])
            self.wants_look |= (values["st"] == "LATCHED") != (self._told_latch != "NONE")
        elif name == "MOVED":
            after = replace(before, z_um=integer("z"))
        elif name == "STOPPED":
            after = replace(before, z_um=integer("z"))
            self.wants_look = True
            if not (self._stop_told and values["by"] == "HOST"):
                events.append(ApplicatorStopped(after.z_um, values["by"]))
            self._stop_told = False
        elif name == "ESTOP":
            after = replace(before, estop_open=values["es"] == "1")
            self.wants_look = True
        elif name == "SEAT":
            after = replace(before, seated=values["seat"] == "1")
        elif name == "DISARMED":
            events.append(ApplicatorDisarmed(integer("n")))
            self.wants_look = True
        if self._looked:
            if after.estop_open != before.estop_open:
                events.append(EstopChanged(after.estop_open))
            if after.seated != before.seated:
                events.append(CartridgeSwitchChanged(after.seated))
        self._looked |= name == "STAT"
        self.state = after
        return events
