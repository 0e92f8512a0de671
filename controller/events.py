"""What has happened, told to the procedure: by devices, by people, by the analysis of a scan.

``number`` is that of the command an event answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from imaging.rescan import RescanFindings


@dataclass(frozen=True)
class Event:
    """Parent of all events."""

    def to_json(self) -> dict[str, Any]:
        return {"event": type(self).__name__, **vars(self)}


@dataclass(frozen=True)
class ProcedureStarted(Event):
    """A person started the procedure."""

    who: str


@dataclass(frozen=True)
class ProcedureResumed(Event):
    """A person let an interrupted or held procedure go on, after journal and devices were compared.

    Made by ``recovery.compare`` alone. Held: it goes back to the state that it was held in.

    Attributes:
        is_answered: what became of the interrupted command is known and follows as an event of its own;
            otherwise it was not carried out, or may be carried out (again).
        carriage_z_mm: where the rig's carriage stands, rig frame; None when nobody can tell.
        latch: about no seed, to be cleared; ``NONE`` when there is none.
        home_applicator: its homes are gone, and no needle is coupled.
    """

    who: str
    is_answered: bool
    carriage_z_mm: float | None
    latch: str
    home_applicator: bool


@dataclass(frozen=True)
class CommandDone(Event):
    """A device did what was asked; ``readback`` is what it reported of itself."""

    number: int
    readback: dict[str, Any]


@dataclass(frozen=True)
class CommandFailed(Event):
    """A device did not do, or may not have done, what was asked."""

    number: int
    reason: str


@dataclass(frozen=True)
class CommandRefused(Event):
    """An interlock held a command back."""

    number: int
    interlock: str
    reason: str


@dataclass(frozen=True)
class OperatorConfirmed(Event):
    """A person did what was asked and says so.

    ``values``: what was read or measured, by name: at the time-out ``batch`` (text) and ``measured_mci`` (mean of the
    assay at the time of implantation). Kept in the journal; what is out of tolerance holds the procedure.
    """

    number: int
    who: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorDeclined(Event):
    """A person says no."""

    number: int
    who: str
    reason: str


@dataclass(frozen=True)
class OperatorDecided(Event):
    """A person decides what the table leaves to people.

    Attributes:
        kind: one of ``decisions.KINDS``, which say when each may be made and what it does.
        who: who decided.
        reason: in that person's words.
        needle, count: what it is about; None and 0 where it is about no needle or number.
        where: of a seed in doubt: ``patient``, ``needle`` or ``cartridge``; else empty.
    """

    kind: str
    who: str
    reason: str
    needle: str | None = None
    count: int = 0
    where: str = ""


@dataclass(frozen=True)
class SeedDropped(Event):
    """The applicator has an outcome for a seed.

    Attributes:
        outcome: ``PASS`` (full stroke, one sensor pulse, the force pattern of one seed), ``NOPASS``,
            ``DOUBLE`` or ``UNKNOWN``.
        duplicate: the applicator had done it before and only told its stored outcome.
        peak_mn, pulses, stroke_um: 0 for a seed that a person pushed: nothing measures.
        who: pushed it by hand; "" when the applicator did.
    """

    number: int
    seed: int
    outcome: str
    duplicate: bool
    z_um: int
    peak_mn: int
    pulses: int
    stroke_um: int
    who: str = ""


@dataclass(frozen=True)
class ScanAnalysed(Event):
    """A CT arrived and was analysed."""

    number: int
    folder: str
    findings: RescanFindings

    def to_json(self) -> dict[str, Any]:
        return {
            "event": "ScanAnalysed",
            "number": self.number,
            "folder": self.folder,
            "findings": self.findings.to_json(),
        }


@dataclass(frozen=True)
class ScanUnusable(Event):
    """A CT could not be used; a person must know why."""

    number: int
    reason: str


@dataclass(frozen=True)
class WorkLost(Event):
    """An analysis or a computation has no result: its process crashed, hung or failed.

    It says nothing of the CT or the patient.
    """

    number: int
    reason: str


@dataclass(frozen=True)
class NeedlesEvaluated(Event):
    """The dose with the needles as they stand was computed.

    Attributes:
        skipped: why it was not; empty when it was.
        planned, now: structure -> figures (``Plan.expected``), of the plan and as the needles stand.
        missed: goals, in words, that the plan meets and the needles as they stand do not.
        then, still_missed: as ``now`` and ``missed``, with the proposal; empty without one.
        proposal: needle -> retractions in mm of the seeds still to be delivered, deepest first; empty: none.
        is_better: by the plan's goals.
    """

    number: int
    skipped: str = ""
    planned: dict[str, Any] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    then: dict[str, Any] = field(default_factory=dict)
    still_missed: list[str] = field(default_factory=list)
    proposal: dict[str, list[float]] = field(default_factory=dict)
    is_better: bool = False


@dataclass(frozen=True)
class DeviceFaulted(Event):
    """A device reports, by itself, something that must stop the procedure."""

    device: str
    reason: str


@dataclass(frozen=True)
class StopPressed(Event):
    """A person pressed stop; the stop bytes have left before this event was made."""

    who: str
