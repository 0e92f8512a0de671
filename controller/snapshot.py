"""What a screen shows: one frozen picture of the procedure, drawn from what the journal also holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.correction import Correction
from imaging.deviation import Deviation
from planning.plan import Point


@dataclass(frozen=True)
class NeedleStatus:
    """One needle's line in the table.

    Attributes:
        name, hole: as in the plan.
        is_reference: one of the 2-3 needles that are placed first.
        state: ``planned``, ``at reference depth``, ``in place``, ``verified``, ``delivered``, ``abandoned``.
        attempt: insertions and corrections so far.
        first_deviation: of the tip in the first scan that judged the needle at full depth (or, for a
            reference needle not yet there, at its reference depth); None before.
        deviation: of the tip in the latest scan; None before.
        seeds_delivered, seeds_planned: counts.
        tip_mm: planned tip, patient frame.
        correction: what is done to it after the latest scan; None: nothing.
    """

    name: str
    hole: str
    is_reference: bool
    state: str
    attempt: int
    first_deviation: Deviation | None
    deviation: Deviation | None
    seeds_delivered: int
    seeds_planned: int
    tip_mm: Point | None = None
    correction: Correction | None = None


@dataclass(frozen=True)
class Snapshot:
    """The whole procedure at one moment.

    Attributes:
        state: name of the protocol's state.
        steps: the protocol's steps in words, in order; ``step_index`` is the present one.
        needles: in the plan's order.
        seeds_delivered, seeds_planned: over all needles.
        cartridge_left: seeds in the applicator's cartridge; None before the first is seated.
        rig, applicator: the devices' states in words.
        waiting_for: what the procedure waits for, in words.
        virtual_time_s: time on the procedure's clock since its start.
        message: the last thing that happened, in words.
        rests_in: held or paused, the state in which it rests and to which it goes back; else empty.
        may_decide: kinds of ``OperatorDecided`` that a person may decide now (``decisions.KINDS``).
        tolerance_mm: largest accepted deviation of a tip.
        under_way: the command that is carried out, by its name and fields; None: none.
    """

    state: str
    step_index: int
    steps: tuple[str, ...]
    needles: tuple[NeedleStatus, ...]
    seeds_delivered: int
    seeds_planned: int
    cartridge_left: int | None
    rig: str
    applicator: str
    waiting_for: str
    virtual_time_s: float
    message: str
    rests_in: str = ""
    may_decide: tuple[str, ...] = ()
    tolerance_mm: float = 2.0
    under_way: dict[str, Any] | None = None
